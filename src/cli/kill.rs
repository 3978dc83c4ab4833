//! `mybox kill`.

use clap::Args;

use super::{each, values};
use crate::container::{Places, find};
use crate::error::Failure;
use crate::life::target::Target;

#[derive(Debug, Args)]
#[command(after_help = "\
The first process of a container gets the signal. The kernel drops what that process has neither a
handler for nor ignores, except KILL; `mybox run --init` puts a process there that passes all on.

After KILL, and after the signal that asks the container to stop, --restart does not bring it back.")]
pub(super) struct Arguments {
    /// The signal: KILL, SIGKILL or 9
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    #[arg(value_parser = values::signal)]
    signal: i32,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    each::container(&arguments.containers, |name| {
        Target::of(find::one(places, name)?)?.signal(places, arguments.signal)
    })
}
