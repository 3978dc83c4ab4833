//! What a layer does to the tree below it, how the trees of two images differ, and an image's files as a
//! tar. Read from the listings and indexes of the layers, without a mount. To compare, of what is unpacked
//! only sizes are asked of the disk; of what is indexed, files are read where all else is the same.

mod content;
mod files;
mod upper;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use crate::digest::{DiffId, Digest};
use crate::error::{Context, Error, Result, show};
use crate::image::Image;
use crate::layer::index::tree::{self, NodeId};
use crate::layer::indexed;
use crate::layer::listing::Listing;
use crate::layer::listing::entry::{Entry, Inode, Kind, What};
use crate::layer::record::Laid;
use crate::layer::unpacked::TREE;
use crate::layout::Store;
use crate::{dir, object};
use content::{FileContent, LayerData, LayerTree};

pub use files::{FoundFile, ImageFiles};
pub use upper::Changes;

/// Says that a directory hides what lower layers have in it.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// Says that a directory of an unpacked layer has whiteouts.
const ORIGIN: &[u8] = b"trusted.overlay.origin";

/// What a layer does.
#[derive(Debug)]
pub struct LayerDifferences {
    /// The layer.
    pub diff_id: DiffId,
    /// By path.
    pub differences: Vec<Difference>,
}

/// A path that is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// From the root, without a slash at its beginning; `.` for the root itself.
    pub path: Vec<u8>,
    /// How it is different.
    pub how: How,
    /// What is there, or was there if it is deleted: file, directory, symlink ...
    pub what: &'static str,
    /// Bytes that were allocated to it; to all that was in a deleted directory.
    pub before: u64,
    /// Bytes that are.
    pub after: u64,
}

/// How a path is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was not there.
    Added,
    /// It was there: as it was or otherwise, in content, kind, owner, mode, times or attributes.
    Changed,
    /// It is there no more.
    Deleted,
}

/// Something in the merged tree.
#[derive(Clone)]
struct Node {
    /// All that is known of it, but the content of a file.
    inode: Inode,
    content: FileContent,
    bytes: u64,
}

/// The tree that layers give together.
#[derive(Default)]
struct Merged(BTreeMap<Vec<u8>, Node>);

impl Store {
    /// What each layer of an image does to those below it, base first. A directory that a layer
    /// has only because something is in it is no difference.
    pub fn layer_differences(&self, image: &Image) -> Result<Vec<LayerDifferences>> {
        let mut merged = Merged::default();
        let mut all = Vec::new();
        for layer in &image.layers {
            let mut differences = Vec::new();
            self.each_entry(*layer, &mut |path, node| {
                merged.lay(path, node, &mut differences)
            })?;
            let differences = in_order(differences);
            all.push(LayerDifferences {
                diff_id: *layer,
                differences,
            });
        }
        Ok(all)
    }

    /// What has to change in the first image's tree for it to be the second's.
    pub fn differences(&self, from: &Image, to: &Image) -> Result<Vec<Difference>> {
        let (from, to) = (self.merged(from)?, self.merged(to)?);
        let mut differences = Vec::new();
        let mut deleted: Option<Vec<u8>> = None;
        for (path, node) in &from.0 {
            let inside = deleted.as_ref().is_some_and(|top| path.starts_with(top));
            if !to.0.contains_key(path) && !inside {
                differences.push(from.deleted(path, node));
                deleted = Some([path, &b"/"[..]].concat());
            }
        }
        for (path, node) in &to.0 {
            let before = from.0.get(path);
            let same = before.map(|before| before.is_same(node)).transpose()?;
            if same != Some(true) {
                differences.push(node.compared(path, before));
            }
        }
        Ok(in_order(differences))
    }

    fn merged(&self, image: &Image) -> Result<Merged> {
        let mut merged = Merged::default();
        for layer in &image.layers {
            self.each_entry(*layer, &mut |path, node| {
                merged.lay(path, node, &mut Vec::new())
            })?;
        }
        Ok(merged)
    }

    /// Everything in a layer, with the bytes it takes, hardlinks with none and the inode they share.
    fn each_entry(&self, layer: DiffId, visit: Visit<'_>) -> Result<()> {
        let missing = Error::NotLaidDown { layer };
        let directory = self.hold_layer(layer)?.ok_or(missing)?;
        match self.record_of(&directory, layer)?.laid {
            Laid::Unpacked { tree, .. } => self.each_listed(layer, directory, tree, visit),
            Laid::Indexed { .. } => self.each_indexed(layer, directory, visit),
        }
    }

