//! Images written into a store by hand, as another tool that knows OCI image layouts would.

use std::path::Path;

use mybox_store::Digest;
use serde_json::{Value, json};

/// Writes blobs and entries of `index.json`.
pub(crate) struct Layout<'a>(pub(crate) &'a Path);

impl Layout<'_> {
    /// Writes a blob; what names it.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        let path = self.0.join("blobs/sha256").join(digest.hex());
        std::fs::write(path, bytes).expect("write a blob");
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    }

    /// An image of these uncompressed layers.
    pub(crate) fn image(&self, platform: &str, layers: &[Vec<u8>]) -> Value {
        let (os, architecture) = platform.split_once('/').expect("os/architecture");
        let layer = |bytes: &Vec<u8>| self.blob("application/vnd.oci.image.layer.v1.tar", bytes);
        let layers: Vec<Value> = layers.iter().map(layer).collect();
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let config = json!({
            "os": os,
            "architecture": architecture,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let kind = "application/vnd.oci.image.config.v1+json";
        let config = self.blob(kind, config.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let mut described = self.manifest(&manifest);
        described["platform"] = json!({ "os": os, "architecture": architecture });
        described
    }

    /// A manifest of any kind.
    pub(crate) fn manifest(&self, manifest: &Value) -> Value {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        self.blob(kind, manifest.to_string().as_bytes())
    }

    /// An index of these manifests or indexes.
    pub(crate) fn index(&self, manifests: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        let kind = "application/vnd.oci.image.index.v1+json";
        self.blob(kind, index.to_string().as_bytes())
    }

    /// Enters something into `index.json`.
    pub(crate) fn enter(&self, mut descriptor: Value, name: &str) {
        let reference = format!("docker.io/library/{name}");
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": reference });
        let path = self.0.join("index.json");
        let bytes = std::fs::read(&path).expect("index.json");
        let mut index: Value = serde_json::from_slice(&bytes).expect("JSON");
        let manifests = index["manifests"].as_array_mut().expect("a list");
        manifests.push(descriptor);
        std::fs::write(path, index.to_string()).expect("write index.json");
    }
}

/// The digest in a descriptor.
pub(crate) fn digest(descriptor: &Value) -> Digest {
    let text = descriptor["digest"].as_str().expect("a digest");
    text.parse().expect("a digest")
}
