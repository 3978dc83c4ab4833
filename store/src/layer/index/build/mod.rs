//! The entries of a tar as a tree, with the same outcome as unpacking them ([`super::super::unpack`]):
//! the archive is read once, in order, and no file is touched.
//!
//! Nothing leads out of the tree, since it is all there is. What bounds the memory is
//! [`MOST_MEMORY`].

mod inode;
mod links;
mod paths;

use std::io::BufRead;

use super::tree::{Device, Extent, FileData, Kind, Node, NodeId, OPAQUE, Tree};
use crate::archive::{self, Entry, Reader};
use crate::error::{Error, Result};
use crate::layer::name::{self, Place, split};
use crate::time::Time;
use links::LateLink;

/// What names, attributes and the nodes themselves may take.
const MOST_MEMORY: usize = 1 << 30;
/// What a node takes beside its names and attributes, roughly.
const NODE: usize = 192;
/// Progress is told after so many bytes of the archive.
const PROGRESS_STEP: u64 = 1 << 20;
/// The tar is the only device of a layer's tree.
const TAR: u16 = 1;

/// What an archive came to.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) tree: Tree,
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// Bytes of file data, holes counted, hardlinks once.
    pub(crate) size: u64,
    /// The newest modification time of any entry.
    pub(crate) newest: Time,
}

/// Reads an uncompressed tar. `progress` gets entries and bytes of the archive so far.
///
/// The tree's one device is the tar; its length is what was read of it, and whoever knows that more
/// follows the archive's end sets it.
pub(crate) fn build(source: impl BufRead, progress: &mut dyn FnMut(u64, u64)) -> Result<Built> {
    let mut reader = Reader::new(source);
    let mut builder = Builder::default();
    let (mut entries, mut size, mut newest, mut told) = (0, 0_u64, None, 0);
    while let Some(entry) = reader.next_entry()? {
        builder.lay(&entry, reader.position())?;
        entries += 1;
        if entry.kind == archive::Kind::File {
            size = size.saturating_add(entry.size());
        }
        newest = newest.max(Some(entry.mtime));
        if reader.position() - told >= PROGRESS_STEP {
            told = reader.position();
            progress(entries, told);
        }
    }
    builder.late_links()?;
    progress(entries, reader.position());
    let mut tree = builder.tree;
    tree.devices[0].length = reader.position();
    Ok(Built {
        tree,
        entries,
        size,
        newest: newest.unwrap_or_default(),
    })
}

struct Builder {
    tree: Tree,
    late: Vec<LateLink>,
    memory: usize,
    /// The directory of the entry before, which is mostly that of the next: its clean path and the
    /// node. Forgotten when anything is taken away that the path may lead through.
    last: Option<(Vec<u8>, NodeId)>,
}

impl Default for Builder {
    fn default() -> Self {
        let tar = Device {
            tag: Vec::new(),
            length: 0,
        };
        Self {
            tree: Tree::new(vec![tar]),
            late: Vec::new(),
            memory: 0,
            last: None,
        }
    }
}

impl Builder {
    /// Lays one entry down, whose data begins at `data` in the archive.
    fn lay(&mut self, entry: &Entry, data: u64) -> Result<()> {
        self.account(entry)?;
        match name::place(&entry.name)? {
            Place::Ignored => Ok(()),
            Place::Opaque { directory } => {
                let directory = self.directory(&directory, &entry.name)?;
                self.tree.node_mut(directory).set_opaque();
                Ok(())
            }
            Place::Whiteout { path } => self.white_out(&path, &entry.name),
            Place::At { path } => match entry.kind {
                archive::Kind::Directory => self.describe_directory(&path, entry),
                _ if path.is_empty() => Err(Error::bad_entry(
                    &entry.name,
                    "only a directory can be the root",
                )),
                archive::Kind::Hardlink => self.hardlink(&path, entry),
                _ => {
                    let node = Node::described(entry, kind(entry, data))?;
                    self.put(&path, &entry.name, node).map(drop)
                }
            },
        }
    }

    fn account(&mut self, entry: &Entry) -> Result<()> {
        let attributes = entry.xattrs.iter();
        let attributes: usize = attributes
            .map(|(name, value)| name.len() + value.len())
            .sum();
        // Names twice: a parent that is missing is made as well.
        self.memory += NODE + 2 * entry.name.len() + entry.link.len() + attributes;
        self.memory += entry
            .sparse
            .as_ref()
            .map_or(0, |map| map.segments.len() * size_of::<Extent>());
        if self.memory > MOST_MEMORY {
            let reason = "the layer has more names and attributes than an index takes; lay it down \
                          with --layer-form unpacked";
            return Err(Error::bad_entry(&entry.name, reason));
        }
        Ok(())
    }

