//! SIGKILL at any moment: the next one to open the store finds it right, and cleans up.

use std::process::{Command, Stdio};
use std::time::Duration;

use mybox_store::{Digest, LayerForm, Store};

use crate::support::{Archive, Scratch, importer};

#[test]
fn a_killed_import_leaves_a_store_that_is_right() {
    killed_imports(LayerForm::Unpacked);
}

#[test]
fn a_killed_import_of_an_indexed_layer_leaves_a_store_that_is_right() {
    killed_imports(LayerForm::Indexed);
}

fn killed_imports(form: LayerForm) {
    let scratch = Scratch::new();
    let source = scratch.path("source.tar");
    let mut archive = Archive::new();
    for number in 0..3000 {
        archive = archive.file(&format!("d{}/f{number}", number % 50), &[7; 3000]);
    }
    std::fs::write(&source, archive.finish()).unwrap();
    for round in 0..40_u64 {
        let mut child = Command::new(importer())
            .arg(scratch.store.root())
            .arg(&source)
            .arg(format!("round:{round}"))
            .env("LAYER_FORM", form.name())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(round * round / 3));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(scratch.store.root()).unwrap();
        let ingest = std::fs::read_dir(store.root().join("ingest")).unwrap();
        assert_eq!(ingest.count(), 0, "round {round} left something");
        verify(&store, form);
        if round % 8 == 7 {
            for image in store.images().unwrap() {
                store
                    .remove(&image.id.hex(), true, &mybox_store::no_uses)
                    .unwrap();
            }
        }
    }
}

/// Everything that has its final name is whole.
fn verify(store: &Store, form: LayerForm) {
    for blob in std::fs::read_dir(store.root().join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let digest = Digest::of(&std::fs::read(blob.path()).unwrap());
        assert_eq!(blob.file_name().to_string_lossy(), digest.hex());
    }
    for layer in std::fs::read_dir(store.root().join("layers")).unwrap() {
        if form == LayerForm::Indexed {
            let mut events = Vec::new();
            store
                .verify(&Default::default(), &mut |event| events.push(event))
                .unwrap();
            assert!(events.is_empty(), "{events:?}");
            continue;
        }
        let fs = layer.unwrap().path().join("fs");
        for number in 0..50 {
            assert_eq!(
                std::fs::read_dir(fs.join(format!("d{number}")))
                    .unwrap()
                    .count(),
                60
            );
        }
    }
    for image in store.images().unwrap() {
        assert_eq!(store.stack(&image).unwrap().layers().len(), 1);
    }
}

#[test]
fn what_is_still_being_made_is_not_taken_for_a_leftover() {
    let scratch = Scratch::new();
    let root = scratch.store.root().to_owned();
    let tar = Archive::new().file("f", &[1; 200_000]).finish();
    let mut reader = Opening {
        root: &root,
        rest: &tar,
    };
    let source = mybox_store::ImportSource::Stream {
        reader: &mut reader,
        name: "test",
        total: None,
    };
    let image = scratch.store.import(source, &Default::default(), &mut |_| {
        // Another process comes by at each step.
        Store::open(&root).unwrap();
    });
    assert!(scratch.tree(&image.unwrap()).join("f").exists());
}

/// A stream during whose reading the store is opened by others.
struct Opening<'a> {
    root: &'a std::path::Path,
    rest: &'a [u8],
}

impl std::io::Read for Opening<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Store::open(self.root).unwrap();
        let length = buffer.len().min(5000);
        std::io::Read::read(&mut self.rest, &mut buffer[..length])
    }
}
