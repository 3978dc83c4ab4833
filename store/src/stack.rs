//! The layers of an image, ready to be stacked, and kept from removal while somebody has them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::blob::Held;
use crate::digest::{DiffId, Digest};
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::layer::HeldLayer;
use crate::layer::record::RECORD;
use crate::layer::source::Source;
use crate::layer::unpacked::TREE;
use crate::layout::Store;
use crate::{dir, object};

/// An image's layers, base first, each once. While this lives, or any process that has inherited its
/// descriptors, nobody removes them, nor the image.
#[derive(Debug)]
pub struct Stack {
    _manifest: Held,
    layers: Vec<StackLayer>,
}

impl Stack {
    /// The layers in the image's order: base first. Of one that the image has several times only the
    /// topmost is there: it hides all that the others would show, and overlayfs takes no directory
    /// twice.
    pub fn layers(&self) -> &[StackLayer] {
        &self.layers
    }
}

/// One layer of a stack.
#[derive(Debug)]
pub struct StackLayer {
    /// What the layer is.
    pub diff_id: DiffId,
    /// Its tree: `<root>/layers/<hex>/fs`.
    pub fs: PathBuf,
    tree: OwnedFd,
    lock: OwnedFd,
}

impl StackLayer {
    /// The open tree, for a lower directory of overlayfs: `/proc/self/fd/<n>`, or fsconfig's
    /// FSCONFIG_SET_FD. Close-on-exec.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// The descriptor that carries the shared lock. Close-on-exec; a process that shall keep the
    /// layer beyond this one's life inherits it.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Store {
    /// Holds an image and its layers. One that is missing is unpacked again from its blob.
    pub fn stack(&self, image: &Image) -> Result<Stack> {
        let manifest = self.hold_blob(image.manifest)?;
        // Removed since it was found.
        let manifest = manifest.ok_or_else(|| Error::NoSuchImage {
            name: image.id.to_string(),
        })?;
        self.used(image)?;
        let mut layers = Vec::with_capacity(image.layers.len());
        for (number, (layer, blob)) in image.layers.iter().zip(&image.blobs).enumerate() {
            if image.layers[number + 1..].contains(layer) {
                continue;
            }
            let held = loop {
                match self.hold_layer(*layer)? {
                    Some(held) => break held,
                    // What has just been made is locked exclusively: held again, it is shared.
                    None => drop(self.restore_layer(*layer, blob.digest)?),
                }
            };
            layers.push(self.stack_layer(*layer, held)?);
        }
        Ok(Stack {
            _manifest: manifest,
            layers,
        })
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

    fn stack_layer(&self, layer: DiffId, lock: OwnedFd) -> Result<StackLayer> {
        let path = Path::new(&self.layer_path(layer)).join(TREE);
        let tree = dir::open(&lock, TREE).on_path("open", &path)?;
        object::touch(&lock, RECORD).on_path("touch the record of", &path)?;
        Ok(StackLayer {
            diff_id: layer,
            fs: path,
            tree,
            lock,
        })
    }
}
