//! Blobs on their way into the store: resumable by any process, one process at a time.
//!
//! ```text
//! ingest/<hex>.partial   the bytes so far, exclusively flocked by the process that fetches them
//! ```
//!
//! Whoever wants a blob that somebody else is fetching waits for the lock. The file then is either
//! gone, because the blob was published, or it is a beginning to go on from: its owner has died, by
//! whatever cause. What is found there is hashed again, so the digest always covers the whole.
//!
//! A layer is unpacked while it arrives: a [`Follower`] reads the growing file, and reaches the end
//! only when the digest of everything was right.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::blob::Held;
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, Result};
use crate::layer::indexed::hash;
use crate::layout::Store;
use crate::{dir, lock};

/// How often another process's download is looked at.
const LOOK: Duration = Duration::from_millis(50);
const COPY_BUFFER: usize = 256 << 10;
pub(crate) const PARTIAL: &str = ".partial";

/// What became of the wish for a blob.
pub enum Arrival {
    /// It is in the store, and held.
    There(Held),
    /// It has to be fetched; nobody else does.
    Missing(Box<Partial>),
}

/// A blob that is being fetched. Dropped before it is whole, it stays for whoever goes on with it.
pub struct Partial {
    store: Store,
    file: Arc<File>,
    digest: Digest,
    size: u64,
    hasher: Hasher,
    state: Arc<State>,
    have: u64,
    resumed: u64,
    /// The damaged one that it takes the place of. Held until then, so that nobody removes the new one.
    damaged: Option<Held>,
}

impl Store {
    /// Holds a blob, or takes on to fetch it, as one whose size shows that it is damaged. While another process fetches it, `waiting` is told
    /// again and again how many bytes there are, and may give up by an error of its own.
    pub fn expect_blob<E: From<Error>>(
        &self,
        digest: Digest,
        size: u64,
        mut waiting: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<Arrival, E> {
        let path = || self.partial_path(digest);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let name = partial_name(digest);
        loop {
            if let Some(held) = self.hold_blob(digest)?
                && self.size_of(&held, digest)? == size
            {
                return Ok(Arrival::There(held));
            }
            let mode = Mode::from_raw_mode(0o644);
            let file = rustix::fs::openat(self.ingest(), &*name, flags, mode).on("open", path)?;
            if !lock::try_exclusive(&file).on("lock", path)? {
                let stat = rustix::fs::fstat(&file).on("stat", path)?;
                waiting(u64::try_from(stat.st_size).unwrap_or(0))?;
                std::thread::sleep(LOOK);
                continue;
            }
            let still = dir::still_named(self.ingest(), &*name, &file).on("stat", path)?;
            if !still {
                continue;
            }
            // Perhaps published between the first look and the lock.
            let mut damaged = self.hold_blob(digest)?;
            if let Some(held) = damaged.take() {
                match self.is_whole(&held, digest, size) {
                    Ok(false) => damaged = Some(held),
                    whole => {
                        let _ = rustix::fs::unlinkat(self.ingest(), &*name, AtFlags::empty());
                        return Ok(whole.map(|_| Arrival::There(held))?);
                    }
                }
            }
            let mut partial = Partial::take_over(self.clone(), file.into(), digest, size)?;
            partial.damaged = damaged;
            return Ok(Arrival::Missing(Box::new(partial)));
        }
    }

    fn partial_path(&self, digest: Digest) -> String {
        let path = self.root().join("ingest").join(partial_name(digest));
        path.display().to_string()
    }

    fn size_of(&self, held: &Held, digest: Digest) -> Result<u64> {
        held.size().on("stat", || self.blob_path(digest))
    }

    /// Whether a blob has the size that the manifest says.
    ///
    /// # Errors
    ///
    /// It has another one, and is what it is called: then the manifest is wrong.
    fn is_whole(&self, held: &Held, digest: Digest, size: u64) -> Result<bool> {
        let found = self.size_of(held, digest)?;
        if found == size {
            return Ok(true);
        }
        let file = held.reader().on("open", || self.blob_path(digest))?;
        // One that cannot be read is none of that digest either.
        match hash(&file) {
            Ok((hashed, _)) if hashed == digest => Err(Error::Mismatch {
                object: format!("blob {digest}"),
                expected: format!("{size} bytes, as the manifest says"),
                found: found.to_string(),
            }),
            _ => Ok(false),
        }
    }
}

fn partial_name(digest: Digest) -> String {
    format!("{}{PARTIAL}", digest.hex())
}

impl Partial {
    /// Goes on with what a file holds: hashes it, and starts anew if it is too long.
    fn take_over(store: Store, file: File, digest: Digest, size: u64) -> Result<Self> {
        let mut partial = Self {
            state: Arc::new(State::default()),
            hasher: Hasher::default(),
            file: Arc::new(file),
            store,
            digest,
            size,
            have: 0,
            resumed: 0,
            damaged: None,
        };
        let path = || partial.store.partial_path(digest);
        let found = rustix::fs::fstat(&*partial.file).on("stat", path)?.st_size;
        if u64::try_from(found).unwrap_or(u64::MAX) > size {
            partial.file.set_len(0).on("empty", path)?;
        }
        let mut buffer = vec![0; COPY_BUFFER];
        loop {
            let read = (&*partial.file).read(&mut buffer).on("read", path)?;
            if read == 0 {
                break;
            }
            partial.hasher.update(&buffer[..read]);
            partial.have += read as u64;
        }
        partial.resumed = partial.have;
        partial.state.set(Progress::Growing(partial.have));
        Ok(partial)
    }

