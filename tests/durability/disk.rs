//! Disks that are full or read-only, users who may not, stores of another version: each is said in
//! words, and nothing is lost by it.

use std::path::Path;

use serde_json::Value;

use super::{Random, tree};
use crate::harness::registry::{FakeRegistry, TestImage};
use crate::harness::{Cmd, Disk, Rootfs, Sandbox};

const MIB: u64 = 1 << 20;
/// What the filesystem may keep for itself: blocks of directories that have grown.
const SLACK: u64 = 64 << 10;

/// mybox with its store on a disk.
fn on(sandbox: &Sandbox, root: &Path, words: &[&str]) -> Cmd {
    sandbox.mybox(words).env("MYBOX_ROOT", root)
}

#[track_caller]
fn names(sandbox: &Sandbox, root: &Path) -> Vec<String> {
    let images = on(sandbox, root, &["images", "--json"])
        .run()
        .ok()
        .stdout_json();
    let rows = images.as_array().expect("a list").iter();
    rows.map(|row| row["repository"].as_str().unwrap_or("<none>").to_owned())
        .collect()
}

/// Bytes that no compression makes fewer.
fn noise(bytes: u64) -> Vec<u8> {
    let mut random = Random::new();
    (0..bytes).map(|_| random.below(256) as u8).collect()
}

/// Files that are more than the disk has room for, all together.
fn too_much() -> Rootfs {
    let noise = noise(4 * MIB);
    (0..8).fold(Rootfs::empty(), |tree, number| {
        tree.file_with(&format!("f{number}"), &noise, |_| {})
    })
}

#[test]
fn a_full_disk_is_said_and_nothing_is_published_and_the_space_given_back() {
    let (sandbox, registry) = (Sandbox::new("full"), FakeRegistry::start());
    let disk = Disk::new(&sandbox, 32 * MIB);
    let root = disk.path().join("store");
    let base = sandbox.scratch().join("base.tar");
    std::fs::write(&base, tree("base", 50).tar()).expect("a tar");
    let import = on(&sandbox, &root, &["import", "--quiet"]);
    import.arg(&base).arg("base").run().ok();

    let large = sandbox.scratch().join("large.tar");
    std::fs::write(&large, too_much().tar()).expect("a tar");
    let image = TestImage::new([tree("small", 10), too_much()]);
    registry.add("large:1", &image);
    let name = registry.reference("large:1");
    let other = Sandbox::new("saving");
    let import = other.mybox(["import", "--quiet"]);
    import.arg(&large).arg("large").run().ok();
    let archive = sandbox.scratch().join("archive.tar");
    other
        .mybox(["save", "large", "-o"])
        .arg(&archive)
        .run()
        .ok();

    let free = disk.free();
    let attempts = [
        on(&sandbox, &root, &["import", "--quiet"])
            .arg(&large)
            .arg("large"),
        on(&sandbox, &root, &["pull", "--quiet", &name]),
        on(&sandbox, &root, &["load", "-i"]).arg(&archive),
    ];
    for attempt in attempts {
        let said = attempt.run().code(1).says("No space left on device");
        assert!(
            said.stderr().contains("hint: the disk is full"),
            "{}",
            said.stderr()
        );
        assert_eq!(names(&sandbox, &root), ["base"]);
        on(&sandbox, &root, &["verify"]).run().ok();
        // What a pull had of other blobs stays, for the next one to go on from; gc takes it.
        let partial = "ingest";
        for entry in std::fs::read_dir(root.join(partial))
            .expect("ingest")
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(name.ends_with(".partial"), "left: {name}");
            std::fs::remove_file(entry.path()).expect("remove a partial download");
        }
        on(&sandbox, &root, &["gc"]).run().ok();
        let now = disk.free();
        assert!(
            now + SLACK >= free,
            "{free} bytes were free before, {now} after"
        );
    }
    let import = on(&sandbox, &root, &["import", "--quiet"]);
    import.arg(&base).arg("again").run().ok();
    on(&sandbox, &root, &["verify"]).run().ok();
}

