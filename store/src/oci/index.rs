//! `index.json` of an image layout (OCI image-spec: image-index.md, image-layout.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::manifest::Descriptor;
use crate::digest::Digest;

pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The image index that a manifest was chosen from when it was pulled.
pub(crate) const INDEX_DIGEST: &str = "io.mybox.index";

/// The index: one descriptor for each tag of each manifest, and one without a name for a manifest
/// that has no tag.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

    /// Adds a manifest, under a name or without one; the manifest that had the name before.
    pub(crate) fn add(&mut self, mut manifest: Descriptor, name: Option<&str>) -> Option<Digest> {
        let digest = manifest.digest;
        manifest.annotations.remove(REF_NAME);
        let Some(name) = name else {
            if !self.manifests.iter().any(|known| known.digest == digest) {
                self.manifests.push(manifest);
            }
            return None;
        };
        let before = self.named(name).map(|descriptor| descriptor.digest);
        if before == Some(digest) {
            return None;
        }
        if let Some(before) = before {
            self.untag(before, name);
        }
        self.manifests
            .retain(|known| known.digest != digest || reference(known).is_some());
        manifest
            .annotations
            .insert(REF_NAME.to_owned(), name.to_owned());
        self.manifests.push(manifest);
        before
    }

    /// Takes a name from a manifest; the manifest stays, without a name if that was the last.
    pub(crate) fn untag(&mut self, manifest: Digest, name: &str) {
        let last = self.names(manifest).count() == 1;
        if last {
            for known in &mut self.manifests {
                if known.digest == manifest && reference(known) == Some(name) {
                    known.annotations.remove(REF_NAME);
                }
            }
        } else {
            self.manifests
                .retain(|known| known.digest != manifest || reference(known) != Some(name));
        }
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
