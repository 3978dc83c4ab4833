//! A layer's tree in the order of its listing, without recursion and with a bounded number of
//! descriptors: a tree may be deeper than there are any.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::entry::{Entry, Inode, Kind, What};
use crate::dir;
use crate::error::{Context, Error, Result};
use crate::layer::content::{Content, ContentHasher, Contents};
use crate::names::Names;
use crate::time::Time;
use crate::xattr;

/// How many directories on the way down stay open.
const OPEN: usize = 32;
const READ_BUFFER: usize = 256 << 10;
/// As [`OFlags::NOATIME`] takes an owner or root, and so does a layer.
const OPEN_FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOATIME);

/// Walks a tree: names sorted by their bytes, a directory before what is in it.
pub(crate) struct Walk {
    /// What is known of files' contents already.
    contents: Contents,
    /// The root, until it was told.
    root: Option<OwnedFd>,
    levels: Vec<Level>,
    /// The current directory, with a slash at its end; empty for the root.
    path: Vec<u8>,
    /// The first name of each file that has several.
    links: HashMap<u64, Vec<u8>>,
    allocated: u64,
    buffer: Vec<u8>,
}

/// A directory on the way to where the walk is.
struct Level {
    /// `None` while it is too far up: opened again from below.
    fd: Option<OwnedFd>,
    identity: (u64, u64),
    names: Names,
    /// How long the path to it is.
    path: usize,
}

impl Walk {
    pub(crate) fn new(root: OwnedFd, contents: Contents) -> Self {
        Self {
            contents,
            root: Some(root),
            levels: Vec::new(),
            path: Vec::new(),
            links: HashMap::new(),
            allocated: 0,
            buffer: Vec::new(),
        }
    }

    /// Bytes really allocated for what the walk has seen, each inode once.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        if let Some(root) = self.root.take() {
            return self.enter(root, b".".to_vec(), 0).map(Some);
        }
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.next() else {
                self.leave()?;
                continue;
            };
            let name = name.to_vec();
            return self.one(&name).map(Some);
        }
        Ok(None)
    }

    fn one(&mut self, name: &[u8]) -> Result<Entry> {
        let path = [&self.path[..], name].concat();
        let level = self.levels.last().expect("called for a name in one");
        let parent = level.fd.as_ref().expect("the deepest level is open");
        let stat =
            rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).on_entry("stat", &path)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let flags = dir::OPEN_DIR | OFlags::NOATIME;
            let fd =
                rustix::fs::openat(parent, name, flags, Mode::empty()).on_entry("open", &path)?;
            self.path.extend_from_slice(name);
            self.path.push(b'/');
            let length = self.path.len();
            return self.enter(fd, path, length);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                let what = What::Hardlink(first.clone());
                return Ok(Entry { path, what });
            }
            self.links.insert(stat.st_ino, path.clone());
        }
        let xattrs = xattr::of_name(parent, name, &path, xattr::outlasts_a_copy)?;
        let kind = match kind {
            FileType::RegularFile => Kind::File {
                size: u64::try_from(stat.st_size).unwrap_or(0),
                content: self.content(name, &path, &stat)?,
            },
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())
                    .on_entry("read the symlink", &path)?;
                Kind::Symlink(target.into_bytes())
            }
            FileType::CharacterDevice => Kind::CharacterDevice {
                major: rustix::fs::major(stat.st_rdev),
                minor: rustix::fs::minor(stat.st_rdev),
            },
            FileType::BlockDevice => Kind::BlockDevice {
                major: rustix::fs::major(stat.st_rdev),
                minor: rustix::fs::minor(stat.st_rdev),
            },
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Directory | FileType::Unknown => {
                return Err(Error::bad_entry(&path, "a file of no known type"));
            }
        };
        Ok(self.inode(path, kind, &stat, xattrs))
    }

    /// Goes down into a directory, which is told before what is in it.
    fn enter(&mut self, fd: OwnedFd, path: Vec<u8>, length: usize) -> Result<Entry> {
        let stat = rustix::fs::fstat(&fd).on_entry("stat", &path)?;
        let xattrs = xattr::of_open(&fd, &path, xattr::outlasts_a_copy)?;
        let names = Names::of(&fd, &path)?;
        if let Some(far) = self.levels.len().checked_sub(OPEN) {
            self.levels[far].fd = None;
        }
        self.levels.push(Level {
            fd: Some(fd),
            identity: (stat.st_dev, stat.st_ino),
            names,
            path: length,
        });
        Ok(self.inode(path, Kind::Directory, &stat, xattrs))
    }

    /// Goes up from a directory whose names are all told.
    fn leave(&mut self) -> Result<()> {
        let done = self.levels.pop().expect("called for a level");
        let Some(parent) = self.levels.last_mut() else {
            return Ok(());
        };
        if parent.fd.is_none() {
            let below = done.fd.expect("the deepest level is open");
            let fd = dir::open(&below, "..").on_entry("open the directory of", &self.path)?;
            if dir::identity(&fd).on_entry("stat", &self.path)? != parent.identity {
                return Err(Error::bad_entry(
                    &self.path,
                    "it was moved while it was read",
                ));
            }
            parent.fd = Some(fd);
        }
        self.path.truncate(parent.path);
        Ok(())
    }

    fn inode(
        &mut self,
        path: Vec<u8>,
        kind: Kind,
        stat: &Stat,
        xattrs: xattr::Attributes,
    ) -> Entry {
        const SECTOR: u64 = 512;
        self.allocated += u64::try_from(stat.st_blocks).unwrap_or(0) * SECTOR;
        let inode = Inode {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time::of_modification(stat),
            xattrs,
        };
        Entry {
            path,
            what: What::Inode(inode),
        }
    }

    fn content(&mut self, name: &[u8], path: &[u8], stat: &Stat) -> Result<Content> {
        if stat.st_size == 0 {
            return Ok(ContentHasher::default().finish());
        }
        if let Some(content) = self.contents.get(stat.st_ino) {
            return Ok(content);
        }
        let level = self.levels.last().expect("called for a name in one");
        let parent = level.fd.as_ref().expect("the deepest level is open");
        let mut file = rustix::fs::openat(parent, name, OPEN_FILE, Mode::empty())
            .map(File::from)
            .on_entry("open", path)?;
        self.buffer.resize(READ_BUFFER, 0);
        hash(&mut file, &mut self.buffer).on_entry("read", path)
    }
}