    fn each_listed(
        &self,
        layer: DiffId,
        directory: OwnedFd,
        listed: Digest,
        visit: Visit<'_>,
    ) -> Result<()> {
        let root = dir::open(&directory, TREE).on("open", || self.layer_path(layer))?;
        let mut listing = Listing::open(&directory, listed)?;
        let tree = Arc::new(LayerTree {
            root,
            _held: directory,
        });
        let mut linked: BTreeMap<Vec<u8>, Node> = BTreeMap::new();
        while let Some(Entry { path, what }) = listing.next()? {
            let node = match what {
                What::Inode(mut inode) => {
                    let bytes = bytes_of(&tree.root, &path, &inode)
                        .on("stat", || format!("{}/{TREE}", self.layer_path(layer)))?;
                    let content = FileContent::take_from(&mut inode.kind, &tree, &path);
                    let node = Node {
                        inode,
                        content,
                        bytes,
                    };
                    if node.inode.kind != Kind::Directory {
                        linked.insert(path.clone(), node.clone());
                    }
                    node
                }
                What::Hardlink(first) => match linked.get(&first) {
                    Some(node) => node.again(),
                    None => {
                        let reason =
                            format!("its listing has {} as a link of nothing", show(&path));
                        return Err(Error::damaged(self.layer_path(layer), reason));
                    }
                },
            };
            visit(path, node)?;
        }
        Ok(())
    }

    fn each_indexed(&self, layer: DiffId, directory: OwnedFd, visit: Visit<'_>) -> Result<()> {
        let path = || self.layer_path(layer);
        let tree = indexed::tree(&directory, Path::new(&path()))?;
        let data = Arc::new(LayerData::open(directory).on("open the tar of", path)?);
        let mut nodes: HashMap<NodeId, Node> = HashMap::new();
        let mut result = Ok(());
        tree.each_name(|path, id| {
            if result.is_err() {
                return;
            }
            let name = if path.is_empty() { b"." } else { path };
            let node = match nodes.get(&id) {
                Some(node) => node.again(),
                None => {
                    let node = Node::of_index(tree.node(id), &data);
                    nodes.insert(id, node.clone());
                    node
                }
            };
            result = visit(name.to_vec(), node);
        });
        result
    }
}

/// Is told a path and what is there.
type Visit<'a> = &'a mut dyn FnMut(Vec<u8>, Node) -> Result<()>;

/// What an extent takes of the tar, or of the index.
fn stored(extent: &tree::Extent) -> u64 {
    const BLOCK: u64 = 512;
    extent.length.next_multiple_of(BLOCK)
}

/// What the entry takes on the disk; of one whose path no call can take, what its data would.
fn bytes_of(tree: &OwnedFd, path: &[u8], inode: &Inode) -> Result<u64, rustix::io::Errno> {
    match object::stat(tree.as_fd(), path) {
        Ok(stat) => Ok(stat.map_or(0, |stat| object::allocated(&stat))),
        Err(rustix::io::Errno::NAMETOOLONG) => Ok(match inode.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }),
        Err(errno) => Err(errno),
    }
}

impl Merged {
    /// Lays one entry over the tree, and notes what that does.
    fn lay(
        &mut self,
        path: Vec<u8>,
        mut node: Node,
        differences: &mut Vec<Difference>,
    ) -> Result<()> {
        if matches!(
            node.inode.kind,
            Kind::CharacterDevice { major: 0, minor: 0 }
        ) {
            if let Some(node) = self.0.get(&path).cloned() {
                differences.push(self.deleted(&path, &node));
                self.remove(&path);
            }
            return Ok(());
        }
        let is_directory = node.inode.kind == Kind::Directory;
        let xattrs = &mut node.inode.xattrs;
        xattrs.retain(|(name, _)| name[..] != *ORIGIN);
        let attributes = xattrs.len();
        xattrs.retain(|(name, _)| name[..] != *OPAQUE);
        let opaque = xattrs.len() < attributes;
        let mut before = self.0.get(&path).cloned();
        if let Some(before) = before.as_mut().filter(|_| !is_directory) {
            before.bytes += self.inside(&path).map(|(_, node)| node.bytes).sum::<u64>();
        }
        if opaque || !is_directory {
            self.empty(&path, opaque, differences);
        }
        // What a layer has of a file is told even if it is the same again.
        let same = before.as_ref().is_some_and(|it| it.inode == node.inode);
        if !(is_directory && same) {
            differences.push(node.compared(&path, before.as_ref()));
        }
        self.0.insert(path, node);
        Ok(())
    }

