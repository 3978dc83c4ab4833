//! An empty volume starts as a copy of what the image has in its place: owner, mode, content.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, SeekFrom, Stat,
    Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::fs::{
    chmodat, chownat, fchmod, fchown, fgetxattr, flistxattr, flock, fsetxattr, fstat, futimens,
    linkat, makedev, mkdirat, mknodat, openat, readlinkat, renameat, renameat_with, seek, statat,
    symlinkat, syncfs, utimensat,
};
use rustix::io::Errno;

use crate::kernel::file::gone;
use crate::kernel::root::{MakeAs, Root};
use crate::kernel::{Context, Result};
use crate::plan::{RunPlan, Volume};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Gets each volume ready, before it is mounted over what the image has in its place.
///
/// An empty one gets a copy of that, at a moment when no other container's start does the same:
///
/// ```text
/// image's directory --copy--> fill --flush, rename--> filled --entry by entry--> data
/// ```
/// Killed before the rename, it has done nothing, and the next start copies anew. Killed after it, the
/// next start moves the rest, whatever it has mounted there itself.
///
/// A container does that once, as with Docker: what it has emptied since stays empty.
pub(super) fn fill(plan: &RunPlan, root: &Root) -> Result<()> {
    let filled = plan.files.filled();
    let is_first = !filled.exists();
    for volume in &plan.volumes {
        let _lock = lock(volume)?;
        finish(volume)?;
        discard(&volume.fill())?;
        if volume.copies && is_first {
            copy_of_image(volume, root)?;
        }
    }
    if is_first && plan.volumes.iter().any(|volume| volume.copies) {
        File::create(&filled).on_path("make", &filled)?;
    }
    Ok(())
}

/// Waits until nobody else fills the volume. The lock goes with the descriptor.
fn lock(volume: &Volume) -> Result<OwnedFd> {
    let dir = open_directory(&volume.dir)?;
    flock(&dir, FlockOperation::LockExclusive).on_path("lock", &volume.dir)?;
    Ok(dir)
}

fn copy_of_image(volume: &Volume, root: &Root) -> Result<()> {
    let (data, fill) = (volume.data(), volume.fill());
    let to = open_directory(&data)?;
    if !is_empty(to.as_fd(), &data)? {
        return Ok(());
    }
    let (found, made) = root.open_or_make(&volume.destination, MakeAs::Directory)?;
    if made {
        return Ok(());
    }
    let from = openat(&found, ".", DIRECTORY, Mode::empty())
        .on_path("open volume", &volume.destination)?;
    if is_empty(from.as_fd(), &volume.destination)? {
        let stat = fstat(&from).on_path("stat", &volume.destination)?;
        return adopt_attributes(from.as_fd(), &stat, to.as_fd(), &data);
    }
    mkdirat(CWD, &fill, Mode::from_raw_mode(0o700)).on_path("make", &fill)?;
    let copy = open_directory(&fill)?;
    let mut links = Links {
        root: copy.as_fd(),
        place: &volume.destination,
        seen: HashMap::new(),
    };
    copy_content(from.as_fd(), copy.as_fd(), &volume.destination, &mut links)?;
    let stat = fstat(&from).on_path("stat", &volume.destination)?;
    copy_attributes(from.as_fd(), &stat, copy.as_fd(), &volume.destination)?;
    if volume.lasts {
        // Else a power cut could leave its names without their content.
        syncfs(&copy).on_path("flush", &fill)?;
    }
    renameat(CWD, &fill, CWD, volume.filled()).on_path("rename", &fill)?;
    finish(volume)
}

/// Moves into the volume what a whole copy has that is not there yet.
fn finish(volume: &Volume) -> Result<()> {
    let filled = volume.filled();
    let from = match rustix::fs::open(&filled, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        from => from.on_path("open", &filled)?,
    };
    let data = volume.data();
    let to = open_directory(&data)?;
    // Its own time changes with each entry that is moved out of it.
    let stat = fstat(&from).on_path("stat", &filled)?;
    for name in names_in(from.as_fd(), &filled)? {
        let name = name.as_c_str();
        match renameat_with(&from, name, &to, name, RenameFlags::NOREPLACE) {
            // Another container has made one of its own meanwhile.
            Err(Errno::EXIST) => {}
            moved => moved.on_path("move to", data.join(name.to_string_lossy().as_ref()))?,
        }
    }
    adopt_attributes(from.as_fd(), &stat, to.as_fd(), &data)?;
    discard(&filled)
}

/// Owner, mode and the like of the image's directory, unless somebody has given the volume others.
fn adopt_attributes(
    from: BorrowedFd<'_>,
    stat: &Stat,
    to: BorrowedFd<'_>,
    path: &Path,
) -> Result<()> {
    let own = fstat(to).on_path("stat", path)?;
    let is_as_made = (own.st_uid, own.st_gid, own.st_mode & 0o7777) == (0, 0, 0o755);
    if is_as_made {
        copy_attributes(from, stat, to, path)?;
    }
    Ok(())
}

/// Removes a directory of copies, if it is there.
fn discard(path: &Path) -> Result<()> {
    gone(std::fs::remove_dir_all(path)).on_path("remove", path)
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty()).on_path("open", path)
}

fn is_empty(directory: BorrowedFd<'_>, path: &Path) -> Result<bool> {
    Ok(names_in(directory, path)?.is_empty())
}

fn names_in(directory: BorrowedFd<'_>, path: &Path) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).on_path("list", path)? {
        let entry = entry.on_path("list", path)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Files of several names, as they are copied: one of them is, the others are links to it.
struct Links<'a> {
    /// The copy's own top.
    root: BorrowedFd<'a>,
    /// Where what is copied lies in the container.
    place: &'a Path,
    /// Device and inode in the image, and the first name in the copy.
    seen: HashMap<(u64, u64), PathBuf>,
}

