//! What the store's tests share: a store in a directory of its own, and a builder of archives.

#![allow(dead_code, reason = "each test file uses a part of it")]

mod archive;
mod forms;
mod layout;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mybox_store::{Error, Image, ImportOptions, ImportSource, LayerForm, Store};

pub(crate) use archive::{Archive, Raw, number};
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

    /// A store whose layers get this form.
    pub(crate) fn with_layer_form(form: LayerForm) -> Self {
        let Self { directory, store } = Self::new();
        let store = store.with_layer_form(form);
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

    /// Imports, and makes sure that an index would show the same tree.
    pub(crate) fn import_with(&self, tar: &[u8], options: &ImportOptions) -> Result<Image, Error> {
        let image = import(&self.store, tar, options)?;
        if self.store.layer_form() == LayerForm::Unpacked {
            forms::compare(tar, &self.tree(&image));
        }
        Ok(image)
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

    /// Asserts that an import fails in both forms, that its error says all of this, and that nothing
    /// stays.
    pub(crate) fn refuses(&self, tar: &[u8], says: &[&str]) {
        let store = self.store.clone().with_layer_form(LayerForm::Indexed);
        for store in [&self.store, &store] {
            self.refuses_in(store, tar, says);
        }
    }

    /// As [`Scratch::refuses`], where only unpacking has a reason to.
    pub(crate) fn refuses_to_unpack(&self, tar: &[u8], says: &[&str]) {
        self.refuses_in(&self.store, tar, says);
    }

    fn refuses_in(&self, store: &Store, tar: &[u8], says: &[&str]) {
        let error = import(store, tar, &ImportOptions::default());
        let error = chain(&error.expect_err("the import should fail"));
        for text in says {
            assert!(error.contains(text), "{error:?} does not say {text:?}");
        }
        let left = self.leftovers();
        assert!(left.is_empty(), "left after {error}: {left:?}");
        assert!(self.store.images().expect("images").is_empty());
    }
}

/// Imports, in the form that the handle has.
fn import(store: &Store, mut tar: &[u8], options: &ImportOptions) -> Result<Image, Error> {
    let source = ImportSource::Stream {
        reader: &mut tar,
        name: "test.tar",
        total: None,
    };
    store.import(source, options, &mut |_| {})
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
