//! A thousand images over five thousand layers: looking at them reads no layer. How long it takes
//! is for `bench/cache`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Cmd, Disk, Sandbox, allocated, synthetic};

const IMAGES: usize = 1000;
const LAYERS: usize = 5000;

#[track_caller]
fn json(command: Cmd) -> Value {
    command.run().ok().stdout_json()
}

fn count(list: &Value) -> usize {
    list.as_array().expect("a list").len()
}

#[test]
fn a_thousand_images_over_five_thousand_layers_are_told_without_reading_a_layer() {
    let sandbox = Sandbox::new("scale");
    let memory = Disk::in_memory(&sandbox);
    let mybox = |words: &[&str]| sandbox.mybox(words).env("MYBOX_ROOT", memory.path());
    mybox(&["images"]).run().ok();
    synthetic::fill(memory.path(), IMAGES, LAYERS);
    // Every layer's blob and listing is nonsense: whoever reads one fails or tells nonsense.
    let images = json(mybox(&["images", "--json"]));
    assert_eq!(count(&images), IMAGES);
    let layers = json(mybox(&["layers", "--json"]));
    assert_eq!(count(&layers), LAYERS);
    let listed = layers.as_array().expect("a list");
    let bytes: u64 = listed.iter().filter_map(|row| row["bytes"].as_u64()).sum();
    let hex = listed[0]["diffId"].as_str().expect("a digest");
    let layer = memory.path().join("layers").join(&hex["sha256:".len()..]);
    let one = allocated(&layer) - allocated(&layer.join("fs")) + synthetic::ALLOCATED;
    assert_eq!(bytes, one * LAYERS as u64);
    let users: usize = listed.iter().map(|row| count(&row["images"])).sum();
    let bases_and_middles = LAYERS / 500 + LAYERS / 10;
    assert_eq!(users, 2 * IMAGES + LAYERS - bases_and_middles);
    let df = json(mybox(&["df", "--json"]));
    assert_eq!(df["images"]["total"], IMAGES);
    assert_eq!(df["blobs"]["total"], LAYERS + 2 * IMAGES);
    assert_eq!(df["layers"]["bytes"], bytes);
    let nothing = json(mybox(&["gc", "--dry-run", "--json"]));
    assert_eq!(
        (count(&nothing["objects"]), &nothing["bytes"]),
        (0, &0.into())
    );
    let everything = ["gc", "--dry-run", "--unused-for", "0s", "--json"];
    let everything = json(mybox(&everything));
    assert_eq!(count(&everything["images"]), IMAGES);
    assert_eq!(count(&everything["objects"]), 2 * (LAYERS + IMAGES));
    assert_eq!(everything["bytes"], df["images"]["bytes"]);
    let tree = mybox(&["layers", "--tree"]).run().ok().stdout();
    assert!(tree.contains(&format!("{IMAGES} images over {LAYERS} layers")));
    // Each object is locked before it goes, but not all at once.
    let few = ["prlimit", "--nofile=1024"];
    let gc = mybox(&["gc", "--unused-for", "0s", "--json"]).through(few);
    let gone = json(gc);
    assert_eq!(count(&gone["objects"]), 2 * (LAYERS + IMAGES));
    assert_eq!(gone["left"], Value::Array(Vec::new()));
    for directory in ["blobs/sha256", "layers"] {
        let left = std::fs::read_dir(memory.path().join(directory)).expect("a listing");
        assert_eq!(left.count(), 0, "{directory}");
    }
}

#[test]
fn no_bytes_of_a_layers_blob_are_read_to_show_the_cache() {
    let sandbox = Sandbox::new("scalereads");
    sandbox.mybox(["images"]).run().ok();
    synthetic::fill(&sandbox.root(), 20, 100);
    let layers = json(sandbox.mybox(["layers", "--json"]));
    let blobs: BTreeSet<&str> = layers
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|row| row["blob"].as_str()?.strip_prefix("sha256:"))
        .collect();
    assert_eq!(blobs.len(), 100);
    let trace = sandbox.scratch().join("trace");
    for words in [
        &["images"][..],
        &["layers"],
        &["layers", "--tree"],
        &["df"],
        &["gc", "--dry-run", "--unused-for", "0s"],
        &["why", "image0:1"],
        &["history", "image0:1"],
    ] {
        let calls = "--trace=read,readv,pread64,preadv,mmap,copy_file_range,sendfile";
        let strace = ["strace", "--decode-fds=path", calls, "-f", "-o"].map(str::to_owned);
        let wrapper = strace.into_iter().chain([trace.display().to_string()]);
        sandbox.mybox(words).through(wrapper).run().ok();
        let trace = std::fs::read_to_string(&trace).expect("a trace");
        assert!(trace.contains("index.json"), "{words:?}");
        for hex in &blobs {
            assert!(!trace.contains(hex), "{words:?} reads blob {hex}");
        }
        assert!(!trace.contains("tree.zst"), "{words:?} reads a listing");
    }
}
