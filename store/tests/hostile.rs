//! Archives that want out, or want too much. Each is refused by name, with nothing left behind, or
//! laid down harmlessly.

use std::os::unix::fs::MetadataExt;

use crate::support::{Archive, Raw, Scratch, chain, number};

#[test]
fn dot_dot_is_refused_wherever_it_stands() {
    for name in ["../out", "a/../../out", "..", "a/.."] {
        Scratch::new().refuses(&Archive::new().file(name, b"x").finish(), &[name, ".."]);
    }
    let tar = Archive::new()
        .file("a", b"")
        .hardlink("b", "../../etc/passwd")
        .finish();
    Scratch::new().refuses(&tar, &["../../etc/passwd"]);
}

#[test]
fn an_absolute_name_stays_in_the_layer() {
    let name = format!("/mybox-absolute-{}", std::process::id());
    let tree = Scratch::new().kept(&Archive::new().file(&name, b"x").finish());
    assert_eq!(tree.read(&name[1..]), b"x");
    assert!(!std::path::Path::new(&name).exists());
}

#[test]
fn writing_through_a_symlink_stays_in_the_layer() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let up = format!("{}{target}", "../".repeat(20));
    let tar = Archive::new()
        .symlink("absolute", target)
        .file("absolute/one", b"x")
        .symlink("relative", &up)
        .file("relative/two", b"x")
        .symlink("file", &format!("{target}/three"))
        .file("file", b"a file of its own")
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(tree.read(&format!("{}/one", &target[1..])), b"x");
    assert_eq!(tree.read(&format!("{}/two", &target[1..])), b"x");
    assert_eq!(tree.read("file"), b"a file of its own");
}

#[test]
fn a_symlink_through_proc_leads_nowhere() {
    let tar = Archive::new()
        .symlink("root", "/proc/self/root")
        .file("root/mybox-escaped", b"x")
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(tree.read("proc/self/root/mybox-escaped"), b"x");
    assert!(!std::path::Path::new("/mybox-escaped").exists());
}

#[test]
fn symlinks_in_a_circle_are_an_error() {
    let tar = Archive::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/f", b"x")
        .finish();
    Scratch::new().refuses(&tar, &["a/f"]);
}

#[test]
fn a_hardlink_finds_only_what_is_in_the_layer() {
    Scratch::new().refuses(
        &Archive::new().hardlink("stolen", "/etc/passwd").finish(),
        &["stolen", "etc/passwd", "not in the layer"],
    );
    let tar = Archive::new()
        .symlink("x", "/etc")
        .hardlink("stolen", "x/passwd")
        .finish();
    Scratch::new().refuses(&tar, &["stolen", "x/passwd"]);
    let tar = Archive::new()
        .directory("d", 0o755)
        .hardlink("e", "d")
        .finish();
    Scratch::new().refuses(&tar, &["e", "hardlink to a directory"]);
    // Hardlinked, then written "through": the other name keeps what it had.
    let tar = Archive::new()
        .symlink("s", "/etc/passwd")
        .hardlink("h", "s")
        .file("h", b"own")
        .finish();
    assert_eq!(Scratch::new().kept(&tar).read("h"), b"own");
}

#[test]
fn a_device_or_fifo_in_the_way_is_replaced_and_never_opened() {
    let node = |name, kind, device| Raw {
        name,
        kind,
        device,
        ..Raw::default()
    };
    let tar = Archive::new()
        .raw(&node(b"fifo", b'6', (0, 0)))
        .file("fifo", b"file")
        .raw(&node(b"disk", b'4', (8, 0)))
        .file("disk", b"file")
        .raw(&node(b"null", b'3', (1, 3)))
        .directory("null", 0o755)
        .file("null/in", b"file")
        .finish();
    let tree = Scratch::new().kept(&tar);
    for name in ["fifo", "disk", "null/in"] {
        assert_eq!(tree.read(name), b"file", "{name}");
    }
}

