//! What a tar says is what the layer is.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use crate::support::{Archive, Raw, Scratch, xattr};

#[test]
fn modes_keep_setuid_setgid_and_sticky() {
    let mut archive = Archive::new();
    for (name, mode) in [("u", 0o4755), ("g", 0o2755), ("t", 0o1644), ("none", 0o000)] {
        archive = archive.data(
            &Raw {
                name: name.as_bytes(),
                mode,
                ..Raw::default()
            },
            b"x",
        );
    }
    let tree = Scratch::new().kept(&archive.directory("tmp", 0o1777).finish());
    for (name, mode) in [
        ("u", 0o4755),
        ("g", 0o2755),
        ("t", 0o1644),
        ("none", 0),
        ("tmp", 0o1777),
    ] {
        assert_eq!(tree.meta(name).mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn setuid_survives_an_owner_other_than_root() {
    let raw = Raw {
        mode: 0o6755,
        uid: 1000,
        gid: 2000,
        ..Raw::default()
    };
    let tree = Scratch::new().kept(&Archive::new().data(&raw, b"x").finish());
    let meta = tree.meta("file");
    assert_eq!(
        (meta.mode() & 0o7777, meta.uid(), meta.gid()),
        (0o6755, 1000, 2000)
    );
}

#[test]
fn owners_beyond_two_million_come_in_base_256_and_in_pax() {
    let binary = Raw {
        name: b"binary",
        uid: 3_000_000,
        gid: 4_294_967_294,
        ..Raw::default()
    };
    let tar = Archive::new()
        .raw(&binary)
        .pax(&[("uid", b"3000001"), ("gid", b"4000000001")])
        .file("pax", b"")
        .finish();
    let tree = Scratch::new().kept(&tar);
    let owner = |name| (tree.meta(name).uid(), tree.meta(name).gid());
    assert_eq!(owner("binary"), (3_000_000, 4_294_967_294));
    assert_eq!(owner("pax"), (3_000_001, 4_000_000_001));
}

#[test]
fn times_are_kept_to_the_nanosecond() {
    let tar = Archive::new()
        .pax(&[("mtime", b"1234567890.123456789")])
        .file("late", b"")
        .pax(&[("mtime", b"-1.5")])
        .file("early", b"")
        .pax(&[("mtime", b"1234567890.000000001")])
        .symlink("link", "late")
        .finish();
    let tree = Scratch::new().kept(&tar);
    let time = |name| (tree.meta(name).mtime(), tree.meta(name).mtime_nsec());
    assert_eq!(time("late"), (1_234_567_890, 123_456_789));
    assert_eq!(time("early"), (-2, 500_000_000));
    assert_eq!(time("link"), (1_234_567_890, 1));
}

#[test]
fn directories_keep_their_times_whatever_is_made_in_them_later() {
    let directory = |archive: Archive, name: &str, mtime| {
        archive.raw(&Raw {
            name: name.as_bytes(),
            kind: b'5',
            mode: 0o755,
            mtime,
            ..Raw::default()
        })
    };
    let mut archive = directory(Archive::new(), "./", 77);
    for number in 0..100 {
        archive = directory(archive, &format!("d{number}"), 1000 + number);
        archive = directory(archive, &format!("d{number}/sub"), 2000 + number);
    }
    archive = archive.symlink("alias", "d5");
    for number in 0..100 {
        archive = archive
            .file(&format!("d{}/sub/f", 99 - number), b"x")
            .file(&format!("d{}/f", 99 - number), b"x")
            .file(&format!("alias/{number}"), b"x");
    }
    let tree = Scratch::new().kept(&archive.finish());
    assert_eq!(tree.meta("").mtime(), 77);
    for number in 0..100 {
        assert_eq!(
            tree.meta(&format!("d{number}")).mtime(),
            1000 + number,
            "d{number}"
        );
        assert_eq!(
            tree.meta(&format!("d{number}/sub")).mtime(),
            2000 + number,
            "d{number}/sub"
        );
    }
}

#[test]
fn hardlinks_are_one_inode_even_before_their_target() {
    let tar = Archive::new()
        .hardlink("before", "late/file")
        .hardlink("of-before", "./before")
        .file("late/file", b"content")
        .hardlink("after", "/late/file")
        .symlink("sym", "nowhere")
        .hardlink("of-sym", "sym")
        .finish();
    let tree = Scratch::new().kept(&tar);
    let inode = tree.meta("late/file").ino();
    for name in ["before", "of-before", "after"] {
        assert_eq!(tree.meta(name).ino(), inode, "{name}");
    }
    assert_eq!(tree.meta("late/file").nlink(), 4);
    assert_eq!(tree.meta("of-sym").ino(), tree.meta("sym").ino());
}

#[test]
fn fifos_and_devices_are_themselves() {
    let device = |name: &'static [u8], kind, device| Raw {
        name,
        kind,
        device,
        mode: 0o620,
        gid: 5,
        ..Raw::default()
    };
    let tar = Archive::new()
        .raw(&device(b"fifo", b'6', (0, 0)))
        .raw(&device(b"null", b'3', (1, 3)))
        .raw(&device(b"disk", b'4', (259, 70_000)))
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert!(tree.meta("fifo").file_type().is_fifo());
    assert!(tree.meta("null").file_type().is_char_device());
    assert!(tree.meta("disk").file_type().is_block_device());
    assert_eq!(tree.meta("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(tree.meta("disk").rdev(), rustix::fs::makedev(259, 70_000));
    for name in ["fifo", "null", "disk"] {
        let meta = tree.meta(name);
        assert_eq!(
            (meta.mode() & 0o7777, meta.gid(), meta.mtime()),
            (0o620, 5, 1_000_000_000)
        );
    }
}

/// What setcap writes for cap_net_raw=ep: revision 2, little-endian.
const CAPABILITY: &[u8] = &[
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
/// user::rw- user:1000:r-- group::r-- mask::r-- other::---
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 255, 255,
    255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];

#[test]
fn xattrs_capabilities_and_acls_are_kept() {
    let tar = Archive::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", CAPABILITY),
            ("SCHILY.xattr.user.note", b"a\0b\n"),
        ])
        .data(
            &Raw {
                name: b"ping",
                uid: 1,
                gid: 2,
                mode: 0o755,
                ..Raw::default()
            },
            b"x",
        )
        .pax(&[("SCHILY.xattr.system.posix_acl_access", ACL)])
        .data(
            &Raw {
                name: b"shared",
                mode: 0o640,
                ..Raw::default()
            },
            b"x",
        )
        .pax(&[(
            "SCHILY.acl.access",
            b"user::rw-,user:1000:r--,group::r--,mask::r--,other::---",
        )])
        .data(
            &Raw {
                name: b"text-acl",
                mode: 0o640,
                ..Raw::default()
            },
            b"x",
        )
        .pax(&[("LIBARCHIVE.xattr.user.b%20c", b"AAEC")])
        .directory("d", 0o750)
        .pax(&[("SCHILY.xattr.trusted.x", b"1")])
        .symlink("link", "d")
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(
        xattr(&tree.path("ping"), "security.capability").unwrap(),
        CAPABILITY
    );
    assert_eq!(xattr(&tree.path("ping"), "user.note").unwrap(), b"a\0b\n");
    assert_eq!(
        xattr(&tree.path("shared"), "system.posix_acl_access").unwrap(),
        ACL
    );
    assert_eq!(
        xattr(&tree.path("text-acl"), "system.posix_acl_access").unwrap(),
        ACL
    );
    assert_eq!(tree.meta("shared").mode() & 0o777, 0o640);
    assert_eq!(xattr(&tree.path("d"), "user.b c").unwrap(), [0, 1, 2]);
    assert_eq!(xattr(&tree.path("link"), "trusted.x").unwrap(), b"1");
}

#[test]
fn a_default_acl_does_not_leak_into_what_comes_after_it() {
    let tar = Archive::new()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", ACL)])
        .directory("d", 0o755)
        .file("d/f", b"x")
        .directory("d/sub", 0o700)
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(
        xattr(&tree.path("d"), "system.posix_acl_default").unwrap(),
        ACL
    );
    assert_eq!(xattr(&tree.path("d/f"), "system.posix_acl_access"), None);
    assert_eq!(xattr(&tree.path("d/sub"), "system.posix_acl_default"), None);
    assert_eq!(tree.meta("d/f").mode() & 0o777, 0o644);
}

#[test]
fn a_default_acl_is_gone_when_its_directory_is_described_anew() {
    let acl: &[(&str, &[u8])] = &[("SCHILY.xattr.system.posix_acl_default", ACL)];
    let tar = Archive::new()
        .pax(acl)
        .directory(".", 0o755)
        .pax(acl)
        .directory("d", 0o755)
        .symlink("link", ".")
        .directory("link/d", 0o755)
        .directory("./", 0o755)
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(xattr(&tree.path("d"), "system.posix_acl_default"), None);
    assert_eq!(xattr(&tree.path("."), "system.posix_acl_default"), None);
}

#[test]
fn a_default_acl_stays_when_the_symlink_that_led_to_its_directory_goes() {
    let tar = Archive::new()
        .directory("d", 0o755)
        .symlink("link", "d")
        .pax(&[("SCHILY.xattr.system.posix_acl_default", ACL)])
        .directory("link/sub", 0o755)
        .file("link", b"a file")
        .finish();
    let tree = Scratch::new().kept(&tar);
    let acl = xattr(&tree.path("d/sub"), "system.posix_acl_default");
    assert_eq!(acl.as_deref(), Some(ACL));
}

#[test]
fn a_default_acl_goes_with_its_directory() {
    let tar = Archive::new()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", ACL)])
        .directory("d", 0o755)
        .symlink("d", "d")
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert!(tree.meta("d").is_symlink());
}

#[test]
fn names_may_be_long_and_need_not_be_utf_8() {
    let part = "n".repeat(200);
    let long = format!("{part}/{part}/{part}");
    let tar = Archive::new()
        .pax(&[("path", long.as_bytes())])
        .file("cut", b"pax")
        .data(
            &Raw {
                name: b"././@LongLink",
                kind: b'L',
                ..Raw::default()
            },
            format!("{long}2\0").as_bytes(),
        )
        .file("cut", b"gnu")
        .data(
            &Raw {
                name: b"././@LongLink",
                kind: b'K',
                ..Raw::default()
            },
            format!("{long}\0").as_bytes(),
        )
        .symlink("link", "cut")
        .data(
            &Raw {
                name: b"caf\xe9",
                ..Raw::default()
            },
            b"latin",
        )
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(tree.read(&long), b"pax");
    assert_eq!(tree.read(&format!("{long}2")), b"gnu");
    assert_eq!(
        std::fs::read_link(tree.path("link")).unwrap(),
        Path::new(&long)
    );
    let latin = tree.path("").join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    assert_eq!(std::fs::read(latin).unwrap(), b"latin");
}

#[test]
fn the_last_of_duplicate_entries_wins_whatever_its_type() {
    let tar = Archive::new()
        .file("file", b"old")
        .file("file", b"new")
        .file("becomes-directory", b"x")
        .file("becomes-directory/in", b"no")
        .finish();
    Scratch::new().refuses(&tar, &["becomes-directory/in", "Not a directory"]);
    let tar = Archive::new()
        .file("file", b"old, and longer")
        .file("file", b"new")
        .file("a", b"x")
        .directory("a", 0o700)
        .file("a/in", b"in")
        .directory("b", 0o755)
        .file("b/in/deeper", b"x")
        .file("b", b"now a file")
        .symlink("c", "a")
        .directory("c", 0o711)
        .file("c/in", b"c")
        .file("one", b"shared")
        .hardlink("two", "one")
        .file("one", b"own")
        .hardlink("two", "two")
        .directory("twice", 0o700)
        .file("twice/kept", b"kept")
        .directory("twice", 0o751)
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(tree.read("file"), b"new");
    assert_eq!(tree.read("a/in"), b"in");
    assert_eq!(tree.read("b"), b"now a file");
    assert!(tree.meta("c").is_dir());
    assert_eq!(tree.read("c/in"), b"c");
    assert_eq!(
        (tree.read("one"), tree.read("two")),
        (b"own".to_vec(), b"shared".to_vec())
    );
    assert_eq!(tree.read("twice/kept"), b"kept");
    assert_eq!(tree.meta("twice").mode() & 0o777, 0o751);
}

#[test]
fn a_directory_described_anew_loses_its_old_attributes() {
    let tar = Archive::new()
        .pax(&[
            ("SCHILY.xattr.user.old", b"1"),
            ("SCHILY.xattr.user.both", b"1"),
        ])
        .directory("d", 0o755)
        .pax(&[("SCHILY.xattr.user.both", b"2")])
        .directory("d", 0o755)
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(xattr(&tree.path("d"), "user.old"), None);
    assert_eq!(xattr(&tree.path("d"), "user.both").unwrap(), b"2");
}

#[test]
fn missing_parents_are_roots_0755_of_time_0() {
    let tree = Scratch::new().kept(&Archive::new().file("./a/b/c", b"x").finish());
    for name in ["", "a", "a/b"] {
        let meta = tree.meta(name);
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), meta.mtime()),
            (0o755, 0, 0),
            "{name:?}"
        );
    }
}

