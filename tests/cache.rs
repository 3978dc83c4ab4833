//! Looking at the cache: `images`, `history`, `layers`, `df` and `why`.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::registry::{FakeRegistry, TestImage, index_of};
use crate::harness::{Disk, Rootfs, Sandbox, allocated};

#[track_caller]
fn json_of<const N: usize>(sandbox: &Sandbox, words: [&str; N]) -> Value {
    sandbox.mybox(words).run().ok().stdout_json()
}

#[track_caller]
fn inspect(sandbox: &Sandbox, name: &str) -> Value {
    json_of(sandbox, ["inspect", name])[0].clone()
}

fn hex(digest: &Value) -> String {
    let digest = digest.as_str().expect("a digest");
    digest.strip_prefix("sha256:").expect("a sha256").to_owned()
}

/// Where the layers of an image lie, base first.
#[track_caller]
fn layers(sandbox: &Sandbox, name: &str) -> Vec<PathBuf> {
    let image = inspect(sandbox, name);
    let layers = image["layers"].as_array().expect("layers").iter();
    layers
        .map(|layer| sandbox.root().join("layers").join(hex(layer)))
        .collect()
}

/// Unpacks the layers of an image, as a run would.
#[track_caller]
fn unpack(sandbox: &Sandbox, name: &str) {
    sandbox.run(["--dry-run", name, "true"]).run().ok();
}

fn base() -> Rootfs {
    Rootfs::tiny().file("etc/motd", "the base\n")
}

fn text(name: &str, kilobytes: usize) -> Rootfs {
    let content = "0123456789abcde\n".repeat(64 * kilobytes);
    Rootfs::empty().file(name, &content)
}

/// Four images over six layers, unpacked:
/// ```text
/// base <- base:1
///      <- python <- python:3
///                <- app:1
///                <- app:2
/// alone <- alone:1
/// ```
fn family(sandbox: Sandbox) -> Sandbox {
    let step = |command: &str| json!({ "created_by": command });
    let base_step = step("/bin/sh -c #(nop) ADD file:1 in / ");
    let cmd = json!({ "created_by": "/bin/sh -c #(nop)  CMD [\"sh\"]", "empty_layer": true });
    let python_step = step("RUN /bin/sh -c install python # buildkit");
    let python = || text("usr/python", 200);
    let add = |name: &str, created: &str, steps: &[&Value], layers: Vec<Rootfs>| {
        let more = json!({
            "created": created,
            "history": steps,
            "config": { "Labels": { "stage": name } },
        });
        sandbox.add_image(name, more, layers);
        unpack(&sandbox, name);
    };
    let two = [&base_step, &cmd, &python_step];
    add("base:1", "2026-01-01T00:00:00Z", &two[..2], vec![base()]);
    add(
        "python:3",
        "2026-02-01T00:00:00Z",
        &two,
        vec![base(), python()],
    );
    for (app, created) in [
        ("app:1", "2026-03-01T00:00:00Z"),
        ("app:2", "2026-04-01T00:00:00Z"),
    ] {
        let copied = step("COPY app /app");
        let steps = [two[0], two[1], two[2], &copied];
        let own = Rootfs::empty()
            .file("app", app)
            .file("etc/motd", app)
            .file("usr/.wh.python", "");
        add(app, created, &steps, vec![base(), python(), own]);
    }
    add(
        "alone:1",
        "2026-05-01T00:00:00Z",
        &[],
        vec![text("alone", 400)],
    );
    sandbox
}

fn tags(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().expect("a list").iter();
    rows.map(|row| {
        let word = |key: &str| row[key].as_str().unwrap_or("<none>").to_owned();
        format!("{}:{}", word("repository"), word("tag"))
    })
    .collect()
}

