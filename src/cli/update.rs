//! `mybox update`.

use anyhow::bail;
use clap::Args;

use super::limits::LimitArguments;
use super::{each, values};
use crate::container::{Places, RestartPolicy, find};
use crate::error::Failure;
use crate::life::update::{self, Change};

#[derive(Debug, Args)]
#[command(args_override_self = true)]
#[command(after_help = "\
A container that runs has the new limits at once, and each start from then on. Without --memory-swap
memory and swap together stay twice the memory, if nobody has said otherwise.")]
pub(super) struct Arguments {
    #[command(flatten)]
    limits: LimitArguments,
    /// When to start it again: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = values::restart_policy)]
    restart: Option<RestartPolicy>,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let change = change(arguments)?;
    each::container(&arguments.containers, |name| {
        update::update(places, &find::one(places, name)?, &change)
    })
}

fn change(arguments: &Arguments) -> anyhow::Result<Change> {
    let change = Change {
        limits: arguments.limits.limits(),
        lifted: arguments.limits.lifted(),
        restart: arguments.restart,
    };
    if change.is_nothing() {
        bail!("nothing to change: give at least one limit, or --restart");
    }
    Ok(change)
}