#[test]
fn entries_may_come_in_any_order() {
    let tar = Archive::new()
        .file("lib/ld.so", b"x")
        .directory("lib", 0o711)
        .symlink("bin", "usr/bin")
        .file("bin/sh", b"sh")
        .directory("usr/bin", 0o700)
        .directory("usr", 0o701)
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(tree.meta("lib").mode() & 0o777, 0o711);
    assert_eq!(tree.read("usr/bin/sh"), b"sh");
    assert!(tree.meta("bin").is_symlink());
    assert_eq!(tree.meta("usr").mode() & 0o777, 0o701);
    for name in ["lib", "usr/bin", "usr"] {
        assert_eq!(tree.meta(name).mtime(), 1_000_000_000, "{name}");
    }
}

#[test]
fn a_merged_usr_layer_is_laid_down_through_its_symlink() {
    let tar = Archive::new()
        .symlink("lib", "/usr/lib")
        .symlink("usr/lib", "../opt/./lib")
        .file("lib/x/y", b"content")
        .finish();
    assert_eq!(Scratch::new().kept(&tar).read("opt/lib/x/y"), b"content");
}

#[test]
fn junk_after_the_end_is_ignored_and_a_missing_end_accepted() {
    let archive = Archive::new().file("f", b"content");
    let mut junk = archive.clone().finish();
    junk.extend(b"anything at all".repeat(100));
    assert_eq!(Scratch::new().kept(&junk).read("f"), b"content");
    assert_eq!(
        Scratch::new().kept(&archive.clone().cut()).read("f"),
        b"content"
    );
    // Even the padding of the last entry may be missing.
    let unpadded = archive.cut()[..512 + 7].to_vec();
    assert_eq!(Scratch::new().kept(&unpadded).read("f"), b"content");
}

