//! The things a store is made of and that can go one by one: blobs, layers, merged indexes, downloads
//! that were broken off. How much of the disk each takes, when it was last used, and how it goes.
//!
//! Removal is in two steps, so that several things can go together or not at all: [`Condemned`]
//! holds the exclusive lock, which nobody gets while somebody uses the thing; then it is carried
//! out. Whoever condemns holds the index lock.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::arrival::PARTIAL;
use crate::digest::{DiffId, Digest};
use crate::error::{Context, Error, Result};
use crate::ingest::Temporary;
use crate::layer::form::LayerForm;
use crate::layout::{IMAGES, Store};
use crate::{dir, ingest, lock};

/// How exact the time of last use of a layer is. Who uses an image sets that of its manifest always.
const A_MOMENT: Duration = Duration::from_secs(60);
/// How the name of a merged index ends.
const MERGED: &str = ".erofs";

/// A thing of the store that can go by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "digest")]
pub enum Object {
    /// `blobs/sha256/<hex>`.
    Blob(Digest),
    /// `layers/<hex>`.
    Layer(DiffId),
    /// `images/<chain id hex>.erofs`: the merged index of an image's layers.
    Merged(Digest),
    /// `ingest/<hex>.partial`: the beginning of a blob.
    Partial(Digest),
}

impl Object {
    /// The digest it is known by.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Blob(digest) | Self::Merged(digest) | Self::Partial(digest) => *digest,
            Self::Layer(layer) => layer.digest(),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(formatter, "blob {digest}"),
            Self::Layer(layer) => write!(formatter, "layer {layer}"),
            Self::Merged(chain) => write!(formatter, "merged index {chain}"),
            Self::Partial(digest) => write!(formatter, "partial download of {digest}"),
        }
    }
}

/// What an object is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Bytes really allocated, but not those in common.
    pub bytes: u64,
    /// Bytes of a layer that its uncompressed blob is as well: one file with two names. They count at
    /// the blob.
    pub in_common: u64,
    /// The last use: of an image that of its manifest's blob.
    pub used: SystemTime,
    /// The form of a layer, if its record can be read.
    pub form: Option<LayerForm>,
}

impl Measured {
    /// Bytes really allocated, wherever they count.
    pub fn whole(&self) -> u64 {
        self.bytes + self.in_common
    }
}

/// An object that nobody uses, locked so that it stays so.
#[derive(Debug)]
pub(crate) struct Condemned {
    pub(crate) object: Object,
    bytes: u64,
    lock: OwnedFd,
}

/// An object out of everybody's sight, which ends when this is dropped.
#[expect(
    dead_code,
    reason = "what they hold is there to be dropped, not to be read"
)]
enum Nameless {
    File(OwnedFd),
    Directory(Temporary<OwnedFd>),
}

