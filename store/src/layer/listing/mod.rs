//! `layers/<hex>/tree.zst`: what a layer's tree holds, so that damage can be found and named.
//!
//! Text, compressed with zstd; its sha256, uncompressed, is `tree` in `layer.json`. The first line
//! says the version. Then one line for each name in the tree, sorted by their bytes at each level,
//! a directory before what is in it:
//!
//! ```text
//! mybox-tree 1
//! . d 0755 0 0 0
//! bin l 0777 0 0 1700000000 usr/bin
//! dev/null c 0666 0 0 1700000000 1:3
//! etc d 0755 0 0 1700000000.25
//! etc/shadow f 0640 0 42 1700000000 501 5f1c...e9
//! usr/bin/ping f 0755 0 0 1700000000 90568 07ab...01 security.capability=0100000200200000...
//! usr/bin/ping4 h usr/bin/ping
//! ```
//!
//! Path, type, mode (octal), owner, group, time of modification (seconds, decimal); then what the
//! type has: size and content of a file ([`super::content`]), target of a symlink, major and minor
//! of a device; then extended attributes, sorted by name, values in hex. Types: `d f l c b p s` as
//! find(1) has them, and `h`: one more name of what stands under that earlier one. In paths, targets
//! and names, bytes that are no visible ASCII are `\xHH`, and so are `\` and `=`.
//!
//! Not in it, since it changes by itself or with the filesystem: times of access and change, inode
//! numbers, sizes of directories, what is allocated, labels of the host's policy.

mod entry;
mod walk;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::content::Contents;
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Result};
use walk::Walk;

pub(crate) const LISTING: &str = "tree.zst";
const HEADER: &str = "mybox-tree 1\n";
/// A line may be long; most are about 150 bytes.
const PIECE: usize = 64 << 10;

/// What a listing's record in `layer.json` says.
pub(crate) struct Listed {
    /// The digest of the uncompressed listing.
    pub(crate) tree: Digest,
    /// Bytes really allocated for the tree, each inode once.
    pub(crate) allocated: u64,
}

/// Lists the tree `root` into a new file in the layer's directory, and flushes the file.
pub(crate) fn write(directory: &OwnedFd, root: OwnedFd, contents: Contents) -> Result<Listed> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let object = || format!("the layer's {LISTING}");
    let file = rustix::fs::openat(directory, LISTING, flags, Mode::from_raw_mode(0o644))
        .on("create", object)?;
    let mut output = Output::new(File::from(file)).on("write", object)?;
    let mut walk = Walk::new(root, contents);
    let mut text = HEADER.to_owned();
    while let Some(entry) = walk.next()? {
        entry.write(&mut text);
        if text.len() >= PIECE {
            output.put(&text).on("write", object)?;
            text.clear();
        }
    }
    output.put(&text).on("write", object)?;
    Ok(Listed {
        tree: output.finish().on("write", object)?,
        allocated: walk.allocated(),
    })
}

/// Hashes and compresses.
struct Output {
    hasher: Hasher,
    encoder: zstd::Encoder<'static, File>,
}

impl Output {
    fn new(file: File) -> io::Result<Self> {
        Ok(Self {
            hasher: Hasher::default(),
            encoder: zstd::Encoder::new(file, 1)?,
        })
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        self.hasher.update(text.as_bytes());
        self.encoder.write_all(text.as_bytes())
    }

    fn finish(self) -> io::Result<Digest> {
        self.encoder.finish()?.sync_all()?;
        Ok(self.hasher.finish())
    }
}
