//! What an index says, as a tree in memory: made from a tar, read from an index, merged from several,
//! written as one.

use std::collections::BTreeMap;

use crate::time::Time;
use crate::xattr::Attributes;

/// The longest name of a directory's entry (`EROFS_NAME_LEN`).
pub(crate) const LONGEST_COMPONENT: usize = 255;
/// The attribute that says that a directory hides what lower layers have in it.
pub(crate) const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Which node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    pub(crate) const ROOT: Self = Self(0);

    /// Less than [`Tree::len`].
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A tree of inodes, the root first. A node that has several names is a file with hardlinks; one
/// that has none is no part of the tree any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// Where the data lies, beside the index itself: what [`Extent::device`] counts from 1.
    pub(crate) devices: Vec<Device>,
}

/// A file beside the index that has the data of files in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// What it is called in the device table: up to 64 bytes, in a layer's index empty.
    pub(crate) tag: Vec<u8>,
    /// Its length in bytes.
    pub(crate) length: u64,
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Permissions with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// Sorted by name.
    pub(crate) xattrs: Attributes,
    pub(crate) kind: Kind,
}

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory(BTreeMap<Box<[u8]>, NodeId>),
    File(FileData),
    Symlink(Vec<u8>),
    /// 0:0 is overlayfs's whiteout.
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

/// A file's size, and where its data lies; everything else of it is a hole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileData {
    pub(crate) size: u64,
    /// In the order of the file, apart, within its size, none empty, and none that simply goes on
    /// where the one before ends.
    pub(crate) extents: Vec<Extent>,
}

/// Bytes of a file that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where in the file.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// 0 for the index itself, else [`Tree::devices`] counted from 1.
    pub(crate) device: u16,
    /// Where in the device, in bytes.
    pub(crate) at: u64,
}

impl Tree {
    /// A tree that is only a root: root's, 0755, of time 0.
    pub(crate) fn new(devices: Vec<Device>) -> Self {
        Self {
            nodes: vec![Node::implied_directory()],
            devices,
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// Adds a node that has no name yet.
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        let id = u32::try_from(self.nodes.len()).expect("bounded by the memory a tree may take");
        self.nodes.push(node);
        NodeId(id)
    }

    /// Tells all names there are with their paths, a directory before what is in it, in the order of
    /// their bytes; the root's is empty.
    pub(crate) fn each_name(&self, mut tell: impl FnMut(&[u8], NodeId)) {
        tell(b"", NodeId::ROOT);
        let mut path = Vec::new();
        // For each directory on the way the length of its path, and what is still to be told.
        let mut way = vec![(0, self.node(NodeId::ROOT).children().into_iter().flatten())];
        while let Some((length, children)) = way.last_mut() {
            path.truncate(*length);
            let Some((name, id)) = children.next() else {
                way.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            tell(&path, *id);
            if let Some(children) = self.node(*id).children() {
                way.push((path.len(), Some(children).into_iter().flatten()));
            }
        }
    }

    /// All nodes there ever were, those without a name too.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl Node {
    /// A directory that only the names in it speak of.
    pub(crate) fn implied_directory() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Attributes::new(),
            kind: Kind::Directory(BTreeMap::new()),
        }
    }

    /// What is in a directory; `None` for anything else.
    pub(crate) fn children(&self) -> Option<&BTreeMap<Box<[u8]>, NodeId>> {
        match &self.kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        }
    }

    pub(crate) fn children_mut(&mut self) -> Option<&mut BTreeMap<Box<[u8]>, NodeId>> {
        match &mut self.kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        }
    }

    /// Where a file's data lies; nothing for anything else.
    pub(crate) fn extents(&self) -> &[Extent] {
        match &self.kind {
            Kind::File(file) => &file.extents,
            _ => &[],
        }
    }

    pub(crate) fn is_whiteout(&self) -> bool {
        matches!(self.kind, Kind::CharacterDevice { major: 0, minor: 0 })
    }

    pub(crate) fn is_opaque(&self) -> bool {
        self.xattrs.iter().any(|(name, _)| name == OPAQUE)
    }
}
