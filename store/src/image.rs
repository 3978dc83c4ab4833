//! Images: what `index.json` leads to, read together with manifest and config.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::digest::{DiffId, Digest};
use crate::error::{Context, Error, Result};
use crate::layout::Store;
use crate::merged;
use crate::needs::{FoundManifest, Root};
use crate::object::{self, Object};
use crate::oci::config::ImageConfig;
use crate::oci::document::Document;
use crate::oci::index::Index;
use crate::oci::manifest::Descriptor;
use crate::platform::Platform;
use crate::reference::Reference;

/// An image for one platform: one manifest with all its references.
#[derive(Clone, Debug)]
pub struct Image {
    /// What Docker calls the image id: the digest of the config.
    pub id: Digest,
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The digests of the indexes it was chosen from or is named by.
    pub indexes: Vec<Digest>,
    /// Its names, those of an index it is in included, sorted; empty for an untagged image.
    pub references: Vec<Reference>,
    /// Whether gc leaves it alone whatever its age.
    pub pinned: bool,
    /// What it runs on.
    pub platform: Platform,
    /// What it says about itself.
    pub config: ImageConfig,
    /// Its layers, base first.
    pub layers: Vec<DiffId>,
    /// Their blobs, in the same order.
    pub blobs: Vec<Descriptor>,
    /// RFC 3339.
    pub created: Option<String>,
    /// The entry of `index.json` it was reached by.
    root: Digest,
    /// What a new name for it names: the manifest, or the index it was asked for by.
    named: Descriptor,
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

    /// What it is made of in the store: blobs, layers, their merged index; each once, whether it is
    /// there or not.
    pub fn parts(&self) -> BTreeSet<Object> {
        let documents = [self.manifest, self.id].into_iter();
        let blobs = documents.chain(self.blobs.iter().map(|blob| blob.digest));
        blobs.map(Object::Blob).chain(self.laid_down()).collect()
    }

    /// What was made of its blobs, so that it can be run.
    pub(crate) fn laid_down(&self) -> impl Iterator<Item = Object> {
        let layers = self.layers.iter().map(|layer| Object::Layer(*layer));
        layers.chain(merged::merged_of(&self.layers).map(Object::Merged))
    }

    /// The digest of the entry of `index.json` that it was reached by.
    pub fn entry(&self) -> Digest {
        self.root
    }

    /// The manifest or index that its name names, as `index.json` describes it.
    pub fn named(&self) -> &Descriptor {
        &self.named
    }
}

/// All of the store's images at one time, and what they need.
#[derive(Debug, Default)]
pub struct Catalog {
    /// By reference; untagged ones last.
    pub images: Vec<Image>,
    /// What could not be read: images that are not listed, and of which nobody knows what they need.
    pub damage: Vec<Damage>,
    pub(crate) roots: Vec<Root>,
}

/// An entry of `index.json` that cannot be read whole.
#[derive(Debug)]
pub struct Damage {
    /// The digest of the manifest or index.
    pub digest: Digest,
    /// Its names.
    pub names: Vec<String>,
    /// What is wrong with it.
    pub error: Error,
}

/// What a name means: an entry of the index, or one manifest that the entry leads to.
pub(crate) struct Meant {
    pub(crate) root: Root,
    /// The manifest, where it was asked for and not the whole entry.
    pub(crate) manifest: Option<Digest>,
}

impl Catalog {
    /// Adds a root; its images, which are the caller's to list.
    pub(crate) fn add(&mut self, store: &Store, mut root: Root) -> Vec<Image> {
        let mut wrong = std::mem::take(&mut root.damage);
        let mut images = Vec::new();
        for found in &root.manifests {
            match store.image_of(&root, found) {
                Ok(image) => images.push(image),
                Err(error) => wrong.push(error),
            }
        }
        if let Some(error) = wrong.into_iter().next() {
            self.damage.push(Damage {
                digest: root.digest(),
                names: root.names.clone(),
                error,
            });
        }
        self.roots.push(root);
        images
    }

    /// Every blob, layer and merged index that some entry of the index leads to.
    pub(crate) fn needed(&self) -> HashSet<Object> {
        let blobs = self.roots.iter().flat_map(|root| root.blobs.iter());
        let images = self.images.iter();
        blobs
            .map(|digest| Object::Blob(*digest))
            .chain(images.flat_map(Image::laid_down))
            .collect()
    }
}

