//! What the store's tests share: a store in a directory of its own, and a builder of archives that
//! can also write what no packer would.

#![allow(dead_code, reason = "each test file uses a part of it")]

mod layout;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mybox_store::{Error, Image, ImportOptions, ImportSource, Store};

pub(crate) use layout::{Layout, digest};

/// A store in a temporary directory.
pub(crate) struct Scratch {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&directory.path().join("store")).expect("a store");
        Self { directory, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn import(&self, tar: &[u8]) -> Result<Image, Error> {
        self.import_with(tar, &ImportOptions::default())
    }

    pub(crate) fn import_as(&self, tar: &[u8], reference: &str) -> Image {
        let reference = Some(reference.parse().expect("a reference"));
        let options = ImportOptions {
            reference,
            ..ImportOptions::default()
        };
        self.import_with(tar, &options).expect("an import")
    }

    pub(crate) fn import_with(
        &self,
        mut tar: &[u8],
        options: &ImportOptions,
    ) -> Result<Image, Error> {
        let source = ImportSource::Stream {
            reader: &mut tar,
            name: "test.tar",
            total: None,
        };
        self.store.import(source, options, &mut |_| {})
    }

    pub(crate) fn import_directory(&self, path: &Path) -> Result<Image, Error> {
        let options = ImportOptions::default();
        self.store
            .import(ImportSource::Directory(path), &options, &mut |_| {})
    }

    /// Imports, and the tree of the only layer.
    pub(crate) fn unpack(&self, tar: &[u8]) -> PathBuf {
        let image = self
            .import(tar)
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        self.tree(&image)
    }

    /// Imports, and the tree with the store it is in.
    pub(crate) fn kept(self, tar: &[u8]) -> Tree {
        let root = self.unpack(tar);
        Tree {
            root,
            _scratch: self,
        }
    }

    pub(crate) fn tree(&self, image: &Image) -> PathBuf {
        self.store.stack(image).expect("a stack").layers()[0]
            .file()
            .path
            .clone()
    }

    /// Everything in the store but what an empty one has.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for directory in ["blobs/sha256", "layers", "ingest"] {
            let entries = std::fs::read_dir(self.store.root().join(directory)).expect("a listing");
            found.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        found
    }

    /// Asserts that an import fails, that its error says all of this, and that nothing stays.
    pub(crate) fn refuses(&self, tar: &[u8], says: &[&str]) {
        let error = chain(&self.import(tar).expect_err("the import should fail"));
        for text in says {
            assert!(error.contains(text), "{error:?} does not say {text:?}");
        }
        let left = self.leftovers();
        assert!(left.is_empty(), "left after {error}: {left:?}");
        assert!(self.store.images().expect("images").is_empty());
    }
}

/// A layer's tree, and the store that keeps it.
pub(crate) struct Tree {
    root: PathBuf,
    _scratch: Scratch,
}

impl Tree {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn meta(&self, name: &str) -> std::fs::Metadata {
        let path = self.path(name);
        std::fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// An extended attribute of a file or of a symlink itself.
pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

/// Bytes allocated to a file, or to a directory with all that is in it.
pub(crate) fn allocated(path: &Path) -> u64 {
    let metadata = std::fs::symlink_metadata(path).expect("what is measured");
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        let entries = std::fs::read_dir(path).expect("a listing");
        bytes += entries
            .map(|entry| allocated(&entry.expect("an entry").path()))
            .sum::<u64>();
    }
    bytes
}

/// The example that imports in a process of its own.
pub(crate) fn importer() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let target = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>/deps/<test>");
    target.join("examples/import")
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A tar being written by hand: every field as the test wants it.
#[derive(Clone, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
}

/// A header's fields, raw.
#[derive(Clone)]
pub(crate) struct Raw<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size: u64,
    pub(crate) mtime: u64,
    pub(crate) kind: u8,
    pub(crate) link: &'a [u8],
    pub(crate) device: (u32, u32),
}

impl Default for Raw<'_> {
    fn default() -> Self {
        Self {
            name: b"file",
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 1_000_000_000,
            kind: b'0',
            link: b"",
            device: (0, 0),
        }
    }
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }

    /// Without the end marker.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.data(
            &Raw {
                name: name.as_bytes(),
                ..Raw::default()
            },
            content,
        )
    }

    pub(crate) fn directory(self, name: &str, mode: u32) -> Self {
        self.raw(&Raw {
            name: name.as_bytes(),
            kind: b'5',
            mode,
            ..Raw::default()
        })
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        let (name, link) = (name.as_bytes(), target.as_bytes());
        self.raw(&Raw {
            name,
            link,
            kind: b'2',
            mode: 0o777,
            ..Raw::default()
        })
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.raw(&Raw {
            name: name.as_bytes(),
            link: target.as_bytes(),
            kind: b'1',
            ..Raw::default()
        })
    }

    /// A header and its data, padded; the size is that of the data.
    pub(crate) fn data(mut self, raw: &Raw<'_>, content: &[u8]) -> Self {
        self = self.raw(&Raw {
            size: content.len() as u64,
            ..raw.clone()
        });
        self.bytes(content)
    }

    /// Data, padded to a block.
    pub(crate) fn bytes(mut self, content: &[u8]) -> Self {
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// PAX records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let records: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect();
        self.data(
            &Raw {
                name: b"pax",
                kind: b'x',
                ..Raw::default()
            },
            &records,
        )
    }

    /// A header only.
    pub(crate) fn raw(mut self, raw: &Raw<'_>) -> Self {
        let mut block = [0_u8; 512];
        let put = |block: &mut [u8], at: usize, bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(&mut block, 0, &raw.name[..raw.name.len().min(100)]);
        put(&mut block, 100, &number(raw.mode.into(), 8));
        put(&mut block, 108, &number(raw.uid, 8));
        put(&mut block, 116, &number(raw.gid, 8));
        put(&mut block, 124, &number(raw.size, 12));
        put(&mut block, 136, &number(raw.mtime, 12));
        block[156] = raw.kind;
        put(&mut block, 157, &raw.link[..raw.link.len().min(100)]);
        put(&mut block, 257, b"ustar  \0");
        put(&mut block, 329, &number(raw.device.0.into(), 8));
        put(&mut block, 337, &number(raw.device.1.into(), 8));
        self.bytes.extend(checked(block));
        self
    }

    /// A block as it is, with its checksum made right.
    pub(crate) fn block(mut self, block: [u8; 512]) -> Self {
        self.bytes.extend(checked(block));
        self
    }
}

/// A header block with its checksum.
pub(crate) fn checked(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A numeric field: octal, or base-256 where that does not fit.
pub(crate) fn number(value: u64, width: usize) -> Vec<u8> {
    let text = format!("{value:0digits$o}\0", digits = width - 1);
    if text.len() == width {
        return text.into_bytes();
    }
    let mut field = vec![0; width];
    field[width - 8..].copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
    field
}

/// One PAX record.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    length = rest + length.to_string().len();
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}
