//! A directory tree as a tar, in one canonical way.
//!
//! ```text
//! ./  bin  etc/  etc/fstab ...     names sorted by their bytes, a directory before what is in it
//! ```
//!
//! Owners are numbers, times are the files' own, nothing says where or when it was packed. Each file
//! is opened by descriptor without following a symlink. Three kinds of trees are told apart by
//! [`Tree`]: one that stays as it is, the changes of an overlay, and one that somebody is using.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;

use crate::archive::sparse::{MOST_SEGMENTS, Segment, SparseMap};
use crate::archive::{Entry, Kind, LONGEST_NAME, writer};
use crate::dir;
use crate::error::{Context, Error, Result, show};
use crate::import::{Progress, Warning};
use crate::names::Names;
use crate::time::Time;
use crate::xattr::{self, Attributes};

/// Hardlinked files whose other names have not come yet: about 100 bytes each.
const MOST_LINKS: usize = 200_000;
/// Zeros count as a hole from here on, in files at least this long.
const HOLE: usize = 64 << 10;
const SPARSE_FROM: u64 = 1 << 20;
static ZEROS: [u8; HOLE] = [0; HOLE];
const COPY_BUFFER: usize = 256 << 10;
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

/// Where the tar goes.
pub(crate) type Out<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Packs a tree, its root as `./`, without the paths in `leave_out`.
pub(crate) fn pack(
    root: OwnedFd,
    tree: Tree,
    leave_out: BTreeSet<Vec<u8>>,
    out: Out<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut packer = Packer {
        leave_out,
        ..Packer::new(tree, out, progress)
    };
    packer.root(root)?;
    packer.end()
}

/// Packs a tree that may be in use, mounts and all, into a tar whose root is `./`: what goes while it
/// is packed is left out, and a file that changes has the size that it had at first.
pub fn pack_tree(root: OwnedFd, out: &mut dyn Write, warn: &mut dyn FnMut(Warning)) -> Result<()> {
    pack_with(Tree::Used, out, warn, |packer| packer.root(root))
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
    pack_with(Tree::Used, out, warn, |packer| {
        match packer.one(parent, name, as_name)? {
            Some(directory) => packer.below(directory, [as_name, b"/"].concat()),
            None => Ok(()),
        }
    })
}

/// Writes what `pack` packs, and the end of the archive.
pub(crate) fn pack_with(
    tree: Tree,
    out: &mut dyn Write,
    warn: &mut dyn FnMut(Warning),
    pack: impl FnOnce(&mut Packer<'_>) -> Result<()>,
) -> Result<()> {
    let mut out = |bytes: &[u8]| {
        let written = out.write_all(bytes);
        written.on("write", || "the archive".to_owned())
    };
    let mut progress = |progress| {
        if let Progress::Warning(warning) = progress {
            warn(warning);
        }
    };
    let mut packer = Packer::new(tree, &mut out, &mut progress);
    pack(&mut packer)?;
    packer.end()
}

pub(crate) struct Packer<'a> {
    tree: Tree,
    leave_out: BTreeSet<Vec<u8>>,
    out: Out<'a>,
    /// Bytes of tar so far.
    size: u64,
    progress: &'a mut dyn FnMut(Progress),
    /// The first name of each file that has more names to come, and how many.
    links: HashMap<(u64, u64), (Vec<u8>, u64)>,
    entries: u64,
    buffer: Vec<u8>,
}

/// A directory that is being packed.
struct Level {
    fd: OwnedFd,
    /// With a slash at its end; empty for the root.
    path: Vec<u8>,
    names: Names,
}

impl<'a> Packer<'a> {
    fn new(tree: Tree, out: Out<'a>, progress: &'a mut dyn FnMut(Progress)) -> Self {
        Self {
            tree,
            leave_out: BTreeSet::new(),
            out,
            size: 0,
            progress,
            links: HashMap::new(),
            entries: 0,
            buffer: vec![0; COPY_BUFFER],
        }
    }

    fn root(&mut self, root: OwnedFd) -> Result<()> {
        let stat = rustix::fs::fstat(&root).on_entry("stat", b".")?;
        let mut entry = described(b"./", Kind::Directory, &stat);
        entry.xattrs = packed(xattr::of_open(&root, b".", xattr::belongs_in_layer)?, b".")?;
        self.emit(&entry)?;
        self.below(root, Vec::new())
    }

