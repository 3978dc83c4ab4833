//! Compressed blobs that can do without: those of layers that are laid down, of images that can be
//! fetched again from where they were pulled.
//!
//! They are kept unless somebody asks for the room (`gc --compressed`): a push needs them, since
//! nobody compresses the same bytes to the same bytes again. An entry of `index.json` whose blobs may
//! be missing says so (`io.mybox.compressed`), and where it is from (`io.mybox.source`).

use std::collections::{BTreeMap, HashSet};

use crate::digest::{DiffId, Digest};
use crate::error::{Context, Result};
use crate::image::Image;
use crate::layout::Store;
use crate::needs::Root;
use crate::object::{self, Object};
use crate::oci::index::may_lack_blobs;
use crate::survey::Survey;
use crate::verify::WantedBlob;

impl Survey {
    /// The compressed blobs that can go, each with the entries of the index that need it: every one
    /// of them was pulled, and has the layer that was made of the blob.
    pub(crate) fn droppable(&self) -> BTreeMap<Digest, Vec<Digest>> {
        let images = self.by_manifest();
        let mut droppable: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        let mut needed = HashSet::new();
        for root in &self.catalog.roots {
            let images = root.manifests().filter_map(|one| images.get(&one).copied());
            let compressed = self.compressed_blobs(images);
            for blob in &root.blobs {
                if root.source.is_some() && compressed.contains(blob) {
                    droppable.entry(*blob).or_default().push(root.digest());
                } else {
                    needed.insert(*blob);
                }
            }
        }
        droppable.retain(|blob, _| {
            !needed.contains(blob) && self.objects.contains_key(&Object::Blob(*blob))
        });
        droppable
    }

    /// The blobs of the layers that are laid down, without those that are the layer's own tar.
    fn compressed_blobs<'a>(&self, images: impl Iterator<Item = &'a Image>) -> HashSet<Digest> {
        let layers = images.flat_map(|image| image.layers.iter().zip(&image.blobs));
        layers
            .filter(|(layer, blob)| layer.digest() != blob.digest)
            .filter(|(layer, _)| self.objects.contains_key(&Object::Layer(**layer)))
            .map(|(_, blob)| blob.digest)
            .collect()
    }
}

impl Store {
    /// The blobs of an image's layers that were dropped, and where each can be fetched again: what a
    /// push or a save needs first.
    pub fn dropped_blobs(&self, name: &str) -> Result<Vec<WantedBlob>> {
        let meant = self.meant(&self.index()?, name)?;
        let root = &meant.root;
        if !root.may_lack_blobs {
            return Ok(Vec::new());
        }
        let names = root.names.iter().filter_map(|name| name.parse().ok());
        let references: Vec<_> = root.source.iter().cloned().chain(names).collect();
        let mut wanted = Vec::new();
        for layer in root.layers() {
            if self.has_blob(layer.digest)? {
                continue;
            }
            wanted.push(WantedBlob {
                digest: layer.digest,
                size: Some(layer.size),
                is_document: false,
                references: references.clone(),
            });
        }
        Ok(wanted)
    }

    /// Of these layers and their blobs those whose layer is here and whose blob was dropped: nobody
    /// who pulls such an image again needs to fetch it.
    pub fn dispensable(
        &self,
        layers: impl IntoIterator<Item = (DiffId, Digest)>,
    ) -> Result<HashSet<Digest>> {
        let index = self.index()?;
        // Every pull asks: only what may lack something is read.
        let lean = index.manifests.iter().filter(|entry| may_lack_blobs(entry));
        let lean = lean.flat_map(|entry| self.root_of(&index, entry).blobs);
        let known: HashSet<Digest> = lean.collect();
        let mut dispensable = HashSet::new();
        for (layer, blob) in layers {
            let dropped = known.contains(&blob) && !self.has_blob(blob)?;
            if dropped && self.hold_layer(layer)?.is_some() {
                dispensable.insert(blob);
            }
        }
        Ok(dispensable)
    }

    /// Whether blobs of an entry's layers are missing.
    pub(crate) fn lacks_blobs(&self, root: &Root) -> Result<bool> {
        for layer in root.layers() {
            if !self.has_blob(layer.digest)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_blob(&self, digest: Digest) -> Result<bool> {
        let stat = object::stat(self.blobs(), digest.hex());
        let stat = stat.on("stat", || self.blob_path(digest))?;
        Ok(stat.is_some())
    }
}
