//! Images in files: what is saved is loaded as it was, whatever the format, and what is wrong in an
//! archive leaves nothing behind.

use std::io::Write;
use std::process::{Command, Stdio};

use mybox_store::{ArchiveFormat, Digest, LayerForm, Loaded, Platform, Store};
use serde_json::{Value, json};

use crate::support::{Archive, Layout, Raw, Scratch, chain, digest};
use crate::verify::clean;

const FORMATS: [ArchiveFormat; 2] = [ArchiveFormat::Oci, ArchiveFormat::Docker];

fn tar(content: &str) -> Vec<u8> {
    Archive::new()
        .directory("d/", 0o755)
        .file("d/f", content.as_bytes())
        .symlink("d/l", "f")
        .finish()
}

#[track_caller]
fn save(store: &Store, names: &[&str], format: ArchiveFormat) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut archive = Vec::new();
    store
        .save(&names, format, &mut archive)
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    archive
}

fn load(store: &Store, mut archive: &[u8]) -> Result<Vec<Loaded>, mybox_store::Error> {
    store.load(&mut archive, "test.tar", &mut |_| {})
}

#[track_caller]
fn loads(store: &Store, archive: &[u8]) -> Vec<Loaded> {
    load(store, archive).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// Asserts that an archive is refused with these words, and that nothing of it stays.
#[track_caller]
fn refuses(archive: &[u8], says: &str) {
    let scratch = Scratch::new();
    let error = chain(&load(&scratch.store, archive).expect_err("it should be refused"));
    assert!(error.contains(says), "{error:?} does not say {says:?}");
    let left = scratch.leftovers();
    assert!(left.is_empty(), "left after {error}: {left:?}");
    assert!(scratch.store.images().unwrap().is_empty());
}

fn filter(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect(program);
    let mut input = child.stdin.take().expect("a pipe");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().expect("an output");
    writer.join().expect("a thread").expect("it reads");
    output.stdout
}

/// An image of compressed layers, as a registry would have sent it.
fn compressed(store: &Store, name: &str) -> Digest {
    let layout = Layout(store.root());
    let tars = [tar("one"), tar("two"), tar("one")];
    let [gzip, zstd] = ["gzip", "zstd"].map(|program| {
        layout.blob(
            &format!("application/vnd.oci.image.layer.v1.tar+{program}"),
            &filter(program, &tars[usize::from(program == "zstd")]),
        )
    });
    let diff_ids: Vec<String> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
    let config = json!({
        "os": "linux", "architecture": Platform::host().architecture, "unknown": ["kept"],
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = layout.blob(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let manifest = layout.manifest(&json!({
        "schemaVersion": 2, "config": config, "layers": [gzip, zstd, gzip],
        "annotations": { "some": "thing" },
    }));
    layout.enter(manifest.clone(), name);
    digest(&manifest)
}

#[test]
fn what_is_saved_is_loaded_with_the_same_id_name_and_tree() {
    let scratch = Scratch::new();
    let imported = scratch.import_as(&tar("imported"), "imported:1");
    let manifest = compressed(&scratch.store, "pulled:2");
    let pulled = scratch.store.find("pulled:2").unwrap();
    for format in FORMATS {
        let archive = save(&scratch.store, &["imported:1", "pulled:2"], format);
        assert_eq!(
            archive,
            save(&scratch.store, &["imported:1", "pulled:2"], format),
            "the same images give the same bytes"
        );
        let other = Scratch::new();
        let loaded = loads(&other.store, &archive);
        let ids: Vec<Digest> = loaded.iter().map(|loaded| loaded.id).collect();
        assert_eq!(ids, [imported.id, pulled.id], "{format}");
        let found = other.store.find("pulled:2").unwrap();
        assert_eq!(found.config_bytes(), pulled.config_bytes());
        assert_eq!(found.layers, pulled.layers);
        if format == ArchiveFormat::Oci {
            assert_eq!(found.manifest, manifest);
        }
        let stack = other.store.stack(&found).unwrap();
        let tops = stack
            .layers()
            .iter()
            .map(|layer| layer.file().path.join("d/f"));
        let contents: Vec<Vec<u8>> = tops.map(|path| std::fs::read(path).unwrap()).collect();
        // A layer that an image has twice is mounted once, where it counts.
        assert_eq!(contents, [b"two".to_vec(), b"one".to_vec()]);
        let verified = other.store.verify(&Default::default(), &mut |event| {
            panic!("{event:?}");
        });
        assert_eq!(verified.unwrap().layers, 3, "{format}");
    }
}

#[test]
fn a_blob_of_another_size_is_replaced_by_that_of_an_archive() {
    for form in [LayerForm::Unpacked, LayerForm::Indexed] {
        let scratch = Scratch::with_layer_form(form);
        let image = scratch.import_as(&tar("content"), "app");
        let archive = save(&scratch.store, &["app"], ArchiveFormat::Oci);
        for blob in [image.manifest, image.id, image.layers[0].digest()] {
            let path = scratch.store.root().join("blobs/sha256").join(blob.hex());
            let good = std::fs::read(&path).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(100).unwrap();
            loads(&scratch.store, &archive);
            assert_eq!(std::fs::read(&path).unwrap(), good);
            assert_eq!(file.metadata().unwrap().len(), 100, "it was written to");
            clean(&scratch.store);
        }
    }
}

#[test]
fn archives_are_loaded_plain_and_compressed() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("imported"), "app");
    for format in FORMATS {
        let archive = save(&scratch.store, &["app"], format);
        for program in ["gzip", "zstd", "xz", "bzip2"] {
            let other = Scratch::new();
            let loaded = loads(&other.store, &filter(program, &archive));
            assert_eq!(loaded[0].id, image.id, "{format} {program}");
        }
    }
}

#[test]
fn names_are_those_it_was_asked_for_by() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("x"), "one:1");
    scratch
        .store
        .tag(&image, &"two:2".parse().unwrap())
        .unwrap();
    for format in FORMATS {
        let names = |asked: &[&str]| -> Vec<Option<String>> {
            let other = Scratch::new();
            let loaded = loads(&other.store, &save(&scratch.store, asked, format));
            let names = loaded.iter().map(|one| one.reference.as_ref());
            names.map(|name| name.map(ToString::to_string)).collect()
        };
        let [one, two] = ["one:1", "two:2"].map(|name| Some(format!("docker.io/library/{name}")));
        assert_eq!(names(&["one:1"]), std::slice::from_ref(&one));
        assert_eq!(names(&["two:2", "one:1"]), [two, one]);
        assert_eq!(names(&[&image.id.short()]), [None]);
    }
}

