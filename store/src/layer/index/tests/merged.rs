//! One index merged of several layers' shows what overlayfs makes of their unpacked trees.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::kernel::{self, Layer};
use super::tars;
use super::trees::Chance;
use crate::dir;
use crate::layer::index::merge::{self, merge};
use crate::layer::index::read::read_file;
use crate::layer::index::tree::{Device, OPAQUE};
use crate::layer::index::write::{NothingToCopy, write};

#[test]
fn random_layers_merged_are_what_overlayfs_makes_of_them() {
    for seed in 0..20 {
        let layers = layers(seed);
        let directory = tempfile::tempdir().unwrap();
        let index = directory.path().join("merged.erofs");
        let devices = merge_into(&layers, &index);
        let devices: Vec<&Path> = devices.iter().map(PathBuf::as_path).collect();
        let what = format!("seed {seed}: merged");
        kernel::compare(&kernel::mount(&index, &devices), &overlay(&layers), &what);
    }
}

/// Layers in both forms, the base first.
fn layers(seed: u64) -> Vec<Layer> {
    let mut chance = Chance(seed);
    let mut layers = Vec::new();
    for _ in 0..2 + chance.below(3) {
        let fits = |tar: &[u8]| Layer::new(tar).index().is_ok();
        let layer = Layer::new(&tars::random(chance.next(), fits));
        layer.index().unwrap();
        layer.unpack().unwrap();
        layers.push(layer);
    }
    layers
}

/// The files that the merged index's data lies in.
fn merge_into(layers: &[Layer], index: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let tag = |file: PathBuf, files: &mut Vec<PathBuf>| {
        files.push(file);
        (files.len() - 1).to_string().into_bytes()
    };
    let trees = layers.iter().map(|layer| {
        let file = File::open(layer.erofs()).unwrap();
        let mut tree = read_file(&file, &layer.erofs()).unwrap();
        tree.devices[0].tag = tag(layer.tar(), &mut files);
        let index = Device {
            tag: tag(layer.erofs(), &mut files),
            length: file.metadata().unwrap().len(),
        };
        merge::Layer { tree, index }
    });
    let merged = merge(trees.collect());
    write(&merged, &NothingToCopy, &mut File::create(index).unwrap()).unwrap();
    let number = |device: &Device| String::from_utf8(device.tag.clone()).unwrap();
    let devices = merged.devices.iter().map(number);
    devices
        .map(|number| files[number.parse::<usize>().unwrap()].clone())
        .collect()
}

/// A detached mount of the layers' unpacked trees, and of an empty one at the bottom, since overlayfs
/// wants two at least.
fn overlay(layers: &[Layer]) -> OwnedFd {
    use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen};
    // It does not ask whether a root is opaque.
    let is_opaque = |layer: &Layer| {
        let opaque = str::from_utf8(OPAQUE).unwrap();
        rustix::fs::lgetxattr(layer.unpacked(), opaque, &mut [0; 1][..]).is_ok()
    };
    let lowest = layers.iter().rposition(is_opaque).unwrap_or(0);
    let empty = layers[0].directory().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for layer in layers[lowest..].iter().rev() {
        fsconfig_set_string(&context, "lowerdir+", layer.unpacked()).unwrap();
    }
    fsconfig_set_string(&context, "lowerdir+", empty).unwrap();
    fsconfig_create(&context).unwrap();
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap();
    dir::open(&mount, ".").unwrap()
}
