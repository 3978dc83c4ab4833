//! The two forms of a layer: they hold the same, become each other, and live side by side; an indexed
//! layer's damage is found, named and healed.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mybox_store::{DiffId, Difference, Error, How, Image, LayerForm, Part, Store, WantedBlob};
use serde_json::{Value, json};

use crate::support::{Archive, Layout, Raw, Scratch, chain, digest, importer};
use crate::verify::{Random, clean, flip, gzip, repair, repair_from, verify};

const FORMS: [LayerForm; 2] = [LayerForm::Indexed, LayerForm::Unpacked];

/// Something of everything that a layer can have in it.
fn tar() -> Vec<u8> {
    let long: Vec<u8> = (0..300_000_u32).map(|at| (at % 253) as u8).collect();
    let device = Raw {
        name: b"dev/null",
        kind: b'3',
        device: (1, 3),
        ..Raw::default()
    };
    Archive::new()
        .directory("d/", 0o750)
        .file("d/a", b"content of a")
        .file("d/long", &long)
        .symlink("link", "d/a")
        .hardlink("hard", "d/a")
        .pax(&[("SCHILY.xattr.user.note", b"text")])
        .file("noted", b"")
        .raw(&device)
        .file("implied/parent/file", b"i")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"n")
        .finish()
}

fn layer_dir(store: &Store, layer: DiffId) -> PathBuf {
    store.root().join("layers").join(layer.hex())
}

fn blob(store: &Store, hex: &str) -> PathBuf {
    store.root().join("blobs/sha256").join(hex)
}

fn record(store: &Store, layer: DiffId) -> Value {
    let bytes = std::fs::read(layer_dir(store, layer).join("layer.json")).expect("a record");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).expect("a listing");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    };
    entries.map(name).collect()
}

/// What is thrown away goes when nobody has it locked any more. A program that another test is just
/// starting has copies of all descriptors of this process, locks and all, until its exec.
#[track_caller]
fn assert_nothing_left(store: &Store) {
    let ingest = store.root().join("ingest");
    for _ in 0..1000 {
        if names(&ingest).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        // What it begins with is to sweep.
        Store::open(store.root()).expect("the store");
    }
    panic!("left: {:?}", names(&ingest));
}

fn inode(path: &Path) -> u64 {
    path.metadata().expect("a file").ino()
}

fn convert(store: &Store, image: &Image, form: LayerForm) {
    for layer in &image.layers {
        let converted = store.convert_layer(*layer, form, &[], &mut |_| {});
        let converted = converted.expect("a conversion").expect("a layer");
        assert_eq!(converted.form, form);
    }
    assert_nothing_left(store);
}

/// An image of one compressed layer, as if pulled; its layer's blob.
fn enter_gzip(scratch: &Scratch, tar: &[u8], name: &str) -> (Image, String) {
    let layout = Layout(scratch.store.root());
    let layer = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(tar));
    let config = json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": [mybox_store::Digest::of(tar).to_string()] },
    });
    let kind = "application/vnd.oci.image.config.v1+json";
    let config = layout.blob(kind, config.to_string().as_bytes());
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    layout.enter(layout.manifest(&manifest), &format!("{name}:latest"));
    let image = scratch.store.find(name).expect("the image");
    (image, digest(&layer).hex())
}

/// Without the sizes, which depend on the form.
fn paths(differences: &[Difference]) -> Vec<(String, How, &'static str)> {
    let path = |one: &Difference| String::from_utf8_lossy(&one.path).into_owned();
    differences
        .iter()
        .map(|one| (path(one), one.how, one.what))
        .collect()
}

#[test]
fn a_layer_has_the_files_of_its_form_and_a_record_that_says_so() {
    for form in FORMS {
        let scratch = Scratch::with_layer_form(form);
        let image = scratch.import_as(&tar(), "one");
        let layer = image.layers[0];
        let expected: &[&str] = match form {
            LayerForm::Indexed => &["layer.erofs", "layer.json", "layer.tar"],
            LayerForm::Unpacked => &["fs", "layer.json", "tree.zst"],
        };
        let expected = expected.iter().map(ToString::to_string).collect();
        assert_eq!(names(&layer_dir(&scratch.store, layer)), expected);
        let record = record(&scratch.store, layer);
        assert_eq!(record["form"], form.name());
        assert_eq!(
            (&record["entries"], &record["size"]),
            (&json!(10), &json!(300_014))
        );
        clean(&scratch.store);
    }
}

