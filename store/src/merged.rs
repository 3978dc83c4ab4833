//! `images/<chain id>.erofs`: one index over the tars of all layers of an image, so that it is one
//! mount and one lower directory, whatever the number of its layers.
//!
//! Made from the layers' own indexes, each of which is a few bytes for each file; it is never needed,
//! since the layers can be stacked one by one, and can always be made again. Its name is the chain id
//! of the layers (OCI image-spec, config.md "Layer ChainID"): what it shows depends on nothing else.
//!
//! Its device table says where its files' data lies, by tags: `<diff id hex>` for a layer's tar,
//! `index:<the first 58 digits>` for a layer's index, where what could not be pointed to lies.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags};

use crate::digest::{DiffId, Digest};
use crate::dir;
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::ingest::Temporary;
use crate::layer::index::merge::{self, merge};
use crate::layer::index::tree::Device;
use crate::layer::index::{read, write};
use crate::layer::indexed::{self, INDEX, TAR};
use crate::layout::{IMAGES, Store};
use crate::lock::{self, SingleFlight};
use crate::object::{merged_file, merged_name};
use crate::stack::{DataFile, Indexed, StoreFile};

const INDEX_TAG: &str = "index:";
/// As many layers as overlayfs stacks.
const MOST_LAYERS: usize = 500;

/// The chain id of layers, base first: what they are called together.
pub(crate) fn chain_id(layers: &[DiffId]) -> Option<Digest> {
    let (base, others) = layers.split_first()?;
    Some(others.iter().fold(base.digest(), |chain, layer| {
        Digest::of(format!("{chain} {layer}").as_bytes())
    }))
}

/// What the merged index of these layers is called, if there can be one: a single layer has its own,
/// and more than overlayfs stacks cannot be run anyway.
pub(crate) fn merged_of(layers: &[DiffId]) -> Option<Digest> {
    chain_id(layers).filter(|_| (2..=MOST_LAYERS).contains(&layers.len()))
}

fn tar_tag(layer: DiffId) -> Vec<u8> {
    layer.hex().into_bytes()
}

/// A tag has 64 bytes at most.
fn index_tag(layer: DiffId) -> Vec<u8> {
    format!("{INDEX_TAG}{}", &layer.hex()[..64 - INDEX_TAG.len()]).into_bytes()
}

impl Store {
    /// Makes the merged index of an image whose layers are all indexed, unless it is there or would
    /// be the same as the index of its only layer. Whether the image has one now.
    ///
    /// The caller holds the layers.
    pub fn merge(&self, image: &Image) -> Result<bool> {
        let layers = &image.layers;
        let Some(chain) = merged_of(layers) else {
            return Ok(false);
        };
        let path = || self.merged_path(chain);
        let turn = format!("image-{}", chain.hex());
        let _turn = SingleFlight::enter(self.ingest(), &turn, || {}).on("lock", path)?;
        if self.hold_merged_file(chain)?.is_some() {
            return Ok(true);
        }
        let Some(bytes) = self.merged_bytes(layers)? else {
            return Ok(false);
        };
        let file = Temporary::with_bytes(self.ingest(), &bytes).on("write", path)?;
        file.flush().on("flush", path)?;
        let images = dir::open(self.root_fd(), IMAGES).on("open the directory of", path)?;
        let file = file
            .publish(images.as_fd(), &merged_file(chain))
            .on("publish", path)?;
        self.share(&file)?;
        Ok(true)
    }

    /// The bytes that the merged index of these layers has to have; `None` where it can have none.
    pub(crate) fn merged_bytes(&self, layers: &[DiffId]) -> Result<Option<Vec<u8>>> {
        let Some(trees) = self.indexed_trees(layers)? else {
            return Ok(None);
        };
        let mut bytes = io::Cursor::new(Vec::new());
        write::write(&merge(trees), &write::NothingToCopy, &mut bytes)?;
        Ok(Some(bytes.into_inner()))
    }

    /// The layers' trees, if all of them are indexed.
    fn indexed_trees(&self, layers: &[DiffId]) -> Result<Option<Vec<merge::Layer>>> {
        let mut trees = Vec::with_capacity(layers.len());
        for layer in layers {
            let Some(directory) = self.hold_indexed(*layer)? else {
                return Ok(None);
            };
            let path = PathBuf::from(self.layer_path(*layer));
            let mut tree = indexed::tree(&directory, &path)?;
            for device in &mut tree.devices {
                device.tag = tar_tag(*layer);
            }
            let length = rustix::fs::statat(&directory, INDEX, AtFlags::empty())
                .on_path("stat the index of", &path)?
                .st_size;
            let index = Device {
                tag: index_tag(*layer),
                length: u64::try_from(length).unwrap_or(0),
            };
            trees.push(merge::Layer { tree, index });
        }
        Ok(Some(trees))
    }

