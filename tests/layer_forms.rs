//! The forms of layers, as the command line has them: who chooses, converting, and damage.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Rootfs, Sandbox};

fn json(sandbox: &Sandbox, words: &[&str]) -> Value {
    sandbox.mybox(words).run().ok().stdout_json()
}

fn forms(sandbox: &Sandbox) -> Vec<String> {
    let layers = json(sandbox, &["layers", "--json"]);
    let layers = layers.as_array().expect("a list");
    let form = |layer: &Value| layer["form"].as_str().expect("a form").to_owned();
    layers.iter().map(form).collect()
}

fn diff_id(sandbox: &Sandbox, name: &str) -> String {
    let image = json(sandbox, &["inspect", name]);
    image[0]["layers"][0]
        .as_str()
        .expect("a diff id")
        .to_owned()
}

fn layer(sandbox: &Sandbox, name: &str) -> PathBuf {
    let hex = diff_id(sandbox, name).replace("sha256:", "");
    sandbox.root().join("layers").join(hex)
}

#[test]
fn the_flag_counts_more_than_the_environment_and_that_more_than_the_setting() {
    // An empty variable would be a wrong word: here the kernel and the setting decide.
    let sandbox = Sandbox::new("choice").with_layer_form("auto");
    let form = |words: &[&str]| {
        let words = [&["layers", "form"], words].concat();
        let said = sandbox.mybox(words).run().ok();
        (said.line(), said.stderr())
    };
    let (first, why) = form(&[]);
    assert!(why.contains("note: auto: the kernel can"), "{why}");
    for set in ["indexed", "unpacked"] {
        form(&[set]);
        // The sandbox's variable asks for the kernel's choice again.
        assert_eq!(form(&[]).0, first);
        let words = ["layers", "form"];
        let unset = sandbox
            .mybox::<&str>([])
            .through(["env", "-u", "MYBOX_LAYER_FORM"]);
        let said = unset.args(words).run().ok();
        assert_eq!(said.line(), set);
        drop(said.says("note: set for this store"));
        let asked = sandbox
            .mybox(words)
            .env("MYBOX_LAYER_FORM", "unpacked")
            .run()
            .ok();
        assert_eq!(asked.line(), "unpacked");
        let flag = sandbox.mybox(words).env("MYBOX_LAYER_FORM", "unpacked");
        assert_eq!(
            flag.args(["--layer-form", "indexed"]).run().ok().line(),
            "indexed"
        );
    }
    form(&["auto"]);
    for (form, number) in [("indexed", 1), ("unpacked", 2)] {
        let rootfs = Rootfs::empty().file("f", &number.to_string());
        let import = sandbox.mybox(["import", "--layer-form", form, "-", form]);
        import.stdin(rootfs.tar()).run().ok();
        let document = json(&sandbox, &["inspect", form]);
        assert_eq!(document[0]["layerDetails"][0]["form"], form);
    }
    let wrong = sandbox.mybox(["layers", "form", "zipped"]).run().code(2);
    drop(wrong.says("none of auto, indexed, unpacked"));
}

#[test]
fn layers_are_converted_by_image_by_layer_and_all_at_once() {
    let sandbox = Sandbox::new("convert").with_layer_form("unpacked");
    sandbox.import_tiny();
    sandbox.import("other", Rootfs::empty().file("f", "x"));
    let convert = |words: &[&str]| {
        let words = [&["layers", "convert"], words].concat();
        sandbox.mybox(words).run().ok().stdout()
    };
    let said = convert(&["--to", "indexed", "other"]);
    assert!(
        said.contains(" indexed: ") && said.ends_with(" now\n"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);
    let mut found = forms(&sandbox);
    found.sort();
    assert_eq!(found, ["indexed", "unpacked"]);
    let tiny = diff_id(&sandbox, "tiny");
    convert(&["--to", "indexed", &tiny["sha256:".len()..][..8]]);
    assert_eq!(forms(&sandbox), ["indexed", "indexed"]);
    assert_eq!(
        sandbox.run(["tiny", "echo", "runs"]).run().ok().line(),
        "runs"
    );
    let again = convert(&["--to", "indexed"]);
    assert_eq!(again.matches(" is indexed already").count(), 2, "{again}");
    // Without --to the form is that of new layers.
    let rows: Value = serde_json::from_str(&convert(&["--json"])).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&rows[0]["form"], &rows[0]["converted"]),
        (&"unpacked".into(), &true.into())
    );
    assert_eq!(convert(&["--quiet", "--to", "unpacked"]), "");
    assert_eq!(forms(&sandbox), ["unpacked", "unpacked"]);
    assert_eq!(
        sandbox.run(["tiny", "echo", "runs"]).run().ok().line(),
        "runs"
    );
    sandbox.mybox(["verify"]).run().ok();
    let missing = sandbox
        .mybox(["layers", "convert", "nothing"])
        .run()
        .code(1);
    drop(missing.says("no such image: nothing").says("hint: "));
}

