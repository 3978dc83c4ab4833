//! `load`: images out of an archive. The archive is read whole before anything of it is believed;
//! then layers are laid down, blobs published, and the index names all images in one step, or none.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;

use super::incoming::{Files, Incoming};
use super::{DOCKER_MANIFEST, DockerImage, FULL_NAME, INDEX, LAYOUT};
use crate::digest::{DiffId, Digest};
use crate::error::{Context, Error, Result};
use crate::import::{Progress, Warning};
use crate::layer::HeldLayer;
use crate::layer::source::Source;
use crate::layout::Store;
use crate::oci::config::ImageConfig;
use crate::oci::document::Document;
use crate::oci::index::{Index, REF_NAME};
use crate::oci::manifest::{
    CONFIG, Descriptor, LAYER_TAR, LAYER_TAR_GZIP, LAYER_TAR_ZSTD, MANIFEST, Manifest,
};
use crate::reference::Reference;

/// Indexes in indexes, at most. Real ones have one level.
const DEEPEST: usize = 4;
/// Layers that are held until the index names them. One that is not held may be removed by others
/// in between: then it is unpacked again when somebody wants it.
const MOST_HELD: usize = 256;

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its name in the archive, if it had one.
    pub reference: Option<Reference>,
    /// The image id; of an index with several platforms, the index's digest.
    pub id: Digest,
    /// The digest of its manifest or index.
    pub digest: Digest,
}

/// What an archive holds, checked as far as documents go.
#[derive(Default)]
struct Plan {
    /// What the index will name.
    entries: Vec<(Descriptor, Option<Reference>, Digest)>,
    /// Blobs that are published.
    blobs: BTreeSet<Digest>,
    /// The manifests of images.
    manifests: BTreeSet<Digest>,
    /// Manifests made here, for archives that have none.
    made: Vec<Vec<u8>>,
    /// What each layer is laid down from.
    layers: HashMap<DiffId, Digest>,
    /// What lies beside the images and is none.
    artifacts: Vec<(Digest, String)>,
}

impl Plan {
    fn without_images(&self) -> String {
        match self.artifacts.first() {
            None => "there is no image in it".to_owned(),
            Some((digest, kind)) => {
                format!("there is no image in it: {digest} is an artifact of type {kind}")
            }
        }
    }
}

