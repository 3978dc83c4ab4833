//! `mybox rm`.

use anyhow::bail;
use clap::Args;

use super::each::{self, Outcome};
use super::output;
use crate::container::Places;
use crate::container::find::{self, Container, State};
use crate::error::Failure;
use crate::life::stop;
use crate::life::teardown::{self, Volumes};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Those that run too: they are killed. That there is no such container is no error
    #[arg(short, long)]
    force: bool,
    /// Their anonymous volumes too; named ones always stay
    #[arg(short, long)]
    volumes: bool,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    each::outcome(&arguments.containers, |name| {
        let container = match arguments.force {
            true => find::one_or_none(places, name)?,
            false => Some(find::one(places, name)?),
        };
        let Some(container) = container else {
            // As with Docker: what is to be gone is.
            output::note(&format!("no such container: {name}"));
            return Ok(Outcome::Nothing);
        };
        remove(places, container, arguments)?;
        Ok(Outcome::Done(name.to_owned()))
    })
}

fn remove(places: &Places, container: Container, arguments: &Arguments) -> anyhow::Result<()> {
    let id = container.record.id.clone();
    let Some(container) = stop::settled(places, container)? else {
        return Ok(());
    };
    if !matches!(container.state, State::Created | State::Exited) {
        if !arguments.force {
            let name = container.record.name;
            bail!("container {name} is running; stop it, or use rm --force");
        }
        stop::kill(places, container)?;
    }
    let volumes = if arguments.volumes {
        Volumes::Go
    } else {
        Volumes::Stay
    };
    // With --rm its monitor has removed it.
    match find::again(places, &id)? {
        Some(_) => teardown::remove(places, &id, volumes),
        None => Ok(()),
    }
}
