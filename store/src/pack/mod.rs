//! A directory tree as a tar, in one canonical way.
//!
//! ```text
//! ./  bin  etc/  etc/fstab ...     names sorted by their bytes, a directory before what is in it
//! ```
//!
//! Owners are numbers, times are the files' own, nothing says where or when it was packed. Each file
//! is opened by descriptor without following a symlink. Three kinds of trees are told apart by
//! [`Tree`]: one that stays as it is, the changes of an overlay, and one that somebody is using.

mod tar;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::archive::{Entry, Kind, LONGEST_NAME};
use crate::dir;
use crate::error::{Context, Error, Result, show};
use crate::import::{Progress, Warning};
use crate::names::Names;
use crate::time::Time;
use crate::xattr::{self, Attributes};

pub(crate) use tar::{Files, Out, Tar, write_tar};

/// Hardlinked files whose other names have not come yet: about 100 bytes each.
const MOST_LINKS: usize = 200_000;
/// Hides what the layers below have in a directory.
const OPAQUE: &str = ".wh..wh..opq";
/// What overlayfs writes where a file's data or a directory's content is still in a lower layer: a
/// mount with `metacopy` or `redirect_dir`. No layer can say that.
const ELSEWHERE: [&str; 2] = ["trusted.overlay.metacopy", "trusted.overlay.redirect"];

/// What is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    /// A tree that nobody changes: what changes while it is read is an error. What is mounted in it
    /// is not part of it.
    Still,
    /// The upper directory of an overlay that nobody changes: its marks become those of a layer (OCI
    /// image-spec, layer.md "Whiteouts").
    Upper,
    /// A tree in use, mounts and all: what goes while it is packed is left out, and a file that
    /// changes has the size that it had at first.
    Used,
}

impl Tree {
    fn files(self) -> Files {
        match self {
            Self::Still | Self::Upper => Files::Stay,
            Self::Used => Files::Change,
        }
    }
}

/// Packs a tree, its root as `./`, without the paths in `leave_out`.
pub(crate) fn pack(
    root: OwnedFd,
    tree: Tree,
    leave_out: BTreeSet<Vec<u8>>,
    out: Out<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut tar = Tar::new(tree.files(), out, progress);
    let mut packer = Packer {
        leave_out,
        ..Packer::new(tree, &mut tar)
    };
    packer.root(root)?;
    tar.end()
}

/// Packs a tree that may be in use, mounts and all, into a tar whose root is `./`: what goes while it
/// is packed is left out, and a file that changes has the size that it had at first.
pub fn pack_tree(root: OwnedFd, out: &mut dyn Write, warn: &mut dyn FnMut(Warning)) -> Result<()> {
    write_tar(Files::Change, out, warn, |tar| {
        Packer::new(Tree::Used, tar).root(root)
    })
}

/// As [`pack_tree`], what has a name in a directory: a file, or a directory with all that is in it.
/// In the tar it is `as_name`.
pub fn pack_named(
    parent: &OwnedFd,
    name: &[u8],
    as_name: &[u8],
    out: &mut dyn Write,
    warn: &mut dyn FnMut(Warning),
) -> Result<()> {
    write_tar(Files::Change, out, warn, |tar| {
        let mut packer = Packer::new(Tree::Used, tar);
        match packer.one(parent, name, as_name)? {
            Some(directory) => packer.below(directory, [as_name, b"/"].concat()),
            None => Ok(()),
        }
    })
}

/// A tree on its way into a tar.
struct Packer<'a, 'b> {
    tree: Tree,
    tar: &'a mut Tar<'b>,
    leave_out: BTreeSet<Vec<u8>>,
    /// The first name of each file that has more names to come, and how many.
    links: HashMap<(u64, u64), (Vec<u8>, u64)>,
}

/// A directory that is being packed.
struct Level {
    fd: OwnedFd,
    /// With a slash at its end; empty for the root.
    path: Vec<u8>,
    names: Names,
}

impl<'a, 'b> Packer<'a, 'b> {
    fn new(tree: Tree, tar: &'a mut Tar<'b>) -> Self {
        Self {
            tree,
            tar,
            leave_out: BTreeSet::new(),
            links: HashMap::new(),
        }
    }

    fn root(&mut self, root: OwnedFd) -> Result<()> {
        let stat = rustix::fs::fstat(&root).on_entry("stat", b".")?;
        let mut entry = described(b"./", Kind::Directory, &stat);
        entry.xattrs = packed(xattr::of_open(&root, b".", xattr::belongs_in_layer)?, b".")?;
        self.tar.emit(&entry)?;
        self.below(root, Vec::new())
    }

    /// Everything below a directory, without recursion: a tree may be deep.
    fn below(&mut self, root: OwnedFd, path: Vec<u8>) -> Result<()> {
        let mut levels = vec![Level {
            names: Names::of(&root, b".")?,
            fd: root,
            path,
        }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let path = [&level.path[..], name].concat();
            if self.leave_out.contains(&path) {
                continue;
            }
            check_name(&path, name, self.tree)?;
            let name = name.to_vec();
            let directory = match self.one(&level.fd, &name, &path) {
                Err(error) if self.tree == Tree::Used && has_gone(&error) => continue,
                directory => directory?,
            };
            if let Some(fd) = directory {
                let names = Names::of(&fd, &path)?;
                levels.push(Level {
                    fd,
                    path: [&path[..], b"/"].concat(),
                    names,
                });
            }
        }
        Ok(())
    }