#[test]
fn both_forms_hold_the_same_and_become_each_other() {
    let indexed = Scratch::with_layer_form(LayerForm::Indexed);
    let unpacked = Scratch::with_layer_form(LayerForm::Unpacked);
    let (one, other) = (
        indexed.import_as(&tar(), "one"),
        unpacked.import_as(&tar(), "one"),
    );
    assert_eq!(one.manifest, other.manifest);
    let layer = one.layers[0];
    let differences = |scratch: &Scratch, image: &Image| {
        paths(&scratch.store.layer_differences(image).unwrap()[0].differences)
    };
    assert_eq!(differences(&indexed, &one), differences(&unpacked, &other));
    let (index, tree) = (
        record(&indexed.store, layer)["index"].clone(),
        record(&unpacked.store, layer)["tree"].clone(),
    );
    let names = |scratch: &Scratch| verify(&scratch.store).verified.entries;
    assert_eq!((names(&indexed), names(&unpacked)), (14, 14));
    convert(&indexed.store, &one, LayerForm::Unpacked);
    convert(&unpacked.store, &other, LayerForm::Indexed);
    assert_eq!(record(&indexed.store, layer)["tree"], tree);
    assert_eq!(record(&unpacked.store, layer)["index"], index);
    for scratch in [&indexed, &unpacked] {
        clean(&scratch.store);
    }
    convert(&indexed.store, &one, LayerForm::Indexed);
    assert_eq!(record(&indexed.store, layer)["index"], index);
    clean(&indexed.store);
}

#[test]
fn the_index_is_the_same_from_whatever_the_layer_was_laid_down() {
    let imported = Scratch::with_layer_form(LayerForm::Indexed);
    let image = imported.import_as(&tar(), "one");
    let layer = image.layers[0];
    let index = std::fs::read(layer_dir(&imported.store, layer).join("layer.erofs")).unwrap();
    let is_same = |scratch: &Scratch| {
        let dir = layer_dir(&scratch.store, layer);
        assert_eq!(std::fs::read(dir.join("layer.tar")).unwrap(), tar());
        assert!(std::fs::read(dir.join("layer.erofs")).unwrap() == index);
        clean(&scratch.store);
    };
    // From a compressed blob, when somebody wants to stack it.
    let compressed = Scratch::with_layer_form(LayerForm::Indexed);
    let (image, _) = enter_gzip(&compressed, &tar(), "gzip");
    compressed.store.stack(&image).unwrap();
    is_same(&compressed);
    // From an archive of images.
    let mut archive = Vec::new();
    imported
        .store
        .save(&["one".to_owned()], Default::default(), &mut archive)
        .unwrap();
    let loaded = Scratch::with_layer_form(LayerForm::Indexed);
    loaded
        .store
        .load(&mut &*archive, "archive", &mut |_| {})
        .unwrap();
    is_same(&loaded);
    // As it arrives.
    let received = Scratch::with_layer_form(LayerForm::Indexed);
    let bytes = gzip(&tar());
    let held = received.store.receive_layer(
        layer,
        mybox_store::Digest::of(&bytes),
        &mut &*bytes,
        &mut |_| {},
    );
    assert_eq!(held.unwrap().form(), LayerForm::Indexed);
    assert_eq!(inode_names(&received.store, layer), 1);
    is_same(&received);
}

/// How many names the file has that is the layer's tar.
fn inode_names(store: &Store, layer: DiffId) -> u64 {
    layer_dir(store, layer)
        .join("layer.tar")
        .metadata()
        .unwrap()
        .nlink()
}

