//! What the images of the index need, as far as their manifests and configs can be read. Flaw is
//! no reason to stop: what is below a damaged manifest is unknown until that is healed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;

use super::{Flaw, Part, in_words};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::layout::Store;
use crate::merged::merged_of;
use crate::oci::config::ImageConfig;
use crate::oci::document::Document;
use crate::oci::index::{self, Index};
use crate::oci::manifest::{Descriptor, Manifest};
use crate::reference::Reference;

#[derive(Default)]
pub(super) struct Needs {
    /// The entries of the index.
    pub(super) images: Vec<Named>,
    pub(super) blobs: BTreeMap<Digest, Blob>,
    pub(super) layers: BTreeMap<DiffId, Layer>,
    /// The images' merged indexes, whether they are there or not.
    pub(super) merged: BTreeMap<Digest, Merged>,
    /// What is wrong in documents whose digests are right.
    pub(super) wrong: Vec<Flaw>,
    /// Whether every document could be read: what is not named here then is needed by no image.
    pub(super) complete: bool,
}

/// An entry of the index, with its names.
pub(super) struct Named {
    digest: Digest,
    names: Vec<String>,
}

impl Named {
    /// What it is called in reports.
    fn in_words(&self) -> String {
        match &self.names[..] {
            [] => self.digest.to_string(),
            names => names.join(", "),
        }
    }
}

#[derive(Default)]
pub(super) struct Blob {
    pub(super) size: Option<u64>,
    pub(super) is_document: bool,
    /// False for what need not be there: what belongs to no image, as an attestation's data, and
    /// other platforms of an index.
    pub(super) required: bool,
    images: BTreeSet<usize>,
}

#[derive(Default)]
pub(super) struct Layer {
    /// What it can be made from.
    pub(super) blobs: BTreeSet<Digest>,
    images: BTreeSet<usize>,
}

/// What the merged index of an image is made from.
#[derive(Default)]
pub(super) struct Merged {
    pub(super) layers: Vec<DiffId>,
    images: BTreeSet<usize>,
}

impl Needs {
    /// Of these images, or of all if none is named.
    pub(super) fn of(store: &Store, names: &[String]) -> Result<Self> {
        let index = store.index()?;
        let mut needs = Self {
            complete: true,
            ..Self::default()
        };
        let mut seen = HashSet::new();
        let mut roots = index
            .manifests
            .iter()
            .filter(|root| seen.insert(root.digest));
        if names.is_empty() {
            for root in roots {
                needs.image(store, &index, root)?;
            }
            return Ok(needs);
        }
        let chosen = choose(store, &index, names)?;
        for root in roots.by_ref().filter(|root| chosen.contains(&root.digest)) {
            needs.image(store, &index, root)?;
        }
        Ok(needs)
    }

    pub(super) fn parts(&self) -> BTreeSet<Part> {
        let blobs = self.blobs.keys().map(|digest| Part::Blob(*digest));
        let layers = self.layers.keys().map(|layer| Part::Layer(*layer));
        let merged = self.merged.keys().map(|chain| Part::Merged(*chain));
        blobs.chain(layers).chain(merged).collect()
    }

    pub(super) fn images_of(&self, part: Part) -> Vec<String> {
        let images = match part {
            Part::Index => None,
            Part::Blob(digest) => self.blobs.get(&digest).map(|blob| &blob.images),
            Part::Layer(layer) => self.layers.get(&layer).map(|layer| &layer.images),
            Part::Merged(chain) => self.merged.get(&chain).map(|merged| &merged.images),
        };
        let names = images.into_iter().flatten();
        names.map(|image| self.images[*image].in_words()).collect()
    }

    /// The names of the images that need a blob. One that some other tool wrote by its own rules is
    /// no reference of ours.
    pub(super) fn references_of(&self, blob: Digest) -> Vec<Reference> {
        let images = self
            .blobs
            .get(&blob)
            .into_iter()
            .flat_map(|blob| &blob.images);
        let names = images.flat_map(|image| &self.images[*image].names);
        names.filter_map(|name| name.parse().ok()).collect()
    }

