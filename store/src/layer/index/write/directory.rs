//! What is in a directory: blocks of entries, sorted by their names' bytes across all blocks.
//!
//! ```text
//! block: entry, entry, ..., name, name, ..., zeros
//! ```

use std::collections::BTreeMap;

use crate::layer::index::format::{BLOCK, DIRENT, Dirent};
use crate::layer::index::tree::NodeId;

/// A directory's names, with its own two.
pub(super) struct Names<'a>(Vec<(&'a [u8], Entry)>);

/// What a name leads to.
#[derive(Clone, Copy)]
pub(super) enum Entry {
    Itself,
    Parent,
    Child(NodeId),
}

const ROOM: usize = 1 << 9;
const _: () = assert!(ROOM as u64 == BLOCK);

impl<'a> Names<'a> {
    pub(super) fn of(children: &'a BTreeMap<Box<[u8]>, NodeId>) -> Self {
        let mut names = Vec::with_capacity(children.len() + 2);
        names.extend(
            children
                .iter()
                .map(|(name, id)| (&**name, Entry::Child(*id))),
        );
        // Others may come before them: `!` does.
        for (own, entry) in [(&b"."[..], Entry::Itself), (b"..", Entry::Parent)] {
            let place = names.partition_point(|(name, _)| *name < own);
            names.insert(place, (own, entry));
        }
        Self(names)
    }

    /// How long the blocks are, the last one without what fills it.
    pub(super) fn size(&self) -> u64 {
        let blocks = self.blocks();
        let full = blocks.len() - 1;
        full as u64 * BLOCK + length(blocks[full]) as u64
    }

    /// The blocks; `describe` tells what an entry leads to.
    pub(super) fn encode(&self, describe: impl Fn(Entry) -> Dirent) -> Vec<u8> {
        let mut bytes = Vec::new();
        for block in self.blocks() {
            let start = bytes.len().next_multiple_of(ROOM);
            bytes.resize(start, 0);
            let mut name = block.len() * DIRENT;
            for (text, entry) in block {
                let dirent = Dirent {
                    name: u16::try_from(name).expect("within a block"),
                    ..describe(*entry)
                };
                bytes.extend(dirent.encode());
                name += text.len();
            }
            for (text, _) in block {
                bytes.extend(*text);
            }
        }
        bytes
    }

    /// As many names to a block as fit.
    fn blocks(&self) -> Vec<&[(&'a [u8], Entry)]> {
        let mut blocks = Vec::new();
        let (mut start, mut used) = (0, 0);
        for (at, (name, _)) in self.0.iter().enumerate() {
            let needed = DIRENT + name.len();
            if used + needed > ROOM {
                blocks.push(&self.0[start..at]);
                (start, used) = (at, 0);
            }
            used += needed;
        }
        blocks.push(&self.0[start..]);
        blocks
    }
}

fn length(block: &[(&[u8], Entry)]) -> usize {
    block.iter().map(|(name, _)| DIRENT + name.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Entry, Names};
    use crate::layer::index::format::Dirent;
    use crate::layer::index::tree::NodeId;

    fn encoded(names: &[&str]) -> Vec<u8> {
        let children: BTreeMap<Box<[u8]>, NodeId> = names
            .iter()
            .map(|name| (name.as_bytes().into(), NodeId::ROOT))
            .collect();
        let names = Names::of(&children);
        let bytes = names.encode(|entry| Dirent {
            nid: match entry {
                Entry::Itself => 1,
                Entry::Parent => 2,
                Entry::Child(_) => 3,
            },
            name: 0,
            kind: 2,
        });
        assert_eq!(bytes.len() as u64, names.size());
        bytes
    }

    #[test]
    fn an_empty_directory_has_its_own_two_names() {
        let expected = b"\x01\0\0\0\0\0\0\0\x18\0\x02\0\x02\0\0\0\0\0\0\0\x19\0\x02\0...";
        assert_eq!(encoded(&[]), expected);
    }

    #[test]
    fn names_are_sorted_by_their_bytes_the_own_two_among_them() {
        let bytes = encoded(&["a", "!", "..x", ".!"]);
        assert_eq!(&bytes[6 * 12..], b"!..!....xa");
    }

    #[test]
    fn a_name_that_does_not_fit_begins_the_next_block() {
        let long = "n".repeat(255);
        let other = "o".repeat(207);
        // 2 * 12 + 3 for its own, 12 + 255 and 12 + 206: a block to the last byte.
        assert_eq!(encoded(&[&long, &other[1..]]).len(), 512);
        let bytes = encoded(&[&long, &other]);
        assert_eq!(bytes.len(), 512 + 12 + 207);
        assert!(bytes[512 - 218..512].iter().all(|byte| *byte == 0));
    }
}
