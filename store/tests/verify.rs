//! Damage is found, named and healed: bits that flip in blobs and in unpacked files, and everything
//! else that can be wrong with a name in a tree.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use mybox_store::{
    Digest, Image, ImportOptions, ImportSource, LayerForm, Part, Refetch, Store, Verified,
    VerifyEvent, VerifyOptions,
};
use rustix::fs::{AtFlags, Timespec, Timestamps, XattrFlags};

use crate::support::{Archive, Layout, Scratch, digest};

/// What a verification said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verified: Verified,
    pub(crate) flaws: Vec<(Part, Option<String>, String)>,
    pub(crate) lost: Vec<(Part, String, Vec<String>)>,
}

impl Outcome {
    pub(crate) fn parts(&self) -> BTreeSet<Part> {
        self.flaws.iter().map(|(part, ..)| *part).collect()
    }

    /// Whether a flaw at this path says this.
    #[track_caller]
    pub(crate) fn says(&self, path: &str, text: &str) {
        let found = self
            .flaws
            .iter()
            .any(|(_, at, problem)| at.as_deref() == Some(path) && problem.contains(text));
        assert!(found, "nothing says {path}: {text} in {self:#?}");
    }
}

/// Repairs, with blobs that are lost from where `refetch` has them.
pub(crate) fn repair_from(store: &Store, refetch: Refetch<'_>) -> Outcome {
    let options = VerifyOptions {
        repair: true,
        refetch: Some(refetch),
        ..VerifyOptions::default()
    };
    verify_with(store, &options)
}

pub(crate) fn verify_with(store: &Store, options: &VerifyOptions<'_>) -> Outcome {
    let (mut flaws, mut lost) = (Vec::new(), Vec::new());
    let verified = store.verify(options, &mut |event| match event {
        VerifyEvent::Damaged(flaw) => flaws.push((flaw.part, flaw.path, flaw.problem)),
        VerifyEvent::Lost {
            part,
            reason,
            images,
        } => lost.push((part, reason, images)),
        VerifyEvent::Repaired { .. } => {}
    });
    Outcome {
        verified: verified.expect("a verification"),
        flaws,
        lost,
    }
}

pub(crate) fn verify(store: &Store) -> Outcome {
    verify_with(store, &VerifyOptions::default())
}

pub(crate) fn repair(store: &Store) -> Outcome {
    let options = VerifyOptions {
        repair: true,
        ..VerifyOptions::default()
    };
    verify_with(store, &options)
}

#[track_caller]
pub(crate) fn clean(store: &Store) {
    let outcome = verify(store);
    assert!(outcome.flaws.is_empty(), "{outcome:#?}");
    assert_eq!(outcome.verified.damaged, 0);
}

/// Files of several kinds, so that every difference has something to differ in.
fn tar() -> Vec<u8> {
    let long: Vec<u8> = (0..300_000_u32).map(|at| (at % 253) as u8).collect();
    Archive::new()
        .directory("d/", 0o755)
        .file("d/a", b"content of a")
        .file("d/b", &long)
        .directory("d/e/", 0o750)
        .file("d/e/inner", b"inner")
        .symlink("link", "d/a")
        .hardlink("hard", "d/a")
        .pax(&[("SCHILY.xattr.user.note", b"text")])
        .file("noted", b"")
        .file("z", b"z")
        .finish()
}

fn blob(store: &Store, digest: Digest) -> PathBuf {
    store.root().join("blobs/sha256").join(digest.hex())
}

fn tree(store: &Store, image: &Image) -> PathBuf {
    store
        .root()
        .join("layers")
        .join(image.layers[0].hex())
        .join("fs")
}

/// xorshift64*: the same numbers from the same seed, on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// Flips one bit, and leaves the times as they were.
pub(crate) fn flip(path: &Path, random: &mut Random) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("a file");
    let before = file.metadata().expect("metadata");
    let at = random.below(before.len());
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    byte[0] ^= 1 << random.below(8);
    file.write_all_at(&byte, at).expect("write");
    set_mtime(path, before.mtime(), before.mtime_nsec());
}

fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("times");
}

