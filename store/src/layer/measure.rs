//! What a layer takes on the disk, in whatever form it lies there.

use rustix::fs::Stat;

use super::indexed::{INDEX, TAR};
use super::listing::LISTING;
use super::record::{Laid, RECORD};
use crate::digest::DiffId;
use crate::error::{Context, Result};
use crate::layout::Store;
use crate::object::{Measured, allocated, modified, stat};

impl Store {
    /// A tree by its record, since nobody can look at all files of all layers; what lies beside it, and
    /// the files of an indexed layer, as they are.
    pub(crate) fn measure_layer(&self, layer: DiffId) -> Result<Option<Measured>> {
        let hex = layer.hex();
        let stat = |name: &str| stat(self.layers(), name).on("stat", || self.layer_path(layer));
        let Some(directory) = stat(&hex)? else {
            return Ok(None);
        };
        let record = stat(&format!("{hex}/{RECORD}"))?;
        // A record that cannot be read is damage, and verify says so; nothing else depends on it.
        let laid = self.layer_record(layer).ok().map(|record| record.laid);
        let (tree, beside): (u64, &[&str]) = match laid {
            Some(Laid::Unpacked { allocated, .. }) => (allocated, &[LISTING]),
            Some(Laid::Indexed { .. }) => (0, &[INDEX, TAR]),
            None => (0, &[LISTING, INDEX, TAR]),
        };
        let mut bytes = tree + allocated(&directory) + record.as_ref().map_or(0, allocated);
        let mut in_common = 0;
        for name in beside {
            match stat(&format!("{hex}/{name}"))? {
                Some(tar) if *name == TAR && self.is_blob(layer, &tar)? => {
                    in_common = allocated(&tar);
                }
                file => bytes += file.as_ref().map_or(0, allocated),
            }
        }
        Ok(Some(Measured {
            bytes,
            in_common,
            used: modified(record.as_ref().unwrap_or(&directory)),
            form: laid.map(Laid::form),
        }))
    }

    /// Whether a layer's tar is its blob's file.
    fn is_blob(&self, layer: DiffId, tar: &Stat) -> Result<bool> {
        if tar.st_nlink < 2 {
            return Ok(false);
        }
        let blob = stat(self.blobs(), layer.hex()).on("stat", || self.blob_path(layer.digest()))?;
        let same = |blob: Stat| (blob.st_dev, blob.st_ino) == (tar.st_dev, tar.st_ino);
        Ok(blob.is_some_and(same))
    }
}
