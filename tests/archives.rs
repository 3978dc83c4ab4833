//! `mybox save` and `mybox load`, with podman and skopeo on the other side.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::crash::strace;
use crate::harness::{Cmd, Rootfs, Sandbox};

const FORMATS: [&str; 2] = ["oci-archive", "docker-archive"];

#[track_caller]
fn inspect(sandbox: &Sandbox, name: &str) -> Value {
    let documents = sandbox.mybox(["inspect", name]).run().ok().stdout_json();
    documents[0].clone()
}

#[track_caller]
fn id(sandbox: &Sandbox, name: &str) -> String {
    inspect(sandbox, name)["id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

#[track_caller]
fn save(sandbox: &Sandbox, format: &str, name: &str) -> PathBuf {
    let file = sandbox.scratch().join(format!("{format}.tar"));
    let save = sandbox.mybox(["save", "--format", format, "-o"]);
    save.arg(&file).arg(name).run().ok();
    file
}

#[track_caller]
fn load(sandbox: &Sandbox, file: &Path) -> Value {
    let load = sandbox.mybox(["load", "--json", "-i"]);
    load.arg(file).run().ok().stdout_json()
}

/// Imports an image that runs and that no other is like.
#[track_caller]
fn import(sandbox: &Sandbox, name: &str) {
    let rootfs = Rootfs::tiny().file("unique", name);
    let changes = ["CMD [\"echo\",\"it runs\"]", "LABEL a=b", "ENV X=y"];
    sandbox.import_with(name, rootfs, &changes);
}

#[track_caller]
fn runs(sandbox: &Sandbox, name: &str) {
    let said = sandbox.run([name]).run().ok().stdout();
    assert_eq!(said.trim(), "it runs");
    sandbox.mybox(["verify", name]).run().ok();
}

#[test]
fn what_mybox_saves_podman_loads_and_saves_for_mybox_again() {
    let sandbox = Sandbox::new("archives");
    import(&sandbox, "app:1.0");
    let id = id(&sandbox, "app:1.0");
    for format in FORMATS {
        let ours = save(&sandbox, format, "app:1.0");
        sandbox.podman().args(["load", "-i"]).arg(&ours).run().ok();
        let name = "docker.io/library/app:1.0";
        let found = sandbox
            .podman()
            .args(["images", "--quiet", "--no-trunc", name])
            .run();
        assert_eq!(found.ok().line(), id, "{format}");
        for theirs in FORMATS {
            let file = sandbox.scratch().join("podman.tar");
            let save = sandbox
                .podman()
                .args(["save", "--quiet", "--format", theirs, "-o"]);
            save.arg(&file).arg(name).run().ok();
            let other = Sandbox::new("loading");
            let loaded = load(&other, &file);
            assert_eq!(loaded[0]["id"], *id, "{format} -> {theirs}");
            assert_eq!(loaded[0]["reference"], "docker.io/library/app:1.0");
            runs(&other, "app:1.0");
            std::fs::remove_file(file).expect("podman's archive");
        }
        sandbox
            .podman()
            .args(["rmi", "--all", "--force"])
            .run()
            .ok();
    }
}

#[test]
fn what_mybox_saves_skopeo_reads_and_writes_for_mybox_again() {
    let sandbox = Sandbox::new("archives");
    import(&sandbox, "app:1.0");
    let (id, digest) = (
        id(&sandbox, "app:1.0"),
        inspect(&sandbox, "app:1.0")["digest"].clone(),
    );
    for format in FORMATS {
        let ours = save(&sandbox, format, "app:1.0");
        let from = format!("{format}:{}", ours.display());
        let config = Cmd::new("skopeo")
            .args(["inspect", "--config", &from])
            .run()
            .ok();
        assert_eq!(config.stdout_json()["config"]["Labels"]["a"], "b");
        for theirs in FORMATS {
            let file = sandbox.scratch().join("skopeo.tar");
            let to = format!("{theirs}:{}:docker.io/library/app:1.0", file.display());
            // Skopeo would compress layers otherwise, which makes another manifest.
            let is_same = format == "oci-archive" && theirs == "oci-archive";
            let keep = is_same.then_some("--preserve-digests");
            let copy = Cmd::new("skopeo").args(["copy", "--quiet"]).args(keep);
            copy.args([&from, &to]).run().ok();
            let other = Sandbox::new("loading");
            let loaded = load(&other, &file);
            assert_eq!(loaded[0]["id"], *id, "{format} -> {theirs}");
            if is_same {
                assert_eq!(loaded[0]["digest"], digest);
            }
            runs(&other, "app:1.0");
            std::fs::remove_file(file).expect("skopeo's archive");
        }
    }
}

#[test]
fn an_image_goes_through_a_pipe() {
    let sandbox = Sandbox::new("archives");
    import(&sandbox, "app:1.0");
    import(&sandbox, "app:2.0");
    let saved = sandbox.scratch().join("saved");
    // A shell, since an archive is no text.
    let script = "\"$0\" save app:1.0 app:2.0 | gzip >\"$1\"";
    let save = sandbox.mybox::<&str>([]).through(["sh", "-c", script]);
    save.arg(&saved).run().ok();
    let other = Sandbox::new("loading");
    let load = other
        .mybox(["load"])
        .stdin(std::fs::read(&saved).expect("an archive"));
    let said = load.run().ok().stdout();
    assert_eq!(said, "Loaded image: app:1.0\nLoaded image: app:2.0\n");
    runs(&other, "app:2.0");
    let quiet = other
        .mybox(["load", "--quiet", "-i"])
        .arg(&saved)
        .run()
        .ok()
        .stdout();
    assert_eq!(quiet.lines().next(), Some(&*id(&sandbox, "app:1.0")));
}

#[test]
fn a_save_that_fails_leaves_the_file_as_it_was() {
    let sandbox = Sandbox::new("archives");
    import(&sandbox, "app:1.0");
    let layer = inspect(&sandbox, "app:1.0")["layers"][0].clone();
    let hex = layer
        .as_str()
        .and_then(|layer| layer.strip_prefix("sha256:"))
        .expect("a digest")
        .to_owned();
    let blob = sandbox.root().join("blobs/sha256").join(hex);
    let directory = sandbox.scratch().join("out");
    std::fs::create_dir(&directory).expect("a directory");
    std::fs::write(directory.join("there.tar"), "older").expect("a file");
    let good = std::fs::read(&blob).expect("the blob");
    let mut bad = good.clone();
    bad[1000] ^= 1;
    std::fs::write(&blob, bad).expect("damage");
    for name in ["there.tar", "new.tar"] {
        let save = sandbox
            .mybox(["save", "app:1.0", "-o"])
            .arg(directory.join(name));
        save.run().code(1).says("is damaged");
    }
    let left: Vec<_> = std::fs::read_dir(&directory)
        .expect("a listing")
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let text = std::fs::read_to_string(directory.join("there.tar")).expect("the older file");
    assert_eq!(text, "older");
    std::fs::write(&blob, good).expect("mend");
    sandbox
        .mybox(["save", "app:1.0", "-o", "/dev/null"])
        .run()
        .ok();
    let missing = sandbox
        .mybox(["save", "app:1.0", "-o", "/nonexistent/x.tar"])
        .run();
    missing.code(1).says("/nonexistent/");
    sandbox
        .mybox(["save", "nope"])
        .run()
        .code(1)
        .says("no such image: nope");
}

#[test]
fn what_is_no_archive_of_images_is_refused_in_words() {
    let sandbox = Sandbox::new("archives");
    let load = |bytes: Vec<u8>| sandbox.mybox(["load"]).stdin(bytes).run().code(1);
    load(b"hello".to_vec()).says("standard input: not a tar archive");
    load(Rootfs::empty().file("a", "b").tar()).says("it is no archive of images");
    let empty = sandbox.scratch().join("empty");
    std::fs::create_dir(&empty).expect("make a directory");
    let directory = sandbox.mybox(["load", "-i"]).arg(&empty);
    drop(directory.run().code(1).says("it is no archive of images"));
    sandbox
        .mybox(["load", "-i", "/nonexistent"])
        .run()
        .code(1)
        .says("open /nonexistent");
    let images = sandbox.mybox(["images", "--json"]).run().ok().stdout_json();
    assert_eq!(images.as_array().map(Vec::len), Some(0));
}

/// What is in the directory of an archive that is being written, and what becomes of it when the writer is
/// killed, or is not.
#[test]
fn an_archive_has_no_name_until_it_is_whole() {
    let sandbox = Sandbox::new("archive-killed");
    import(&sandbox, "app:1.0");
    let directory = sandbox.scratch().join("out");
    std::fs::create_dir(&directory).expect("make a directory");
    let file = directory.join("app.tar");
    let names = || std::fs::read_dir(&directory).expect("list").count();
    let save = |options: &[&str]| {
        let words = [
            "save",
            "-o",
            file.to_str().expect("a plain path"),
            "app:1.0",
        ];
        strace(&sandbox, options, &words).run()
    };
    let killed = save(&["-e", "trace=fsync", "-e", "inject=fsync:signal=SIGKILL"]);
    assert_eq!((killed.signal(), names()), (Some(9), 0));
    drop(save(&["-e", "trace=fsync"]).ok());
    std::fs::write(&file, "old").expect("write");
    drop(save(&["-e", "trace=fsync"]).ok());
    assert_eq!(names(), 1);
    drop(load(&sandbox, &file));
    // What cannot be given its name is gone.
    let unable = ["-e", "trace=linkat", "-e", "inject=linkat:error=ENOENT"];
    drop(save(&unable).code(1).says("create"));
    assert_eq!(names(), 1);
    // A file system that has no files without a name.
    std::fs::remove_file(&file).expect("remove");
    let place = directory.to_str().expect("a plain path");
    let without = "inject=openat:error=EOPNOTSUPP";
    drop(save(&["-P", place, "-e", "trace=openat", "-e", without]).ok());
    assert_eq!(names(), 1);
    drop(load(&sandbox, &file));
}