impl Store {
    /// All images, by reference; untagged ones last. Fails if one cannot be read.
    pub fn images(&self) -> Result<Vec<Image>> {
        let catalog = self.catalog()?;
        match catalog.damage.into_iter().next() {
            Some(damage) => Err(damage.error),
            None => Ok(catalog.images),
        }
    }

    /// All images that can be read, and what is wrong with the others.
    pub fn catalog(&self) -> Result<Catalog> {
        self.catalog_of(&self.index()?)
    }

    pub(crate) fn catalog_of(&self, index: &Index) -> Result<Catalog> {
        let mut images = Images::default();
        let mut catalog = Catalog::default();
        for root in self.roots(index) {
            let digest = root.digest();
            let found = catalog.add(self, root);
            let damaged = catalog
                .damage
                .last()
                .is_some_and(|one| one.digest == digest);
            if damaged && !self.index()?.has(digest) {
                // Removed while it was read.
                catalog.damage.pop();
                catalog.roots.pop();
                continue;
            }
            found.into_iter().for_each(|image| images.add(image));
        }
        catalog.images = images.sorted();
        Ok(catalog)
    }

    /// The image of this name: a reference (`ubuntu`, `localhost:5000/x:1`), the image id or the
    /// manifest's digest, or the beginning of either, with or without `sha256:`. A reference wins.
    /// Of an index that holds several platforms' images, the one for this machine.
    pub fn find(&self, name: &str) -> Result<Image> {
        self.find_for(name, None)
    }

    /// As [`Store::find`], for a platform other than this machine's; an image that is only there
    /// for another one is [`Error::NoSuchPlatform`]. Without a platform an image that is no choice
    /// of several is found whatever it is for.
    pub fn find_for(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        self.read_along(|index| {
            let meant = self.meant(index, name)?;
            self.choose(meant, name, platform)
        })
    }

    /// Reads what the index leads to. What fails because it was removed in between is read again
    /// from the index as it is by then.
    pub(crate) fn read_along<T>(&self, mut read: impl FnMut(&Index) -> Result<T>) -> Result<T> {
        let mut index = self.index()?;
        loop {
            let error = match read(&index) {
                Err(error) if !matches!(error, Error::NoSuchImage { .. }) => error,
                answer => return answer,
            };
            let now = self.index()?;
            if now == index {
                return Err(error);
            }
            index = now;
        }
    }

    /// The image whose manifest is an entry of the index.
    pub(crate) fn image_entered(&self, index: &Index, manifest: Digest) -> Result<Image> {
        let name = manifest.to_string();
        let mut entries = index.manifests.iter();
        let entry = entries.find(|entry| entry.digest == manifest);
        let root = self.root_of(index, entry.ok_or_else(|| no_such(&name))?);
        let meant = Meant {
            root,
            manifest: Some(manifest),
        };
        self.choose(meant, &name, None)
    }