impl Store {
    /// Loads all images of an archive, plain or compressed, as [`Store::save`], docker, podman and
    /// skopeo write them. Nothing stays if it fails.
    pub fn load(
        &self,
        input: &mut dyn Read,
        name: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Loaded>> {
        let files = Files::read(self, input, name, &mut |bytes| {
            progress(Progress::Reading { bytes, total: None });
        })?;
        self.load_files(&files, progress)
    }

    /// As [`Store::load`], of an archive that is unpacked: an image layout, mostly.
    pub fn load_directory(
        &self,
        path: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Loaded>> {
        let files = Files::of_directory(self, path, &mut |bytes| {
            progress(Progress::Reading { bytes, total: None });
        })?;
        self.load_files(&files, progress)
    }

    fn load_files(&self, files: &Files, progress: &mut dyn FnMut(Progress)) -> Result<Vec<Loaded>> {
        let plan = if files.at(INDEX).is_some() && files.at(LAYOUT).is_some() {
            Planner::new(self, files).oci()?
        } else if let Some(manifest) = files.at(DOCKER_MANIFEST) {
            Planner::new(self, files).docker(manifest)?
        } else {
            let reason = format!("it has neither {INDEX} and {LAYOUT} nor {DOCKER_MANIFEST}");
            return Err(files.refuse(format!("it is no archive of images: {reason}")));
        };
        if plan.entries.is_empty() {
            return Err(files.refuse(plan.without_images()));
        }
        for (digest, kind) in plan.artifacts.iter().cloned() {
            progress(Progress::Warning(Warning::SkippedArtifact { digest, kind }));
        }
        let (mut blobs, mut layers) = (Vec::new(), Vec::new());
        let named = self
            .lay_down_all(files, &plan, &mut layers, progress)
            .and_then(|_held| self.name_all(files, &plan, &mut blobs));
        if named.is_err() {
            self.take_back(&blobs, &layers);
        }
        named?;
        let loaded = plan.entries.into_iter();
        Ok(loaded
            .map(|(descriptor, reference, id)| Loaded {
                reference,
                id,
                digest: descriptor.digest,
            })
            .collect())
    }

    /// Lays down the layers that are not there, each held; those made are noted in `made`.
    fn lay_down_all(
        &self,
        files: &Files,
        plan: &Plan,
        made: &mut Vec<DiffId>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<HeldLayer>> {
        let mut held = Vec::new();
        let layers: BTreeSet<_> = plan.layers.iter().collect();
        for (layer, blob) in layers {
            let layer = match self.hold_laid_down(*layer)? {
                Some(layer) => layer,
                None => {
                    let file = files.with_digest(*blob);
                    let mut source = match file {
                        Some(file) => files.open(file)?,
                        None => self.open_blob(*blob)?,
                    };
                    made.push(*layer);
                    self.lay_down_one(*layer, *blob, (files, file), &mut source, progress)?
                }
            };
            if held.len() < MOST_HELD {
                held.push(layer);
            }
        }
        Ok(held)
    }

    fn lay_down_one(
        &self,
        layer: DiffId,
        blob: Digest,
        (files, file): (&Files, Option<Incoming>),
        source: &mut (dyn Read + Send),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<HeldLayer> {
        let total = file.map_or(0, |file| file.size);
        let source = Source::of_blob(blob, source);
        let place = match file {
            Some(file) => files.place(file),
            None => self.place_of_blob(blob),
        };
        let source = source.lying_at(blob, layer, place);
        self.make_layer(layer, blob, source, &mut |step| {
            progress(Progress::of(step, total));
        })
    }

    /// Publishes the blobs and names the images, under the index lock: nobody removes a blob in
    /// between, so that none has to be held. What was not there before is noted in `published`.
    fn name_all(&self, files: &Files, plan: &Plan, published: &mut Vec<Digest>) -> Result<()> {
        let mut held = Vec::new();
        for document in &plan.made {
            let (digest, document) = self.put_blob(document)?;
            published.push(digest);
            held.push(document);
        }
        files.flush()?;
        let mut locked = self.lock_index()?;
        for digest in &plan.blobs {
            match files.with_digest(*digest) {
                Some(file) => {
                    if files.publish(self, file)? {
                        published.push(*digest);
                    }
                }
                None if self.hold_blob(*digest)?.is_some() => {}
                None => {
                    let reason = format!("it does not have {digest}, and nor does the store");
                    return Err(files.refuse(reason));
                }
            }
        }
        rustix::fs::fsync(self.blobs()).on("flush", || "the directory of blobs".to_owned())?;
        // Loading is a use, of what was there as well.
        for manifest in &plan.manifests {
            self.touch_manifest(*manifest)?;
        }
        for (descriptor, reference, _) in &plan.entries {
            let name = reference.as_ref().map(ToString::to_string);
            locked.index.add(descriptor.clone(), name.as_deref());
        }
        locked.save()
    }
}

/// Goes through the documents of an archive.
struct Planner<'a> {
    store: &'a Store,
    files: &'a Files,
    plan: Plan,
    /// Whether what indexes name is there. Several may name the same.
    children: HashMap<Digest, bool>,
}

impl<'a> Planner<'a> {
    fn new(store: &'a Store, files: &'a Files) -> Self {
        Self {
            store,
            files,
            plan: Plan::default(),
            children: HashMap::new(),
        }
    }

    /// Of an OCI image layout.
    fn oci(mut self) -> Result<Plan> {
        let index: Index = self.json(INDEX)?;
        for descriptor in index.manifests {
            if let Some(kind) = self.artifact(&descriptor)? {
                self.plan.artifacts.push((descriptor.digest, kind));
                continue;
            }
            let reference = self.name_of(&descriptor)?;
            let Some(id) = self.document(&descriptor, 0)? else {
                let reason = format!(
                    "its {INDEX} names {}, which it does not have",
                    descriptor.digest
                );
                return Err(self.files.refuse(reason));
            };
            let mut entry =
                Descriptor::new(&descriptor.media_type, descriptor.digest, descriptor.size);
            let platform = descriptor.other.get("platform").cloned();
            entry
                .other
                .extend(platform.map(|platform| ("platform".to_owned(), platform)));
            self.plan.entries.push((entry, reference, id));
        }
        Ok(self.plan)
    }

    /// Of what type something is that is no image: a chart, a signature.
    fn artifact(&self, descriptor: &Descriptor) -> Result<Option<String>> {
        let bytes = self.bytes(descriptor)?;
        Ok(bytes.and_then(|bytes| Document::artifact_type(&bytes)))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let file = self.files.at(path);
        let missing = || self.files.refuse(format!("it has no {path}"));
        let bytes = self.files.small(file.ok_or_else(missing)?, path)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::json(path, error))
    }

    /// containerd's whole name counts more than the other, which may be only a tag.
    fn name_of(&self, descriptor: &Descriptor) -> Result<Option<Reference>> {
        let names = [FULL_NAME, REF_NAME].map(|key| descriptor.annotations.get(key));
        let Some(name) = names.into_iter().flatten().next() else {
            return Ok(None);
        };
        let reference: Reference = name.parse()?;
        if reference.digest().is_some() {
            // `name@digest`: known by its digest, there is no tag to be set.
            return Ok(None);
        }
        Ok(Some(reference))
    }

    /// A manifest or index and all below it: the image id, or the index's digest. `None` if the
    /// archive does not have it.
    fn document(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Option<Digest>> {
        let digest = descriptor.digest;
        if depth > DEEPEST {
            let reason = format!("indexes in it are nested deeper than {DEEPEST}");
            return Err(self.files.refuse(reason));
        }
        let Some(bytes) = self.bytes(descriptor)? else {
            return Ok(None);
        };
        self.plan.blobs.insert(digest);
        match Document::parse(&bytes, &descriptor.media_type) {
            Ok(Document::Image(manifest)) => {
                self.plan.manifests.insert(digest);
                self.image(&manifest)?;
                Ok(Some(manifest.config.digest))
            }
            Ok(Document::Index(index)) => {
                let mut is_any_there = false;
                for child in &index.manifests {
                    is_any_there |= self.child(child, depth + 1)?;
                }
                if !is_any_there {
                    let reason = format!("it has none of the images of the index {digest}");
                    return Err(self.files.refuse(reason));
                }
                Ok(Some(digest))
            }
            // What comes with an image, as an attestation, is kept as it is.
            Err(Error::Unsupported { .. }) if depth > 0 => {
                if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
                    let blobs = manifest.layers.iter().chain([&manifest.config]);
                    let there = blobs.map(|blob| blob.digest);
                    let files = self.files;
                    let there = there.filter(|digest| files.with_digest(*digest).is_some());
                    self.plan.blobs.extend(there);
                }
                Ok(Some(digest))
            }
            Err(error) => Err(error),
        }
    }

    /// What an index names, once however many do; whether it is there.
    fn child(&mut self, descriptor: &Descriptor, depth: usize) -> Result<bool> {
        if let Some(is_there) = self.children.get(&descriptor.digest) {
            return Ok(*is_there);
        }
        let is_there = self.document(descriptor, depth)?.is_some();
        self.children.insert(descriptor.digest, is_there);
        Ok(is_there)
    }

    /// A document's bytes, from the archive or the store.
    fn bytes(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        let digest = descriptor.digest;
        let bytes = match self.files.with_digest(digest) {
            Some(file) => self.files.small(file, &digest.to_string())?,
            None => match self.store.document(digest)? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        self.check_size(descriptor, bytes.len() as u64)?;
        Ok(Some(bytes))
    }

    fn check_size(&self, descriptor: &Descriptor, found: u64) -> Result<()> {
        if descriptor.size == found {
            return Ok(());
        }
        Err(Error::Mismatch {
            object: format!("blob {}", descriptor.digest),
            expected: format!("{} bytes", descriptor.size),
            found: found.to_string(),
        })
    }

    /// An image's config and layers.
    fn image(&mut self, manifest: &Manifest) -> Result<()> {
        let Some(bytes) = self.bytes(&manifest.config)? else {
            let reason = format!("it does not have the config {}", manifest.config.digest);
            return Err(self.files.refuse(reason));
        };
        let config = ImageConfig::parse(&bytes, manifest)?;
        self.plan.blobs.insert(manifest.config.digest);
        for (layer, blob) in config.rootfs.diff_ids.iter().zip(&manifest.layers) {
            if let Some(file) = self.files.with_digest(blob.digest) {
                self.check_size(blob, file.size)?;
            }
            self.plan.blobs.insert(blob.digest);
            self.plan.layers.insert(*layer, blob.digest);
        }
        Ok(())
    }

    /// Of a Docker archive, whose images have no manifests: they are made here, the same from the
    /// same archive.
    fn docker(mut self, manifest: Incoming) -> Result<Plan> {
        let bytes = self.files.small(manifest, DOCKER_MANIFEST)?;
        let images: Vec<DockerImage> =
            serde_json::from_slice(&bytes).map_err(|error| Error::json(DOCKER_MANIFEST, error))?;
        for image in images {
            let config = self.file(&image.config)?;
            let layers = image.layers.iter();
            let layers = layers.map(|path| self.docker_layer(path));
            let manifest = Manifest {
                schema_version: 2,
                media_type: Some(MANIFEST.to_owned()),
                config: Descriptor::new(CONFIG, config.digest, config.size),
                layers: layers.collect::<Result<_>>()?,
            };
            self.image(&manifest)?;
            let bytes =
                serde_json::to_vec(&manifest).map_err(|error| Error::json("a manifest", error))?;
            let entry = Descriptor::of_document(MANIFEST, &bytes, None);
            self.plan.manifests.insert(entry.digest);
            let id = config.digest;
            let mut names = Vec::new();
            for tag in image.repo_tags.unwrap_or_default() {
                names.push(Some(tag.parse()?));
            }
            if names.is_empty() {
                names.push(None);
            }
            let entries = names.into_iter().map(|name| (entry.clone(), name, id));
            self.plan.entries.extend(entries);
            self.plan.made.push(bytes);
        }
        Ok(self.plan)
    }

    fn file(&self, path: &str) -> Result<Incoming> {
        let missing = || {
            let reason = format!("its {DOCKER_MANIFEST} names {path:?}, which it does not have");
            self.files.refuse(reason)
        };
        self.files.at(path).ok_or_else(missing)
    }

    fn docker_layer(&self, path: &str) -> Result<Descriptor> {
        let file = self.file(path)?;
        let mut magic = [0; 4];
        let read = self
            .files
            .open(file)?
            .read(&mut magic)
            .on("read", || path.to_owned())?;
        let media_type = match &magic[..read] {
            [0x1f, 0x8b, ..] => LAYER_TAR_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] => LAYER_TAR_ZSTD,
            _ => LAYER_TAR,
        };
        Ok(Descriptor::new(media_type, file.digest, file.size))
    }
}
