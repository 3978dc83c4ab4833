//! An archive that is read, or a directory as if it were one: its files, in a directory of `ingest/`, by
//! the paths the archive has them under. Those paths are keys and nothing else; on the disk the files
//! are numbered.
//!
//! ```text
//! ingest/tmp-<pid>-<n>/0 1 2 ...     locked by the directory, gone with it
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::BLOBS;
use crate::archive::{Kind, Reader};
use crate::compression::Decompressor;
use crate::digest::{Digest, Hasher};
use crate::dir;
use crate::error::{Context, Error, Result};
use crate::ingest::Temporary;
use crate::layer::source::Place;
use crate::layout::Store;
use crate::names::Names;

const BUFFER: usize = 256 << 10;
/// Files and links of an archive: docker's have four for each layer.
const MOST_ENTRIES: usize = 100_000;
/// Bytes of all their names.
const MOST_NAMES: usize = 8 << 20;
/// Links to links, as docker's archives have them for layers that several images share.
const MOST_LINKS: usize = 8;
/// The largest document that is read into memory.
const SMALL: u64 = 4 << 20;
/// Directories in directories, at most: a layout has two.
const DEEPEST: usize = 32;

/// One file of the archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    number: usize,
    pub(super) size: u64,
    pub(super) digest: Digest,
}

/// All files of an archive.
pub(super) struct Files {
    directory: Temporary<OwnedFd>,
    /// What the archive is called in errors.
    name: String,
    files: HashMap<Vec<u8>, Incoming>,
    links: HashMap<Vec<u8>, Vec<u8>>,
    by_digest: HashMap<Digest, Incoming>,
    entries: usize,
    names: usize,
}

impl Files {
    /// Reads an archive, plain or compressed. `progress` gets bytes of the uncompressed archive.
    pub(super) fn read(
        store: &Store,
        input: &mut dyn Read,
        name: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let mut files = Self::none(store, name.to_owned())?;
        let mut plain = Plain {
            input: Decompressor::new(input, name)?,
            failed: None,
        };
        let read = files.read_tar(&mut plain, progress);
        // What the decoder said is the cause of what the tar's reader says.
        match plain.failed {
            Some(error) => Err(error),
            None => read.map(|()| files),
        }
    }

    /// Reads a directory, such as an image layout. `progress` gets bytes of its files.
    pub(super) fn of_directory(
        store: &Store,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let mut files = Self::none(store, path.display().to_string())?;
        let directory = dir::open_path(path).on_path("open", path)?;
        let mut buffer = vec![0; BUFFER];
        let mut bytes = 0;
        let mut read = |more| {
            bytes += more;
            progress(bytes);
        };
        files.read_directory(&directory, b"", &mut buffer, &mut read)?;
        Ok(files)
    }

    fn none(store: &Store, name: String) -> Result<Self> {
        let directory = Temporary::directory(store.ingest()).on("create a directory in", || {
            store.root().display().to_string()
        })?;
        Ok(Self {
            directory,
            name,
            files: HashMap::new(),
            links: HashMap::new(),
            by_digest: HashMap::new(),
            entries: 0,
            names: 0,
        })
    }

