//! `index.json` of an image layout (OCI image-spec: image-index.md, image-layout.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::manifest::Descriptor;
use crate::digest::Digest;
use crate::reference::Reference;

pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The image index that a manifest was chosen from when it was pulled.
pub(crate) const INDEX_DIGEST: &str = "io.mybox.index";
/// Where it was pulled from: registry and repository.
const SOURCE: &str = "io.mybox.source";
/// Says that the compressed blobs of its layers may be missing, since they can be fetched again.
const COMPRESSED: &str = "io.mybox.compressed";
const DROPPED: &str = "dropped";
/// Says that gc leaves alone what the entry names.
const PINNED: &str = "io.mybox.pinned";

/// The index: one descriptor for each tag of each manifest, and one without a name for a manifest
/// that has no tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
    /// What this crate has no use for, kept as it came.
    #[serde(flatten)]
    pub(crate) other: BTreeMap<String, serde_json::Value>,
}

impl Index {
    /// Whether there is an entry with this digest.
    pub(crate) fn has(&self, digest: Digest) -> bool {
        self.manifests.iter().any(|known| known.digest == digest)
    }

    /// The manifest with exactly this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .find(|descriptor| reference(descriptor) == Some(name))
    }

    /// All names of a manifest.
    pub(crate) fn names(&self, manifest: Digest) -> impl Iterator<Item = &str> {
        self.manifests
            .iter()
            .filter(move |descriptor| descriptor.digest == manifest)
            .filter_map(reference)
    }

    /// Adds a manifest, under a name or without one; the manifest that had the name before. A name
    /// that is pinned stays pinned.
    pub(crate) fn add(&mut self, mut manifest: Descriptor, name: Option<&str>) -> Option<Digest> {
        let digest = manifest.digest;
        manifest.annotations.remove(REF_NAME);
        self.inherit(&mut manifest);
        let Some(name) = name else {
            if !self.manifests.iter().any(|known| known.digest == digest) {
                self.manifests.push(manifest);
            }
            return None;
        };
        let before = self.named(name).cloned();
        set_pinned(&mut manifest, before.as_ref().is_some_and(is_pinned));
        manifest
            .annotations
            .insert(REF_NAME.to_owned(), name.to_owned());
        if before.as_ref().is_some_and(|known| known.digest == digest) {
            let known = self.manifests.iter_mut();
            known
                .filter(|known| reference(known) == Some(name))
                .for_each(|known| *known = manifest.clone());
            return None;
        }
        if let Some(before) = &before {
            self.untag(before.digest, name);
        }
        self.manifests
            .retain(|known| known.digest != digest || reference(known).is_some());
        self.manifests.push(manifest);
        before.map(|before| before.digest)
    }

    /// What is known of a manifest by its other entries stays known.
    fn inherit(&self, manifest: &mut Descriptor) {
        let same = self.manifests.iter();
        for known in same.filter(|known| known.digest == manifest.digest) {
            for key in [SOURCE, COMPRESSED] {
                if let Some(value) = known.annotations.get(key) {
                    let entry = manifest.annotations.entry(key.to_owned());
                    entry.or_insert_with(|| value.clone());
                }
            }
        }
    }

    /// What is made of another entry's image has that one's layers, and where they are from.
    pub(crate) fn inheriting(&self, base: Digest, mut manifest: Descriptor) -> Descriptor {
        for known in self.manifests.iter().filter(|known| known.digest == base) {
            if may_lack_blobs(known) {
                for key in [SOURCE, COMPRESSED] {
                    let value = known.annotations.get(key).cloned();
                    manifest
                        .annotations
                        .extend(value.map(|value| (key.to_owned(), value)));
                }
            }
        }
        manifest
    }

    /// Notes that the compressed blobs of an entry's layers may be missing from now on.
    pub(crate) fn allow_dropped(&mut self, digest: Digest) {
        let same = self.manifests.iter_mut();
        for known in same.filter(|known| known.digest == digest) {
            let (key, value) = (COMPRESSED.to_owned(), DROPPED.to_owned());
            known.annotations.insert(key, value);
        }
    }

    /// Takes a name from a manifest; the manifest stays, without a name if that was the last.
    pub(crate) fn untag(&mut self, manifest: Digest, name: &str) {
        let last = self.names(manifest).count() == 1;
        if last {
            for known in &mut self.manifests {
                if known.digest == manifest && reference(known) == Some(name) {
                    known.annotations.remove(REF_NAME);
                    set_pinned(known, false);
                }
            }
        } else {
            self.manifests
                .retain(|known| known.digest != manifest || reference(known) != Some(name));
        }
    }

    /// Pins an entry or lets go of it: the one of this name, or all of the digest. Whether that
    /// changed anything.
    pub(crate) fn pin(&mut self, digest: Digest, name: Option<&str>, pinned: bool) -> bool {
        let mut changed = false;
        for known in &mut self.manifests {
            let meant = known.digest == digest && (name.is_none() || reference(known) == name);
            if meant && is_pinned(known) != pinned {
                set_pinned(known, pinned);
                changed = true;
            }
        }
        changed
    }

    /// Forgets a manifest altogether.
    pub(crate) fn remove(&mut self, manifest: Digest) {
        self.manifests.retain(|known| known.digest != manifest);
    }
}