#[test]
fn loading_again_changes_nothing_and_a_name_moves_to_what_is_loaded() {
    let scratch = Scratch::new();
    scratch.import_as(&tar("old"), "app");
    let other = Scratch::new();
    let old = other.import_as(&tar("something else"), "app");
    let archive = save(&scratch.store, &["app"], ArchiveFormat::Oci);
    let first = loads(&other.store, &archive);
    let before = other.leftovers();
    assert_eq!(loads(&other.store, &archive), first);
    assert_eq!(other.leftovers().len(), before.len());
    assert_eq!(other.store.find("app").unwrap().id, first[0].id);
    assert!(
        other
            .store
            .find(&old.id.hex())
            .unwrap()
            .references
            .is_empty()
    );
}

#[test]
fn an_index_keeps_the_platforms_that_are_there() {
    let scratch = Scratch::new();
    let layout = Layout(scratch.store.root());
    let host = layout.image(&Platform::host().to_string(), &[tar("host")]);
    let other = layout.image("linux/s390x", &[tar("other")]);
    let statement = layout.blob("application/vnd.in-toto+json", b"a statement");
    let config = layout.blob("application/vnd.oci.image.config.v1+json", b"{}");
    let mut attestation = layout.manifest(&json!({
        "schemaVersion": 2, "config": config, "layers": [statement],
    }));
    attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    let absent = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::of(b"absent").to_string(), "size": 6,
        "platform": { "os": "linux", "architecture": "ppc64le" },
    });
    let nested = layout.index(&[host.clone(), attestation.clone(), absent]);
    let index = layout.index(&[other.clone(), nested]);
    layout.enter(index.clone(), "multi:1");
    let archive = save(&scratch.store, &["multi:1"], ArchiveFormat::Oci);
    let target = Scratch::new();
    let loaded = loads(&target.store, &archive);
    assert_eq!(loaded[0].digest, digest(&index));
    let found = target.store.find("multi:1").unwrap();
    assert_eq!(found.manifest, digest(&host));
    let s390x = "linux/s390x".parse().unwrap();
    let found = target.store.find_for("multi:1", Some(&s390x)).unwrap();
    assert_eq!(found.manifest, digest(&other));
    for document in [&attestation, &statement] {
        let name = digest(document).hex();
        assert!(target.store.root().join("blobs/sha256").join(name).exists());
    }
    // Docker's format has no indexes: the image for this machine.
    let archive = save(&scratch.store, &["multi:1"], ArchiveFormat::Docker);
    let target = Scratch::new();
    loads(&target.store, &archive);
    let platforms: Vec<Platform> = target
        .store
        .images()
        .unwrap()
        .into_iter()
        .map(|one| one.platform)
        .collect();
    assert_eq!(platforms, [Platform::host()]);
}

