//! `layers/<diff id>/`: layers overlayfs can use.
//!
//! ```text
//! layers/<hex>/layer.json    the record: form, source blob, sizes; its mtime is the last use
//! "unpacked":   tree.zst     what the tree holds, so that damage is found (module listing)
//!               fs/          the tree
//! "indexed":    layer.tar    the uncompressed tar, as it is; the blob's own file where that is one
//!               layer.erofs  an index over it (module index)
//! ```
//! An indexed layer needs no listing: the tar has the layer's own digest, and the index can be made
//! again from it and compared.
//!
//! The directory itself is the lock: whoever uses the layer has a shared flock on it, whoever
//! removes it takes the exclusive one, moves it to `ingest/` and deletes it there.

pub(crate) mod content;
pub(crate) mod form;
pub(crate) mod index;
pub(crate) mod indexed;
pub(crate) mod inflate;
pub(crate) mod listing;
mod measure;
mod name;
pub(crate) mod record;
pub(crate) mod source;
pub(crate) mod unpack;
pub(crate) mod unpacked;

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, OFlags, Timespec, Timestamps, UTIME_OMIT};

use crate::blob::{Held, read_small};
use crate::digest::{DiffId, Digest};
use crate::dir;
use crate::error::{Context, Result};
use crate::ingest::Temporary;
use crate::layout::Store;
use crate::lock::{self, SingleFlight};
use crate::object;
use form::LayerForm;
use record::{Counts, Laid, RECORD, Record};
use source::Source;

/// A layer that nobody removes while this lives.
pub struct HeldLayer {
    /// Carries the lock.
    _directory: OwnedFd,
    pub(crate) record: Record,
}

impl HeldLayer {
    /// How it lies there.
    pub fn form(&self) -> LayerForm {
        self.record.laid.form()
    }
}

/// How far the laying down is.
pub(crate) enum Step {
    Waiting,
    Unpacking { entries: u64, bytes: u64 },
    Flushing,
}

impl Store {
    pub(crate) fn layer_path(&self, layer: DiffId) -> String {
        self.root()
            .join("layers")
            .join(layer.hex())
            .display()
            .to_string()
    }

    /// The record of a layer, without holding the layer.
    pub(crate) fn layer_record(&self, layer: DiffId) -> Result<Record> {
        let path = || format!("{}/{RECORD}", self.layer_path(layer));
        let bytes =
            read_small(self.layers(), &format!("{}/{RECORD}", layer.hex())).on("read", path)?;
        Record::parse(&bytes, path)
    }

