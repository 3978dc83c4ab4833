//! Who shares what: layers and the images that have them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::digest::{DiffId, Digest};
use crate::image::Image;
use crate::object::{Measured, Object};
use crate::survey::Survey;

/// A layer, and who has it.
#[derive(Debug)]
pub struct SharedLayer<'a> {
    /// What the layer is.
    pub diff_id: DiffId,
    /// What it is on the disk; `None` where it is not unpacked.
    pub measured: Option<Measured>,
    /// The blob it comes in, and how long that is; `None` where no image tells.
    pub blob: Option<(Digest, u64)>,
    /// The images that have it.
    pub images: Vec<&'a Image>,
    /// The containers that are made of those.
    pub containers: BTreeSet<&'a str>,
}

/// Bytes of an image's layers on the disk, each layer once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Those that no other image has.
    pub own: u64,
    /// Those that other images have as well.
    pub shared: u64,
}

impl Shares {
    /// All of them.
    pub fn total(self) -> u64 {
        self.own + self.shared
    }
}

impl Survey {
    /// Every layer that an image has or that lies on the disk, by diff id.
    pub fn layers(&self) -> Vec<SharedLayer<'_>> {
        let mut layers: BTreeMap<DiffId, SharedLayer<'_>> = BTreeMap::new();
        let empty = |diff_id| SharedLayer {
            diff_id,
            measured: self.objects.get(&Object::Layer(diff_id)).copied(),
            blob: None,
            images: Vec::new(),
            containers: BTreeSet::new(),
        };
        for object in self.objects.keys() {
            if let Object::Layer(layer) = *object {
                layers.insert(layer, empty(layer));
            }
        }
        for image in self.all_images() {
            let mut seen = HashSet::new();
            for (layer, blob) in image.layers.iter().zip(&image.blobs) {
                if !seen.insert(*layer) {
                    continue;
                }
                let shared = layers.entry(*layer).or_insert_with(|| empty(*layer));
                shared.blob.get_or_insert((blob.digest, blob.size));
                shared.images.push(image);
                shared.containers.extend(self.users(image.manifest));
            }
        }
        layers.into_values().collect()
    }

    /// By the image's manifest, what it has alone and what it shares.
    pub fn shares(&self) -> HashMap<Digest, Shares> {
        let each = |image: &Image| -> HashSet<DiffId> { image.layers.iter().copied().collect() };
        let mut images: HashMap<DiffId, usize> = HashMap::new();
        for layer in self.all_images().flat_map(each) {
            *images.entry(layer).or_default() += 1;
        }
        let of_one = |image: &Image| {
            let mut shares = Shares::default();
            for layer in each(image) {
                let bytes = self.bytes(Object::Layer(layer));
                if images[&layer] > 1 {
                    shares.shared += bytes;
                } else {
                    shares.own += bytes;
                }
            }
            (image.manifest, shares)
        };
        self.all_images().map(of_one).collect()
    }

    /// The images of the catalog, and those that only containers know.
    pub fn all_images(&self) -> impl Iterator<Item = &Image> {
        self.catalog.images.iter().chain(&self.unlisted)
    }
}
