//! What is written is read again, and written again it is the same.

use std::collections::BTreeMap;
use std::io::Cursor;

use super::trees::{Memory, random, told, written};
use crate::layer::index::read::{read, read_file};
use crate::layer::index::tree::{Device, Extent, FileData, Kind, Node, NodeId, Tree};
use crate::layer::index::write::write;
use crate::time::Time;

#[test]
fn trees_come_back_as_they_were() {
    for seed in 0..150 {
        let (tree, mut memory) = random(seed);
        let index = written(&tree, &memory);
        assert_eq!(written(&tree, &memory), index, "seed {seed}: written twice");
        let again = read(&index).unwrap();
        memory.0[0] = index;
        assert_eq!(again.devices, tree.devices, "seed {seed}");
        assert!(told(&again, &memory) == told(&tree, &memory), "seed {seed}");
        assert!(
            written(&again, &memory) == memory.0[0],
            "seed {seed}: written again"
        );
    }
}

#[test]
fn a_tree_of_aligned_files_comes_back_equal() {
    let device = Device {
        tag: Vec::new(),
        length: 2048,
    };
    let mut tree = Tree::new(vec![device]);
    put(&mut tree, "a", file(512, 700));
    put(&mut tree, "b", file(1536, 512));
    put(&mut tree, "c", Kind::Symlink(b"a".to_vec()));
    let index = written(&tree, &Memory(vec![]));
    assert_eq!(read(&index).unwrap(), tree);
    // The three small inodes and the root in one block, behind the superblock's.
    assert_eq!(index.len(), 4 * 512);
}

#[test]
fn a_node_without_a_name_is_left_out() {
    let mut tree = Tree::new(Vec::new());
    tree.add(Node::implied_directory());
    put(&mut tree, "a", Kind::Fifo);
    let again = read(&written(&tree, &Memory(vec![]))).unwrap();
    assert_eq!(again.len(), 2);
}

#[test]
fn the_commonest_time_makes_small_inodes() {
    let mut tree = Tree::new(Vec::new());
    for number in 0..100 {
        let id = put(&mut tree, &format!("{number}"), Kind::Fifo);
        tree.node_mut(id).mtime = Time::from_seconds(5);
    }
    let small = written(&tree, &Memory(vec![])).len();
    for number in 0..48 {
        let id = put(&mut tree, &format!("{number}"), Kind::Fifo);
        tree.node_mut(id).mtime = Time::from_seconds(7);
    }
    assert_eq!(written(&tree, &Memory(vec![])).len(), small + 48 * 32);
}

#[test]
fn a_terabyte_of_holes_takes_neither_time_nor_room() {
    let device = Device {
        tag: Vec::new(),
        length: 2048,
    };
    let mut tree = Tree::new(vec![device]);
    let extent = |offset| Extent {
        offset,
        length: 100,
        device: 1,
        at: 1000,
    };
    let data = FileData {
        size: 1 << 40,
        extents: vec![extent(77), extent(1 << 39)],
    };
    put(&mut tree, "a", Kind::File(data));
    let mut file = tempfile::tempfile().unwrap();
    let memory = Memory(vec![Vec::new(), vec![b'd'; 2048]]);
    write(&tree, &memory, &mut file).unwrap();
    let metadata = file.metadata().unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) < 200);
    let again = read_file(&file, "layer.erofs".as_ref()).unwrap();
    assert_eq!(again.node(again.child("a")).extents().len(), 2);
}

#[test]
fn what_no_index_can_hold_is_named() {
    let refused = |kind: Kind, xattrs: &[(&str, usize)]| {
        let mut tree = Tree::new(Vec::new());
        let directory = put(&mut tree, "d", Kind::Directory(BTreeMap::new()));
        let mut node = node(kind);
        for (name, length) in xattrs {
            node.xattrs
                .push((name.as_bytes().to_vec(), vec![b'x'; *length]));
        }
        let id = tree.add(node);
        let children = tree.node_mut(directory).children_mut().unwrap();
        children.insert((*b"f").into(), id);
        let output = &mut Cursor::new(Vec::new());
        write(&tree, &Memory(vec![]), output)
            .unwrap_err()
            .to_string()
    };
    for (error, expected) in [
        (
            refused(Kind::Symlink(vec![]), &[]),
            "a symlink to what no path can be",
        ),
        (
            refused(Kind::Symlink(vec![b'x'; 4096]), &[]),
            "a symlink to what no path can be",
        ),
        (
            refused(
                Kind::BlockDevice {
                    major: 4096,
                    minor: 0,
                },
                &[],
            ),
            "a device with numbers that Linux does not have",
        ),
        (
            refused(Kind::Fifo, &[("system.nfs4_acl", 1)]),
            "its attribute system.nfs4_acl: an index has no attributes of this kind",
        ),
        (
            refused(Kind::Fifo, &[("user.a", 65_536)]),
            "its attribute user.a: the value is longer than 65535 bytes",
        ),
        (
            refused(Kind::Fifo, &[("user.a", 65_535); 5]),
            "up to its attribute user.a there are more bytes of attributes than the 262148 that an \
             index can hold of a file",
        ),
    ] {
        assert_eq!(error, format!("entry d/f: {expected}"));
    }
}

#[test]
fn archives_that_are_too_long_are_refused() {
    let device = Device {
        tag: Vec::new(),
        length: 2 << 40,
    };
    let tree = Tree::new(vec![device]);
    let error = write(&tree, &Memory(vec![]), &mut Cursor::new(Vec::new())).unwrap_err();
    let expected = "cannot use the layer's archive: an index refers to archives of less than 2 TiB";
    assert_eq!(error.to_string(), expected);
}

fn node(kind: Kind) -> Node {
    Node {
        kind,
        ..Node::implied_directory()
    }
}

fn file(at: u64, length: u64) -> Kind {
    let extent = Extent {
        offset: 0,
        length,
        device: 1,
        at,
    };
    Kind::File(FileData {
        size: length,
        extents: vec![extent],
    })
}

fn put(tree: &mut Tree, name: &str, kind: Kind) -> NodeId {
    let id = tree.add(node(kind));
    let root = tree.node_mut(NodeId::ROOT).children_mut().unwrap();
    root.insert(name.as_bytes().into(), id);
    id
}

impl Tree {
    fn child(&self, name: &str) -> NodeId {
        self.node(NodeId::ROOT).children().unwrap()[name.as_bytes()]
    }
}
