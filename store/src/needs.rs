//! What `index.json` leads to: the roots of the store, and every blob each of them needs.
//!
//! ```text
//! index.json -> index -> ... -> manifest -> config -> diff ids -> layers/
//!                                        -> layers' blobs
//! ```
//! An entry names an image's manifest, an index of several (which may hold indexes in turn), or
//! something this crate does not know: an attestation, an artifact. What is not known is followed
//! by the descriptors that can be seen in it. Where even that fails nobody knows what is needed,
//! and whoever removes things must leave everything where it is.
//!
//! A manifest that an index names and the store does not have is no damage: other tools copy single
//! platforms of an index.

use std::collections::{HashMap, HashSet};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::layout::Store;
use crate::object::Object;
use crate::oci::document::Document;
use crate::oci::index::{self, Index};
use crate::oci::manifest::{Descriptor, Manifest};
use crate::reference::Reference;

/// Indexes within indexes: more than anybody has use for, few enough for the stack.
const DEEPEST: usize = 8;

/// Everything that one digest in `index.json` leads to.
#[derive(Debug)]
pub(crate) struct Root {
    /// The entry, as it stands in `index.json`; of several with this digest the first.
    pub(crate) entry: Descriptor,
    /// The names of the entry, as they are written.
    pub(crate) names: Vec<String>,
    pub(crate) pinned: bool,
    /// Where it was pulled from.
    pub(crate) source: Option<Reference>,
    /// Whether the compressed blobs of its layers may be missing.
    pub(crate) may_lack_blobs: bool,
    /// Digests it can be asked for by: its own, those of the indexes in it, and those of the indexes
    /// it was chosen from.
    pub(crate) aliases: Vec<Digest>,
    /// The manifests of images, in the order of preference of the index.
    pub(crate) manifests: Vec<FoundManifest>,
    /// Every blob, itself included; in the order they were found, each once.
    pub(crate) blobs: Vec<Digest>,
    /// What could not be read.
    pub(crate) damage: Vec<Error>,
    seen: HashSet<Digest>,
}

/// The manifest of an image.
#[derive(Clone, Debug)]
pub(crate) struct FoundManifest {
    pub(crate) descriptor: Descriptor,
    pub(crate) manifest: Manifest,
    pub(crate) bytes: Vec<u8>,
}

impl Root {
    fn of(index: &Index, entry: &Descriptor) -> Self {
        let same = || {
            index
                .manifests
                .iter()
                .filter(|one| one.digest == entry.digest)
        };
        let chosen_from = same().filter_map(index::chosen_from);
        Self {
            names: index.names(entry.digest).map(str::to_owned).collect(),
            pinned: same().any(index::is_pinned),
            source: same().find_map(index::source),
            may_lack_blobs: same().any(index::may_lack_blobs),
            aliases: std::iter::once(entry.digest).chain(chosen_from).collect(),
            entry: entry.clone(),
            manifests: Vec::new(),
            blobs: Vec::new(),
            damage: Vec::new(),
            seen: HashSet::new(),
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        self.entry.digest
    }

    /// The digests of the images' manifests.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = Digest> {
        self.manifests.iter().map(|found| found.descriptor.digest)
    }

    /// Blobs, and what was laid down of its images, which stand here by their manifests.
    pub(crate) fn objects(&self, images: &HashMap<Digest, &Image>) -> HashSet<Object> {
        let blobs = self.blobs.iter().map(|digest| Object::Blob(*digest));
        let images = self.manifests().filter_map(|one| images.get(&one).copied());
        blobs.chain(images.flat_map(Image::laid_down)).collect()
    }

    /// The descriptors of its images' layers.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Descriptor> {
        let manifests = self.manifests.iter();
        manifests.flat_map(|found| &found.manifest.layers)
    }

    fn need(&mut self, blob: Digest) -> bool {
        let new = self.seen.insert(blob);
        if new {
            self.blobs.push(blob);
        }
        new
    }
}

impl Store {
    /// Follows every entry of the index, each digest once.
    pub(crate) fn roots(&self, index: &Index) -> Vec<Root> {
        let mut seen = HashSet::new();
        let entries = index.manifests.iter();
        entries
            .filter(|entry| seen.insert(entry.digest))
            .map(|entry| self.root_of(index, entry))
            .collect()
    }