#[test]
fn an_archive_of_nothing_is_an_empty_layer() {
    let tree = Scratch::new().kept(&Archive::new().finish());
    assert_eq!(std::fs::read_dir(tree.path("")).unwrap().count(), 0);
}

/// What GNU tar makes of a tree with everything in it, in each of its formats, comes out as the
/// tree: compared by GNU tar itself.
#[test]
fn archives_of_gnu_tar_come_out_as_the_tree_they_were_made_of() {
    let scratch = Scratch::new();
    let source = scratch.path("source");
    let script = r"
        set -e; mkdir -p $0/a/b; cd $0
        echo text > a/file; ln a/file a/b/hard; ln -s ../file a/b/soft
        truncate -s 5M a/sparse; printf end | dd of=a/sparse bs=1 seek=3000000 conv=notrunc 2>/dev/null
        mkfifo a/fifo; mknod a/zero c 1 5; chown 1234:4321 a/b; chmod 2750 a/b
        long=$(printf 'x%.0s' $(seq 240)); mkdir -p $long/$long; echo deep > $long/$long/f
        setfattr -n user.k -v v a/file 2>/dev/null || true
        setfacl -m u:1000:r a/file; setfacl -d -m u:1000:r a/b; setcap cap_net_raw=ep a/sparse
        touch -d '2001-02-03 04:05:06' a/b; touch -d '2001-02-03 04:05:06.789' a
    ";
    assert!(
        Command::new("sh")
            .args(["-c", script])
            .arg(&source)
            .status()
            .unwrap()
            .success()
    );
    for format in ["gnu", "pax", "ustar"] {
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(&source)
            .args(["--numeric-owner", "-cf", "-"]);
        match format {
            "pax" => tar.args([
                "--format=pax",
                "--sparse",
                "--xattrs",
                "--xattrs-include=*",
                ".",
            ]),
            "gnu" => tar.args(["--format=gnu", "--sparse", "."]),
            _ => tar.args(["--format=ustar", "--exclude=xxx*", "."]),
        };
        let output = tar.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let tree = scratch.unpack(&output.stdout);
        let archive = scratch.path("archive.tar");
        std::fs::write(&archive, &output.stdout).unwrap();
        let compared = Command::new("tar")
            .arg("-C")
            .arg(&tree)
            .arg("-df")
            .arg(&archive)
            .output();
        let compared = compared.unwrap();
        assert!(
            compared.status.success(),
            "{format}: {}",
            String::from_utf8_lossy(&compared.stdout)
        );
        if format == "pax" {
            for (name, attribute) in [
                ("a/file", "system.posix_acl_access"),
                ("a/b", "system.posix_acl_default"),
                ("a/sparse", "security.capability"),
            ] {
                let original = xattr(&source.join(name), attribute);
                assert_eq!(
                    xattr(&tree.join(name), attribute),
                    original,
                    "{name} {attribute}"
                );
            }
        }
    }
}