#[test]
fn images_are_filtered_as_docker_filters_them() {
    let sandbox = family(Sandbox::new("filters"));
    sandbox.import("gone", text("x", 1));
    sandbox.import("gone", text("x", 2));
    let listed = |filters: &[&str]| {
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        let command = sandbox.mybox(["images", "--json"]).args(filters);
        tags(&command.run().ok().stdout_json())
    };
    let all = [
        "alone:1",
        "app:1",
        "app:2",
        "base:1",
        "gone:latest",
        "python:3",
    ];
    for (filters, expected) in [
        (&["dangling=false"][..], &all[..]),
        (&["dangling=true"], &["<none>:<none>"]),
        (&["reference=app"], &["app:1", "app:2"]),
        (&["reference=*:1"], &["alone:1", "app:1", "base:1"]),
        (&["reference=app:[2-9]"], &["app:2"]),
        (&["reference=app:1", "reference=base"], &["app:1", "base:1"]),
        (
            &["label=stage"],
            &["alone:1", "app:1", "app:2", "base:1", "python:3"],
        ),
        (&["label=stage=app:2"], &["app:2"]),
        (&["label=stage=app:2", "reference=base"], &[]),
        (
            &["since=python:3", "label=stage"],
            &["alone:1", "app:1", "app:2"],
        ),
        (&["before=app:1", "since=base:1"], &["python:3"]),
    ] {
        assert_eq!(listed(filters), expected, "{filters:?}");
    }
    for (filter, code) in [("size=3", 2), ("dangling=maybe", 2), ("before=nope", 1)] {
        let _ = sandbox
            .mybox(["images", "--filter", filter])
            .run()
            .code(code);
    }
    let id = hex(&inspect(&sandbox, "app:2")["id"]);
    let quiet = sandbox.mybox(["images", "-q", "--no-trunc", "-f", "reference=app:2"]);
    assert_eq!(quiet.run().ok().line(), format!("sha256:{id}"));
    let table = sandbox.mybox(["images", "--digests"]).run().ok().stdout();
    assert!(
        table.contains(
            inspect(&sandbox, "app:2")["digest"]
                .as_str()
                .expect("a digest")
        )
    );
}

#[test]
fn history_tells_steps_with_the_sizes_of_their_layers() {
    let sandbox = family(Sandbox::new("history"));
    let table = sandbox.mybox(["history", "app:2"]).run().ok().stdout();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(
        rows[0].split_whitespace().collect::<Vec<_>>(),
        ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    );
    let id = hex(&inspect(&sandbox, "app:2")["id"]);
    for (row, says) in rows[1..].iter().zip([
        &["COPY app /app", &id[..12]][..],
        &["RUN /bin/sh -c install python", "<missing>"],
        &["#(nop)  CMD [\"sh\"]", "<missing>", " 0B"],
        &["#(nop) ADD file:1 in /", "<missing>"],
    ]) {
        assert!(
            says.iter().all(|word| row.contains(word)),
            "{says:?} in {row}"
        );
    }
    let steps = json_of(&sandbox, ["history", "--json", "app:2"]);
    let sizes: Vec<u64> = steps
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|step| step["size"].as_u64())
        .collect();
    let [base, python, own] = &layers(&sandbox, "app:2")[..] else {
        panic!("three layers")
    };
    let expected = [own, python].map(|path| allocated(path));
    assert_eq!(sizes, [expected[0], expected[1], 0, allocated(base)]);
    let exact = sandbox
        .mybox(["history", "--human=false", "app:2"])
        .run()
        .ok();
    assert!(exact.stdout().contains(&format!(" {}", allocated(base))));
    // An image that tells nothing still has its layers.
    let steps = json_of(&sandbox, ["history", "--json", "alone:1"]);
    assert_eq!(steps[0]["size"], allocated(&layers(&sandbox, "alone:1")[0]));
    let _ = sandbox
        .mybox(["history", "nope"])
        .run()
        .code(1)
        .says("no such image");
}

