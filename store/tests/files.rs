//! Files of an image as a tar, out of its layers.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use mybox_store::{Image, LayerForm, Store};

use crate::support::{Archive, Raw, Scratch};

/// A directory of an image as a tar.
fn packed(store: &Store, image: &Image, directory: &str) -> Vec<u8> {
    let files = store.image_files(image).unwrap();
    let found = files.find(directory.as_bytes(), false).unwrap().unwrap();
    let mut tar = Vec::new();
    let name = Some(directory.as_bytes());
    files
        .pack(&found, name, &mut tar, &mut |warning| panic!("{warning:?}"))
        .unwrap();
    tar
}

/// What tar(1) prints.
fn tar(arguments: &[&str], archive: &[u8]) -> String {
    let mut child = Command::new("tar")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), archive).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_directory_of_an_image_comes_directly_before_what_is_in_it() {
    for form in [LayerForm::Unpacked, LayerForm::Indexed] {
        let scratch = Scratch::with_layer_form(form);
        let layer = Archive::new()
            .directory("d/", 0o755)
            .directory("d/Carp/", 0o755)
            .file("d/Carp/Heavy.pm", b"heavy")
            .file("d/Carp.pm", b"carp");
        let image = scratch.import_as(&layer.finish(), "app");
        let archive = packed(&scratch.store, &image, "d");
        assert_eq!(
            tar(&["-t"], &archive),
            "d/\nd/Carp/\nd/Carp/Heavy.pm\nd/Carp.pm\n"
        );
        let here = scratch.path("here");
        std::fs::create_dir(&here).unwrap();
        tar(&["-x", "-C", here.to_str().unwrap()], &archive);
        let times = ["d", "d/Carp"].map(|name| here.join(name).metadata().unwrap().mtime());
        assert_eq!(times, [1_000_000_000; 2]);
    }
}

#[test]
fn whatever_an_image_has_under_two_names_has_two_names_in_a_tar() {
    let node = |name: &'static str, kind, device| Raw {
        name: name.as_bytes(),
        kind,
        device,
        ..Raw::default()
    };
    for form in [LayerForm::Unpacked, LayerForm::Indexed] {
        let scratch = Scratch::with_layer_form(form);
        let layer = Archive::new()
            .directory("d/", 0o755)
            .raw(&node("d/fifo", b'6', (0, 0)))
            .raw(&node("d/device", b'3', (1, 3)))
            .symlink("d/link", "file")
            .file("d/file", b"content")
            .hardlink("d/fifo2", "d/fifo")
            .hardlink("d/device2", "d/device")
            .hardlink("d/link2", "d/link")
            .hardlink("d/file2", "d/file")
            .raw(&node("d/other-fifo", b'6', (0, 0)));
        let image = scratch.import_as(&layer.finish(), "app");
        let here = scratch.path("here");
        std::fs::create_dir(&here).unwrap();
        let archive = packed(&scratch.store, &image, "d");
        tar(&["-x", "-C", here.to_str().unwrap()], &archive);
        let inode = |name: &str| {
            let metadata = here.join("d").join(name).symlink_metadata().unwrap();
            (metadata.ino(), metadata.nlink())
        };
        for name in ["fifo", "device", "link", "file"] {
            assert_eq!(inode(name), inode(&format!("{name}2")), "{form}: {name}");
            assert_eq!(inode(name).1, 2, "{form}: {name}");
        }
        assert_eq!(inode("other-fifo").1, 1);
    }
}
