//! `blobs/sha256/`: bytes by their digest.
//!
//! A blob in use by somebody who is about to name it in `index.json` is held with a shared flock;
//! removal takes the exclusive one.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Advice, Mode, OFlags};

use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::ingest::{self, Temporary};
use crate::layer::source::Place;
use crate::layout::Store;
use crate::{dir, lock};

/// The largest manifest, config or index that is read into memory.
const SMALL: u64 = 4 << 20;

/// A blob that nobody removes while this lives: it carries a shared lock.
#[must_use]
#[derive(Debug)]
pub struct Held(OwnedFd);

impl Held {
    pub(crate) fn new(locked: OwnedFd) -> Self {
        Self(locked)
    }

    /// How long the blob is.
    pub(crate) fn size(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.0)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Lets the kernel have back the memory that it caches the blob in, which was flushed: for one that
    /// nobody is about to read. One with another name is a layer's tar, which will be.
    pub fn leave_cache(&self) -> io::Result<()> {
        if rustix::fs::fstat(&self.0)?.st_nlink == 1 {
            rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    /// The blob's bytes, from the beginning. Nobody has checked them since they were stored.
    pub fn reader(&self) -> io::Result<File> {
        // A description of its own: the position would be shared by a duplicate.
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        File::open(path)
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Held> for OwnedFd {
    fn from(held: Held) -> Self {
        held.0
    }
}

impl Store {
    pub(crate) fn blob_path(&self, digest: Digest) -> String {
        self.root()
            .join("blobs/sha256")
            .join(digest.hex())
            .display()
            .to_string()
    }

    /// Reads a small blob whole and checks it.
    pub(crate) fn read_blob(&self, digest: Digest) -> Result<Vec<u8>> {
        let bytes =
            read_small(self.blobs(), &digest.hex()).on("read", || self.blob_path(digest))?;
        if Digest::of(&bytes) != digest {
            return Err(Error::damaged(
                self.blob_path(digest),
                "its bytes have another digest",
            ));
        }
        Ok(bytes)
    }

    /// Reads a manifest, a config or an index whole and checks it; `None` if it is not there.
    pub fn document(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        match self.read_blob(digest) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Opens a blob for reading; nobody has checked its bytes.
    pub(crate) fn open_blob(&self, digest: Digest) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(self.blobs(), digest.hex(), flags, Mode::empty())
            .map(File::from)
            .on("open", || self.blob_path(digest))
    }

    /// Where a blob lies, if it is there.
    pub(crate) fn place_of_blob(&self, digest: Digest) -> Place<'_> {
        Place {
            directory: self.blobs(),
            name: digest.hex(),
        }
    }

    /// Stores a small blob unless it is there. One that is there and damaged is replaced.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<(Digest, Held)> {
        let digest = Digest::of(bytes);
        let Some(held) = self.hold_blob(digest)? else {
            let file = self.written(bytes, digest)?;
            return Ok((digest, self.publish_blob(file, digest)?));
        };
        match self.read_blob(digest) {
            Ok(_) => return Ok((digest, held)),
            Err(Error::Damaged { .. }) => {}
            // Longer than any that is small, and so not these bytes.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(error),
        }
        // The damaged one stays held until then: nobody removes what takes its place.
        let mended = self.put_in_place(self.written(bytes, digest)?, digest)?;
        drop(held);
        Ok((digest, mended))
    }

    fn written(&self, bytes: &[u8], digest: Digest) -> Result<Temporary<File>> {
        Temporary::with_bytes(self.ingest(), bytes).on("write", || self.blob_path(digest))
    }

    /// Gives a finished file its place, unless a blob of that digest is there already.
    pub(crate) fn publish_blob(&self, file: Temporary<File>, digest: Digest) -> Result<Held> {
        if let Some(held) = self.hold_blob(digest)? {
            return Ok(held);
        }
        self.put_in_place(file, digest)
    }

    fn put_in_place(&self, file: Temporary<File>, digest: Digest) -> Result<Held> {
        file.flush().on("flush", || self.blob_path(digest))?;
        let file = file
            .publish(self.blobs(), &digest.hex())
            .on("publish", || self.blob_path(digest))?;
        self.share(&file)?;
        Ok(Held(file.into()))
    }

    /// Gives a finished file the place of a blob that is damaged or missing.
    pub(crate) fn replace_blob(&self, file: Temporary<File>, digest: Digest) -> Result<()> {
        let path = || self.blob_path(digest);
        file.flush().on("flush", path)?;
        ingest::clear_of_directory(self.ingest(), self.blobs(), &digest.hex()).on("clear", path)?;
        file.publish(self.blobs(), &digest.hex())
            .on("publish", path)
            .map(drop)
    }

    pub(crate) fn hold_blob(&self, digest: Digest) -> Result<Option<Held>> {
        let held = lock::open_shared(self.blobs(), &digest.hex(), OFlags::RDONLY)
            .on("lock", || self.blob_path(digest))?;
        Ok(held.map(Held))
    }

    /// Turns the exclusive lock on something that has just been published into a shared one.
    /// Whoever removes anything holds the index lock: under it nobody can come in between.
    pub(crate) fn share(&self, published: impl AsFd) -> Result<()> {
        let root = dir::open(self.root_fd(), ".").on_path("open", self.root())?;
        lock::exclusive(&root).on_path("lock", self.root())?;
        lock::shared(published).on("share the lock on", || "what was published".to_owned())
    }
}

/// Reads a small file whole.
pub(crate) fn read_small(directory: BorrowedFd<'_>, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
    let size = u64::try_from(rustix::fs::fstat(file.as_fd())?.st_size).unwrap_or(0);
    if size > SMALL {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{size} bytes, more than the {SMALL} that are read into memory"),
        ));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(SMALL).read_to_end(&mut bytes)?;
    Ok(bytes)
}
