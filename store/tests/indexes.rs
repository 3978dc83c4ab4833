//! Names of image indexes: several platforms, indexes within indexes, and what is no image.

use mybox_store::{Digest, Error, Platform, Store, Use, no_uses};
use serde_json::json;

use crate::support::{Archive, Layout, Scratch, digest};

fn tar(content: &str) -> Vec<u8> {
    Archive::new().file("f", content.as_bytes()).finish()
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// `multi:1`: this machine's platform and another in nested indexes, with an attestation between.
struct Multi {
    index: Digest,
    nested: Digest,
    host: Digest,
    other: Digest,
    attestation: Digest,
}

fn multi(store: &Store) -> Multi {
    let layout = Layout(store.root());
    let host = layout.image(&Platform::host().to_string(), &[tar("base"), tar("host")]);
    let other = layout.image("linux/s390x", &[tar("base"), tar("other")]);
    let statement = layout.blob("application/vnd.in-toto+json", b"a statement");
    let config = layout.blob("application/vnd.oci.image.config.v1+json", b"{}");
    let mut attestation = layout.manifest(&json!({
        "schemaVersion": 2, "config": config, "layers": [statement],
    }));
    attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    let nested = layout.index(&[host.clone(), attestation.clone()]);
    let index = layout.index(&[other.clone(), nested.clone()]);
    layout.enter(index.clone(), "multi:1");
    let [index, nested, host, other, attestation] =
        [&index, &nested, &host, &other, &attestation].map(digest);
    Multi {
        index,
        nested,
        host,
        other,
        attestation,
    }
}

#[test]
fn an_index_is_one_image_for_each_platform_and_attestations_are_none() {
    let scratch = Scratch::new();
    let multi = multi(&scratch.store);
    let images = scratch.store.images().unwrap();
    let mut found: Vec<(Digest, Platform)> = images
        .iter()
        .map(|image| (image.manifest, image.platform.clone()))
        .collect();
    found.sort_by_key(|(digest, _)| *digest);
    let mut expected = [
        (multi.host, Platform::host()),
        (multi.other, platform("linux/s390x")),
    ];
    expected.sort_by_key(|(digest, _)| *digest);
    assert_eq!(found, expected);
    for image in images {
        assert_eq!(image.references[0].familiar(), "multi:1");
        assert!(image.indexes.contains(&multi.index));
    }
}

#[test]
fn one_image_of_an_index_is_found_for_this_machine_or_for_a_platform() {
    let scratch = Scratch::new();
    let multi = multi(&scratch.store);
    let find = |name: &str| scratch.store.find(name).unwrap().manifest;
    assert_eq!(find("multi:1"), multi.host);
    assert_eq!(find(&format!("multi@{}", multi.index)), multi.host);
    assert_eq!(find(&format!("multi@{}", multi.nested)), multi.host);
    assert_eq!(find(&format!("multi@{}", multi.other)), multi.other);
    assert_eq!(find(&multi.index.short()), multi.host);
    assert_eq!(find(&multi.other.short()), multi.other);
    let for_platform = |text: &str| scratch.store.find_for("multi:1", Some(&platform(text)));
    assert_eq!(for_platform("linux/s390x").unwrap().manifest, multi.other);
    let error = for_platform("linux/mips").unwrap_err();
    assert!(
        matches!(&error, Error::NoSuchPlatform { offered, .. } if offered.len() == 2),
        "{error}"
    );
    let single = scratch.import_as(&tar("single"), "single");
    let wrong = scratch
        .store
        .find_for("single", Some(&platform("linux/s390x")));
    assert!(matches!(wrong, Err(Error::NoSuchPlatform { .. })));
    let right = scratch.store.find_for("single", Some(&Platform::host()));
    assert_eq!(right.unwrap().manifest, single.manifest);
}

#[test]
fn an_image_chosen_from_an_index_is_found_by_the_indexs_digest() {
    let scratch = Scratch::new();
    let layout = Layout(scratch.store.root());
    let image = layout.image(&Platform::host().to_string(), &[tar("x")]);
    let index = Digest::of(b"an index that is not kept");
    let descriptor = serde_json::from_value(image.clone()).unwrap();
    let name = "app:1".parse().unwrap();
    scratch
        .store
        .name_image(descriptor, Some(index), Some(&name))
        .unwrap();
    for name in [format!("app@{index}"), index.hex()] {
        assert_eq!(
            scratch.store.find(&name).unwrap().manifest,
            digest(&image),
            "{name}"
        );
    }
    assert!(scratch.store.find(&format!("other@{index}")).is_err());
}

#[test]
fn a_name_given_to_an_index_names_all_of_it_and_one_given_to_a_manifest_only_that() {
    let scratch = Scratch::new();
    let multi = multi(&scratch.store);
    let tag = |from: &str, to: &str| {
        let image = scratch.store.find(from).unwrap();
        scratch.store.tag(&image, &to.parse().unwrap()).unwrap();
    };
    tag("multi:1", "whole");
    tag(&multi.other.hex(), "part");
    scratch.store.remove("multi:1", false, &no_uses).unwrap();
    let find = |name: &str, on: &str| scratch.store.find_for(name, Some(&platform(on)));
    let host = Platform::host().to_string();
    assert_eq!(find("whole", &host).unwrap().manifest, multi.host);
    assert_eq!(find("whole", "linux/s390x").unwrap().manifest, multi.other);
    assert_eq!(find("part", "linux/s390x").unwrap().manifest, multi.other);
    assert!(find("part", &host).is_err());
}

#[test]
fn an_index_goes_with_everything_it_led_to_and_nothing_others_need() {
    let scratch = Scratch::new();
    let multi = multi(&scratch.store);
    let image = scratch.store.find(&multi.other.hex()).unwrap();
    scratch.store.tag(&image, &"part".parse().unwrap()).unwrap();
    let users = || {
        Ok(vec![Use {
            what: "c0ffee".to_owned(),
            manifest: multi.host,
        }])
    };
    let error = scratch.store.remove("multi:1", false, &users).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    let removed = scratch.store.remove("multi:1", false, &no_uses).unwrap();
    let host = removed.deleted_images.len();
    assert_eq!(host, 1, "the other one has a name of its own");
    // Manifest, config and two layers of the other image.
    assert_eq!(scratch.leftovers().len(), 4, "{:?}", scratch.leftovers());
    assert_eq!(scratch.store.find("part").unwrap().manifest, multi.other);
    scratch.store.remove("part", false, &no_uses).unwrap();
    assert!(scratch.leftovers().is_empty(), "{:?}", scratch.leftovers());
}

#[test]
fn what_is_no_image_keeps_its_blobs_and_is_not_listed() {
    let scratch = Scratch::new();
    let layout = Layout(scratch.store.root());
    let chart = layout.blob(
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        b"a chart",
    );
    let config = layout.blob(
        "application/vnd.cncf.helm.config.v1+json",
        b"{\"name\":\"x\"}",
    );
    let artifact = json!({ "schemaVersion": 2, "config": config, "layers": [chart.clone()] });
    layout.enter(layout.manifest(&artifact), "chart:1");
    let unheard_of = json!({ "parts": [{ "piece": chart }] });
    let unheard_of = layout.blob(
        "application/x.unheard-of",
        unheard_of.to_string().as_bytes(),
    );
    layout.enter(unheard_of, "thing:1");
    // The same bytes as the chart, as the layer of an image.
    layout.enter(layout.image("linux/amd64", &[b"a chart".to_vec()]), "app:1");
    assert_eq!(scratch.store.images().unwrap().len(), 1);
    let error = scratch.store.find("chart:1").unwrap_err().to_string();
    assert!(error.contains("no image"), "{error}");
    scratch.store.remove("app:1", false, &no_uses).unwrap();
    assert_eq!(scratch.leftovers().len(), 4, "{:?}", scratch.leftovers());
    scratch.store.remove("chart:1", false, &no_uses).unwrap();
    // The unheard-of thing and the chart that it names.
    assert_eq!(scratch.leftovers().len(), 2, "{:?}", scratch.leftovers());
}

#[test]
fn a_signature_is_no_name_of_what_it_signs_and_does_not_keep_it() {
    let scratch = Scratch::new();
    let layout = Layout(scratch.store.root());
    let image = layout.image("linux/amd64", &[tar("x")]);
    layout.enter(image.clone(), "app:1");
    let config = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let signature = json!({
        "schemaVersion": 2,
        "artifactType": "application/x.signature",
        "config": config,
        "layers": [layout.blob("application/x.signature", b"signed")],
        "subject": image,
    });
    layout.enter(layout.manifest(&signature), "app:signature");
    let images = scratch.store.images().unwrap();
    assert_eq!((images.len(), images[0].references.len()), (1, 1));
    scratch.store.remove("app:1", false, &no_uses).unwrap();
    // The signature, its config and its content.
    assert_eq!(scratch.leftovers().len(), 3, "{:?}", scratch.leftovers());
}

#[test]
fn platforms_that_were_never_brought_here_are_no_damage() {
    let scratch = Scratch::new();
    let layout = Layout(scratch.store.root());
    let host = layout.image(&Platform::host().to_string(), &[tar("host")]);
    let other = layout.image("linux/s390x", &[tar("other")]);
    layout.enter(layout.index(&[host.clone(), other.clone()]), "multi:1");
    let blobs = scratch.store.root().join("blobs/sha256");
    std::fs::remove_file(blobs.join(digest(&other).hex())).unwrap();
    let images = scratch.store.images().unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].manifest, digest(&host));
    // Of a flat image it is.
    layout.enter(other, "other:1");
    assert!(scratch.store.images().is_err());
}