#[test]
fn an_uncompressed_blob_and_the_layers_tar_are_one_file() {
    let scratch = Scratch::with_layer_form(LayerForm::Indexed);
    let store = &scratch.store;
    let image = scratch.import_as(&tar(), "one");
    let layer = image.layers[0];
    let tar_of = |store: &Store| layer_dir(store, layer).join("layer.tar");
    let blob_of = |store: &Store| blob(store, &layer.hex());
    assert_eq!(inode(&tar_of(store)), inode(&blob_of(store)));
    // Laid down anew, converted, loaded.
    std::fs::remove_dir_all(layer_dir(store, layer)).unwrap();
    store.stack(&image).unwrap();
    assert_eq!(inode(&tar_of(store)), inode(&blob_of(store)));
    convert(store, &image, LayerForm::Unpacked);
    convert(store, &image, LayerForm::Indexed);
    assert_eq!(inode(&tar_of(store)), inode(&blob_of(store)));
    let mut archive = Vec::new();
    store
        .save(&["one".to_owned()], Default::default(), &mut archive)
        .unwrap();
    let loaded = Scratch::with_layer_form(LayerForm::Indexed);
    loaded
        .store
        .load(&mut &*archive, "archive", &mut |_| {})
        .unwrap();
    assert_eq!(
        inode(&tar_of(&loaded.store)),
        inode(&blob_of(&loaded.store))
    );
    // Of a compressed blob it is a file of its own.
    let other = Scratch::with_layer_form(LayerForm::Indexed);
    let (image, _) = enter_gzip(&other, &tar(), "gzip");
    other.store.stack(&image).unwrap();
    assert_eq!(inode_names(&other.store, layer), 1);
}

#[test]
fn what_a_layer_and_its_blob_have_in_common_counts_once_and_goes_with_the_last_of_them() {
    let scratch = Scratch::with_layer_form(LayerForm::Indexed);
    let store = &scratch.store;
    let plain = scratch.import_as(&tar(), "plain");
    let (gzip, _) = enter_gzip(&scratch, &tar(), "gzip");
    let size = layer_dir(store, plain.layers[0])
        .join("layer.tar")
        .metadata()
        .unwrap()
        .blocks()
        * 512;
    let nobody = || Ok(Vec::new());
    let survey = store.survey(&nobody).unwrap();
    let layer = &survey.objects[&mybox_store::Object::Layer(plain.layers[0])];
    assert_eq!(
        (layer.in_common, layer.form),
        (size, Some(LayerForm::Indexed))
    );
    assert_eq!(layer.whole(), store.size(&plain));
    // The layer stays, and so does its tar.
    let removed = store.remove("plain", false, &nobody).unwrap();
    assert!(removed.freed_bytes < size, "{removed:?}");
    assert_eq!(removed.deleted_layers, []);
    let survey = store.survey(&nobody).unwrap();
    let layer = &survey.objects[&mybox_store::Object::Layer(gzip.layers[0])];
    assert_eq!(layer.in_common, 0);
    let removed = store.remove("gzip", false, &nobody).unwrap();
    assert!(removed.freed_bytes > size, "{removed:?}");
    assert!(scratch.leftovers().is_empty(), "{:?}", scratch.leftovers());
}

