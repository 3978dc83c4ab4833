//! Images built in memory, byte for byte as the test wants them.

use std::io::Write;
use std::path::Path;

use mybox_store::Digest;
use serde_json::{Value, json};

use crate::harness::Rootfs;

/// Bytes with a media type: a manifest, a config or a layer.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// The media type.
    pub(crate) media_type: String,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    /// Bytes of this type.
    pub(crate) fn new(media_type: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            media_type: media_type.into(),
            bytes: bytes.into(),
        }
    }

    /// `sha256:..`.
    pub(crate) fn digest(&self) -> String {
        Digest::of(&self.bytes).to_string()
    }

    /// The descriptor that names it.
    pub(crate) fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest(),
            "size": self.bytes.len(),
        })
    }
}

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    /// With the largest window that is taken: 32 MiB.
    ZstdWide,
}

/// An image of one platform.
#[derive(Clone, Debug)]
pub(crate) struct TestImage {
    pub(crate) manifest: Content,
    pub(crate) config: Content,
    pub(crate) layers: Vec<Content>,
    platform: Value,
}

impl TestImage {
    /// An OCI image of gzipped layers, for this machine.
    pub(crate) fn new(layers: impl IntoIterator<Item = Rootfs>) -> Self {
        let layers = layers.into_iter().map(|layer| (layer, Compression::Gzip));
        Self::of("oci", host_platform(), layers)
    }

    /// An image of layers packed in these ways, for this machine.
    pub(crate) fn packed(layers: impl IntoIterator<Item = (Rootfs, Compression)>) -> Self {
        Self::of("oci", host_platform(), layers)
    }

    /// As Docker wrote them before OCI: schema 2.
    pub(crate) fn docker(layers: impl IntoIterator<Item = Rootfs>) -> Self {
        let layers = layers.into_iter().map(|layer| (layer, Compression::Gzip));
        Self::of("docker", host_platform(), layers)
    }

    /// An image for another platform: `arm64`, or `arm/v7`.
    pub(crate) fn for_platform(
        architecture: &str,
        layers: impl IntoIterator<Item = Rootfs>,
    ) -> Self {
        let (architecture, variant) = architecture.split_once('/').unwrap_or((architecture, ""));
        let mut platform = json!({ "os": "linux", "architecture": architecture });
        if !variant.is_empty() {
            platform["variant"] = variant.into();
        }
        let layers = layers.into_iter().map(|layer| (layer, Compression::Gzip));
        Self::of("oci", platform, layers)
    }

    /// An OCI image of layers that are packed already, each with the tar that comes of it.
    pub(crate) fn of_blobs(layers: impl IntoIterator<Item = (Content, Vec<u8>)>) -> Self {
        Self::assemble("oci", host_platform(), layers)
    }

    fn of(
        form: &str,
        platform: Value,
        layers: impl IntoIterator<Item = (Rootfs, Compression)>,
    ) -> Self {
        let layers = layers.into_iter().map(|(layer, compression)| {
            let tar = layer.tar();
            (pack(form, &tar, compression), tar)
        });
        Self::assemble(form, platform, layers)
    }

    fn assemble(
        form: &str,
        platform: Value,
        layers: impl IntoIterator<Item = (Content, Vec<u8>)>,
    ) -> Self {
        let (packed, tars): (Vec<Content>, Vec<Vec<u8>>) = layers.into_iter().unzip();
        let diff_ids: Vec<String> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
        let mut config = platform.clone();
        config["config"] = json!({});
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let (config_type, manifest_type) = match form {
            "docker" => (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.distribution.manifest.v2+json",
            ),
            _ => (
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.manifest.v1+json",
            ),
        };
        let config = Content::new(config_type, config.to_string());
        let descriptors: Vec<Value> = packed.iter().map(Content::descriptor).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": config.descriptor(),
            "layers": descriptors,
        });
        Self {
            manifest: Content::new(manifest_type, manifest.to_string()),
            config,
            layers: packed,
            platform,
        }
    }

    /// The same with another manifest: what `change` makes of it.
    pub(crate) fn with_manifest(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let mut manifest = serde_json::from_slice(&self.manifest.bytes).expect("JSON");
        change(&mut manifest);
        self.manifest.bytes = manifest.to_string().into_bytes();
        self
    }

    /// What an index says of it.
    pub(crate) fn described(&self) -> Value {
        let mut descriptor = self.manifest.descriptor();
        descriptor["platform"] = self.platform.clone();
        descriptor
    }

    /// The config and the layers.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Content> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// The manifest's digest.
    pub(crate) fn digest(&self) -> String {
        self.manifest.digest()
    }

    /// Writes it as an OCI image layout, where it is called `name`.
    #[track_caller]
    pub(crate) fn write_layout(&self, directory: &Path, name: &str) {
        write_layout(directory, &self.manifest, name, std::slice::from_ref(self));
    }
}

/// An index of images, each with its platform.
pub(crate) fn index_of(images: &[TestImage]) -> Content {
    let manifests: Vec<Value> = images.iter().map(TestImage::described).collect();
    index_with("application/vnd.oci.image.index.v1+json", &manifests)
}

/// An index of this type with these descriptors.
pub(crate) fn index_with(media_type: &str, manifests: &[Value]) -> Content {
    let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    Content::new(media_type, index.to_string())
}

/// Writes an OCI image layout in which `name` is `top`.
#[track_caller]
pub(crate) fn write_layout(directory: &Path, top: &Content, name: &str, images: &[TestImage]) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("directory of blobs");
    let write = |content: &Content| {
        let digest = Digest::of(&content.bytes);
        std::fs::write(blobs.join(digest.hex()), &content.bytes).expect("write a blob");
    };
    write(top);
    for image in images {
        write(&image.manifest);
        image.blobs().for_each(write);
    }
    let mut entry = top.descriptor();
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    std::fs::write(directory.join("index.json"), index.to_string()).expect("write index.json");
    let layout = json!({ "imageLayoutVersion": "1.0.0" });
    std::fs::write(directory.join("oci-layout"), layout.to_string()).expect("write oci-layout");
}

fn host_platform() -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({ "os": "linux", "architecture": architecture })
}

fn pack(form: &str, tar: &[u8], compression: Compression) -> Content {
    let (suffix, bytes) = match compression {
        Compression::None => ("", tar.to_vec()),
        Compression::Gzip => ("+gzip", gzip(tar)),
        Compression::Zstd => ("+zstd", zstd::encode_all(tar, 3).expect("zstd in memory")),
        Compression::ZstdWide => ("+zstd", zstd_wide(tar)),
    };
    let media_type = match form {
        "docker" => "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned(),
        _ => format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
    };
    Content::new(media_type, bytes)
}

fn zstd_wide(tar: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("zstd in memory");
    encoder.window_log(25).expect("a window of 32 MiB");
    encoder.write_all(tar).expect("zstd in memory");
    encoder.finish().expect("zstd in memory")
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(tar).expect("gzip in memory");
    encoder.finish().expect("gzip in memory")
}
