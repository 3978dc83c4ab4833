//! What the upper directory of an overlay changes of the image below it.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, Stat};

use super::content::FileContent;
use super::{Difference, How, Merged, Node, OPAQUE, below, in_order};
use crate::dir;
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::layer::listing::entry::{Inode, Kind};
use crate::layout::Store;
use crate::names::Names;
use crate::object;
use crate::time::Time;
use crate::xattr;

/// The changes of a container.
#[derive(Debug, Default)]
pub struct Changes {
    /// By path, without the root itself. A directory in which something is different is changed.
    pub differences: Vec<Difference>,
    /// The paths that are there for a mount alone, and so are no changes.
    pub mount_points: BTreeSet<Vec<u8>>,
}

impl Store {
    /// What an overlay's upper directory does to an image. Of the paths in `mount_points` those are
    /// left out which the image does not have and which hold nothing.
    pub fn changes(&self, image: &Image, upper: &Path, mount_points: &[&str]) -> Result<Changes> {
        let merged = self.merged(image)?;
        let root = dir::open_path(upper).on_path("open", upper)?;
        let mut walk = Walk {
            merged,
            expected: mount_points.iter().map(|path| path.as_bytes()).collect(),
            changes: Changes::default(),
        };
        walk.tree(root)?;
        Ok(walk.finish())
    }
}

struct Walk<'a> {
    merged: Merged,
    expected: BTreeSet<&'a [u8]>,
    changes: Changes,
}

/// A directory on the way.
struct Level {
    fd: OwnedFd,
    /// With a slash at its end; empty for the root.
    path: Vec<u8>,
    names: Names,
}

impl Walk<'_> {
    fn tree(&mut self, root: OwnedFd) -> Result<()> {
        let mut levels = vec![Level {
            names: Names::of(&root, b".")?,
            fd: root,
            path: Vec::new(),
        }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let name = name.to_vec();
            let path = [&level.path[..], &name].concat();
            if let Some(fd) = self.one(&level.fd, &name, &path)? {
                levels.push(Level {
                    names: Names::of(&fd, &path)?,
                    fd,
                    path: [&path[..], b"/"].concat(),
                });
            }
        }
        Ok(())
    }

    /// Lays one name over the image; the open directory if it is one.
    fn one(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Option<OwnedFd>> {
        let stat =
            rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).on_entry("stat", path)?;
        let directory = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let fd = rustix::fs::openat(parent, name, dir::OPEN_DIR, Mode::empty());
                Some(fd.on_entry("open", path)?)
            }
            _ => None,
        };
        if self.is_mount_point(path, directory.as_ref(), &stat)? {
            self.changes.mount_points.insert(path.to_vec());
            return Ok(None);
        }
        let mut inode = Inode {
            kind: kind(parent, name, path, &stat)?,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time::of_modification(&stat),
            xattrs: xattr::of_name(parent, name, path, counts)?,
        };
        if let Some(before) = self.merged.0.get(path)
            && self.holds_mount_point(path)
        {
            // That one was made in it is no change of the container's.
            inode.mtime = before.inode.mtime;
        }
        let node = Node {
            content: FileContent::None,
            bytes: object::allocated(&stat),
            inode,
        };
        let differences = &mut self.changes.differences;
        self.merged.lay(path.to_vec(), node, differences)?;
        Ok(directory)
    }

    fn is_mount_point(
        &self,
        path: &[u8],
        directory: Option<&OwnedFd>,
        stat: &Stat,
    ) -> Result<bool> {
        if !self.expected.contains(path) || self.merged.0.contains_key(path) {
            return Ok(false);
        }
        match directory {
            None => Ok(stat.st_size == 0),
            Some(fd) => Ok(Names::of(fd, path)?.next().is_none()),
        }
    }

    fn holds_mount_point(&self, path: &[u8]) -> bool {
        let prefix = below(path);
        let missing = |point: &&&[u8]| {
            point.starts_with(&prefix)
                && !point[prefix.len()..].contains(&b'/')
                && !self.merged.0.contains_key(**point)
        };
        self.expected.iter().any(|point| missing(&point))
    }

    fn finish(mut self) -> Changes {
        self.without_bare_parents();
        self.with_parents();
        let differences = std::mem::take(&mut self.changes.differences);
        self.changes.differences = in_order(differences);
        self.changes
    }

    /// Directories that were made for a mount point.
    fn without_bare_parents(&mut self) {
        let Changes {
            differences,
            mount_points,
        } = &mut self.changes;
        loop {
            let bare = differences.iter().position(|one| {
                let prefix = below(&one.path);
                let holds = |path: &[u8]| path.starts_with(&prefix);
                one.how == How::Added
                    && one.what == Kind::Directory.name()
                    && mount_points.iter().any(|path| holds(path))
                    && !differences.iter().any(|other| holds(&other.path))
            });
            let Some(bare) = bare else { return };
            mount_points.insert(differences.remove(bare).path);
        }
    }

    /// Each directory above a difference is changed, whatever it is itself.
    fn with_parents(&mut self) {
        let differences = &mut self.changes.differences;
        let mut known: BTreeSet<Vec<u8>> = differences.iter().map(|one| one.path.clone()).collect();
        let mut parents = Vec::new();
        for one in differences.iter() {
            let slashes = one
                .path
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'/');
            for (slash, _) in slashes {
                let parent = &one.path[..slash];
                if known.insert(parent.to_vec()) {
                    let bytes = self.merged.0.get(parent).map_or(0, |node| node.bytes);
                    parents.push(Difference {
                        path: parent.to_vec(),
                        how: How::Changed,
                        what: Kind::Directory.name(),
                        before: bytes,
                        after: bytes,
                    });
                }
            }
        }
        differences.append(&mut parents);
    }
}

/// Overlayfs's own attributes are no changes, but for what makes a directory opaque.
fn counts(name: &[u8]) -> bool {
    name == OPAQUE || xattr::belongs_in_layer(name)
}

fn kind(parent: &OwnedFd, name: &[u8], path: &[u8], stat: &Stat) -> Result<Kind> {
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => {
            FileContent::known_elsewhere(u64::try_from(stat.st_size).unwrap_or(0))
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(parent, name, Vec::new());
            Kind::Symlink(target.on_entry("read the symlink", path)?.into_bytes())
        }
        FileType::CharacterDevice => Kind::CharacterDevice { major, minor },
        FileType::BlockDevice => Kind::BlockDevice { major, minor },
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return Err(Error::bad_entry(path, "a file of no known type")),
    })
}
