//! Memory, sizes, and disks that are full.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use mybox_store::{ImportOptions, ImportSource};

use crate::support::{Archive, Raw, Scratch, chain, importer};

#[test]
fn a_bomb_stops_at_the_limit() {
    let scratch = Scratch::new();
    let options = ImportOptions {
        max_size: Some(5 << 20),
        ..ImportOptions::default()
    };
    let bomb = Command::new("sh")
        .args(["-c", "truncate -s 1G f && tar -cf - f | gzip -1"])
        .current_dir(scratch.directory.path())
        .output()
        .unwrap()
        .stdout;
    let error = scratch
        .import_with(&bomb, &options)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("test.tar") && error.contains("5242880"),
        "{error}"
    );
    assert!(scratch.leftovers().is_empty());
    let exact = Archive::new().file("f", &[0; 1024]).finish();
    let options = |limit| ImportOptions {
        max_size: Some(limit),
        ..ImportOptions::default()
    };
    scratch
        .import_with(&exact, &options(exact.len() as u64))
        .unwrap();
    assert!(
        scratch
            .import_with(&exact, &options(exact.len() as u64 - 1))
            .is_err()
    );
}

/// Runs the importer; the peak of its memory in KiB.
fn peak(scratch: &Scratch, source: &Path) -> u64 {
    let output = Command::new(importer())
        .arg(scratch.store.root())
        .arg(source)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("peak "))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn memory_stays_flat_whatever_is_imported() {
    let scratch = Scratch::new();
    let source = scratch.path("source");
    let script = r#"
        set -e; mkdir $0; cd $0; head -c 6M /dev/urandom > random; head -c 90M /dev/zero > zeros; truncate -s 300G sparse
        i=0; while [ $i -lt 10 ]; do
            d=$(printf '%02d' $i); mkdir -p $d/a/b/c
            seq -f "$d/a/b/c/a-rather-long-name-for-a-file-%g" 1 1000 | xargs touch; i=$((i+1))
        done
        tar --sparse -cf ../plain.tar .
        for pack in 'gzip -1' 'zstd --long=25' 'xz -8 -T1' 'bzip2 -1'; do
            set -- $pack
            tar -cf - --sparse . | $pack > "../$1.tar.packed"
        done
    "#;
    assert!(
        Command::new("sh")
            .args(["-c", script])
            .arg(&source)
            .status()
            .unwrap()
            .success()
    );
    let mut peaks = vec![("directory", peak(&scratch, &source))];
    for name in [
        "plain.tar",
        "gzip.tar.packed",
        "zstd.tar.packed",
        "xz.tar.packed",
        "bzip2.tar.packed",
    ] {
        peaks.push((name, peak(&scratch, &scratch.path(name))));
    }
    for (name, peak) in &peaks {
        assert!(*peak < 64 << 10, "{name}: {peak} KiB; all: {peaks:?}");
    }
    println!("peaks in KiB: {peaks:?}");
}

/// A header says 9 GiB: the reader believes it, and the archive stops early.
#[test]
fn a_file_over_8_gib_is_read_by_its_header() {
    let binary = Raw {
        name: b"binary",
        size: 9 << 30,
        ..Raw::default()
    };
    let tar = Archive::new().raw(&binary).bytes(b"start").finish();
    Scratch::new().refuses(&tar, &["binary", "stops in the middle of its data"]);
    let tar = Archive::new()
        .pax(&[("size", b"9663676416")])
        .file("pax", b"")
        .bytes(&[1; 4096])
        .finish();
    Scratch::new().refuses(&tar, &["pax", "stops in the middle of its data"]);
}

/// The real thing: 9 GiB of zeros through a pipe, into a layer.
#[test]
#[ignore = "writes 18 GiB; run it by name"]
fn a_file_of_9_gib_is_imported() {
    let scratch = Scratch::new();
    let header = Archive::new()
        .raw(&Raw {
            size: 9 << 30,
            ..Raw::default()
        })
        .cut();
    let mut reader = (&header[..]).chain(std::io::repeat(0).take((9 << 30) + 1024));
    let source = ImportSource::Stream {
        reader: &mut reader,
        name: "zeros",
        total: None,
    };
    let image = scratch
        .store
        .import(source, &ImportOptions::default(), &mut |_| {})
        .unwrap();
    let file = scratch.tree(&image).join("file");
    assert_eq!(file.metadata().unwrap().len(), 9 << 30);
}

