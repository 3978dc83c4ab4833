//! The form "indexed": the tar as it is, and an index over it. The tar is read once, while it is
//! written; nothing is unpacked.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::Step;
use super::index::build::{self, Built};
use super::index::read;
use super::index::tree::Tree;
use super::index::write::{self, Tar};
use super::inflate::HashedBy;
use super::record::{Counts, Laid};
use super::source::{Place, Source};
use crate::digest::{DiffId, Digest, Hasher};
use crate::error::{Context, Error, Result};
use crate::writeback::WriteBack;

/// The names in the layer's directory.
pub(crate) const TAR: &str = "layer.tar";
pub(crate) const INDEX: &str = "layer.erofs";
const READ_BUFFER: usize = 256 << 10;

/// What came of laying a layer down.
pub(super) enum Outcome {
    Laid(Laid, Counts),
    /// There is the tar, and in it something that no index can hold.
    NoIndexHolds(File),
}

/// Puts a layer's tar and index into its empty directory, and flushes both.
pub(super) fn lay_down(
    directory: &OwnedFd,
    layer: DiffId,
    mut source: Source<'_>,
    progress: &mut dyn FnMut(Step),
) -> Result<Outcome> {
    let path = || format!("the tar of layer {layer}");
    let mut write_back = WriteBack::default();
    let (tar, built) = match source.tar.take() {
        Some(place) => {
            let tar = link(directory, &place).on("link", path)?;
            (
                tar,
                source.read(layer, HashedBy::TheReceiver, |input| {
                    build_all(input, progress)
                })?,
            )
        }
        None => {
            let tar = create(directory, TAR).on("create", path)?;
            let built = source.read(layer, HashedBy::TheReceiver, |input| {
                let mut kept = Kept::new(input, &tar, &mut write_back);
                let built = build_all(&mut kept, progress);
                // That it could not be written is the cause of what its reader says.
                kept.failed.on("write", path)?;
                built
            })?;
            (tar, built)
        }
    };
    progress(Step::Flushing);
    let Some(index) = write_index(directory, layer, built.tree, &tar)? else {
        return Ok(Outcome::NoIndexHolds(tar));
    };
    write_back.finish().on("flush", path)?;
    tar.sync_all().on("flush", path)?;
    let counts = Counts {
        entries: built.entries,
        size: built.size,
        newest: built.newest,
    };
    Ok(Outcome::Laid(Laid::Indexed { index }, counts))
}

/// Reads the whole tar, with what follows the archive's end.
pub(crate) fn build_all(mut tar: impl BufRead, progress: &mut dyn FnMut(Step)) -> Result<Built> {
    let built = build::build(&mut tar, &mut |entries, bytes| {
        progress(Step::Unpacking { entries, bytes });
    })?;
    io::copy(&mut tar, &mut io::sink()).on("read", || "the archive".to_owned())?;
    Ok(built)
}

/// What is in a layer that lies in this directory, by its index.
pub(crate) fn tree(directory: &OwnedFd, path: &Path) -> Result<Tree> {
    let path = path.join(INDEX);
    let index = open(directory, INDEX).on_path("open", &path)?;
    read::read_file(&index, &path)
}

/// Writes and flushes the index over a tar; its digest. `None` where no index can hold the layer.
fn write_index(
    directory: &OwnedFd,
    layer: DiffId,
    mut tree: Tree,
    tar: &File,
) -> Result<Option<Digest>> {
    let path = || format!("the index of layer {layer}");
    tree.devices[0].length = tar.metadata().on("stat", path)?.len();
    let mut index = create(directory, INDEX).on("create", path)?;
    match write::write(&tree, &Tar(tar), &mut index) {
        Ok(()) => {}
        Err(Error::Unsupported { .. } | Error::BadEntry { .. }) => {
            rustix::fs::unlinkat(directory, INDEX, AtFlags::empty()).on("remove", path)?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    drop(tree);
    index.sync_all().on("flush", path)?;
    let (digest, _) = hash(&index).on("read", path)?;
    Ok(Some(digest))
}

/// The digest of a file's bytes, and how many there are.
pub(crate) fn hash(file: &File) -> io::Result<(Digest, u64)> {
    let mut file = file;
    io::Seek::rewind(&mut file)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; READ_BUFFER];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), bytes)),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn create(directory: &OwnedFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644)).map(File::from)
}

/// Gives a file that is the tar already one more name.
fn link(directory: &OwnedFd, place: &Place<'_>) -> Result<File, Errno> {
    rustix::fs::linkat(
        place.directory,
        &*place.name,
        directory,
        TAR,
        AtFlags::empty(),
    )?;
    open(directory, TAR)
}

/// Opens one of the two files for reading.
pub(crate) fn open(directory: impl AsFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(directory, name, flags, Mode::empty()).map(File::from)
}

/// A tar that is written to a file as it is read, in the pieces it comes in.
struct Kept<'a> {
    source: &'a mut dyn BufRead,
    tar: &'a File,
    write_back: &'a mut WriteBack,
    /// Bytes of the source's piece that are written and not yet read.
    ahead: usize,
    failed: io::Result<()>,
}

impl<'a> Kept<'a> {
    fn new(source: &'a mut dyn BufRead, tar: &'a File, write_back: &'a mut WriteBack) -> Self {
        Self {
            source,
            tar,
            write_back,
            ahead: 0,
            failed: Ok(()),
        }
    }

    /// Writes the source's next piece.
    fn write(&mut self) -> io::Result<()> {
        let piece = self.source.fill_buf()?;
        self.ahead = piece.len();
        let mut tar = self.tar;
        self.failed = tar
            .write_all(piece)
            .and_then(|()| self.write_back.wrote(self.tar, piece.len()));
        match self.failed {
            Ok(()) => Ok(()),
            Err(_) => Err(io::Error::other("the tar could not be kept")),
        }
    }
}

impl Read for Kept<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Kept<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ahead == 0 {
            self.write()?;
        }
        Ok(&self.source.fill_buf()?[..self.ahead])
    }

    fn consume(&mut self, amount: usize) {
        self.source.consume(amount);
        self.ahead -= amount;
    }
}