#[test]
fn what_runs_keeps_the_layers_that_are_converted_and_what_starts_gets_the_new_ones() {
    let sandbox = Sandbox::new("convert").with_layer_form("indexed");
    let top = Rootfs::empty().file("top", "of the image");
    sandbox.add_layers("two", [Rootfs::tiny(), top]);
    let ids = || {
        let image = json(&sandbox, &["inspect", "two"]);
        let layers = image[0]["layers"].as_array().expect("layers").clone();
        layers
            .iter()
            .map(|id| id.as_str().expect("an id").to_owned())
            .collect::<Vec<_>>()
    };
    let look = || {
        let run = sandbox.run(["two", "cat", "/top"]);
        assert_eq!(run.run().ok().line(), "of the image");
    };
    let running = sandbox.run(["two", "probe", "trap", "USR1"]).spawn();
    running.wait_for("ready");
    let seen = format!("/proc/{}/root/top", sandbox.container_pid());
    let convert = |words: &[&str]| {
        let words = [&["layers", "convert", "--quiet", "--to"], words].concat();
        sandbox.mybox(words).run().ok();
    };
    let [bottom, top] = &ids()[..] else {
        panic!("two layers")
    };
    for words in [
        ["unpacked", top],
        ["indexed", top],
        ["unpacked", bottom],
        ["unpacked", top],
    ] {
        convert(&words);
        look();
    }
    assert_eq!(std::fs::read_to_string(seen).expect("read"), "of the image");
    running.signal(Signal::USR1);
    running.wait().ok();
    look();
    let ingest = std::fs::read_dir(sandbox.root().join("ingest")).expect("a listing");
    assert_eq!(ingest.count(), 0);
    sandbox.mybox(["verify"]).run().ok();
}

#[test]
fn a_conversion_that_cannot_be_made_says_what_to_do_and_leaves_the_layer() {
    let sandbox = Sandbox::new("convert").with_layer_form("unpacked");
    sandbox.import_tiny();
    let id = diff_id(&sandbox, "tiny");
    let blob = sandbox
        .root()
        .join("blobs/sha256")
        .join(id.replace("sha256:", ""));
    std::fs::rename(&blob, sandbox.scratch().join("blob")).expect("move the blob");
    let convert = sandbox
        .mybox(["layers", "convert", "--to", "indexed"])
        .run()
        .code(1);
    let convert = convert.says(&format!("layer {id} stays as it is"));
    drop(
        convert
            .says("is not in the store")
            .says("hint: `mybox layers`"),
    );
    assert_eq!(forms(&sandbox), ["unpacked"]);
    assert_eq!(
        sandbox.run(["tiny", "echo", "runs"]).run().ok().line(),
        "runs"
    );
}

#[test]
fn damage_of_an_indexed_layer_is_said_and_repaired() {
    let sandbox = Sandbox::new("verify").with_layer_form("indexed");
    sandbox.import_tiny();
    sandbox.mybox(["verify"]).run().ok();
    let index = layer(&sandbox, "tiny").join("layer.erofs");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&index)
        .expect("the index");
    file.write_all_at(b"damage", 2000).expect("write");
    let damaged = sandbox.mybox(["verify"]).run().code(1).stdout();
    let line = damaged.lines().next().expect("a line");
    assert!(line.starts_with("damaged: layer sha256:"), "{line}");
    assert!(
        line.contains(": layer.erofs: it is not the index of its tar: "),
        "{line}"
    );
    let repaired = sandbox.mybox(["verify", "--repair"]).run().ok().stdout();
    assert!(
        repaired.contains(": laid down again from its own tar\n"),
        "{repaired}"
    );
    sandbox.mybox(["verify"]).run().ok();
    assert_eq!(
        sandbox.run(["tiny", "echo", "runs"]).run().ok().line(),
        "runs"
    );
}