    /// What a name means, by its reference or else by the beginning of a digest.
    pub(crate) fn meant(&self, index: &Index, name: &str) -> Result<Meant> {
        if let Some(meant) = self.by_reference(index, name) {
            return Ok(meant);
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(hex) {
            return Err(no_such(name));
        }
        self.by_prefix(index, name, prefix)
    }

    /// A name exactly, or a digest in a repository that is known.
    fn by_reference(&self, index: &Index, name: &str) -> Option<Meant> {
        let reference: Reference = name.parse().ok()?;
        for name in [&reference, &reference.without_redundant_tag()] {
            if let Some(entry) = index.named(&name.to_string()) {
                let root = self.root_of(index, entry);
                return Some(Meant {
                    root,
                    manifest: None,
                });
            }
        }
        let digest = reference.digest()?;
        let same_repository = |name: &str| {
            name.parse::<Reference>().is_ok_and(|known| {
                (known.registry(), known.repository())
                    == (reference.registry(), reference.repository())
            })
        };
        let mut seen = HashSet::new();
        let entries = index.manifests.iter();
        entries
            .filter(|entry| index.names(entry.digest).any(same_repository))
            .filter(|entry| seen.insert(entry.digest))
            .map(|entry| self.root_of(index, entry))
            .find_map(|root| root.meant_by(digest))
    }

    /// The beginning of an image id, or of the digest of a manifest or index.
    fn by_prefix(&self, index: &Index, name: &str, prefix: &str) -> Result<Meant> {
        let fits = |digest: &Digest| digest.hex().starts_with(prefix);
        let mut roots = self.roots(index);
        // What is meant, by its digest: the same image may be reached in several ways.
        let mut found: BTreeMap<Digest, (usize, Option<Digest>)> = BTreeMap::new();
        for (number, root) in roots.iter().enumerate() {
            for one in &root.manifests {
                let digest = one.descriptor.digest;
                if fits(&digest) || fits(&one.manifest.config.digest) {
                    found.insert(digest, (number, Some(digest)));
                }
            }
            if let Some(alias) = root.aliases.iter().find(|alias| fits(alias)) {
                let only = match &*root.manifests {
                    [only] => Some(only.descriptor.digest),
                    _ => None,
                };
                found.insert(only.unwrap_or(*alias), (number, only));
            }
        }
        if found.len() > 1 {
            let id = |(digest, (number, manifest)): (&Digest, &(usize, Option<Digest>))| {
                let root = &roots[*number];
                manifest.map_or(*digest, |manifest| root.id_of(manifest))
            };
            return Err(Error::Ambiguous {
                prefix: name.to_owned(),
                matches: found.iter().map(id).collect(),
            });
        }
        let (number, manifest) = found.into_values().next().ok_or_else(|| no_such(name))?;
        let root = roots.swap_remove(number);
        Ok(Meant { root, manifest })
    }

    /// The image for a platform out of what a name means.
    fn choose(&self, meant: Meant, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let Meant { mut root, manifest } = meant;
        let is_choice = manifest.is_none() && root.entry.is_index();
        if let Some(manifest) = manifest {
            root.manifests
                .retain(|found| found.descriptor.digest == manifest);
        }
        if root.manifests.is_empty() {
            let reason = format!("it is no image but {}", root.entry.media_type);
            return Err(root.damage.pop().unwrap_or_else(|| Error::Unsupported {
                object: name.to_owned(),
                reason,
            }));
        }
        let mut number = 0;
        if is_choice || platform.is_some() {
            let offers = root.manifests.iter().map(|found| self.platform_of(found));
            let offers: Vec<Platform> = offers.collect::<Result<_>>()?;
            let wanted = platform.cloned().unwrap_or_else(Platform::host);
            number = match (wanted.choose(offers.iter()), root.damage.pop()) {
                (Some(number), _) => number,
                // Perhaps the very one.
                (None, Some(damage)) => return Err(damage),
                (None, None) => {
                    return Err(Error::NoSuchPlatform {
                        name: name.to_owned(),
                        wanted,
                        offered: offers,
                    });
                }
            };
        }
        let mut image = self.image_of(&root, &root.manifests[number])?;
        if manifest.is_none() {
            image.named = root.entry;
        }
        Ok(image)
    }

    /// What a manifest is for: as it is described, or else as its config says.
    fn platform_of(&self, found: &FoundManifest) -> Result<Platform> {
        match found.descriptor.platform() {
            Some(platform) => Ok(platform),
            None => Ok(self.config_of(found)?.0.platform()),
        }
    }

    fn config_of(&self, found: &FoundManifest) -> Result<(ImageConfig, Vec<u8>)> {
        let digest = found.manifest.config.digest;
        let bytes = self.read_blob(digest)?;
        let config: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|error| Error::json(digest, error))?;
        let (diff_ids, layers) = (config.rootfs.diff_ids.len(), found.manifest.layers.len());
        if diff_ids != layers {
            let reason = format!("the config has {diff_ids} diff ids for {layers} layers");
            return Err(Error::damaged(found.descriptor.digest, reason));
        }
        Ok((config, bytes))
    }

    fn image_of(&self, root: &Root, found: &FoundManifest) -> Result<Image> {
        let (config, config_bytes) = self.config_of(found)?;
        let manifest = found.descriptor.digest;
        // A name some other tool wrote by its own rules is no reference of ours.
        let names = root.names.iter();
        let mut references: Vec<Reference> = names.filter_map(|name| name.parse().ok()).collect();
        references.sort();
        let aliases = root.aliases.iter().copied();
        Ok(Image {
            id: found.manifest.config.digest,
            manifest,
            indexes: aliases.filter(|alias| *alias != manifest).collect(),
            references,
            pinned: root.pinned,
            platform: config.platform(),
            layers: config.rootfs.diff_ids.clone(),
            blobs: found.manifest.layers.clone(),
            created: config.created.clone(),
            config,
            root: root.digest(),
            named: found.descriptor.clone(),
            config_bytes,
            manifest_bytes: found.bytes.clone(),
        })
    }

