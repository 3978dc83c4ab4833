//! `images/<chain id>.erofs`: one index for all layers of an image. When it is made, what is made of it,
//! and when it goes.

use std::path::PathBuf;
use std::time::SystemTime;

use mybox_store::{
    Digest, GcOptions, Image, LayerForm, Lower, Object, Part, Store, VerifyEvent, VerifyOptions,
    no_uses,
};

use crate::support::{Archive, Layout, Scratch};
use crate::verify::{clean, repair, verify};

/// An image of these layers, called `app`; and a handle that lays layers down in this form.
fn image(scratch: &Scratch, layers: &[Vec<u8>], form: LayerForm) -> (Store, Image) {
    let layout = Layout(scratch.store.root());
    let host = if cfg!(target_arch = "x86_64") {
        "linux/amd64"
    } else {
        "linux/arm64"
    };
    layout.enter(layout.image(host, layers), "app:latest");
    let store = scratch.store.clone().with_layer_form(form);
    let image = store.find("app").expect("the image");
    (store, image)
}

fn layers(count: usize) -> Vec<Vec<u8>> {
    let layer = |number: usize| {
        let name = format!("file{number}");
        Archive::new().file(&name, name.as_bytes()).finish()
    };
    (0..count).map(layer).collect()
}

fn indexes(store: &Store) -> Vec<PathBuf> {
    let list = std::fs::read_dir(store.root().join("images")).expect("images/");
    list.map(|entry| entry.expect("an entry").path()).collect()
}

/// The names of the files that are to be mounted or stacked.
fn stacked(store: &Store, image: &Image) -> Vec<Vec<String>> {
    let stack = store.stack(image).expect("a stack");
    let name = |path: &PathBuf| {
        let path = path.strip_prefix(store.root()).expect("in the store");
        path.display().to_string()
    };
    let files = |lower: &Lower| {
        let mut files = vec![name(&lower.file().path)];
        if let Lower::Indexed(indexed) = lower {
            files.extend(indexed.devices.iter().map(|device| name(&device.path)));
        }
        files
    };
    stack.layers().iter().map(files).collect()
}

#[test]
fn an_image_of_many_layers_is_one_index_made_when_it_is_first_stacked() {
    let scratch = Scratch::new();
    let (store, image) = image(&scratch, &layers(3), LayerForm::Indexed);
    assert!(indexes(&store).is_empty());
    let chain = image.layers[1..]
        .iter()
        .fold(image.layers[0].digest(), |chain, layer| {
            Digest::of(format!("{chain} {layer}").as_bytes())
        });
    let mut expected = vec![format!("images/{}.erofs", chain.hex())];
    let tar = |layer: &mybox_store::DiffId| format!("layers/{}/layer.tar", layer.hex());
    expected.extend(image.layers.iter().map(tar));
    assert_eq!(stacked(&store, &image), [expected.clone()]);
    // The same bytes, from the layers alone.
    let bytes = std::fs::read(&indexes(&store)[0]).expect("the index");
    std::fs::remove_file(&indexes(&store)[0]).expect("remove it");
    assert!(store.merge(&image).expect("made again"));
    assert_eq!(
        std::fs::read(&indexes(&store)[0]).expect("the index"),
        bytes
    );
    assert_eq!(stacked(&store, &image), [expected]);
}

#[test]
fn a_single_layer_and_layers_that_are_unpacked_have_none() {
    for (count, form) in [(1, LayerForm::Indexed), (3, LayerForm::Unpacked)] {
        let scratch = Scratch::new();
        let (store, image) = image(&scratch, &layers(count), form);
        assert_eq!(stacked(&store, &image).len(), count);
        assert!(!store.merge(&image).expect("nothing to do"));
        assert!(indexes(&store).is_empty());
    }
}

#[test]
fn layers_of_both_forms_are_stacked_one_by_one() {
    let scratch = Scratch::new();
    let (store, image) = image(&scratch, &layers(2), LayerForm::Indexed);
    stacked(&store, &image);
    let tree = store.root().join("layers").join(image.layers[1].hex());
    std::fs::remove_dir_all(tree).expect("remove a layer");
    let unpacking = store.clone().with_layer_form(LayerForm::Unpacked);
    let [base, top] = image.layers[..] else {
        panic!("two layers");
    };
    let base = format!("layers/{}/", base.hex());
    let expected = [
        vec![format!("{base}layer.erofs"), format!("{base}layer.tar")],
        vec![format!("layers/{}/fs", top.hex())],
    ];
    assert_eq!(stacked(&unpacking, &image), expected);
}

