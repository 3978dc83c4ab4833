//! An index over one small file: for whoever wants to know whether such can be mounted.

use std::collections::BTreeMap;
use std::io::Cursor;

use super::tree::{Device, Extent, FileData, Kind, Node, Tree};
use super::write::{self, NothingToCopy};
use crate::error::Result;

/// An index, what it is over, and what the mounted file must have in it.
#[derive(Debug)]
pub struct SampleIndex {
    /// An EROFS image with one device.
    pub index: Vec<u8>,
    /// The device: as in a tar the data is in its second block.
    pub device: Vec<u8>,
    /// The file's name in the root.
    pub name: &'static str,
    /// What is in the file.
    pub content: &'static [u8],
}

const BLOCK: usize = 512;

/// Makes the sample, as any layer's index is made.
pub fn sample_index() -> Result<SampleIndex> {
    let (name, content) = ("sample", b"neither unpacked nor copied\n".as_slice());
    let mut device = vec![0; 2 * BLOCK];
    device[BLOCK..BLOCK + content.len()].copy_from_slice(content);
    let mut tree = Tree::new(vec![Device {
        tag: Vec::new(),
        length: device.len() as u64,
    }]);
    let length = content.len() as u64;
    let extent = Extent {
        offset: 0,
        length,
        device: 1,
        at: BLOCK as u64,
    };
    let file = tree.add(Node {
        mode: 0o644,
        kind: Kind::File(FileData {
            size: length,
            extents: vec![extent],
        }),
        ..Node::implied_directory()
    });
    let root = tree.node_mut(super::tree::NodeId::ROOT);
    root.kind = Kind::Directory(BTreeMap::from([(name.as_bytes().into(), file)]));
    let mut index = Cursor::new(Vec::new());
    write::write(&tree, &NothingToCopy, &mut index)?;
    Ok(SampleIndex {
        index: index.into_inner(),
        device,
        name,
        content,
    })
}