#[test]
fn layers_tells_size_users_and_last_use_of_each() {
    let sandbox = family(Sandbox::new("layers"));
    sandbox
        .mybox([
            "run",
            "--name",
            "web",
            "--network",
            "none",
            "python:3",
            "true",
        ])
        .run()
        .ok();
    let rows = json_of(&sandbox, ["layers", "--json"]);
    let rows = rows.as_array().expect("a list");
    assert_eq!(rows.len(), 5);
    let sizes: Vec<u64> = rows
        .iter()
        .filter_map(|row| row["bytes"].as_u64())
        .collect();
    assert!(sizes.is_sorted_by(|one, next| one >= next), "{sizes:?}");
    let [base, python] = &layers(&sandbox, "python:3")[..] else {
        panic!("two layers")
    };
    let row_of = |path: &PathBuf| {
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let mut rows = rows.iter();
        rows.find(|row| hex(&row["diffId"]) == name).expect("a row")
    };
    for (path, images) in [(base, 4), (python, 3)] {
        let row = row_of(path);
        assert_eq!(row["bytes"], allocated(path));
        assert_eq!(row["images"].as_array().map(Vec::len), Some(images));
        assert_eq!(row["containers"], json!(["web"]));
        assert!(
            row["lastUsed"]
                .as_str()
                .is_some_and(|time| time.starts_with("20"))
        );
        let blob = sandbox.root().join("blobs/sha256").join(hex(&row["blob"]));
        let length = blob.metadata().expect("the layer's blob").len();
        assert_eq!(row["compressedBytes"], length);
    }
    let table = sandbox.mybox(["layers"]).run().ok().stdout();
    assert!(
        table.contains("app:1, app:2, base:1, and 1 more"),
        "{table}"
    );
    sandbox.mybox(["rm", "web"]).run().ok();
}

#[test]
fn the_tree_draws_images_as_branches_over_shared_layers() {
    let sandbox = family(Sandbox::new("tree"));
    sandbox.mybox(["pin", "app:2"]).run().ok();
    let picture = sandbox.mybox(["layers", "--tree"]).run().ok().stdout();
    let short = |name: &str| -> Vec<String> {
        layers(&sandbox, name)
            .iter()
            .map(|path| path.file_name().expect("a name").to_string_lossy()[..12].to_owned())
            .collect()
    };
    let (one, two, alone) = (short("app:1"), short("app:2"), short("alone:1"));
    let bullet = match sandbox.layer_form() {
        "unpacked" => "●",
        _ => "◆",
    };
    let expected = [
        format!("● {}", alone[0]),
        "└─▶ alone:1".to_owned(),
        String::new(),
        format!("● {} ADD file:1 in /", one[0]),
        "├─▶ base:1".to_owned(),
        format!("● {} RUN install python", one[1]),
        "├─▶ python:3".to_owned(),
        format!("├─● {} COPY app /app", one[2]),
        "│ └─▶ app:1 (own".to_owned(),
        format!("└─● {} COPY app /app", two[2]),
        "  └─▶ app:2 (own".to_owned(),
        String::new(),
    ];
    let expected = expected.map(|line| line.replace('●', bullet));
    for (line, expected) in picture.lines().zip(&expected) {
        assert!(
            line.starts_with(expected.as_str()),
            "{expected:?} in\n{picture}"
        );
        assert!(line.chars().count() <= 80, "{line}");
    }
    let lines: Vec<&str> = picture.lines().collect();
    let bars = |line: &str| {
        line.chars()
            .filter(|letter| "█░▏".contains(*letter))
            .collect::<String>()
    };
    let longest = lines.iter().map(|line| bars(line).chars().count()).max();
    assert_eq!(longest, Some(18), "{picture}");
    assert!(
        bars(lines[0]).chars().all(|letter| letter == '░'),
        "{picture}"
    );
    assert!(
        bars(lines[3]).chars().all(|letter| letter == '█'),
        "{picture}"
    );
    assert!(lines[10].contains("pinned"), "{picture}");
    let rest = &lines[expected.len()..];
    assert!(rest[0].contains("█ in several images"), "{picture}");
    assert!(rest[1].starts_with("5 images over 5 layers: "), "{picture}");
    let all = allocated(&sandbox.root().join("layers")) - own_blocks(&sandbox);
    let rows = json_of(&sandbox, ["layers", "--json"]);
    let rows = rows.as_array().expect("a list").iter();
    assert_eq!(
        rows.filter_map(|row| row["bytes"].as_u64()).sum::<u64>(),
        all
    );
    // A layer on another base is drawn once.
    sandbox.add_layers("other:1", [text("alone", 400), text("usr/python", 200)]);
    let picture = sandbox.mybox(["layers", "--tree"]).run().ok().stdout();
    assert_eq!(picture.matches("drawn above").count(), 1, "{picture}");
    let nothing = Sandbox::new("notree");
    let picture = nothing.mybox(["layers", "--tree"]).run().ok().stdout();
    assert_eq!(picture, "No images\n");
}