#[test]
fn a_directory_replaced_by_a_symlink_half_way_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let tar = Archive::new()
        .directory("d", 0o755)
        .directory("d/sub", 0o755)
        .file("d/sub/before", b"x")
        .symlink("d", target)
        .directory("d/sub", 0o755)
        .file("d/sub/after", b"x")
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(tree.meta("d").is_symlink());
    assert_eq!(tree.read(&format!("{}/sub/after", &target[1..])), b"x");
}

#[test]
fn truncated_archives_name_the_entry_they_stop_in() {
    let whole = Archive::new()
        .file("first", b"x")
        .file("second", &[7; 3000])
        .cut();
    Scratch::new().refuses(
        &whole[..1024 + 512 + 1000],
        &["second", "stops in the middle"],
    );
    Scratch::new().refuses(&whole[..1024 + 100], &["middle of a header"]);
    Scratch::new().refuses(b"", &["nothing at all"]);
}

#[test]
fn sizes_that_lie_are_found_out() {
    let raw = Raw {
        name: b"liar",
        size: 8 << 40,
        ..Raw::default()
    };
    Scratch::new().refuses(&Archive::new().raw(&raw).bytes(b"few").finish(), &["liar"]);
    let raw = Raw {
        name: b"huge",
        size: 1 << 63,
        ..Raw::default()
    };
    Scratch::new().refuses(&Archive::new().raw(&raw).finish(), &["size"]);
    // Shorter than its data: what follows is no header.
    let raw = Raw {
        name: b"short",
        size: 10,
        ..Raw::default()
    };
    let tar = Archive::new().raw(&raw).bytes(&[b'x'; 2000]).finish();
    Scratch::new().refuses(&tar, &["checksum"]);
    let tar = Archive::new()
        .pax(&[("size", b"18446744073709551615")])
        .file("f", b"")
        .finish();
    Scratch::new().refuses(&tar, &["f", "size"]);
}

#[test]
fn headers_that_are_damaged_are_refused() {
    let mut tar = Archive::new()
        .file("first", b"x")
        .file("second", b"y")
        .finish();
    tar[1024 + 5] ^= 1;
    Scratch::new().refuses(&tar, &["byte 1024", "checksum"]);
    let mut block = [0_u8; 512];
    block[..1].copy_from_slice(b"f");
    block[100..108].copy_from_slice(b"notoctal");
    Scratch::new().refuses(
        &Archive::new().file("x", b"").block(block).finish(),
        &["f", "mode"],
    );
    let odd = Raw {
        name: b"odd",
        kind: b'Q',
        ..Raw::default()
    };
    Scratch::new().refuses(
        &Archive::new().raw(&odd).finish(),
        &["odd", "a type of entry that is not known: 'Q'"],
    );
    let owner = Raw {
        name: b"minus-one",
        uid: 0xffff_ffff,
        ..Raw::default()
    };
    Scratch::new().refuses(&Archive::new().raw(&owner).finish(), &["minus-one", "uid"]);
}

#[test]
fn pax_records_and_long_names_of_gigabytes_are_refused_unread() {
    for (kind, says) in [
        (b'x', "PAX records"),
        (b'g', "PAX records"),
        (b'L', "name"),
        (b'K', "name"),
    ] {
        let raw = Raw {
            name: b"pax",
            kind,
            size: 4 << 30,
            ..Raw::default()
        };
        Scratch::new().refuses(&Archive::new().raw(&raw).finish(), &["4294967296", says]);
    }
    let tar = Archive::new()
        .data(
            &Raw {
                kind: b'x',
                ..Raw::default()
            },
            b"99999999 path=short\n",
        )
        .file("f", b"")
        .finish();
    Scratch::new().refuses(&tar, &["PAX record"]);
}

