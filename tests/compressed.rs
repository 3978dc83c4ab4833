//! `mybox gc --compressed`: blobs that a registry has as well make room, and come back when a push or
//! a save needs them.

use serde_json::Value;

use crate::harness::registry::{DockerRegistry, FakeRegistry, TestImage};
use crate::harness::{Cmd, Rootfs, Sandbox};

#[track_caller]
fn json(command: Cmd) -> Value {
    command.run().ok().stdout_json()
}

/// An image of two layers that can be run; pulled from a registry under this name.
fn pulled(sandbox: &Sandbox, registry: &FakeRegistry, name: &str) -> (TestImage, String) {
    let image = TestImage::new([Rootfs::tiny(), Rootfs::empty().file("srv/own", name)]);
    registry.add(name, &image);
    let reference = registry.reference(name);
    sandbox.mybox(["pull", "--quiet", &reference]).run().ok();
    (image, reference)
}

/// The blobs of the image's layers that are in the store.
fn there(sandbox: &Sandbox, image: &TestImage) -> usize {
    let blobs = sandbox.root().join("blobs/sha256");
    image
        .layers
        .iter()
        .filter(|layer| blobs.join(&layer.digest()["sha256:".len()..]).exists())
        .count()
}

#[test]
fn compressed_blobs_go_when_asked_for_and_the_image_runs_on() {
    let sandbox = Sandbox::new("lean");
    let registry = FakeRegistry::start();
    let (image, name) = pulled(&sandbox, &registry, "app:1");
    sandbox.mybox(["gc"]).run().ok();
    assert_eq!(there(&sandbox, &image), 2);
    let promised = json(sandbox.mybox(["df", "--json"]))["compressed"].clone();
    let plan = json(sandbox.mybox(["gc", "--compressed", "--dry-run", "--json"]));
    assert_eq!(plan["bytes"], promised);
    assert_eq!(plan["objects"].as_array().map(Vec::len), Some(2));
    assert_eq!(plan["objects"][0]["why"], "compressed");
    assert_eq!(there(&sandbox, &image), 2);
    let id = plan["plan"].as_str().expect("a plan");
    let done = json(sandbox.mybox(["gc", "--plan", id, "--json"]));
    assert_eq!(done["bytes"], promised);
    assert_eq!(there(&sandbox, &image), 0);
    sandbox.run([&name, "probe", "report"]).run().ok();
    // That is how it shall be: no damage, nothing more to drop, nothing to fetch.
    sandbox.mybox(["verify"]).run().ok();
    assert_eq!(json(sandbox.mybox(["df", "--json"]))["compressed"], 0);
    let again = sandbox.mybox(["pull", &name]).run().ok();
    assert!(again.stderr().contains("already"), "{}", again.stderr());
    assert_eq!(there(&sandbox, &image), 0);
    sandbox.mybox(["rmi", &name]).run().ok();
    assert_eq!(
        json(sandbox.mybox(["images", "--json"])),
        Value::Array(Vec::new())
    );
    sandbox.mybox(["verify"]).run().ok();
}

#[test]
fn what_no_registry_has_is_kept() {
    let sandbox = Sandbox::new("lean");
    let registry = FakeRegistry::start();
    let (image, name) = pulled(&sandbox, &registry, "app:1");
    // Imported: whatever it is called, nobody has ever pushed it.
    sandbox.import("127.0.0.1:9/own:1", Rootfs::tiny());
    // The same layers by another way.
    let archive = sandbox.scratch().join("app.tar");
    let archive = archive.to_str().expect("UTF-8");
    sandbox.mybox(["save", "-o", archive, &name]).run().ok();
    let other = Sandbox::new("lean");
    other.mybox(["load", "-i", archive]).run().ok();
    for (sandbox, expected) in [(&other, 2), (&sandbox, 0)] {
        sandbox.mybox(["gc", "--compressed"]).run().ok();
        assert_eq!(there(sandbox, &image), expected);
        sandbox.mybox(["verify"]).run().ok();
    }
}

#[test]
fn push_and_save_bring_the_blobs_back_or_say_what_they_need() {
    let sandbox = Sandbox::new("lean");
    let (registry, target) = (FakeRegistry::start(), DockerRegistry::start());
    let (image, name) = pulled(&sandbox, &registry, "app:1");
    sandbox.mybox(["tag", &name, "mine"]).run().ok();
    let drop_blobs = || {
        sandbox.mybox(["gc", "--compressed"]).run().ok();
        assert_eq!(there(&sandbox, &image), 0);
    };
    drop_blobs();
    let to = target.reference("copy:1");
    let pushed = sandbox.mybox(["push", "mine", &to]).run().ok();
    assert!(
        pushed.stderr().contains("again: it was dropped"),
        "{}",
        pushed.stderr()
    );
    assert_eq!(target.manifest("copy:1"), image.manifest.bytes);
    assert_eq!(there(&sandbox, &image), 2);
    drop_blobs();
    let archive = sandbox.scratch().join("app.tar");
    let archive = archive.to_str().expect("UTF-8");
    sandbox.mybox(["save", "-o", archive, "mine"]).run().ok();
    let other = Sandbox::new("lean");
    other.mybox(["load", "-i", archive]).run().ok();
    assert_eq!(there(&other, &image), 2);
    drop_blobs();
    drop(registry);
    let digest = image.layers[0].digest();
    for verb in [&["push", "mine", &to][..], &["save", "-o", archive, "mine"]] {
        let failed = sandbox.mybox(verb.iter()).run().code(1);
        failed.says(&format!(
            "bring back blob {digest}, which `mybox gc --compressed` has dropped"
        ));
    }
}

#[test]
fn a_layer_that_is_damaged_or_lost_is_healed_from_a_blob_that_is_fetched_for_it() {
    let sandbox = Sandbox::new("lean");
    let registry = FakeRegistry::start();
    let (image, name) = pulled(&sandbox, &registry, "app:1");
    sandbox.mybox(["gc", "--compressed"]).run().ok();
    let layers: Vec<_> = std::fs::read_dir(sandbox.root().join("layers"))
        .expect("list the layers")
        .map(|layer| layer.expect("list the layers").path())
        .collect();
    let [damaged, lost] = &layers[..] else {
        panic!("two layers: {layers:?}");
    };
    let content = ["layer.tar", "fs"].map(|name| damaged.join(name));
    let content = content.iter().find(|path| path.exists());
    let aside = sandbox.scratch().join("aside");
    std::fs::rename(content.expect("a layer has content"), aside).expect("damage a layer");
    std::fs::remove_dir_all(lost).expect("remove a layer");
    let report = sandbox.mybox(["verify"]).run().code(1).stdout();
    let layer = damaged.file_name().and_then(|name| name.to_str());
    let layer = layer.expect("a layer is called by its diff id");
    assert!(
        report.contains(&format!("layer sha256:{layer}")),
        "{report}"
    );
    assert!(report.contains("2 damaged"), "{report}");
    sandbox.mybox(["verify", "--repair"]).run().ok();
    assert_eq!(there(&sandbox, &image), 2);
    sandbox.run([&name, "probe", "report"]).run().ok();
    sandbox.mybox(["verify"]).run().ok();
}
