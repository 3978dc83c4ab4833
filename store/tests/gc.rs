//! gc: what goes, what stays, and that a plan is kept to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mybox_store::{
    Arrival, Change, Digest, Error, GcOptions, GcPlan, Image, ImportOptions, Object, Store, Use,
    WhyGone, no_uses,
};

use crate::support::{Archive, Layout, Scratch, allocated, digest};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn tar(content: &str) -> Vec<u8> {
    Archive::new().file("f", content.as_bytes()).finish()
}

fn now() -> GcOptions {
    GcOptions::at(SystemTime::now())
}

fn unused_for(days: u32) -> GcOptions {
    GcOptions {
        unused_for: Some(DAY * days),
        ..now()
    }
}

fn keep(bytes: u64) -> GcOptions {
    GcOptions {
        keep_bytes: Some(bytes),
        ..now()
    }
}

fn blob(store: &Store, digest: Digest) -> PathBuf {
    store.root().join("blobs/sha256").join(digest.hex())
}

fn partial(store: &Store, digest: Digest) -> PathBuf {
    let name = format!("{}.partial", digest.hex());
    store.root().join("ingest").join(name)
}

/// Makes a file's last use lie some days in the past.
fn age(path: &Path, days: u32) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - DAY * days).unwrap();
}

fn last_used(store: &Store, image: &Image, days: u32) {
    age(&blob(store, image.manifest), days);
}

/// An image of a shared base and a layer of its own.
fn on_base(scratch: &Scratch, name: &str) -> Image {
    let layout = Layout(scratch.store.root());
    let layers = [tar("the base"), tar(name)];
    layout.enter(layout.image("linux/amd64", &layers), name);
    let image = scratch.store.find(name).unwrap();
    drop(scratch.store.stack(&image).unwrap());
    image
}

fn plan(scratch: &Scratch, options: &GcOptions) -> GcPlan {
    scratch.store.gc_plan(&no_uses, options).unwrap().0
}

fn names(plan: &GcPlan) -> Vec<&str> {
    let names = plan.images.iter().flat_map(|image| &image.names);
    names.map(|name| name.rsplit('/').next().unwrap()).collect()
}

/// Bytes of the whole store.
fn size(scratch: &Scratch) -> u64 {
    allocated(scratch.store.root())
}

/// Collects, and checks that exactly what was promised is given back.
#[track_caller]
fn collect(scratch: &Scratch, options: &GcOptions) -> GcPlan {
    let promised = plan(scratch, options).frees();
    let before = size(scratch);
    let collected = scratch.store.gc(&no_uses, options).unwrap();
    assert_eq!(collected.freed_bytes, promised);
    assert_eq!(before - size(scratch), promised);
    assert_eq!(collected.left, []);
    collected.plan
}

fn usable(scratch: &Scratch, name: &str) -> bool {
    let image = scratch.store.find(name);
    image.is_ok_and(|image| scratch.store.stack(&image).is_ok())
}

#[test]
fn a_store_in_which_everything_is_needed_is_left_as_it_is() {
    let scratch = Scratch::new();
    on_base(&scratch, "a:1");
    scratch.import_as(&tar("b"), "b");
    let before = scratch.leftovers();
    assert!(plan(&scratch, &now()).is_empty());
    assert!(collect(&scratch, &now()).is_empty());
    assert_eq!(scratch.leftovers(), before);
}

#[test]
fn what_no_image_needs_goes() {
    let scratch = Scratch::new();
    let layout = Layout(scratch.store.root());
    on_base(&scratch, "a:1");
    let before = scratch.leftovers().len();
    let lost = scratch.import_as(&tar("lost"), "lost");
    layout.blob("x", b"a blob of nobody's");
    // As if a process had been killed between index.json and the objects.
    let path = scratch.store.root().join("index.json");
    let mut index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let manifests = index["manifests"].as_array_mut().unwrap();
    manifests.retain(|entry| digest(entry) != lost.manifest);
    std::fs::write(&path, index.to_string()).unwrap();
    let plan = collect(&scratch, &now());
    assert_eq!(plan.objects.len(), 5);
    assert!(plan.objects.iter().all(|one| one.why == WhyGone::Unneeded));
    assert_eq!(scratch.leftovers().len(), before);
    assert!(usable(&scratch, "a:1"));
}