#[test]
fn a_store_that_nobody_has_damaged_is_clean() {
    let scratch = Scratch::new();
    clean(&scratch.store);
    scratch.import_as(&tar(), "one");
    let tree = scratch.path("tree");
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    std::fs::write(tree.join("sub/file"), "x").unwrap();
    scratch.import_directory(&tree).unwrap();
    let outcome = verify(&scratch.store);
    assert!(outcome.flaws.is_empty(), "{outcome:#?}");
    let verified = outcome.verified;
    assert_eq!(
        (verified.images, verified.blobs, verified.layers),
        (2, 6, 2)
    );
    assert_eq!(verified.entries, 10 + 3);
}

#[test]
fn every_bit_that_flips_in_a_blob_is_found() {
    let seed = 0x5eed_0001;
    let mut random = Random(seed);
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    let blobs = [image.manifest, image.id, image.layers[0].digest()];
    for round in 0..60 {
        let digest = blobs[random.below(3) as usize];
        let path = blob(&scratch.store, digest);
        let good = std::fs::read(&path).unwrap();
        flip(&path, &mut random);
        let outcome = verify(&scratch.store);
        let parts = outcome.parts();
        assert!(
            parts.contains(&Part::Blob(digest)),
            "round {round} of seed {seed:#x}: {digest}: {outcome:#?}"
        );
        assert_eq!(
            parts.len(),
            1,
            "round {round} of seed {seed:#x}: {outcome:#?}"
        );
        std::fs::write(&path, good).unwrap();
    }
    clean(&scratch.store);
}

#[test]
fn every_bit_that_flips_in_an_unpacked_file_is_found_and_healed() {
    let seed = 0x5eed_0002;
    let mut random = Random(seed);
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    let files = ["d/a", "d/b", "d/e/inner", "hard", "z"];
    for round in 0..60 {
        let name = files[random.below(files.len() as u64) as usize];
        flip(&tree(&scratch.store, &image).join(name), &mut random);
        // Two names of one file: the first of them is told.
        let told = if name == "hard" { "d/a" } else { name };
        let outcome = verify(&scratch.store);
        outcome.says(told, "content differs");
        assert_eq!(
            outcome.flaws.len(),
            1,
            "round {round} of seed {seed:#x}: {outcome:#?}"
        );
        if round % 4 == 3 {
            let outcome = repair(&scratch.store);
            assert_eq!((outcome.verified.repaired, outcome.verified.lost), (1, 0));
            clean(&scratch.store);
        } else {
            // Flipping it back is not needed: laid down anew, the tree is whole.
            let layer = scratch
                .store
                .root()
                .join("layers")
                .join(image.layers[0].hex());
            std::fs::remove_dir_all(layer).unwrap();
            scratch.store.stack(&image).unwrap();
        }
    }
    clean(&scratch.store);
}

/// Something that can be wrong with a name, and how it is told.
struct Change {
    path: &'static str,
    says: &'static str,
    make: fn(&Path),
}

