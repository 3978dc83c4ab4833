//! Deletions of a layer, in overlayfs's form.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::support::{Archive, Raw, Scratch, xattr};

#[test]
fn a_whiteout_becomes_a_device_0_0() {
    let tar = Archive::new()
        .file("etc/.wh.passwd", b"")
        .file(".wh.top", b"")
        .finish();
    let tree = Scratch::new().kept(&tar);
    for name in ["etc/passwd", "top"] {
        assert!(tree.meta(name).file_type().is_char_device(), "{name}");
        assert_eq!(tree.meta(name).rdev(), 0);
    }
    assert!(!tree.path("etc/.wh.passwd").exists());
}

#[test]
fn an_opaque_mark_becomes_an_attribute() {
    let tar = Archive::new()
        .file("var/.wh..wh..opq", b"")
        .file("var/own", b"x")
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(
        xattr(&tree.path("var"), "trusted.overlay.opaque").unwrap(),
        b"y"
    );
    assert_eq!(tree.read("var/own"), b"x");
    assert_eq!(std::fs::read_dir(tree.path("var")).unwrap().count(), 1);
}

#[test]
fn a_whiteout_does_not_hide_what_its_own_layer_has() {
    let tar = Archive::new()
        .file("kept", b"x")
        .file(".wh.kept", b"")
        .file(".wh.later", b"")
        .file("later", b"y")
        .file(".wh.directory", b"")
        .directory("directory", 0o755)
        .file(".wh.implied", b"")
        .file("implied/in", b"z")
        .directory("first", 0o755)
        .file(".wh.first", b"")
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(
        (tree.read("kept"), tree.read("later")),
        (b"x".to_vec(), b"y".to_vec())
    );
    for name in ["directory", "implied", "first"] {
        assert!(tree.meta(name).is_dir());
        let opaque = xattr(&tree.path(name), "trusted.overlay.opaque");
        assert_eq!(
            opaque.as_deref(),
            Some(&b"y"[..]),
            "{name} lets the layers below through"
        );
    }
}

#[test]
fn aufs_metadata_is_left_out() {
    let tar = Archive::new()
        .directory(".wh..wh.plnk", 0o700)
        .file(".wh..wh.plnk/1.2", b"x")
        .file(".wh..wh.aufs", b"")
        .file("f", b"x")
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(std::fs::read_dir(tree.path("")).unwrap().count(), 1);
}

#[test]
fn overlayfs_attributes_of_the_input_are_not_believed() {
    let tar = Archive::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            (
                "SCHILY.xattr.security.selinux",
                b"system_u:object_r:etc_t:s0",
            ),
        ])
        .directory("d", 0o755)
        .finish();
    let tree = Scratch::new().kept(&tar);
    for name in [
        "trusted.overlay.redirect",
        "user.overlay.opaque",
        "security.selinux",
    ] {
        assert_eq!(xattr(&tree.path("d"), name), None, "{name}");
    }
}

#[test]
fn a_whiteout_of_nothing_is_refused() {
    let empty = Raw {
        name: b"a/.wh.",
        ..Raw::default()
    };
    Scratch::new().refuses(
        &Archive::new().raw(&empty).finish(),
        &["a/.wh.", "whiteout of nothing"],
    );
    let dots = Raw {
        name: b"a/.wh...",
        ..Raw::default()
    };
    Scratch::new().refuses(
        &Archive::new().raw(&dots).finish(),
        &["a/.wh...", "whiteout"],
    );
}