#[test]
fn untagged_images_go_unless_they_are_pinned_or_used() {
    let scratch = Scratch::new();
    let images: Vec<Image> = ["plain", "pinned", "container", "held"]
        .map(|name| scratch.import(&tar(name)).unwrap())
        .into();
    let [plain, pinned, container, held] = &images[..] else {
        unreachable!("four images")
    };
    scratch.store.pin(&pinned.id.hex(), true).unwrap();
    let uses = || {
        Ok(vec![Use {
            what: "web".to_owned(),
            manifest: container.manifest,
        }])
    };
    let stack = scratch.store.stack(held).unwrap();
    let gone = scratch.store.gc(&uses, &now()).unwrap().plan.images;
    assert_eq!(gone.len(), 1);
    assert_eq!(
        (gone[0].digest, &gone[0].why),
        (plain.manifest, &WhyGone::Untagged)
    );
    drop(stack);
    scratch.store.pin(&pinned.id.hex(), false).unwrap();
    assert_eq!(collect(&scratch, &now()).images.len(), 3);
    assert!(scratch.leftovers().is_empty(), "{:?}", scratch.leftovers());
}

#[test]
fn images_go_by_their_last_use_and_not_by_their_age() {
    let scratch = Scratch::new();
    let old = on_base(&scratch, "old:1");
    let run = on_base(&scratch, "run:1");
    let pinned = on_base(&scratch, "pinned:1");
    on_base(&scratch, "new:1");
    for image in [&old, &run, &pinned] {
        last_used(&scratch.store, image, 40);
    }
    drop(scratch.store.stack(&run).unwrap());
    scratch.store.pin("pinned:1", true).unwrap();
    assert!(plan(&scratch, &unused_for(50)).is_empty());
    let plan = collect(&scratch, &unused_for(30));
    assert_eq!(names(&plan), ["old:1"]);
    // Manifest, config, blob and tree of its own layer: the base is others' too.
    assert_eq!(plan.objects.len(), 4);
    assert!(!usable(&scratch, "old:1"));
    for name in ["run:1", "pinned:1", "new:1"] {
        assert!(usable(&scratch, name), "{name}");
    }
}

#[test]
fn a_shared_layer_goes_with_the_last_image_that_has_it() {
    let scratch = Scratch::new();
    for name in ["a:1", "b:1"] {
        let image = on_base(&scratch, name);
        last_used(&scratch.store, &image, 40);
    }
    let plan = collect(&scratch, &unused_for(30));
    let objects =
        |kind: fn(&Object) -> bool| plan.objects.iter().filter(|one| kind(&one.object)).count();
    assert_eq!(objects(|one| matches!(one, Object::Layer(_))), 3);
    assert_eq!(objects(|one| matches!(one, Object::Blob(_))), 7);
    assert!(scratch.leftovers().is_empty());
}

#[test]
fn the_store_is_kept_to_a_size_at_the_cost_of_what_was_used_longest_ago() {
    let scratch = Scratch::new();
    for (name, days) in [("c:1", 3), ("a:1", 5), ("b:1", 4), ("e:1", 1), ("d:1", 2)] {
        let image = on_base(&scratch, name);
        last_used(&scratch.store, &image, days);
    }
    let all = size(&scratch);
    assert!(plan(&scratch, &keep(all)).is_empty());
    let one_less = plan(&scratch, &keep(all - 1));
    assert_eq!(names(&one_less), ["a:1"]);
    let own = one_less.frees();
    let plan = collect(&scratch, &keep(all - own - 1));
    assert_eq!(names(&plan), ["a:1", "b:1"]);
    assert!(size(&scratch) < all - own);
    assert_eq!(plan.beyond_limit(), 0);
    // The oldest of those left is in use, the next is pinned.
    scratch.store.pin("d:1", true).unwrap();
    let stack = scratch.store.stack(&scratch.store.find("c:1").unwrap());
    last_used(&scratch.store, &scratch.store.find("c:1").unwrap(), 30);
    let plan = collect(&scratch, &keep(1));
    assert_eq!(names(&plan), ["e:1"]);
    assert_eq!(plan.beyond_limit(), size(&scratch) - 1);
    drop(stack);
}

#[test]
fn downloads_go_a_day_after_they_were_broken_off_and_never_while_they_go_on() {
    let scratch = Scratch::new();
    let begin = |content: &[u8]| {
        let arrival = scratch
            .store
            .expect_blob::<Error>(Digest::of(content), 100_000, |_| Ok(()));
        let Ok(Arrival::Missing(mut download)) = arrival else {
            panic!("nobody else fetches it")
        };
        download.write(&[7; 10_000]).unwrap();
        download
    };
    let path = |content: &[u8]| partial(&scratch.store, Digest::of(content));
    let going_on = begin(b"going on");
    for content in [&b"fresh"[..], b"old"] {
        drop(begin(content));
    }
    age(&path(b"old"), 2);
    age(&path(b"going on"), 2);
    let plan = collect(&scratch, &now());
    let [gone] = &plan.objects[..] else {
        panic!("{plan:?}")
    };
    assert_eq!(gone.object, Object::Partial(Digest::of(b"old")));
    assert_eq!(gone.why, WhyGone::BrokenOff);
    // To keep to a size even a fresh one can go.
    let plan = collect(&scratch, &keep(1));
    assert_eq!(plan.objects.len(), 1);
    assert!(!path(b"fresh").exists());
    assert!(path(b"going on").exists());
    drop(going_on);
}

