//! `ingest/`: where files and trees are while they are made, and while they are thrown away.
//!
//! ```text
//! ingest/tmp-<pid>-<n>   a file or directory in the making, or trash; flocked by its owner
//! ingest/<name>.lock     see crate::lock::SingleFlight
//! ingest/<hex>.partial   see crate::arrival
//! ingest/plan-<id>.json  a plan of gc, which is kept for a day
//! ```
//!
//! The owner of each keeps an exclusive flock on it. Something here that can be locked has no owner
//! any more: [`sweep`] removes it.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::layer::source::Place;
use crate::{dir, lock, object};

const PLAN: &str = "plan-";
/// How long a plan is kept.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The file of a plan with this id.
pub(crate) fn plan_name(id: &str) -> String {
    format!("{PLAN}{id}.json")
}

fn fresh_name() -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("tmp-{}-{number}", std::process::id())
}

/// Something unpublished in `ingest/`; removed when dropped, unless it was published.
pub(crate) struct Temporary<T: AsFd> {
    ingest: OwnedFd,
    name: String,
    /// `None` once published.
    content: Option<T>,
}

impl Temporary<File> {
    /// A new empty file, open for reading and writing.
    pub(crate) fn file(ingest: BorrowedFd<'_>) -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Self::make(ingest, |directory, name| {
            rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644)).map(File::from)
        })
    }

    /// A new file with these bytes.
    pub(crate) fn with_bytes(ingest: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<Self> {
        let mut temporary = Self::file(ingest)?;
        temporary.content_mut().write_all(bytes)?;
        Ok(temporary)
    }

    /// One more name of a file, whose bytes nobody changes.
    pub(crate) fn link(ingest: BorrowedFd<'_>, from: &OwnedFd, file: &str) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Self::make(ingest, |directory, name| {
            rustix::fs::linkat(from, file, directory, name, AtFlags::empty())?;
            rustix::fs::openat(directory, name, flags, Mode::empty()).map(File::from)
        })
    }

    /// Flushes the file's data to the disk.
    pub(crate) fn flush(&self) -> Result<(), Errno> {
        rustix::fs::fsync(self.content())
    }
}

impl Temporary<OwnedFd> {
    /// A new empty directory.
    pub(crate) fn directory(ingest: BorrowedFd<'_>) -> Result<Self, Errno> {
        Self::make(ingest, |directory, name| {
            rustix::fs::mkdirat(directory, name, Mode::RWXU)?;
            dir::open(directory, name)
        })
    }
}

impl<T: AsFd> Temporary<T> {
    fn make(
        ingest: BorrowedFd<'_>,
        create: impl Fn(&OwnedFd, &str) -> Result<T, Errno>,
    ) -> Result<Self, Errno> {
        let ingest = dir::open(ingest, ".")?;
        loop {
            let name = fresh_name();
            // Between creating and locking, a sweep of another process may take it for a leftover.
            let content = match create(&ingest, &name) {
                Ok(content) => content,
                Err(Errno::EXIST | Errno::NOENT) if named_or_gone(&ingest)? => continue,
                Err(errno) => return Err(errno),
            };
            if lock::try_exclusive(&content)? && dir::still_named(&ingest, &*name, &content)? {
                return Ok(Self {
                    ingest,
                    name,
                    content: Some(content),
                });
            }
        }
    }

    pub(crate) fn content(&self) -> &T {
        self.content
            .as_ref()
            .expect("only publish takes the content")
    }

    /// Where it lies until it is published.
    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            directory: self.ingest.as_fd(),
            name: self.name.clone(),
        }
    }

    pub(crate) fn content_mut(&mut self) -> &mut T {
        self.content
            .as_mut()
            .expect("only publish takes the content")
    }

    /// Gives it its final name, replacing a file of that name, and flushes the directory it went
    /// to. The content comes back still exclusively locked.
    pub(crate) fn publish(mut self, directory: BorrowedFd<'_>, name: &str) -> Result<T, Errno> {
        rustix::fs::renameat(&self.ingest, &*self.name, directory, name)?;
        let content = self.content.take();
        rustix::fs::fsync(directory)?;
        Ok(content.expect("only publish takes the content"))
    }
}

