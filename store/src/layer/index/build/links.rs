//! Hardlinks: one node under several names. A target may come after its link.

use super::Builder;
use crate::archive::Entry;
use crate::error::{Error, Result};
use crate::layer::index::tree::NodeId;
use crate::layer::name::{self, Place, split};

/// A hardlink whose target has not come yet; the target's name is clean.
pub(super) struct LateLink {
    path: Vec<u8>,
    target: Vec<u8>,
    /// The link's name as the archive has it.
    entry: Vec<u8>,
}

impl Builder {
    pub(super) fn hardlink(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let Place::At { path: target } = name::place(&entry.link)? else {
            return Err(Error::bad_entry(&entry.name, "a hardlink to a whiteout"));
        };
        if let Some(node) = self.target(&target, &entry.name)? {
            // Its own name may have to make way for it, and may be all that the target had.
            let taken = self
                .child(path, &entry.name)?
                .filter(|there| *there != node);
            if taken.is_some() {
                self.clear(path, &entry.name)?;
            }
            if self.target(&target, &entry.name)? == Some(node) {
                return self.name(path, &entry.name, node);
            }
        }
        // Whatever had the name before has lost it, even though the link is yet to come.
        self.clear(path, &entry.name)?;
        self.late.push(LateLink {
            path: path.to_vec(),
            target,
            entry: entry.name.clone(),
        });
        Ok(())
    }

    /// Links to links may come in any order as well: rounds, until one makes no difference.
    pub(super) fn late_links(&mut self) -> Result<()> {
        let mut links = std::mem::take(&mut self.late);
        while !links.is_empty() {
            let before = links.len();
            let mut missing = Vec::new();
            for link in links {
                match self.target(&link.target, &link.entry)? {
                    None => missing.push(link),
                    // An entry has made something of that name since.
                    Some(_) if self.child(&link.path, &link.entry)?.is_some() => {}
                    Some(node) => self.name(&link.path, &link.entry, node)?,
                }
            }
            if missing.len() == before {
                return Err(name::link_to_nothing(&missing[0].path, &missing[0].target));
            }
            links = missing;
        }
        Ok(())
    }

    /// What a link leads to, if it is there.
    fn target(&mut self, target: &[u8], entry: &[u8]) -> Result<Option<NodeId>> {
        let (parent, last) = split(target);
        let Some(parent) = self.existing(parent, entry)? else {
            return Ok(None);
        };
        let found = if last.is_empty() {
            Some(parent)
        } else {
            self.children(parent).get(last).copied()
        };
        match found {
            Some(node) if self.tree.node(node).children().is_some() => {
                Err(Error::bad_entry(entry, "a hardlink to a directory"))
            }
            found => Ok(found),
        }
    }

    /// Takes a name away, with all that is below it.
    fn clear(&mut self, path: &[u8], entry: &[u8]) -> Result<()> {
        let (parent, last) = split(path);
        if let Some(parent) = self.existing(parent, entry)? {
            let children = self.tree.node_mut(parent).children_mut();
            children.expect("a directory was asked for").remove(last);
            self.last = None;
        }
        Ok(())
    }
}