#[test]
fn a_full_disk_is_said_so_and_leaves_nothing() {
    let scratch = Scratch::new();
    let source = scratch.path("source.tar");
    let mut archive = Archive::new();
    for number in 0..300 {
        archive = archive.file(&format!("f{number}"), &[number as u8; 10_000]);
    }
    std::fs::write(&source, archive.finish()).unwrap();
    // 2 MiB: the tar does not fit. 5 MiB: the tar fits, its tree does not; as 3 MiB and its index.
    let index_does_not = [("indexed", "2m"), ("indexed", "3100k")];
    for (form, size) in [("unpacked", "2m"), ("unpacked", "5m")]
        .into_iter()
        .chain(index_does_not)
    {
        let script = format!(
            "set -e; mkdir -p $0/small; mount -t tmpfs -o size={size} tmpfs $0/small
             LAYER_FORM={form} {} $0/small/store $0/source.tar && exit 9
             find $0/small/store/ingest $0/small/store/layers $0/small/store/blobs/sha256 -mindepth 1",
            importer().display()
        );
        let output = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", &script])
            .arg(scratch.directory.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        assert!(errors.contains("No space left on device"), "{errors}");
        assert!(
            ["store", "entry f", "layer"]
                .iter()
                .any(|it| errors.contains(it)),
            "{errors}"
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "",
            "left behind with {size}"
        );
    }
}

/// The disk is full at every step there is, one after the other: each time by one inode later.
#[test]
fn an_import_that_fails_at_any_step_leaves_nothing() {
    fails_at_any_step("unpacked", 5);
    fails_at_any_step("indexed", 3);
}

/// The number of times that there was a store and no room for the image.
fn fails_at_any_step(form: &str, at_least: usize) {
    let scratch = Scratch::new();
    let mut archive = Archive::new();
    for number in 0..5 {
        archive = archive.file(&format!("f{number}"), b"x");
    }
    std::fs::write(scratch.path("source.tar"), archive.finish()).unwrap();
    let script = format!(
        "mkdir -p $0/small; failed=0
         for inodes in $(seq 10 40); do
             mount -t tmpfs -o nr_inodes=$inodes tmpfs $0/small || exit 8
             if LAYER_FORM={form} {importer} $0/small/store $0/source.tar; then
                 [ $failed -ge {at_least} ]; exit
             fi
             if [ -e $0/small/store/mybox.json ]; then
                 failed=$((failed+1))
                 cd $0/small/store
                 find ingest layers blobs/sha256 -mindepth 1 | sed \"s/^/$inodes inodes: /\" >&2
                 [ $(find ingest layers blobs/sha256 -mindepth 1 | wc -l) = 0 ] || exit 7
                 cd /
             fi
             umount $0/small
         done; exit 6",
        importer = importer().display()
    );
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", &script])
        .arg(scratch.directory.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {errors}", output.status);
    assert!(errors.contains("No space left on device"), "{errors}");
}

#[test]
fn a_stream_that_fails_is_an_error_with_its_cause() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(5))
        }
    }
    let scratch = Scratch::new();
    let source = ImportSource::Stream {
        reader: &mut Failing,
        name: "tape",
        total: None,
    };
    let error = scratch
        .store
        .import(source, &ImportOptions::default(), &mut |_| {})
        .unwrap_err();
    let text = chain(&error);
    assert!(
        text.contains("tape") && text.contains("Input/output error"),
        "{text}"
    );
    assert!(scratch.leftovers().is_empty());
}

#[test]
fn a_pipe_that_comes_in_pieces_is_read_whole() {
    let scratch = Scratch::new();
    let tar = Archive::new().file("f", &[3; 100_000]).finish();
    let mut child = Command::new("gzip")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = tar.clone();
    let writer = std::thread::spawn(move || {
        for piece in bytes.chunks(777) {
            stdin.write_all(piece).unwrap();
        }
    });
    let mut reader = child.stdout.take().unwrap();
    let source = ImportSource::Stream {
        reader: &mut reader,
        name: "pipe",
        total: None,
    };
    let image = scratch
        .store
        .import(source, &ImportOptions::default(), &mut |_| {})
        .unwrap();
    writer.join().unwrap();
    child.wait().unwrap();
    assert_eq!(image.id, scratch.import(&tar).unwrap().id);
}