#[test]
fn images_are_compared_by_content_whatever_the_forms_of_their_layers() {
    let same = |text: &[u8]| {
        Archive::new()
            .file("a", text)
            .file("b", &[7; 70_000])
            .finish()
    };
    let sparse_end = [&[1; 100][..], &[0; 200_000]].concat();
    let with_zeros = |last: u8| {
        let mut bytes = sparse_end.clone();
        *bytes.last_mut().unwrap() = last;
        Archive::new()
            .file("a", b"one")
            .file("b", &[7; 70_000])
            .file("z", &bytes)
            .finish()
    };
    for forms in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        let scratch = Scratch::new();
        let import = |tar: &[u8], name: &str, form: usize| {
            let mut store = scratch.store.clone().with_layer_form(FORMS[form]);
            let source = mybox_store::ImportSource::Stream {
                reader: &mut &*tar,
                name: "tar",
                total: None,
            };
            let options = mybox_store::ImportOptions {
                reference: Some(name.parse().unwrap()),
                ..Default::default()
            };
            let image = store.import(source, &options, &mut |_| {}).unwrap();
            store = store.with_layer_form(FORMS[1 - form]);
            drop(store);
            image
        };
        let one = import(&same(b"one"), "one", forms[0]);
        let two = import(&same(b"two"), "two", forms[1]);
        let found = scratch.store.differences(&one, &two).unwrap();
        assert_eq!(
            paths(&found),
            [("a".to_owned(), How::Changed, "file")],
            "{forms:?}"
        );
        let zero = import(&with_zeros(0), "zero", forms[0]);
        let last = import(&with_zeros(1), "last", forms[1]);
        let found = scratch.store.differences(&zero, &last).unwrap();
        assert_eq!(
            paths(&found),
            [("z".to_owned(), How::Changed, "file")],
            "{forms:?}"
        );
        let found = scratch.store.differences(&one, &zero).unwrap();
        assert_eq!(
            paths(&found),
            [("z".to_owned(), How::Added, "file")],
            "{forms:?}"
        );
    }
}

#[test]
fn every_bit_that_flips_in_a_tar_or_an_index_is_found_named_and_healed() {
    let scratch = Scratch::with_layer_form(LayerForm::Indexed);
    let store = &scratch.store;
    let (image, _) = enter_gzip(&scratch, &tar(), "gzip");
    store.stack(&image).unwrap();
    let layer = image.layers[0];
    let whole = record(store, layer);
    let mut random = Random(11);
    for round in 0..60 {
        let name = ["layer.tar", "layer.erofs"][round % 2];
        flip(&layer_dir(store, layer).join(name), &mut random);
        let outcome = verify(store);
        assert_eq!(
            outcome.parts(),
            BTreeSet::from([Part::Layer(layer)]),
            "{outcome:#?}"
        );
        let at: Vec<_> = outcome
            .flaws
            .iter()
            .map(|(_, at, _)| at.as_deref())
            .collect();
        assert_eq!(at, [Some(name)], "{outcome:#?}");
        let outcome = repair(store);
        assert_eq!(
            (outcome.verified.repaired, outcome.verified.lost),
            (1, 0),
            "{outcome:#?}"
        );
        assert_eq!(record(store, layer), whole);
        assert_nothing_left(store);
        clean(store);
    }
}

#[test]
fn what_is_missing_or_foreign_in_an_indexed_layer_is_told_and_made_again() {
    let scratch = Scratch::with_layer_form(LayerForm::Indexed);
    let store = &scratch.store;
    let (image, _) = enter_gzip(&scratch, &tar(), "gzip");
    store.stack(&image).unwrap();
    let layer = image.layers[0];
    let dir = layer_dir(store, layer);
    let other = Scratch::with_layer_form(LayerForm::Indexed);
    let foreign = other.import_as(&Archive::new().file("other", b"x").finish(), "other");
    let foreign = layer_dir(&other.store, foreign.layers[0]);
    let spoil: [(&str, &str, Spoil<'_>); 7] = [
        ("layer.tar", "missing", &|path| {
            std::fs::remove_file(path).unwrap();
        }),
        ("layer.erofs", "missing", &|path| {
            std::fs::remove_file(path).unwrap();
        }),
        ("layer.tar", "bytes have sha256:", &|path| shorten(path)),
        ("layer.erofs", "bytes instead of", &|path| shorten(path)),
        ("layer.erofs", "bytes instead of", &|path| {
            std::fs::write(path, "").unwrap();
        }),
        ("layer.erofs", "", &|path| {
            std::fs::copy(foreign.join("layer.erofs"), path)
                .map(drop)
                .unwrap();
        }),
        ("layer.tar", "bytes have sha256:", &|path| {
            std::fs::copy(foreign.join("layer.tar"), path)
                .map(drop)
                .unwrap();
        }),
    ];
    for (name, says, spoil) in spoil {
        spoil(&dir.join(name));
        let outcome = verify(store);
        outcome.says(name, says);
        let outcome = repair(store);
        assert_eq!(
            (outcome.verified.repaired, outcome.verified.lost),
            (1, 0),
            "{outcome:#?}"
        );
        clean(store);
    }
    // A record that is lost: the tar says what it is.
    for text in ["", "{}"] {
        std::fs::write(dir.join("layer.json"), text).unwrap();
        assert_eq!(verify(store).parts(), BTreeSet::from([Part::Layer(layer)]));
        assert_eq!(repair(store).verified.repaired, 1);
        assert_eq!(record(store, layer)["form"], "indexed");
        clean(store);
    }
}

type Spoil<'a> = &'a dyn Fn(&Path);

fn shorten(path: &Path) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 512).unwrap();
}