const CHANGES: &[Change] = &[
    Change {
        path: "d/a",
        says: "mode is 0600, not 0644",
        make: |tree| std::fs::set_permissions(tree.join("d/a"), mode(0o600)).unwrap(),
    },
    Change {
        path: "d/e",
        says: "mode is 1750, not 0750",
        make: |tree| std::fs::set_permissions(tree.join("d/e"), mode(0o1750)).unwrap(),
    },
    Change {
        path: "d/b",
        says: "owner is 7:8, not 0:0",
        make: |tree| std::os::unix::fs::lchown(tree.join("d/b"), Some(7), Some(8)).unwrap(),
    },
    Change {
        path: "link",
        says: "owner is 7:0, not 0:0",
        make: |tree| std::os::unix::fs::lchown(tree.join("link"), Some(7), Some(0)).unwrap(),
    },
    Change {
        path: "z",
        says: "time is 2001-09-09T01:46:41Z, not 2001-09-09T01:46:40Z",
        make: |tree| set_mtime(&tree.join("z"), 1_000_000_001, 0),
    },
    Change {
        path: "d",
        says: "time is 2001-09-09T01:46:40.000000001Z, not",
        make: |tree| set_mtime(&tree.join("d"), 1_000_000_000, 1),
    },
    Change {
        path: "link",
        says: "target is d/b, not d/a",
        make: |tree| {
            std::fs::remove_file(tree.join("link")).unwrap();
            symlink("d/b", tree.join("link")).unwrap();
        },
    },
    Change {
        path: "noted",
        says: "attribute user.note differs",
        make: |tree| set_xattr(&tree.join("noted"), "user.note", b"other"),
    },
    Change {
        path: "noted",
        says: "attribute user.note is missing",
        make: |tree| rustix::fs::removexattr(tree.join("noted"), "user.note").unwrap(),
    },
    Change {
        path: "d",
        says: "attribute trusted.overlay.opaque is not of this layer",
        make: |tree| set_xattr(&tree.join("d"), "trusted.overlay.opaque", b"y"),
    },
    Change {
        path: "z",
        says: "attribute security.capability is not of this layer",
        make: |tree| {
            let capability = [
                1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ];
            set_xattr(&tree.join("z"), "security.capability", &capability);
        },
    },
    Change {
        path: "z",
        says: "missing",
        make: |tree| std::fs::remove_file(tree.join("z")).unwrap(),
    },
    Change {
        path: "d/e",
        says: "missing",
        make: |tree| std::fs::remove_dir_all(tree.join("d/e")).unwrap(),
    },
    Change {
        path: "d/e/new",
        says: "not of this layer",
        make: |tree| std::fs::write(tree.join("d/e/new"), "").unwrap(),
    },
    Change {
        path: "d/extra",
        says: "not of this layer",
        make: |tree| std::fs::create_dir_all(tree.join("d/extra/below/it")).unwrap(),
    },
    Change {
        path: "z",
        says: "a directory, not a file",
        make: |tree| {
            std::fs::remove_file(tree.join("z")).unwrap();
            std::fs::create_dir_all(tree.join("z/below")).unwrap();
        },
    },
    Change {
        path: "d/e",
        says: "a file, not a directory",
        make: |tree| {
            std::fs::remove_dir_all(tree.join("d/e")).unwrap();
            std::fs::write(tree.join("d/e"), "").unwrap();
        },
    },
    Change {
        path: "d/b",
        says: "size is 5, not 300000",
        make: |tree| std::fs::write(tree.join("d/b"), "short").unwrap(),
    },
    Change {
        path: "hard",
        says: "a file of its own, not a hardlink of d/a",
        make: |tree| {
            let content = std::fs::read(tree.join("d/a")).unwrap();
            std::fs::remove_file(tree.join("hard")).unwrap();
            std::fs::write(tree.join("hard"), content).unwrap();
        },
    },
    Change {
        path: "z",
        says: "a hardlink of d/a, not a file of its own",
        make: |tree| {
            std::fs::remove_file(tree.join("z")).unwrap();
            std::fs::hard_link(tree.join("d/a"), tree.join("z")).unwrap();
        },
    },
    Change {
        path: "z",
        says: "a whiteout, not a file",
        make: |tree| {
            std::fs::remove_file(tree.join("z")).unwrap();
            let kind = rustix::fs::FileType::CharacterDevice;
            let mode = rustix::fs::Mode::empty();
            rustix::fs::mknodat(rustix::fs::CWD, tree.join("z"), kind, mode, 0).unwrap();
        },
    },
    Change {
        path: ".",
        says: "mode is 0700, not 0755",
        make: |tree| std::fs::set_permissions(tree, mode(0o700)).unwrap(),
    },
];

fn mode(mode: u32) -> std::fs::Permissions {
    std::fs::Permissions::from_mode(mode)
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

#[test]
fn everything_that_can_change_in_a_tree_is_found_named_and_healed() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    for change in CHANGES {
        let tree = tree(&scratch.store, &image);
        (change.make)(&tree);
        let outcome = verify(&scratch.store);
        outcome.says(change.path, change.says);
        assert_eq!(
            outcome.parts(),
            BTreeSet::from([Part::Layer(image.layers[0])])
        );
        let outcome = repair(&scratch.store);
        assert_eq!(
            (outcome.verified.repaired, outcome.verified.lost),
            (1, 0),
            "{outcome:#?}"
        );
        clean(&scratch.store);
    }
    assert!(
        scratch
            .leftovers()
            .iter()
            .all(|path| !path.starts_with(scratch.store.root().join("ingest")))
    );
}

