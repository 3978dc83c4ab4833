//! Names of entries: cleaned, and told apart from whiteouts. No system calls.

use crate::error::{Error, Result, show};

const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Where an entry goes. Paths are relative to the layer's root, clean, and empty for the root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An ordinary entry.
    At { path: Vec<u8> },
    /// A mark that hides a name of the layers below.
    Whiteout { path: Vec<u8> },
    /// A mark that hides everything the layers below have in a directory.
    Opaque { directory: Vec<u8> },
    /// aufs's own metadata.
    Ignored,
}

/// Cleans a name and finds what it stands for.
pub(crate) fn place(raw: &[u8]) -> Result<Place> {
    let path = clean(raw)?;
    let (parent, last) = split(&path);
    if parent
        .split(|byte| *byte == b'/')
        .any(|part| part.starts_with(AUFS))
    {
        return Ok(Place::Ignored);
    }
    if parent
        .split(|byte| *byte == b'/')
        .any(|part| part.starts_with(WHITEOUT))
    {
        return Err(Error::bad_entry(
            raw,
            "a whiteout cannot have anything in it",
        ));
    }
    if last == OPAQUE {
        return Ok(Place::Opaque {
            directory: parent.to_vec(),
        });
    }
    if last.starts_with(AUFS) {
        return Ok(Place::Ignored);
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Place::At { path }),
        Some(b"" | b"." | b"..") => Err(Error::bad_entry(raw, "a whiteout of nothing")),
        Some(hidden) => Ok(Place::Whiteout {
            path: join(parent, hidden),
        }),
    }
}

/// Parent and last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        name.to_vec()
    } else {
        [parent, b"/", name].concat()
    }
}

/// The components of a path or link target, last first.
pub(crate) fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .rev()
        .collect()
}

/// Of a hardlink whose target never came.
pub(crate) fn link_to_nothing(path: &[u8], target: &[u8]) -> Error {
    let reason = format!("a hardlink to {}, which is not in the layer", show(target));
    Error::bad_entry(path, reason)
}

/// Drops `.`, empty components and a leading slash, as GNU tar does; refuses `..`, which no packer
/// writes and which means another place once symlinks are followed.
pub(crate) fn clean(raw: &[u8]) -> Result<Vec<u8>> {
    if raw.is_empty() {
        return Err(Error::bad_entry(raw, "an empty name"));
    }
    let mut path = Vec::with_capacity(raw.len());
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => {
                return Err(Error::bad_entry(
                    raw,
                    "`..` in a name leads out of where it belongs",
                ));
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_whiteouts_told_apart() {
        let at = |path: &str| Place::At { path: path.into() };
        let whiteout = |path: &str| Place::Whiteout { path: path.into() };
        let opaque = |path: &str| Place::Opaque {
            directory: path.into(),
        };
        for (raw, place_of_it) in [
            ("etc/passwd", at("etc/passwd")),
            ("./etc//./passwd", at("etc/passwd")),
            ("/etc/passwd", at("etc/passwd")),
            ("etc/", at("etc")),
            ("./", at("")),
            (".", at("")),
            ("/", at("")),
            ("a/...", at("a/...")),
            ("a/.wh.b", whiteout("a/b")),
            (".wh.b", whiteout("b")),
            ("a/.wh..b", whiteout("a/.b")),
            ("a/.wh..wh..opq", opaque("a")),
            (".wh..wh..opq", opaque("")),
            (".wh..wh.plnk/1.2", Place::Ignored),
            (".wh..wh.aufs", Place::Ignored),
        ] {
            assert_eq!(place(raw.as_bytes()).unwrap(), place_of_it, "{raw}");
        }
        for raw in [
            "", "..", "a/../b", "/..", "a/..", ".wh.", "a/.wh..", "a/.wh...", ".wh.a/b",
        ] {
            assert!(place(raw.as_bytes()).is_err(), "{raw}");
        }
    }
}
