//! What is in a tree: every node that has a name, once, in the order of the index.

use crate::error::{Error, Result};
use crate::layer::index::tree::{LONGEST_COMPONENT, Node, NodeId, Tree};
use crate::time::Time;

/// The nodes of a tree, the root first. What is in one directory stands together, since whoever lists
/// a directory mostly asks for what is in it as well.
pub(super) struct Census<'a> {
    pub(super) listed: Vec<Listed<'a>>,
    /// Where in the list a node is.
    places: Vec<Option<u32>>,
    /// The commonest time: inodes of that time are the small ones.
    pub(super) epoch: Time,
}

pub(super) struct Listed<'a> {
    pub(super) node: &'a Node,
    /// The first directory that names it; the root is in itself.
    pub(super) parent: usize,
    name: &'a [u8],
    /// How many names it has; of a directory, two and its directories.
    pub(super) links: u32,
}

impl<'a> Census<'a> {
    pub(super) fn take(tree: &'a Tree) -> Result<Self> {
        let mut census = Self {
            listed: Vec::with_capacity(tree.len()),
            places: vec![None; tree.len()],
            epoch: Time::default(),
        };
        census.list(tree, NodeId::ROOT, 0, b"");
        // Directories whose entries are still to be listed, the next one last.
        let mut todo = vec![0];
        while let Some(directory) = todo.pop() {
            let before = todo.len();
            census.list_directory(tree, directory, &mut todo)?;
            todo[before..].reverse();
        }
        census.epoch = census.commonest_time();
        Ok(census)
    }

    fn list_directory(
        &mut self,
        tree: &'a Tree,
        directory: usize,
        todo: &mut Vec<usize>,
    ) -> Result<()> {
        for (name, id) in self.listed[directory].node.children().into_iter().flatten() {
            let is_directory = tree.node(*id).children().is_some();
            if let Some(place) = self.places[id.index()] {
                let place = place as usize;
                if is_directory {
                    return Err(self.bad(place, "a directory has a second name"));
                }
                self.listed[place].links += 1;
                continue;
            }
            let place = self.list(tree, *id, directory, name);
            let is_bad = |byte: &u8| matches!(byte, 0 | b'/');
            if matches!(&**name, b"" | b"." | b"..") || name.iter().any(is_bad) {
                return Err(self.bad(place, "a name that no file can have"));
            }
            if name.len() > LONGEST_COMPONENT {
                return Err(self.bad(place, "a name of more than 255 bytes"));
            }
            if is_directory {
                self.listed[directory].links += 1;
                todo.push(place);
            }
        }
        Ok(())
    }

    fn list(&mut self, tree: &'a Tree, id: NodeId, parent: usize, name: &'a [u8]) -> usize {
        let node = tree.node(id);
        let place = self.listed.len();
        self.places[id.index()] = Some(u32::try_from(place).expect("a tree has 32-bit nodes"));
        self.listed.push(Listed {
            node,
            parent,
            name,
            links: if node.children().is_some() { 2 } else { 1 },
        });
        place
    }

    /// Of those that are equally common the earliest.
    fn commonest_time(&self) -> Time {
        let mut times: Vec<Time> = self.listed.iter().map(|listed| listed.node.mtime).collect();
        times.sort_unstable();
        let same = times.chunk_by(|time, next| time == next);
        let commonest = same.rev().max_by_key(|times| times.len());
        commonest.map_or(Time::default(), |times| times[0])
    }

    /// Where in the list a node is that has a name.
    pub(super) fn place(&self, id: NodeId) -> usize {
        self.places[id.index()].expect("named, and so listed") as usize
    }

    /// Something in the tree that no index can hold.
    pub(super) fn bad(&self, place: usize, reason: impl Into<String>) -> Error {
        Error::bad_entry(&self.path(place), reason)
    }

    fn path(&self, mut place: usize) -> Vec<u8> {
        let mut names = Vec::new();
        while place != 0 {
            names.push(self.listed[place].name);
            place = self.listed[place].parent;
        }
        names.reverse();
        if names.is_empty() {
            return b".".to_vec();
        }
        names.join(&b'/')
    }
}
