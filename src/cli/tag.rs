//! `mybox tag`.

use clap::Args;
use mybox_store::{Reference, Store};

use super::output;
use crate::container::Places;
use crate::container::events::{self, Event};
use crate::error::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image: a name, an id, a digest, or the beginning of one
    image: String,
    /// The new name
    name: Reference,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let image = store.find(&arguments.image)?;
    let before = store.tag(&image, &arguments.name)?;
    let event = Event::of_image("tag", &image.id.to_string());
    events::tell(places, &event.with("name", arguments.name.familiar()));
    if let Some(before) = before {
        let name = arguments.name.familiar();
        output::note(&format!(
            "{name} was {}, which has lost this name",
            before.short()
        ));
    }
    Ok(0)
}
