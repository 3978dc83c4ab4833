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

pub(crate) mod entry;
pub(crate) mod walk;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::content::Contents;
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, Result};
use entry::Entry;
use walk::Walk;

pub(crate) const LISTING: &str = "tree.zst";
const HEADER: &str = "mybox-tree 1\n";
/// A line may be long; most are about 150 bytes.
const PIECE: usize = 64 << 10;
/// What level 1 uses: a damaged header gets no more.
const WINDOW_LOG: u32 = 21;

/// What a listing's record in `layer.json` says.
pub(crate) struct Listed {
    /// The digest of the uncompressed listing.
    pub(crate) tree: Digest,
    /// Bytes really allocated for the tree, each inode once.
    pub(crate) allocated: u64,
}

/// A listing that is what it was when it was written.
pub(crate) struct Listing {
    lines: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    line: String,
}

impl Listing {
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

    /// Opens the listing of a layer, if it has this digest.
    pub(crate) fn open(directory: impl AsFd, tree: Digest) -> Result<Self> {
        let found = digest(decoder(&directory)?)
            .map_err(|error| Error::damaged(LISTING, error.to_string()))?;
        if found != tree {
            return Err(Error::damaged(LISTING, format!("it has {found}")));
        }
        let mut listing = Self {
            lines: BufReader::with_capacity(PIECE, decoder(&directory)?),
            line: String::new(),
        };
        listing.line()?;
        if listing.line != HEADER {
            let reason = format!("its version {:?} is not known", listing.line);
            return Err(Error::damaged(LISTING, reason));
        }
        Ok(listing)
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        self.line()?;
        let Some(line) = self.line.strip_suffix('\n') else {
            return Ok(None);
        };
        match Entry::parse(line) {
            Some(entry) => Ok(Some(entry)),
            None => Err(Error::damaged(LISTING, format!("it has a line {line:?}"))),
        }
    }

    /// Reads a line; its digest was right, so it is no longer than an entry can be.
    fn line(&mut self) -> Result<()> {
        self.line.clear();
        let read = self.lines.read_line(&mut self.line);
        read.map(drop).on("read", || LISTING.to_owned())
    }
}

fn decoder(directory: impl AsFd) -> Result<zstd::Decoder<'static, BufReader<File>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || {
        let file = rustix::fs::openat(directory, LISTING, flags, Mode::empty())?;
        let mut decoder = zstd::Decoder::new(File::from(file))?;
        decoder.window_log_max(WINDOW_LOG)?;
        Ok::<_, io::Error>(decoder)
    };
    open().on("open", || LISTING.to_owned())
}

fn digest(mut listing: impl Read) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; PIECE];
    loop {
        match listing.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
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
