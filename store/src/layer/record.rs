//! `layers/<hex>/layer.json`: what a layer is, and how it was laid down. Its mtime is the last use.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::form::LayerForm;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::time::Time;

pub(crate) const RECORD: &str = "layer.json";
const VERSION: u32 = 1;

/// `layer.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    version: u32,
    #[serde(flatten)]
    pub(crate) laid: Laid,
    pub(crate) diff_id: DiffId,
    /// The blob it was made from.
    pub(crate) blob: Digest,
    /// Bytes of file data, holes counted, hardlinks once.
    pub(crate) size: u64,
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// The newest modification time of any entry.
    newest_seconds: i64,
    newest_nanos: u32,
}

/// What there is of a layer, by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "form")]
pub(crate) enum Laid {
    Unpacked {
        /// The digest of the tree's listing.
        tree: Digest,
        /// Bytes really allocated for the tree, each inode once.
        allocated: u64,
    },
    Indexed {
        /// The digest of the index.
        index: Digest,
    },
}

impl Laid {
    pub(crate) fn form(self) -> LayerForm {
        match self {
            Self::Unpacked { .. } => LayerForm::Unpacked,
            Self::Indexed { .. } => LayerForm::Indexed,
        }
    }
}

/// What the archive of a layer came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) entries: u64,
    pub(crate) size: u64,
    pub(crate) newest: Time,
}

impl Record {
    pub(super) fn new(diff_id: DiffId, blob: Digest, laid: Laid, counts: Counts) -> Self {
        Self {
            version: VERSION,
            laid,
            diff_id,
            blob,
            size: counts.size,
            entries: counts.entries,
            newest_seconds: counts.newest.seconds,
            newest_nanos: counts.newest.nanos,
        }
    }

    pub(crate) fn newest(&self) -> Time {
        Time {
            seconds: self.newest_seconds,
            nanos: self.newest_nanos,
        }
    }

    /// Writes and flushes it into a layer's new directory.
    pub(super) fn write(&self, directory: &OwnedFd) -> std::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, RECORD, flags, Mode::from_raw_mode(0o644))?;
        let mut file = File::from(file);
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()
    }

    pub(super) fn parse(bytes: &[u8], path: impl Fn() -> String) -> Result<Self> {
        let record: Self =
            serde_json::from_slice(bytes).map_err(|error| Error::json(path(), error))?;
        if record.version != VERSION {
            let reason = format!("its version {} is not known", record.version);
            return Err(Error::damaged(path(), reason));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNPACKED: &str = r#"{"version":1,"form":"unpacked","diffId":"sha256:HEX","blob":"sha256:HEX",
        "size":3,"entries":2,"newestSeconds":-1,"newestNanos":5,"tree":"sha256:HEX","allocated":4096}"#;
    const INDEXED: &str = r#"{"version":1,"form":"indexed","diffId":"sha256:HEX","blob":"sha256:HEX",
        "size":3,"entries":2,"newestSeconds":1,"newestNanos":0,"index":"sha256:HEX"}"#;

    fn parse(text: &str) -> Result<Record> {
        let text = text.replace("HEX", &"0".repeat(64));
        Record::parse(text.as_bytes(), || "layer.json".to_owned())
    }

    #[test]
    fn a_record_of_each_form_reads_back_as_it_was_written() {
        for (text, form) in [
            (UNPACKED, LayerForm::Unpacked),
            (INDEXED, LayerForm::Indexed),
        ] {
            let record = parse(text).unwrap();
            assert_eq!(record.laid.form(), form);
            let written = serde_json::to_string(&record).unwrap();
            assert!(
                written.contains(&format!("\"form\":\"{form}\"")),
                "{written}"
            );
            assert_eq!(parse(&written).unwrap(), record);
        }
    }

    #[test]
    fn a_record_without_what_its_form_has_is_refused() {
        for bad in [
            UNPACKED.replace("\"tree\"", "\"index\""),
            UNPACKED.replace(",\"allocated\":4096", ""),
            INDEXED.replace("\"index\"", "\"tree\""),
            INDEXED.replace("indexed", "zipped"),
            INDEXED.replace("\"version\":1", "\"version\":2"),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