#[test]
fn what_is_below_a_missing_or_foreign_directory_is_not_told_one_by_one() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    let tree = tree(&scratch.store, &image);
    std::fs::remove_dir_all(tree.join("d")).unwrap();
    std::fs::create_dir_all(tree.join("new/with/much/below")).unwrap();
    let outcome = verify(&scratch.store);
    let told: BTreeSet<&str> = outcome
        .flaws
        .iter()
        .filter_map(|(_, path, _)| path.as_deref())
        .collect();
    // The root has another time; the other name of d/a has become a file of its own.
    assert_eq!(
        told,
        BTreeSet::from([".", "d", "hard", "new"]),
        "{outcome:#?}"
    );
}

#[test]
fn a_damaged_listing_is_told_and_made_again_from_a_tree_that_is_whole() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    let layer = scratch
        .store
        .root()
        .join("layers")
        .join(image.layers[0].hex());
    let inode = std::fs::metadata(layer.join("fs")).unwrap().ino();
    let mut random = Random(0x5eed_0003);
    for _ in 0..20 {
        let good = std::fs::read(layer.join("tree.zst")).unwrap();
        flip(&layer.join("tree.zst"), &mut random);
        let outcome = repair(&scratch.store);
        assert_eq!(
            (outcome.verified.damaged, outcome.verified.repaired),
            (1, 1),
            "{outcome:#?}"
        );
        assert!(outcome.flaws[0].2.contains("tree.zst"), "{outcome:#?}");
        assert_eq!(std::fs::read(layer.join("tree.zst")).unwrap(), good);
    }
    std::fs::remove_file(layer.join("tree.zst")).unwrap();
    assert_eq!(repair(&scratch.store).verified.repaired, 1);
    // The tree itself was not touched.
    assert_eq!(std::fs::metadata(layer.join("fs")).unwrap().ino(), inode);
    std::fs::write(layer.join("layer.json"), "{").unwrap();
    assert_eq!(repair(&scratch.store).verified.repaired, 1);
    clean(&scratch.store);
}

#[test]
fn containers_keep_a_damaged_tree_that_is_replaced_until_they_end() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    let stack = scratch.store.stack(&image).unwrap();
    let old = tree(&scratch.store, &image);
    std::fs::write(old.join("d/a"), "damage").unwrap();
    let held = rustix::fs::openat(
        &stack.layers()[0].file().fd,
        "d",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    assert_eq!(repair(&scratch.store).verified.repaired, 1);
    clean(&scratch.store);
    // The container's tree is not the store's any more, but it is all there.
    let there = rustix::fs::statat(&held, "a", AtFlags::empty()).unwrap();
    assert_eq!(there.st_size, 6);
    assert!(
        rustix::fs::statat(&stack.layers()[0].file().fd, "d/e/inner", AtFlags::empty()).is_ok()
    );
    let ingest = || {
        std::fs::read_dir(scratch.store.root().join("ingest"))
            .unwrap()
            .count()
    };
    drop(Store::open(scratch.store.root()).unwrap());
    assert_eq!(ingest(), 1, "a sweep removes nothing that is held");
    drop((stack, held));
    drop(Store::open(scratch.store.root()).unwrap());
    assert_eq!(ingest(), 0);
}

#[test]
fn the_blob_of_a_directory_that_was_imported_is_packed_again() {
    let scratch = Scratch::new();
    let source = scratch.path("tree");
    std::fs::create_dir_all(source.join("sub/deep")).unwrap();
    std::fs::write(source.join("sub/file"), vec![7; 100_000]).unwrap();
    symlink("file", source.join("sub/link")).unwrap();
    let options = ImportOptions {
        reference: Some("packed".parse().unwrap()),
        ..ImportOptions::default()
    };
    let store = &scratch.store;
    let image = store
        .import(ImportSource::Directory(&source), &options, &mut |_| {})
        .unwrap();
    let blob = blob(store, image.layers[0].digest());
    let good = std::fs::read(&blob).unwrap();
    flip(&blob, &mut Random(0x5eed_0004));
    let outcome = repair(store);
    assert_eq!(
        (outcome.verified.repaired, outcome.verified.lost),
        (1, 0),
        "{outcome:#?}"
    );
    assert_eq!(std::fs::read(&blob).unwrap(), good);
    std::fs::remove_file(&blob).unwrap();
    assert_eq!(repair(store).verified.repaired, 1);
    assert_eq!(std::fs::read(&blob).unwrap(), good);
}

