//! Many at once.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Archive, Scratch, importer};

fn tar(files: u32) -> Vec<u8> {
    let mut archive = Archive::new();
    for number in 0..files {
        archive = archive.file(
            &format!("d{}/f{number}", number % 50),
            &number.to_le_bytes(),
        );
    }
    archive.finish()
}

#[test]
fn the_same_tar_imported_by_many_is_one_image_and_one_layer() {
    let scratch = Scratch::new();
    let source = scratch.path("source.tar");
    std::fs::write(&source, tar(2000)).unwrap();
    let spawn = |number: usize| {
        Command::new(importer())
            .arg(scratch.store.root())
            .arg(&source)
            .arg(format!("name:{number}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..8).map(spawn).collect();
    let bytes = std::fs::read(&source).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| scratch.import(&bytes).unwrap());
        }
    });
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let images = scratch.store.images().unwrap();
    assert_eq!((images.len(), images[0].references.len()), (1, 8));
    // A manifest, a config, a layer and its tree: nothing else, not even a lock.
    assert_eq!(scratch.leftovers().len(), 4, "{:?}", scratch.leftovers());
}

#[test]
fn imports_and_removals_of_the_same_image_leave_it_whole_or_gone() {
    let scratch = Scratch::new();
    let bytes = tar(20);
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (scratch, bytes) = (&scratch, &bytes);
            scope.spawn(move || {
                for _ in 0..25 {
                    if worker % 2 == 0 {
                        scratch.import_as(bytes, &format!("name:{worker}"));
                    } else {
                        let name = format!("name:{}", worker - 1);
                        let _ = scratch.store.remove(&name, false, &mybox_store::no_uses);
                    }
                    for image in scratch.store.images().unwrap_or_default() {
                        // It may be removed while it is read, but never be half there.
                        if let Ok(stack) = scratch.store.stack(&image) {
                            let fs = &stack.layers()[0].file().path;
                            assert_eq!(std::fs::read_dir(fs).unwrap().count(), 20);
                        }
                    }
                }
            });
        }
    });
    let image = scratch.import_as(&bytes, "last");
    let names: Vec<String> = scratch
        .store
        .find("last")
        .unwrap()
        .references
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(scratch.tree(&image).join("d0/f0").exists());
    for name in names {
        scratch
            .store
            .remove(&name, false, &mybox_store::no_uses)
            .unwrap();
    }
    assert!(scratch.leftovers().is_empty(), "{:?}", scratch.leftovers());
}

#[test]
fn whoever_waits_for_a_process_that_dies_takes_over() {
    let scratch = Scratch::new();
    let source = scratch.path("source.tar");
    std::fs::write(&source, tar(6_000)).unwrap();
    let mut first = Command::new(importer())
        .arg(scratch.store.root())
        .arg(&source)
        .spawn()
        .unwrap();
    let ingest = scratch.store.root().join("ingest");
    let is_lock = |entry: std::io::Result<std::fs::DirEntry>| {
        entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .ends_with(".lock")
    };
    let start = Instant::now();
    while !std::fs::read_dir(&ingest).unwrap().any(is_lock) {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it never begins to unpack"
        );
    }
    let bytes = std::fs::read(&source).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| scratch.import(&bytes).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        let _ = first.kill();
        first.wait().unwrap();
        let image = second.join().unwrap();
        assert!(scratch.tree(&image).join("d0/f0").exists());
    });
}
