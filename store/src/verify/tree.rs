//! A layer's tree held against its listing: both sorted, so one walk finds what differs, what is
//! missing and what should not be there.

use std::cmp::Ordering;
use std::os::fd::OwnedFd;

use super::check::{Found, tells_of_damage};
use super::in_words;
use crate::error::{Error, Result, show};
use crate::layer::content::Contents;
use crate::layer::listing::Listing;
use crate::layer::listing::entry::{Entry, Inode, Kind, What};
use crate::layer::listing::walk::Walk;
use crate::xattr::Attributes;

/// Tells each path that is not as listed; the number of names that are.
pub(super) fn compare(mut listing: Listing, root: OwnedFd, found: Found<'_>) -> Result<u64> {
    let mut walk = Walk::new(root, Contents::default());
    let mut entries = 0;
    let mut listed = listing.next()?;
    let mut there = step(&mut walk, found)?;
    loop {
        match which(listed.as_ref(), there.as_ref()) {
            None => return Ok(entries),
            Some(Ordering::Less) => {
                let missing = listed.take().expect("it is less than something");
                tell(found, &missing.path, "missing");
                listed = after_listed(&mut listing, &missing.path)?;
            }
            Some(Ordering::Greater) => {
                let extra = there.take().expect("something is greater");
                tell(found, &extra.path, "not of this layer");
                there = after(&mut walk, &extra.path, found)?;
            }
            Some(Ordering::Equal) => {
                let (Some(was), Some(is)) = (listed.take(), there.take()) else {
                    unreachable!("only two entries are equal");
                };
                entries += 1;
                let differences = differences(&was.what, &is.what);
                if !differences.is_empty() {
                    tell(found, &was.path, &differences.join("; "));
                }
                // What is below something that is a directory only in one of them goes without
                // saying.
                listed = match is_directory(&is.what) {
                    true => listing.next()?,
                    false => after_listed(&mut listing, &was.path)?,
                };
                there = match is_directory(&was.what) {
                    true => step(&mut walk, found)?,
                    false => after(&mut walk, &is.path, found)?,
                };
            }
        }
    }
}

fn tell(found: Found<'_>, path: &[u8], problem: &str) {
    found(Some(show(path)), problem.to_owned());
}

/// The next entry; where the tree cannot be read any further, that is told, and the end.
fn step(walk: &mut Walk, found: Found<'_>) -> Result<Option<Entry>> {
    match walk.next() {
        Err(Error::EntryIo {
            entry,
            operation,
            source,
        }) if tells_of_damage(&source) => {
            found(
                Some(entry),
                format!("cannot {operation} it: {}", in_words(&source)),
            );
            Ok(None)
        }
        answer => answer,
    }
}

/// The next listed entry that is not below this one.
fn after_listed(listing: &mut Listing, path: &[u8]) -> Result<Option<Entry>> {
    loop {
        match listing.next()? {
            Some(entry) if is_below(&entry.path, path) => {}
            other => return Ok(other),
        }
    }
}

fn after(walk: &mut Walk, path: &[u8], found: Found<'_>) -> Result<Option<Entry>> {
    loop {
        match step(walk, found)? {
            Some(entry) if is_below(&entry.path, path) => {}
            other => return Ok(other),
        }
    }
}

/// Which of the two comes first; `None` if there are none left.
fn which(listed: Option<&Entry>, there: Option<&Entry>) -> Option<Ordering> {
    match (listed, there) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(listed), Some(there)) => Some(order(&listed.path, &there.path)),
    }
}

/// The order of a walk: by components, so that `a/b` comes before `a-`. The root is first.
fn order(one: &[u8], other: &[u8]) -> Ordering {
    let key = |path: &[u8]| -> Vec<u8> {
        if path == b"." {
            return Vec::new();
        }
        // No name has a NUL.
        let low = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        path.iter().map(low).collect()
    };
    key(one).cmp(&key(other))
}

/// Whether a path lies in a directory of this path.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn is_directory(what: &What) -> bool {
    matches!(
        what,
        What::Inode(Inode {
            kind: Kind::Directory,
            ..
        })
    )
}

/// How something is not what it was, in words.
fn differences(was: &What, is: &What) -> Vec<String> {
    match (was, is) {
        (What::Inode(was), What::Inode(is)) => inode_differences(was, is),
        (What::Hardlink(was), What::Hardlink(is)) if was == is => Vec::new(),
        (What::Hardlink(was), What::Hardlink(is)) => {
            vec![format!("a hardlink of {}, not of {}", show(is), show(was))]
        }
        (What::Hardlink(was), What::Inode(is)) => {
            vec![format!(
                "a {} of its own, not a hardlink of {}",
                is.kind.name(),
                show(was)
            )]
        }
        (What::Inode(was), What::Hardlink(is)) => {
            vec![format!(
                "a hardlink of {}, not a {} of its own",
                show(is),
                was.kind.name()
            )]
        }
    }
}

fn inode_differences(was: &Inode, is: &Inode) -> Vec<String> {
    let mut differences = Vec::new();
    differences.extend(kind_difference(&was.kind, &is.kind));
    if was.mode != is.mode {
        differences.push(format!("mode is {:04o}, not {:04o}", is.mode, was.mode));
    }
    if (was.uid, was.gid) != (is.uid, is.gid) {
        let (now, before) = ((is.uid, is.gid), (was.uid, was.gid));
        differences.push(format!(
            "owner is {}:{}, not {}:{}",
            now.0, now.1, before.0, before.1
        ));
    }
    if was.mtime != is.mtime {
        differences.push(format!(
            "time is {}, not {}",
            is.mtime.rfc3339(),
            was.mtime.rfc3339()
        ));
    }
    attribute_differences(&was.xattrs, &is.xattrs, &mut differences);
    differences
}

fn kind_difference(was: &Kind, is: &Kind) -> Option<String> {
    if was == is {
        return None;
    }
    Some(match (was, is) {
        (Kind::File { size: was, .. }, Kind::File { size: is, .. }) if was != is => {
            format!("size is {is}, not {was}")
        }
        (Kind::File { .. }, Kind::File { .. }) => "content differs".to_owned(),
        (Kind::Symlink(was), Kind::Symlink(is)) => {
            format!("target is {}, not {}", show(is), show(was))
        }
        _ => format!("{}, not {}", is.in_words(), was.in_words()),
    })
}

fn attribute_differences(was: &Attributes, is: &Attributes, differences: &mut Vec<String>) {
    let value = |attributes: &Attributes, name: &[u8]| {
        let found = attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    for (name, before) in was {
        match value(is, name) {
            None => differences.push(format!("attribute {} is missing", show(name))),
            Some(now) if now != *before => {
                differences.push(format!("attribute {} differs", show(name)));
            }
            Some(_) => {}
        }
    }
    for (name, _) in is {
        if value(was, name).is_none() {
            differences.push(format!("attribute {} is not of this layer", show(name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_ordered_as_a_walk_meets_them() {
        let mut paths: Vec<&[u8]> = vec![b"b", b"a-", b"a/b", b".", b"a", b"!", b"a/b/c", b"a/b-"];
        paths.sort_by(|one, other| order(one, other));
        let walked: [&[u8]; 8] = [b".", b"!", b"a", b"a/b", b"a/b/c", b"a/b-", b"a-", b"b"];
        assert_eq!(paths, walked);
    }
}