#[test]
fn a_directory_in_a_blobs_place_is_found_like_any_damage_and_makes_way() {
    let scratch = Scratch::with_layer_form(LayerForm::Indexed);
    let image = scratch.import_as(&tar(), "one");
    let store = &scratch.store;
    let config = std::fs::read(blob(store, image.id)).unwrap();
    let [layer, stray] = [image.layers[0].digest(), Digest::of(b"stray")];
    for digest in [image.id, layer, stray] {
        let path = blob(store, digest);
        let _ = std::fs::remove_file(&path);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), "").unwrap();
    }
    let damaged = [image.id, layer, stray].map(Part::Blob);
    assert_eq!(verify(store).parts(), damaged.into());
    let refetch = |wanted: &mybox_store::WantedBlob| {
        assert_eq!(wanted.digest, image.id);
        drop(store.put_document(&config)?);
        Ok(())
    };
    let outcome = repair_from(store, &refetch);
    let verified = outcome.verified;
    assert_eq!((verified.repaired, verified.lost), (3, 0), "{outcome:#?}");
    clean(store);
    assert_eq!(scratch.leftovers().len(), 3 + 1);
}

#[test]
fn a_lost_blob_is_told_with_its_images_and_kept_as_it_is() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    scratch.import_as(&Archive::new().file("other", b"x").finish(), "two");
    let config = blob(&scratch.store, image.id);
    flip(&config, &mut Random(0x5eed_0005));
    let damaged = std::fs::read(&config).unwrap();
    let outcome = repair(&scratch.store);
    assert_eq!((outcome.verified.repaired, outcome.verified.lost), (0, 1));
    let (part, reason, images) = &outcome.lost[0];
    assert_eq!(*part, Part::Blob(image.id));
    assert!(reason.contains("cannot be fetched"), "{reason}");
    assert_eq!(images[..], ["docker.io/library/one:latest"]);
    assert_eq!(std::fs::read(&config).unwrap(), damaged);
    assert!(scratch.store.find("two").is_ok());
}

#[test]
fn a_blob_that_can_be_fetched_replaces_the_damaged_one_and_what_it_names_is_looked_at() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    let store = &scratch.store;
    let copies: Vec<(Digest, Vec<u8>)> = [image.manifest, image.id, image.layers[0].digest()]
        .map(|digest| (digest, std::fs::read(blob(store, digest)).unwrap()))
        .into();
    for (digest, _) in &copies {
        flip(
            &blob(store, *digest),
            &mut Random(digest.hex().len() as u64),
        );
    }
    let fetched = std::cell::RefCell::new(Vec::new());
    let refetch = |wanted: &mybox_store::WantedBlob| {
        fetched
            .borrow_mut()
            .push((wanted.digest, wanted.is_document));
        assert_eq!(
            wanted.references[0].to_string(),
            "docker.io/library/one:latest"
        );
        let (_, bytes) = copies
            .iter()
            .find(|(digest, _)| *digest == wanted.digest)
            .unwrap();
        drop(store.put_document(bytes)?);
        Ok(())
    };
    let outcome = repair_from(store, &refetch);
    assert_eq!(
        (outcome.verified.damaged, outcome.verified.lost),
        (3, 0),
        "{outcome:#?}"
    );
    // The config and the layer are known to be needed only once the manifest is whole.
    let order = fetched.into_inner();
    assert_eq!(order[0], (image.manifest, true));
    assert!(order[1..].contains(&(image.id, false)));
    clean(store);
    assert_eq!(scratch.leftovers().len(), 3 + 1);
}