    /// How many bytes there are: where the fetching goes on.
    pub fn have(&self) -> u64 {
        self.have
    }

    /// How many bytes there were before this process came.
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// How many bytes there will be.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let have = self.have + bytes.len() as u64;
        if have > self.size {
            return Err(Error::Mismatch {
                object: format!("blob {}", self.digest),
                expected: format!("{} bytes, as the manifest says", self.size),
                found: "more".to_owned(),
            });
        }
        if let Err(error) = (&*self.file).write_all(bytes) {
            if error.kind() == io::ErrorKind::StorageFull {
                // A beginning nobody has room to go on from would only keep the disk full.
                self.discard();
            }
            return Err(Error::io(
                "write",
                self.store.partial_path(self.digest),
                error,
            ));
        }
        self.hasher.update(bytes);
        self.have = have;
        self.state.set(Progress::Growing(have));
        Ok(())
    }

    /// A reader of the bytes that are there and those to come.
    pub fn follow(&self) -> Follower {
        Follower {
            file: Arc::clone(&self.file),
            state: Arc::clone(&self.state),
            position: 0,
        }
    }

    /// Publishes the blob if its digest is right; wrong bytes are thrown away.
    pub fn finish(mut self) -> Result<Held> {
        let (digest, have) = (self.digest, self.have);
        let found = std::mem::take(&mut self.hasher).finish();
        if found != digest || have != self.size {
            self.discard();
            return Err(Error::Mismatch {
                object: format!("blob {digest}"),
                expected: format!("{} bytes with this digest", self.size),
                found: format!("{have} bytes with {found}"),
            });
        }
        let path = || self.store.partial_path(digest);
        // Whoever unpacks it need not wait until it is on the disk.
        self.state.set(Progress::Whole);
        rustix::fs::fsync(&*self.file).on("flush", path)?;
        let blob = digest.hex();
        rustix::fs::renameat(
            self.store.ingest(),
            partial_name(digest),
            self.store.blobs(),
            &*blob,
        )
        .on("publish", path)?;
        rustix::fs::fsync(self.store.blobs()).on("flush", || self.store.blob_path(digest))?;
        let descriptor = self.file.as_fd().try_clone_to_owned().on("hold", path)?;
        self.store.share(&descriptor)?;
        if let Some(damaged) = self.damaged.take() {
            self.store.mend_layer_of(digest, &damaged)?;
        }
        Ok(Held::new(descriptor))
    }

    /// Takes the file's name away. That can fail only where nothing can be written any more: then
    /// it stays, and is hashed and found wanting by whoever goes on with it.
    fn discard(&self) {
        let name = partial_name(self.digest);
        let _ = rustix::fs::unlinkat(self.store.ingest(), name, AtFlags::empty());
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.state.give_up();
    }
}

/// How far a download is, for those who read along.
#[derive(Default)]
struct State {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Clone, Copy)]
enum Progress {
    Growing(u64),
    /// All bytes are there, and have the right digest.
    Whole,
    Failed,
}

impl Default for Progress {
    fn default() -> Self {
        Self::Growing(0)
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        // Each change is one assignment: what a panicking thread left is whole.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, progress: Progress) {
        *self.lock() = progress;
        self.changed.notify_all();
    }

    fn give_up(&self) {
        let mut progress = self.lock();
        if let Progress::Growing(_) = *progress {
            *progress = Progress::Failed;
        }
        self.changed.notify_all();
    }

    /// Waits until there is something after `position`, or nothing more will come.
    fn wait(&self, position: u64) -> Progress {
        let mut progress = self.lock();
        loop {
            match *progress {
                Progress::Growing(have) if have <= position => {
                    progress = self
                        .changed
                        .wait(progress)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                other => return other,
            }
        }
    }
}

/// Reads a blob while it arrives. It ends when the blob is whole and right, and fails when the
/// download is given up.
pub struct Follower {
    file: Arc<File>,
    state: Arc<State>,
    position: u64,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Progress::Failed = self.state.wait(self.position) {
            return Err(io::Error::other("the download was given up"));
        }
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}