    /// Reads what is in a directory whose path ends with a slash, or is empty.
    fn read_directory(
        &mut self,
        directory: &OwnedFd,
        path: &[u8],
        buffer: &mut [u8],
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        if path.iter().filter(|byte| **byte == b'/').count() > DEEPEST {
            return Err(self.refuse("it is deeper than any archive of images".to_owned()));
        }
        let mut names = Names::of(directory, path)?;
        while let Some(name) = names.next() {
            let path = [path, name].concat();
            self.count(path.len())?;
            let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .on_entry("stat", &path)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let below = dir::open(directory, name).on_entry("open", &path)?;
                    let path = [&path[..], b"/"].concat();
                    self.read_directory(&below, &path, buffer, progress)?;
                }
                FileType::RegularFile => {
                    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    let file = rustix::fs::openat(directory, name, flags, Mode::empty());
                    let file = File::from(file.on_entry("open", &path)?);
                    self.read_file(file, &path, buffer, progress)?;
                }
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(directory, name, Vec::new());
                    let target = target.on_entry("read the symlink", &path)?;
                    self.take_link(&path, beside(&path, target.as_bytes()))?;
                }
                _ => return Err(Error::bad_entry(&path, "a device in an archive")),
            }
        }
        Ok(())
    }

    fn read_file(
        &mut self,
        mut file: File,
        path: &[u8],
        buffer: &mut [u8],
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        self.take_file(buffer, path, &mut |buffer| {
            let read = read_some(&mut file, buffer).on_entry("read", path)?;
            progress(read as u64);
            Ok(read)
        })
    }

    /// One more entry, and the bytes of its names.
    fn count(&mut self, names: usize) -> Result<()> {
        self.entries += 1;
        self.names += names;
        if self.entries > MOST_ENTRIES || self.names > MOST_NAMES {
            return Err(self.refuse("it has more files than any archive of images".to_owned()));
        }
        Ok(())
    }

    /// As tar(1) has it, the last one of a name counts.
    fn take_file(
        &mut self,
        buffer: &mut [u8],
        name: &[u8],
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<()> {
        let key = key(name);
        let file = self.store(buffer, name, read)?;
        check_blob(&key, &file, name)?;
        self.by_digest.insert(file.digest, file);
        self.links.remove(&key);
        self.files.insert(key, file);
        Ok(())
    }

    fn take_link(&mut self, name: &[u8], target: Option<Vec<u8>>) -> Result<()> {
        let target =
            target.ok_or_else(|| Error::bad_entry(name, "a link that leads out of the archive"))?;
        let key = key(name);
        self.files.remove(&key);
        self.links.insert(key, target);
        Ok(())
    }

    fn read_tar(&mut self, plain: &mut Plain<'_>, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let mut reader = Reader::new(io::BufReader::with_capacity(BUFFER, plain));
        let mut buffer = vec![0; BUFFER];
        while let Some(entry) = reader.next_entry()? {
            self.count(entry.name.len() + entry.link.len())?;
            match entry.kind {
                Kind::Directory => {}
                Kind::File if entry.sparse.is_some() => {
                    return Err(Error::bad_entry(&entry.name, "a sparse file in an archive"));
                }
                Kind::File => {
                    let mut read = |buffer: &mut [u8]| reader.read_data(buffer);
                    self.take_file(&mut buffer, &entry.name, &mut read)?;
                }
                Kind::Symlink | Kind::Hardlink => {
                    let target = match entry.kind {
                        Kind::Hardlink => Some(key(&entry.link)),
                        _ => beside(&key(&entry.name), &entry.link),
                    };
                    self.take_link(&entry.name, target)?;
                }
                Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice => {
                    return Err(Error::bad_entry(&entry.name, "a device in an archive"));
                }
            }
            progress(reader.position());
        }
        Ok(())
    }

    /// Copies what is read to a file of its own.
    fn store(
        &self,
        buffer: &mut [u8],
        name: &[u8],
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<Incoming> {
        let number = self.entries;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let file = rustix::fs::openat(self.directory.content(), number.to_string(), flags, mode)
            .on_entry("create a file for", name)?;
        let mut file = File::from(file);
        let mut hasher = Hasher::default();
        let mut size = 0;
        loop {
            match read(buffer)? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    file.write_all(&buffer[..read]).on_entry("store", name)?;
                    size += read as u64;
                }
            }
        }
        Ok(Incoming {
            number,
            size,
            digest: hasher.finish(),
        })
    }

    /// The file of this path, through links.
    pub(super) fn at(&self, path: &str) -> Option<Incoming> {
        let mut key = key(path.as_bytes());
        for _ in 0..MOST_LINKS {
            if let Some(file) = self.files.get(&key) {
                return Some(*file);
            }
            key.clone_from(self.links.get(&key)?);
        }
        None
    }

    /// A file with these bytes, under whatever path.
    pub(super) fn with_digest(&self, digest: Digest) -> Option<Incoming> {
        self.by_digest.get(&digest).copied()
    }

    pub(super) fn open(&self, file: Incoming) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let name = file.number.to_string();
        rustix::fs::openat(self.directory.content(), name, flags, Mode::empty())
            .map(File::from)
            .on("open", || format!("a copy of a file of {}", self.name))
    }

    /// Where a file lies until it is published.
    pub(super) fn place(&self, file: Incoming) -> Place<'_> {
        Place {
            directory: self.directory.content().as_fd(),
            name: file.number.to_string(),
        }
    }

    /// Reads a document whole.
    pub(super) fn small(&self, file: Incoming, called: &str) -> Result<Vec<u8>> {
        if file.size > SMALL {
            let most = SMALL >> 20;
            let reason = format!("{called} has {} bytes, more than {most} MiB", file.size);
            return Err(self.refuse(reason));
        }
        let mut bytes = Vec::new();
        self.open(file)?
            .read_to_end(&mut bytes)
            .on("read", || called.to_owned())?;
        Ok(bytes)
    }

    /// Writes all files to the disk: with one flush for the filesystem, since there may be many.
    pub(super) fn flush(&self) -> Result<()> {
        rustix::fs::syncfs(self.directory.content())
            .on("flush", || format!("the copy of {}", self.name))
    }

    /// Gives a flushed file its place among the blobs; false if there is one already. One of another
    /// size is damaged, and replaced. The caller holds the index lock.
    pub(super) fn publish(&self, store: &Store, file: Incoming) -> Result<bool> {
        let path = || store.blob_path(file.digest);
        let (name, blob) = (file.number.to_string(), file.digest.hex());
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        let directory = self.directory.content();
        match rustix::fs::renameat_with(directory, &*name, store.blobs(), &*blob, flags) {
            Err(rustix::io::Errno::EXIST) => {}
            result => return result.on("publish", path).map(|()| true),
        }
        let there = store.hold_blob(file.digest)?;
        if let Some(there) = there
            && there.size().on("stat", path)? != file.size
        {
            rustix::fs::renameat(directory, &*name, store.blobs(), &*blob).on("publish", path)?;
            store.mend_layer_of(file.digest, &there)?;
        }
        Ok(false)
    }

    pub(super) fn refuse(&self, reason: String) -> Error {
        Error::BadInput {
            name: self.name.clone(),
            reason,
        }
    }
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// The path of an entry as a key: `./a//b/` is `a/b`.
fn key(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    parts.join(&b'/')
}