#[test]
fn a_damaged_tar_without_any_other_copy_is_lost_and_said_so() {
    let scratch = Scratch::with_layer_form(LayerForm::Indexed);
    let store = &scratch.store;
    let image = scratch.import_as(&tar(), "one");
    let layer = image.layers[0];
    // One file: the blob is damaged as well.
    flip(&layer_dir(store, layer).join("layer.tar"), &mut Random(5));
    let both = BTreeSet::from([Part::Blob(layer.digest()), Part::Layer(layer)]);
    assert_eq!(verify(store).parts(), both);
    let outcome = repair(store);
    assert_eq!(
        (outcome.verified.repaired, outcome.verified.lost),
        (0, 2),
        "{outcome:#?}"
    );
    // From elsewhere it comes back, and the layer from it.
    let fetch = |wanted: &WantedBlob| {
        assert_eq!(wanted.digest, layer.digest());
        let directory = scratch.path("fetched");
        std::fs::write(&directory, tar())?;
        std::fs::rename(&directory, blob(store, &wanted.digest.hex()))?;
        Ok(())
    };
    let outcome = repair_from(store, &fetch);
    assert_eq!(
        (outcome.verified.repaired, outcome.verified.lost),
        (2, 0),
        "{outcome:#?}"
    );
    clean(store);
    assert_eq!(
        inode(&layer_dir(store, layer).join("layer.tar")),
        inode(&blob(store, &layer.hex()))
    );
}

