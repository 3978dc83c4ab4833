//! Reading and replacing `index.json`.
//!
//! Readers just read: the file is replaced by rename, so they see the old one or the new one.
//! Writers hold an exclusive flock on the root directory from reading until renaming. On a full disk the
//! new file is made of the reserve (`crate::reserve`): what frees room must work then, too.

use std::io;
use std::os::fd::OwnedFd;

use crate::dir;
use crate::error::{Context, Error, Result};
use crate::ingest::Temporary;
use crate::layout::Store;
use crate::lock;
use crate::oci::index::Index;
use crate::reserve;

const NAME: &str = "index.json";

/// The index, locked: what others may not change until this is dropped.
pub(crate) struct LockedIndex<'a> {
    store: &'a Store,
    pub(crate) index: Index,
    _lock: OwnedFd,
}

impl Store {
    fn index_path(&self) -> String {
        self.root().join(NAME).display().to_string()
    }

    pub(crate) fn index(&self) -> Result<Index> {
        let bytes =
            crate::blob::read_small(self.root_fd(), NAME).on("read", || self.index_path())?;
        serde_json::from_slice(&bytes).map_err(|error| Error::json(self.index_path(), error))
    }

    /// Waits until nobody else changes the index, and reads it.
    pub(crate) fn lock_index(&self) -> Result<LockedIndex<'_>> {
        // A descriptor of its own: a lock on a shared one would not keep threads apart.
        let lock = dir::open(self.root_fd(), ".").on_path("open", self.root())?;
        lock::exclusive(&lock).on_path("lock", self.root())?;
        Ok(LockedIndex {
            store: self,
            index: self.index()?,
            _lock: lock,
        })
    }
}

impl LockedIndex<'_> {
    /// Replaces `index.json` by what this is now; the lock stays.
    pub(crate) fn save(&self) -> Result<()> {
        let path = || self.store.index_path();
        let bytes = serde_json::to_vec(&self.index).map_err(|error| Error::json(path(), error))?;
        let root = self.store.root_fd();
        match self.write(&bytes) {
            Err(full) if reserve::is_full(&full) => {
                // Without a reserve the disk is what is to be told of.
                let spent = reserve::spend(root, NAME, &bytes);
                spent.map_err(|_| full).on("write", path)?;
            }
            written => written.on("write", path)?,
        }
        // Where there is no room for it the next one tries again.
        let _ = reserve::keep(root, bytes.len() as u64);
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let file = Temporary::with_bytes(self.store.ingest(), bytes)?;
        file.flush()?;
        file.publish(self.store.root_fd(), NAME)?;
        Ok(())
    }
}
