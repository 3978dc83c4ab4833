//! Images that go, and those that a container can read beside its own: `--mount type=image`. These are held as its own is, from
//! before it is on record until its end; while it is on record, the record keeps them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use mybox_store::{Collected, Reference, Stack, Store};

use crate::container::{MountedImage, Places, events};
use crate::plan::RunRequest;

/// An image that is held.
#[derive(Debug)]
pub(super) struct HeldImage {
    /// Where it will be in the container.
    pub(super) destination: PathBuf,
    /// Its layers.
    pub(super) stack: Stack,
}

/// Holds all of them.
pub(super) fn hold(
    store: &Store,
    mounted: impl Iterator<Item = MountedImage>,
) -> Result<Vec<HeldImage>> {
    let hold = |mounted: MountedImage| -> Result<HeldImage> {
        let image = store
            .find(&mounted.manifest.to_string())
            .with_context(|| format!("find the image {} to be mounted", mounted.image))?;
        Ok(HeldImage {
            destination: mounted.destination,
            stack: store.stack(&image)?,
        })
    };
    mounted.map(hold).collect()
}

/// Tells of images that gc has removed, as `rmi` does.
pub fn tell_gone(places: &Places, collected: &Collected) {
    let images = &collected.plan.images;
    let familiar = |name: &String| {
        let reference: Option<Reference> = name.parse().ok();
        reference.map_or_else(|| name.clone(), |reference| reference.familiar())
    };
    let names = images.iter().flat_map(|image| &image.names).map(familiar);
    let ids = images.iter().flat_map(|image| &image.ids);
    events::images_gone(places, names, ids.map(ToString::to_string));
}

/// All that is to stay for as long as the container runs: its own layers, and theirs.
pub(super) fn stacks(images: Vec<HeldImage>, own: Stack) -> Vec<Stack> {
    let images = images.into_iter().map(|image| image.stack);
    images.chain([own]).collect()
}

/// As the record has them.
pub(super) fn mounted(request: &RunRequest) -> impl Iterator<Item = MountedImage> {
    request.image_mounts.iter().filter_map(|mount| {
        Some(MountedImage {
            image: mount.image.clone(),
            manifest: mount.manifest?,
            destination: mount.destination.clone(),
        })
    })
}
