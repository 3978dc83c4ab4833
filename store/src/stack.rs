//! The layers of an image, ready to be stacked, and kept from removal while somebody has them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use crate::blob::Held;
use crate::digest::{DiffId, Digest};
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::layer::HeldLayer;
use crate::layer::indexed::{self, INDEX, TAR};
use crate::layer::record::RECORD;
use crate::layer::source::Source;
use crate::layer::unpacked::TREE;
use crate::layout::Store;
use crate::merged::merged_of;
use crate::{dir, object};

/// An image's layers, base first, each once. While this lives, or any process that has inherited its
/// descriptors, nobody removes them, nor the image.
#[derive(Debug)]
pub struct Stack {
    manifest: Held,
    /// The layers' directories. Each carries its layer's shared lock. Close-on-exec.
    locks: Vec<Arc<OwnedFd>>,
    layers: Vec<Lower>,
}

impl Stack {
    /// What to stack, in the image's order: base first. Where all layers are indexed that is one index,
    /// merged of theirs. Of a layer that the image has several times only the topmost is there: it hides
    /// all that the others would show, and overlayfs takes no directory twice.
    pub fn layers(&self) -> &[Lower] {
        &self.layers
    }

    /// What has to stay open for the layers to stay. Close-on-exec.
    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        // The merged index has its lock on its own descriptor.
        let mut descriptors: Vec<OwnedFd> = self
            .layers
            .into_iter()
            .map(|lower| match lower {
                Lower::Tree(tree) => tree.fd,
                Lower::Indexed(indexed) => indexed.index.fd,
            })
            .collect();
        descriptors.push(self.manifest.into());
        let locks = self.locks.into_iter();
        descriptors.extend(locks.map(|lock| {
            Arc::into_inner(lock).expect("what pointed into the layers has gone with them")
        }));
        descriptors
    }
}

/// A lower layer of overlayfs, as it lies in the store.
#[derive(Debug)]
pub enum Lower {
    /// A directory: `<root>/layers/<hex>/fs`.
    Tree(StoreFile),
    /// An EROFS image, which mounted is a directory.
    Indexed(Indexed),
}

impl Lower {
    /// The tree, or the EROFS image.
    pub fn file(&self) -> &StoreFile {
        match self {
            Self::Tree(tree) => tree,
            Self::Indexed(indexed) => &indexed.index,
        }
    }
}

/// An EROFS image without data of its own.
#[derive(Debug)]
pub struct Indexed {
    /// The image.
    pub index: StoreFile,
    /// The files that its data lies in, in the order of its device table.
    pub devices: Vec<DataFile>,
}

/// A file that an index points into: a name in the directory of a layer that is held. It is not open: an
/// image may have hundreds, and only the kernel reads them. What is in a held directory stays in it, even
/// if the layer is exchanged for the same one in another form.
#[derive(Debug)]
pub struct DataFile {
    /// Where it lies.
    pub path: PathBuf,
    /// `st_dev` and `st_ino`.
    pub inode: (u64, u64),
    directory: Arc<OwnedFd>,
    name: &'static str,
}

impl DataFile {
    /// Looks for it; `None` if it is not there.
    pub(crate) fn find(
        directory: &Arc<OwnedFd>,
        name: &'static str,
        path: PathBuf,
    ) -> Result<Option<Self>> {
        let stat = object::stat(directory.as_fd(), name).on_path("stat", &path)?;
        Ok(stat.map(|stat| Self {
            path,
            inode: (stat.st_dev, stat.st_ino),
            directory: Arc::clone(directory),
            name,
        }))
    }

    /// The directory that it is in, and its name there.
    pub fn place(&self) -> (BorrowedFd<'_>, &'static str) {
        (self.directory.as_fd(), self.name)
    }
}

/// An open file or directory of the store.
#[derive(Debug)]
pub struct StoreFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its descriptor. Close-on-exec.
    pub fd: OwnedFd,
}

impl Store {
    /// Holds an image and its layers. One that is missing is laid down again from its blob.
    pub fn stack(&self, image: &Image) -> Result<Stack> {
        let manifest = self.hold_blob(image.manifest)?;
        // Removed since it was found.
        let manifest = manifest.ok_or_else(|| Error::NoSuchImage {
            name: image.id.to_string(),
        })?;
        self.used(image)?;
        let mut held = Vec::new();
        for (number, (layer, blob)) in image.layers.iter().zip(&image.blobs).enumerate() {
            if image.layers[number + 1..].contains(layer) {
                continue;
            }
            let directory = loop {
                match self.hold_layer(*layer)? {
                    Some(directory) => break directory,
                    // What has just been made is locked exclusively: held again, it is shared.
                    None => drop(self.restore_layer(*layer, blob.digest)?),
                }
            };
            object::touch_if_stale(&directory, RECORD)
                .on("touch the record of", || self.layer_path(*layer))?;
            held.push((*layer, Arc::new(directory)));
        }
        let layers = match self.merged_for_run(image, &held)? {
            Some(merged) => vec![Lower::Indexed(merged)],
            None => self.lowers(&held)?,
        };
        Ok(Stack {
            manifest,
            locks: held.into_iter().map(|(_, lock)| lock).collect(),
            layers,
        })
    }

    /// The merged index of the layers, made if it is missing. What keeps it from being made, a full
    /// disk or one that is only to be read, keeps nobody from stacking the layers one by one.
    fn merged_for_run(
        &self,
        image: &Image,
        held: &[(DiffId, Arc<OwnedFd>)],
    ) -> Result<Option<Indexed>> {
        match self.hold_merged(&image.layers, held)? {
            None if merged_of(&image.layers).is_some() => {}
            there => return Ok(there),
        }
        match self.merge(image) {
            Ok(true) => self.hold_merged(&image.layers, held),
            Ok(false) | Err(Error::Io { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lowers(&self, held: &[(DiffId, Arc<OwnedFd>)]) -> Result<Vec<Lower>> {
        let lower = |(layer, directory): &(DiffId, Arc<OwnedFd>)| self.lower(*layer, directory);
        held.iter().map(lower).collect()
    }

    /// Makes a layer anew from its blob.
    fn restore_layer(&self, layer: DiffId, blob: Digest) -> Result<HeldLayer> {
        let mut file = self.open_blob(blob)?;
        let source = Source::of_blob(blob, &mut file);
        let source = source.lying_at(blob, layer, self.place_of_blob(blob));
        self.make_layer(layer, blob, source, &mut |_| {})
            .map_err(|error| match error {
                Error::Mismatch { found, .. } => {
                    let reason = format!("its bytes have another digest: they are layer {found}");
                    Error::damaged(self.blob_path(blob), reason)
                }
                other => other,
            })
    }

    /// A layer has the files of its form.
    fn lower(&self, layer: DiffId, held: &Arc<OwnedFd>) -> Result<Lower> {
        let directory = PathBuf::from(self.layer_path(layer));
        let path = directory.join(TREE);
        let tree = dir::open(held, TREE);
        if tree.as_ref().is_err_and(|errno| *errno == Errno::NOENT) {
            let path = directory.join(INDEX);
            let fd = indexed::open(held, INDEX).on_path("open", &path)?.into();
            let index = StoreFile { path, fd };
            let tar = directory.join(TAR);
            let missing = || Error::damaged(tar.display(), "it is missing");
            let tar = DataFile::find(held, TAR, tar.clone())?.ok_or_else(missing)?;
            let devices = vec![tar];
            return Ok(Lower::Indexed(Indexed { index, devices }));
        }
        let fd = tree.on_path("open", &path)?;
        Ok(Lower::Tree(StoreFile { path, fd }))
    }
}
