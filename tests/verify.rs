//! `mybox verify`: what it says, what it exits with, and what it fetches again.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::registry::{FakeRegistry, Fault, TestImage};
use crate::harness::{Rootfs, Sandbox};

/// Flips a bit in the middle of a file.
#[track_caller]
fn damage(path: &Path) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a file");
    let at = file.metadata().expect("metadata").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 4], at).expect("write");
}

fn blob(sandbox: &Sandbox, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").expect("a digest");
    sandbox.root().join("blobs/sha256").join(hex)
}

#[track_caller]
fn inspect(sandbox: &Sandbox, name: &str) -> Value {
    let documents = sandbox.mybox(["inspect", name]).run().ok().stdout_json();
    documents[0].clone()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn layer(sandbox: &Sandbox, name: &str) -> PathBuf {
    let image = inspect(sandbox, name);
    let hex = text(&image["layers"][0])
        .strip_prefix("sha256:")
        .expect("a digest");
    sandbox.root().join("layers").join(hex)
}

#[test]
fn damage_is_said_with_its_path_and_repaired() {
    let sandbox = Sandbox::new("verify").with_layer_form("unpacked");
    sandbox.import(
        "app",
        Rootfs::empty()
            .dir("bin", 0o755)
            .file("bin/tool", "content"),
    );
    let clean = sandbox.mybox(["verify"]).run().ok().stdout();
    assert!(clean.contains("all as it should be"), "{clean}");
    assert_eq!(sandbox.mybox(["verify", "--quiet"]).run().ok().stdout(), "");
    damage(&layer(&sandbox, "app").join("fs/bin/tool"));
    let damaged = sandbox.mybox(["verify"]).run().code(1).stdout();
    let line = damaged.lines().next().expect("a line");
    assert!(line.starts_with("damaged: layer sha256:"), "{line}");
    assert!(
        line.contains(": bin/tool: content differs; time is "),
        "{line}"
    );
    assert!(line.ends_with("(docker.io/library/app:latest)"), "{line}");
    assert!(damaged.trim_end().ends_with(": 1 damaged"), "{damaged}");
    let report = sandbox
        .mybox(["verify", "--json", "app"])
        .run()
        .code(1)
        .stdout_json();
    assert_eq!(report["damaged"], 1);
    assert_eq!(report["findings"][0]["event"], "damaged");
    assert_eq!(report["findings"][0]["kind"], "layer");
    assert_eq!(report["findings"][0]["path"], "bin/tool");
    let repaired = sandbox.mybox(["verify", "--repair"]).run().ok().stdout();
    assert!(repaired.contains(": unpacked again\n"), "{repaired}");
    assert!(
        repaired.contains("1 damaged, 1 repaired, 0 lost"),
        "{repaired}"
    );
    let tool = layer(&sandbox, "app").join("fs/bin/tool");
    assert_eq!(std::fs::read_to_string(tool).expect("the file"), "content");
    sandbox.mybox(["verify"]).run().ok();
}

#[test]
fn an_image_that_cannot_be_healed_is_named() {
    let sandbox = Sandbox::new("verify");
    // Nothing listens there.
    sandbox.import("localhost:1/app", Rootfs::empty().file("f", "x"));
    sandbox.import("other", Rootfs::empty().file("f", "y"));
    let id = text(&inspect(&sandbox, "localhost:1/app")["id"]).to_owned();
    damage(&blob(&sandbox, &id));
    let lost = sandbox.mybox(["verify", "--repair"]).run().code(1).stdout();
    let line = lost
        .lines()
        .find(|line| line.starts_with("lost: "))
        .expect("a line");
    assert!(line.starts_with(&format!("lost: blob {id}: ")), "{line}");
    assert!(line.ends_with("(localhost:1/app:latest)"), "{line}");
    assert!(lost.contains("1 damaged, 0 repaired, 1 lost"), "{lost}");
    sandbox.mybox(["verify", "other"]).run().ok();
}

#[test]
fn what_came_from_a_registry_is_fetched_again_and_only_what_is_damaged() {
    let (sandbox, registry) = (Sandbox::new("verify"), FakeRegistry::start());
    let layers = ["one", "two", "three"].map(|name| Rootfs::empty().file(name, &name.repeat(3000)));
    let image = TestImage::new(layers);
    registry.add("app:1", &image);
    let name = registry.reference("app:1");
    sandbox.mybox(["pull", "--quiet", &name]).run().ok();
    sandbox.mybox(["verify"]).run().ok();
    let (config, layer) = (image.config.digest(), image.layers[1].digest());
    let parts = [image.digest(), config, layer];
    for part in &parts {
        damage(&blob(&sandbox, part));
    }
    let before = registry.requests("/blobs/").len();
    let repaired = sandbox.mybox(["verify", "--repair"]).run().ok().stdout();
    assert!(
        repaired.contains("3 damaged, 3 repaired, 0 lost"),
        "{repaired}"
    );
    assert_eq!(
        registry.requests("/blobs/").len(),
        before + 2,
        "the config and one layer"
    );
    sandbox.mybox(["verify"]).run().ok();
    // A registry that does not have it any more.
    registry.always("/blobs/", Fault::Status(404, Vec::new()));
    let path = blob(&sandbox, &parts[2]);
    damage(&path);
    let damaged = std::fs::read(&path).expect("the blob");
    sandbox.mybox(["verify", "--repair"]).run().code(1);
    assert_eq!(std::fs::read(&path).expect("it is still there"), damaged);
    assert!(repaired.contains("fetched again"));
}

#[test]
fn nothing_that_comes_and_goes_meanwhile_is_called_damage() {
    let sandbox = Sandbox::new("verify");
    sandbox.import("base", Rootfs::empty().file("f", "base"));
    let script = r#"
        for round in $(seq 12); do
            "$0" import --quiet "$1" "here:$round" >/dev/null || exit 1
            "$0" tag "here:$round" "there:$round" || exit 1
            "$0" rmi "here:$round" "there:$round" >/dev/null || exit 1
            "$0" gc >/dev/null || exit 1
        done
    "#;
    let rootfs = (0..60).fold(Rootfs::empty(), |rootfs, number| {
        rootfs.file(&format!("f{number}"), "x")
    });
    let tar = sandbox.scratch().join("rootfs.tar");
    std::fs::write(&tar, rootfs.tar()).expect("a tar");
    let changing = sandbox
        .mybox::<&str>([])
        .through(["sh", "-c", script])
        .arg(&tar)
        .spawn();
    let mut verified = 0;
    while !changing.has_ended() {
        sandbox.mybox(["verify"]).run().ok();
        verified += 1;
    }
    changing.wait().ok();
    assert!(verified > 1, "there was no time to verify");
}

#[test]
fn records_of_containers_are_looked_at() {
    let sandbox = Sandbox::new("verify");
    sandbox.import_tiny();
    let run = ["run", "--name", "kept", "--network", "none", "tiny", "true"];
    sandbox.mybox(run).run().ok();
    let id = &sandbox.containers()[0];
    let directory = sandbox.root().join("containers").join(id);
    let said = sandbox.mybox(["verify"]).run().ok().stdout();
    assert!(said.contains(", 1 container: all"), "{said}");
    for name in ["config.json", "record.json"] {
        let path = directory.join(name);
        let good = std::fs::read(&path).expect("a record");
        for bad in [&good[..good.len() / 2], b""] {
            std::fs::write(&path, bad).expect("damage");
            let said = sandbox.mybox(["verify"]).run().code(1).stdout();
            assert!(
                said.starts_with(&format!("damaged: container {}: {name}: ", &id[..12])),
                "{said}"
            );
        }
        std::fs::write(&path, good).expect("mend");
    }
    sandbox.mybox(["verify"]).run().ok();
    sandbox.mybox(["rm", "kept"]).run().ok();
}