#[test]
fn indexes_that_share_images_are_loaded_under_all_their_names() {
    let scratch = Scratch::new();
    let layout = Layout(scratch.store.root());
    let host = layout.image(&Platform::host().to_string(), &[tar("host")]);
    let other = layout.image("linux/s390x", &[tar("other")]);
    let both = layout.index(&[host.clone(), other]);
    for name in ["multi:1", "multi:2"] {
        layout.enter(both.clone(), name);
    }
    layout.enter(layout.index(&[host]), "multi:3");
    let names = ["multi:1", "multi:2", "multi:3"];
    let archive = save(&scratch.store, &names, ArchiveFormat::Oci);
    let target = Scratch::new();
    loads(&target.store, &archive);
    for name in names {
        let found = target.store.find(name).unwrap().manifest;
        assert_eq!(found, scratch.store.find(name).unwrap().manifest, "{name}");
    }
}

/// A legacy archive of docker's: directories for layers, links between them.
fn legacy(layer: &[u8], config: &Value, link: &str) -> Archive {
    let config_text = config.to_string();
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": ["legacy:1"],
        "Layers": ["one/layer.tar", "two/layer.tar"],
    }]);
    Archive::new()
        .directory("one/", 0o755)
        .file("one/VERSION", b"1.0")
        .file("one/json", b"{}")
        .file("one/layer.tar", layer)
        .symlink("two/layer.tar", link)
        .file("config.json", config_text.as_bytes())
        .file("repositories", b"{}")
        .file("manifest.json", manifest.to_string().as_bytes())
}

fn config_of(layers: &[Digest]) -> Value {
    let layers: Vec<String> = layers.iter().map(ToString::to_string).collect();
    json!({
        "os": "linux", "architecture": Platform::host().architecture,
        "rootfs": { "type": "layers", "diff_ids": layers },
    })
}

#[test]
fn dockers_older_archives_are_loaded_with_their_links() {
    let layer = tar("shared");
    let config = config_of(&[Digest::of(&layer), Digest::of(&layer)]);
    let scratch = Scratch::new();
    let archive = legacy(&layer, &config, "../one/layer.tar").finish();
    let loaded = loads(&scratch.store, &archive);
    assert_eq!(loaded[0].id, Digest::of(config.to_string().as_bytes()));
    assert_eq!(scratch.store.find("legacy:1").unwrap().layers.len(), 2);
    // Layers may be compressed there, too.
    let archive = legacy(&filter("gzip", &layer), &config, "../one/layer.tar").finish();
    let scratch = Scratch::new();
    assert_eq!(loads(&scratch.store, &archive)[0].id, loaded[0].id);
}

