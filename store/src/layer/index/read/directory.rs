//! The entries in a directory's blocks.

use super::Parsed;
use super::content::Place;
use crate::layer::index::format::{DIRENT, Dirent};
use crate::layer::index::tree::LONGEST_COMPONENT;

/// A name, and what it leads to.
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) kind: u8,
}

/// All entries, with the directory's own two; sorted, and none twice.
pub(super) fn entries<'a>(index: &'a [u8], place: &Place) -> Parsed<Vec<Entry<'a>>> {
    let mut entries = Vec::new();
    for block in place.blocks(index) {
        read_block(block, &mut entries)?;
    }
    let sorted = entries.windows(2).all(|pair| pair[0].name < pair[1].name);
    if !sorted {
        return Err("its names are not sorted".to_owned());
    }
    let has = |name: &[u8]| {
        let found = entries.binary_search_by(|entry: &Entry<'_>| entry.name.cmp(name));
        found.is_ok()
    };
    if !has(b".") || !has(b"..") {
        return Err("it lacks its own names".to_owned());
    }
    Ok(entries)
}

fn read_block<'a>(block: &'a [u8], entries: &mut Vec<Entry<'a>>) -> Parsed<()> {
    let bad = || "a block of it is bad".to_owned();
    let first = Dirent::decode(block.get(..DIRENT).ok_or_else(bad)?);
    // The first name lies behind the last entry.
    let names = usize::from(first.name);
    if names == 0 || names % DIRENT != 0 {
        return Err(bad());
    }
    let mut dirents = block
        .get(..names)
        .ok_or_else(bad)?
        .chunks_exact(DIRENT)
        .map(Dirent::decode)
        .peekable();
    let mut start = names;
    while let Some(dirent) = dirents.next() {
        let end = match dirents.peek() {
            Some(next) => usize::from(next.name),
            None => block.len(),
        };
        let mut name = block.get(start..end).ok_or_else(bad)?;
        if dirents.peek().is_none() {
            // Zeros fill the block.
            let last = name.iter().rposition(|byte| *byte != 0);
            name = &name[..last.map_or(0, |last| last + 1)];
        }
        let no_name = |byte: &u8| matches!(byte, 0 | b'/');
        if usize::from(dirent.name) != start
            || name.is_empty()
            || name.len() > LONGEST_COMPONENT
            || name.iter().any(no_name)
        {
            return Err(bad());
        }
        entries.push(Entry {
            name,
            nid: dirent.nid,
            kind: dirent.kind,
        });
        start = end;
    }
    Ok(())
}