    /// Holds a layer by its directory; `None` if it is not there.
    pub(crate) fn hold_layer(&self, layer: DiffId) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        lock::open_shared(self.layers(), &layer.hex(), flags).on("lock", || self.layer_path(layer))
    }

    pub(crate) fn hold_layer_with_record(&self, layer: DiffId) -> Result<Option<HeldLayer>> {
        let Some(directory) = self.hold_layer(layer)? else {
            return Ok(None);
        };
        Ok(Some(HeldLayer {
            record: self.record_of(&directory, layer)?,
            _directory: directory,
        }))
    }

    /// Holds a layer by its directory if it is indexed.
    pub(crate) fn hold_indexed(&self, layer: DiffId) -> Result<Option<OwnedFd>> {
        let Some(directory) = self.hold_layer(layer)? else {
            return Ok(None);
        };
        let form = self.record_of(&directory, layer)?.laid.form();
        Ok((form == LayerForm::Indexed).then_some(directory))
    }

    /// The record in a layer's open directory.
    pub(crate) fn record_of(&self, directory: &OwnedFd, layer: DiffId) -> Result<Record> {
        let path = || format!("{}/{RECORD}", self.layer_path(layer));
        let bytes = read_small(directory.as_fd(), RECORD).on("read", path)?;
        Record::parse(&bytes, path)
    }

    /// Holds a layer, laying it down in the handle's form if it is not there. One process does that at
    /// a time; the others wait and find it done.
    pub(crate) fn make_layer(
        &self,
        layer: DiffId,
        blob: Digest,
        source: Source<'_>,
        progress: &mut dyn FnMut(Step),
    ) -> Result<HeldLayer> {
        if let Some(held) = self.hold_layer_with_record(layer)? {
            return Ok(held);
        }
        let path = || self.layer_path(layer);
        let _turn = SingleFlight::enter(self.ingest(), &format!("layer-{}", layer.hex()), || {
            progress(Step::Waiting);
        })
        .on("lock", path)?;
        if let Some(held) = self.hold_layer_with_record(layer)? {
            return Ok(held);
        }
        let form = self.layer_form();
        let (tree, record) = self.build_layer(layer, blob, form, source, progress)?;
        let directory = tree
            .publish(self.layers(), &layer.hex())
            .on("publish", path)?;
        self.share(&directory)?;
        Ok(HeldLayer {
            _directory: directory,
            record,
        })
    }

    /// Makes a layer's directory in `ingest/`, whole and flushed. A layer that no index can hold is
    /// unpacked whatever was asked for.
    fn build_layer(
        &self,
        layer: DiffId,
        blob: Digest,
        form: LayerForm,
        source: Source<'_>,
        progress: &mut dyn FnMut(Step),
    ) -> Result<(Temporary<OwnedFd>, Record)> {
        let path = || self.layer_path(layer);
        let made = Temporary::directory(self.ingest()).on("create", path)?;
        let directory = made.content();
        let (laid, counts): (Laid, Counts) = match form {
            LayerForm::Unpacked => unpacked::lay_down(directory, layer, source, progress)?,
            LayerForm::Indexed => match indexed::lay_down(directory, layer, source, progress)? {
                indexed::Outcome::Laid(laid, counts) => (laid, counts),
                indexed::Outcome::NoIndexHolds(mut tar) => {
                    let source = Source::of_tar(&mut tar, None);
                    let laid = unpacked::lay_down(directory, layer, source, progress)?;
                    rustix::fs::unlinkat(directory, indexed::TAR, AtFlags::empty())
                        .on("remove the tar of", path)?;
                    laid
                }
            },
        };
        let record = Record::new(layer, blob, laid, counts);
        record.write(directory).on("write the record of", path)?;
        rustix::fs::fsync(directory).on("flush", path)?;
        Ok((made, record))
    }

    /// Puts a layer, laid down anew, in the place of the one that is there, in one step. Who has the
    /// old one mounted keeps it. That is no use of the layer.
    pub(crate) fn replace_layer(
        &self,
        layer: DiffId,
        blob: Digest,
        form: LayerForm,
        source: Source<'_>,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Record> {
        let path = || self.layer_path(layer);
        let turn = format!("layer-{}", layer.hex());
        let _turn = SingleFlight::enter(self.ingest(), &turn, || {}).on("lock", path)?;
        let (made, record) = self.build_layer(layer, blob, form, source, progress)?;
        let before = object::stat(self.layers(), format!("{}/{RECORD}", layer.hex()));
        if let Some(before) = before.on("stat the record of", path)? {
            let times = Timestamps {
                last_access: Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                },
                last_modification: Timespec {
                    tv_sec: before.st_mtime,
                    tv_nsec: before.st_mtime_nsec as _,
                },
            };
            rustix::fs::utimensat(made.content(), RECORD, &times, AtFlags::SYMLINK_NOFOLLOW)
                .on("set the times of", path)?;
        }
        made.replace(self.layers(), &layer.hex())
            .on("replace", path)?;
        Ok(record)
    }

    /// Lays a layer down anew whose tar is the file of a blob that was damaged, and is no more.
    pub(crate) fn mend_layer_of(&self, blob: Digest, damaged: &Held) -> Result<()> {
        let layer = DiffId::from(blob);
        let path = || self.layer_path(layer);
        let Some(directory) = self.hold_layer(layer)? else {
            return Ok(());
        };
        let Ok(tar) = indexed::open(&directory, indexed::TAR) else {
            return Ok(());
        };
        let identity = dir::identity(damaged).on("stat", || self.blob_path(blob))?;
        if dir::identity(&tar).on("stat the tar of", path)? != identity {
            return Ok(());
        }
        let mut file = self.open_blob(blob)?;
        let source = Source::of_blob(blob, &mut file);
        let source = source.lying_at(blob, layer, self.place_of_blob(blob));
        self.replace_layer(layer, blob, LayerForm::Indexed, source, &mut |_| {})
            .map(drop)
    }
}