#[test]
fn archives_that_lie_are_refused_and_leave_nothing() {
    let layer = tar("shared");
    let right = Digest::of(&layer);
    let good = config_of(&[right, right]);
    let wrong = config_of(&[right, Digest::of(b"something else")]);
    let short = config_of(&[right]);
    refuses(
        &legacy(&layer, &wrong, "../one/layer.tar").finish(),
        "diff id",
    );
    refuses(
        &legacy(&layer, &short, "../one/layer.tar").finish(),
        "diff ids",
    );
    refuses(
        &legacy(&layer, &good, "../../../etc/passwd").finish(),
        "out of the archive",
    );
    refuses(
        &legacy(&layer, &good, "/etc/passwd").finish(),
        "out of the archive",
    );
    refuses(
        &legacy(&layer, &good, "layer.tar").finish(),
        "two/layer.tar",
    );
    refuses(
        &legacy(&layer, &good, "../nowhere").finish(),
        "two/layer.tar",
    );
    refuses(
        &legacy(b"no tar", &good, "../one/layer.tar").finish(),
        "tar",
    );
    refuses(
        &Archive::new().file("x", b"y").finish(),
        "no archive of images",
    );
    refuses(
        &Archive::new().file("manifest.json", b"[]").finish(),
        "no image in it",
    );
    refuses(&Archive::new().file("manifest.json", b"{").finish(), "JSON");
    refuses(b"", "");
    refuses(&[7; 4096], "");
    let fifo = Raw {
        name: b"manifest.json",
        kind: b'6',
        ..Raw::default()
    };
    refuses(&Archive::new().raw(&fifo).finish(), "a device");
    let big = vec![b' '; 5 << 20];
    refuses(
        &Archive::new().file("manifest.json", &big).finish(),
        "more than 4 MiB",
    );
}

/// An OCI archive whose parts can be spoiled one by one.
fn oci(spoil: impl Fn(&str, Vec<u8>) -> Option<(String, Vec<u8>)>) -> Vec<u8> {
    let scratch = Scratch::new();
    scratch.import_as(&tar("content"), "app");
    let good = save(&scratch.store, &["app"], ArchiveFormat::Oci);
    let mut archive = tar::Archive::new(&good[..]);
    let mut spoiled = Archive::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        if entry.header().entry_type().is_dir() {
            continue;
        }
        if let Some((name, bytes)) = spoil(&name, bytes) {
            spoiled = spoiled.file(&name, &bytes);
        }
    }
    spoiled.finish()
}

#[test]
fn an_artifact_beside_an_image_is_left_out_and_one_alone_is_no_image() {
    let source = Scratch::new();
    let layout = Layout(source.store.root());
    let config = layout.blob("application/vnd.cncf.helm.config.v1+json", b"{}");
    let chart = layout.manifest(&json!({
        "schemaVersion": 2, "config": config, "layers": [],
    }));
    let with_chart = |keep_image: bool| {
        let archive = oci(|name, bytes| {
            let mut index: Value = match name {
                "index.json" => serde_json::from_slice(&bytes).unwrap(),
                _ => return Some((name.to_owned(), bytes)),
            };
            let manifests = index["manifests"].as_array_mut().unwrap();
            manifests.retain(|_| keep_image);
            manifests.push(chart.clone());
            Some((name.to_owned(), index.to_string().into_bytes()))
        });
        let path = source.store.root().join("blobs/sha256");
        let file = |blob: &Value| {
            let hex = digest(blob).hex();
            let bytes = std::fs::read(path.join(&hex)).unwrap();
            (format!("blobs/sha256/{hex}"), bytes)
        };
        let mut extra = Archive::new();
        for blob in [&chart, &config] {
            let (name, bytes) = file(blob);
            extra = extra.file(&name, &bytes);
        }
        [&extra.cut()[..], &archive].concat()
    };
    let target = Scratch::new();
    let mut told = Vec::new();
    let archive = with_chart(true);
    let loaded = target
        .store
        .load(&mut &archive[..], "test.tar", &mut |progress| {
            if let mybox_store::Progress::Warning(warning) = progress {
                told.push(warning.to_string());
            }
        });
    assert_eq!(loaded.unwrap().len(), 1);
    assert!(told.len() == 1 && told[0].contains("helm"), "{told:?}");
    assert_eq!(target.store.images().unwrap().len(), 1);
    refuses(
        &with_chart(false),
        "an artifact of type application/vnd.cncf.helm",
    );
}