/// Ends them, the first ones first, on all processors: the kernel has every page of them that it
/// cached to forget, which takes longer than everything else that removing is made of.
fn forget(nameless: Vec<Nameless>) {
    let helpers = std::thread::available_parallelism().map_or(1, NonZeroUsize::get) - 1;
    let helpers = helpers.min(nameless.len().saturating_sub(1));
    let queue = Mutex::new(nameless.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(one) = next() {
            drop(one);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            // Where there can be no more threads, this one does it all.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}

fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// What came of condemning something.
#[derive(Debug)]
pub(crate) enum Verdict {
    Condemned(Condemned),
    /// Somebody uses it.
    Held,
    Gone,
}

impl Store {
    /// Bytes and last use of an object; `None` if it is not there.
    pub(crate) fn measure(&self, object: Object) -> Result<Option<Measured>> {
        match object {
            Object::Blob(digest) => self.measure_blob(digest),
            Object::Layer(layer) => self.measure_layer(layer),
            Object::Merged(_) | Object::Partial(_) => {
                let (directory, name) = self.place_of(object);
                measure_file(directory, &name).on("stat", || self.path_of(object))
            }
        }
    }

    pub(crate) fn measure_blob(&self, digest: Digest) -> Result<Option<Measured>> {
        measure_file(self.blobs(), &digest.hex()).on("stat", || self.blob_path(digest))
    }

    /// Whether somebody uses an object. Asked by trying its lock, which is given back at once; the
    /// caller holds the index lock, so that nobody who removes things takes that for a use.
    pub(crate) fn is_held(&self, object: Object) -> Result<bool> {
        let answer = match self.open_object(object) {
            Ok(fd) => lock::try_exclusive(&fd).map(|free| !free),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        };
        answer.on("lock", || self.path_of(object))
    }

    /// Takes the exclusive lock on an object. The caller holds the index lock.
    pub(crate) fn condemn(&self, object: Object) -> Result<Verdict> {
        let path = || self.path_of(object);
        let lock = match self.open_object(object) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Verdict::Gone),
            Err(errno) => return Err(Error::io("open", path(), errno)),
        };
        if !lock::try_exclusive(&lock).on("lock", path)? {
            return Ok(Verdict::Held);
        }
        let (parent, name) = self.place_of(object);
        if !dir::still_named(parent, &*name, &lock).on("stat", path)? {
            return Ok(Verdict::Gone);
        }
        // A layer without a record that can be read still goes.
        let measured = self.measure(object).unwrap_or_default();
        Ok(Verdict::Condemned(Condemned {
            bytes: measured.map_or(0, |measured| measured.bytes),
            object,
            lock,
        }))
    }

    /// Removes what was condemned; the bytes that gives back. Layers go out of sight first and all
    /// together, so that one flush stands between that and the end of their files. What a layer and its
    /// blob have in common is given back when both are gone.
    pub(crate) fn carry_out(&self, condemned: impl IntoIterator<Item = Condemned>) -> Result<u64> {
        let mut condemned: Vec<Condemned> = condemned.into_iter().collect();
        let freed = self.given_back(&condemned)?;
        condemned.sort_by_key(|one| Reverse(one.bytes));
        let mut layers = false;
        let mut nameless = Vec::with_capacity(condemned.len());
        for one in condemned {
            let path = || self.path_of(one.object);
            let (parent, name) = self.place_of(one.object);
            let is_layer = matches!(one.object, Object::Layer(_));
            layers |= is_layer;
            // Whatever it is that has a file's name.
            nameless.push(if is_layer || is_directory(&one.lock).on("stat", path)? {
                let directory = ingest::discard(self.ingest(), parent, &name, one.lock);
                Nameless::Directory(directory.on("remove", path)?)
            } else {
                rustix::fs::unlinkat(parent, &*name, AtFlags::empty()).on("remove", path)?;
                Nameless::File(one.lock)
            });
        }
        if layers {
            rustix::fs::fsync(self.layers()).on_path("flush", self.root())?;
        }
        forget(nameless);
        Ok(freed)
    }

    /// Bytes that are free when these are gone.
    fn given_back(&self, condemned: &[Condemned]) -> Result<u64> {
        let going: HashSet<Object> = condemned.iter().map(|one| one.object).collect();
        let mut bytes = 0;
        for one in condemned {
            bytes += one.bytes;
            let Object::Blob(digest) = one.object else {
                continue;
            };
            let layer = DiffId::from(digest);
            if !going.contains(&Object::Layer(layer)) {
                // The layer that stays keeps them.
                let stays = self.measure_layer(layer)?;
                bytes -= stays.map_or(0, |layer| layer.in_common).min(one.bytes);
            }
        }
        Ok(bytes)
    }

    fn place_of(&self, object: Object) -> (BorrowedFd<'_>, String) {
        match object {
            Object::Blob(digest) => (self.blobs(), digest.hex()),
            Object::Layer(layer) => (self.layers(), layer.hex()),
            Object::Merged(chain) => (self.root_fd(), merged_name(chain)),
            Object::Partial(digest) => (self.ingest(), format!("{}{PARTIAL}", digest.hex())),
        }
    }

    fn path_of(&self, object: Object) -> String {
        let directory = match object {
            // Its name says where.
            Object::Merged(_) => "",
            Object::Blob(_) => "blobs/sha256",
            Object::Layer(_) => "layers",
            Object::Partial(_) => "ingest",
        };
        let (_, name) = self.place_of(object);
        self.root().join(directory).join(name).display().to_string()
    }

    fn open_object(&self, object: Object) -> Result<OwnedFd, Errno> {
        let (parent, name) = self.place_of(object);
        let kind = if let Object::Layer(_) = object {
            OFlags::DIRECTORY
        } else {
            OFlags::empty()
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | kind;
        rustix::fs::openat(parent, &*name, flags, Mode::empty())
    }

    /// Every blob, layer, merged index and partial download there is, with nothing else that may lie there.
    pub(crate) fn objects(&self) -> Result<Vec<Object>> {
        let mut objects = Vec::new();
        let mut list = |directory: BorrowedFd<'_>, suffix: &str, object: fn(Digest) -> Object| {
            dir::each_name(directory, |name, _| {
                let hex = name
                    .to_str()
                    .ok()
                    .and_then(|name| name.strip_suffix(suffix));
                objects.extend(hex.and_then(Digest::from_hex).map(object));
                Ok(())
            })
            .on_path("list", self.root())
        };
        list(self.blobs(), "", Object::Blob)?;
        list(self.layers(), "", |digest| Object::Layer(digest.into()))?;
        match dir::open(self.root_fd(), IMAGES) {
            Ok(images) => list(images.as_fd(), MERGED, Object::Merged)?,
            // A store of version 1 that cannot be written to.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::io("list", self.root().display(), errno)),
        }
        list(self.ingest(), PARTIAL, Object::Partial)?;
        Ok(objects)
    }
}

/// Sets the time of last use to now. A store that cannot be written to has no such memory.
pub(crate) fn touch(directory: impl AsFd, name: &str) -> Result<(), Errno> {
    let at = |nanos| Timespec {
        tv_sec: 0,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: at(UTIME_OMIT),
        last_modification: at(UTIME_NOW),
    };
    match rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Ok(()),
        result => result,
    }
}