    fn image(&mut self, store: &Store, index: &Index, root: &Descriptor) -> Result<()> {
        let number = self.images.len();
        self.images.push(Named {
            digest: root.digest,
            names: index.names(root.digest).map(str::to_owned).collect(),
        });
        let mut waiting = vec![root.clone()];
        let mut seen = HashSet::new();
        while let Some(descriptor) = waiting.pop() {
            if !seen.insert(descriptor.digest) {
                continue;
            }
            let required = descriptor.digest == root.digest;
            self.blob(&descriptor, required, number).is_document = true;
            let Some(bytes) = self.read(store, descriptor.digest, required, number)? else {
                continue;
            };
            match Document::parse(&bytes, &descriptor.media_type) {
                Ok(Document::Index(index)) => waiting.extend(index.manifests),
                Ok(Document::Image(manifest)) => {
                    let lean = index::may_lack_blobs(root);
                    self.manifest(store, &manifest, lean, number)?;
                }
                // An attestation, a signature: kept as it came.
                Err(Error::Unsupported { .. }) => {
                    if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
                        self.blob(&manifest.config, false, number);
                        for layer in &manifest.layers {
                            self.blob(layer, false, number);
                        }
                    }
                }
                Err(error) => self.wrong(descriptor.digest, &error, number),
            }
        }
        Ok(())
    }

    /// Of a lean image the blobs may be missing whose layers are there.
    fn manifest(
        &mut self,
        store: &Store,
        manifest: &Manifest,
        lean: bool,
        image: usize,
    ) -> Result<()> {
        self.blob(&manifest.config, true, image);
        for layer in &manifest.layers {
            self.blob(layer, !lean, image);
        }
        let digest = manifest.config.digest;
        let Some(bytes) = self.read(store, digest, true, image)? else {
            return Ok(());
        };
        match ImageConfig::parse(&bytes, manifest) {
            Ok(config) => {
                if let Some(chain) = merged_of(&config.rootfs.diff_ids) {
                    let merged = self.merged.entry(chain).or_default();
                    merged.layers.clone_from(&config.rootfs.diff_ids);
                    merged.images.insert(image);
                }
                for (layer, blob) in config.rootfs.diff_ids.iter().zip(&manifest.layers) {
                    let need = self.layers.entry(*layer).or_default();
                    need.blobs.insert(blob.digest);
                    need.images.insert(image);
                    if lean && store.hold_layer(*layer)?.is_none() {
                        self.blob(blob, true, image);
                    }
                }
            }
            Err(error) => self.wrong(digest, &error, image),
        }
        Ok(())
    }

    fn blob(&mut self, descriptor: &Descriptor, required: bool, image: usize) -> &mut Blob {
        let blob = self.blobs.entry(descriptor.digest).or_default();
        blob.size.get_or_insert(descriptor.size);
        blob.required |= required;
        blob.images.insert(image);
        blob
    }

    /// A document's bytes; `None` if the check of that blob will find something.
    fn read(
        &mut self,
        store: &Store,
        digest: Digest,
        required: bool,
        image: usize,
    ) -> Result<Option<Vec<u8>>> {
        match store.read_blob(digest) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(Error::Damaged { .. }) => {}
            Err(error) if error.is_not_found() && !required => return Ok(None),
            Err(error) if error.is_not_found() => {}
            Err(Error::Io { source, .. }) if super::check::tells_of_damage(&source) => {}
            Err(error @ Error::Io { .. }) if too_large(&error) => self.wrong(digest, &error, image),
            Err(error) => return Err(error),
        }
        self.complete = false;
        Ok(None)
    }

    fn wrong(&mut self, digest: Digest, error: &Error, image: usize) {
        self.complete = false;
        self.wrong.push(Flaw {
            part: Part::Blob(digest),
            path: None,
            problem: in_words(error),
            images: vec![self.images[image].in_words()],
        });
    }
}

fn too_large(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::InvalidData)
}

/// The entries of the index that names mean.
fn choose(store: &Store, index: &Index, names: &[String]) -> Result<HashSet<Digest>> {
    let names = names.iter();
    names
        .map(|name| Ok(store.meant(index, name)?.root.digest()))
        .collect()
}