#[test]
fn a_store_on_a_read_only_disk_is_read_and_says_what_it_cannot_do() {
    let sandbox = Sandbox::new("readonly");
    let disk = Disk::new(&sandbox, 32 * MIB);
    let root = disk.path().join("store");
    let import = on(&sandbox, &root, &["import", "--quiet", "-", "base"]);
    import.stdin(tree("base", 50).tar()).run().ok();
    let mount = Cmd::new("mount").args(["-o", "remount,ro"]);
    mount.arg(disk.path()).run().ok();

    assert_eq!(names(&sandbox, &root), ["base"]);
    on(&sandbox, &root, &["inspect", "base"]).run().ok();
    on(&sandbox, &root, &["verify"]).run().ok();
    let archive = sandbox.scratch().join("archive.tar");
    on(&sandbox, &root, &["save", "base", "-o"])
        .arg(&archive)
        .run()
        .ok();
    let attempts: [&[&str]; 5] = [
        &["import", "-", "more"],
        &["tag", "base", "other"],
        &["rmi", "base"],
        &["load"],
        &["run", "--rm", "--network", "none", "base", "true"],
    ];
    for words in attempts {
        let attempt = on(&sandbox, &root, words)
            .stdin(tree("more", 5).tar())
            .run();
        let expected = if words[0] == "run" { 125 } else { 1 };
        let said = attempt.code(expected).says("Read-only file system");
        assert!(
            said.stderr().contains("hint: the file system is read-only"),
            "{}",
            said.stderr()
        );
    }
    assert_eq!(names(&sandbox, &root), ["base"]);
}

#[test]
fn a_user_who_may_not_is_told_so() {
    let sandbox = Sandbox::new("permission");
    sandbox.import("base", tree("base", 5));
    // The directories above are the test's: only the store itself is in the user's way.
    let parent = sandbox
        .root()
        .join("..")
        .canonicalize()
        .expect("the sandbox");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(parent, open).expect("open the way");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(sandbox.root(), closed).expect("close the store");
    let user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
    let program = sandbox.scratch().join("mybox");
    std::fs::copy(env!("CARGO_BIN_EXE_mybox"), &program).expect("a copy that anybody may read");
    let root = sandbox.root().display().to_string();
    let run_root = sandbox.scratch().join("run").display().to_string();
    for verb in [
        &["images"][..],
        &["verify"],
        &["tag", "base", "other"],
        &["gc"],
    ] {
        let mybox = Cmd::new(&program).args(["--root", &root, "--run-root", &run_root]);
        let said = mybox.args(verb).through(user).run().code(1);
        let said = said.says("Permission denied");
        assert!(
            said.stderr().contains("hint: mybox needs root"),
            "{}",
            said.stderr()
        );
    }
    sandbox.mybox(["verify"]).run().ok();
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_not_touched() {
    let sandbox = Sandbox::new("newer");
    sandbox.import("base", tree("base", 5));
    let version = sandbox.root().join("mybox.json");
    let mut format: Value =
        serde_json::from_slice(&std::fs::read(&version).expect("mybox.json")).expect("JSON");
    format["version"] = 99.into();
    let newer = format.to_string();
    std::fs::write(&version, &newer).expect("write mybox.json");
    let attempts: [&[&str]; 6] = [
        &["images"],
        &["verify", "--repair"],
        &["gc"],
        &["import", "-", "more"],
        &["rmi", "base"],
        &["run", "--rm", "--network", "none", "base", "true"],
    ];
    for words in attempts {
        let attempt = sandbox.mybox(words).stdin(tree("more", 5).tar()).run();
        let expected = if words[0] == "run" { 125 } else { 1 };
        attempt
            .code(expected)
            .says("has format 99")
            .says("use a newer mybox");
    }
    assert_eq!(
        std::fs::read_to_string(&version).expect("mybox.json"),
        newer
    );
    format["version"] = 1.into();
    std::fs::write(&version, format.to_string()).expect("write mybox.json");
    sandbox.mybox(["verify"]).run().ok();
}

/// ext4 keeps a file's attributes in one block.
#[test]
fn attributes_that_do_not_fit_are_not_taken_for_a_full_disk() {
    let sandbox = Sandbox::new("attributes").with_layer_form("unpacked");
    let disk = Disk::new(&sandbox, 32 * MIB);
    let rootfs = Rootfs::empty()
        .attribute("user.large", &[b'x'; 20_000])
        .file("sub/large", "text");
    let import = on(
        &sandbox,
        &disk.path().join("store"),
        &["import", "-", "app"],
    );
    let failed = import.stdin(rootfs.tar()).run().code(1);
    let said = failed
        .says("sub/large: its extended attributes are more than")
        .stderr();
    assert!(!said.contains("disk is full"), "{said}");
}
