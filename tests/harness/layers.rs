//! Images of several layers. `mybox import` makes images of one; these are written into the store's
//! root by hand, as any other tool that knows OCI image layouts would: blobs, then index.json.

use std::path::Path;

use mybox_store::Digest;
use serde_json::{Value, json};

use super::{Rootfs, Sandbox};

impl Sandbox {
    /// Adds an image of these layers, the base first, whose blobs are there and whose trees are not.
    #[track_caller]
    pub(crate) fn add_layers(&self, name: &str, layers: impl IntoIterator<Item = Rootfs>) {
        self.add_image(name, json!({}), layers);
    }

    /// As [`Sandbox::add_layers`], with more in the image's config: `created`, `history`.
    #[track_caller]
    pub(crate) fn add_image(
        &self,
        name: &str,
        more: Value,
        layers: impl IntoIterator<Item = Rootfs>,
    ) {
        // Any command makes an empty store.
        self.mybox(["images"]).run().ok();
        let root = self.root();
        let layers: Vec<Value> = layers
            .into_iter()
            .map(|layer| descriptor(&root, "layer.v1.tar", &layer.tar()))
            .collect();
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let mut config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let more = more.as_object().expect("an object").clone();
        config.as_object_mut().expect("an object").extend(more);
        let config = descriptor(&root, "config.v1+json", config.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let manifest = manifest.to_string();
        let mut entry = descriptor(&root, "manifest.v1+json", manifest.as_bytes());
        let tag = if name.contains(':') { "" } else { ":latest" };
        let reference = format!("docker.io/library/{name}{tag}");
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": reference });
        let path = root.join("index.json");
        let index = std::fs::read(&path).expect("index.json");
        let mut index: Value = serde_json::from_slice(&index).expect("JSON");
        index["manifests"]
            .as_array_mut()
            .expect("a list")
            .push(entry);
        std::fs::write(path, index.to_string()).expect("write index.json");
    }
}

/// Writes a blob; what names it.
fn descriptor(root: &Path, kind: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    let blob = root.join("blobs/sha256").join(digest.hex());
    std::fs::write(blob, bytes).expect("write a blob");
    json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": digest.to_string(),
        "size": bytes.len(),
    })
}
