//! A layer in another form: made anew beside the old one, and exchanged with it in one step. Who has
//! the old one mounted keeps it until they end.

use std::os::fd::OwnedFd;

use crate::blob::Held;
use crate::digest::{DiffId, Digest};
use crate::error::{Context, Error, Result};
use crate::ingest;
use crate::layer::Step;
use crate::layer::form::LayerForm;
use crate::layer::indexed::{self, TAR};
use crate::layer::record::{Laid, Record};
use crate::layer::source::{Place, Source};
use crate::layout::Store;
use crate::receive::LayerStep;

/// What became of a layer that was to have another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The form it has now. A layer with something in it that no index can hold stays unpacked.
    pub form: LayerForm,
    /// Whether it had that before.
    pub had_it: bool,
    /// Bytes it took on the disk, those too that its blob has in common with it.
    pub before: u64,
    /// Bytes it takes now.
    pub after: u64,
}

impl Store {
    /// Gives a layer that is there another form; `None` if it is not there. What is indexed is made
    /// from a blob, the one that the layer was made from or one of `blobs`; what is unpacked, from the
    /// layer's own tar.
    pub fn convert_layer(
        &self,
        layer: DiffId,
        form: LayerForm,
        blobs: &[Digest],
        progress: &mut dyn FnMut(LayerStep),
    ) -> Result<Option<Converted>> {
        // Held against removal; what takes its place is no other layer.
        let Some(directory) = self.hold_layer(layer)? else {
            return Ok(None);
        };
        let record = self.record_of(&directory, layer)?;
        let size = || -> Result<u64> {
            let measured = self.measure_layer(layer)?;
            Ok(measured.map_or(0, |measured| measured.whole()))
        };
        let before = size()?;
        let had_it = record.laid.form() == form;
        let form = if had_it {
            form
        } else {
            let tell = &mut |step| progress(LayerStep::of(step));
            let made = self.exchange(&record, &directory, form, blobs, tell)?;
            made.laid.form()
        };
        drop(directory);
        // The old one goes at once, unless somebody else has it.
        ingest::sweep(self.ingest()).on("sweep", || self.root().display().to_string())?;
        Ok(Some(Converted {
            form,
            had_it,
            before,
            after: size()?,
        }))
    }

    fn exchange(
        &self,
        record: &Record,
        directory: &OwnedFd,
        form: LayerForm,
        blobs: &[Digest],
        progress: &mut dyn FnMut(Step),
    ) -> Result<Record> {
        let layer = record.diff_id;
        if let Laid::Indexed { .. } = record.laid {
            let path = || format!("{}/{TAR}", self.layer_path(layer));
            let mut tar = indexed::open(directory, TAR).on("open", path)?;
            let source = Source::named(path(), &mut tar);
            let made = self.replace_layer(layer, record.blob, form, source, progress);
            return made.map_err(|error| damaged_if_other(error, path()));
        }
        let (blob, held) = self.blob_of(record, blobs)?;
        let path = || self.blob_path(blob);
        let mut reader = held.reader().on("open", path)?;
        let place: Place<'_> = self.place_of_blob(blob);
        let source = Source::of_blob(blob, &mut reader).lying_at(blob, layer, place);
        let made = self.replace_layer(layer, blob, form, source, progress);
        made.map_err(|error| damaged_if_other(error, path()))
    }

    /// The first blob that is there of those that a layer can be made from.
    fn blob_of(&self, record: &Record, others: &[Digest]) -> Result<(Digest, Held)> {
        for blob in std::iter::once(&record.blob).chain(others) {
            if let Some(held) = self.hold_blob(*blob)? {
                return Ok((*blob, held));
            }
        }
        Err(Error::NoBlob {
            layer: record.diff_id,
            blob: record.blob,
        })
    }
}

/// What is in the store and has another digest than it is called by is damaged.
fn damaged_if_other(error: Error, object: String) -> Error {
    match error {
        Error::Mismatch { found, .. } => {
            Error::damaged(object, format!("the layer in it is {found}"))
        }
        other => other,
    }
}
