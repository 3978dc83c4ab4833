//! `mybox rmi`.

use clap::Args;
use mybox_store::{Reference, Removed, Store};

use super::output;
use crate::container::events;
use crate::container::{Places, Record};
use crate::error::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Take names away even if the image has several, is one platform of many or a container uses it
    #[arg(short, long)]
    force: bool,
    /// Images: names, ids, digests, or the beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let mut code = 0;
    for name in &arguments.images {
        match store.remove(name, arguments.force, &|| Record::uses(places)) {
            Ok(removed) => {
                tell(places, &removed);
                report(&removed)?;
            }
            Err(error) => {
                Failure::from(error).show();
                code = 1;
            }
        }
    }
    Ok(code)
}

fn tell(places: &Places, removed: &Removed) {
    let names = removed.untagged.iter().map(Reference::familiar);
    let ids = removed.deleted_images.iter().map(ToString::to_string);
    events::images_gone(places, names, ids);
}

fn report(removed: &Removed) -> anyhow::Result<()> {
    for reference in &removed.untagged {
        output::line(&format!("Untagged: {}", reference.familiar()))?;
    }
    for image in &removed.deleted_images {
        output::line(&format!("Deleted: {image}"))?;
    }
    for layer in &removed.deleted_layers {
        output::line(&format!("Deleted: {layer}"))?;
    }
    if removed.freed_bytes > 0 {
        output::line(&format!(
            "Freed: {}",
            output::decimal_size(removed.freed_bytes)
        ))?;
    }
    Ok(())
}