/// The file of a merged index, from the store's root.
pub(crate) fn merged_name(chain: Digest) -> String {
    format!("{IMAGES}/{}", merged_file(chain))
}

/// The same, from the directory it is in.
pub(crate) fn merged_file(chain: Digest) -> String {
    format!("{}{MERGED}", chain.hex())
}

/// Sets the time of last use to now, unless that was a moment ago: an image of hundreds of layers is
/// started more quickly so.
pub(crate) fn touch_if_stale(directory: impl AsFd, name: &str) -> Result<(), Errno> {
    let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match modified(&stat).elapsed() {
        Ok(age) if age < A_MOMENT => Ok(()),
        // Or the clock has been set back.
        _ => touch(directory, name),
    }
}

fn measure_file(directory: BorrowedFd<'_>, name: &str) -> Result<Option<Measured>, Errno> {
    let stat = stat(directory, name)?;
    Ok(stat.map(|stat| Measured {
        bytes: allocated(&stat),
        in_common: 0,
        used: modified(&stat),
        form: None,
    }))
}

pub(crate) fn stat(
    directory: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Bytes a file has on the disk. The unit of `st_blocks` is 512 bytes whatever the filesystem's.
pub(crate) fn allocated(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

/// The time of last modification, but none before 1970.
pub(crate) fn modified(stat: &Stat) -> SystemTime {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let beyond = Duration::new(stat.st_mtime.unsigned_abs(), nanos);
    if stat.st_mtime >= 0 {
        SystemTime::UNIX_EPOCH + beyond
    } else {
        SystemTime::UNIX_EPOCH
    }
}
