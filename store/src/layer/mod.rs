//! `layers/<diff id>/`: layers overlayfs can use.
//!
//! ```text
//! layers/<hex>/layer.json   the record: form, source blob, sizes; its mtime is the last use
//! layers/<hex>/tree.zst     what the tree holds, so that damage is found (module listing)
//! layers/<hex>/fs/          the tree (form "unpacked")
//! ```
//!
//! The directory itself is the lock: whoever uses the layer has a shared flock on it, whoever
//! removes it takes the exclusive one, moves it to `ingest/` and deletes it there.

pub(crate) mod content;
#[allow(dead_code, reason = "being built")]
pub(crate) mod index;
pub(crate) mod inflate;
pub(crate) mod listing;
pub(crate) mod name;
pub(crate) mod unpack;

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::blob::read_small;
use crate::digest::{DiffId, Digest};
use crate::dir;
use crate::error::{Context, Error, Result};
use crate::ingest::Temporary;
use crate::layout::Store;
use crate::lock::{self, SingleFlight};
use crate::time::Time;
use listing::Listing;

pub(crate) const RECORD: &str = "layer.json";
pub(crate) const TREE: &str = "fs";
const VERSION: u32 = 1;
const UNPACKED: &str = "unpacked";
/// Large enough that the reads of a layer's many small files are few.
const READ_BUFFER: usize = 256 << 10;

/// `layer.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    version: u32,
    form: String,
    pub(crate) diff_id: DiffId,
    /// The blob the tree was made from.
    pub(crate) blob: Digest,
    /// Bytes of file data, holes counted, hardlinks once.
    pub(crate) size: u64,
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// The newest modification time of any entry.
    newest_seconds: i64,
    newest_nanos: u32,
    /// The digest of the tree's listing.
    pub(crate) tree: Digest,
    /// Bytes really allocated for the tree, each inode once.
    pub(crate) allocated: u64,
}

impl Record {
    pub(crate) fn newest(&self) -> Time {
        Time {
            seconds: self.newest_seconds,
            nanos: self.newest_nanos,
        }
    }
}

/// A layer that nobody removes while this lives.
pub struct HeldLayer {
    /// Carries the lock.
    _directory: OwnedFd,
    pub(crate) record: Record,
}

/// Fills the layer's empty tree, and tells entries and bytes of the uncompressed tar so far.
pub(crate) type LayDown<'a> =
    &'a mut dyn FnMut(OwnedFd, &mut dyn FnMut(u64, u64)) -> Result<unpack::Summary>;

/// How far the unpacking is.
pub(crate) enum Step {
    Waiting,
    Unpacking { entries: u64, bytes: u64 },
    Flushing,
}

impl Store {
    pub(crate) fn layer_path(&self, layer: DiffId) -> String {
        self.root()
            .join("layers")
            .join(layer.hex())
            .display()
            .to_string()
    }

    /// The record of a layer, without holding the layer.
    pub(crate) fn layer_record(&self, layer: DiffId) -> Result<Record> {
        let path = || format!("{}/{RECORD}", self.layer_path(layer));
        let bytes =
            read_small(self.layers(), &format!("{}/{RECORD}", layer.hex())).on("read", path)?;
        parse_record(&bytes, path)
    }

