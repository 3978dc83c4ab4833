//! Image manifest and descriptor (OCI image-spec: manifest.md, descriptor.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

/// OCI's media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// OCI's media type of an image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const LAYER_TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const LAYER_TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const LAYERS: [&str; 6] = [
    LAYER_TAR,
    LAYER_TAR_GZIP,
    LAYER_TAR_ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];
const NON_DISTRIBUTABLE: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
];

/// Names a blob: what it is, how long, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// What this crate has no use for, kept as it came.
    #[serde(flatten)]
    pub(crate) other: BTreeMap<String, serde_json::Value>,
}

impl Descriptor {
    /// Whether it names an image's manifest, in OCI's or Docker's words.
    pub fn is_manifest(&self) -> bool {
        self.media_type == MANIFEST || self.media_type == DOCKER_MANIFEST
    }

    /// A layer under its name in OCI's manifests, whatever Docker's called it.
    pub(crate) fn in_oci_words(mut self) -> Self {
        if let Some(compression) = self.media_type.strip_prefix(DOCKER_LAYER) {
            self.media_type = format!("{LAYER_TAR}{}", compression.replace('.', "+"));
        }
        self
    }

    /// Whether it names an index, in OCI's or Docker's words.
    pub fn is_index(&self) -> bool {
        self.media_type == INDEX || self.media_type == DOCKER_LIST
    }

    /// The platform it is for, as far as it says.
    pub fn platform(&self) -> Option<Platform> {
        let platform = self.other.get("platform")?;
        let word = |key: &str| {
            let text = platform.get(key).and_then(serde_json::Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        Some(Platform {
            os: word("os")?,
            architecture: word("architecture")?,
            variant: word("variant"),
        })
    }

    /// Whether it names a layer: a tar, plain or compressed; which, its bytes tell.
    pub(crate) fn is_layer(&self) -> bool {
        LAYERS.contains(&&*self.media_type) || self.need_not_be_distributed()
    }

    /// Whether it names a layer that registries and archives need not have.
    pub fn need_not_be_distributed(&self) -> bool {
        let mut kinds = NON_DISTRIBUTABLE.iter();
        kinds.any(|kind| self.media_type.starts_with(kind))
    }

    /// Where else its bytes are said to be.
    pub fn urls(&self) -> Vec<&str> {
        let urls = self.other.get("urls").and_then(serde_json::Value::as_array);
        urls.into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_str)
            .collect()
    }

    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: BTreeMap::new(),
            other: BTreeMap::new(),
        }
    }
}

/// One image for one platform.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    /// Its config.
    pub config: Descriptor,
    /// Its layers' blobs, base first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// Whether it is an image's, not that of some other artifact.
    pub fn is_image(&self) -> bool {
        self.config.media_type == CONFIG || self.config.media_type == DOCKER_CONFIG
    }
}

/// A choice of manifests (OCI image-spec: image-index.md; Docker calls it a manifest list).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// What there is to choose from, in order of preference.
    pub manifests: Vec<Descriptor>,
}
