//! An index read as the tree it was written from.
//!
//! Nothing in it is believed: what the writer would not have written is an error, and what is made of an
//! index is bounded by its length, since no two parts of it may overlap.

mod attributes;
mod content;
mod directory;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::format::{BLOCK, FileType, INODE_SLOT, Inode, OwnRecord, Slot, Superblock};
use super::tree::{Device, Kind, Node, NodeId, Tree};
use crate::error::{Context, Error, Result};
use content::Place;

/// In words, what is not as in an index.
type Parsed<T> = std::result::Result<T, String>;

/// Reads the tree out of an index. What of the data area `index` has is not looked at.
#[cfg(any(test, fuzzing))]
pub(crate) fn read(index: &[u8]) -> Result<Tree> {
    parse(index).map_err(|reason| Error::damaged("an index", reason))
}

/// Reads the tree out of an index's file, without its data area, which may be sparse and large.
pub(crate) fn read_file(file: &File, path: &Path) -> Result<Tree> {
    let damaged = |reason| Error::damaged(path.display(), reason);
    let length = file.metadata().on_path("stat", path)?.len();
    let beginning = |wanted: u64| beginning(file, path, wanted.min(length));
    let superblock = Superblock::decode(&beginning(Superblock::END)?).map_err(damaged)?;
    let expected = u64::from(superblock.blocks) * BLOCK;
    if length != expected {
        let reason = format!("it has {length} bytes instead of {expected}");
        return Err(damaged(reason));
    }
    let record = beginning(Superblock::end_of_record(superblock.devices))?;
    let record = OwnRecord::decode(&record, &superblock).map_err(damaged)?;
    let metadata = beginning(u64::from(record.metadata) * BLOCK)?;
    parse(&metadata).map_err(damaged)
}

/// Reads only where the data of an index's file lies beside itself.
pub(crate) fn devices(file: &File, path: &Path) -> Result<Vec<Device>> {
    let damaged = |reason| Error::damaged(path.display(), reason);
    let length = file.metadata().on_path("stat", path)?.len();
    let beginning = |wanted: u64| beginning(file, path, wanted.min(length));
    let superblock = Superblock::decode(&beginning(Superblock::END)?).map_err(damaged)?;
    let table = beginning(Superblock::root(superblock.devices) * INODE_SLOT)?;
    let slots = Slot::all(&table, &superblock).map_err(damaged)?;
    Ok(slots.iter().map(Slot::to_device).collect())
}

fn beginning(file: &File, path: &Path, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0).on_path("read", path)?;
    Ok(bytes)
}

fn parse(index: &[u8]) -> Parsed<Tree> {
    let superblock = Superblock::decode(index)?;
    let record = OwnRecord::decode(index, &superblock)?;
    let metadata = u64::from(record.metadata) * BLOCK;
    let metadata = usize::try_from(metadata).ok();
    let index = metadata.and_then(|length| index.get(..length));
    let index = index.ok_or("it ends before its metadata does")?;
    let root = Superblock::root(superblock.devices);
    let slots = Slot::all(index, &superblock)?;
    let mut reader = Reader {
        index,
        data: record.metadata..superblock.blocks,
        superblock,
        tree: Tree::new(slots.iter().map(Slot::to_device).collect()),
        nodes: vec![None; index.len() / INODE_SLOT as usize],
        links: Vec::new(),
        claimed: 0,
    };
    reader.walk(root)?;
    reader.finish()
}

struct Reader<'a> {
    /// Everything before the data area.
    index: &'a [u8],
    /// The data area's blocks.
    data: std::ops::Range<u32>,
    superblock: Superblock,
    tree: Tree,
    /// The inodes that are read, by their numbers.
    nodes: Vec<Option<NodeId>>,
    /// For each node, how many names it says to have, and how many were found.
    links: Vec<Links>,
    /// How many bytes of the index have been read as a part of something.
    claimed: usize,
}

struct Links {
    stated: u32,
    found: u32,
}

/// A directory whose entries are still to be read.
struct Directory {
    id: NodeId,
    nid: u64,
    parent: u64,
    place: Place,
}

