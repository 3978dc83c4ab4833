//! Owner, mode, extended attributes and times, in that order: a change of owner clears setuid bits
//! and file capabilities, and everything but a time moves the change of time.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::archive::{Entry, Kind};
use crate::error::{Context, Error, Result, show};
use crate::time::Time;
use crate::xattr;

pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const OPAQUE: &str = "trusted.overlay.opaque";
const ORIGIN: &str = "trusted.overlay.origin";

/// Applies what an entry says to an open file or directory, as far as it is not so already. A
/// directory's times are not among it: they are set when nothing more is made in it.
pub(super) fn apply(fd: BorrowedFd<'_>, entry: &Entry, stat: &Stat) -> Result<()> {
    let (owner, group) = owner(entry);
    let is_anothers = (stat.st_uid, stat.st_gid) != (owner.as_raw(), group.as_raw());
    if is_anothers {
        rustix::fs::fchown(fd, Some(owner), Some(group)).on_entry("set the owner", &entry.name)?;
    }
    if is_anothers || Mode::from_raw_mode(stat.st_mode) != mode(entry) {
        rustix::fs::fchmod(fd, mode(entry)).on_entry("set the mode", &entry.name)?;
    }
    for (name, value) in kept_xattrs(entry) {
        rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
            .map_err(|errno| xattr_error(fd, entry, name, errno))?;
    }
    if entry.kind != Kind::Directory {
        rustix::fs::futimens(fd, &times(entry.mtime)).on_entry("set the time", &entry.name)?;
    }
    Ok(())
}

/// Applies what an entry says to something that cannot be opened: symlinks, fifos, devices. It has
/// just been made under this name; what somebody who is in the tree has put there since is not followed.
pub(super) fn apply_at(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
    let (owner, group) = owner(entry);
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(parent, name, Some(owner), Some(group), nofollow)
        .on_entry("set the owner", &entry.name)?;
    if entry.kind != Kind::Symlink {
        set_mode(parent, name, entry).on_entry("set the mode", &entry.name)?;
    }
    for (attribute, value) in kept_xattrs(entry) {
        // There is no setxattrat before Linux 6.13; the parent's magic link does the same.
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        rustix::fs::lsetxattr(path, attribute, value, XattrFlags::empty())
            .map_err(|errno| xattr_error(parent, entry, attribute, errno))?;
    }
    rustix::fs::utimensat(parent, name, &times(entry.mtime), nofollow)
        .on_entry("set the time", &entry.name)
}

/// There is no fchmodat that does not follow before Linux 6.6; the magic link of what is open is no
/// symlink of the tree.
fn set_mode(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&node)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), mode(entry))
}

/// Removes the extended attributes of a directory that an entry describes anew.
pub(super) fn strip_xattrs(fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    let strip = || {
        let mut list = vec![0; rustix::fs::flistxattr_query(fd)?];
        let length = rustix::fs::flistxattr(fd, &mut list[..])?;
        for name in list[..length].split(|byte| *byte == 0) {
            if !name.is_empty() && xattr::belongs_in_layer(name) {
                rustix::fs::fremovexattr(fd, name)?;
            }
        }
        Ok(())
    };
    match strip() {
        Err(Errno::NOTSUP) => Ok(()),
        result => result.on_entry("remove extended attributes", &entry.name),
    }
}

/// Hides what the layers below have in this directory.
pub(super) fn set_opaque(fd: BorrowedFd<'_>, entry: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(fd, OPAQUE, b"y", XattrFlags::empty()).on_entry("mark as opaque", entry)
}

/// Says that a directory has whiteouts. Where no other layer has that directory the kernel would else
/// list them: it looks for them where layers are merged, and in what says that it was copied up (Linux
/// 4.15, fs/overlayfs/inode.c, ovl_get_inode). An empty value is "from where, nobody knows".
pub(super) fn set_has_whiteouts(fd: BorrowedFd<'_>, entry: &[u8]) -> Result<()> {
    match rustix::fs::fsetxattr(fd, ORIGIN, b"", XattrFlags::empty()) {
        // They are whiteouts all the same.
        Err(Errno::NOTSUP) => Ok(()),
        result => result.on_entry("mark as one with whiteouts", entry),
    }
}

pub(super) fn set_default_acl(fd: BorrowedFd<'_>, path: &[u8], value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(fd, DEFAULT_ACL, value, XattrFlags::empty())
        .on_entry("set the default ACL", path)
}

pub(super) fn set_times(fd: impl AsFd, mtime: Time) -> Result<(), Errno> {
    rustix::fs::futimens(fd, &times(mtime))
}

fn times(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: mtime.timespec(),
        last_modification: mtime.timespec(),
    }
}

/// The mode's permission bits, set-id bits and sticky bit.
pub(super) fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode)
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
}

/// What is set at once: all but the default ACL.
fn kept_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry
        .xattrs
        .iter()
        .map(|(name, value)| (&name[..], &value[..]))
        .filter(|(name, _)| *name != DEFAULT_ACL && xattr::belongs_in_layer(name))
}

fn xattr_error(on: BorrowedFd<'_>, entry: &Entry, attribute: &[u8], errno: Errno) -> Error {
    if errno == Errno::NOSPC && has_room(on) {
        let reason = "its extended attributes are more than this file system keeps for a file";
        return Error::bad_entry(&entry.name, reason);
    }
    let object = format!("{} (attribute {})", show(&entry.name), show(attribute));
    Error::EntryIo {
        entry: object,
        operation: "set an extended attribute",
        source: errno.into(),
    }
}

/// Whether a file system has room for whatever attributes a file may have: what does not fit beside the
/// others of its file has the same errno as a full disk (xattr(7), "Filesystem differences").
fn has_room(on: BorrowedFd<'_>) -> bool {
    const MUCH: u64 = 1 << 20;
    rustix::fs::fstatvfs(on).is_ok_and(|it| it.f_bfree.saturating_mul(it.f_frsize) >= MUCH)
}