#[test]
fn a_damaged_uncompressed_blob_is_taken_from_the_layers_tar() {
    let scratch = Scratch::with_layer_form(LayerForm::Indexed);
    let store = &scratch.store;
    let image = scratch.import_as(&tar(), "one");
    let layer = image.layers[0];
    let path = blob(store, &layer.hex());
    for spoil in [true, false] {
        std::fs::remove_file(&path).unwrap();
        if spoil {
            std::fs::write(&path, "damage").unwrap();
        }
        assert_eq!(
            verify(store).parts(),
            BTreeSet::from([Part::Blob(layer.digest())])
        );
        let outcome = repair(store);
        assert_eq!(
            (outcome.verified.repaired, outcome.verified.lost),
            (1, 0),
            "{outcome:#?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), tar());
        assert_nothing_left(store);
        clean(store);
    }
}

#[test]
fn a_conversion_is_refused_where_nothing_is_left_to_make_the_layer_from() {
    let scratch = Scratch::new();
    let store = &scratch.store;
    let (image, hex) = enter_gzip(&scratch, &tar(), "gzip");
    store.stack(&image).unwrap();
    let layer = image.layers[0];
    let before = record(store, layer);
    let to_indexed = || store.convert_layer(layer, LayerForm::Indexed, &[], &mut |_| {});
    let bytes = std::fs::read(blob(store, &hex)).unwrap();
    std::fs::write(
        blob(store, &hex),
        gzip(&Archive::new().file("x", b"").finish()),
    )
    .unwrap();
    let error = to_indexed().unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    std::fs::remove_file(blob(store, &hex)).unwrap();
    let error = to_indexed().unwrap_err();
    assert!(matches!(error, Error::NoBlob { .. }), "{error}");
    assert!(error.to_string().contains(&layer.hex()), "{error}");
    assert_eq!(record(store, layer), before);
    assert_nothing_left(store);
    std::fs::write(blob(store, &hex), bytes).unwrap();
    convert(store, &image, LayerForm::Indexed);
    // A tar that is damaged is unpacked no more.
    flip(&layer_dir(store, layer).join("layer.tar"), &mut Random(9));
    let error = store
        .convert_layer(layer, LayerForm::Unpacked, &[], &mut |_| {})
        .unwrap_err();
    assert!(chain(&error).contains("layer"), "{error}");
    assert_eq!(record(store, layer)["form"], "indexed");
    let absent = DiffId::from(mybox_store::Digest::of(b"absent"));
    assert_eq!(
        store
            .convert_layer(absent, LayerForm::Indexed, &[], &mut |_| {})
            .unwrap(),
        None
    );
}

#[test]
fn a_conversion_is_no_use_of_the_layer_and_whoever_has_the_old_one_keeps_it() {
    let scratch = Scratch::new();
    let store = &scratch.store;
    let image = scratch.import_as(&tar(), "one");
    let layer = image.layers[0];
    let stack = store.stack(&image).unwrap();
    let path = layer_dir(store, layer).join("layer.json");
    let before = path.metadata().unwrap().mtime_nsec();
    let converted = store.convert_layer(layer, LayerForm::Indexed, &[], &mut |_| {});
    assert_eq!(converted.unwrap().unwrap().form, LayerForm::Indexed);
    assert_eq!(path.metadata().unwrap().mtime_nsec(), before);
    // Ours is out of sight, and all there.
    let old = names(&store.root().join("ingest"));
    assert_eq!(old.len(), 1, "{old:?}");
    let old = store.root().join("ingest").join(old.first().unwrap());
    assert_eq!(std::fs::read(old.join("fs/d/a")).unwrap(), b"content of a");
    drop(stack);
    Store::open(store.root()).unwrap();
    assert_nothing_left(store);
    clean(store);
}

#[test]
fn forms_may_change_while_others_use_the_layer() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    let layer = image.layers[0];
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let store = scratch.store.clone();
            scope.spawn(move || {
                for round in 0..15 {
                    let form = FORMS[(round + worker) % 2];
                    store
                        .convert_layer(layer, form, &[], &mut |_| {})
                        .unwrap()
                        .unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..40 {
                assert_eq!(scratch.store.stack(&image).unwrap().layers().len(), 1);
            }
        });
    });
    Store::open(scratch.store.root()).unwrap();
    assert_nothing_left(&scratch.store);
    clean(&scratch.store);
}

#[test]
fn dockers_archive_is_the_same_from_both_forms_and_needs_no_blob_where_there_is_a_tar() {
    let archive = |scratch: &Scratch| {
        let mut archive = Vec::new();
        let format = "docker-archive".parse().unwrap();
        let saved = scratch
            .store
            .save(&["gzip".to_owned()], format, &mut archive);
        saved.map(|()| archive)
    };
    let mut archives = Vec::new();
    for form in FORMS {
        let scratch = Scratch::with_layer_form(form);
        let (image, hex) = enter_gzip(&scratch, &tar(), "gzip");
        scratch.store.stack(&image).unwrap();
        archives.push(archive(&scratch).unwrap());
        std::fs::remove_file(blob(&scratch.store, &hex)).unwrap();
        assert_eq!(archive(&scratch).is_ok(), form == LayerForm::Indexed);
        if form == LayerForm::Indexed {
            assert!(archive(&scratch).unwrap() == archives[0]);
            let tar = layer_dir(&scratch.store, image.layers[0]).join("layer.tar");
            flip(&tar, &mut Random(2));
            assert!(matches!(archive(&scratch), Err(Error::Damaged { .. })));
        }
    }
    assert!(archives[0] == archives[1]);
}

#[test]
fn hostile_archives_are_refused_in_the_same_words_by_both_forms() {
    let archives = [
        Archive::new().file("../out", b"x").finish(),
        Archive::new().hardlink("a", "missing").finish(),
        Archive::new().file("a/.wh.", b"").finish(),
        Archive::new().file("whole", &[1; 5000]).cut()[..2000].to_vec(),
        Archive::new().file(".wh.x/y", b"").finish(),
    ];
    for archive in archives {
        let said = FORMS.map(|form| {
            let scratch = Scratch::with_layer_form(form);
            let error = chain(&scratch.import(&archive).unwrap_err());
            assert!(
                scratch.leftovers().is_empty(),
                "{form}: {:?}",
                scratch.leftovers()
            );
            error
        });
        assert_eq!(said[0], said[1]);
    }
}

