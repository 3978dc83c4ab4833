//! The names in a directory, sorted by their bytes, in one piece of memory: a directory may have a
//! million of them.

use std::os::fd::{AsFd, OwnedFd};

use crate::dir;
use crate::error::{Context, Result};

pub(crate) struct Names {
    /// All names, each behind its length.
    text: Vec<u8>,
    /// Where each begins, sorted by name, last first.
    starts: Vec<u32>,
}

impl Names {
    /// The names in an open directory; `path` is its name in errors.
    pub(crate) fn of(directory: &OwnedFd, path: &[u8]) -> Result<Self> {
        let mut names = Self {
            text: Vec::new(),
            starts: Vec::new(),
        };
        dir::each_name(directory.as_fd(), |name, _| {
            let name = name.to_bytes();
            let start = u32::try_from(names.text.len()).map_err(|_| rustix::io::Errno::NOMEM)?;
            names.starts.push(start);
            // NAME_MAX is 255.
            names
                .text
                .push(u8::try_from(name.len()).map_err(|_| rustix::io::Errno::NAMETOOLONG)?);
            names.text.extend_from_slice(name);
            Ok(())
        })
        .on_entry("read the directory", path)?;
        let Self { text, starts } = &mut names;
        starts.sort_unstable_by(|one, other| at(text, *other).cmp(at(text, *one)));
        Ok(names)
    }

    /// The next name.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        self.starts.pop().map(|start| at(&self.text, start))
    }
}

fn at(text: &[u8], start: u32) -> &[u8] {
    let start = start as usize;
    &text[start + 1..][..usize::from(text[start])]
}

#[cfg(test)]
mod tests {
    use super::Names;
    use crate::dir;

    #[test]
    fn names_come_sorted_by_their_bytes() {
        let temporary = tempfile::tempdir().unwrap();
        for name in ["b", "a", "a.b", "B", "\u{e9}", "a-b"] {
            std::fs::write(temporary.path().join(name), "").unwrap();
        }
        let mut names = Names::of(&dir::open_path(temporary.path()).unwrap(), b".").unwrap();
        let mut sorted = Vec::new();
        while let Some(name) = names.next() {
            sorted.push(String::from_utf8(name.to_vec()).unwrap());
        }
        assert_eq!(sorted, ["B", "a", "a-b", "a.b", "b", "\u{e9}"]);
    }
}