/// Blocks of the directory of layers itself.
fn own_blocks(sandbox: &Sandbox) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let directory = sandbox.root().join("layers");
    directory.metadata().expect("layers").blocks() * 512
}

/// What is said of each path, as `letter path`.
fn said(changes: &Value) -> Vec<String> {
    let changes = changes.as_array().expect("a list").iter();
    changes
        .map(|change| {
            let letter = &change["change"].as_str().expect("a word")[..1];
            format!("{letter} {}", change["path"].as_str().expect("a path"))
        })
        .collect()
}

#[test]
fn the_layers_of_an_image_add_change_and_delete() {
    let sandbox = Sandbox::new("changes");
    let bottom = Rootfs::empty()
        .dir("etc", 0o755)
        .file("etc/kept", "kept")
        .file("etc/changed", "before")
        .dir("data", 0o755)
        .file("data/a", "a")
        .dir("data/deep", 0o755)
        .file("data/deep/b", "b")
        .dir("old", 0o755)
        .file("old/one", "1")
        .dir("turns", 0o755)
        .file("turns/inside", "2");
    let top = Rootfs::empty()
        .dir("etc", 0o755)
        .file("etc/changed", "after, and longer")
        .file("etc/new", "new")
        .file(".wh.old", "")
        .dir("data", 0o755)
        .file("data/.wh..wh..opq", "")
        .file("data/a", "another a")
        .file("turns", "into a file");
    sandbox.add_layers("image:1", [bottom, top]);
    unpack(&sandbox, "image:1");
    let found = json_of(&sandbox, ["layers", "--json", "image:1"]);
    assert_eq!(found.as_array().map(Vec::len), Some(2));
    let changes = said(&found[1]["changes"]);
    assert_eq!(
        changes,
        [
            "c /data/a",
            "d /data/deep",
            "c /etc/changed",
            "a /etc/new",
            "d /old",
            "c /turns",
        ]
    );
    assert!(
        said(&found[0]["changes"])
            .iter()
            .all(|it| it.starts_with('a'))
    );
    let [bottom, top] = &layers(&sandbox, "image:1")[..] else {
        panic!("two layers")
    };
    let change = |number: usize| &found[1]["changes"][number];
    // What the files take, or what they take of the tar: whole blocks of it.
    let bytes = |path: PathBuf, of_tar: u64| match sandbox.layer_form() {
        "unpacked" => allocated(&path),
        _ => of_tar,
    };
    let (deep, old) = (bottom.join("fs/data/deep"), bottom.join("fs/old"));
    assert_eq!(change(1)["bytesBefore"], bytes(deep, 512));
    assert_eq!(change(4)["bytesBefore"], bytes(old, 512));
    assert_eq!(
        change(5)["bytesBefore"],
        bytes(bottom.join("fs/turns"), 512)
    );
    assert_eq!(change(3)["bytesAfter"], bytes(top.join("fs/etc/new"), 512));
    let text = sandbox.mybox(["layers", "image:1"]).run().ok().stdout();
    assert!(
        text.contains("Layer 2 of 2: ") && text.contains("/old/\n"),
        "{text}"
    );
    assert!(
        text.contains("1 added (") && text.contains("2 deleted ("),
        "{text}"
    );
    let sums = sandbox
        .mybox(["layers", "--summary", "image:1"])
        .run()
        .ok()
        .stdout();
    assert!(
        !sums.contains("/old") && sums.contains("2 deleted ("),
        "{sums}"
    );
}