    /// Bytes that the trees of the image's layers take on the disk, each layer once. Layers that
    /// are not unpacked count as nothing.
    pub fn size(&self, image: &Image) -> u64 {
        let mut seen = HashSet::new();
        let layers = image.layers.iter().filter(|layer| seen.insert(**layer));
        let sizes = layers.map(|layer| self.measure_layer(*layer).ok().flatten());
        let bytes = sizes.flatten().map(|measured| measured.whole());
        bytes.fold(0, u64::saturating_add)
    }

    /// Gives what an image was found as, its manifest or the index it is in, one more name; the
    /// image that had the name before, if another one had.
    pub fn tag(&self, image: &Image, reference: &Reference) -> Result<Option<Digest>> {
        if reference.digest().is_some() {
            return Err(Error::BadReference {
                text: reference.to_string(),
                reason: "a tag to be set has no digest",
            });
        }
        let mut locked = self.lock_index()?;
        if !locked.index.has(image.root) {
            return Err(no_such(&image.id.to_string()));
        }
        let before = locked
            .index
            .add(image.named.clone(), Some(&reference.to_string()));
        locked.save()?;
        self.used(image)?;
        Ok(before.map(|digest| self.id_or_digest(digest)))
    }

    /// Pins what a name means, so that gc leaves it alone, or lets go of it; whether that changed
    /// anything.
    pub fn pin(&self, name: &str, pinned: bool) -> Result<bool> {
        let mut locked = self.lock_index()?;
        let meant = self.meant(&locked.index, name)?;
        let name = name.parse::<Reference>().ok().map(|name| name.to_string());
        let name = name.filter(|name| meant.root.names.contains(name));
        let changed = locked
            .index
            .pin(meant.root.digest(), name.as_deref(), pinned);
        if changed {
            locked.save()?;
        }
        Ok(changed)
    }

    /// Remembers that an image is used now. A store that cannot be written to has no such memory.
    pub fn used(&self, image: &Image) -> Result<()> {
        self.touch_manifest(image.manifest)
    }

    pub(crate) fn touch_manifest(&self, manifest: Digest) -> Result<()> {
        object::touch(self.blobs(), &manifest.hex()).on("touch", || self.blob_path(manifest))
    }

    /// The image id where a digest is a manifest's, else the digest itself.
    fn id_or_digest(&self, digest: Digest) -> Digest {
        let document = self.read_blob(digest).ok();
        let parsed = document.and_then(|bytes| Document::parse(&bytes, "").ok());
        match parsed {
            Some(Document::Image(manifest)) => manifest.config.digest,
            _ => digest,
        }
    }
}

impl Root {
    /// What a digest means within this root.
    fn meant_by(self, digest: Digest) -> Option<Meant> {
        let mut manifests = self.manifests.iter();
        let manifest = manifests
            .find(|found| found.descriptor.digest == digest)
            .map(|found| found.descriptor.digest);
        let known = manifest.is_some() || self.aliases.contains(&digest);
        known.then_some(Meant {
            root: self,
            manifest,
        })
    }

    /// The image id of a manifest.
    pub(crate) fn id_of(&self, manifest: Digest) -> Digest {
        let mut manifests = self.manifests.iter();
        let found = manifests.find(|found| found.descriptor.digest == manifest);
        found.map_or(manifest, |found| found.manifest.config.digest)
    }
}

/// Images, each once, with the names of all the entries that lead to it.
#[derive(Default)]
struct Images {
    images: Vec<Image>,
    by_manifest: HashMap<Digest, usize>,
}

impl Images {
    fn add(&mut self, image: Image) {
        let Some(number) = self.by_manifest.get(&image.manifest) else {
            self.by_manifest.insert(image.manifest, self.images.len());
            self.images.push(image);
            return;
        };
        let known = &mut self.images[*number];
        known.references.extend(image.references);
        known.references.sort();
        known.references.dedup();
        known.indexes.extend(image.indexes);
        known.pinned |= image.pinned;
    }

    fn sorted(mut self) -> Vec<Image> {
        self.images.sort_by(|one, other| {
            let nameless = |image: &Image| image.references.is_empty();
            nameless(one)
                .cmp(&nameless(other))
                .then_with(|| one.references.first().cmp(&other.references.first()))
                .then_with(|| one.manifest.cmp(&other.manifest))
        });
        self.images
    }
}

fn no_such(name: &str) -> Error {
    Error::NoSuchImage {
        name: name.to_owned(),
    }
}