#[test]
fn while_an_entry_cannot_be_read_nothing_is_deleted() {
    let scratch = Scratch::new();
    let multi = multi(&scratch.store);
    let app = scratch.import_as(&tar("app"), "app");
    let before = scratch.leftovers().len();
    let blobs = scratch.store.root().join("blobs/sha256");
    std::fs::write(blobs.join(multi.nested.hex()), "{}").unwrap();
    scratch.store.remove("app", false, &no_uses).unwrap();
    assert!(scratch.store.find(&app.id.hex()).is_err());
    assert_eq!(scratch.leftovers().len(), before);
    let catalog = scratch.store.catalog().unwrap();
    assert_eq!(catalog.images.len(), 1, "the other platform is still there");
    assert_eq!(catalog.damage[0].digest, multi.index);
    assert!(blobs.join(multi.attestation.hex()).exists());
}

#[test]
fn indexes_nested_without_end_are_refused_and_not_followed() {
    let scratch = Scratch::new();
    let layout = Layout(scratch.store.root());
    let mut index = layout.image(&Platform::host().to_string(), &[tar("x")]);
    for _ in 0..2000 {
        index = layout.index(&[index]);
    }
    layout.enter(index, "deep:1");
    let error = scratch.store.find("deep:1").unwrap_err().to_string();
    assert!(error.contains("nested"), "{error}");
    // Wide instead of deep: every level names the one below it many times.
    let mut index = layout.image(&Platform::host().to_string(), &[tar("x")]);
    for _ in 0..7 {
        index = layout.index(&vec![index; 1000]);
    }
    layout.enter(index, "wide:1");
    assert!(scratch.store.find("wide:1").is_ok());
}

