//! `mybox attach`.

use clap::Args;

use super::output;
use crate::container::Places;
use crate::container::find::{self, Container};
use crate::container::log::{Frame, Reader, Stream};
use crate::error::Failure;
use crate::life::attach::{self, Left, Options};
use crate::life::wait;

/// As Docker has them.
pub(super) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

#[derive(Debug, Args)]
#[command(after_help = "\
At a terminal Ctrl-P Ctrl-Q leaves the container and lets it run. What is typed reaches a container
that was started with -i. The exit code is the container's; 0 after leaving it.

What the container has written before is in `mybox logs`.")]
pub(super) struct Arguments {
    /// Type nothing to it
    #[arg(long)]
    no_stdin: bool,
    /// Whether signals go to the container: true or false
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1)]
    #[arg(default_missing_value = "true", action = clap::ArgAction::Set, require_equals = true)]
    sig_proxy: bool,
    /// The keys that leave it, as ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS)]
    detach_keys: String,
    /// Name, id, or the beginning of an id
    container: String,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let container = find::one(places, &arguments.container)?;
    container.running_process()?;
    let mut reader = attach::from_now_on(places, &container)?;
    let options = Options {
        input: !arguments.no_stdin,
        signals: arguments.sig_proxy,
        detach_keys: attach::parse_keys(&arguments.detach_keys)?,
    };
    stay(places, container, &mut reader, &options)
}

/// Stays at the container; its exit code.
pub(super) fn stay(
    places: &Places,
    container: Container,
    reader: &mut Reader,
    options: &Options,
) -> Result<u8, Failure> {
    let of_its_end = container.clone();
    match attach::attach(places, container, reader, options, &mut |frame| show(frame))? {
        Left::Ended => Ok(wait::wait(places, of_its_end)?),
        Left::Detached | Left::Unread => Ok(0),
    }
}

/// False if nobody reads it any more.
fn show(frame: &Frame<'_>) -> anyhow::Result<bool> {
    match frame.stream {
        Stream::Stdout => output::print_on(frame.bytes),
        _ => output::print_on_stderr(frame.bytes),
    }
}
