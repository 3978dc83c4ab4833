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
use crate::layer::form::LayerForm;
use crate::{blob, dir, ingest, lock, reserve};

/// The format of the store this crate writes. Version 1 had no `images/`, no setting of the layers'
/// form and only layers that are unpacked: such a store is one of version 2 as soon as it says so.
const VERSION: u64 = 2;
const OLDER: u64 = 1;
const VERSION_FILE: &str = "mybox.json";
const LAYOUT: (&str, &[u8]) = ("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
const EMPTY_INDEX: (&str, &[u8]) = (
    "index.json",
    b"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}",
);
const DIRECTORIES: [&str; 4] = ["blobs", "layers", "ingest", IMAGES];
/// Merged indexes of images; what is in it can be made again.
pub(crate) const IMAGES: &str = "images";
/// What may be in a directory that becomes a store: an image layout, and what others put there.
const KNOWN: [&str; 12] = [
    "oci-layout",
    "index.json",
    reserve::NAME,
    VERSION_FILE,
    "blobs",
    "layers",
    "ingest",
    IMAGES,
    "containers",
    "networks",
    "volumes",
    "lost+found",
];

/// The version file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Format {
    version: u64,
    /// The form that layers get, if somebody has chosen one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer_form: Option<LayerForm>,
}

/// A store of images and layers. The handle is cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    layer_form: LayerForm,
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
        match read_format(&fd, root)?.map(|format| format.version) {
            Some(VERSION) => {}
            Some(OLDER) => upgrade(&fd, root)?,
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
        put_in_reserve(&fd);
        let inner = Inner {
            root: root.to_owned(),
            fd,
            blobs,
            layers,
            ingest,
        };
        Ok(Self {
            inner: Arc::new(inner),
            layer_form: LayerForm::default(),
        })
    }

    /// The same store, in which this handle lays layers down in this form. It is for the caller to
    /// know what the kernel can mount.
    pub fn with_layer_form(self, layer_form: LayerForm) -> Self {
        Self { layer_form, ..self }
    }

    /// The form that this handle lays layers down in.
    pub fn layer_form(&self) -> LayerForm {
        self.layer_form
    }

    /// The form that somebody has chosen for this store.
    pub fn layer_form_setting(&self) -> Result<Option<LayerForm>> {
        let format = read_format(&self.inner.fd, self.root())?;
        Ok(format.and_then(|format| format.layer_form))
    }

    /// Chooses a form for this store, or none. Layers that are there stay as they are.
    pub fn set_layer_form_setting(&self, layer_form: Option<LayerForm>) -> Result<()> {
        let lock = dir::open(&self.inner.fd, ".").on_path("open", self.root())?;
        lock::exclusive(&lock).on_path("lock", self.root())?;
        let format = Format {
            version: VERSION,
            layer_form,
        };
        write_format(&self.inner.fd, &format).on("write", || {
            self.root().join(VERSION_FILE).display().to_string()
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

/// Puts back what was spent on a full disk, or was never there. Where there is no room for it, or one may
/// only read, the store works without it.
fn put_in_reserve(fd: &OwnedFd) {
    if reserve::is_there(fd.as_fd()) {
        return;
    }
    let put = || -> io::Result<()> {
        let lock = dir::open(fd, ".")?;
        // Whoever has it sees to the reserve.
        if lock::try_exclusive(&lock)? {
            let index = rustix::fs::statat(fd, EMPTY_INDEX.0, AtFlags::empty())?;
            reserve::keep(fd.as_fd(), u64::try_from(index.st_size).unwrap_or(0))?;
        }
        Ok(())
    };
    let _ = put();
}

/// What the version file says, `None` where there is no store yet.
fn read_format(fd: &OwnedFd, root: &Path) -> Result<Option<Format>> {
    let path = || root.join(VERSION_FILE).display().to_string();
    let bytes = match blob::read_small(fd.as_fd(), VERSION_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path(), error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::json(path(), error))
}

fn write_format(fd: &OwnedFd, format: &Format) -> io::Result<()> {
    replace(fd, VERSION_FILE, &serde_json::to_vec(format)?)
}

/// Makes a store of version 1 one of version 2. The version file comes last, in one step. Somebody
/// who may only read finds all that a reader needs as it is.
fn upgrade(fd: &OwnedFd, root: &Path) -> Result<()> {
    let lock = dir::open(fd, ".").on_path("open", root)?;
    lock::exclusive(&lock).on_path("lock", root)?;
    let format = Format {
        version: VERSION,
        layer_form: None,
    };
    let is_older = read_format(fd, root)?.is_some_and(|format| format.version == OLDER);
    let upgraded = match is_older {
        true => dir::make(fd, IMAGES, Mode::RWXU)
            .map_err(io::Error::from)
            .and_then(|()| write_format(fd, &format)),
        false => Ok(()), // another process was faster
    };
    match upgraded {
        Err(error) if may_only_read(&error) => Ok(()),
        result => result.on_path("upgrade the store", root),
    }
}

fn may_only_read(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::ROFS | Errno::ACCESS | Errno::PERM))
}

/// Makes what is missing of the layout; the version file comes last, and says that all is there.
fn create(fd: &OwnedFd, root: &Path) -> Result<()> {
    let path = |name: &str| root.join(name).display().to_string();
    let lock = dir::open(fd, ".").on_path("open", root)?;
    lock::exclusive(&lock).on_path("lock", root)?;
    if read_format(fd, root)?.is_some() {
        return Ok(()); // another process was faster
    }
    refuse_foreign(fd, root)?;
    for name in DIRECTORIES {
        dir::make(fd, name, Mode::RWXU).on("create", || path(name))?;
    }
    dir::make(fd, "blobs/sha256", Mode::RWXU).on("create", || path("blobs/sha256"))?;
    let format = Format {
        version: VERSION,
        layer_form: None,
    };
    let format = serde_json::to_vec(&format).unwrap_or_default();
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
    replace(root, name, content)
}

fn replace(root: &OwnedFd, name: &str, content: &[u8]) -> io::Result<()> {
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