#[test]
fn two_images_are_compared_by_what_a_container_would_see() {
    let sandbox = family(Sandbox::new("diff"));
    let diff =
        |from: &str, to: &str| said(&json_of(&sandbox, ["layers", "diff", "--json", from, to]));
    assert_eq!(diff("app:1", "app:1"), Vec::<String>::new());
    assert_eq!(diff("app:1", "app:2"), ["c /app", "c /etc/motd"]);
    assert_eq!(
        diff("python:3", "app:1"),
        ["a /app", "c /etc/motd", "d /usr/python"]
    );
    assert_eq!(
        diff("app:1", "python:3"),
        ["d /app", "c /etc/motd", "a /usr/python"]
    );
    let text = sandbox
        .mybox(["layers", "diff", "python:3", "app:1"])
        .run()
        .ok();
    let text = text.stdout();
    assert!(
        text.contains("  D ") && text.contains("1 deleted ("),
        "{text}"
    );
    let nothing = sandbox
        .mybox(["layers", "diff", "app:1", "app:1"])
        .run()
        .ok();
    assert_eq!(nothing.stdout(), "  nothing\n");
    let _ = sandbox
        .mybox(["layers", "diff", "app:1", "nope"])
        .run()
        .code(1);
    std::fs::remove_dir_all(&layers(&sandbox, "app:2")[2]).expect("remove a layer");
    let missing = sandbox.mybox(["layers", "app:2"]).run().code(1);
    let missing = missing.says("is not there, or not any more");
    let _ = missing.says("`mybox pull` of its image brings it");
}

#[test]
fn df_counts_a_file_once_that_is_both_a_blob_and_the_tar_of_an_indexed_layer() {
    let sandbox = Sandbox::new("df").with_layer_form("indexed");
    sandbox.import("one", base());
    let document = json_of(&sandbox, ["df", "--json"]);
    // Without the merged index, which no layer is.
    let images = allocated(&sandbox.root().join("images"));
    let root = allocated(&sandbox.root()) - allocated(&sandbox.root().join("containers"));
    let total = document["total"].as_u64().expect("bytes");
    assert!(
        total == root || total + images >= root && total <= root,
        "{total} {root}"
    );
    let listed = json_of(&sandbox, ["layers", "--json"]);
    let [layer] = &layers(&sandbox, "one")[..] else {
        panic!("one layer")
    };
    assert_eq!(
        (
            &listed[0]["form"],
            &listed[0]["sharesBlob"],
            &listed[0]["bytes"]
        ),
        (&json!("indexed"), &json!(true), &json!(allocated(layer)))
    );
    let inspected = json_of(&sandbox, ["inspect", "one"]);
    assert_eq!(inspected[0]["layerDetails"][0]["form"], "indexed");
    assert_eq!(inspected[0]["size"], allocated(layer));
}

