//! Making what entries describe: directories, files, links, devices, whiteouts.

use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::tree::{Found, Ground, Identity, Tree};
use super::{Unpacker, metadata};
use crate::archive::sparse::Segment;
use crate::archive::{Entry, Kind};
use crate::dir;
use crate::error::{Context, Error, Result};
use crate::layer::content::ContentHasher;
use crate::layer::name::{clean, split};

impl<R: BufRead> Unpacker<R> {
    pub(super) fn file(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let file = File::from(self.tree.create_file(path, entry)?);
        let mut hasher = ContentHasher::default();
        match &entry.sparse {
            None => self.copy(&file, 0, entry.stored, entry, &mut hasher)?,
            Some(map) => {
                let mut end = 0;
                for Segment { offset, length } in &map.segments {
                    hasher.skip(offset - end);
                    self.copy(&file, *offset, *length, entry, &mut hasher)?;
                    end = offset + length;
                }
                hasher.skip(map.real_size - end);
                rustix::fs::ftruncate(&file, map.real_size)
                    .on_entry("set the size of", &entry.name)?;
            }
        }
        let stat = rustix::fs::fstat(&file).on_entry("stat", &entry.name)?;
        if entry.size() > 0 {
            self.contents.remember(stat.st_ino, hasher.finish());
        }
        metadata::apply(file.as_fd(), entry, &stat)
    }

    fn copy(
        &mut self,
        file: &File,
        mut offset: u64,
        length: u64,
        entry: &Entry,
        hasher: &mut ContentHasher,
    ) -> Result<()> {
        let mut left = length;
        while left > 0 {
            let wanted = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.reader.read_data(&mut self.buffer[..wanted])?;
            file.write_all_at(&self.buffer[..read], offset)
                .on_entry("write", &entry.name)?;
            hasher.update(&self.buffer[..read]);
            offset += read as u64;
            left -= read as u64;
        }
        Ok(())
    }
}