    /// Packs one name; the open directory if it is one to go down into.
    fn one(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Option<OwnedFd>> {
        let stat =
            rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).on_entry("stat", path)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.directory(parent, name, path, &stat),
            FileType::Socket => {
                self.tar.warn(Warning::SkippedSocket { path: show(path) });
                return Ok(None);
            }
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice if stat.st_rdev == 0 && self.tree == Tree::Upper => {
                return self.mark(path, name, &stat).map(|()| None);
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                let reason = "a character device 0:0 marks what an overlay has deleted";
                return Err(Error::bad_entry(path, reason));
            }
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Unknown => return Err(Error::bad_entry(path, "a file of no known type")),
        };
        if let Some(first) = self.known_link(&stat, path)? {
            let mut entry = described(path, Kind::Hardlink, &stat);
            entry.link = first;
            self.tar.emit(&entry)?;
        } else if kind == Kind::File {
            self.file(parent, name, path, &stat)?;
        } else {
            let mut entry = described(path, kind, &stat);
            entry.xattrs = packed(
                xattr::of_name(parent, name, path, xattr::belongs_in_layer)?,
                path,
            )?;
            if kind == Kind::Symlink {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())
                    .on_entry("read the symlink", path)?;
                entry.link = target.into_bytes();
            }
            self.tar.emit(&entry)?;
        }
        Ok(None)
    }

    fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
    ) -> Result<Option<OwnedFd>> {
        let flags = dir::OPEN_DIR | OFlags::NOATIME;
        let slash = [path, b"/"].concat();
        let Some(fd) = self.open_here(parent, name, flags).on_entry("open", path)? else {
            self.tar.warn(Warning::SkippedMount { path: show(path) });
            self.tar.emit(&mount_point(&slash, Kind::Directory, stat))?;
            return Ok(None);
        };
        let stat = rustix::fs::fstat(&fd).on_entry("stat", path)?;
        let mut entry = described(&slash, Kind::Directory, &stat);
        entry.xattrs = packed(xattr::of_open(&fd, path, xattr::belongs_in_layer)?, path)?;
        self.tar.emit(&entry)?;
        if self.tree == Tree::Upper && is_opaque(&fd, path)? {
            self.mark(&[&slash, OPAQUE.as_bytes()].concat(), b"", &stat)?;
        }
        Ok(Some(fd))
    }

    /// An empty file that says something of the layers below: that `name` at the end of `path` is not
    /// to be seen.
    fn mark(&mut self, path: &[u8], name: &[u8], stat: &Stat) -> Result<()> {
        let parent = &path[..path.len() - name.len()];
        let path = match name {
            b"" => path.to_vec(),
            name => [parent, b".wh.", name].concat(),
        };
        let entry = Entry {
            mode: 0,
            uid: 0,
            gid: 0,
            device: (0, 0),
            ..described(&path, Kind::File, stat)
        };
        self.tar.emit(&entry)
    }

    fn file(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8], seen: &Stat) -> Result<()> {
        let flags = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC
            | OFlags::NOATIME;
        let Some(fd) = self.open_here(parent, name, flags).on_entry("open", path)? else {
            self.tar.warn(Warning::SkippedMount { path: show(path) });
            return self.tar.emit(&mount_point(path, Kind::File, seen));
        };
        let mut file = File::from(fd);
        let before = rustix::fs::fstat(&file).on_entry("stat", path)?;
        if (before.st_dev, before.st_ino) != (seen.st_dev, seen.st_ino) {
            return self.changed(path);
        }
        if self.tree == Tree::Upper {
            refuse_elsewhere(&file, path)?;
        }
        let mut entry = described(path, Kind::File, &before);
        entry.xattrs = packed(xattr::of_open(&file, path, xattr::belongs_in_layer)?, path)?;
        entry.stored = u64::try_from(before.st_size).unwrap_or(0);
        self.tar.data(&mut file, entry)?;
        let after = rustix::fs::fstat(&file).on_entry("stat", path)?;
        let version = |stat: &Stat| {
            (
                stat.st_size,
                stat.st_mtime,
                stat.st_mtime_nsec,
                stat.st_ctime,
                stat.st_ctime_nsec,
            )
        };
        if version(&before) == version(&after) {
            Ok(())
        } else {
            self.changed(path)
        }
    }

    /// A file that is not what it was when it was looked at.
    fn changed(&mut self, path: &[u8]) -> Result<()> {
        if self.tree != Tree::Used {
            return Err(changed(path));
        }
        self.tar.warn(Warning::Changed { path: show(path) });
        Ok(())
    }

    /// The name a file with several names was packed under, if it was.
    fn known_link(&mut self, stat: &Stat, path: &[u8]) -> Result<Option<Vec<u8>>> {
        if stat.st_nlink < 2 {
            return Ok(None);
        }
        let key = (stat.st_dev, stat.st_ino);
        if let Some((first, left)) = self.links.get_mut(&key) {
            *left -= 1;
            let (first, done) = (first.clone(), *left == 0);
            if done {
                self.links.remove(&key);
            }
            return Ok(Some(first));
        }
        if self.links.len() == MOST_LINKS {
            let reason = format!("more than {MOST_LINKS} files whose hardlinks are still to come");
            return Err(Error::bad_entry(path, reason));
        }
        self.links
            .insert(key, (path.to_vec(), u64::from(stat.st_nlink as u32) - 1));
        Ok(None)
    }

    /// Opens a name without following a symlink; `None` if something is mounted on it that is not
    /// part of the tree.
    fn open_here(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        flags: OFlags,
    ) -> Result<Option<OwnedFd>, Errno> {
        if self.tree != Tree::Used {
            return open_here(parent, name, flags, ResolveFlags::NO_XDEV);
        }
        let Some(fd) = open_here(parent, name, flags, ResolveFlags::empty())? else {
            return Ok(None);
        };
        let kind = rustix::fs::fstatfs(&fd)?.f_type;
        Ok((!OF_THE_KERNEL.contains(&(kind as i64))).then_some(fd))
    }
}

