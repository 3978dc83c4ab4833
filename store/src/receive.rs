//! Images that come from elsewhere, a registry or an archive: their layers laid down from blobs that
//! may still be arriving, their manifest named last.
//!
//! ```text
//! expect_blob -> Partial -> follow -> receive_layer      one for each layer, in parallel
//!             put_document (config, manifest, index)
//!             name_image                                 index.json, the last step
//! ```
//! Everything is held by its giver from the moment it is there until the index names it.

use std::io::Read;

use crate::blob::Held;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::layer::source::Source;
use crate::layer::{HeldLayer, Step};
use crate::layout::Store;
use crate::object::{Object, Verdict};
use crate::oci::config::ImageConfig;
use crate::oci::index::{INDEX_DIGEST, set_source};
use crate::oci::manifest::{Descriptor, Manifest};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::remove::{Removed, parts};

/// How far the laying down of a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerStep {
    /// Another process is laying it down; waiting for it.
    Waiting,
    /// Bytes of uncompressed tar so far.
    Unpacking {
        /// Files, directories and the rest.
        entries: u64,
        /// Bytes of uncompressed tar.
        bytes: u64,
    },
    /// Writing it to the disk.
    Flushing,
}

impl LayerStep {
    pub(crate) fn of(step: Step) -> Self {
        match step {
            Step::Waiting => Self::Waiting,
            Step::Unpacking { entries, bytes } => Self::Unpacking { entries, bytes },
            Step::Flushing => Self::Flushing,
        }
    }
}

impl Store {
    /// Holds a layer, if it is there.
    pub fn hold_laid_down(&self, layer: DiffId) -> Result<Option<HeldLayer>> {
        self.hold_layer_with_record(layer)
    }

    /// Holds a layer, laying it down from its blob if it is not there. Whatever the blob is, the
    /// result is the layer with this diff id or an error.
    pub fn receive_layer(
        &self,
        layer: DiffId,
        blob: Digest,
        source: &mut (dyn Read + Send),
        progress: &mut dyn FnMut(LayerStep),
    ) -> Result<HeldLayer> {
        let source = Source::of_blob(blob, source);
        self.make_layer(layer, blob, source, &mut |step| {
            progress(LayerStep::of(step));
        })
    }

    /// Stores a config, a manifest or an index unless it is there.
    pub fn put_document(&self, bytes: &[u8]) -> Result<Held> {
        self.put_blob(bytes).map(|(_, held)| held)
    }

    /// Gives back the room that an image took which did not come to be: those of its blobs and
    /// layers that no other image needs and nobody holds, downloads that were begun among them.
    pub fn give_back(&self, blobs: &[Digest], layers: &[DiffId]) -> Result<()> {
        let locked = self.lock_index()?;
        self.delete_unneeded(&locked, parts(blobs, layers), &mut Removed::default())?;
        for blob in blobs {
            if let Verdict::Condemned(partial) = self.condemn(Object::Partial(*blob))? {
                self.carry_out([partial])?;
            }
        }
        Ok(())
    }

    /// Enters a manifest or index into `index.json`, under a name or without one: what makes it an
    /// image of the store. `chosen_from` is the index it was chosen from, so that it can be found by
    /// that one's digest too. The answer is the manifest that had the name before, if another one had.
    ///
    /// The caller holds everything it needs. Of layers that are laid down the blobs may be missing.
    pub fn name_image(
        &self,
        mut descriptor: Descriptor,
        chosen_from: Option<Digest>,
        reference: Option<&Reference>,
    ) -> Result<Option<Digest>> {
        if let Some(index) = chosen_from {
            let index = index.to_string();
            descriptor
                .annotations
                .insert(INDEX_DIGEST.to_owned(), index);
        }
        if let Some(reference) = reference {
            set_source(&mut descriptor, reference);
        }
        let mut locked = self.lock_index()?;
        let entry = descriptor.clone();
        let before = locked
            .index
            .add(descriptor, reference.map(ToString::to_string).as_deref());
        let root = self.root_of(&locked.index, &entry);
        if self.lacks_blobs(&root)? {
            locked.index.allow_dropped(entry.digest);
        }
        locked.save()?;
        // That it was brought again is a use, even if all of it was here.
        for manifest in root.manifests() {
            self.touch_manifest(manifest)?;
        }
        Ok(before)
    }
}

impl Descriptor {
    /// Of a manifest or index with these bytes.
    pub fn of_document(media_type: &str, bytes: &[u8], platform: Option<&Platform>) -> Self {
        let mut descriptor = Self::new(media_type, Digest::of(bytes), bytes.len() as u64);
        if let Some(platform) = platform {
            let mut object = serde_json::Map::new();
            object.insert(
                "architecture".to_owned(),
                platform.architecture.clone().into(),
            );
            object.insert("os".to_owned(), platform.os.clone().into());
            if let Some(variant) = &platform.variant {
                object.insert("variant".to_owned(), variant.clone().into());
            }
            descriptor
                .other
                .insert("platform".to_owned(), object.into());
        }
        descriptor
    }
}

impl ImageConfig {
    /// Reads an image's config, and holds it against the manifest that names it.
    pub fn parse(bytes: &[u8], manifest: &Manifest) -> Result<Self> {
        let object = || format!("config {}", manifest.config.digest);
        if Digest::of(bytes) != manifest.config.digest || bytes.len() as u64 != manifest.config.size
        {
            return Err(Error::Mismatch {
                object: object(),
                expected: format!("{} bytes with this digest", manifest.config.size),
                found: format!("{} bytes with {}", bytes.len(), Digest::of(bytes)),
            });
        }
        let config: Self =
            serde_json::from_slice(bytes).map_err(|error| Error::json(object(), error))?;
        let (diff_ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
        if diff_ids != layers {
            return Err(Error::Unsupported {
                object: object(),
                reason: format!(
                    "it has {diff_ids} diff ids for the {layers} layers of its manifest"
                ),
            });
        }
        Ok(config)
    }

    /// The platform it says it is for.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().filter(|variant| !variant.is_empty()),
        }
    }
}
