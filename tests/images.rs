//! `mybox images`, `inspect`, `tag` and `rmi`, and how an image is named.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Cmd, Rootfs, Sandbox, allocated};

/// Imports an image that no other is like; its manifest's digest.
#[track_caller]
fn import(sandbox: &Sandbox, name: &str, content: &str) -> String {
    let rootfs = Rootfs::empty().file("file", content);
    let import = sandbox
        .mybox(["import", "-"])
        .args((!name.is_empty()).then_some(name));
    import.stdin(rootfs.tar()).run().ok().line()
}

#[track_caller]
fn inspect(sandbox: &Sandbox, name: &str) -> Value {
    let documents = sandbox.mybox(["inspect", name]).run().ok().stdout_json();
    assert_eq!(documents.as_array().map(Vec::len), Some(1));
    documents[0].clone()
}

/// Where the one layer of an image is.
#[track_caller]
fn layer_directory(sandbox: &Sandbox, name: &str) -> PathBuf {
    let image = inspect(sandbox, name);
    let layer = image["layers"][0].as_str().expect("a layer");
    let hex = layer.strip_prefix("sha256:").expect("a digest");
    sandbox.root().join("layers").join(hex)
}

#[track_caller]
fn images(sandbox: &Sandbox) -> Vec<Value> {
    let images = sandbox.mybox(["images", "--json"]).run().ok().stdout_json();
    images.as_array().expect("a list").clone()
}

