//! Directories by descriptor: opening, listing, and removing whole trees without ever following a
//! symlink and without one descriptor per level.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags};
use rustix::io::Errno;

pub(crate) const OPEN_DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

/// Opens a directory below another; a symlink in its place is an error.
pub(crate) fn open(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, OPEN_DIR, Mode::empty())
}

/// Opens a directory by path, through symlinks if there are any: for paths the user gave.
pub(crate) fn open_path(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        CWD,
        path,
        OPEN_DIR.difference(OFlags::NOFOLLOW),
        Mode::empty(),
    )
}

/// Makes a directory unless there is something of that name.
pub(crate) fn make(parent: impl AsFd, name: &str, mode: Mode) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, name, mode) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

/// Calls `visit` for every name in the directory but `.` and `..`, in no order.
pub(crate) fn each_name(
    directory: BorrowedFd<'_>,
    mut visit: impl FnMut(&CStr, FileType) -> Result<(), Errno>,
) -> Result<(), Errno> {
    // A descriptor of its own: a listing moves the position, and others may share this one.
    let own = open(directory, c".")?;
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut entries = RawDir::new(&own, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            visit(entry.file_name(), entry.file_type())?;
        }
    }
    Ok(())
}

/// Device and inode: what tells two files apart while one of them is held open.
pub(crate) fn identity(fd: impl AsFd) -> Result<(u64, u64), Errno> {
    rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino))
}

/// Whether the name still leads to the file that is open as `fd`.
pub(crate) fn still_named(
    parent: impl AsFd,
    name: impl rustix::path::Arg,
    fd: impl AsFd,
) -> Result<bool, Errno> {
    let found = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => (stat.st_dev, stat.st_ino),
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    Ok(identity(fd)? == found)
}

/// Removes whatever has this name: a file, or a directory with all that is in it. Nothing being
/// there is fine.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    let top = open(parent, name)?;
    empty(&top)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Empties a directory. Subdirectories that are not empty have their own subdirectories moved up
/// into `top` first, so that a tree of any depth costs two descriptors and no recursion.
fn empty(top: &OwnedFd) -> Result<(), Errno> {
    let mut moved = 0_u64;
    loop {
        let mut found = false;
        each_name(top.as_fd(), |name, kind| {
            found = true;
            if !unlink_or_rmdir(top.as_fd(), name, kind)? {
                lift(top, name, &mut moved)?;
            }
            Ok(())
        })?;
        if !found {
            return Ok(());
        }
    }
}

fn lift(top: &OwnedFd, name: &CStr, moved: &mut u64) -> Result<(), Errno> {
    let directory = open(top, name)?;
    each_name(directory.as_fd(), |child, kind| {
        if unlink_or_rmdir(directory.as_fd(), child, kind)? {
            return Ok(());
        }
        loop {
            let target = CString::new(format!(".lifted-{moved}")).map_err(|_| Errno::INVAL)?;
            *moved += 1;
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&directory, child, top, target, flags) {
                Err(Errno::EXIST) => {}
                result => return result,
            }
        }
    })?;
    rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR)
}

/// Removes a file or an empty directory; false for a directory that is not empty.
fn unlink_or_rmdir(parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<bool, Errno> {
    if kind != FileType::Directory {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            Err(Errno::NOENT) => return Ok(true),
            result => return result.map(|()| true),
        }
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(Errno::NOENT) => Ok(true),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_there_are_descriptors_is_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let parent = open_path(temporary.path()).unwrap();
        let mut here = open(&parent, ".").unwrap();
        for level in 0..3000 {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&here, format!("sibling{level}"), Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/etc", &here, "link").unwrap();
            here = open(&here, "d").unwrap();
        }
        remove(parent.as_fd(), c"d").unwrap();
        remove(parent.as_fd(), c"link").unwrap();
        remove(parent.as_fd(), c"sibling0").unwrap();
        remove(parent.as_fd(), c"never was").unwrap();
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
        assert!(std::path::Path::new("/etc/passwd").exists());
    }
}
