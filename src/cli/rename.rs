//! `mybox rename`.

use clap::Args;

use crate::container::{Places, find, rename};
use crate::error::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A name, an id, or the beginning of an id
    container: String,
    /// Its new name
    name: String,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let container = find::one(places, &arguments.container)?;
    rename::rename(places, container.record, &arguments.name)?;
    Ok(0)
}