#[test]
fn df_counts_every_byte_once() {
    let sandbox = family(Sandbox::new("df").with_layer_form("unpacked"));
    sandbox
        .mybox([
            "run",
            "--name",
            "web",
            "--network",
            "none",
            "python:3",
            "true",
        ])
        .run()
        .ok();
    let partial = sandbox
        .root()
        .join(format!("ingest/{}.partial", "ab".repeat(32)));
    std::fs::write(&partial, [7; 50_000]).expect("a download");
    let created = sandbox.mybox(["volume", "create", "data"]).run().ok();
    drop(created);
    let volume = sandbox.root().join("volumes/data");
    std::fs::write(volume.join("data/file"), [7; 30_000]).expect("a file");
    let directory = std::fs::File::open(sandbox.root()).expect("the root");
    rustix::fs::syncfs(&directory).expect("sync");
    let document = json_of(&sandbox, ["df", "--json"]);
    let bytes = |kind: &str| document[kind]["bytes"].as_u64().expect("bytes");
    let of = |path: &str| allocated(&sandbox.root().join(path));
    let directories: u64 = ["layers", "blobs/sha256"]
        .map(|path| {
            use std::os::unix::fs::MetadataExt;
            let path = sandbox.root().join(path);
            path.metadata().expect("a directory").blocks() * 512
        })
        .iter()
        .sum();
    assert_eq!(
        bytes("layers") + bytes("blobs") + directories,
        of("layers") + of("blobs/sha256")
    );
    assert_eq!(bytes("images"), bytes("layers") + bytes("blobs"));
    assert_eq!(bytes("volumes"), allocated(&volume));
    assert_eq!(bytes("partialDownloads"), allocated(&partial));
    let container = hex_of_container(&sandbox, "web");
    assert_eq!(bytes("containers"), of(&format!("containers/{container}")));
    let sum = ["images", "containers", "volumes", "partialDownloads"].map(bytes);
    let overhead = document["overhead"].as_u64().expect("bytes");
    assert_eq!(document["total"], sum.iter().sum::<u64>() + overhead);
    // Of the layers, those of python:3 are active.
    assert_eq!(
        (&document["images"]["total"], &document["images"]["active"]),
        (&json!(5), &json!(1))
    );
    assert_eq!(document["layers"]["active"], 2);
    let [base, python] = &layers(&sandbox, "python:3")[..] else {
        panic!("two layers")
    };
    assert_eq!(
        document["layers"]["sharedBytes"],
        allocated(base) + allocated(python)
    );
    let reclaimable = document["layers"]["reclaimableBytes"]
        .as_u64()
        .expect("bytes");
    assert_eq!(
        reclaimable,
        bytes("layers") - allocated(base) - allocated(python)
    );
    assert_eq!(document["gc"], 0);
    let text = sandbox.mybox(["df"]).run().ok().stdout();
    for word in [
        "Images",
        "Layers",
        "Blobs",
        "Containers",
        "Volumes",
        "Partial downloads",
    ] {
        assert!(text.contains(word), "{text}");
    }
    let detailed = sandbox.mybox(["df", "-v"]).run().ok().stdout();
    assert!(
        detailed.contains("app:1, app:2") && detailed.contains("web"),
        "{detailed}"
    );
    // What it calls reclaimable is what goes.
    let all = document["images"]["reclaimableBytes"]
        .as_u64()
        .expect("bytes");
    let plan = json_of(&sandbox, ["gc", "--unused-for", "0s", "--json"]);
    assert_eq!(plan["bytes"], all);
    sandbox.mybox(["rm", "web"]).run().ok();
}

