//! EROFS over plain files (Linux 6.12): an index of metadata, and the files that the data of its
//! files lies in (Documentation/filesystems/erofs.rst, `device=`).
//!
//! A mount made here is attached nowhere: it lives for as long as somebody has its descriptor or
//! has stacked an overlay on it, and no process's end can leave it behind. Every mount has a page
//! cache of its own, even of the same files; who wants to share one shares the descriptor.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::mount::{FsOpenFlags, fsconfig_create, fsconfig_set_string, fsopen};

use super::mount::mount_of;
use super::{Context, Result};

/// linux/magic.h
const EROFS_SUPER_MAGIC_V1: i64 = 0xe0f5_e1e2;

/// A file for the kernel to open.
#[derive(Debug, Clone, Copy)]
pub enum File<'a> {
    /// One that is open. It need not have a name.
    Open(BorrowedFd<'a>),
    /// A name in an open directory, and no symlink.
    In(BorrowedFd<'a>, &'a str),
}

impl File<'_> {
    /// No path of the file's own: it might be too long for fsconfig(2), or be another file's by now.
    fn by_number(self) -> String {
        match self {
            Self::Open(file) => format!("/proc/self/fd/{}", file.as_raw_fd()),
            Self::In(directory, name) => format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()),
        }
    }

    fn name(self) -> PathBuf {
        match self {
            Self::Open(_) => {
                let path = self.by_number();
                std::fs::read_link(&path).unwrap_or_else(|_| path.into())
            }
            Self::In(directory, name) => File::Open(directory).name().join(name),
        }
    }
}

/// Mounts the file system of `index`, read-only and attached nowhere.
///
/// `devices` are in the order of the index's device table. The kernel opens all files anew, so the
/// descriptors may be closed afterwards.
pub fn mount(index: BorrowedFd<'_>, devices: &[File<'_>]) -> Result<OwnedFd> {
    let index = File::Open(index);
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).on("fsopen", "erofs")?;
    let set = |key: &str, file: File<'_>| match fsconfig_set_string(
        context.as_fd(),
        key,
        file.by_number(),
    ) {
        Ok(()) => Ok(()),
        Err(errno) => Err(errno).on_path(&format!("set {key} of erofs to"), file.name()),
    };
    set("source", index)?;
    for device in devices {
        set("device", *device)?;
    }
    if let Err(errno) = fsconfig_create(context.as_fd()) {
        return Err(errno).on("mount erofs", Refused(index.name(), words_of(context)));
    }
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV;
    mount_of(context.as_fd(), "erofs", attributes)
}

/// Which file system a descriptor is the root of, among all that are mounted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// `st_dev`: each mounted file system has its own.
    pub device: u64,
    /// `st_ino` of its root.
    pub root: u64,
}

/// The EROFS that this is the root directory of; `None` if it is anything else.
pub fn identity(mount: BorrowedFd<'_>) -> Result<Option<Identity>> {
    let kind = rustix::fs::fstatfs(mount).on("statfs", "erofs")?.f_type;
    let stat = rustix::fs::fstat(mount).on("stat", "erofs")?;
    Ok((kind as i64 == EROFS_SUPER_MAGIC_V1).then_some(Identity {
        device: stat.st_dev,
        root: stat.st_ino,
    }))
}

/// What the kernel wrote into the context's log (fsopen(2)): errno alone says little.
fn words_of(context: OwnedFd) -> String {
    let mut context = std::fs::File::from(context);
    let mut words = Vec::new();
    let mut line = [0; 512];
    while let Ok(count @ 1..) = context.read(&mut line) {
        // "e " for an error, then the text.
        let text = String::from_utf8_lossy(&line[..count]);
        words.push(text.trim_start_matches("e ").trim().to_owned());
    }
    words.join("; ")
}

struct Refused(PathBuf, String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.display())?;
        if self.1.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.1)
    }
}
