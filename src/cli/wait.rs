//! `mybox wait`.

use clap::Args;

use super::each::{self, Outcome};
use crate::container::{Places, find};
use crate::error::Failure;
use crate::life::wait;

#[derive(Debug, Args)]
#[command(after_help = "\
Prints the exit code of each.")]
pub(super) struct Arguments {
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    each::outcome(&arguments.containers, |name| {
        let code = wait::wait(places, find::one(places, name)?)?;
        Ok(Outcome::Done(code.to_string()))
    })
}