#[track_caller]
fn hex_of_container(sandbox: &Sandbox, name: &str) -> String {
    inspect(sandbox, name)["id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

#[test]
fn why_tells_everything_that_keeps_a_layer_and_when_nothing_does() {
    let sandbox = family(Sandbox::new("why"));
    sandbox.mybox(["pin", "app:1"]).run().ok();
    let run = [
        "run",
        "--name",
        "web",
        "--network",
        "none",
        "python:3",
        "true",
    ];
    sandbox.mybox(run).run().ok();
    let image = inspect(&sandbox, "python:3");
    let python = hex(&image["layers"][1]);
    // The blob is not compressed: it has the same digest as the layer.
    let found = json_of(&sandbox, ["why", "--json", &python[..16]]);
    let kinds: Vec<&Value> = found
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["kind"])
        .collect();
    assert_eq!(kinds, ["blob", "layer"]);
    let layer = &found[1];
    let needed = layer["neededBy"].as_array().expect("a list");
    let tags: Vec<&str> = needed
        .iter()
        .filter_map(|it| it["names"][0].as_str())
        .collect();
    let full = ["python:3", "app:1", "app:2"].map(|name| format!("docker.io/library/{name}"));
    assert_eq!(tags, full);
    assert_eq!(
        (&needed[0]["role"], &needed[0]["number"], &needed[0]["of"]),
        (&json!("layer"), &json!(2), &json!(2))
    );
    assert_eq!(needed[0]["containers"], json!(["web"]));
    assert_eq!(
        (&needed[0]["pinned"], &needed[1]["pinned"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        (&layer["held"], &layer["gc"]),
        (&json!(false), &json!(false))
    );
    let text = sandbox.mybox(["why", &python]).run().ok().stdout();
    for line in [
        "layer 2/2 of python:3",
        "which container web has",
        "layer 2/3 of app:1",
        "which is pinned",
        "gc keeps it",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    let roles = [("id", "config"), ("digest", "manifest")];
    for (key, role) in roles {
        let found = json_of(
            &sandbox,
            ["why", "--json", image[key].as_str().expect("a digest")],
        );
        assert_eq!(found[0]["neededBy"][0]["role"], role);
    }
    let by_name = json_of(&sandbox, ["why", "--json", "python:3"]);
    assert_eq!(by_name[0]["digest"], image["digest"]);
    // A container that runs holds its layers.
    let sleep = ["run", "--rm", "-i", "--network", "none", "base:1", "cat"];
    let mut running = sandbox.mybox(sleep).spawn();
    running.send(b"up\n");
    running.wait_for("up");
    let base = hex(&image["layers"][0]);
    let found = json_of(&sandbox, ["why", "--json", &base]);
    assert_eq!(found[1]["held"], true);
    running.close_stdin();
    running.wait().ok();
    // A blob of nobody's.
    let lost = "cd".repeat(32);
    std::fs::write(sandbox.root().join("blobs/sha256").join(&lost), "x").expect("a blob");
    let found = json_of(&sandbox, ["why", "--json", &lost]);
    assert_eq!(
        (&found[0]["neededBy"], &found[0]["gc"]),
        (&json!([]), &json!(true))
    );
    let text = sandbox.mybox(["why", &lost]).run().ok().stdout();
    assert!(
        text.contains("`mybox gc` removes it: no image needs it"),
        "{text}"
    );
    let _ = sandbox
        .mybox(["why", "nope"])
        .run()
        .code(1)
        .says("no image nope");
    let _ = sandbox.mybox(["why", "0123456789ab"]).run().code(1);
    sandbox.mybox(["rm", "web"]).run().ok();
}

#[test]
fn an_image_that_cannot_be_read_hides_no_other() {
    let sandbox = family(Sandbox::new("damaged"));
    let digest = hex(&inspect(&sandbox, "app:1")["digest"]);
    std::fs::write(sandbox.root().join("blobs/sha256").join(digest), "{}").expect("damage");
    for verb in ["images", "layers", "df"] {
        let output = sandbox.mybox([verb, "--json"]).run().code(1);
        let output = output.says("app:1 cannot be read").says("mybox verify");
        assert!(!output.stdout().is_empty());
    }
    let rows = sandbox
        .mybox(["images", "--json"])
        .run()
        .code(1)
        .stdout_json();
    assert_eq!(tags(&rows), ["alone:1", "app:2", "base:1", "python:3"]);
    let kept = sandbox
        .mybox(["gc", "--unused-for", "0s", "--dry-run"])
        .run()
        .ok();
    let kept = kept.says("nobody knows what it needs");
    assert_eq!(kept.stdout(), "Nothing to collect\n");
}

#[test]
fn a_store_that_cannot_be_written_to_is_looked_at_all_the_same() {
    let sandbox = Sandbox::new("readonly");
    let disk = Disk::in_memory(&sandbox);
    let mybox = |words: &[&str]| {
        let command = sandbox.mybox(words.iter());
        command.env("MYBOX_ROOT", disk.path())
    };
    for content in ["old", "new"] {
        let import = mybox(&["import", "-", "app:1"]);
        import.stdin(text(content, 8).tar()).run().ok();
    }
    disk.make_read_only();
    for words in [
        &["images"][..],
        &["history", "app:1"],
        &["inspect", "app:1"],
        &["layers"],
        &["layers", "--tree"],
        &["layers", "app:1"],
        &["df", "-v"],
        &["why", "app:1"],
    ] {
        mybox(words).run().ok();
    }
    let dry = mybox(&["gc", "--dry-run"]).run().ok();
    let dry = dry
        .says("the plan cannot be kept")
        .says("Read-only file system");
    assert!(dry.stdout().contains("it has no name and no container"));
    for words in [&["gc"][..], &["pin", "app:1"], &["rmi", "app:1"]] {
        let _ = mybox(words).run().code(1).says("Read-only file system");
    }
}

#[test]
fn of_a_name_for_several_platforms_this_machines_is_listed_and_with_all_every_one() {
    let sandbox = Sandbox::new("platforms");
    let registry = FakeRegistry::start();
    let host = mybox_store::Platform::host().to_string();
    let images = [host.as_str(), "linux/s390x"].map(|platform| {
        let architecture = platform.strip_prefix("linux/").expect("linux");
        TestImage::for_platform(architecture, [Rootfs::tiny().file("for", platform)])
    });
    let index = index_of(&images);
    for image in &images {
        registry.add("all", image);
    }
    registry.add_manifest(Some("all:1"), &index);
    let reference = registry.reference("all:1");
    let pull = sandbox.mybox(["pull", "--all-platforms", &reference]);
    pull.run().ok();
    let platforms = |words: &[&str]| -> Vec<String> {
        let images = sandbox.mybox(["images", "--json"]).args(words);
        let images = images.run().ok().stdout_json();
        let rows = images.as_array().expect("a list").iter();
        let mut platforms: Vec<String> = rows
            .map(|row| row["platform"].as_str().expect("a platform").to_owned())
            .collect();
        platforms.sort();
        platforms
    };
    assert_eq!(platforms(&[]), std::slice::from_ref(&host));
    assert_eq!(platforms(&["--all"]), [host, "linux/s390x".to_owned()]);
    let table = sandbox
        .mybox(["images", "-a", "--digests"])
        .run()
        .ok()
        .stdout();
    assert!(
        table.contains("PLATFORM") && table.contains("linux/s390x"),
        "{table}"
    );
    assert_eq!(table.matches(&index.digest()).count(), 2, "{table}");
    let inspected = inspect(&sandbox, &reference);
    let digests = inspected["repoDigests"].as_array().expect("a list");
    assert_eq!(digests.len(), 2);
    // The tag keeps the other platform's layer.
    sandbox.mybox(["gc"]).run().ok();
    assert_eq!(platforms(&["--all"]).len(), 2);
    // Nobody who names the other platform's expects this machine's to go.
    let other = images[1].digest();
    let refused = sandbox.mybox(["rmi", &other]).run().code(1);
    let refused = refused.says(&format!("is one platform's of {reference}"));
    drop(refused.says("hint: remove that name"));
    assert_eq!(platforms(&["--all"]).len(), 2);
    sandbox.mybox(["rmi", &images[0].digest()]).run().ok();
    assert!(platforms(&["--all"]).is_empty());
    sandbox.mybox(["pull", "-a", &reference]).run().ok();
    sandbox.mybox(["rmi", "--force", &other]).run().ok();
    assert!(platforms(&["--all"]).is_empty());
}