#[test]
fn an_index_that_cannot_be_made_keeps_nobody_from_stacking_the_layers() {
    let scratch = Scratch::new();
    let (store, image) = image(&scratch, &layers(2), LayerForm::Indexed);
    stacked(&store, &image);
    let images = store.root().join("images");
    std::fs::remove_dir_all(&images).expect("remove images/");
    assert_eq!(stacked(&store, &image).len(), 2);
}

#[test]
fn the_index_goes_with_its_image() {
    let scratch = Scratch::new();
    let (store, image) = image(&scratch, &layers(3), LayerForm::Indexed);
    stacked(&store, &image);
    let merged = indexes(&store).remove(0);
    let survey = store.survey(&no_uses).expect("a survey");
    let object = image
        .parts()
        .into_iter()
        .find(|one| matches!(one, Object::Merged(_)));
    assert!(
        survey
            .objects
            .contains_key(&object.expect("a merged index"))
    );
    store
        .gc(&no_uses, &GcOptions::at(SystemTime::now()))
        .expect("gc");
    assert!(merged.exists());
    // One that no image has is garbage; so is that of an image which goes.
    let stray = merged.with_file_name(format!("{}.erofs", Digest::of(b"stray").hex()));
    std::fs::copy(&merged, &stray).expect("copy");
    store
        .gc(&no_uses, &GcOptions::at(SystemTime::now()))
        .expect("gc");
    assert!(merged.exists() && !stray.exists());
    let stack = store.stack(&image).expect("a stack");
    store.remove("app", true, &no_uses).expect("untag");
    assert!(merged.exists(), "it is in use");
    drop(stack);
    store
        .gc(&no_uses, &GcOptions::at(SystemTime::now()))
        .expect("gc");
    assert!(indexes(&store).is_empty());
}

#[test]
fn an_index_that_points_elsewhere_is_damage() {
    let scratch = Scratch::new();
    let (store, image) = image(&scratch, &layers(2), LayerForm::Indexed);
    stacked(&store, &image);
    let other = Scratch::new();
    let (foreign, its_image) = self::image(&other, &layers(4)[2..], LayerForm::Indexed);
    stacked(&foreign, &its_image);
    std::fs::copy(&indexes(&foreign)[0], &indexes(&store)[0]).expect("copy");
    let error = store.stack(&image).expect_err("another image's index");
    assert!(error.to_string().contains("points into"), "{error}");
}

#[test]
fn damage_is_found_and_the_index_is_made_again() {
    let scratch = Scratch::new();
    let (store, image) = image(&scratch, &layers(2), LayerForm::Indexed);
    let before = stacked(&store, &image);
    let merged = indexes(&store).remove(0);
    let verify = |repair| {
        let mut told = Vec::new();
        let options = VerifyOptions {
            repair,
            ..VerifyOptions::default()
        };
        store
            .verify(&options, &mut |event| told.push(event))
            .expect("verified");
        told
    };
    assert_eq!(verify(false), []);
    let good = std::fs::read(&merged).expect("the index");
    for at in [1030, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&merged, bad).expect("damage it");
        let told = verify(true);
        let chain = merged.file_stem().expect("a name").to_str().expect("UTF-8");
        let part = Part::Merged(format!("sha256:{chain}").parse().expect("a digest"));
        assert!(
            matches!(&told[..], [VerifyEvent::Damaged(flaw), VerifyEvent::Repaired { part: healed, .. }]
                if flaw.part == part && *healed == part),
            "{told:?}"
        );
        assert_eq!(verify(false), []);
        assert_eq!(stacked(&store, &image), before);
        assert_eq!(std::fs::read(&merged).expect("the index"), good);
    }
}

#[test]
fn a_damaged_record_of_a_layer_keeps_nothing_else_from_being_verified_and_healed() {
    let scratch = Scratch::new();
    let (store, image) = image(&scratch, &layers(3), LayerForm::Indexed);
    let before = stacked(&store, &image);
    let layer = |number: usize| store.root().join("layers").join(image.layers[number].hex());
    let record = layer(1).join("layer.json");
    let good = std::fs::read(&record).expect("the record");
    let too_long = vec![b' '; 5 << 20];
    for bad in [&b""[..], &vec![0; good.len()], b"{\"version\": ", &too_long] {
        std::fs::write(&record, bad).expect("damage it");
        let index = layer(2).join("layer.erofs");
        std::fs::write(&index, "damage").expect("damage another layer");
        let outcome = verify(&store);
        for part in [1, 2].map(|number| Part::Layer(image.layers[number])) {
            assert!(outcome.parts().contains(&part), "{outcome:#?}");
        }
        let outcome = repair(&store).verified;
        assert_eq!((outcome.repaired, outcome.lost), (outcome.damaged, 0));
        assert_eq!(std::fs::read(&record).expect("the record"), good);
        assert_eq!(stacked(&store, &image), before);
        clean(&store);
    }
}
