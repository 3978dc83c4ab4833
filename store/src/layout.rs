//! The store as a directory: making it, checking its format, sweeping what dead processes left.
//!
//! Opening a store that exists takes a handful of system calls and one listing of `ingest/`,
//! whatever the number of layers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::ingest::Temporary;
use crate::{blob, dir, ingest, lock};

/// The format of the store this crate reads and writes.
const VERSION: u64 = 1;
const VERSION_FILE: &str = "mybox.json";
const LAYOUT: (&str, &[u8]) = ("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
const EMPTY_INDEX: (&str, &[u8]) = (
    "index.json",
    b"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}",
);
const DIRECTORIES: [&str; 3] = ["blobs", "layers", "ingest"];
/// What may be in a directory that becomes a store: an image layout, and what others put there.
const KNOWN: [&str; 10] = [
    "oci-layout",
    "index.json",
    VERSION_FILE,
    "blobs",
    "layers",
    "ingest",
    "containers",
    "networks",
    "volumes",
    "lost+found",
];

/// The version file.
#[derive(Serialize, Deserialize)]
struct Format {
    version: u64,
}

/// A store of images and layers. The handle is cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    fd: OwnedFd,
    blobs: OwnedFd,
    layers: OwnedFd,
    ingest: OwnedFd,
}

impl Store {
    /// Opens the store, making it if there is none, and removes what dead processes left in
    /// `ingest/`. An existing store may be read-only.
    pub fn open(root: &Path) -> Result<Self> {
        let fd = open_root(root)?;
        match read_version(&fd, root)? {
            Some(VERSION) => {}
            Some(found) => {
                return Err(Error::NewerStore {
                    root: root.to_owned(),
                    found,
                    known: VERSION,
                });
            }
            None => create(&fd, root)?,
        }
        let open =
            |name: &str| dir::open(&fd, name).on("open", || root.join(name).display().to_string());
        let (blobs, layers, ingest) = (open("blobs/sha256")?, open("layers")?, open("ingest")?);
        match ingest::sweep(ingest.as_fd()) {
            // Somebody who may only read leaves the sweeping to others.
            Ok(()) | Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {}
            Err(errno) => return Err(Error::io("sweep", root.join("ingest").display(), errno)),
        }
        let inner = Inner {
            root: root.to_owned(),
            fd,
            blobs,
            layers,
            ingest,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The store's root directory, as it was given.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    pub(crate) fn root_fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_fd()
    }

    pub(crate) fn blobs(&self) -> BorrowedFd<'_> {
        self.inner.blobs.as_fd()
    }

    pub(crate) fn layers(&self) -> BorrowedFd<'_> {
        self.inner.layers.as_fd()
    }

    pub(crate) fn ingest(&self) -> BorrowedFd<'_> {
        self.inner.ingest.as_fd()
    }
}

fn open_root(root: &Path) -> Result<OwnedFd> {
    match dir::open_path(root) {
        Err(Errno::NOENT) => {}
        result => return result.on_path("open the store", root),
    }
    // Layers hold setuid programs and other people's files: nobody else gets in.
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .recursive(true)
        .create(root)
        .on_path("create the store", root)?;
    dir::open_path(root).on_path("open the store", root)
}

/// The format's version, `None` where there is no store yet.
fn read_version(fd: &OwnedFd, root: &Path) -> Result<Option<u64>> {
    let path = || root.join(VERSION_FILE).display().to_string();
    let bytes = match blob::read_small(fd.as_fd(), VERSION_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path(), error)),
    };
    let format: Format =
        serde_json::from_slice(&bytes).map_err(|error| Error::json(path(), error))?;
    Ok(Some(format.version))
}

/// Makes what is missing of the layout; the version file comes last, and says that all is there.
fn create(fd: &OwnedFd, root: &Path) -> Result<()> {
    let path = |name: &str| root.join(name).display().to_string();
    let lock = dir::open(fd, ".").on_path("open", root)?;
    lock::exclusive(&lock).on_path("lock", root)?;
    if read_version(fd, root)?.is_some() {
        return Ok(()); // another process was faster
    }
    refuse_foreign(fd, root)?;
    for name in DIRECTORIES {
        dir::make(fd, name, Mode::RWXU).on("create", || path(name))?;
    }
    dir::make(fd, "blobs/sha256", Mode::RWXU).on("create", || path("blobs/sha256"))?;
    let format = serde_json::to_vec(&Format { version: VERSION }).unwrap_or_default();
    for (name, content) in [LAYOUT, EMPTY_INDEX, (VERSION_FILE, &*format)] {
        write_once(fd, name, content).on("create", || path(name))?;
    }
    Ok(())
}

fn refuse_foreign(fd: &OwnedFd, root: &Path) -> Result<()> {
    let mut foreign = None;
    dir::each_name(fd.as_fd(), |name, _| {
        let name = name.to_string_lossy();
        if !KNOWN.contains(&&*name) {
            foreign = Some(name.into_owned());
        }
        Ok(())
    })
    .on_path("read", root)?;
    match foreign {
        Some(found) => Err(Error::NotAStore {
            root: root.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

fn write_once(root: &OwnedFd, name: &str, content: &[u8]) -> io::Result<()> {
    if rustix::fs::accessat(root, name, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok() {
        return Ok(());
    }
    let ingest = rustix::fs::openat(
        root,
        "ingest",
        dir::OPEN_DIR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let file = Temporary::with_bytes(ingest.as_fd(), content)?;
    file.flush()?;
    file.publish(root.as_fd(), name)?;
    Ok(())
}
