//! A store of many images over many layers, written in the store's own format, tiny: what looking at
//! a large store costs, without the store. The benchmark `cache` uses it as well.
//!
//! The layers' blobs and trees hold no bytes that mean anything: whoever reads one finds damage.

use std::fs;
use std::path::Path;

use mybox_store::Digest;
use serde_json::{Value, json};

/// What was recorded as allocated for each layer's tree.
pub(crate) const ALLOCATED: u64 = 8192;

/// Fills an empty store with `images` images over `layers` layers: bases and middles that many
/// share, the rest in equal parts on top.
pub(crate) fn fill(root: &Path, images: usize, layers: usize) {
    let bases = (layers / 500).max(1);
    let middles = (layers / 10).max(1);
    let own = layers - bases - middles;
    let layer = |number: usize| Digest::of(format!("layer {number}").as_bytes());
    let blob = |number: usize| Digest::of(format!("blob {number}").as_bytes());
    for number in 0..layers {
        write_layer(root, number, layer(number), blob(number));
    }
    let entries: Vec<Value> = (0..images)
        .map(|number| {
            let top = |part: usize| bases + middles + own * part / images;
            let numbers = [number % bases, bases + number % middles];
            let numbers: Vec<usize> = numbers
                .into_iter()
                .chain(top(number)..top(number + 1))
                .collect();
            let diff_ids: Vec<Digest> = numbers.iter().map(|number| layer(*number)).collect();
            let blobs: Vec<Digest> = numbers.iter().map(|number| blob(*number)).collect();
            write_image(root, number, &diff_ids, &blobs)
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "manifests": entries });
    fs::write(root.join("index.json"), index.to_string()).expect("write index.json");
}

fn write_layer(root: &Path, number: usize, layer: Digest, blob: Digest) {
    let directory = root.join("layers").join(layer.hex());
    fs::create_dir_all(directory.join("fs")).expect("make a layer");
    let record = json!({
        "version": 1,
        "form": "unpacked",
        "diffId": layer.to_string(),
        "blob": blob.to_string(),
        "size": 100,
        "entries": 1,
        "newestSeconds": 0,
        "newestNanos": 0,
        "tree": layer.to_string(),
        "allocated": ALLOCATED,
    });
    fs::write(directory.join("layer.json"), record.to_string()).expect("write a record");
    fs::write(directory.join("tree.zst"), "no listing").expect("write a listing");
    let blob = root.join("blobs/sha256").join(blob.hex());
    fs::write(blob, format!("no layer {number}")).expect("write a blob");
}

/// Config and manifest; the entry of the index.
fn write_image(root: &Path, number: usize, diff_ids: &[Digest], blobs: &[Digest]) -> Value {
    let texts =
        |digests: &[Digest]| -> Vec<String> { digests.iter().map(ToString::to_string).collect() };
    let history: Vec<Value> = (0..diff_ids.len())
        .map(|step| json!({ "created_by": format!("RUN step {step}") }))
        .collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": { "Env": ["PATH=/bin"], "Labels": { "number": number.to_string() } },
        "rootfs": { "type": "layers", "diff_ids": texts(diff_ids) },
        "history": history,
    });
    let layer = |digest: &Digest| {
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        json!({ "mediaType": kind, "digest": digest.to_string(), "size": 4096 })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "config": document(root, "config", &config),
        "layers": blobs.iter().map(layer).collect::<Vec<_>>(),
    });
    let mut entry = document(root, "manifest", &manifest);
    let name = format!("docker.io/library/image{}:{number}", number / 10);
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    entry
}

fn document(root: &Path, kind: &str, document: &Value) -> Value {
    let bytes = document.to_string();
    let digest = Digest::of(bytes.as_bytes());
    fs::write(root.join("blobs/sha256").join(digest.hex()), &bytes).expect("write a document");
    json!({
        "mediaType": format!("application/vnd.oci.image.{kind}.v1+json"),
        "digest": digest.to_string(),
        "size": bytes.len(),
    })
}