/// The name a descriptor carries.
pub(crate) fn reference(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations.get(REF_NAME).map(String::as_str)
}

/// The index that a manifest was chosen from.
pub(crate) fn chosen_from(descriptor: &Descriptor) -> Option<Digest> {
    descriptor.annotations.get(INDEX_DIGEST)?.parse().ok()
}

/// The repository that an entry was pulled from.
pub(crate) fn source(descriptor: &Descriptor) -> Option<Reference> {
    descriptor.annotations.get(SOURCE)?.parse().ok()
}

pub(crate) fn set_source(descriptor: &mut Descriptor, pulled: &Reference) {
    let source = format!("{}/{}", pulled.registry(), pulled.repository());
    descriptor.annotations.insert(SOURCE.to_owned(), source);
}

/// Whether the compressed blobs of its layers may be missing.
pub(crate) fn may_lack_blobs(descriptor: &Descriptor) -> bool {
    descriptor.annotations.get(COMPRESSED).map(String::as_str) == Some(DROPPED)
}

/// Whether gc leaves alone what the entry names.
pub(crate) fn is_pinned(descriptor: &Descriptor) -> bool {
    descriptor.annotations.get(PINNED).map(String::as_str) == Some("true")
}

fn set_pinned(descriptor: &mut Descriptor, pinned: bool) {
    if pinned {
        let (key, value) = (PINNED.to_owned(), "true".to_owned());
        descriptor.annotations.insert(key, value);
    } else {
        descriptor.annotations.remove(PINNED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::manifest::MANIFEST;

    fn image(number: u8) -> Descriptor {
        Descriptor::new(MANIFEST, Digest::of(&[number]), 1)
    }

    fn empty() -> Index {
        serde_json::from_str(r#"{"schemaVersion":2,"artifactType":"x/y"}"#).unwrap()
    }

    fn shape(index: &Index) -> Vec<(String, Option<&str>)> {
        index
            .manifests
            .iter()
            .map(|known| (known.digest.short(), reference(known)))
            .collect()
    }

    #[test]
    fn a_pin_stays_with_its_name() {
        let (one, two) = (image(1), image(2));
        let mut index = empty();
        index.add(one.clone(), Some("a"));
        index.add(one.clone(), Some("b"));
        assert!(index.pin(one.digest, Some("a"), true));
        assert!(!index.pin(one.digest, Some("a"), true));
        let pinned = |index: &Index| -> Vec<(Digest, Option<String>)> {
            let pinned = index.manifests.iter().filter(|known| is_pinned(known));
            pinned
                .map(|known| (known.digest, reference(known).map(str::to_owned)))
                .collect()
        };
        assert_eq!(pinned(&index), [(one.digest, Some("a".to_owned()))]);
        index.add(one.clone(), Some("a"));
        assert_eq!(pinned(&index), [(one.digest, Some("a".to_owned()))]);
        index.add(two.clone(), Some("a"));
        assert_eq!(pinned(&index), [(two.digest, Some("a".to_owned()))]);
        index.untag(two.digest, "a");
        assert_eq!(pinned(&index), []);
    }

    #[test]
    fn every_manifest_has_either_names_or_one_nameless_entry() {
        let (one, two) = (image(1), image(2));
        let (one_id, two_id) = (one.digest, two.digest);
        let mut index = empty();
        assert_eq!(index.add(one.clone(), None), None);
        assert_eq!(index.add(one.clone(), None), None);
        assert_eq!(shape(&index), [(one_id.short(), None)]);
        assert_eq!(index.add(one.clone(), Some("a")), None);
        assert_eq!(shape(&index), [(one_id.short(), Some("a"))]);
        assert_eq!(index.add(one, Some("b")), None);
        assert_eq!(index.add(two, Some("a")), Some(one_id));
        assert_eq!(
            shape(&index),
            [(one_id.short(), Some("b")), (two_id.short(), Some("a"))]
        );
        index.untag(one_id, "b");
        assert_eq!(
            shape(&index),
            [(one_id.short(), None), (two_id.short(), Some("a"))]
        );
        index.remove(one_id);
        assert_eq!(shape(&index), [(two_id.short(), Some("a"))]);
        assert!(
            serde_json::to_string(&index)
                .unwrap()
                .contains("artifactType")
        );
    }
}
