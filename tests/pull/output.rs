//! What a pull says: to people, to pipes and to programs.

use std::path::Path;

use serde_json::Value;

use super::pull;
use crate::harness::registry::{DockerRegistry, FakeRegistry, TestImage};
use crate::harness::{Cmd, Rootfs, Sandbox, Terminal};

fn image() -> TestImage {
    let layer = |number: usize| Rootfs::empty().file(&format!("file{number}"), "text");
    TestImage::new((0..2).map(layer))
}

#[test]
fn quiet_is_the_digest_alone() {
    let (sandbox, registry, image) = (Sandbox::new("pull"), FakeRegistry::start(), image());
    registry.add("app:latest", &image);
    let pulled = pull(&sandbox, &registry, "app").run().ok();
    assert_eq!(pulled.stdout(), format!("{}\n", image.digest()));
    assert_eq!(pulled.stderr(), "");
}

#[test]
fn a_pipe_gets_a_line_for_each_change_and_a_summary() {
    let (sandbox, registry, image) = (Sandbox::new("pull"), FakeRegistry::start(), image());
    registry.add("app:latest", &image);
    let name = registry.reference("app");
    let pull = || sandbox.mybox(["pull", &name]).run().ok();
    let first = pull();
    assert_eq!(first.line(), image.digest());
    let said = first.stderr();
    assert!(said.contains(&format!("pulled {name}:latest: ")), "{said}");
    for layer in &image.layers {
        let short = super::hex(&layer.digest())[..12].to_owned();
        for change in ["downloading", "done"] {
            assert!(said.contains(&format!("{short}: {change}")), "{said}");
        }
    }
    assert!(!said.contains('\u{1b}'), "{said}");
    let again = pull().stderr();
    assert!(again.contains("already there"), "{again}");
    assert!(
        again.contains(&format!("{name}:latest is up to date")),
        "{again}"
    );
}

#[test]
fn programs_get_events() {
    let (sandbox, registry, image) = (Sandbox::new("pull"), FakeRegistry::start(), image());
    registry.add("app:latest", &image);
    let name = registry.reference("app");
    let pulled = sandbox.mybox(["pull", "--json", &name]).run().ok();
    assert_eq!(pulled.stderr(), "");
    let events: Vec<Value> = pulled
        .stdout()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let (first, last) = (&events[0], &events[events.len() - 1]);
    assert_eq!(first["event"], "resolved");
    assert_eq!(first["layers"][1]["digest"], image.layers[1].digest());
    assert_eq!(first["layers"][1]["size"], image.layers[1].bytes.len());
    assert_eq!(last["event"], "pulled");
    assert_eq!(last["digest"], image.digest());
    assert_eq!(last["id"], image.config.digest());
    assert_eq!(last["new"], true);
    let done = |event: &&Value| event["event"] == "layer" && event["state"] == "done";
    assert_eq!(events.iter().filter(done).count(), 2);
}

#[test]
fn a_terminal_gets_bars_that_are_gone_in_the_end() {
    let (sandbox, registry, image) = (Sandbox::new("pull"), FakeRegistry::start(), image());
    registry.add("app:latest", &image);
    let name = registry.reference("app");
    let session = Terminal::new(24, 100).spawn(sandbox.mybox(["pull", &name]));
    let (code, said, _) = session.wait();
    assert_eq!(code, 0, "{said}");
    let short = super::hex(&image.layers[0].digest())[..12].to_owned();
    assert!(said.contains(&short) && said.contains("\u{1b}["), "{said}");
    assert!(said.contains("pulled "), "{said}");
}

/// Debian's registry, images pushed to it by skopeo, and skopeo and umoci on the store.
#[test]
fn other_tools_read_what_was_pulled_straight_out_of_the_store() {
    let (sandbox, registry) = (Sandbox::new("pull"), DockerRegistry::start());
    let image = TestImage::new([
        Rootfs::empty().file("etc/issue", "below"),
        Rootfs::empty().file("etc/motd", "above"),
    ]);
    registry.push("app:1", &image);
    let name = registry.reference("app:1");
    sandbox.mybox(["pull", "--quiet", &name]).run().ok();
    let layout = format!("oci:{}:{name}", sandbox.root().display());
    let raw = Cmd::new("skopeo")
        .args(["inspect", "--raw", &layout])
        .run()
        .ok();
    assert_eq!(raw.stdout().as_bytes(), image.manifest.bytes);
    let copy = sandbox.scratch().join("copy");
    let to = format!("oci:{}:copy", copy.display());
    Cmd::new("skopeo")
        .args(["copy", "--quiet", &layout, &to])
        .run()
        .ok();
    assert!(
        copy.join("blobs/sha256")
            .join(super::hex(&image.digest()))
            .exists()
    );
    let bundle = sandbox.scratch().join("bundle");
    let from = format!("{}:{name}", sandbox.root().display());
    let unpack = Cmd::new("umoci").args(["raw", "unpack", "--image", &from]);
    unpack.arg(&bundle).run().ok();
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file of the image");
    assert_eq!(read(&bundle.join("etc/issue")), "below");
    assert_eq!(read(&bundle.join("etc/motd")), "above");
}
