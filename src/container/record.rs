//! The record of a container: written before anything is made on the host, so that whatever
//! happens, what may have been made can be undone from it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mybox_store::{Digest, Use};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::port::{Port, Published};
use super::volume::Mounted;
use super::{ContainerId, Places, ending};
use crate::kernel::file::{Lasting, existing, is_full, replace};
use crate::kernel::signal;

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
    /// And nanoseconds beyond that: which of two is the newer.
    #[serde(default)]
    pub created_nanoseconds: u32,
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
    /// Ports of the host that lead to it.
    #[serde(default)]
    pub ports: Vec<Published>,
    /// Ports it is known to have, published or not.
    #[serde(default)]
    pub exposed: Vec<Port>,
    /// How it ended; `None` while it runs, or when nobody saw it end.
    pub ending: Option<Ending>,
    /// When it was last started, in seconds since the epoch; `None` if it never was.
    #[serde(default)]
    pub started: Option<u64>,
    /// When its monitor starts it again.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How often its monitor has started it again since somebody started it.
    #[serde(default)]
    pub restart_count: u32,
    /// Whether its monitor is about to start it again.
    #[serde(default)]
    pub restarting: bool,
    /// Whether somebody stopped it: then `unless-stopped` does not bring it back.
    #[serde(default)]
    pub stopped: bool,
    /// The signal that asks it to stop, by name.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// How long it has to end when it was asked to stop.
    #[serde(default)]
    pub stop_timeout: Option<Timeout>,
    /// Whether it stays even if its command never runs: it was made by `create`, or it has run before.
    #[serde(default)]
    pub kept: bool,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The volumes that it has, whether it runs or not.
    #[serde(default)]
    pub volumes: Vec<Mounted>,
    /// Images that it can read beside its own, whether it runs or not.
    #[serde(default)]
    pub images: Vec<MountedImage>,
    /// Whether those volumes that nobody named go with it.
    #[serde(default)]
    pub remove_volumes: bool,
}

/// An image that a container has mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountedImage {
    /// The image as the user named it.
    pub image: String,
    /// Its manifest.
    pub manifest: Digest,
    /// Where it is in the container.
    pub destination: PathBuf,
}

/// `--restart`: whether a container that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It stays as it ended.
    #[default]
    No,
    /// If its exit code was not 0, and only so many times if a number is given.
    OnFailure(Option<u32>),
    /// Whatever its exit code was.
    Always,
    /// As [`RestartPolicy::Always`], but after a reboot only if nobody had stopped it.
    UnlessStopped,
}

/// How long a container has to end. Written as Docker writes it: seconds, or -1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub enum Timeout {
    /// Seconds.
    After(u32),
    /// As long as it takes.
    Never,
}

impl TryFrom<i64> for Timeout {
    type Error = &'static str;

    fn try_from(seconds: i64) -> Result<Self, Self::Error> {
        match seconds {
            -1 => Ok(Self::Never),
            seconds => u32::try_from(seconds)
                .map(Self::After)
                .map_err(|_| "a number of seconds, or -1"),
        }
    }
}

impl From<Timeout> for i64 {
    fn from(timeout: Timeout) -> Self {
        match timeout {
            Timeout::After(seconds) => seconds.into(),
            Timeout::Never => -1,
        }
    }
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
    /// The number of the signal that asks it to stop.
    pub fn stop_signal(&self) -> i32 {
        let named = self.stop_signal.as_deref().and_then(signal::parse);
        named.unwrap_or(libc::SIGTERM)
    }

    /// Whether whoever sends it this signal wants it to stay down.
    pub fn is_stopped_by(&self, number: i32) -> bool {
        number == libc::SIGKILL || number == self.stop_signal()
    }

    /// The version that this mybox writes.
    pub fn version() -> u32 {
        VERSION
    }

