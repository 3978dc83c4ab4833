//! `mybox start`.

use anyhow::Context;
use clap::Args;
use mybox_store::Store;

use super::attach::KeysArgument;
use super::each::{self, Outcome};
use super::output;
use crate::container::find::{self, State};
use crate::container::{Places, RestartPolicy};
use crate::error::Failure;
use crate::life::detach::{self, Detached};
use crate::life::target::Target;
use crate::life::{attach, stop};

#[derive(Debug, Args)]
#[command(after_help = "\
With --all, after the machine was started again: what had --restart always comes back, and what had
--restart unless-stopped unless somebody had stopped it.")]
pub(super) struct Arguments {
    /// All containers whose restart policy wants them to run
    #[arg(long, conflicts_with = "containers")]
    all: bool,
    /// Stay at the one container: see what it writes, end with its exit code
    #[arg(short, long, conflicts_with = "all")]
    attach: bool,
    /// With --attach: type to it
    #[arg(short, long, requires = "attach")]
    interactive: bool,
    #[command(flatten)]
    keys: KeysArgument,
    /// Names, ids, or the beginnings of ids
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    if arguments.attach {
        let [name] = &arguments.containers[..] else {
            let error = anyhow::anyhow!("one can be attached to one container only");
            return Err(Failure::with_code(2, error));
        };
        let options = attach::Options {
            input: arguments.interactive,
            ..arguments.keys.options()?
        };
        return start_and_stay(places, name, &options);
    }
    let names = if arguments.all {
        wanted(places)?
    } else {
        arguments.containers.clone()
    };
    each::outcome(&names, |name| {
        Ok(match start(places, name)? {
            0 => Outcome::Done(name.to_owned()),
            _ => Outcome::Failed,
        })
    })
}

/// The log is opened first: nothing that the container writes is missed.
fn start_and_stay(places: &Places, name: &str, options: &attach::Options) -> Result<u8, Failure> {
    let container = find::one(places, name)?;
    let id = container.record.id.clone();
    let mut reader = attach::from_now_on(places, &container)?;
    match start(places, name)? {
        0 => {}
        code => return Ok(code),
    }
    let container = find::again(places, &id)?;
    let container = container.with_context(|| format!("container {name} has been removed"))?;
    super::attach::stay(places, container, &mut reader, options)
}

/// The names of those that are to run and do not.
fn wanted(places: &Places) -> anyhow::Result<Vec<String>> {
    let ended = find::all(places)?
        .into_iter()
        .filter(|one| one.state == State::Exited)
        .map(|one| one.record);
    let wanted = ended.filter(|record| match record.restart {
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !record.stopped,
        RestartPolicy::No | RestartPolicy::OnFailure(_) => false,
    });
    Ok(wanted.map(|record| record.name).collect())
}

/// Starts a container; its exit code if that failed and was told.
pub(super) fn start(places: &Places, name: &str) -> Result<u8, Failure> {
    let container = find::one(places, name)?;
    let Some(container) = stop::settled(places, container)? else {
        return Err(anyhow::anyhow!("container {name} has been removed").into());
    };
    if let (true, Some(target)) = (container.paused, Target::held(container.clone())?) {
        target.must_not_be_paused()?;
    }
    if matches!(container.state, State::Running | State::Restarting) {
        return Ok(0);
    }
    let store = Store::open(&places.root).map_err(anyhow::Error::from)?;
    let mut note = |text: &str| output::note(text);
    match detach::start(places, &store, &container.record, &mut note) {
        Ok(Detached::Started(_)) => Ok(0),
        Ok(Detached::Failed(code)) => Ok(code),
        Err(failed) => Err(Failure::with_code(failed.code, failed.error)),
    }
}