#[test]
fn a_pin_is_kept_by_the_name_that_has_it() {
    let scratch = Scratch::new();
    let one = scratch.import_as(&tar("one"), "app");
    scratch.store.tag(&one, &"other".parse().unwrap()).unwrap();
    assert!(scratch.store.pin("app", true).unwrap());
    assert!(!scratch.store.pin("app", true).unwrap());
    let two = scratch.import_as(&tar("two"), "app");
    let pinned = |image: Digest| scratch.store.find(&image.hex()).unwrap().pinned;
    assert_eq!((pinned(one.id), pinned(two.id)), (false, true));
    scratch.store.tag(&two, &"third".parse().unwrap()).unwrap();
    assert!(scratch.store.pin("app", false).unwrap());
    assert!(!pinned(two.id), "the new name was not pinned with the old");
    assert!(scratch.store.pin(&two.id.hex(), true).unwrap());
    assert!(pinned(two.id));
}

#[test]
fn an_image_is_used_when_it_is_imported_tagged_or_stacked_and_not_when_it_is_looked_at() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("x"), "app");
    let path = scratch
        .store
        .root()
        .join("blobs/sha256")
        .join(image.manifest.hex());
    let used_by = |action: &dyn Fn()| {
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(long_ago).unwrap();
        action();
        file.metadata().unwrap().modified().unwrap() > long_ago
    };
    let store = &scratch.store;
    assert!(used_by(&|| drop(scratch.import_as(&tar("x"), "app"))));
    assert!(used_by(&|| {
        let again = "app".parse().unwrap();
        let descriptor = image.named().clone();
        store.name_image(descriptor, None, Some(&again)).unwrap();
    }));
    assert!(used_by(&|| {
        store.tag(&image, &"b".parse().unwrap()).unwrap();
    }));
    assert!(used_by(&|| drop(store.stack(&image).unwrap())));
    assert!(!used_by(&|| {
        store.find("app").unwrap();
        store.images().unwrap();
        store.size(&image);
    }));
}