impl Links<'_> {
    /// Makes `name` a link to the copy of the same file, if there is one yet.
    fn link(&mut self, stat: &Stat, to: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<bool> {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory || stat.st_nlink < 2 {
            return Ok(false);
        }
        let Some(first) = self.seen.get(&(stat.st_dev, stat.st_ino)) else {
            let inside = path.strip_prefix(self.place).unwrap_or(path);
            let key = (stat.st_dev, stat.st_ino);
            self.seen.insert(key, inside.to_owned());
            return Ok(false);
        };
        match linkat(self.root, first, to, name, AtFlags::empty()) {
            // A file system that has no room for so many names: it is copied once more.
            Err(Errno::MLINK | Errno::NAMETOOLONG) => Ok(false),
            linked => linked.on_path("link copy of", path).map(|()| true),
        }
    }
}

fn copy_content(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    at: &Path,
    links: &mut Links<'_>,
) -> Result<()> {
    for name in names_in(from, at)? {
        let name = name.as_c_str();
        let path = at.join(OsStr::from_bytes(name.to_bytes()));
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).on_path("stat", &path)?;
        if !links.link(&stat, to, name, &path)? {
            let path = &path;
            let copy = Copy {
                from,
                to,
                name,
                path,
            };
            copy.entry(&stat, links)?;
        }
    }
    Ok(())
}

/// One entry to copy from a directory to another.
struct Copy<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    name: &'a CStr,
    path: &'a Path,
}

impl Copy<'_> {
    fn entry(&self, stat: &Stat, links: &mut Links<'_>) -> Result<()> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(stat, links),
            FileType::RegularFile => self.file(stat),
            FileType::Symlink => {
                let target =
                    readlinkat(self.from, self.name, Vec::new()).on_path("read link", self.path)?;
                symlinkat(target.as_c_str(), self.to, self.name).on_path("copy", self.path)?;
                self.owner_and_times(stat)
            }
            kind => self.special(kind, stat),
        }
    }

    fn directory(&self, stat: &Stat, links: &mut Links<'_>) -> Result<()> {
        mkdirat(self.to, self.name, Mode::from_raw_mode(0o700)).on_path("copy", self.path)?;
        let source = openat(self.from, self.name, DIRECTORY, Mode::empty());
        let source = source.on_path("open", self.path)?;
        let copy = openat(self.to, self.name, DIRECTORY, Mode::empty());
        let copy = copy.on_path("open copy of", self.path)?;
        copy_content(source.as_fd(), copy.as_fd(), self.path, links)?;
        copy_attributes(source.as_fd(), stat, copy.as_fd(), self.path)
    }

    fn file(&self, stat: &Stat) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(self.from, self.name, flags, Mode::empty());
        let source = File::from(source.on_path("open", self.path)?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let copy = openat(self.to, self.name, flags, Mode::from_raw_mode(0o600));
        let copy = File::from(copy.on_path("copy", self.path)?);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        copy_data(&source, &copy, size).on_path("copy", self.path)?;
        copy_attributes(source.as_fd(), stat, copy.as_fd(), self.path)
    }

    fn special(&self, kind: FileType, stat: &Stat) -> Result<()> {
        let device = makedev(
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        mknodat(self.to, self.name, kind, mode, device).on_path("copy", self.path)?;
        self.owner_and_times(stat)?;
        chmodat(self.to, self.name, mode, AtFlags::empty())
            .on_path("set mode of copy of", self.path)
    }

    fn owner_and_times(&self, stat: &Stat) -> Result<()> {
        let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(
            self.to,
            self.name,
            Some(owner),
            Some(group),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .on_path("set owner of copy of", self.path)?;
        utimensat(self.to, self.name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
            .on_path("set times of copy of", self.path)
    }
}

/// What is in a file; where it has holes the copy has them too (lseek(2)).
fn copy_data(mut source: &File, mut copy: &File, size: u64) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let data = match seek(source, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            found => found?,
        };
        let hole = seek(source, SeekFrom::Hole(data))?;
        seek(source, SeekFrom::Start(data))?;
        seek(copy, SeekFrom::Start(data))?;
        let mut part = (&mut source).take(hole.saturating_sub(data));
        io::copy(&mut part, &mut copy)?;
        at = hole;
    }
    copy.set_len(size)
}

/// Owner, mode, extended attributes, times, in this order: a change of owner drops set-user-id bits
/// and capabilities, any change the times.
fn copy_attributes(
    from: BorrowedFd<'_>,
    stat: &Stat,
    to: BorrowedFd<'_>,
    path: &Path,
) -> Result<()> {
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(to, Some(owner), Some(group)).on_path("set owner of copy of", path)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).on_path("set mode of copy of", path)?;
    copy_xattrs(from, to, path)?;
    futimens(to, &times(stat)).on_path("set times of copy of", path)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
    }
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path) -> Result<()> {
    // The kernel's own bounds: XATTR_LIST_MAX and XATTR_SIZE_MAX.
    let mut names = vec![0u8; 64 << 10];
    let length = match flistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        answer => answer.on_path("list attributes of", path)?,
    };
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        // What overlayfs keeps for itself is not the file's.
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        let length = fgetxattr(from, name, &mut value[..]).on_path("read attribute of", path)?;
        fsetxattr(to, name, &value[..length], XattrFlags::empty())
            .on_path("set attribute of copy of", path)?;
    }
    Ok(())
}