/// Hashes a file; its holes are not read.
fn hash(file: &mut File, buffer: &mut [u8]) -> std::io::Result<Content> {
    let mut hasher = ContentHasher::default();
    let mut at = 0;
    let size = u64::try_from(rustix::fs::fstat(file.as_fd())?.st_size).unwrap_or(0);
    while at < size {
        let data = match rustix::fs::seek(&*file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => size,
            // A filesystem that knows nothing of holes.
            Err(Errno::INVAL) => at,
            Err(errno) => return Err(errno.into()),
        };
        hasher.skip(data - at);
        at = data;
        let end = match rustix::fs::seek(&*file, SeekFrom::Hole(at)) {
            Ok(end) => end,
            Err(Errno::NXIO | Errno::INVAL) => size,
            Err(errno) => return Err(errno.into()),
        };
        rustix::fs::seek(&*file, SeekFrom::Start(at))?;
        while at < end {
            let wanted =
                usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = match file.read(&mut buffer[..wanted]) {
                Ok(0) => return Ok(hasher.finish()), // shorter than it was: the digest differs
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&buffer[..read]);
            at += read as u64;
        }
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &std::path::Path) -> Vec<(String, bool)> {
        let mut walk = Walk::new(dir::open_path(path).unwrap(), Contents::default());
        let mut entries = Vec::new();
        while let Some(entry) = walk.next().unwrap() {
            let hardlink = matches!(entry.what, What::Hardlink(_));
            entries.push((String::from_utf8(entry.path).unwrap(), hardlink));
        }
        entries
    }

    #[test]
    fn a_directory_comes_before_what_is_in_it_and_names_are_sorted() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        for name in ["a/b/x", "a/a", "a-", "z"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        std::fs::hard_link(root.join("a/a"), root.join("y")).unwrap();
        let expected = [
            (".", false),
            ("a", false),
            ("a/a", false),
            ("a/b", false),
            ("a/b/x", false),
            ("a-", false),
            ("y", true),
            ("z", false),
        ];
        let expected = expected.map(|(path, link)| (path.to_owned(), link));
        assert_eq!(listed(root), expected);
    }

    #[test]
    fn a_tree_deeper_than_there_are_descriptors_is_walked() {
        const DEPTH: usize = 2000;
        let temporary = tempfile::tempdir().unwrap();
        let mut here = dir::open_path(temporary.path()).unwrap();
        for _ in 0..DEPTH {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/", &here, "link").unwrap();
            here = dir::open(&here, "d").unwrap();
        }
        assert_eq!(listed(temporary.path()).len(), 1 + 2 * DEPTH);
        dir::remove(dir::open_path(temporary.path()).unwrap().as_fd(), c"d").unwrap();
    }

    #[test]
    fn holes_are_hashed_as_the_zeros_they_are() {
        let temporary = tempfile::tempdir().unwrap();
        let content = [&[7; 5000][..], &[0; 500_000], &[9; 3000], &[0; 200_000]].concat();
        std::fs::write(temporary.path().join("dense"), &content).unwrap();
        let sparse = File::create(temporary.path().join("sparse")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[7; 5000], 0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[9; 3000], 505_000).unwrap();
        sparse.set_len(content.len() as u64).unwrap();
        let mut walk = Walk::new(
            dir::open_path(temporary.path()).unwrap(),
            Contents::default(),
        );
        let mut contents = Vec::new();
        while let Some(entry) = walk.next().unwrap() {
            if let What::Inode(Inode {
                kind: Kind::File { content, .. },
                ..
            }) = entry.what
            {
                contents.push(content);
            }
        }
        assert_eq!(contents.len(), 2);
        assert_eq!(contents[0], contents[1]);
        assert!(matches!(contents[0], Content::Holes(_)));
    }
}
