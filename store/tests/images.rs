//! Images by name: finding, tagging, removing.

use std::path::Path;

use mybox_store::{Change, Digest, Error, ImportOptions, Store, Use, no_uses};

use crate::support::{Archive, Scratch, allocated, chain};

fn tar(content: &str) -> Vec<u8> {
    Archive::new().file("f", content.as_bytes()).finish()
}

#[test]
fn an_image_is_found_by_reference_id_digest_and_prefix() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("x"), "ubuntu:jammy");
    let hex = image.id.hex();
    for name in [
        "ubuntu:jammy",
        "docker.io/library/ubuntu:jammy",
        "library/ubuntu:jammy",
        &image.id.to_string(),
        &image.manifest.to_string(),
        &hex,
        &hex[..12],
        &hex[..3],
        &format!("sha256:{}", &hex[..7]),
        &image.manifest.hex()[..12],
        &format!("ubuntu@{}", image.manifest),
    ] {
        assert_eq!(
            scratch.store.find(name).unwrap().manifest,
            image.manifest,
            "{name}"
        );
    }
    for name in [
        "ubuntu",
        "ubuntu:focal",
        "me/ubuntu:jammy",
        "",
        "sha256:",
        "zz",
        "/",
        "ffff0000ffff",
    ] {
        let error = scratch.store.find(name).unwrap_err();
        assert!(
            matches!(error, Error::NoSuchImage { .. }),
            "{name}: {error}"
        );
    }
    let elsewhere = format!("debian@{}", image.manifest);
    assert!(scratch.store.find(&elsewhere).is_err());
}

#[test]
fn an_ambiguous_prefix_lists_what_it_fits() {
    let scratch = Scratch::new();
    let ids: Vec<Digest> = (0..40)
        .map(|number| scratch.import(&tar(&format!("{number}"))).unwrap().id)
        .collect();
    let shared = ids
        .iter()
        .map(|id| id.hex()[..1].to_owned())
        .find(|first| {
            ids.iter()
                .filter(|id| id.hex().starts_with(first.as_str()))
                .count()
                > 1
        })
        .expect("forty images share sixteen digits");
    let Error::Ambiguous { prefix, matches } = scratch.store.find(&shared).unwrap_err() else {
        panic!("not ambiguous")
    };
    assert_eq!(prefix, shared);
    for id in ids.iter().filter(|id| id.hex().starts_with(&shared)) {
        assert!(matches.contains(id));
    }
    let text = scratch.store.find(&shared).unwrap_err().to_string();
    assert!(
        text.contains(&matches[0].short()) && text.contains("ambiguous"),
        "{text}"
    );
}

#[test]
fn a_reference_wins_over_a_prefix() {
    let scratch = Scratch::new();
    let one = scratch.import(&tar("one")).unwrap();
    let prefix = one.id.hex()[..8].to_owned();
    let two = scratch.import_as(&tar("two"), &prefix);
    assert_eq!(scratch.store.find(&prefix).unwrap().id, two.id);
}

#[test]
fn a_tag_moves_and_the_image_it_left_stays_listed() {
    let scratch = Scratch::new();
    let one = scratch.import_as(&tar("one"), "box");
    let two = scratch.import_as(&tar("two"), "box");
    assert_eq!(scratch.store.find("box").unwrap().id, two.id);
    let images = scratch.store.images().unwrap();
    assert_eq!(images.len(), 2);
    assert!(images[1].references.is_empty() && images[1].id == one.id);
    let other = "other:1".parse().unwrap();
    assert_eq!(scratch.store.tag(&one, &other).unwrap(), None);
    assert_eq!(scratch.store.tag(&two, &other).unwrap(), Some(one.id));
    assert_eq!(scratch.store.tag(&two, &other).unwrap(), None);
    let names: Vec<String> = scratch
        .store
        .find("box")
        .unwrap()
        .references
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        names,
        ["docker.io/library/box:latest", "docker.io/library/other:1"]
    );
}

#[test]
fn the_image_goes_with_its_last_tag_and_leaves_nothing() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("x"), "a");
    scratch.store.tag(&image, &"b".parse().unwrap()).unwrap();
    let removed = scratch.store.remove("a", false, &no_uses).unwrap();
    assert_eq!(removed.untagged[0].familiar(), "a:latest");
    assert_eq!(removed.deleted_images, []);
    let removed = scratch.store.remove("b", false, &no_uses).unwrap();
    assert_eq!(removed.deleted_images, [image.id]);
    assert_eq!(removed.deleted_layers, image.layers);
    assert!(removed.freed_bytes > 2048);
    assert!(scratch.leftovers().is_empty());
    assert!(matches!(
        scratch.store.remove("b", false, &no_uses),
        Err(Error::NoSuchImage { .. })
    ));
}

#[test]
fn by_id_an_image_with_several_tags_goes_only_by_force() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("x"), "a");
    scratch.store.tag(&image, &"b".parse().unwrap()).unwrap();
    let id = image.id.short();
    let error = scratch
        .store
        .remove(&id, false, &no_uses)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a:latest") && error.contains("b:latest"),
        "{error}"
    );
    let removed = scratch.store.remove(&id, true, &no_uses).unwrap();
    assert_eq!(
        (removed.untagged.len(), removed.deleted_images),
        (2, vec![image.id])
    );
    assert!(scratch.leftovers().is_empty());
}

