//! How much containers have written.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};
use mybox_store::{Store, allocated};

use crate::container::find::Container;
use crate::container::{Files, Places};
use crate::kernel::process;

/// Bytes that a container takes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Of its upper layer: what it has written.
    pub written: u64,
    /// Of that with the layers of its image.
    pub whole: u64,
}

/// Measures each, in their order.
pub fn sizes<'a>(
    places: &Places,
    containers: impl IntoIterator<Item = &'a Container>,
) -> Result<Vec<Size>> {
    // A descriptor for each directory on the way down, and a container's tree may be deep.
    process::allow_many_descriptors().context("allow many open files")?;
    let store = Store::open(&places.root)?;
    let survey = store.survey(&mybox_store::no_uses)?;
    let shares = survey.shares();
    let size = |container: &Container| {
        let upper = Files::of(places.container(&container.record.id)).upper();
        let measured = || {
            // Without the directory itself, which is there before anything is written.
            let own = std::fs::metadata(&upper).map_or(0, |it| it.blocks() * 512);
            Ok::<u64, std::io::Error>(allocated(&upper)?.saturating_sub(own))
        };
        let written = measured().with_context(|| format!("measure {}", upper.display()))?;
        let image = shares.get(&container.record.manifest);
        let whole = written + image.map_or(0, |shares| shares.total());
        Ok(Size { written, whole })
    };
    containers.into_iter().map(size).collect()
}