    fn end(&mut self) -> Result<()> {
        self.write(&writer::END)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        (self.out)(bytes)
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
                self.warn(Warning::SkippedSocket { path: show(path) });
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
            self.emit(&entry)?;
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
            self.emit(&entry)?;
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
            self.warn(Warning::SkippedMount { path: show(path) });
            self.emit(&mount_point(&slash, Kind::Directory, stat))?;
            return Ok(None);
        };
        let stat = rustix::fs::fstat(&fd).on_entry("stat", path)?;
        let mut entry = described(&slash, Kind::Directory, &stat);
        entry.xattrs = packed(xattr::of_open(&fd, path, xattr::belongs_in_layer)?, path)?;
        self.emit(&entry)?;
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
        self.emit(&entry)
    }

    fn file(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8], seen: &Stat) -> Result<()> {
        let flags = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC
            | OFlags::NOATIME;
        let Some(fd) = self.open_here(parent, name, flags).on_entry("open", path)? else {
            self.warn(Warning::SkippedMount { path: show(path) });
            return self.emit(&mount_point(path, Kind::File, seen));
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
        self.data(&mut file, entry)?;
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

    /// A file's entry and its data, `stored` being its size. Long runs of zeros become holes.
    pub(crate) fn data(&mut self, file: &mut File, mut entry: Entry) -> Result<()> {
        let path = entry.name.clone();
        entry.sparse = self.holes(file, entry.stored, &path)?;
        let whole = [Segment {
            offset: 0,
            length: entry.stored,
        }];
        if let Some(map) = &entry.sparse {
            entry.stored = map.segments.iter().map(|segment| segment.length).sum();
        }
        self.emit(&entry)?;
        let segments = entry
            .sparse
            .as_ref()
            .map_or(&whole[..], |map| &map.segments);
        for segment in segments {
            self.copy(file, *segment, &path)?;
        }
        self.write(&ZEROS[..writer::padding(entry.stored)])
    }

    /// A file that is not what it was when it was looked at.
    fn changed(&mut self, path: &[u8]) -> Result<()> {
        if self.tree != Tree::Used {
            return Err(changed(path));
        }
        self.warn(Warning::Changed { path: show(path) });
        Ok(())
    }

    fn copy(&mut self, file: &mut File, segment: Segment, path: &[u8]) -> Result<()> {
        rustix::fs::seek(&*file, SeekFrom::Start(segment.offset)).on_entry("seek in", path)?;
        let mut left = segment.length;
        while left > 0 {
            let wanted = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = file
                .read(&mut self.buffer[..wanted])
                .on_entry("read", path)?;
            if read == 0 && self.tree == Tree::Used {
                return self.zeros(left);
            }
            if read == 0 {
                return Err(changed(path));
            }
            self.size += read as u64;
            (self.out)(&self.buffer[..read])?;
            left -= read as u64;
        }
        Ok(())
    }

    /// In the place of what a file has no more.
    pub(crate) fn zeros(&mut self, mut left: u64) -> Result<()> {
        while left > 0 {
            let length = left.min(HOLE as u64);
            self.write(&ZEROS[..usize::try_from(length).expect("a block")])?;
            left -= length;
        }
        Ok(())
    }

    /// Where a long file has data. Holes are what is zero in blocks of [`HOLE`], not what the
    /// filesystem has not allocated: a copy may have other holes, and must pack the same.
    fn holes(&mut self, file: &mut File, size: u64, path: &[u8]) -> Result<Option<SparseMap>> {
        if size < SPARSE_FROM || self.tree == Tree::Used {
            return Ok(None);
        }
        let mut segments: Vec<Segment> = Vec::new();
        let mut at = 0;
        while at < size {
            // Real holes are skipped unread: a sparse file may be larger than any disk.
            at = match rustix::fs::seek(&*file, SeekFrom::Data(at)) {
                Ok(data) => data - data % HOLE as u64,
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL) => at,
                Err(errno) => return Err(Error::entry_io(path, "seek in", errno)),
            };
            rustix::fs::seek(&*file, SeekFrom::Start(at)).on_entry("seek in", path)?;
            let read = read_full(file, &mut self.buffer).on_entry("read", path)?;
            if read == 0 {
                return Err(changed(path));
            }
            for block in self.buffer[..read].chunks(HOLE) {
                let length = block.len() as u64;
                if block != &ZEROS[..block.len()] {
                    match segments.last_mut() {
                        Some(last) if last.offset + last.length == at => last.length += length,
                        _ => segments.push(Segment { offset: at, length }),
                    }
                }
                at += length;
            }
            if segments.len() > MOST_SEGMENTS {
                return Ok(None);
            }
        }
        let data: u64 = segments.iter().map(|segment| segment.length).sum();
        // One that grows while it is read is found out after it is packed.
        let worth_it = data < size && data <= size - size.min(SPARSE_FROM / 2);
        if !worth_it {
            return Ok(None);
        }
        // GNU tar ends the map where the file ends, with an empty segment.
        if segments
            .last()
            .is_none_or(|last| last.offset + last.length < size)
        {
            segments.push(Segment {
                offset: size,
                length: 0,
            });
        }
        Ok(Some(SparseMap {
            segments,
            real_size: size,
        }))
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

    pub(crate) fn emit(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        self.write(&writer::headers(entry))?;
        let (entries, bytes) = (self.entries, self.size);
        (self.progress)(Progress::Packing { entries, bytes });
        Ok(())
    }

    pub(crate) fn warn(&mut self, warning: Warning) {
        (self.progress)(Progress::Warning(warning));
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

fn read_full(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