    /// Follows one entry.
    pub(crate) fn root_of(&self, index: &Index, entry: &Descriptor) -> Root {
        let mut root = Root::of(index, entry);
        let walk = Walk { store: self };
        if let Err(error) = walk.descriptor(entry, 0, &mut root) {
            root.damage.push(error);
        }
        root
    }
}

struct Walk<'a> {
    store: &'a Store,
}

impl Walk<'_> {
    /// Notes a blob and, if it is a document, what it leads to.
    fn descriptor(&self, descriptor: &Descriptor, depth: usize, root: &mut Root) -> Result<()> {
        if !root.need(descriptor.digest) {
            return Ok(());
        }
        check_depth(descriptor, depth)?;
        let bytes = self.store.read_blob(descriptor.digest)?;
        if !may_run(descriptor) {
            return self.unknown(&bytes, descriptor, depth, root);
        }
        match Document::parse(&bytes, &descriptor.media_type) {
            Ok(Document::Index(index)) => {
                root.aliases.push(descriptor.digest);
                self.children(&index.manifests, depth, root);
                Ok(())
            }
            Ok(Document::Image(manifest)) => {
                root.need(manifest.config.digest);
                for layer in &manifest.layers {
                    root.need(layer.digest);
                }
                root.manifests.push(FoundManifest {
                    descriptor: descriptor.clone(),
                    manifest,
                    bytes,
                });
                Ok(())
            }
            Err(Error::Unsupported { .. }) => self.unknown(&bytes, descriptor, depth, root),
            Err(error) => Err(error),
        }
    }

    fn children(&self, children: &[Descriptor], depth: usize, root: &mut Root) {
        for child in children {
            match self.descriptor(child, depth + 1, root) {
                Err(error) if !error.is_not_found() => root.damage.push(error),
                // Another platform that was never brought here.
                Err(_) | Ok(()) => {}
            }
        }
    }

    /// Follows whatever looks like a descriptor: for documents of other people's making.
    fn unknown(
        &self,
        bytes: &[u8],
        descriptor: &Descriptor,
        depth: usize,
        root: &mut Root,
    ) -> Result<()> {
        let document: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| Error::json(descriptor.digest, error))?;
        let mut found = Vec::new();
        descriptors_in(&document, &mut found);
        for child in &found {
            let new = root.need(child.digest);
            let document = child.is_manifest() || child.is_index();
            if new
                && document
                && let Err(error) = self.unknown_document(child, depth + 1, root)
            {
                root.damage.push(error);
            }
        }
        Ok(())
    }

    /// A manifest in something that is no image or index: whatever it is, it is no image by that.
    fn unknown_document(
        &self,
        descriptor: &Descriptor,
        depth: usize,
        root: &mut Root,
    ) -> Result<()> {
        check_depth(descriptor, depth)?;
        match self.store.read_blob(descriptor.digest) {
            Ok(bytes) => self.unknown(&bytes, descriptor, depth, root),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn check_depth(descriptor: &Descriptor, depth: usize) -> Result<()> {
    if depth > DEEPEST {
        let reason = format!("indexes are nested deeper than {DEEPEST}");
        return Err(Error::damaged(descriptor.digest, reason));
    }
    Ok(())
}

/// Whether a manifest may be that of an image that runs somewhere. Attestations are for the
/// platform unknown/unknown.
fn may_run(descriptor: &Descriptor) -> bool {
    descriptor
        .platform()
        .is_none_or(|platform| platform.os != "unknown")
}

/// serde_json bounds how deep a document is, and with it this recursion. A subject is what a
/// signature is about: it does not need it, and goes when nobody else does.
fn descriptors_in(value: &serde_json::Value, found: &mut Vec<Descriptor>) {
    match value {
        serde_json::Value::Object(fields) => {
            // A copy for the few documents that come here.
            if let Ok(descriptor) = serde_json::from_value(value.clone()) {
                found.push(descriptor);
            }
            let fields = fields.iter().filter(|(key, _)| *key != "subject");
            fields.for_each(|(_, one)| descriptors_in(one, found));
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|one| descriptors_in(one, found));
        }
        _ => {}
    }
}