    /// Holds the merged index of these layers, if there is one, with the files that it points into.
    /// The layers are held by their directories.
    pub(crate) fn hold_merged(
        &self,
        layers: &[DiffId],
        held: &[(DiffId, Arc<OwnedFd>)],
    ) -> Result<Option<Indexed>> {
        let Some(chain) = merged_of(layers) else {
            return Ok(None);
        };
        let Some(fd) = self.hold_merged_file(chain)? else {
            return Ok(None);
        };
        let path = PathBuf::from(self.merged_path(chain));
        let file = File::from(fd);
        let names: Vec<String> = held.iter().map(|(layer, _)| layer.hex()).collect();
        let directories = self.root().join("layers");
        let mut devices = Vec::new();
        let mut last = 0;
        for device in read::devices(&file, &path)? {
            let foreign =
                || Error::damaged(path.display(), "it points into another image's layers");
            let (number, name) = tagged(&names, last, &device.tag).ok_or_else(foreign)?;
            last = number;
            let path = directories.join(&names[number]).join(name);
            match DataFile::find(&held[number].1, name, path)? {
                Some(file) => devices.push(file),
                // The layer is of another form now.
                None => return Ok(None),
            }
        }
        let fd = file.into();
        let index = StoreFile { path, fd };
        Ok(Some(Indexed { index, devices }))
    }

    pub(crate) fn hold_merged_file(&self, chain: Digest) -> Result<Option<OwnedFd>> {
        lock::open_shared(self.root_fd(), &merged_name(chain), OFlags::RDONLY)
            .on("lock", || self.merged_path(chain))
    }

    pub(crate) fn merged_path(&self, chain: Digest) -> String {
        let path = self.root().join(merged_name(chain));
        path.display().to_string()
    }
}

/// The number of the layer that a tag means, and which file of it. It is looked for from `first` on and
/// then from the beginning: devices come in the order of the layers.
fn tagged(layers: &[String], first: usize, tag: &[u8]) -> Option<(usize, &'static str)> {
    let (digits, name) = match tag.strip_prefix(INDEX_TAG.as_bytes()) {
        Some(digits) => (digits, INDEX),
        None => (tag, TAR),
    };
    if tag.len() != 64 {
        return None;
    }
    let mut numbers = (first..layers.len()).chain(0..first);
    let number = numbers.find(|number| layers[*number].as_bytes().starts_with(digits))?;
    Some((number, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own definition, step by step.
    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let layer = |text: &str| DiffId::from(Digest::of(text.as_bytes()));
        let (a, b, c) = (layer("a"), layer("b"), layer("c"));
        assert_eq!(chain_id(&[]), None);
        assert_eq!(chain_id(&[a]), Some(a.digest()));
        let two = Digest::of(format!("{} {}", a.digest(), b.digest()).as_bytes());
        assert_eq!(chain_id(&[a, b]), Some(two));
        let three = Digest::of(format!("{two} {}", c.digest()).as_bytes());
        assert_eq!(chain_id(&[a, b, c]), Some(three));
        assert_ne!(chain_id(&[a, c, b]), Some(three));
    }

    #[test]
    fn tags_mean_a_file_of_a_layer_wherever_the_search_begins() {
        let diff_ids = ["a", "b", "c"].map(|text| DiffId::from(Digest::of(text.as_bytes())));
        let layers = diff_ids.map(|layer| layer.hex());
        for (number, layer) in diff_ids.into_iter().enumerate() {
            for first in 0..layers.len() {
                assert_eq!(tagged(&layers, first, &tar_tag(layer)), Some((number, TAR)));
                let of_index = tagged(&layers, first, &index_tag(layer));
                assert_eq!(of_index, Some((number, INDEX)));
            }
        }
        let foreign = DiffId::from(Digest::of(b"d"));
        for tag in [
            tar_tag(foreign),
            index_tag(foreign),
            Vec::new(),
            b"index:".to_vec(),
        ] {
            assert_eq!(tagged(&layers, 1, &tag), None);
        }
    }
}