#[test]
fn a_damaged_blob_comes_back_if_fetching_fails_and_even_if_the_repair_was_killed() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    let store = &scratch.store;
    let path = blob(store, image.id);
    flip(&path, &mut Random(9));
    let damaged = std::fs::read(&path).unwrap();
    let refetch = |_: &mybox_store::WantedBlob| {
        assert!(!path.exists(), "it is out of the way of the new one");
        Err("no network".into())
    };
    let outcome = repair_from(store, &refetch);
    assert!(outcome.lost[0].1.contains("no network"), "{outcome:#?}");
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    let aside = store
        .root()
        .join("ingest")
        .join(format!("{}.damaged", image.id.hex()));
    std::fs::rename(&path, aside).unwrap();
    drop(Store::open(store.root()).unwrap());
    repair(store);
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
}

#[test]
fn what_no_image_needs_is_removed_when_damaged() {
    let scratch = Scratch::new();
    scratch.import_as(&tar(), "one");
    let store = &scratch.store;
    let stray = blob(store, Digest::of(b"what it was"));
    std::fs::write(&stray, "what it is").unwrap();
    assert_eq!(verify(store).verified.damaged, 1);
    let outcome = repair(store);
    assert_eq!((outcome.verified.repaired, outcome.verified.lost), (1, 0));
    assert!(!stray.exists());
}

#[test]
fn named_images_are_verified_alone() {
    let scratch = Scratch::new();
    let one = scratch.import_as(&tar(), "one");
    let two = scratch.import_as(&Archive::new().file("other", b"x").finish(), "two");
    flip(&blob(&scratch.store, two.id), &mut Random(3));
    let only = |name: &str| {
        let names = [name.to_owned()];
        let options = VerifyOptions {
            images: &names,
            ..VerifyOptions::default()
        };
        verify_with(&scratch.store, &options).verified
    };
    let by_name = only("one");
    assert_eq!((by_name.images, by_name.blobs, by_name.damaged), (1, 3, 0));
    assert_eq!(only(&one.id.short()), by_name);
    assert_eq!(only("two").damaged, 1);
    let names = ["three".to_owned()];
    let options = VerifyOptions {
        images: &names,
        ..VerifyOptions::default()
    };
    assert!(scratch.store.verify(&options, &mut |_| {}).is_err());
}

#[test]
fn a_layer_of_a_compressed_blob_heals_from_it_and_gives_back_its_tar() {
    let scratch = Scratch::new();
    let store = &scratch.store;
    let image = scratch.import_as(&tar(), "plain");
    let plain = image.layers[0].digest();
    let layout = Layout(store.root());
    let layer = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&tar()));
    let config = layout.blob(
        "application/vnd.oci.image.config.v1+json",
        &std::fs::read(blob(store, image.id)).unwrap(),
    );
    let manifest = layout.manifest(&serde_json::json!({
        "schemaVersion": 2, "config": config, "layers": [layer],
    }));
    layout.enter(manifest, "gzip");
    clean(store);
    // The same layer, so each blob stands in for the other's loss.
    flip(&blob(store, plain), &mut Random(1));
    std::fs::write(tree(store, &image).join("z"), "damage").unwrap();
    let outcome = repair(store);
    assert_eq!(
        (outcome.verified.repaired, outcome.verified.lost),
        (2, 0),
        "{outcome:#?}"
    );
    assert_eq!(std::fs::read(blob(store, plain)).unwrap(), tar());
    clean(store);
    flip(&blob(store, digest(&layer)), &mut Random(2));
    std::fs::write(tree(store, &image).join("z"), "damage").unwrap();
    let outcome = repair(store);
    assert_eq!(
        (outcome.verified.repaired, outcome.verified.lost),
        (1, 1),
        "{outcome:#?}"
    );
    assert_eq!(outcome.lost[0].2[..], ["docker.io/library/gzip"]);
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new("gzip")
        .args(["-n", "-c"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gzip");
    let mut input = child.stdin.take().expect("a pipe");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, &bytes));
    let output = child.wait_with_output().expect("gzip's output");
    writer.join().expect("a thread").expect("gzip reads");
    output.stdout
}

#[test]
fn an_index_that_does_not_parse_is_told_and_nothing_else_is_touched() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar(), "one");
    std::fs::write(scratch.store.root().join("index.json"), "{\"manifests\"").unwrap();
    let outcome = repair(&scratch.store);
    assert_eq!(outcome.parts(), BTreeSet::from([Part::Index]));
    assert_eq!(outcome.verified.lost, 1);
    assert!(blob(&scratch.store, image.manifest).exists());
}