#[test]
fn a_layer_that_is_another_one_is_refused_and_leaves_nothing() {
    let scratch = Scratch::with_layer_form(LayerForm::Indexed);
    let bytes = gzip(&tar());
    let other = DiffId::from(mybox_store::Digest::of(b"other"));
    let blob = mybox_store::Digest::of(&bytes);
    let receive = |bytes: &[u8]| {
        let result = scratch
            .store
            .receive_layer(other, blob, &mut &*bytes, &mut |_| {});
        result.map(drop).unwrap_err()
    };
    assert!(matches!(receive(&bytes), Error::Mismatch { .. }));
    receive(&bytes[..bytes.len() / 2]);
    assert!(scratch.leftovers().is_empty(), "{:?}", scratch.leftovers());
}

/// Attributes that tmpfs has room for and an index has not: as a layer that no index can hold is
/// unpacked, whatever was asked for.
#[test]
fn a_layer_that_no_index_can_hold_is_unpacked() {
    let scratch = Scratch::new();
    let value = [b'v'; 60_000];
    let records: Vec<(String, &[u8])> = (0..5)
        .map(|number| (format!("SCHILY.xattr.trusted.large{number}"), &value[..]))
        .collect();
    let records: Vec<(&str, &[u8])> = records
        .iter()
        .map(|(key, value)| (&**key, *value))
        .collect();
    let archive = Archive::new().pax(&records).file("f", b"x").finish();
    std::fs::write(scratch.path("source.tar"), archive).unwrap();
    let script = format!(
        "set -e; mkdir $0/memory; mount -t tmpfs tmpfs $0/memory
         LAYER_FORM=indexed {} $0/memory/store $0/source.tar
         cat $0/memory/store/layers/*/layer.json; ls $0/memory/store/layers/*",
        importer().display()
    );
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", &script])
        .arg(scratch.directory.path())
        .output()
        .unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{errors}");
    assert!(said.contains("\"form\":\"unpacked\""), "{said}{errors}");
    assert!(said.ends_with("fs\nlayer.json\ntree.zst\n"), "{said}");
}

#[test]
fn a_store_of_version_1_is_upgraded_when_it_is_opened() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    let root = scratch.store.root().to_owned();
    std::fs::write(root.join("mybox.json"), "{\"version\":1}").unwrap();
    std::fs::remove_dir_all(root.join("images")).unwrap();
    let store = Store::open(&root).unwrap();
    let format = || std::fs::read_to_string(root.join("mybox.json")).unwrap();
    assert_eq!(format(), "{\"version\":2}");
    assert!(root.join("images").is_dir());
    clean(&store);
    assert_eq!(store.find("one").unwrap().manifest, image.manifest);
    // What an upgrade that was killed has left is no obstacle.
    std::fs::write(root.join("mybox.json"), "{\"version\":1}").unwrap();
    Store::open(&root).unwrap();
    assert_eq!(format(), "{\"version\":2}");
}

#[test]
fn the_form_that_was_chosen_for_a_store_is_remembered_there() {
    let scratch = Scratch::new();
    let store = &scratch.store;
    assert_eq!(store.layer_form_setting().unwrap(), None);
    for form in FORMS {
        store.set_layer_form_setting(Some(form)).unwrap();
        let again = Store::open(store.root()).unwrap();
        assert_eq!(again.layer_form_setting().unwrap(), Some(form));
        // A setting is for the caller: what its kernel can do, the store does not know.
        assert_eq!(again.layer_form(), LayerForm::Unpacked);
    }
    store.set_layer_form_setting(None).unwrap();
    let format = std::fs::read_to_string(store.root().join("mybox.json")).unwrap();
    assert_eq!(format, "{\"version\":2}");
    assert_nothing_left(store);
}