#[test]
fn what_a_pull_has_brought_and_not_yet_named_stays() {
    let scratch = Scratch::new();
    let held = scratch.store.put_document(b"{\"a\":\"config\"}").unwrap();
    assert!(collect(&scratch, &now()).is_empty());
    drop(held);
    assert_eq!(collect(&scratch, &now()).objects.len(), 1);
}

#[test]
fn while_an_entry_cannot_be_read_nothing_that_it_may_need_goes() {
    let scratch = Scratch::new();
    let image = on_base(&scratch, "a:1");
    let untagged = scratch.import(&tar("untagged")).unwrap();
    let manifest = blob(&scratch.store, image.manifest);
    let good = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, b"{}").unwrap();
    let before = scratch.leftovers();
    for options in [now(), unused_for(0), keep(1)] {
        assert!(collect(&scratch, &options).is_empty());
    }
    assert_eq!(scratch.leftovers(), before);
    std::fs::write(&manifest, good).unwrap();
    assert_eq!(
        collect(&scratch, &now()).images[0].digest,
        untagged.manifest
    );
}

#[test]
fn an_image_that_only_a_container_knows_keeps_its_layers() {
    let scratch = Scratch::new();
    let image = on_base(&scratch, "a:1");
    let path = scratch.store.root().join("index.json");
    std::fs::write(path, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    let uses = || {
        Ok(vec![Use {
            what: "web".to_owned(),
            manifest: image.manifest,
        }])
    };
    let (plan, survey) = scratch.store.gc_plan(&uses, &unused_for(0)).unwrap();
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!(survey.unlisted[0].layers, image.layers);
    assert_eq!(collect(&scratch, &now()).objects.len(), 6);
}

#[test]
fn a_container_that_begins_while_gc_works_keeps_its_image() {
    let scratch = Scratch::new();
    let image = scratch.import(&tar("x")).unwrap();
    // The first time nobody is there; a moment later there is.
    let asked = std::cell::Cell::new(0);
    let uses = || {
        asked.set(asked.get() + 1);
        let there = asked.get() > 1;
        Ok(there
            .then(|| Use {
                what: "web".to_owned(),
                manifest: image.manifest,
            })
            .into_iter()
            .collect())
    };
    let collected = scratch.store.gc(&uses, &now()).unwrap();
    assert!(collected.plan.is_empty(), "{collected:?}");
    assert!(usable(&scratch, &image.id.hex()));
}

#[test]
fn a_plan_is_carried_out_exactly() {
    let scratch = Scratch::new();
    let old = on_base(&scratch, "old:1");
    on_base(&scratch, "new:1");
    last_used(&scratch.store, &old, 40);
    let plan = plan(&scratch, &unused_for(30));
    scratch.store.keep_plan(&plan).unwrap();
    // What has become garbage since is not in the plan.
    let untagged = scratch.import(&tar("untagged")).unwrap();
    let before = size(&scratch);
    let collected = scratch.store.gc_apply(&no_uses, &plan.id()).unwrap();
    assert_eq!(collected.plan, plan);
    assert_eq!(collected.freed_bytes, plan.frees());
    // The plan itself goes as well.
    let itself = before - size(&scratch) - plan.frees();
    assert!((1..=32768).contains(&itself), "{itself}");
    assert!(usable(&scratch, "new:1") && usable(&scratch, &untagged.id.hex()));
    assert!(!usable(&scratch, "old:1"));
    let again = scratch.store.gc_apply(&no_uses, &plan.id());
    assert!(matches!(again, Err(Error::NoSuchPlan { .. })), "{again:?}");
}

#[test]
fn a_plan_one_of_whose_objects_is_needed_by_now_removes_nothing() {
    type Event = fn(&Scratch, &Image) -> Option<mybox_store::Stack>;
    let cases: [(&str, Event); 6] = [
        ("used since", |scratch, image| {
            drop(scratch.store.stack(image).unwrap());
            None
        }),
        ("is called", |scratch, image| {
            let name = "another".parse().unwrap();
            scratch.store.tag(image, &name).unwrap();
            None
        }),
        ("pinned", |scratch, _| {
            scratch.store.pin("old:1", true).unwrap();
            None
        }),
        ("in use", |scratch, image| {
            let stack = scratch.store.stack(image).unwrap();
            last_used(&scratch.store, image, 40);
            Some(stack)
        }),
        ("needs it now", |scratch, _| {
            // Another image with the very layer.
            let options = ImportOptions {
                reference: Some("other".parse().unwrap()),
                changes: vec![Change::parse("CMD [\"sh\"]").unwrap()],
                ..ImportOptions::default()
            };
            scratch.import_with(&tar("old:1"), &options).unwrap();
            None
        }),
        ("cannot be read", |scratch, _| {
            let other = scratch.store.find("other:1").unwrap();
            std::fs::write(blob(&scratch.store, other.manifest), "{}").unwrap();
            None
        }),
    ];
    for (says, event) in cases {
        let scratch = Scratch::new();
        on_base(&scratch, "other:1");
        let old = on_base(&scratch, "old:1");
        let garbage = Layout(scratch.store.root()).blob("x", b"garbage");
        last_used(&scratch.store, &old, 40);
        let plan = plan(&scratch, &unused_for(30));
        assert_eq!(names(&plan), ["old:1"]);
        scratch.store.keep_plan(&plan).unwrap();
        let held = event(&scratch, &old);
        let before = scratch.leftovers();
        let error = scratch.store.gc_apply(&no_uses, &plan.id()).unwrap_err();
        assert!(matches!(error, Error::StalePlan { .. }), "{error}");
        let error = error.to_string();
        assert!(
            error.contains(says) && error.contains("nothing was removed"),
            "{error}"
        );
        assert_eq!(scratch.leftovers(), before);
        assert!(blob(&scratch.store, digest(&garbage)).exists());
        drop(held);
    }
    let scratch = Scratch::new();
    let image = scratch.import(&tar("x")).unwrap();
    let plan = plan(&scratch, &now());
    scratch.store.keep_plan(&plan).unwrap();
    let uses = || {
        Ok(vec![Use {
            what: "web".to_owned(),
            manifest: image.manifest,
        }])
    };
    let error = scratch.store.gc_apply(&uses, &plan.id()).unwrap_err();
    assert!(error.to_string().contains("web uses it now"), "{error}");
}

#[test]
fn plans_are_kept_for_a_day_and_believed_only_if_they_are_whole() {
    let scratch = Scratch::new();
    scratch.import(&tar("x")).unwrap();
    let plan = plan(&scratch, &now());
    scratch.store.keep_plan(&plan).unwrap();
    let path = scratch
        .store
        .root()
        .join(format!("ingest/plan-{}.json", plan.id()));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("untagged", "unneeded")).unwrap();
    let error = scratch.store.gc_apply(&no_uses, &plan.id()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    scratch.store.keep_plan(&plan).unwrap();
    for bad in ["", "../index", "0123456789abcdef", "zz"] {
        let error = scratch.store.gc_apply(&no_uses, bad).unwrap_err();
        assert!(matches!(error, Error::NoSuchPlan { .. }), "{bad}: {error}");
    }
    Store::open(scratch.store.root()).unwrap();
    assert!(path.exists());
    age(&path, 2);
    Store::open(scratch.store.root()).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_plan_is_called_by_what_is_in_it() {
    let scratch = Scratch::new();
    scratch.import(&tar("x")).unwrap();
    let one = plan(&scratch, &now());
    assert!(!one.is_empty());
    assert_eq!(plan(&scratch, &now()), one);
    assert_eq!(plan(&scratch, &now()).id(), one.id());
}

#[test]
fn what_is_not_meant_stays_whatever_else_would_go() {
    let scratch = Scratch::new();
    let (old, new) = (on_base(&scratch, "old:1"), on_base(&scratch, "new:1"));
    last_used(&scratch.store, &old, 2);
    let lost = scratch
        .store
        .root()
        .join("blobs/sha256")
        .join("1".repeat(64));
    std::fs::write(lost, "nobody's").unwrap();
    let unused = || GcOptions {
        images_alone: true,
        ..unused_for(0)
    };
    let all = plan(&scratch, &unused());
    assert_eq!(names(&all).len(), 2);
    let loose = |plan: &GcPlan| plan.objects.iter().any(|one| one.why == WhyGone::Unneeded);
    assert!(!loose(&all) && loose(&plan(&scratch, &unused_for(0))));
    let only = GcOptions {
        only: Some([new.entry()].into()),
        ..unused()
    };
    assert_eq!(names(&plan(&scratch, &only)).len(), 1);
    let before = GcOptions {
        used_before: Some(SystemTime::now() - DAY),
        ..unused()
    };
    let before = plan(&scratch, &before);
    assert_eq!(before.images.len(), 1);
    assert_eq!(before.images[0].digest, old.entry());
}
