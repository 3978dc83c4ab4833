//! What a container has changed of its image, read from its upper directory. Nothing is mounted.

use anyhow::Result;
use mybox_store::{Changes, Store};

use crate::container::{Files, Places, Record};

/// What every container has mounted. Where the image lacks the place for it, that the container has
/// it is no change.
const MOUNT_POINTS: [&str; 6] = [
    "dev",
    "proc",
    "sys",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
];

/// The changes of a container, running or not, as they are now.
pub fn changes(places: &Places, store: &Store, record: &Record) -> Result<Changes> {
    let image = store.find(&record.manifest.to_string())?;
    let upper = Files::of(places.container(&record.id)).upper();
    Ok(store.changes(&image, &upper, &MOUNT_POINTS)?)
}