    /// Holds a layer by its directory; `None` if it is not there.
    pub(crate) fn hold_layer(&self, layer: DiffId) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        lock::open_shared(self.layers(), &layer.hex(), flags).on("lock", || self.layer_path(layer))
    }

    pub(crate) fn hold_layer_with_record(&self, layer: DiffId) -> Result<Option<HeldLayer>> {
        let Some(directory) = self.hold_layer(layer)? else {
            return Ok(None);
        };
        Ok(Some(HeldLayer {
            record: self.record_of(&directory, layer)?,
            _directory: directory,
        }))
    }

    /// The record in a layer's open directory.
    pub(crate) fn record_of(&self, directory: &OwnedFd, layer: DiffId) -> Result<Record> {
        let path = || format!("{}/{RECORD}", self.layer_path(layer));
        let bytes = read_small(directory.as_fd(), RECORD).on("read", path)?;
        parse_record(&bytes, path)
    }

    /// Holds a layer, laying it down with `lay_down` if it is not there. One process does that at a
    /// time; the others wait and find it done.
    pub(crate) fn make_layer(
        &self,
        layer: DiffId,
        blob: Digest,
        lay_down: LayDown<'_>,
        progress: &mut dyn FnMut(Step),
    ) -> Result<HeldLayer> {
        if let Some(held) = self.hold_layer_with_record(layer)? {
            return Ok(held);
        }
        let path = || self.layer_path(layer);
        let _turn = SingleFlight::enter(self.ingest(), &format!("layer-{}", layer.hex()), || {
            progress(Step::Waiting);
        })
        .on("lock", path)?;
        if let Some(held) = self.hold_layer_with_record(layer)? {
            return Ok(held);
        }
        let (tree, record) = self.build_layer(layer, blob, lay_down, progress)?;
        let directory = tree
            .publish(self.layers(), &layer.hex())
            .on("publish", path)?;
        self.share(&directory)?;
        Ok(HeldLayer {
            _directory: directory,
            record,
        })
    }

    /// Makes a layer's directory in `ingest/`, whole and flushed.
    fn build_layer(
        &self,
        layer: DiffId,
        blob: Digest,
        lay_down: LayDown<'_>,
        progress: &mut dyn FnMut(Step),
    ) -> Result<(Temporary<OwnedFd>, Record)> {
        let path = || self.layer_path(layer);
        let tree = Temporary::directory(self.ingest()).on("create", path)?;
        let root = make_tree(tree.content()).on("create", path)?;
        let summary = lay_down(root, &mut |entries, bytes| {
            progress(Step::Unpacking { entries, bytes });
        })?;
        progress(Step::Flushing);
        // One flush for the whole filesystem rather than one for each of the layer's files.
        rustix::fs::syncfs(tree.content()).on("flush", path)?;
        let root = dir::open(tree.content(), TREE).on("open", path)?;
        let listed = Listing::write(tree.content(), root, summary.contents)?;
        let record = Record {
            version: VERSION,
            form: UNPACKED.to_owned(),
            diff_id: layer,
            blob,
            size: summary.size,
            entries: summary.entries,
            newest_seconds: summary.newest.seconds,
            newest_nanos: summary.newest.nanos,
            tree: listed.tree,
            allocated: listed.allocated,
        };
        write_record(tree.content(), &record).on("write", path)?;
        rustix::fs::fsync(tree.content()).on("flush", path)?;
        Ok((tree, record))
    }

    /// Puts a layer, laid down anew from a good blob, in the place of a damaged one. Who has the
    /// old one mounted keeps it.
    pub(crate) fn replace_layer(
        &self,
        layer: DiffId,
        blob: Digest,
        source: &mut (dyn Read + Send),
    ) -> Result<()> {
        let path = || self.layer_path(layer);
        let turn = format!("layer-{}", layer.hex());
        let _turn = SingleFlight::enter(self.ingest(), &turn, || {}).on("lock", path)?;
        let name = format!("layer {blob}");
        let lay_down: LayDown<'_> =
            &mut |root, told| inflate::lay_down(source, &name, layer, root, told);
        let (tree, _) = self.build_layer(layer, blob, lay_down, &mut |_| {})?;
        tree.replace(self.layers(), &layer.hex())
            .on("replace", path)
            .map(drop)
    }

    /// Holds a layer, laying it down from a blob, plain or compressed, if it is not there.
    pub(crate) fn make_layer_from(
        &self,
        layer: DiffId,
        blob: Digest,
        source: &mut (dyn Read + Send),
        progress: &mut dyn FnMut(Step),
    ) -> Result<HeldLayer> {
        let name = format!("layer {blob}");
        let lay_down: LayDown<'_> =
            &mut |root, told| inflate::lay_down(source, &name, layer, root, told);
        self.make_layer(layer, blob, lay_down, progress)
    }
}

fn make_tree(directory: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(directory, TREE, Mode::from_raw_mode(0o755))?;
    dir::open(directory, TREE)
}

/// Lays a layer down from its uncompressed tar, whose digest is known to be right.
pub(crate) fn lay_down_tar(
    tar: &mut File,
    root: OwnedFd,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<unpack::Summary> {
    tar.rewind().on("rewind", || "the archive".to_owned())?;
    unpack::unpack(BufReader::with_capacity(READ_BUFFER, tar), root, progress)
}

fn write_record(directory: &OwnedFd, record: &Record) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, RECORD, flags, Mode::from_raw_mode(0o644))?;
    let mut file = File::from(file);
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()
}

fn parse_record(bytes: &[u8], path: impl Fn() -> String) -> Result<Record> {
    let record: Record =
        serde_json::from_slice(bytes).map_err(|error| Error::json(path(), error))?;
    if record.version != VERSION || record.form != UNPACKED {
        let reason = format!("form {:?} {} is not known", record.form, record.version);
        return Err(Error::damaged(path(), reason));
    }
    Ok(record)
}