    /// Takes away all that is in a directory. Noted are only an opaque directory's children: what
    /// a file has taken the place of went with its directory.
    fn empty(&mut self, path: &[u8], noted: bool, differences: &mut Vec<Difference>) {
        let prefix = below(path);
        let children: Vec<(Vec<u8>, Node)> = self
            .inside(path)
            .filter(|(child, _)| !child[prefix.len()..].contains(&b'/'))
            .map(|(child, node)| (child.clone(), node.clone()))
            .collect();
        for (child, node) in children {
            if noted {
                differences.push(self.deleted(&child, &node));
            }
            self.remove(&child);
        }
    }

    fn remove(&mut self, path: &[u8]) {
        let inside: Vec<Vec<u8>> = self.inside(path).map(|(path, _)| path.clone()).collect();
        inside.iter().for_each(|path| drop(self.0.remove(path)));
        self.0.remove(path);
    }

    fn inside(&self, path: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &Node)> {
        let prefix = below(path);
        let all = self.0.range(prefix.clone()..);
        all.take_while(move |(path, _)| path.starts_with(&prefix))
            .filter(|(path, _)| path[..] != *b".")
    }

    fn deleted(&self, path: &[u8], node: &Node) -> Difference {
        let inside = self.inside(path).map(|(_, node)| node.bytes);
        Difference {
            path: path.to_owned(),
            how: How::Deleted,
            what: node.inode.kind.name(),
            before: node.bytes + inside.sum::<u64>(),
            after: 0,
        }
    }
}

/// By path. What an opaque directory has hidden and its layer has again is changed.
fn in_order(mut differences: Vec<Difference>) -> Vec<Difference> {
    differences.sort_by(|one, other| one.path.cmp(&other.path));
    differences.dedup_by(|later, earlier| {
        let again = later.path == earlier.path && earlier.how == How::Deleted;
        if again {
            *earlier = Difference {
                how: How::Changed,
                before: earlier.before,
                ..later.clone()
            };
        }
        again
    });
    differences
}

/// How the paths in a directory begin.
fn below(path: &[u8]) -> Vec<u8> {
    if path == b"." {
        Vec::new()
    } else {
        [path, b"/"].concat()
    }
}

impl Node {
    fn of_index(node: &tree::Node, data: &Arc<LayerData>) -> Self {
        let mut bytes = 0;
        let mut content = FileContent::no_file();
        let kind = match &node.kind {
            tree::Kind::Directory(_) => {
                content = FileContent::None;
                Kind::Directory
            }
            tree::Kind::File(file) => {
                bytes = file.extents.iter().map(stored).sum();
                content = FileContent::lying(data, file);
                FileContent::known_elsewhere(file.size)
            }
            tree::Kind::Symlink(target) => Kind::Symlink(target.clone()),
            tree::Kind::CharacterDevice { major, minor } => Kind::CharacterDevice {
                major: *major,
                minor: *minor,
            },
            tree::Kind::BlockDevice { major, minor } => Kind::BlockDevice {
                major: *major,
                minor: *minor,
            },
            tree::Kind::Fifo => Kind::Fifo,
            tree::Kind::Socket => Kind::Socket,
        };
        let inode = Inode {
            kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            xattrs: node.xattrs.clone(),
        };
        Self {
            inode,
            content,
            bytes,
        }
    }

    /// Under one more name.
    fn again(&self) -> Self {
        Self {
            bytes: 0,
            ..self.clone()
        }
    }

    fn is_same(&self, other: &Self) -> Result<bool> {
        Ok(self.inode == other.inode && self.content.is_same(&other.content)?)
    }

    /// As a difference to what was there before, if there was anything.
    fn compared(&self, path: &[u8], before: Option<&Self>) -> Difference {
        Difference {
            path: path.to_owned(),
            how: if before.is_some() {
                How::Changed
            } else {
                How::Added
            },
            what: self.inode.kind.name(),
            before: before.map_or(0, |before| before.bytes),
            after: self.bytes,
        }
    }
}
