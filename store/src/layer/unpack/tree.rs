//! The tree being made: its directories, held open while they are in use.
//!
//! A directory's modification time has to be set after the last entry is made in it, and nobody
//! knows which one that is. So each directory carries its time while it is open here, and gets it
//! (back) when it is closed: no list of directories is kept, whatever their number.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, ResolveFlags};
use rustix::io::Errno;

use super::metadata;
use crate::dir;
use crate::error::{Context, Error, Result};
use crate::layer::name::{components, join, split};
use crate::time::Time;

/// How many directories are open at most.
const OPEN: usize = 32;
/// As many symlinks as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// The device and inode of a directory, whatever names lead to it.
pub(super) type Identity = (u64, u64);

/// An open directory of the tree.
pub(super) struct Directory {
    /// The name it was reached by.
    path: Vec<u8>,
    fd: OwnedFd,
    identity: Identity,
    /// Its time when it is closed; `None` is whatever the kernel says.
    mtime: Option<Time>,
    /// Whether something was made in it, so that its time has to be set.
    touched: bool,
}

impl Directory {
    /// The descriptor, for making something in it.
    pub(super) fn touch(&mut self) -> BorrowedFd<'_> {
        self.touched = true;
        self.fd.as_fd()
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn close(self) -> Result<()> {
        if let (true, Some(mtime)) = (self.touched, self.mtime) {
            metadata::set_times(&self.fd, mtime).on_entry("set the time", &self.path)?;
        }
        Ok(())
    }
}

/// What an archive is laid down in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// An empty directory that becomes a layer, and nobody else's.
    New,
    /// A tree that is there and that others may be using, as a container's: its directories stay, and nothing
    /// else takes the place of one.
    Used,
}

/// The layer's tree.
pub(super) struct Tree {
    root: OwnedFd,
    ground: Ground,
    /// Most recently used first.
    open: Vec<Directory>,
}

/// What there is under a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Directory,
    Symlink,
    Whiteout,
    Other,
}