impl Reader<'_> {
    /// Reads the whole tree, in the order in which it was written.
    fn walk(&mut self, root: u64) -> Parsed<()> {
        let (id, root) = self.node(root, root)?;
        let Some(root) = root.filter(|_| id == NodeId::ROOT) else {
            return Err("its root is no directory".to_owned());
        };
        let mut todo = vec![root];
        while let Some(directory) = todo.pop() {
            let before = todo.len();
            self.directory(&directory, &mut todo)
                .map_err(|reason| format!("directory {}: {reason}", directory.nid))?;
            todo[before..].reverse();
        }
        Ok(())
    }

    /// Reads what a directory holds, and the inodes that are not read yet.
    fn directory(&mut self, directory: &Directory, todo: &mut Vec<Directory>) -> Parsed<()> {
        let entries = directory::entries(self.index, &directory.place)?;
        let mut children = Vec::with_capacity(entries.len());
        for entry in entries {
            let own = match entry.name {
                b"." => Some(directory.nid),
                b".." => Some(directory.parent),
                _ => None,
            };
            if let Some(own) = own {
                if entry.nid != own || entry.kind != FileType::Directory.number() {
                    return Err("its own names lead elsewhere".to_owned());
                }
                continue;
            }
            let (id, below) = self
                .node(entry.nid, directory.nid)
                .map_err(|reason| format!("inode {}: {reason}", entry.nid))?;
            if entry.kind != FileType::of(&self.tree.node(id).kind).number() {
                return Err("it is wrong about what a name is".to_owned());
            }
            if let Some(below) = below {
                self.links[directory.id.index()].found += 1;
                todo.push(below);
            }
            children.push((entry.name.into(), id));
        }
        self.tree.node_mut(directory.id).kind = Kind::Directory(children.into_iter().collect());
        Ok(())
    }

    /// The inode of this number, which one more name leads to; with what is to be read if it is a
    /// directory.
    fn node(&mut self, nid: u64, parent: u64) -> Parsed<(NodeId, Option<Directory>)> {
        let slot = usize::try_from(nid).ok();
        let slot = slot.filter(|slot| *slot < self.nodes.len());
        let slot = slot.ok_or("it lies beyond the end")?;
        if let Some(id) = self.nodes[slot] {
            if self.tree.node(id).children().is_some() {
                return Err("a directory has two names".to_owned());
            }
            self.links[id.index()].found += 1;
            return Ok((id, None));
        }
        let (node, links, place) = self.inode(slot * INODE_SLOT as usize)?;
        let is_directory = place.is_some();
        let id = if self.links.is_empty() {
            *self.tree.node_mut(NodeId::ROOT) = node;
            NodeId::ROOT
        } else {
            self.tree.add(node)
        };
        self.nodes[slot] = Some(id);
        self.links.push(Links {
            stated: links,
            found: if is_directory { 2 } else { 1 },
        });
        let directory = place.map(|place| Directory {
            id,
            nid,
            parent,
            place,
        });
        Ok((id, directory))
    }

    /// An inode that lies here, its links, and where a directory's entries are.
    fn inode(&mut self, at: usize) -> Parsed<(Node, u32, Option<Place>)> {
        let (inode, length) = Inode::decode(&self.index[at..], self.superblock.epoch)?;
        self.claim(length)?;
        let behind = at + length;
        let xattrs = self.attributes(behind, inode.xattrs)?;
        let behind = behind + inode.xattrs;
        let (kind, place) = self.content(&inode, behind)?;
        let node = Node {
            mode: u32::from(inode.mode & 0o7777),
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs,
            kind,
        };
        Ok((node, inode.links, place))
    }

    /// Says that so many bytes belong to one thing and no other.
    fn claim(&mut self, length: usize) -> Parsed<()> {
        self.claimed = self.claimed.saturating_add(length);
        if self.claimed > self.index.len() {
            return Err("parts of the index overlap".to_owned());
        }
        Ok(())
    }

    fn finish(self) -> Parsed<Tree> {
        if self.links.iter().any(|links| links.stated != links.found) {
            return Err("a file has another number of names than it says".to_owned());
        }
        if self.superblock.inodes != self.tree.len() as u64 {
            return Err("there are other inodes than it says".to_owned());
        }
        Ok(self.tree)
    }
}

impl Slot<'_> {
    fn to_device(&self) -> Device {
        Device {
            tag: self.tag.to_vec(),
            length: self.length,
        }
    }
}
