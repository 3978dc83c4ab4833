//! Finding and making directories in a tree, with symlinks followed as if its root were the root.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::Builder;
use crate::error::{Error, Result};
use crate::layer::index::tree::{Kind, LONGEST_COMPONENT, Node, NodeId};
use crate::layer::name::components;

/// As many symlinks as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// What to do about a directory that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Leave,
}

impl Builder {
    /// The directory of this clean path, made with its parents if it is missing: root's, 0755, of
    /// time 0; opaque where it takes the place of a whiteout.
    pub(super) fn directory(&mut self, path: &[u8], entry: &[u8]) -> Result<NodeId> {
        if let Some((last, id)) = &self.last
            && last == path
        {
            return Ok(*id);
        }
        let id = self
            .walk(path, Missing::Make)
            .and_then(|found| found.ok_or(Errno::NOENT))
            .map_err(|errno| Error::entry_io(entry, "make its directory", errno))?;
        self.last = Some((path.to_vec(), id));
        Ok(id)
    }

    /// The directory of this clean path, or `None` if it is not there.
    pub(super) fn existing(&mut self, path: &[u8], entry: &[u8]) -> Result<Option<NodeId>> {
        match self.walk(path, Missing::Leave) {
            Err(Errno::NOTDIR) => Ok(None),
            result => result.map_err(|errno| Error::entry_io(entry, "open the directory", errno)),
        }
    }

    pub(super) fn children(&self, directory: NodeId) -> &BTreeMap<Box<[u8]>, NodeId> {
        let children = self.tree.node(directory).children();
        children.expect("called for a directory")
    }

    fn walk(&mut self, path: &[u8], missing: Missing) -> Result<Option<NodeId>, Errno> {
        // From the root down to where the walk is; the root's parent is the root.
        let mut way = vec![NodeId::ROOT];
        let mut todo = components(path);
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let here = *way.last().expect("the root is never taken off");
            let Some(found) = self.children(here).get(&*name).copied() else {
                if name.len() > LONGEST_COMPONENT {
                    return Err(Errno::NAMETOOLONG);
                }
                if missing == Missing::Leave {
                    return Ok(None);
                }
                way.push(self.make(here, name));
                continue;
            };
            let node = self.tree.node(found);
            match &node.kind {
                Kind::Directory(_) => way.push(found),
                Kind::Symlink(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP);
                    }
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    todo.extend(components(target));
                }
                _ if node.is_whiteout() && missing == Missing::Make => {
                    let made = self.make(here, name);
                    self.tree.node_mut(made).set_opaque();
                    way.push(made);
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(way.last().copied())
    }

    fn make(&mut self, parent: NodeId, name: Vec<u8>) -> NodeId {
        let made = self.tree.add(Node::implied_directory());
        let children = self.tree.node_mut(parent).children_mut();
        let children = children.expect("called for a directory");
        children.insert(name.into(), made);
        made
    }
}

pub(super) fn check_component(name: &[u8], entry: &[u8]) -> Result<()> {
    if name.len() > LONGEST_COMPONENT {
        return Err(Error::entry_io(entry, "create", Errno::NAMETOOLONG));
    }
    Ok(())
}
