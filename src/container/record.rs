//! The record of a container: written before anything is made on the host, so that whatever
//! happens, what may have been made can be undone from it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mybox_store::{Digest, Use};
use serde::{Deserialize, Serialize};

use super::{ContainerId, Places};

/// The format of `record.json`.
const VERSION: u32 = 1;

/// `record.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// Format version.
    pub version: u32,
    /// The container.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// The image as the user named it.
    pub image: String,
    /// The image's manifest.
    pub manifest: Digest,
    /// What it executes.
    pub command: Vec<String>,
    /// Seconds since the epoch.
    pub created: u64,
    /// The boot of the machine that it was started in (`kernel::process::boot_id`).
    pub boot: String,
    /// Whether it goes when it ends (`--rm`).
    pub remove: bool,
    /// Its bytes of memory at most.
    pub memory_limit: Option<u64>,
    /// cgroup directories that may exist.
    pub cgroups: Vec<PathBuf>,
    /// The host's end of its veth pair, which may exist.
    pub veth: Option<String>,
    /// Its lease, which may exist.
    pub address: Option<std::net::Ipv4Addr>,
    /// How it ended; `None` while it runs, or when nobody saw it end.
    pub ending: Option<Ending>,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ending {
    /// The exit code that `run` gave.
    pub code: u8,
    /// Whether the kernel killed it for want of memory.
    pub out_of_memory: bool,
    /// Seconds since the epoch.
    pub at: u64,
}

impl Record {
    /// The version that this mybox writes.
    pub fn version() -> u32 {
        VERSION
    }

    /// Reads the record of the container in `dir`; `None` if it has none. An empty one is none: a
    /// power cut leaves that of a record that was not flushed.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        let bytes = match fs::read(dir.join("record.json")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let record: Self = serde_json::from_slice(&bytes)?;
        Ok(Some(record))
    }

    /// Writes it in one step: a reader sees the old one or the new one. It is flushed to the disk
    /// unless the container is one of those that no power cut survives anyway.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let temporary = dir.join("record.json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        if !self.remove {
            file.sync_all()?;
        }
        fs::rename(temporary, dir.join("record.json"))?;
        if !self.remove {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }

    /// What the containers of the store are made of, by their names.
    pub fn uses(places: &Places) -> io::Result<Vec<Use>> {
        let records = Self::all(places)?.into_iter();
        let uses = records.map(|record| Use {
            what: record.name,
            manifest: record.manifest,
        });
        Ok(uses.collect())
    }

    /// All records of the store, the newest first. Directories without one are being made.
    pub fn all(places: &Places) -> io::Result<Vec<Self>> {
        let mut records = Vec::new();
        for id in super::claim::ids_in(&places.containers())? {
            records.extend(Self::read(&places.container(&id))?);
        }
        records.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = std::env::temp_dir().join(format!("mybox-record-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(Record::read(&dir).unwrap(), None);
        let record = Record {
            version: VERSION,
            id: ContainerId::random().unwrap(),
            name: "web".into(),
            image: "debian".into(),
            manifest: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
            command: vec!["sh".into()],
            created: 1,
            boot: "5b1c".into(),
            remove: true,
            memory_limit: Some(1),
            cgroups: vec!["/sys/fs/cgroup/mybox/x".into()],
            veth: Some("vethx".into()),
            address: Some([10, 10, 0, 2].into()),
            ending: Some(Ending {
                code: 137,
                out_of_memory: true,
                at: 2,
            }),
        };
        record.write(&dir).unwrap();
        assert_eq!(Record::read(&dir).unwrap(), Some(record));
        for nothing in ["", "\0\0\0"] {
            fs::write(dir.join("record.json"), nothing).unwrap();
            assert_eq!(Record::read(&dir).unwrap(), None);
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