#[test]
fn images_lists_every_name_of_every_image() {
    let sandbox = Sandbox::new("images");
    let empty = sandbox.mybox(["images"]).run().ok().stdout();
    assert_eq!(
        empty.split_whitespace().collect::<Vec<_>>(),
        ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    );
    assert_eq!(images(&sandbox), Vec::<Value>::new());
    let named = import(&sandbox, "app:1.0", "one");
    sandbox
        .mybox(["tag", "app:1.0", "registry.example:5000/team/app"])
        .run()
        .ok();
    let nameless = import(&sandbox, "", "nameless");
    let id = inspect(&sandbox, "app:1.0")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let table = sandbox.mybox(["images"]).run().ok().stdout();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    let short = &id["sha256:".len()..][..12];
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(rows[0][..3], ["app", "1.0", short]);
    assert_eq!(
        rows[1][..3],
        ["registry.example:5000/team/app", "latest", short]
    );
    assert_eq!(rows[2][..2], ["<none>", "<none>"]);
    let layer = layer_directory(&sandbox, "app:1.0");
    let kilobytes = allocated(&layer) as f64 / 1000.0;
    assert_eq!(rows[0].last(), Some(&&*format!("{kilobytes:.1}kB")));
    assert!(
        table
            .lines()
            .nth(1)
            .is_some_and(|line| line.contains("years ago")),
        "{table}"
    );
    let ids = sandbox.mybox(["images", "--quiet"]).run().ok().stdout();
    assert_eq!(ids.lines().count(), 2, "one a line and image: {ids}");
    assert_eq!(ids.lines().next(), Some(short));

    let mut documents = images(&sandbox);
    let used = documents[0]["lastUsed"].take();
    assert!(
        used.as_str().is_some_and(|time| time.ends_with('Z')),
        "{used}"
    );
    let first = json!({
        "repository": "app",
        "tag": "1.0",
        "id": id,
        "digest": named,
        "indexes": [],
        "platform": documents[1]["platform"],
        "size": allocated(&layer),
        "ownSize": allocated(&layer),
        "created": "1970-01-01T00:00:00Z",
        "lastUsed": null,
        "pinned": false,
        "containers": [],
    });
    assert_eq!(documents[0], first);
    assert_eq!(documents[1]["repository"], "registry.example:5000/team/app");
    assert_eq!(documents[2]["digest"], *nameless);
    assert_eq!(
        (&documents[2]["repository"], &documents[2]["tag"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn images_of_a_name_are_listed_with_all_tags_or_with_one() {
    let sandbox = Sandbox::new("images-of");
    for name in ["app:1", "app:2", "localhost:5000/app:1", "apple:1"] {
        import(&sandbox, name, name);
    }
    let listed = |words: &[&str]| {
        let format = ["--format", "{{.Repository}}:{{.Tag}}"];
        let listed = sandbox.mybox(words).args(format).run().ok();
        let mut names: Vec<String> = listed.stdout().lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(listed(&["images", "app"]), ["app:1", "app:2"]);
    assert_eq!(listed(&["images", "app:2"]), ["app:2"]);
    assert_eq!(listed(&["image", "ls", "docker.io/library/app"]).len(), 2);
    assert_eq!(
        listed(&["image", "list", "localhost:5000/app"]),
        ["localhost:5000/app:1"]
    );
    assert!(listed(&["images", "nobody"]).is_empty());
}

#[test]
fn a_management_word_leads_to_mybox_s_own_verbs() {
    let sandbox = Sandbox::tiny("words");
    let run = ["container", "run", "--rm", "--network", "none", "tiny"];
    drop(
        sandbox
            .mybox(run)
            .args(["probe", "exit", "3"])
            .run()
            .code(3),
    );
    let mybox = |words: &[&str]| sandbox.mybox(words).run();
    assert_eq!(mybox(&["container", "ls", "-aq"]).ok().stdout(), "");
    drop(mybox(&["image", "rm", "tiny"]).ok());
    let missing = mybox(&["image", "inspect", "tiny"]).code(1);
    drop(missing.says("no such image"));
    let unknown = mybox(&["image", "build", "."]).code(2);
    drop(unknown.says("error: `image` has no command `build`\nhint: it has history, import, "));
    let help = mybox(&["system", "--help"]).ok().stdout();
    assert!(help.contains("Commands: df, events, info, prune"), "{help}");
    // As `run` itself has it.
    drop(mybox(&["container", "run", "--nonsense", "tiny"]).code(125));
}

#[test]
fn an_image_is_found_by_every_name_it_has() {
    let sandbox = Sandbox::new("names");
    let digest = import(&sandbox, "ubuntu:jammy", "ubuntu");
    let other = import(&sandbox, "localhost:5000/ubuntu:jammy", "another");
    import(&sandbox, "me/ubuntu", "third");
    let id = inspect(&sandbox, "ubuntu:jammy")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let (bare_id, bare_digest) = (&id["sha256:".len()..], &digest["sha256:".len()..]);
    for name in [
        "ubuntu:jammy",
        "library/ubuntu:jammy",
        "docker.io/ubuntu:jammy",
        "docker.io/library/ubuntu:jammy",
        &format!("ubuntu@{digest}"),
        &id,
        bare_id,
        &bare_id[..12],
        &bare_id[..7],
        &id[.."sha256:".len() + 10],
        &digest,
        bare_digest,
        &bare_digest[..9],
    ] {
        assert_eq!(inspect(&sandbox, name)["digest"], *digest, "{name}");
    }
    assert_eq!(
        inspect(&sandbox, "localhost:5000/ubuntu:jammy")["digest"],
        *other
    );
    assert_eq!(
        inspect(&sandbox, "me/ubuntu:latest")["references"],
        json!(["docker.io/me/ubuntu:latest"])
    );
    let wrong = format!("nginx@{digest}");
    for name in [
        "ubuntu",
        "jammy",
        "ubuntu:focal",
        "me/ubuntu:jammy",
        "UBUNTU:jammy",
        "",
        "sha256:",
        &wrong,
    ] {
        let output = sandbox.mybox(["inspect", name]).run().code(1);
        let output = output.says("no such container or image");
        assert_eq!(output.stdout_json(), json!([]), "{name}");
    }
}

#[test]
fn an_ambiguous_prefix_lists_what_it_fits() {
    let sandbox = Sandbox::new("ambiguous");
    // With seventeen images two begin with the same digit.
    let mut seen = std::collections::BTreeMap::new();
    let (one, other) = (0..17)
        .find_map(|number| {
            import(&sandbox, &format!("image:{number}"), &number.to_string());
            let id = inspect(&sandbox, &format!("image:{number}"))["id"]
                .as_str()
                .expect("an id")["sha256:".len()..]
                .to_owned();
            seen.insert(id[..1].to_owned(), id.clone())
                .map(|before| (before, id))
        })
        .expect("sixteen digits for seventeen images");
    for prefix in [one[..1].to_owned(), format!("sha256:{}", &one[..1])] {
        for verb in ["inspect", "rmi"] {
            let output = sandbox.mybox([verb, &prefix]).run().code(1);
            let output = output
                .says(&format!("{prefix} is ambiguous"))
                .says(&one[..12]);
            let _ = output.says(&other[..12]).says("hint: give more digits");
        }
        let _ = sandbox
            .run([&*prefix, "true"])
            .run()
            .code(125)
            .says("is ambiguous");
        let _ = sandbox
            .mybox(["tag", &prefix, "x"])
            .run()
            .code(1)
            .says("is ambiguous");
    }
    // A name wins over an id that begins with the same letters.
    let named = import(&sandbox, &format!("{}:latest", &one[..1]), "named");
    assert_eq!(inspect(&sandbox, &one[..1])["digest"], *named);
}

#[test]
fn inspect_shows_config_and_manifest_as_they_are_in_the_store() {
    let sandbox = Sandbox::new("inspect");
    let digest = import(&sandbox, "app", "content");
    let image = inspect(&sandbox, "app");
    let keys = image.as_object().expect("an object").keys();
    let (dockers, own): (Vec<&String>, Vec<&String>) =
        keys.partition(|key| key.starts_with(char::is_uppercase));
    assert_eq!(
        dockers,
        [
            "Architecture",
            "Author",
            "Comment",
            "Config",
            "Created",
            "DockerVersion",
            "GraphDriver",
            "Id",
            "Metadata",
            "Os",
            "Parent",
            "RepoDigests",
            "RepoTags",
            "RootFS",
            "Size",
            "Variant",
            "VirtualSize"
        ]
    );
    assert_eq!(
        own,
        [
            "config",
            "containers",
            "created",
            "digest",
            "id",
            "lastUsed",
            "layerDetails",
            "layers",
            "manifest",
            "ownSize",
            "pinned",
            "platform",
            "references",
            "repoDigests",
            "size"
        ]
    );
    let blob = |digest: &Value| -> Value {
        let hex = digest.as_str().expect("a digest").replace("sha256:", "");
        let bytes = std::fs::read(sandbox.root().join("blobs/sha256").join(hex)).expect("a blob");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    assert_eq!(image["digest"], *digest);
    assert_eq!(image["manifest"], blob(&image["digest"]));
    assert_eq!(image["config"], blob(&image["id"]));
    assert_eq!(image["manifest"]["config"]["digest"], image["id"]);
    assert_eq!(image["layers"], image["config"]["rootfs"]["diff_ids"]);
    let layer = layer_directory(&sandbox, "app");
    assert_eq!(image["size"], allocated(&layer));
    assert_eq!(image["ownSize"], image["size"]);
    assert_eq!(image["layerDetails"][0]["size"], image["size"]);
    assert_eq!(image["layerDetails"][0]["diffId"], image["layers"][0]);
    assert_eq!(image["repoDigests"], json!([format!("app@{digest}")]));
    // What can be shown is shown, whatever else was asked for.
    let both = sandbox.mybox(["inspect", "nope", "app"]).run().code(1);
    let both = both.says("no such container or image: nope");
    assert_eq!(both.stdout_json(), json!([image]));
}

#[test]
fn tag_gives_a_name_and_says_who_lost_it() {
    let sandbox = Sandbox::new("tag");
    let one = import(&sandbox, "one", "1");
    let two = import(&sandbox, "two", "2");
    let quiet = sandbox.mybox(["tag", "one", "both:v1"]).run().ok();
    assert_eq!(
        (quiet.stdout(), quiet.stderr()),
        (String::new(), String::new())
    );
    assert_eq!(inspect(&sandbox, "both:v1")["digest"], *one);
    sandbox.mybox(["tag", "one", "both:v1"]).run().ok();
    let id = inspect(&sandbox, "one")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let moved = sandbox.mybox(["tag", &two, "both:v1"]).run().ok();
    let _ = moved.says("both:v1 was").says(&id["sha256:".len()..][..12]);
    assert_eq!(inspect(&sandbox, "both:v1")["digest"], *two);
    assert_eq!(
        inspect(&sandbox, "one")["references"],
        json!(["docker.io/library/one:latest"])
    );
    let _ = sandbox
        .mybox(["tag", "nope", "x"])
        .run()
        .code(1)
        .says("no such image: nope");
    let _ = sandbox
        .mybox(["tag", "one", "Upper"])
        .run()
        .code(2)
        .says("Upper");
    let digest = format!("one@{two}");
    let _ = sandbox
        .mybox(["tag", "one", &digest])
        .run()
        .code(1)
        .says("digest");
}

#[test]
fn rmi_takes_a_name_away_and_with_the_last_one_the_image() {
    let sandbox = Sandbox::new("rmi");
    import(&sandbox, "app:1", "content");
    sandbox.mybox(["tag", "app:1", "app:2"]).run().ok();
    let id = inspect(&sandbox, "app:1")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let first = sandbox.mybox(["rmi", "app:1"]).run().ok().stdout();
    assert_eq!(first, "Untagged: app:1\n");
    assert_eq!(inspect(&sandbox, "app:2")["id"], *id);
    let layer = inspect(&sandbox, "app:2")["layers"][0]
        .as_str()
        .expect("a layer")
        .to_owned();
    let last = sandbox.mybox(["rmi", "app:2"]).run().ok().stdout();
    let lines: Vec<&str> = last.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "Untagged: app:2",
            &format!("Deleted: {id}"),
            &format!("Deleted: {layer}")
        ]
    );
    assert!(lines[3].starts_with("Freed: "), "{last}");
    let left = Cmd::new("find").arg(sandbox.root()).args([
        "-path",
        "*sha256/*",
        "-o",
        "-path",
        "*layers/*",
    ]);
    assert_eq!(left.run().ok().stdout(), "", "blobs and layers are gone");
    let _ = sandbox
        .mybox(["rmi", "app:2"])
        .run()
        .code(1)
        .says("no such image: app:2");
}

#[test]
fn rmi_by_id_needs_force_when_there_are_several_names() {
    let sandbox = Sandbox::new("rmiforce");
    import(&sandbox, "app:1", "content");
    sandbox.mybox(["tag", "app:1", "other/app"]).run().ok();
    let id =
        inspect(&sandbox, "app:1")["id"].as_str().expect("an id")["sha256:".len()..].to_owned();
    let refused = sandbox.mybox(["rmi", &id[..12]]).run().code(1);
    let refused = refused
        .says("docker.io/library/app:1")
        .says("docker.io/other/app:latest");
    let _ = refused.says("hint: name one of the tags, or use --force");
    assert_eq!(images(&sandbox).len(), 2);
    let forced = sandbox
        .mybox(["rmi", "--force", &id[..12]])
        .run()
        .ok()
        .stdout();
    assert!(
        forced.contains("Untagged: app:1\n") && forced.contains("Untagged: other/app:latest\n"),
        "{forced}"
    );
    assert!(images(&sandbox).is_empty());
}

#[test]
fn rmi_keeps_layers_that_another_image_needs() {
    let sandbox = Sandbox::new("rmishared");
    let shared = || Rootfs::empty().file("shared", "layer");
    sandbox.add_layers("one", [shared(), Rootfs::empty().file("own", "1")]);
    sandbox.add_layers("two", [shared(), Rootfs::tiny()]);
    sandbox.run(["two", "cat", "/shared"]).run().ok();
    let _ = sandbox.run(["one", "true"]).run().code(127);
    let layers = |name: &str| inspect(&sandbox, name)["layers"].clone();
    let (one, two) = (layers("one"), layers("two"));
    assert_eq!(one[0], two[0]);
    let removed = sandbox.mybox(["rmi", "one"]).run().ok().stdout();
    assert!(
        removed.contains(one[1].as_str().expect("a layer")),
        "{removed}"
    );
    assert!(
        !removed.contains(one[0].as_str().expect("a layer")),
        "{removed}"
    );
    assert_eq!(
        sandbox.run(["two", "cat", "/shared"]).run().ok().line(),
        "layer"
    );
}

#[test]
fn rmi_refuses_an_image_that_a_container_is_made_of() {
    let sandbox = Sandbox::new("rmiused");
    sandbox.import_tiny();
    sandbox
        .mybox(["run", "--network", "none", "--name", "user", "tiny", "true"])
        .run()
        .ok();
    let refused = sandbox.mybox(["rmi", "tiny"]).run().code(1);
    let _ = refused
        .says("is used by user")
        .says("hint: remove the containers first");
    // Another name can go: the image stays.
    sandbox.mybox(["tag", "tiny", "alias"]).run().ok();
    sandbox.mybox(["rmi", "alias"]).run().ok();
    sandbox.mybox(["rmi", "--force", "tiny"]).run().ok();
    let rows = images(&sandbox);
    assert_eq!(
        (rows.len(), &rows[0]["repository"]),
        (1, &Value::Null),
        "only its name is gone"
    );
    sandbox.mybox(["rm", "user"]).run().ok();
    let id = rows[0]["id"].as_str().expect("an id").to_owned();
    sandbox.mybox(["rmi", &id]).run().ok();
    assert!(images(&sandbox).is_empty());
}

#[test]
fn rmi_goes_on_past_an_image_that_is_not_there() {
    let sandbox = Sandbox::new("rmimany");
    import(&sandbox, "one", "1");
    import(&sandbox, "two", "2");
    let output = sandbox.mybox(["rmi", "one", "nope", "two"]).run().code(1);
    let output = output.says("no such image: nope");
    assert_eq!(output.stdout().matches("Untagged: ").count(), 2);
    assert!(images(&sandbox).is_empty());
}

#[test]
fn the_store_is_an_image_layout_that_others_can_read() {
    let sandbox = Sandbox::new("layout");
    let digest = import(&sandbox, "app:1", "content");
    let read = |name: &str| -> Value {
        let bytes = std::fs::read(sandbox.root().join(name)).expect(name);
        serde_json::from_slice(&bytes).expect("JSON")
    };
    assert_eq!(read("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));
    let index = read("index.json");
    assert_eq!(index["schemaVersion"], 2);
    let entry = &index["manifests"][0];
    assert_eq!(
        (&entry["digest"], &entry["mediaType"]),
        (
            &digest.clone().into(),
            &"application/vnd.oci.image.manifest.v1+json".into()
        )
    );
    assert_eq!(
        entry["annotations"]["org.opencontainers.image.ref.name"],
        "docker.io/library/app:1"
    );
    let sums = Cmd::new("sh").args(["-c", "cd blobs/sha256 && for blob in *; do echo \"$blob  $blob\"; done | sha256sum --check --quiet"]);
    sums.dir(sandbox.root()).run().ok();
}