#[test]
fn an_unpacked_archive_is_loaded_like_the_archive() {
    for format in FORMATS {
        let scratch = Scratch::new();
        let image = scratch.import_as(&tar("content"), "app");
        let archive = save(&scratch.store, &["app"], format);
        let directory = scratch.path("unpacked");
        tar::Archive::new(&archive[..]).unpack(&directory).unwrap();
        let target = Scratch::new();
        let load = || target.store.load_directory(&directory, &mut |_| {});
        assert_eq!(load().unwrap()[0].id, image.id);
        clean(&target.store);
        std::os::unix::fs::symlink("/etc/passwd", directory.join("link")).unwrap();
        let error = chain(&load().unwrap_err());
        assert!(error.contains("out of the archive"), "{error}");
    }
}

#[test]
fn every_part_of_an_oci_archive_is_checked() {
    let same = |name: &str, bytes: Vec<u8>| Some((name.to_owned(), bytes));
    loads(&Scratch::new().store, &oci(same));
    // Each blob in turn is damaged, or left out.
    for number in 0..3 {
        let count = std::cell::Cell::new(0);
        let this = |name: &str| {
            let is_blob = name.starts_with("blobs/");
            is_blob && count.replace(count.get() + 1) == number
        };
        let damaged = oci(|name, mut bytes| {
            if this(name) {
                bytes[5] ^= 1;
            }
            same(name, bytes)
        });
        refuses(&damaged, "its bytes have sha256:");
        count.set(0);
        let missing = oci(|name, bytes| (!this(name)).then(|| (name.to_owned(), bytes)));
        refuses(&missing, "");
    }
    let lying = oci(|name, bytes| {
        let text = String::from_utf8_lossy(&bytes).replace("\"size\":", "\"size\":1");
        match name {
            "index.json" => same(name, text.into_bytes()),
            _ => same(name, bytes),
        }
    });
    refuses(&lying, "expected");
    let cut = oci(same);
    for length in [600, cut.len() / 2, cut.len() - 1400] {
        refuses(&cut[..length], "");
    }
    let cut = filter("gzip", &cut);
    refuses(&cut[..cut.len() / 2], "gzip");
}

#[test]
fn what_the_store_has_already_need_not_be_in_the_archive() {
    let scratch = Scratch::new();
    scratch.import_as(&tar("content"), "app");
    let without_layer = oci(|name, bytes| {
        let is_layer = Digest::of(&bytes) == Digest::of(&tar("content"));
        (!is_layer).then(|| (name.to_owned(), bytes))
    });
    assert_eq!(
        loads(&scratch.store, &without_layer)[0].id,
        scratch.store.find("app").unwrap().id
    );
    refuses(&without_layer, "");
}

#[test]
fn a_damaged_blob_is_not_saved_as_if_it_were_whole() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("content"), "app");
    let path = scratch
        .store
        .root()
        .join("blobs/sha256")
        .join(image.layers[0].hex());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[700] ^= 1;
    std::fs::write(path, bytes).unwrap();
    for format in FORMATS {
        let error = scratch
            .store
            .save(&["app".to_owned()], format, &mut Vec::new())
            .unwrap_err();
        assert!(chain(&error).contains("damaged"), "{error}");
    }
}

#[test]
fn images_that_are_being_saved_are_not_removed() {
    let scratch = Scratch::new();
    let image = scratch.import_as(&tar("content"), "app");
    let mut removing = Removing {
        scratch: &scratch,
        bytes: Vec::new(),
        removed: false,
    };
    scratch
        .store
        .save(&["app".to_owned()], ArchiveFormat::Oci, &mut removing)
        .unwrap();
    assert!(removing.removed);
    let other = Scratch::new();
    assert_eq!(loads(&other.store, &removing.bytes)[0].id, image.id);
}

/// Removes the image as soon as something of it is written.
struct Removing<'a> {
    scratch: &'a Scratch,
    bytes: Vec<u8>,
    removed: bool,
}

impl Write for Removing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.removed {
            self.removed = true;
            let store = Store::open(self.scratch.store.root()).unwrap();
            store.remove("app", true, &mybox_store::no_uses).unwrap();
        }
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