/// Where a symlink leads, as a key; `None` if out of the archive.
fn beside(link: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = link.split(|byte| *byte == b'/').collect();
    parts.pop();
    if target.starts_with(b"/") {
        return None;
    }
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join(&b'/'))
}

/// A blob of an image layout has the digest it is called by.
fn check_blob(key: &[u8], file: &Incoming, name: &[u8]) -> Result<()> {
    let Some(hex) = key.strip_prefix(BLOBS.as_bytes()) else {
        return Ok(());
    };
    if hex == file.digest.hex().as_bytes() {
        return Ok(());
    }
    let reason = format!("its bytes have {}", file.digest);
    Err(Error::bad_entry(name, reason))
}

/// The uncompressed archive as a reader, which keeps what the decoder said.
struct Plain<'a> {
    input: Decompressor<'a>,
    failed: Option<Error>,
}

impl Read for Plain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.fill(buffer).map_err(|error| {
            let message = error.to_string();
            self.failed = Some(error);
            io::Error::other(message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_keys_whatever_they_look_like() {
        assert_eq!(key(b"./blobs//sha256/x/"), b"blobs/sha256/x");
        assert_eq!(key(b"/etc/passwd"), b"etc/passwd");
        // Two dots mean nothing: there is no directory they could lead out of.
        assert_eq!(key(b"a/../b"), b"a/../b");
    }

    #[test]
    fn links_lead_where_docker_means_and_never_out() {
        let beside = |link: &str, target: &str| beside(link.as_bytes(), target.as_bytes());
        assert_eq!(
            beside("one/layer.tar", "../two/layer.tar").as_deref(),
            Some(&b"two/layer.tar"[..])
        );
        assert_eq!(beside("a", "b").as_deref(), Some(&b"b"[..]));
        assert_eq!(beside("a", "../b"), None);
        assert_eq!(beside("one/a", "../../b"), None);
        assert_eq!(beside("one/a", "/etc/passwd"), None);
    }
}
