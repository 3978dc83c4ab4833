//! Reading and replacing `index.json`.
//!
//! Readers just read: the file is replaced by rename, so they see the old one or the new one.
//! Writers hold an exclusive flock on the root directory from reading until renaming.

use std::os::fd::OwnedFd;

use crate::dir;
use crate::error::{Context, Error, Result};
use crate::ingest::Temporary;
use crate::layout::Store;
use crate::lock;
use crate::oci::index::Index;

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
        let file = Temporary::with_bytes(self.store.ingest(), &bytes).on("write", path)?;
        file.flush().on("flush", path)?;
        file.publish(self.store.root_fd(), NAME)
            .on("replace", path)?;
        Ok(())
    }
}