    /// Reads the record of the container in `dir`; `None` if it has none. An empty one is none: a
    /// power cut leaves that of a record that was not flushed.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        let Some(bytes) = existing(fs::read(dir.join("record.json")))? else {
            return Ok(None);
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let record: Self = serde_json::from_slice(&bytes)?;
        record.with_kept_ending(dir).map(Some)
    }

    /// The same, with the ending that was kept elsewhere for want of room.
    fn with_kept_ending(self, dir: &Path) -> io::Result<Self> {
        if self.started.is_none() || !self.may_go_on() {
            return Ok(self);
        }
        Ok(match ending::read(dir)? {
            None => self,
            ending => Self {
                ending,
                restarting: false,
                ..self
            },
        })
    }

    /// Writes it in one step: a reader sees the old one or the new one. It is flushed to the disk
    /// unless the container is one of those that no power cut survives anyway.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let lasting = if self.remove {
            Lasting::No
        } else {
            Lasting::Yes
        };
        replace(
            &dir.join("record.json"),
            &serde_json::to_vec_pretty(self)?,
            lasting,
        )?;
        match self.may_go_on() {
            true => ending::clear(dir),
            false => Ok(()),
        }
    }

    /// Whether it runs, or will again, as far as this says.
    fn may_go_on(&self) -> bool {
        self.ending.is_none() || self.restarting
    }

    /// Puts on record how the container ended, for good, unless that is known. A full disk keeps nobody
    /// from it.
    pub fn end(dir: &Path, how: Ending) -> io::Result<()> {
        let changed = Self::change(dir, |record| Self {
            ending: record.ending.or(Some(how)),
            restarting: false,
            ..record
        });
        match changed {
            Err(full) if is_full(&full) => ending::keep(dir, how).map_err(|_| full),
            changed => changed.map(drop),
        }
    }

    /// Changes what the record says, as it says it now: several processes do. The answer is what it says
    /// then; `None` if the container has no record, or no more. What says the same is not written again.
    pub fn change(dir: &Path, change: impl FnOnce(Self) -> Self) -> io::Result<Option<Self>> {
        let Some(_lock) = Self::lock(dir)? else {
            return Ok(None);
        };
        let Some(record) = Self::read(dir)? else {
            return Ok(None);
        };
        let changed = change(record.clone());
        if changed != record {
            changed.write(dir)?;
        }
        Ok(Some(changed))
    }

    /// Keeps others from changing the record in `dir` as long as the answer is there; `None` if that is
    /// gone.
    pub fn lock(dir: &Path) -> io::Result<Option<File>> {
        let Some(lock) = existing(File::open(dir))? else {
            return Ok(None);
        };
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Some(lock))
    }

    /// What the containers of the store are made of, by their names.
    pub fn uses(places: &Places) -> io::Result<Vec<Use>> {
        Self::uses_but(places, &[])
    }

    /// The same, when these containers have gone.
    pub fn uses_but(places: &Places, gone: &[ContainerId]) -> io::Result<Vec<Use>> {
        let records = Self::all(places)?.into_iter();
        let staying = records.filter(|record| !gone.contains(&record.id));
        Ok(staying.flat_map(Self::used).collect())
    }

    /// The image that it is made of, and those that it has mounted.
    fn used(self) -> impl Iterator<Item = Use> {
        let mounted = self.images.into_iter().map(|mounted| mounted.manifest);
        let manifests: BTreeSet<Digest> = mounted.chain([self.manifest]).collect();
        manifests.into_iter().map(move |manifest| Use {
            what: self.name.clone(),
            manifest,
        })
    }

    /// All records of the store, the newest first. Directories without one are being made.
    pub fn all(places: &Places) -> io::Result<Vec<Self>> {
        let mut records = Vec::new();
        for id in super::claim::ids_in(&places.containers())? {
            records.extend(Self::read(&places.container(&id))?);
        }
        let age = |record: &Self| Reverse((record.created, record.created_nanoseconds));
        records.sort_by(|a, b| age(a).cmp(&age(b)).then_with(|| a.id.cmp(&b.id)));
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::port::Protocol;

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
            created_nanoseconds: 2,
            boot: "5b1c".into(),
            remove: true,
            memory_limit: Some(1),
            cgroups: vec!["/sys/fs/cgroup/mybox/x".into()],
            veth: Some("vethx".into()),
            address: Some([10, 10, 0, 2].into()),
            ports: vec![Published {
                host_ip: [127, 0, 0, 1].into(),
                host_port: 8080,
                container_port: 80,
                protocol: Protocol::Tcp,
            }],
            exposed: vec!["80/tcp".parse().unwrap()],
            ending: Some(Ending {
                code: 137,
                out_of_memory: true,
                at: 2,
            }),
            started: Some(1),
            restart: RestartPolicy::OnFailure(Some(3)),
            restart_count: 2,
            restarting: false,
            stopped: true,
            stop_signal: Some("SIGTERM".into()),
            stop_timeout: Some(Timeout::Never),
            kept: true,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            volumes: vec![Mounted {
                name: "data".into(),
                destination: "/srv".into(),
                read_only: true,
            }],
            images: vec![MountedImage {
                image: "tools".into(),
                manifest: format!("sha256:{}", "b".repeat(64)).parse().unwrap(),
                destination: "/tools".into(),
            }],
            remove_volumes: true,
        };
        record.write(&dir).unwrap();
        assert_eq!(Record::read(&dir).unwrap().as_ref(), Some(&record));
        let renamed = |now: Record| Record {
            name: "other".into(),
            ..now
        };
        let changed = Record::change(&dir, renamed).unwrap();
        assert_eq!(changed, Some(renamed(record)));
        assert_eq!(Record::read(&dir).unwrap(), changed);
        assert_eq!(Record::change(&dir.join("gone"), renamed).unwrap(), None);
        for nothing in ["", "\0\0\0"] {
            fs::write(dir.join("record.json"), nothing).unwrap();
            assert_eq!(Record::read(&dir).unwrap(), None);
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