#[test]
fn a_sparse_map_of_gigabytes_is_refused() {
    let new: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"mapped"),
        ("GNU.sparse.realsize", b"4096"),
    ];
    let tar = Archive::new()
        .pax(new)
        .file("s", b"4000000000\n0\n1\n")
        .finish();
    Scratch::new().refuses(&tar, &["mapped", "sparse map"]);
    let endless = Raw {
        name: b"s",
        size: 1 << 40,
        ..Raw::default()
    };
    let tar = Archive::new()
        .pax(new)
        .raw(&endless)
        .bytes(&b"1".repeat(512))
        .finish();
    Scratch::new().refuses(&tar, &["mapped", "sparse map"]);
    let mut block = [0_u8; 512];
    block[..3].copy_from_slice(b"gnu");
    block[156] = b'S';
    block[257..265].copy_from_slice(b"ustar  \0");
    block[482] = 1;
    let mut more = [0_u8; 512];
    for segment in more[..504].chunks_exact_mut(24) {
        segment.copy_from_slice(&[number(0, 12), number(0, 12)].concat());
    }
    more[504] = 1;
    let mut archive = Archive::new().block(block);
    for _ in 0..30_000 {
        archive = archive.bytes(&more);
    }
    Scratch::new().refuses(&archive.finish(), &["gnu", "sparse map of more than"]);
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    for (map, real) in [
        ("0,512,0,512", "4096"),
        ("8192,512", "4096"),
        ("0,100000", "4096"),
        ("18446744073709551615,512", "18446744073709551615"),
    ] {
        let records: &[(&str, &[u8])] = &[
            ("GNU.sparse.size", real.as_bytes()),
            ("GNU.sparse.map", map.as_bytes()),
        ];
        let tar = Archive::new().pax(records).file("s", &[b'x'; 512]).finish();
        Scratch::new().refuses(&tar, &["entry s", "sparse"]);
    }
}

#[test]
fn empty_names_and_names_with_a_nul_are_refused() {
    let raw = Raw {
        name: b"",
        ..Raw::default()
    };
    Scratch::new().refuses(&Archive::new().raw(&raw).finish(), &["\"\"", "empty name"]);
    let tar = Archive::new()
        .pax(&[("path", b"a\0b")])
        .file("f", b"")
        .finish();
    Scratch::new().refuses(&tar, &["NUL"]);
    let tar = Archive::new().file("./", b"").finish();
    assert_eq!(
        std::fs::read_dir(Scratch::new().kept(&tar).path(""))
            .unwrap()
            .count(),
        0
    );
    let root = Raw {
        name: b"./",
        kind: b'2',
        link: b"/etc",
        ..Raw::default()
    };
    Scratch::new().refuses(&Archive::new().raw(&root).finish(), &["root"]);
    let long = "x".repeat(300);
    let tar = Archive::new()
        .pax(&[("path", long.as_bytes())])
        .file("f", b"")
        .finish();
    Scratch::new().refuses(&tar, &["File name too long"]);
}

#[test]
fn nesting_has_an_end() {
    let deep = "d/".repeat(2047) + "f";
    let tar = Archive::new()
        .pax(&[("path", deep.as_bytes())])
        .file("f", b"x")
        .finish();
    let scratch = Scratch::new();
    scratch
        .import(&tar)
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let deeper = "d/".repeat(50_000) + "f";
    let tar = Archive::new()
        .pax(&[("path", deeper.as_bytes())])
        .file("f", b"x")
        .finish();
    Scratch::new().refuses(&tar, &["100001 bytes"]);
}

#[test]
fn links_that_never_find_their_targets_do_not_fill_the_memory() {
    let mut archive = Archive::new();
    for number in 0..100_000 {
        archive = archive.hardlink(&format!("link{number}"), &format!("missing{number}"));
    }
    Scratch::new().refuses_to_unpack(&archive.finish(), &["too many hardlinks"]);
}

#[test]
fn a_replaced_file_keeps_its_other_names_apart() {
    let tar = Archive::new()
        .file("a", b"1")
        .hardlink("b", "a")
        .file("a", b"2")
        .finish();
    let tree = Scratch::new().kept(&tar);
    assert_ne!(tree.meta("a").ino(), tree.meta("b").ino());
    assert_eq!(tree.read("b"), b"1");
}
