//! `mybox exec`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::attach::KeysArgument;
use super::{env_file, output, values};
use crate::container::{Places, find};
use crate::error::Failure;
use crate::kernel::process;
use crate::life::attach::Options;
use crate::life::target::Target;
use crate::life::{exec, recover};
use crate::plan::ExecRequest;

#[derive(Debug, Args)]
#[command(args_override_self = true)]
#[command(after_help = "\
Examples:
  mybox exec web cat /etc/hosts
  mybox exec -it web bash
  mybox exec -u www -w /srv web sh -c 'id; pwd'

The command has the container's capabilities, limits, filter and variables. Without -i its standard
input is empty. With -it Ctrl-P Ctrl-Q leaves the command, and it runs on in the container.

Exit codes: the command's own, 126 if it cannot be executed, 127 if it was not found, 1 if the
container does not run.")]
pub(super) struct Arguments {
    /// Return as soon as the command executes; nobody types to it then
    #[arg(short, long)]
    detach: bool,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable; without a value, pass on the caller's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    #[arg(value_parser = values::variable)]
    env: Vec<Option<(String, String)>>,
    /// Read variables from a file, a NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory [default: the container's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User and group, by the container's names or by number [default: the container's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    #[command(flatten)]
    keys: KeysArgument,
    /// All capabilities that mybox itself has, and no filter of system calls
    #[arg(long)]
    privileged: bool,

    /// A name, an id, or the beginning of an id
    container: String,
    /// The command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Executes the command; the answer is its exit code.
pub(super) fn run(places: &Places, arguments: Arguments) -> Result<u8, Failure> {
    process::seal_own_binary()?;
    recover::leftovers(places, &mut output::note)?;
    let target = Target::of(find::one(places, &arguments.container)?)?;
    let options = Options {
        input: true,
        ..arguments.keys.options()?
    };
    let request = request(arguments)?;
    // That nobody reads it is for the command to notice, if anybody.
    let mut show = |_, bytes: &[u8]| output::print_on(bytes).map(drop);
    exec::exec(places, &target, &request, &options, &mut show)
        .map_err(|failed| Failure::with_code(failed.code, failed.error))
}

fn request(arguments: Arguments) -> anyhow::Result<ExecRequest> {
    // As Docker has it: -d leaves nobody to type.
    let interactive = arguments.interactive && !arguments.detach;
    if arguments.tty && interactive && !rustix::termios::isatty(std::io::stdin()) {
        bail!("the input device is not a terminal: -t and -i together need one");
    }
    Ok(ExecRequest {
        command: arguments.command,
        env: env_file::with_flags(&arguments.env_file, arguments.env)?,
        workdir: arguments.workdir,
        user: arguments.user,
        interactive,
        terminal: arguments.tty,
        detach: arguments.detach,
        privileged: arguments.privileged,
    })
}
