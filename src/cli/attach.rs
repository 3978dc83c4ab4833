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
const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// How whoever stays at a container may leave it.
#[derive(Debug, Args)]
pub(super) struct LeaveArguments {
    /// Whether signals go to the container: true or false [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: Option<bool>,
    #[command(flatten)]
    keys: KeysArgument,
}

/// What leaves a container, typed at a terminal.
#[derive(Debug, Args)]
pub(super) struct KeysArgument {
    /// The keys that leave it and let it run [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
}

impl LeaveArguments {
    /// The flag that was given, if one was.
    pub(super) fn given(&self) -> Option<&'static str> {
        match (self.sig_proxy, &self.keys.detach_keys) {
            (Some(_), _) => Some("--sig-proxy"),
            (None, Some(_)) => Some("--detach-keys"),
            (None, None) => None,
        }
    }

    /// With nothing typed.
    pub(super) fn options(&self) -> anyhow::Result<Options> {
        Ok(Options {
            signals: self.sig_proxy.unwrap_or(true),
            ..self.keys.options()?
        })
    }
}

impl KeysArgument {
    /// With nothing typed, and signals passed on.
    pub(super) fn options(&self) -> anyhow::Result<Options> {
        let keys = self.detach_keys.as_deref().unwrap_or(DETACH_KEYS);
        Ok(Options {
            input: false,
            signals: true,
            detach_keys: attach::parse_keys(keys)?,
        })
    }
}

/// The exit code of whoever has left a container; of a signal, a shell's.
pub(super) fn code_of(left: Left) -> u8 {
    match left {
        Left::Signalled(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
        Left::Ended | Left::Detached | Left::Unread => 0,
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
At a terminal Ctrl-P Ctrl-Q leaves the container and lets it run. What is typed reaches a container
that was started with -i. The exit code is the container's; 0 after leaving it.

What the container has written before is in `mybox logs`.")]
pub(super) struct Arguments {
    /// Type nothing to it
    #[arg(long)]
    no_stdin: bool,
    #[command(flatten)]
    leave: LeaveArguments,
    /// Name, id, or the beginning of an id
    container: String,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let container = find::one(places, &arguments.container)?;
    container.running_process()?;
    let mut reader = attach::from_now_on(places, &container)?;
    let options = Options {
        input: !arguments.no_stdin,
        ..arguments.leave.options()?
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
        left => Ok(code_of(left)),
    }
}

/// False if nobody reads it any more.
fn show(frame: &Frame<'_>) -> anyhow::Result<bool> {
    match frame.stream {
        Stream::Stdout => output::print_on(frame.bytes),
        _ => output::print_on_stderr(frame.bytes),
    }
}