impl Tree {
    /// Makes an empty file that did not exist before, in the place of whatever had its name.
    fn create_file(&mut self, path: &[u8], entry: &Entry) -> Result<OwnedFd> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Mostly that is the mode it shall have, and no other call is needed to change it.
        let mode = metadata::mode(entry) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
        self.make(path, entry, |parent, name| {
            rustix::fs::openat(parent, name, flags, mode)
        })
    }

    /// Calls something that makes `path` and fails where there is something of that name; then
    /// removes that, and calls again.
    fn make<T>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        create: impl Fn(std::os::fd::BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T> {
        let (parent, name) = split(path);
        match create(self.directory(parent)?.touch(), name) {
            Err(Errno::EXIST) => {}
            result => return result.on_entry("create", &entry.name),
        }
        self.clear(path, entry)?;
        create(self.directory(parent)?.touch(), name).on_entry("create", &entry.name)
    }

    /// Makes a symlink, fifo or device.
    pub(super) fn node(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let (kind, device) = match entry.kind {
            Kind::CharacterDevice => (FileType::CharacterDevice, entry.device),
            Kind::BlockDevice => (FileType::BlockDevice, entry.device),
            _ => (FileType::Fifo, (0, 0)),
        };
        let device = rustix::fs::makedev(device.0, device.1);
        self.make(path, entry, |parent, name| match entry.kind {
            Kind::Symlink => rustix::fs::symlinkat(&*entry.link, parent, name),
            _ => rustix::fs::mknodat(parent, name, kind, Mode::empty(), device),
        })?;
        let (parent, name) = split(path);
        let is_used = self.ground() == Ground::Used;
        let parent = self.directory(parent)?.fd();
        if kind == FileType::CharacterDevice && device == 0 && !is_used {
            metadata::set_has_whiteouts(parent, &entry.name)?;
        }
        metadata::apply_at(parent, name, entry)
    }

    /// Makes a directory, or describes one anew that is there.
    pub(super) fn make_directory(&mut self, path: &[u8], entry: &Entry) -> Result<Identity> {
        let (fd, existed) = if path.is_empty() {
            let root = self.directory(path)?.fd();
            (dir::open(root, ".").on_entry("open", &entry.name)?, true)
        } else {
            self.open_or_make(path, entry)?
        };
        let is_used = self.ground() == Ground::Used;
        // As Docker has it: what the archive calls a directory by name is as it says from now on, and
        // the directory that it is unpacked in stays what it is.
        if existed && is_used && clean(&entry.name)?.is_empty() {
            return Ok(self.adopt(path, fd, None)?.identity());
        }
        if existed && !is_used {
            metadata::strip_xattrs(fd.as_fd(), entry)?;
        }
        let stat = rustix::fs::fstat(&fd).on_entry("stat", &entry.name)?;
        metadata::apply(fd.as_fd(), entry, &stat)?;
        Ok(self.adopt(path, fd, Some(entry.mtime))?.identity())
    }

    fn open_or_make(&mut self, path: &[u8], entry: &Entry) -> Result<(OwnedFd, bool)> {
        let (parent, name) = split(path);
        let directory = self.directory(parent)?.touch();
        match rustix::fs::mkdirat(directory, name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            result => {
                result.on_entry("create", &entry.name)?;
                return Ok((
                    dir::open(directory, name).on_entry("open", &entry.name)?,
                    false,
                ));
            }
        }
        match Self::found(directory, name).on_entry("stat", &entry.name)? {
            Some(Found::Directory) => Ok((
                dir::open(directory, name).on_entry("open", &entry.name)?,
                true,
            )),
            Some(Found::Whiteout) => {
                Ok((Self::make_in(directory, name, true, &entry.name)?, false))
            }
            _ if self.ground() == Ground::Used => Err(Error::bad_entry(
                &entry.name,
                "a directory would replace what is none",
            )),
            _ => {
                self.clear(path, entry)?;
                let directory = self.directory(parent)?.touch();
                Ok((Self::make_in(directory, name, false, &entry.name)?, false))
            }
        }
    }

    /// Links `path` to `target`; false if the target is not there (yet).
    pub(super) fn link(&mut self, path: &[u8], target: &[u8], entry: &Entry) -> Result<bool> {
        match self.try_link(path, target)? {
            Linked::Yes => Ok(true),
            Linked::NoTarget => Ok(false),
            Linked::Taken => {
                self.clear(path, entry)?;
                Ok(matches!(self.try_link(path, target)?, Linked::Yes))
            }
        }
    }

    /// Links `path` to `target` unless an entry has made something of that name since.
    pub(super) fn link_unless_taken(&mut self, path: &[u8], target: &[u8]) -> Result<bool> {
        Ok(!matches!(self.try_link(path, target)?, Linked::NoTarget))
    }

    fn try_link(&mut self, path: &[u8], target: &[u8]) -> Result<Linked> {
        let (parent, name) = split(path);
        let (target_parent, target_name) = split(target);
        let Some(source) = self.existing(target_parent)? else {
            return Ok(Linked::NoTarget);
        };
        // A descriptor of its own: making the parent of the link may close the other one.
        let source = dir::open(source.fd(), ".").on_entry("open", path)?;
        let target_name = if target_name.is_empty() {
            b"."
        } else {
            target_name
        };
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let stat = match rustix::fs::statat(&source, target_name, nofollow) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Linked::NoTarget),
            Err(errno) => return Err(Error::entry_io(path, "find the target of the link", errno)),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(Error::bad_entry(path, "a hardlink to a directory"));
        }
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        let is_whiteout = is_device && stat.st_rdev == 0 && self.ground() == Ground::New;
        let directory = self.directory(parent)?;
        match rustix::fs::linkat(
            &source,
            target_name,
            directory.touch(),
            name,
            AtFlags::empty(),
        ) {
            Ok(()) if is_whiteout => {
                metadata::set_has_whiteouts(directory.fd(), path)?;
                Ok(Linked::Yes)
            }
            Ok(()) => Ok(Linked::Yes),
            Err(Errno::NOENT) => Ok(Linked::NoTarget),
            Err(Errno::EXIST) => {
                let there =
                    rustix::fs::statat(directory.fd(), name, nofollow).on_entry("stat", path)?;
                let same = (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino);
                Ok(if same { Linked::Yes } else { Linked::Taken })
            }
            Err(errno) => Err(Error::entry_io(path, "link", errno)),
        }
    }

    /// Hides a name of the layers below. What this layer itself has under that name stays; a
    /// directory of it then hides what is below.
    pub(super) fn white_out(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let (parent, name) = split(path);
        let parent = self.directory(parent)?.touch();
        let kind = FileType::CharacterDevice;
        match rustix::fs::mknodat(parent, name, kind, Mode::empty(), 0) {
            Err(Errno::EXIST) => {}
            result => {
                result.on_entry("create", &entry.name)?;
                return metadata::set_has_whiteouts(parent, &entry.name);
            }
        }
        if Self::found(parent, name).on_entry("stat", &entry.name)? == Some(Found::Directory) {
            let fd = dir::open(parent, name).on_entry("open", &entry.name)?;
            metadata::set_opaque(fd.as_fd(), &entry.name)?;
        }
        Ok(())
    }

    pub(super) fn mark_opaque(&mut self, directory: &[u8], entry: &Entry) -> Result<()> {
        metadata::set_opaque(self.directory(directory)?.fd(), &entry.name)
    }

    /// Sets a default ACL on a directory, if it is one still and no symlink has taken its place.
    pub(super) fn set_default_acl(
        &mut self,
        path: &[u8],
        identity: Identity,
        value: &[u8],
    ) -> Result<()> {
        let fd = match self.resolve(path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => return Ok(()),
            result => result.on_entry("open the directory", path)?,
        };
        if dir::identity(&fd).on_entry("stat", path)? != identity {
            return Ok(());
        }
        metadata::set_default_acl(fd.as_fd(), path, value)
    }
}

/// How an attempt to link went.
enum Linked {
    Yes,
    NoTarget,
    Taken,
}
