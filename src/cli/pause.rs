//! `mybox pause` and `mybox unpause`.

use clap::Args;

use super::each;
use crate::container::{Places, find};
use crate::error::Failure;
use crate::life::target::Target;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments, pause: bool) -> Result<u8, Failure> {
    each::container(&arguments.containers, |name| {
        let target = Target::of(find::one(places, name)?)?;
        if pause {
            target.pause(places)
        } else {
            target.unpause(places)
        }
    })
}
