//! The content of a file: in an unpacked layer's tree, and known by its digest from the listing; or lying in
//! the tar of an indexed layer, where it is read when somebody has to know.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use crate::error::{Context, Result};
use crate::layer::content::{Content, ContentHasher};
use crate::layer::index::tree::{Extent, FileData};
use crate::layer::indexed::{self, INDEX, TAR};
use crate::layer::listing::entry::Kind;

const READ_BUFFER: u64 = 256 << 10;

/// The files that an indexed layer's data lies in.
pub(super) struct LayerData {
    tar: File,
    index: File,
    /// The layer is not removed meanwhile.
    _held: OwnedFd,
}

/// The tree that an unpacked layer's data lies in.
pub(super) struct LayerTree {
    pub(super) root: OwnedFd,
    /// The layer is not removed meanwhile.
    pub(super) _held: OwnedFd,
}

impl LayerData {
    pub(super) fn open(directory: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            tar: indexed::open(&directory, TAR)?,
            index: indexed::open(&directory, INDEX)?,
            _held: directory,
        })
    }

    fn hash(&self, file: &FileData) -> io::Result<Content> {
        let mut hasher = ContentHasher::default();
        let mut buffer = Vec::new();
        let mut at = 0;
        for extent in &file.extents {
            hasher.skip(extent.offset - at);
            self.each_piece(extent, &mut buffer, |piece| hasher.update(piece))?;
            at = extent.offset + extent.length;
        }
        hasher.skip(file.size - at);
        Ok(hasher.finish())
    }

    pub(super) fn each_piece(
        &self,
        extent: &Extent,
        buffer: &mut Vec<u8>,
        mut tell: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let file = if extent.device == 0 {
            &self.index
        } else {
            &self.tar
        };
        let mut done = 0;
        while done < extent.length {
            let length = (extent.length - done).min(READ_BUFFER);
            buffer.resize(usize::try_from(length).expect("a buffer's length"), 0);
            file.read_exact_at(buffer, extent.at + done)?;
            tell(buffer);
            done += length;
        }
        Ok(())
    }
}

#[derive(Clone)]
pub(super) enum FileContent {
    /// A directory, or nothing that is known by more names than one.
    None,
    /// It is no file: there is nothing to be read, but all its names have this in common.
    NoFile(Arc<()>),
    Unpacked(Arc<Unpacked>),
    Lying(Arc<Lying>),
}

pub(super) struct Unpacked {
    pub(super) layer: Arc<LayerTree>,
    /// In the tree.
    pub(super) path: Vec<u8>,
    content: Content,
}

pub(super) struct Lying {
    pub(super) layer: Arc<LayerData>,
    pub(super) file: FileData,
    hashed: OnceLock<Content>,
}

impl FileContent {
    /// Takes the content out of what a listing says, so that all the rest can be compared by itself.
    pub(super) fn take_from(kind: &mut Kind, layer: &Arc<LayerTree>, path: &[u8]) -> Self {
        match *kind {
            Kind::File { size, content } => {
                *kind = Self::known_elsewhere(size);
                Self::Unpacked(Arc::new(Unpacked {
                    layer: Arc::clone(layer),
                    path: path.to_vec(),
                    content,
                }))
            }
            Kind::Directory => Self::None,
            _ => Self::no_file(),
        }
    }

    pub(super) fn no_file() -> Self {
        Self::NoFile(Arc::new(()))
    }

    /// A file whose content is not in it.
    pub(super) fn known_elsewhere(size: u64) -> Kind {
        let content = ContentHasher::default().finish();
        Kind::File { size, content }
    }

    pub(super) fn lying(layer: &Arc<LayerData>, file: &FileData) -> Self {
        Self::Lying(Arc::new(Lying {
            layer: Arc::clone(layer),
            file: file.clone(),
            hashed: OnceLock::new(),
        }))
    }

    pub(super) fn is_same(&self, other: &Self) -> Result<bool> {
        if let (Self::Lying(one), Self::Lying(other)) = (self, other)
            && Arc::ptr_eq(&one.layer, &other.layer)
            && one.file == other.file
        {
            return Ok(true);
        }
        Ok(self.get()? == other.get()?)
    }

    fn get(&self) -> Result<Option<Content>> {
        match self {
            Self::None | Self::NoFile(_) => Ok(None),
            Self::Unpacked(unpacked) => Ok(Some(unpacked.content)),
            Self::Lying(lying) => lying.get().map(Some),
        }
    }
}

impl Lying {
    fn get(&self) -> Result<Content> {
        if let Some(content) = self.hashed.get() {
            return Ok(*content);
        }
        let content = self.layer.hash(&self.file);
        let content = content.on("read", || "a file in a layer's tar".to_owned())?;
        Ok(*self.hashed.get_or_init(|| content))
    }
}