#[test]
fn a_layer_two_images_share_goes_with_the_second() {
    let scratch = Scratch::new();
    let one = scratch.import_as(&tar("x"), "one");
    let options = ImportOptions {
        reference: Some("two".parse().unwrap()),
        changes: vec![Change::parse("CMD [\"sh\"]").unwrap()],
        ..ImportOptions::default()
    };
    let two = scratch.import_with(&tar("x"), &options).unwrap();
    assert_eq!(one.layers, two.layers);
    assert_ne!(one.id, two.id);
    let removed = scratch.store.remove("one", false, &no_uses).unwrap();
    assert_eq!(
        (removed.deleted_images, removed.deleted_layers.len()),
        (vec![one.id], 0)
    );
    assert!(scratch.tree(&two).join("f").exists());
    let removed = scratch.store.remove("two", false, &no_uses).unwrap();
    assert_eq!(removed.deleted_layers, two.layers);
    assert!(scratch.leftovers().is_empty());
}

#[test]
fn an_image_containers_use_is_only_untagged_and_that_by_force() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("x"), "a");
    let used = || {
        Ok(vec![Use {
            what: "c0ffee".to_owned(),
            manifest: image.manifest,
        }])
    };
    let error = scratch
        .store
        .remove("a", false, &used)
        .unwrap_err()
        .to_string();
    assert!(error.contains("c0ffee"), "{error}");
    let removed = scratch.store.remove("a", true, &used).unwrap();
    assert_eq!(removed.untagged.len(), 1);
    assert_eq!(removed.deleted_images, []);
    assert!(
        scratch
            .store
            .find(&image.id.short())
            .unwrap()
            .references
            .is_empty()
    );
    // One of several names can go: the containers do not need it.
    scratch.store.tag(&image, &"a".parse().unwrap()).unwrap();
    scratch.store.tag(&image, &"b".parse().unwrap()).unwrap();
    assert_eq!(
        scratch
            .store
            .remove("b", false, &used)
            .unwrap()
            .untagged
            .len(),
        1
    );
}

#[test]
fn an_image_that_somebody_runs_is_only_untagged_and_that_by_force() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("x"), "a");
    let stack = scratch.store.stack(&image).unwrap();
    let error = scratch.store.remove("a", false, &no_uses).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    let removed = scratch.store.remove("a", true, &no_uses).unwrap();
    assert_eq!((removed.untagged.len(), removed.freed_bytes), (1, 0));
    assert!(stack.layers()[0].file().path.join("f").exists());
    drop(stack);
    let removed = scratch.store.remove(&image.id.hex(), false, &no_uses);
    assert_eq!(removed.unwrap().deleted_layers, image.layers);
    assert!(scratch.leftovers().is_empty());
}

#[test]
fn a_layer_that_is_missing_is_unpacked_again_from_its_blob() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("x"), "a");
    let layer = scratch
        .store
        .root()
        .join("layers")
        .join(image.layers[0].hex());
    std::fs::remove_dir_all(&layer).unwrap();
    assert!(scratch.tree(&image).join("f").exists());
    std::fs::remove_dir_all(&layer).unwrap();
    let blob = scratch
        .store
        .root()
        .join("blobs/sha256")
        .join(image.layers[0].hex());
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[600] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let error = chain(&scratch.store.stack(&image).unwrap_err());
    assert!(
        error.contains(&image.layers[0].hex()) && error.contains("damaged"),
        "{error}"
    );
    assert!(!layer.exists());
}

#[test]
fn a_damaged_image_can_be_removed_by_force_and_does_not_hide_the_others() {
    let scratch = Scratch::new();
    let bad = scratch.import_as(&tar("bad"), "bad");
    let good = scratch.import_as(&tar("good"), "good");
    let blobs = scratch.store.root().join("blobs/sha256");
    std::fs::write(blobs.join(bad.manifest.hex()), "{}").unwrap();
    assert_eq!(
        scratch.store.find(&good.id.hex()[..20]).unwrap().id,
        good.id
    );
    let error = chain(&scratch.store.find("bad").unwrap_err());
    assert!(
        error.contains(&bad.manifest.hex()) && error.contains("damaged"),
        "{error}"
    );
    assert!(scratch.store.remove("bad", false, &no_uses).is_err());
    let removed = scratch.store.remove("bad", true, &no_uses).unwrap();
    assert_eq!(removed.deleted_images, [bad.manifest]);
    assert_eq!(scratch.store.images().unwrap().len(), 1);
}