impl Temporary<OwnedFd> {
    /// Takes the place of a directory, in one step, and flushes the directory it went to. The one
    /// that was there goes at once, or with a sweep when nobody has it locked any more.
    pub(crate) fn replace(
        mut self,
        directory: BorrowedFd<'_>,
        name: &str,
    ) -> Result<OwnedFd, Errno> {
        let flags = RenameFlags::EXCHANGE;
        match rustix::fs::renameat_with(&self.ingest, &*self.name, directory, name, flags) {
            Err(Errno::NOENT) => return self.publish(directory, name),
            result => result?,
        }
        rustix::fs::fsync(directory)?;
        let content = self.content.take();
        match dir::open(&self.ingest, &*self.name) {
            // A sweep was faster.
            Err(Errno::NOENT) => {}
            old => {
                let old = old?;
                if lock::try_exclusive(&old)? {
                    self.content = Some(old);
                }
            }
        }
        Ok(content.expect("only publish takes the content"))
    }
}

/// Whether `ingest/` itself is still there: a name that vanishes under us is worth a retry only
/// then.
fn named_or_gone(ingest: &OwnedFd) -> Result<bool, Errno> {
    rustix::fs::fstat(ingest).map(|stat| stat.st_nlink > 0)
}

impl<T: AsFd> Drop for Temporary<T> {
    fn drop(&mut self) {
        if self.content.is_none() {
            return; // published
        }
        // What cannot be removed now has lost its owner: the next sweep tries again.
        if let Ok(name) = std::ffi::CString::new(&*self.name) {
            let _ = dir::remove(self.ingest.as_fd(), &name);
        }
    }
}

/// Moves a published file or directory, exclusively locked as `fd`, out of sight; the result
/// removes it when dropped.
pub(crate) fn discard<T: AsFd>(
    ingest: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &str,
    content: T,
) -> Result<Temporary<T>, Errno> {
    let ingest = dir::open(ingest, ".")?;
    loop {
        let trash = fresh_name();
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(directory, name, &ingest, &*trash, flags) {
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
            Ok(()) => {
                return Ok(Temporary {
                    ingest,
                    name: trash,
                    content: Some(content),
                });
            }
        }
    }
}

/// Takes a directory away that has a file's name, which no file can replace.
pub(crate) fn clear_of_directory(
    ingest: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &str,
) -> Result<(), Errno> {
    match dir::open(parent, name) {
        Ok(directory) => discard(ingest, parent, name, directory).map(drop),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Removes what dead processes left: one listing of `ingest/`, and work only for what is in it.
pub(crate) fn sweep(ingest: BorrowedFd<'_>) -> Result<(), Errno> {
    dir::each_name(ingest, |name, _| {
        let text = name.to_bytes();
        let is_plan = || text.starts_with(PLAN.as_bytes());
        if text.starts_with(b"tmp-")
            || text.ends_with(b".lock")
            || is_plan() && is_old(ingest, name)?
        {
            sweep_one(ingest, name)?;
        }
        Ok(())
    })
}

fn is_old(ingest: BorrowedFd<'_>, plan: &CStr) -> Result<bool, Errno> {
    let Some(stat) = object::stat(ingest, plan)? else {
        return Ok(false);
    };
    let age = object::modified(&stat).elapsed();
    Ok(age.is_ok_and(|age| age > A_DAY))
}

fn sweep_one(ingest: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = match rustix::fs::openat(ingest, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    if lock::try_exclusive(&fd)? && dir::still_named(ingest, name, &fd)? {
        dir::remove(ingest, name)?;
    }
    Ok(())
}