    /// Makes a directory, or describes one anew that is there.
    fn describe_directory(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let mut node = Node::described(entry, Kind::Directory(Default::default()))?;
        let Some(there) = self.child(path, &entry.name)? else {
            return self.put(path, &entry.name, node).map(drop);
        };
        let before = self.tree.node_mut(there);
        if before.is_whiteout() {
            node.set_opaque();
        } else if let Some(children) = before.children_mut() {
            node.kind = Kind::Directory(std::mem::take(children));
            if before.is_opaque() {
                node.set_opaque();
            }
            *before = node;
            return Ok(());
        }
        self.put(path, &entry.name, node).map(drop)
    }

    /// Hides a name of the layers below. What this layer itself has under that name stays; a
    /// directory of it then hides what is below.
    fn white_out(&mut self, path: &[u8], entry: &[u8]) -> Result<()> {
        let Some(there) = self.child(path, entry)? else {
            return self.put(path, entry, Node::whiteout()).map(drop);
        };
        let there = self.tree.node_mut(there);
        if there.children().is_some() {
            there.set_opaque();
        }
        Ok(())
    }

    /// What has this name already; its parent is made if it is missing.
    fn child(&mut self, path: &[u8], entry: &[u8]) -> Result<Option<NodeId>> {
        if path.is_empty() {
            return Ok(Some(NodeId::ROOT));
        }
        let (parent, last) = split(path);
        let parent = self.directory(parent, entry)?;
        Ok(self.children(parent).get(last).copied())
    }

    /// Gives a node a name, in the place of whatever had it.
    fn put(&mut self, path: &[u8], entry: &[u8], node: Node) -> Result<NodeId> {
        let id = self.tree.add(node);
        self.name(path, entry, id)?;
        Ok(id)
    }

    fn name(&mut self, path: &[u8], entry: &[u8], id: NodeId) -> Result<()> {
        let (parent, last) = split(path);
        let parent = self.directory(parent, entry)?;
        paths::check_component(last, entry)?;
        let children = self.tree.node_mut(parent).children_mut();
        let children = children.expect("a directory was asked for");
        if children.insert(last.into(), id).is_some() {
            self.last = None;
        }
        Ok(())
    }
}

impl Node {
    fn set_opaque(&mut self) {
        if let Err(at) = self
            .xattrs
            .binary_search_by(|(name, _)| name[..].cmp(OPAQUE))
        {
            self.xattrs.insert(at, (OPAQUE.to_vec(), b"y".to_vec()));
        }
    }

    /// What overlayfs takes for "there is nothing of this name". Its owner and times mean nothing.
    fn whiteout() -> Self {
        Self {
            mode: 0,
            kind: Kind::CharacterDevice { major: 0, minor: 0 },
            ..Self::implied_directory()
        }
    }
}

/// What an entry makes that is neither directory nor hardlink.
fn kind(entry: &Entry, data: u64) -> Kind {
    let (major, minor) = entry.device;
    match entry.kind {
        archive::Kind::Symlink => Kind::Symlink(entry.link.clone()),
        archive::Kind::CharacterDevice => Kind::CharacterDevice { major, minor },
        archive::Kind::BlockDevice => Kind::BlockDevice { major, minor },
        archive::Kind::Fifo => Kind::Fifo,
        _ => Kind::File(file(entry, data)),
    }
}

/// Where a file's data lies: its segments follow each other in the archive.
fn file(entry: &Entry, data: u64) -> FileData {
    let mut file = FileData {
        size: entry.size(),
        extents: Vec::new(),
    };
    let mut put = |offset, length, at| {
        if length > 0 {
            file.extents.push(Extent {
                offset,
                length,
                device: TAR,
                at,
            });
        }
    };
    let Some(map) = &entry.sparse else {
        put(0, entry.stored, data);
        return file;
    };
    let mut at = data;
    let mut run: Option<(u64, u64)> = None;
    for segment in &map.segments {
        match &mut run {
            // It goes on where the one before ends, in the file as in the archive.
            Some((offset, length)) if *offset + *length == segment.offset => {
                *length += segment.length;
            }
            _ => {
                if let Some((offset, length)) = run.replace((segment.offset, segment.length)) {
                    put(offset, length, at);
                    at += length;
                }
            }
        }
    }
    if let Some((offset, length)) = run {
        put(offset, length, at);
    }
    file
}