#[test]
fn the_config_says_what_was_asked_and_nothing_else() {
    let options = ImportOptions {
        changes: ["ENV A=1", "CMD [\"/bin/sh\"]", "WORKDIR /srv", "USER 1000"]
            .map(|text| Change::parse(text).unwrap())
            .into(),
        message: Some("from a test".to_owned()),
        platform: Some("linux/arm64/v8".parse().unwrap()),
        ..ImportOptions::default()
    };
    let image = Scratch::new().import_with(&tar("x"), &options).unwrap();
    let layer = image.layers[0];
    let expected = format!(
        concat!(
            r#"{{"created":"2001-09-09T01:46:40Z","architecture":"arm64","variant":"v8","os":"linux","#,
            r#""config":{{"User":"1000","Env":["A=1"],"Cmd":["/bin/sh"],"WorkingDir":"/srv"}},"#,
            r#""rootfs":{{"type":"layers","diff_ids":["{layer}"]}},"#,
            r#""history":[{{"created":"2001-09-09T01:46:40Z","created_by":"mybox import","#,
            r#""comment":"from a test"}}]}}"#
        ),
        layer = layer
    );
    assert_eq!(String::from_utf8_lossy(image.config_bytes()), expected);
    assert_eq!(Digest::of(image.config_bytes()), image.id);
    assert_eq!(Digest::of(image.manifest_bytes()), image.manifest);
}

#[test]
fn the_store_is_an_oci_image_layout() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("x"), "ubuntu:jammy");
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(scratch.store.root().join(name)).unwrap()).unwrap()
    };
    assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let index = json("index.json");
    let entry = &index["manifests"][0];
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(entry["digest"], image.manifest.to_string());
    assert_eq!(
        entry["annotations"]["org.opencontainers.image.ref.name"],
        "docker.io/library/ubuntu:jammy"
    );
    let manifest = json(&format!("blobs/sha256/{}", image.manifest.hex()));
    for descriptor in [&manifest["config"], &manifest["layers"][0], entry] {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        let blob = scratch.store.root().join("blobs/sha256").join(digest.hex());
        let bytes = std::fs::read(blob).unwrap();
        assert_eq!(
            (Digest::of(&bytes), bytes.len() as u64),
            (digest, descriptor["size"].as_u64().unwrap())
        );
    }
    assert_eq!(manifest["layers"][0]["digest"], image.layers[0].to_string());
    let layer = scratch
        .store
        .root()
        .join("layers")
        .join(image.layers[0].hex());
    assert_eq!(scratch.store.size(&image), allocated(&layer));
}

#[test]
fn a_store_of_the_future_and_a_directory_of_something_else_are_refused() {
    let scratch = Scratch::new();
    let root = scratch.store.root();
    std::fs::write(root.join("mybox.json"), r#"{"version":3,"more":true}"#).unwrap();
    let error = Store::open(root).unwrap_err().to_string();
    assert!(
        error.contains("format 3") && error.contains("newer mybox"),
        "{error}"
    );
    let home = scratch.path("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("letter.txt"), "").unwrap();
    let error = Store::open(&home).unwrap_err().to_string();
    assert!(error.contains("letter.txt"), "{error}");
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 1);
    let error = chain(&Store::open(Path::new("/proc/mybox")).unwrap_err());
    assert!(
        error.contains("/proc/mybox") && error.contains("os error"),
        "{error}"
    );
}

/// An OCI layout some other tool has made, with an image of many uncompressed layers.
fn foreign_layout(root: &Path, layers: usize) {
    let blobs = root.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let layers: Vec<(String, usize)> = (0..layers)
        .map(|number| put(&tar(&format!("layer {number}"))))
        .collect();
    let diff_ids: Vec<&String> = layers.iter().map(|(digest, _)| digest).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let describe = |kind: &str, (digest, size): &(String, usize)| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": size})
    };
    let config = put(config.to_string().as_bytes());
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| describe("layer.v1.tar", layer))
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": describe("config.v1+json", &config), "layers": layers,
    });
    let manifest = describe("manifest.v1+json", &put(manifest.to_string().as_bytes()));
    let index = serde_json::json!({
        "schemaVersion": 2, "manifests": [manifest], "annotations": {"by": "another tool"},
    });
    std::fs::write(root.join("index.json"), index.to_string()).unwrap();
    std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[test]
fn a_layout_of_another_tool_becomes_a_store_and_300_layers_stack() {
    let scratch = Scratch::new();
    let root = scratch.path("foreign");
    foreign_layout(&root, 300);
    let store = Store::open(&root).unwrap();
    let image = store.images().unwrap().remove(0);
    store.tag(&image, &"many:1".parse().unwrap()).unwrap();
    let stack = store.stack(&store.find("many:1").unwrap()).unwrap();
    assert_eq!(stack.layers().len(), 300);
    for (number, layer) in stack.layers().iter().enumerate() {
        let text = std::fs::read_to_string(layer.file().path.join("f")).unwrap();
        assert_eq!(text, format!("layer {number}"));
    }
    assert!(
        std::fs::read_to_string(root.join("index.json"))
            .unwrap()
            .contains("another tool")
    );
    let start = std::time::Instant::now();
    let store = Store::open(&root).unwrap();
    let opened = start.elapsed();
    let image = store.find("many:1").unwrap();
    let found = start.elapsed() - opened;
    drop(store.stack(&image).unwrap());
    println!(
        "open {opened:?}, find {found:?}, stack of 300 {:?}",
        start.elapsed() - opened - found
    );
}
