//! `mybox gc`, `pin` and `unpin`: what is promised, what is given back, and what stays.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::registry::{FakeRegistry, Fault, TestImage};
use crate::harness::{Cmd, Disk, Rootfs, Running, Sandbox, allocated};

#[track_caller]
fn json(command: Cmd) -> Value {
    command.run().ok().stdout_json()
}

#[track_caller]
fn inspect(sandbox: &Sandbox, name: &str) -> Value {
    json(sandbox.mybox(["inspect", name]))[0].clone()
}

/// Makes the last use of an image lie so many days in the past.
#[track_caller]
fn last_used(sandbox: &Sandbox, name: &str, days: u64) {
    let digest = inspect(sandbox, name)["digest"].clone();
    let digest = digest.as_str().expect("a digest");
    let hex = digest.strip_prefix("sha256:").expect("a sha256");
    let blob = sandbox.root().join("blobs/sha256").join(hex);
    let file = std::fs::File::options().append(true).open(blob);
    let time = SystemTime::now() - Duration::from_secs(days * 86_400);
    file.and_then(|file| file.set_modified(time))
        .expect("set the time of the manifest");
}

#[track_caller]
fn names(sandbox: &Sandbox) -> Vec<String> {
    let images = json(sandbox.mybox(["images", "--json"]));
    let rows = images.as_array().expect("a list");
    rows.iter()
        .filter_map(|row| {
            Some(format!(
                "{}:{}",
                row["repository"].as_str()?,
                row["tag"].as_str()?
            ))
        })
        .collect()
}

fn tree(files: usize, content: &str) -> Rootfs {
    (0..files).fold(Rootfs::empty(), |tree, number| {
        let text = content.repeat(1 + number * 40);
        tree.dir(&format!("d{number}"), 0o755)
            .file(&format!("d{number}/file"), &text)
            .symlink(&format!("d{number}/link"), "file")
    })
}

#[test]
fn what_gc_promises_is_what_the_filesystem_gets_back() {
    gc_keeps_its_promise("unpacked");
}

#[test]
fn what_gc_promises_of_indexed_layers_is_what_the_filesystem_gets_back() {
    gc_keeps_its_promise("indexed");
}

#[track_caller]
fn gc_keeps_its_promise(form: &str) {
    let sandbox = Sandbox::new("gcdisk").with_layer_form(form);
    let disk = Disk::new(&sandbox, 96 << 20);
    let mybox = |words: &[&str]| {
        let command = sandbox.mybox(words.iter());
        command.env("MYBOX_ROOT", disk.path())
    };
    let import = |name: &str, rootfs: Rootfs| {
        mybox(&["import", "-", name]).stdin(rootfs.tar()).run().ok();
    };
    import("keep", tree(20, "kept "));
    for round in 0..3 {
        import("app", tree(60 + round, &format!("app {round} ")));
    }
    let document = json(mybox(&["gc", "--dry-run", "--json"]));
    let promised = document["bytes"].as_u64().expect("bytes");
    assert_eq!(document["images"].as_array().map(Vec::len), Some(2));
    assert!(promised > 1 << 20, "{promised}");
    let before = disk.free();
    let text = mybox(&["gc"]).run().ok().stdout();
    assert_eq!(disk.free() - before, promised);
    assert!(text.ends_with(&format!("({promised} bytes)\n")), "{text}");
    // The same by a plan, which is a file itself.
    let document = json(mybox(&["gc", "--dry-run", "--json", "--unused-for", "0s"]));
    let promised = document["bytes"].as_u64().expect("bytes");
    let plan = document["plan"].as_str().expect("a plan");
    let file = disk.path().join(format!("ingest/plan-{plan}.json"));
    let before = disk.free();
    let itself = allocated(&file);
    mybox(&["gc", "--plan", plan]).run().ok();
    assert_eq!(disk.free() - before, promised + itself);
    assert_eq!(json(mybox(&["images", "--json"])), Value::Array(Vec::new()));
}