/// File systems whose files are the kernel's answers and not anybody's data: proc, sysfs, cgroups,
/// devpts, mqueue (statfs(2)). To read them would not end.
const OF_THE_KERNEL: [i64; 6] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x1980_0202,
];

/// Whether a directory of an upper directory hides what is below it.
fn is_opaque(fd: &OwnedFd, path: &[u8]) -> Result<bool> {
    refuse_elsewhere(fd, path)?;
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(fd, "trusted.overlay.opaque", &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(Error::entry_io(path, "read an attribute of", errno)),
    }
}

fn refuse_elsewhere(fd: impl AsFd, path: &[u8]) -> Result<()> {
    for name in ELSEWHERE {
        match rustix::fs::fgetxattr(&fd, name, &mut [0_u8; 0]) {
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(Errno::RANGE) | Ok(_) => {
                let reason = format!("overlayfs has marked it with {name}, which no layer can say");
                return Err(Error::bad_entry(path, reason));
            }
            Err(errno) => return Err(Error::entry_io(path, "read an attribute of", errno)),
        }
    }
    Ok(())
}

/// An entry with a file's metadata, but without what only some kinds have.
fn described(path: &[u8], kind: Kind, stat: &Stat) -> Entry {
    let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
    let device = if is_device { stat.st_rdev } else { 0 };
    Entry {
        name: path.to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time::of_modification(stat),
        link: Vec::new(),
        device: (rustix::fs::major(device), rustix::fs::minor(device)),
        xattrs: Vec::new(),
        sparse: None,
        stored: 0,
    }
}

/// The attributes, if a tar can hold them.
pub(crate) fn packed(attributes: Attributes, path: &[u8]) -> Result<Attributes> {
    if attributes.iter().any(|(name, _)| name.contains(&b'=')) {
        let reason = "an extended attribute with = in its name, which no tar can hold";
        return Err(Error::bad_entry(path, reason));
    }
    Ok(attributes)
}

/// A name that something is mounted on: what is below cannot be seen. The time of what is above
/// would be that of the mount.
fn mount_point(path: &[u8], kind: Kind, stat: &Stat) -> Entry {
    Entry {
        mtime: Time::default(),
        ..described(path, kind, stat)
    }
}

/// Opens a name without following a symlink; `None` if it is on another mount, with `NO_XDEV`.
pub(crate) fn open_here(
    parent: &OwnedFd,
    name: &[u8],
    flags: OFlags,
    more: ResolveFlags,
) -> Result<Option<OwnedFd>, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | more;
    match rustix::fs::openat2(parent, name, flags, Mode::empty(), how) {
        Err(Errno::XDEV) => Ok(None),
        // A rename anywhere on the machine, openat2(2) asks to try again.
        Err(Errno::AGAIN | Errno::INTR) => open_here(parent, name, flags, more),
        // Only the owner may leave the access time alone.
        Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => {
            open_here(parent, name, flags.difference(OFlags::NOATIME), more)
        }
        result => result.map(Some),
    }
}

/// Whether what had the name has gone, or something else has come in its place.
fn has_gone(error: &Error) -> bool {
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].map(|errno| Some(errno.raw_os_error()));
    matches!(error, Error::EntryIo { source, .. } if gone.contains(&source.raw_os_error()))
}

fn changed(path: &[u8]) -> Error {
    Error::bad_entry(path, "it changed while it was read")
}

fn check_name(path: &[u8], name: &[u8], tree: Tree) -> Result<()> {
    if name.starts_with(b".wh.") && tree != Tree::Used {
        return Err(Error::bad_entry(
            path,
            "a name that begins with .wh. means a deletion in a layer",
        ));
    }
    // A directory's name gets a slash.
    if path.len() >= LONGEST_NAME {
        return Err(Error::bad_entry(
            path,
            format!("a path longer than {LONGEST_NAME} bytes"),
        ));
    }
    Ok(())
}
