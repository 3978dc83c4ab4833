//! Locks: flock on an open file or directory. The kernel drops them with the last descriptor, so a
//! lock never outlives its process and never has to be guessed stale.
//!
//! Whoever locks something by name checks afterwards that the name still leads to what was locked:
//! between opening and locking another process may have removed or replaced it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::dir;

/// Waits for the exclusive lock.
pub(crate) fn exclusive(fd: impl AsFd) -> Result<(), Errno> {
    retry(|| rustix::fs::flock(&fd, FlockOperation::LockExclusive))
}

/// Takes the exclusive lock if nobody has any; whether it was taken.
pub(crate) fn try_exclusive(fd: impl AsFd) -> Result<bool, Errno> {
    match retry(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Waits for the shared lock. On a lock already held this turns exclusive into shared.
pub(crate) fn shared(fd: impl AsFd) -> Result<(), Errno> {
    retry(|| rustix::fs::flock(&fd, FlockOperation::LockShared))
}

/// Opens something by name and takes the shared lock on it, so that nobody removes it. `None` when
/// there is no such name.
pub(crate) fn open_shared(
    parent: impl AsFd,
    name: &str,
    flags: OFlags,
) -> Result<Option<OwnedFd>, Errno> {
    loop {
        let flags = flags.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
        let fd = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        shared(&fd)?;
        if dir::still_named(&parent, name, &fd)? {
            return Ok(Some(fd));
        }
    }
}

/// A lock file in `ingest/`: one process at a time makes the thing it is named after. The file goes
/// when the lock is dropped; what a killed process leaves, [`crate::ingest::sweep`] removes.
pub(crate) struct SingleFlight {
    directory: OwnedFd,
    name: String,
    _file: OwnedFd,
}

impl SingleFlight {
    /// Waits for the lock. `waiting` is called once, if another process has it.
    pub(crate) fn enter(
        ingest: impl AsFd,
        name: &str,
        waiting: impl FnOnce(),
    ) -> Result<Self, Errno> {
        let name = format!("{name}.lock");
        let directory = dir::open(&ingest, ".")?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut waiting = Some(waiting);
        loop {
            let file = rustix::fs::openat(&directory, &*name, flags, Mode::RUSR | Mode::WUSR)?;
            if !try_exclusive(&file)? {
                if let Some(waiting) = waiting.take() {
                    waiting();
                }
                exclusive(&file)?;
            }
            if dir::still_named(&directory, &*name, &file)? {
                return Ok(Self {
                    directory,
                    name,
                    _file: file,
                });
            }
        }
    }
}

impl Drop for SingleFlight {
    fn drop(&mut self) {
        // Still locked here: whoever waits finds the name gone and makes the file anew.
        let _ = rustix::fs::unlinkat(&self.directory, &*self.name, rustix::fs::AtFlags::empty());
    }
}

fn retry(mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
