//! `mybox rm`.

use anyhow::bail;
use clap::Args;

use super::{output, ps};
use crate::container::Places;
use crate::error::Failure;
use crate::life::teardown;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let mut code = 0;
    for name in &arguments.containers {
        match remove(places, name) {
            Ok(()) => output::line(name)?,
            Err(error) => {
                Failure::from(error).show();
                code = 1;
            }
        }
    }
    Ok(code)
}

fn remove(places: &Places, name: &str) -> anyhow::Result<()> {
    let row = ps::find(places, name)?;
    if row.record.ending.is_none() {
        bail!(
            "container {} is running; it must end first",
            row.record.name
        );
    }
    teardown::remove(places, &row.record.id)
}
