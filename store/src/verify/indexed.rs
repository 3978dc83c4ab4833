//! An indexed layer: its tar held against the layer's digest, and its index against one that is made
//! anew from the tar, while that is read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use super::check::{Found, Size, tells_of_damage};
use super::in_words;
use crate::digest::{DiffId, Digest, Hasher};
use crate::error::{Context, Error, Result};
use crate::layer::index::build::Built;
use crate::layer::index::tree::Tree;
use crate::layer::index::write::{self, Tar};
use crate::layer::indexed::{self, INDEX, TAR};

/// Tells what is wrong with the tar and with the index.
pub(super) fn check(
    directory: &OwnedFd,
    layer: DiffId,
    recorded: Digest,
    path: &dyn Fn() -> String,
    found: Found<'_>,
) -> Result<Size> {
    let tar = open(directory, TAR, path, found)?;
    let index = open(directory, INDEX, path, found)?;
    let built = match &tar {
        Some(tar) => read_tar(tar, layer, path, found)?,
        None => None,
    };
    let mut entries = 0;
    if let Some(built) = &built {
        built.tree.each_name(|_, _| entries += 1);
    }
    if let Some(index) = &index {
        let compared = match (&tar, &built) {
            (Some(tar), Some(built)) => compare(&built.tree, tar, index)?,
            _ => None,
        };
        let problem = compared.map_or_else(
            || recorded_problem(index, recorded, path),
            |it| Ok(Some(it)),
        );
        if let Some(problem) = problem? {
            found(Some(INDEX.to_owned()), problem);
        }
    }
    Ok(Size { bytes: 0, entries })
}

fn open(
    directory: &OwnedFd,
    name: &'static str,
    path: &dyn Fn() -> String,
    found: Found<'_>,
) -> Result<Option<File>> {
    use rustix::io::Errno;
    match indexed::open(directory, name) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT | Errno::LOOP) => {
            found(Some(name.to_owned()), "missing".to_owned());
            Ok(None)
        }
        Err(errno) => Err(Error::io("open", format!("{}/{name}", path()), errno)),
    }
}

/// Reads the tar once: its digest, and what is in it. `None` if it is damaged.
fn read_tar(
    tar: &File,
    layer: DiffId,
    path: &dyn Fn() -> String,
    found: Found<'_>,
) -> Result<Option<Built>> {
    let object = || format!("{}/{TAR}", path());
    let mut file = tar;
    file.rewind().on("rewind", object)?;
    let mut hashing = Hashing {
        source: BufReader::with_capacity(READ_BUFFER, tar),
        hasher: Hasher::default(),
        bytes: 0,
    };
    let built = indexed::build_all(&mut hashing, &mut |_| {});
    // What it is called by counts more than what its reader says of it.
    let rest = io::copy(&mut hashing, &mut io::sink());
    if let Err(error) = rest {
        if tells_of_damage(&error) {
            found(Some(TAR.to_owned()), format!("it cannot be read: {error}"));
            return Ok(None);
        }
        return Err(Error::io("read", object(), error));
    }
    let bytes = hashing.bytes;
    let digest = hashing.hasher.finish();
    if digest != layer.digest() {
        found(
            Some(TAR.to_owned()),
            format!("its {bytes} bytes have {digest}"),
        );
        return Ok(None);
    }
    let mut built = built?;
    built.tree.devices[0].length = bytes;
    Ok(Some(built))
}

const READ_BUFFER: usize = 256 << 10;

/// A reader that hashes what goes through it, read or passed over.
struct Hashing<'a> {
    source: BufReader<&'a File>,
    hasher: Hasher,
    bytes: u64,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Hashing<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.hasher.update(&self.source.buffer()[..amount]);
        self.bytes += amount as u64;
        self.source.consume(amount);
    }
}

/// Writes the index over the one that is there, as it were; how that one differs.
fn compare(tree: &Tree, tar: &File, index: &File) -> Result<Option<String>> {
    let length = index.metadata().on("stat", || INDEX.to_owned())?.len();
    let mut comparison = Comparison {
        index,
        position: 0,
        end: 0,
        differs: None,
        buffer: Vec::new(),
    };
    match write::write(tree, &Tar(tar), &mut comparison) {
        // It was written by something else.
        Err(error @ (Error::Unsupported { .. } | Error::BadEntry { .. })) => {
            return Ok(Some(in_words(&error)));
        }
        result => result?,
    }
    let Comparison { end, differs, .. } = comparison;
    Ok(match differs {
        _ if length != end => Some(format!("it has {length} bytes instead of {end}")),
        Some(at) => Some(format!(
            "it is not the index of its tar: they differ at byte {at}"
        )),
        None => None,
    })
}

/// What is between the bytes that a writer writes shall be zeros: only the digest that is recorded says
/// whether they are.
fn recorded_problem(
    index: &File,
    recorded: Digest,
    path: &dyn Fn() -> String,
) -> Result<Option<String>> {
    match indexed::hash(index) {
        Ok((found, _)) if found == recorded => Ok(None),
        Ok((found, bytes)) => Ok(Some(format!("its {bytes} bytes have {found}"))),
        Err(error) if tells_of_damage(&error) => Ok(Some(format!("it cannot be read: {error}"))),
        Err(error) => Err(Error::io("read", format!("{}/{INDEX}", path()), error)),
    }
}

/// Takes an index as it is written, and holds it against the one that is there.
struct Comparison<'a> {
    index: &'a File,
    position: u64,
    end: u64,
    /// The first byte that is not the same.
    differs: Option<u64>,
    buffer: Vec<u8>,
}

impl Write for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.resize(bytes.len(), 0);
        let mut there = 0;
        while there < bytes.len() {
            let at = self.position + there as u64;
            match self.index.read_at(&mut self.buffer[there..], at) {
                Ok(0) => break,
                Ok(read) => there += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What cannot be read is not the same.
                Err(error) if tells_of_damage(&error) => break,
                Err(error) => return Err(error),
            }
        }
        let same = bytes.iter().zip(&self.buffer[..there]);
        let same = same.take_while(|(one, other)| one == other).count();
        if same < bytes.len() {
            let at = self.position + same as u64;
            self.differs = Some(self.differs.map_or(at, |before| before.min(at)));
        }
        self.position += bytes.len() as u64;
        self.end = self.end.max(self.position);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Comparison<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(by) => self.position.saturating_add_signed(by),
            SeekFrom::End(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(self.position)
    }
}
