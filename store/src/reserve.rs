//! `reserve`: room on the disk for one more `index.json`, so that an image can be removed when there
//! is no room left.
//!
//! The file's content means nothing. Where there is no room for a new index it is written over in
//! place, which takes none, and renamed: the room is never free for others to take. It is made again as
//! soon as there is room for it. All of this is done under the lock of the root directory.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, Mode, OFlags};

pub(crate) const NAME: &str = "reserve";
/// What there is beyond the size of the index.
const MARGIN: u64 = 64 << 10;
/// Zeros that are written at once.
const PIECE: u64 = 64 << 10;

/// Whether there is something in reserve.
pub(crate) fn is_there(root: BorrowedFd<'_>) -> bool {
    rustix::fs::statat(root, NAME, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Sees to it that there is room for an index of this size.
pub(crate) fn keep(root: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    let file = open(root, OFlags::CREATE)?;
    let have = file.metadata()?.len();
    if have >= bytes.max(1) {
        return Ok(());
    }
    // Really written: a hole has no room.
    let wanted = bytes + MARGIN;
    let zeros = [0; PIECE as usize];
    let mut at = have;
    while at < wanted {
        let piece = PIECE.min(wanted - at);
        file.write_all_at(&zeros[..piece as usize], at)?;
        at += piece;
    }
    Ok(())
}

/// Gives a file of the root directory, `name`, its new content out of the reserve, in one step.
pub(crate) fn spend(root: BorrowedFd<'_>, name: &str, content: &[u8]) -> io::Result<()> {
    let file = open(root, OFlags::empty())?;
    match file.write_all_at(content, 0) {
        // A file system that writes nothing in place gets its room back first.
        Err(error) if is_full(&error) => {
            file.set_len(0)?;
            file.write_all_at(content, 0)?;
        }
        written => written?,
    }
    file.set_len(content.len() as u64)?;
    file.sync_all()?;
    rustix::fs::renameat(root, NAME, root, name)?;
    rustix::fs::fsync(root)?;
    Ok(())
}

/// Whether this is for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn open(root: BorrowedFd<'_>, more: OFlags) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | more;
    let file = rustix::fs::openat(root, NAME, flags, Mode::from_raw_mode(0o644))?;
    Ok(file.into())
}