impl Tree {
    /// An empty tree: its root is root's, 0755, of time 0, until an entry says otherwise.
    pub(super) fn new(root: OwnedFd) -> Result<Self> {
        let mut tree = Self {
            root,
            ground: Ground::New,
            open: Vec::with_capacity(OPEN),
        };
        let fd = dir::open(&tree.root, ".").on_entry("open", b".")?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).on_entry("set the mode", b".")?;
        tree.adopt(b"", fd, Some(Time::default()))?;
        Ok(tree)
    }

    /// A tree that is there, as it is.
    pub(super) fn used(root: OwnedFd) -> Self {
        Self {
            root,
            ground: Ground::Used,
            open: Vec::with_capacity(OPEN),
        }
    }

    pub(super) fn ground(&self) -> Ground {
        self.ground
    }

    /// The directory of this path, made with its parents if it is missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<&mut Directory> {
        if let Some(at) = self.open.iter().position(|open| open.path == path) {
            self.open[..=at].rotate_right(1);
            return Ok(&mut self.open[0]);
        }
        let fd = match self.resolve(path) {
            // Not a directory: perhaps a whiteout, which makes way.
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.make_parents(path)?;
                self.resolve(path).on_entry("open", path)?
            }
            result => result.on_entry("open the directory", path)?,
        };
        self.adopt(path, fd, None)
    }

    /// The directory of this path, or `None` if it is not there.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Option<&mut Directory>> {
        if !self.open.iter().any(|open| open.path == path) {
            match self.resolve(path) {
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(errno) => return Err(Error::entry_io(path, "open the directory", errno)),
                Ok(fd) => {
                    self.adopt(path, fd, None)?;
                }
            }
        }
        self.directory(path).map(Some)
    }

    /// The path of a directory without symlinks, which later entries may replace; as it was given, if
    /// it is longer than the kernel tells.
    pub(super) fn real_path(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        let on_host = |fd: BorrowedFd<'_>| {
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::readlink(link, Vec::new()).map(CString::into_bytes)
        };
        let root = on_host(self.root.as_fd());
        let Ok(directory) = on_host(self.directory(path)?.fd()) else {
            return Ok(path.to_vec());
        };
        let within = root.ok().and_then(|root| {
            let within = directory.strip_prefix(&root[..])?;
            Some(within.strip_prefix(b"/").unwrap_or(within).to_vec())
        });
        Ok(within.unwrap_or_else(|| path.to_vec()))
    }

    /// Takes an open directory in. With a time, that is its time from now on; without one it keeps
    /// the one it has, unless the tree is in use.
    pub(super) fn adopt(
        &mut self,
        path: &[u8],
        fd: OwnedFd,
        mtime: Option<Time>,
    ) -> Result<&mut Directory> {
        let stat = rustix::fs::fstat(&fd).on_entry("stat", path)?;
        let identity = (stat.st_dev, stat.st_ino);
        let mut directory = Directory {
            path: path.to_vec(),
            fd,
            identity,
            mtime: (self.ground == Ground::New).then(|| Time::of_modification(&stat)),
            touched: false,
        };
        // The same directory under another name, through a symlink: its time is known there.
        if let Some(at) = self.open.iter().position(|open| open.identity == identity) {
            let known = self.open.remove(at);
            (directory.mtime, directory.touched) = (known.mtime, known.touched);
        }
        if let Some(mtime) = mtime {
            (directory.mtime, directory.touched) = (Some(mtime), true);
        }
        if self.open.len() == OPEN
            && let Some(oldest) = self.open.pop()
        {
            oldest.close()?;
        }
        self.open.insert(0, directory);
        Ok(&mut self.open[0])
    }

    /// Closes all directories, which sets their times. Needed before something is removed that a
    /// path of theirs may lead through.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.open.drain(..).try_for_each(Directory::close)
    }

    /// Removes whatever has this name, with all that is in it.
    pub(super) fn clear(&mut self, path: &[u8], entry: &crate::archive::Entry) -> Result<()> {
        let (parent, name) = split(path);
        let name = CString::new(name).on_entry("remove", &entry.name)?;
        let Some(directory) = self.existing(parent)? else {
            return Ok(());
        };
        let found = Self::found(directory.fd(), name.as_bytes()).on_entry("stat", &entry.name)?;
        if self.ground == Ground::Used && found == Some(Found::Directory) {
            return Err(Error::bad_entry(
                &entry.name,
                "it would replace a directory, and is none",
            ));
        }
        self.settle()?;
        let parent = self.directory(parent)?;
        dir::remove(parent.touch(), &name).on_entry("replace", &entry.name)
    }

    /// What has this name in an open directory; `None` if there is nothing.
    pub(super) fn found(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Found>, Errno> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Directory,
            FileType::Symlink => Found::Symlink,
            FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
            _ => Found::Other,
        }))
    }

    /// Opens a directory, following symlinks as if the layer's root were the root.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = dir::OPEN_DIR.difference(rustix::fs::OFlags::NOFOLLOW);
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), how) {
                // A rename anywhere on the machine while the kernel went through a `..`.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Makes the missing directories of a path: root's, 0755, of time 0. Symlinks on the way are
    /// resolved here, step by step, as the directory they lead to may be missing too.
    fn make_parents(&mut self, path: &[u8]) -> Result<()> {
        let mut done = Vec::new();
        let mut todo: Vec<Vec<u8>> = components(path);
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                done = split(&done).0.to_vec();
                continue;
            }
            let parent = self.directory(&done)?;
            let found = Self::found(parent.fd(), &name).on_entry("stat", path)?;
            match found {
                Some(Found::Directory) => done = join(&done, &name),
                Some(Found::Symlink) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Error::entry_io(path, "open its directory", Errno::LOOP));
                    }
                    let target = rustix::fs::readlinkat(parent.fd(), &*name, Vec::new())
                        .on_entry("read the symlink", path)?;
                    let target = target.into_bytes();
                    if target.starts_with(b"/") {
                        done.clear();
                    }
                    todo.extend(components(&target));
                }
                Some(Found::Other) => {
                    return Err(Error::entry_io(path, "make the directory", Errno::NOTDIR));
                }
                None | Some(Found::Whiteout) => {
                    let whiteout = found.is_some();
                    let made = join(&done, &name);
                    let fd = Self::make_in(parent.touch(), &name, whiteout, path)?;
                    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))
                        .on_entry("set the mode", path)?;
                    rustix::fs::fchown(
                        &fd,
                        Some(rustix::fs::Uid::ROOT),
                        Some(rustix::fs::Gid::ROOT),
                    )
                    .on_entry("set the owner", path)?;
                    let time = (self.ground == Ground::New).then(Time::default);
                    self.adopt(&made, fd, time)?;
                    done = made;
                }
            }
        }
        Ok(())
    }

    /// Makes a directory and opens it. In the place of a whiteout it becomes opaque: the layers
    /// below have something there that stays hidden.
    pub(super) fn make_in(
        parent: BorrowedFd<'_>,
        name: &[u8],
        whiteout: bool,
        entry: &[u8],
    ) -> Result<OwnedFd> {
        if whiteout {
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).on_entry("replace", entry)?;
        }
        rustix::fs::mkdirat(parent, name, Mode::RWXU).on_entry("create", entry)?;
        let fd = dir::open(parent, name).on_entry("open", entry)?;
        if whiteout {
            metadata::set_opaque(fd.as_fd(), entry)?;
        }
        Ok(fd)
    }
}
