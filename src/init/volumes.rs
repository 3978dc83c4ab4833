//! Anonymous volumes start as a copy of what the image has in their place: owner, mode, content.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::fs::{
    XattrFlags, chmodat, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat,
    futimens, makedev, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};

use crate::kernel::root::{MakeAs, Root};
use crate::kernel::{Context, Result};
use crate::plan::RunPlan;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Copies the image's content into each fresh volume, before it is mounted over.
pub(super) fn fill(plan: &RunPlan, root: &Root) -> Result<()> {
    for volume in &plan.anonymous_volumes {
        let (found, made) = root.open_or_make(&volume.destination, MakeAs::Directory)?;
        if made {
            continue;
        }
        let from = openat(&found, ".", DIRECTORY, Mode::empty())
            .on_path("open volume", &volume.destination)?;
        let to = rustix::fs::open(&volume.source, DIRECTORY, Mode::empty())
            .on_path("open", &volume.source)?;
        copy_content(from.as_fd(), to.as_fd(), &volume.destination)?;
        copy_attributes(from.as_fd(), to.as_fd(), &volume.destination)?;
    }
    Ok(())
}

fn copy_content(from: BorrowedFd<'_>, to: BorrowedFd<'_>, at: &Path) -> Result<()> {
    for entry in Dir::read_from(from).on_path("list", at)? {
        let entry = entry.on_path("list", at)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let path = at.join(name.to_string_lossy().as_ref());
            let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).on_path("stat", &path)?;
            Copy {
                from,
                to,
                name,
                path: &path,
            }
            .entry(&stat)?;
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
    fn entry(&self, stat: &Stat) -> Result<()> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(),
            FileType::RegularFile => self.file(),
            FileType::Symlink => {
                let target =
                    readlinkat(self.from, self.name, Vec::new()).on_path("read link", self.path)?;
                symlinkat(target.as_c_str(), self.to, self.name).on_path("copy", self.path)?;
                self.owner_and_times(stat)
            }
            kind => self.special(kind, stat),
        }
    }

    fn directory(&self) -> Result<()> {
        mkdirat(self.to, self.name, Mode::from_raw_mode(0o700)).on_path("copy", self.path)?;
        let source = openat(self.from, self.name, DIRECTORY, Mode::empty());
        let source = source.on_path("open", self.path)?;
        let copy = openat(self.to, self.name, DIRECTORY, Mode::empty());
        let copy = copy.on_path("open copy of", self.path)?;
        copy_content(source.as_fd(), copy.as_fd(), self.path)?;
        copy_attributes(source.as_fd(), copy.as_fd(), self.path)
    }

    fn file(&self) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(self.from, self.name, flags, Mode::empty());
        let mut source = File::from(source.on_path("open", self.path)?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let copy = openat(self.to, self.name, flags, Mode::from_raw_mode(0o600));
        let mut copy = File::from(copy.on_path("copy", self.path)?);
        std::io::copy(&mut source, &mut copy).on_path("copy", self.path)?;
        copy_attributes(source.as_fd(), copy.as_fd(), self.path)
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

/// Owner, mode, extended attributes, times, in this order: a change of owner drops set-user-id bits
/// and capabilities, any change the times.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let stat = fstat(from).on_path("stat", path)?;
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(to, Some(owner), Some(group)).on_path("set owner of copy of", path)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).on_path("set mode of copy of", path)?;
    copy_xattrs(from, to, path)?;
    futimens(to, &times(&stat)).on_path("set times of copy of", path)
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
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
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
