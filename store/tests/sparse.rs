//! Sparse files keep their holes, whichever of the four ways they are written.

use std::os::unix::fs::MetadataExt;

use crate::support::{Archive, Scratch, number};

#[test]
fn gnu_sparse_files_keep_their_holes() {
    let mut block = [0_u8; 512];
    block[..6].copy_from_slice(b"sparse");
    block[100..108].copy_from_slice(&number(0o644, 8));
    block[124..136].copy_from_slice(&number(6 * 512, 12));
    block[136..148].copy_from_slice(&number(1, 12));
    block[156] = b'S';
    block[257..265].copy_from_slice(b"ustar  \0");
    let mut more = [0_u8; 512];
    for segment in 0..6_usize {
        let (field, at) = match segment {
            0..=3 => (&mut block, 386 + segment * 24),
            _ => (&mut more, (segment - 4) * 24),
        };
        field[at..at + 12].copy_from_slice(&number(segment as u64 * 1_048_576, 12));
        field[at + 12..at + 24].copy_from_slice(&number(512, 12));
    }
    block[482] = 1;
    let real = 1_u64 << 36;
    block[483..495].copy_from_slice(&number(real, 12));
    let tar = Archive::new()
        .block(block)
        .bytes(&more)
        .bytes(&b"d".repeat(6 * 512))
        .file("after", b"still in step")
        .finish();
    let tree = Scratch::new().kept(&tar);
    let meta = tree.meta("sparse");
    assert_eq!(meta.size(), real);
    assert!(meta.blocks() < 256, "{} blocks", meta.blocks());
    let mut byte = [0; 2];
    let file = std::fs::File::open(tree.path("sparse")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, 5 * 1_048_576 - 1).unwrap();
    assert_eq!(byte, [0, b'd']);
    assert_eq!(tree.read("after"), b"still in step");
}

#[test]
fn pax_sparse_files_of_all_three_versions_are_the_same_file() {
    let data = b"x".repeat(1024);
    let old: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"1052672"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"0"),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"1048576"),
        ("GNU.sparse.numbytes", b"512"),
    ];
    let middle: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"1052672"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.name", b"v01"),
        ("GNU.sparse.map", b"0,512,1048576,512"),
    ];
    let new: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"v10"),
        ("GNU.sparse.realsize", b"1052672"),
    ];
    let mut with_map = b"2\n0\n512\n1048576\n512\n".to_vec();
    with_map.resize(512, 0);
    with_map.extend_from_slice(&data);
    let tar = Archive::new()
        .pax(old)
        .file("v00", &data)
        .pax(middle)
        .file("GNUSparseFile.1/v01", &data)
        .pax(new)
        .file("GNUSparseFile.1/v10", &with_map)
        .finish();
    let tree = Scratch::new().kept(&tar);
    let mut expected = vec![0; 1_052_672];
    expected[..512].fill(b'x');
    expected[1_048_576..][..512].fill(b'x');
    for name in ["v00", "v01", "v10"] {
        assert_eq!(tree.read(name), expected, "{name}");
        assert!(tree.meta(name).blocks() <= 16, "{name} has no holes");
    }
}
