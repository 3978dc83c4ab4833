//! Images: what `index.json` names, read together with manifest and config.

use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::layout::Store;
use crate::oci::config::ImageConfig;
use crate::oci::index::Index;
use crate::oci::manifest::{Descriptor, Manifest};
use crate::reference::Reference;

/// An image: one manifest with all its references.
#[derive(Clone, Debug)]
pub struct Image {
    /// What Docker calls the image id: the digest of the config.
    pub id: Digest,
    /// The digest of the manifest.
    pub manifest: Digest,
    /// Its names, sorted; empty for an untagged image.
    pub references: Vec<Reference>,
    /// What it says about itself.
    pub config: ImageConfig,
    /// Its layers, base first.
    pub layers: Vec<DiffId>,
    /// RFC 3339.
    pub created: Option<String>,
    descriptor: Descriptor,
    blobs: Vec<Digest>,
    config_bytes: Vec<u8>,
    manifest_bytes: Vec<u8>,
}

impl Image {
    /// The config, byte for byte as it is in the store.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// The manifest, byte for byte as it is in the store.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// The blobs of its layers, base first.
    pub(crate) fn blobs(&self) -> &[Digest] {
        &self.blobs
    }
}

impl Store {
    /// All images, by reference; untagged ones last.
    pub fn images(&self) -> Result<Vec<Image>> {
        let index = self.index()?;
        let mut images = Vec::new();
        for digest in manifests(&index) {
            match self.image(&index, digest) {
                Ok(image) => images.push(image),
                // Removed while it was read.
                Err(_) if !manifests(&self.index()?).contains(&digest) => {}
                Err(error) => return Err(error),
            }
        }
        images.sort_by(|one, other| {
            let key = |image: &Image| {
                (
                    image.references.is_empty(),
                    image.references.first().cloned(),
                )
            };
            key(one)
                .cmp(&key(other))
                .then(one.manifest.cmp(&other.manifest))
        });
        Ok(images)
    }

    /// The image of this name: a reference (`ubuntu`, `localhost:5000/x:1`), the image id or the
    /// manifest's digest, or the beginning of either, with or without `sha256:`. A reference wins.
    pub fn find(&self, name: &str) -> Result<Image> {
        let index = self.index()?;
        self.find_in(&index, name)
    }

    pub(crate) fn find_in(&self, index: &Index, name: &str) -> Result<Image> {
        if let Some(digest) = by_reference(index, name) {
            return self.image(index, digest);
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(hex) {
            return Err(Error::NoSuchImage {
                name: name.to_owned(),
            });
        }
        self.find_by_prefix(index, name, prefix)
    }

    fn find_by_prefix(&self, index: &Index, name: &str, prefix: &str) -> Result<Image> {
        let mut found = Vec::new();
        for digest in manifests(index) {
            if digest.hex().starts_with(prefix) {
                found.push(digest);
                continue;
            }
            // One that is damaged can still be found by its own digest.
            let Ok(manifest) = self.manifest(digest) else {
                continue;
            };
            if manifest.config.digest.hex().starts_with(prefix) {
                found.push(digest);
            }
        }
        match *found {
            [] => Err(Error::NoSuchImage {
                name: name.to_owned(),
            }),
            [only] => self.image(index, only),
            _ => Err(Error::Ambiguous {
                prefix: name.to_owned(),
                matches: self.ids(&found),
            }),
        }
    }

    fn ids(&self, manifests: &[Digest]) -> Vec<Digest> {
        let id = |digest: &Digest| {
            self.manifest(*digest)
                .map(|manifest| manifest.config.digest)
        };
        manifests
            .iter()
            .map(|digest| id(digest).unwrap_or(*digest))
            .collect()
    }

    /// Bytes of file data in the image's layers, each counted once for each time the image has it.
    /// Layers that are not unpacked count as nothing.
    pub fn size(&self, image: &Image) -> u64 {
        let sizes = image
            .layers
            .iter()
            .map(|layer| self.layer_record(*layer).map(|record| record.size));
        sizes.filter_map(Result::ok).fold(0, u64::saturating_add)
    }

    /// Gives an image one more name; the image that had the name before, if another one had.
    pub fn tag(&self, image: &Image, reference: &Reference) -> Result<Option<Digest>> {
        if reference.digest().is_some() {
            return Err(Error::BadReference {
                text: reference.to_string(),
                reason: "a tag to be set has no digest",
            });
        }
        let mut locked = self.lock_index()?;
        if !locked
            .index
            .manifests
            .iter()
            .any(|known| known.digest == image.manifest)
        {
            return Err(Error::NoSuchImage {
                name: image.id.to_string(),
            });
        }
        let before = locked
            .index
            .add(image.descriptor.clone(), Some(&reference.to_string()));
        locked.save()?;
        before
            .map(|manifest| Ok(self.manifest(manifest)?.config.digest))
            .transpose()
    }

    pub(crate) fn manifest(&self, digest: Digest) -> Result<Manifest> {
        let bytes = self.read_blob(digest)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::json(digest, error))
    }

    pub(crate) fn image(&self, index: &Index, digest: Digest) -> Result<Image> {
        let descriptor = index.manifests.iter().find(|known| known.digest == digest);
        let descriptor = descriptor
            .ok_or(Error::NoSuchImage {
                name: digest.to_string(),
            })?
            .clone();
        let manifest_bytes = self.read_blob(digest)?;
        let manifest: Manifest =
            serde_json::from_slice(&manifest_bytes).map_err(|error| Error::json(digest, error))?;
        let id = manifest.config.digest;
        let config_bytes = self.read_blob(id)?;
        let config: ImageConfig =
            serde_json::from_slice(&config_bytes).map_err(|error| Error::json(id, error))?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let (diff_ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
            let reason = format!("the config has {diff_ids} diff ids for {layers} layers");
            return Err(Error::damaged(digest, reason));
        }
        // A name some other tool wrote by its own rules is no reference of ours.
        let mut references: Vec<Reference> = index
            .names(digest)
            .filter_map(|name| name.parse().ok())
            .collect();
        references.sort();
        Ok(Image {
            id,
            manifest: digest,
            references,
            layers: config.rootfs.diff_ids.clone(),
            created: config.created.clone(),
            config,
            descriptor,
            blobs: manifest.layers.iter().map(|layer| layer.digest).collect(),
            config_bytes,
            manifest_bytes,
        })
    }
}

/// Each manifest of the index once, in its order. An index within the index, as other tools may put
/// there for several platforms, is not an image of ours.
pub(crate) fn manifests(index: &Index) -> Vec<Digest> {
    let mut digests: Vec<Digest> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let manifests = index.manifests.iter().filter(|known| known.is_manifest());
    digests.extend(
        manifests
            .map(|known| known.digest)
            .filter(|one| seen.insert(*one)),
    );
    digests
}

/// The manifest a reference names: exactly, or by a digest in a repository that is known.
pub(crate) fn by_reference(index: &Index, name: &str) -> Option<Digest> {
    let reference: Reference = name.parse().ok()?;
    if let Some(exact) = index.named(&reference.to_string()) {
        return Some(exact.digest);
    }
    let digest = reference.digest()?;
    let same_repository = |known: &str| {
        known.parse::<Reference>().is_ok_and(|known| {
            (known.registry(), known.repository()) == (reference.registry(), reference.repository())
        })
    };
    index.names(digest).any(same_repository).then_some(digest)
}