#[test]
fn a_dry_run_shows_everything_that_goes_and_why_and_changes_nothing() {
    let sandbox = Sandbox::new("gcdry");
    for (name, days) in [("old:1", 40), ("new:1", 0)] {
        let own = Rootfs::empty().file("own", name);
        sandbox.import(name, own);
        last_used(&sandbox, name, days);
    }
    let untagged = inspect(&sandbox, "new:1")["id"].clone();
    sandbox.import("new:1", Rootfs::empty().file("own", "newer"));
    let text = sandbox
        .mybox(["gc", "--dry-run", "--unused-for", "30d"])
        .run()
        .ok()
        .stdout();
    for line in [
        r"image     old:1",
        "not used for 30 days",
        "only old:1 needed it",
        "it has no name and no container",
        "Would free ",
        "5 weeks ago",
        &untagged.as_str().expect("an id")["sha256:".len()..][..12],
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    let rows = text.lines().skip(1).take_while(|line| !line.is_empty());
    // Of each image itself, manifest, config, blob and tree.
    assert_eq!(rows.count(), 10, "{text}");
    let documents = json(sandbox.mybox(["gc", "--dry-run", "--unused-for", "30d", "--json"]));
    let objects = documents["objects"].as_array().expect("a list");
    let sum: u64 = objects.iter().filter_map(|one| one["bytes"].as_u64()).sum();
    assert_eq!(documents["bytes"], sum);
    assert_eq!(names(&sandbox), ["new:1", "old:1"]);
    let id = documents["plan"].as_str().expect("a plan");
    assert!(text.contains(&format!("mybox gc --plan {id}")), "{text}");
    // The plan still fits, and goes no further than it says.
    sandbox.import("later:1", Rootfs::empty().file("own", "later"));
    last_used(&sandbox, "later:1", 50);
    sandbox.mybox(["gc", "--plan", id]).run().ok();
    assert_eq!(names(&sandbox), ["later:1", "new:1"]);
    let again = sandbox.mybox(["gc", "--plan", id]).run().code(1);
    let _ = again.says("no plan").says("hint: `mybox gc --dry-run`");
    let idle = sandbox.mybox(["gc"]).run().ok();
    assert_eq!(idle.stdout(), "Nothing to collect\n");
}

#[test]
fn a_plan_whose_image_was_run_since_removes_nothing() {
    let sandbox = Sandbox::new("gcstale");
    sandbox.import_tiny();
    sandbox.import("other", Rootfs::empty().file("own", "other"));
    for name in ["tiny", "other"] {
        last_used(&sandbox, name, 10);
    }
    let document = json(sandbox.mybox(["gc", "--dry-run", "--unused-for", "1w", "--json"]));
    let plan = document["plan"].as_str().expect("a plan");
    sandbox.run(["tiny", "true"]).run().ok();
    let refused = sandbox.mybox(["gc", "--plan", plan]).run().code(1);
    let _ = refused.says("nothing was removed").says("used since");
    assert_eq!(names(&sandbox), ["other:latest", "tiny:latest"]);
    sandbox.run(["tiny", "true"]).run().ok();
}

#[test]
fn gc_leaves_what_containers_are_made_of_and_what_is_pinned() {
    let sandbox = Sandbox::new("gckeeps");
    sandbox.import("running", Rootfs::tiny());
    sandbox.import("stopped", Rootfs::tiny().file("other", "1"));
    sandbox.import("pinned", Rootfs::empty().file("own", "pinned"));
    sandbox.import("idle", Rootfs::empty().file("own", "idle"));
    let sleep = ["run", "--rm", "-i", "--network", "none", "running", "cat"];
    let mut running = sandbox.mybox(sleep).spawn();
    running.send(b"up\n");
    running.wait_for("up");
    let run = [
        "run",
        "--name",
        "ended",
        "--network",
        "none",
        "stopped",
        "true",
    ];
    sandbox.mybox(run).run().ok();
    sandbox.mybox(["pin", "pinned"]).run().ok();
    let again = sandbox.mybox(["pin", "pinned"]).run().ok();
    let _ = again.says("pinned already");
    // Even where they have lost their names.
    for name in ["running", "stopped"] {
        sandbox.mybox(["rmi", "--force", name]).run().ok();
    }
    sandbox.mybox(["gc", "--unused-for", "0s"]).run().ok();
    assert_eq!(names(&sandbox), ["pinned:latest"]);
    let images = json(sandbox.mybox(["images", "--json"]));
    assert_eq!(images.as_array().map(Vec::len), Some(3));
    let small = sandbox.mybox(["gc", "--keep-bytes", "10kB"]).run().code(1);
    let _ = small.says("cannot keep to 10kB").says("pinned");
    assert_eq!(json(sandbox.mybox(["images", "--json"])), images);
    running.close_stdin();
    running.wait().ok();
    sandbox.mybox(["rm", "ended"]).run().ok();
    sandbox.mybox(["unpin", "pinned"]).run().ok();
    sandbox.mybox(["gc", "--unused-for", "0s"]).run().ok();
    assert!(names(&sandbox).is_empty());
    for directory in ["blobs/sha256", "layers", "ingest"] {
        let left = std::fs::read_dir(sandbox.root().join(directory)).expect("a listing");
        assert_eq!(left.count(), 0, "{directory}");
    }
}

#[test]
fn gc_understands_times_and_sizes_as_people_write_them() {
    let sandbox = Sandbox::new("gcflags");
    for words in [
        ["--unused-for", "30d"],
        ["--unused-for", "12h"],
        ["--unused-for", "2w"],
        ["--unused-for", "90m"],
        ["--keep-bytes", "20GB"],
        ["--keep-bytes", "1.5TiB"],
        ["--keep-bytes", "500m"],
    ] {
        sandbox.mybox(["gc"]).args(words).run().ok();
    }
    for words in [
        ["--unused-for", "30"],
        ["--unused-for", "d"],
        ["--unused-for", "-1d"],
        ["--unused-for", "1y"],
        ["--keep-bytes", "much"],
        ["--keep-bytes", "-1"],
        ["--plan", "x"],
    ] {
        let code = if words[0] == "--plan" { 1 } else { 2 };
        let _ = sandbox.mybox(["gc"]).args(words).run().code(code);
    }
    let both = ["gc", "--dry-run", "--plan", "0123456789abcdef"];
    let _ = sandbox.mybox(both).run().code(2);
}

/// What a store holds that nothing needs, or needs and does not hold.
fn unsound(root: &Path) -> Vec<String> {
    let read = |digest: &Value| -> Value {
        let hex = &digest.as_str().expect("a digest")["sha256:".len()..];
        let bytes = std::fs::read(root.join("blobs/sha256").join(hex)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    };
    let index: Value =
        serde_json::from_slice(&std::fs::read(root.join("index.json")).expect("index.json"))
            .expect("JSON");
    let mut needed = BTreeSet::new();
    for entry in index["manifests"].as_array().expect("a list") {
        let manifest = read(&entry["digest"]);
        let config = read(&manifest["config"]["digest"]);
        let blobs = [&entry["digest"], &manifest["config"]["digest"]];
        let layers = manifest["layers"].as_array().expect("layers").iter();
        let blobs = blobs
            .into_iter()
            .chain(layers.map(|layer| &layer["digest"]));
        needed.extend(blobs.map(|digest| format!("blobs/sha256/{}", hex(digest))));
        let layers = config["rootfs"]["diff_ids"].as_array().expect("diff ids");
        needed.extend(layers.iter().map(|layer| format!("layers/{}", hex(layer))));
    }
    let mut found = BTreeSet::new();
    for directory in ["blobs/sha256", "layers", "ingest"] {
        let listing = std::fs::read_dir(root.join(directory)).expect("a listing");
        found.extend(
            listing
                .flatten()
                .map(|entry| format!("{directory}/{}", entry.file_name().to_string_lossy())),
        );
    }
    needed
        .symmetric_difference(&found)
        .map(|path| {
            let what = if needed.contains(path) {
                "lost"
            } else {
                "left"
            };
            format!("{what}: {path}")
        })
        .collect()
}

fn hex(digest: &Value) -> String {
    digest.as_str().expect("a digest")["sha256:".len()..].to_owned()
}

/// One worker's next command. Most may find that another has removed the image just then.
fn command(sandbox: &Sandbox, sources: &Sources, worker: usize, round: usize) -> Running {
    let number = (worker + round) % sources.tars.len();
    let name = format!("image:{number}");
    let run = |image: &str| {
        let words = ["--pull", "never", image, "cat", "/content"];
        sandbox.run(words).spawn()
    };
    let mybox = |words: &[&str]| sandbox.mybox(words).spawn();
    match (worker * 3 + round) % 11 {
        0 | 1 => {
            let mut import = mybox(&["import", "-", &name]);
            import.send(&sources.tars[number]);
            import
        }
        2 if round.is_multiple_of(3) => mybox(&["gc", "--unused-for", "0s"]),
        2 | 3 => mybox(&["gc"]),
        4 => mybox(&["rmi", &name]),
        5 => mybox(&["tag", &name, &format!("other:{worker}")]),
        6 => run(&name),
        7 => run("always"),
        8 | 9 => mybox(&["pull", "--quiet", &sources.remote[number % 2]]),
        _ => {
            let archive = sandbox.scratch().join(format!("saved-{worker}"));
            mybox(&["save", "-o", &archive.to_string_lossy(), "always", &name])
        }
    }
}

/// Where images come from.
struct Sources {
    tars: Vec<Vec<u8>>,
    /// Two images of a registry that share a layer.
    remote: [String; 2],
}

/// Whatever the order: a command does its work or says that the image is not there, and what the
/// index names at the end is there and whole.
#[test]
fn pulls_imports_runs_saves_removals_and_collections_at_once_lose_nothing() {
    const WORKERS: usize = 8;
    const ROUNDS: usize = 33;
    let sandbox = Sandbox::new("gcchaos");
    let registry = FakeRegistry::start();
    let content = |text: &str| Rootfs::tiny().file("content", text);
    let remote = [1, 2].map(|number| {
        let own = content(&format!("content of remote {number}\n"));
        let shared = Rootfs::empty().file("shared", "by both");
        let name = format!("remote:{number}");
        registry.add(&name, &TestImage::new([shared, own]));
        registry.reference(&name)
    });
    let tars = (0..4).map(|number| content(&format!("content {number}\n")).tar());
    let sources = Sources {
        tars: tars.collect(),
        remote,
    };
    sandbox.import("always", content("always\n"));
    sandbox.mybox(["pin", "always"]).run().ok();
    for round in 0..ROUNDS {
        let workers = (0..WORKERS).map(|worker| command(&sandbox, &sources, worker, round));
        let workers: Vec<Running> = workers.collect();
        for worker in workers {
            let output = worker.wait();
            let text = output.stderr();
            let gone = text.contains("no such image") || text.contains("is used by");
            assert!(output.exit_code() == Some(0) || gone, "{text}");
            assert!(!text.contains("always"), "{text}");
        }
    }
    for reference in &sources.remote {
        sandbox.mybox(["pull", reference]).run().ok();
    }
    sandbox.mybox(["verify"]).run().ok();
    for name in names(&sandbox) {
        let text = sandbox.run([&*name, "cat", "/content"]).run().ok().stdout();
        assert!(
            text.starts_with("content ") || text == "always\n",
            "{name}: {text}"
        );
    }
    assert!(names(&sandbox).contains(&"always:latest".to_owned()));
    sandbox.mybox(["gc"]).run().ok();
    assert_eq!(unsound(&sandbox.root()), Vec::<String>::new());
}

#[test]
fn a_download_that_goes_on_is_left_alone_by_gc() {
    let sandbox = Sandbox::new("gcpull");
    let registry = FakeRegistry::start();
    let image = TestImage::new([Rootfs::tiny(), Rootfs::empty().file("own", "layer")]);
    registry.add("app:1", &image);
    let layer = image.blobs().next().expect("a blob").digest();
    registry.always(format!("/blobs/{layer}"), Fault::Hold(10));
    let reference = registry.reference("app:1");
    let pull = sandbox.mybox(["pull", &reference]).spawn();
    registry.server().wait_for(&format!("/blobs/{layer}"), 1);
    for words in [
        &["gc", "--unused-for", "0s"][..],
        &["gc", "--keep-bytes", "1"],
    ] {
        let _ = sandbox.mybox(words).run();
    }
    registry.release();
    pull.wait().ok();
    let requests = registry.requests(&format!("/blobs/{layer}"));
    assert_eq!(requests.len(), 1, "it was not begun again");
    sandbox.run([&*reference, "cat", "/own"]).run().ok();
}
