//! What a file holds, as a digest that holes cost nothing in.
//!
//! A file is looked at in blocks of 64 KiB. A whole block of zeros may be a hole that was never
//! stored, and a sparse file may be larger than any disk: such blocks are not hashed, only where
//! they are. The digest of a file without them is the plain sha256 of its bytes.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, Hasher};

const BLOCK: usize = 64 << 10;
static ZEROS: [u8; BLOCK] = [0; BLOCK];
/// Files whose content is remembered while a layer is laid down: 10 MiB of table at most. What is
/// beyond is read again.
const MOST_REMEMBERED: usize = 224 << 10;

/// The digest of a file's content; together with the file's size it says all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// sha256 of the bytes.
    Plain(Digest),
    /// sha256 of sha256(the bytes of all blocks that are not zero) and sha256(offset and length of
    /// each run of blocks that are, as 64-bit little-endian numbers).
    Holes(Digest),
}

impl fmt::Display for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(digest) => write!(formatter, "{}", digest.hex()),
            Self::Holes(digest) => write!(formatter, "holes:{}", digest.hex()),
        }
    }
}

impl FromStr for Content {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix("holes:") {
            Some(hex) => Digest::from_hex(hex).map(Self::Holes),
            None => Digest::from_hex(text).map(Self::Plain),
        }
        .ok_or(())
    }
}

/// Takes the content of one file from its beginning, in pieces of any length.
#[derive(Default)]
pub(crate) struct ContentHasher {
    data: Hasher,
    runs: Hasher,
    /// Zeros at the beginning of the current block that were not hashed yet.
    zeros: usize,
    /// Bytes of the current block, if it is known not to be zero.
    filled: usize,
    /// The offset of the current block.
    block: u64,
    /// The run of zero blocks that ends where the current block begins.
    run: Option<u64>,
    holes: bool,
}

impl ContentHasher {
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK - self.zeros - self.filled;
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            self.piece(piece);
            bytes = rest;
        }
    }

    /// Takes zeros without touching them one by one.
    pub(crate) fn skip(&mut self, length: u64) {
        let room = (BLOCK - self.zeros - self.filled) as u64;
        if length <= room {
            // At most a block: it fits.
            self.update(&ZEROS[..length as usize]);
            return;
        }
        self.update(&ZEROS[..room as usize]);
        let left = length - room;
        let whole = left - left % BLOCK as u64;
        if whole > 0 {
            self.run.get_or_insert(self.block);
            self.block += whole;
        }
        self.update(&ZEROS[..(left - whole) as usize]);
    }

    pub(crate) fn finish(mut self) -> Content {
        self.data.update(&ZEROS[..self.zeros]);
        self.end_run();
        let data = self.data.finish();
        if !self.holes {
            return Content::Plain(data);
        }
        let mut both = Hasher::default();
        both.update(data.as_bytes());
        both.update(self.runs.finish().as_bytes());
        Content::Holes(both.finish())
    }

    /// Takes bytes that do not reach beyond the current block.
    fn piece(&mut self, piece: &[u8]) {
        if self.filled == 0 && piece == &ZEROS[..piece.len()] {
            self.zeros += piece.len();
            if self.zeros == BLOCK {
                self.run.get_or_insert(self.block);
                self.zeros = 0;
                self.block += BLOCK as u64;
            }
            return;
        }
        self.end_run();
        self.data.update(&ZEROS[..self.zeros]);
        self.data.update(piece);
        self.filled += self.zeros + piece.len();
        self.zeros = 0;
        if self.filled == BLOCK {
            self.filled = 0;
            self.block += BLOCK as u64;
        }
    }

    fn end_run(&mut self) {
        if let Some(start) = self.run.take() {
            self.runs.update(&start.to_le_bytes());
            self.runs.update(&(self.block - start).to_le_bytes());
            self.holes = true;
        }
    }
}

/// The content of files that were just written, by inode number.
#[derive(Debug, Default)]
pub(crate) struct Contents(HashMap<u64, Content>);

impl Contents {
    /// Remembers a file. One that is known was removed, and its inode used again.
    pub(crate) fn remember(&mut self, inode: u64, content: Content) {
        if self.0.len() < MOST_REMEMBERED || self.0.contains_key(&inode) {
            self.0.insert(inode, content);
        }
    }

    pub(crate) fn get(&self, inode: u64) -> Option<Content> {
        self.0.get(&inode).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Content {
        let mut hasher = ContentHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    fn cases() -> Vec<Vec<u8>> {
        let data = |length: usize| {
            (0..length)
                .map(|at| (at % 251) as u8 + 1)
                .collect::<Vec<_>>()
        };
        let zeros = |length: usize| vec![0; length];
        vec![
            Vec::new(),
            zeros(1),
            zeros(BLOCK - 1),
            zeros(BLOCK),
            zeros(BLOCK + 1),
            zeros(5 * BLOCK),
            data(1),
            data(3 * BLOCK + 17),
            [data(5), zeros(2 * BLOCK), data(5)].concat(),
            [data(BLOCK), zeros(2 * BLOCK), data(BLOCK)].concat(),
            [
                zeros(BLOCK),
                data(1),
                zeros(BLOCK - 1),
                zeros(3 * BLOCK + 9),
            ]
            .concat(),
            [zeros(100), data(100), zeros(10)].concat(),
        ]
    }

    #[test]
    fn the_pieces_make_no_difference() {
        for bytes in cases() {
            let expected = whole(&bytes);
            for size in [1, 7, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
                let mut hasher = ContentHasher::default();
                bytes.chunks(size).for_each(|piece| hasher.update(piece));
                assert_eq!(hasher.finish(), expected, "{} in {size}", bytes.len());
            }
        }
    }

    #[test]
    fn skipped_zeros_are_the_same_as_zeros() {
        for bytes in cases() {
            let mut hasher = ContentHasher::default();
            let mut at = 0;
            while at < bytes.len() {
                let zero = bytes[at] == 0;
                let end = bytes[at..].iter().position(|byte| (*byte == 0) != zero);
                let end = end.map_or(bytes.len(), |length| at + length);
                if zero {
                    hasher.skip((end - at) as u64);
                } else {
                    hasher.update(&bytes[at..end]);
                }
                at = end;
            }
            assert_eq!(hasher.finish(), whole(&bytes), "{}", bytes.len());
        }
        let mut huge = ContentHasher::default();
        huge.skip(u64::MAX / 2);
        assert!(matches!(huge.finish(), Content::Holes(_)));
    }

    #[test]
    fn contents_that_differ_have_digests_that_differ() {
        let cases = cases();
        for (at, one) in cases.iter().enumerate() {
            for other in &cases[at + 1..] {
                let (len, other_len) = (one.len(), other.len());
                // The size is recorded beside the digest.
                assert_ne!((len, whole(one)), (other_len, whole(other)));
            }
        }
        let plain = [b"plain".repeat(BLOCK)].concat();
        assert_eq!(whole(&plain), Content::Plain(Digest::of(&plain)));
        for content in [whole(&plain), whole(&vec![0; BLOCK])] {
            assert_eq!(content.to_string().parse(), Ok(content));
        }
    }
}
