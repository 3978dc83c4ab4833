//! `mybox run`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use mybox_store::{Image, Platform, Store};

use super::layer_form::LayerFormArgument;
use super::progress::{self, Display, Style};
use super::{output, values};
use crate::container::Places;
use crate::error::Failure;
use crate::kernel::cgroup::{CpuQuota, Limits, Swap};
use crate::kernel::process;
use crate::life::pull::{self, PullPolicy};
use crate::life::{self, recover};
use crate::net::names::HostEntry;
use crate::plan::request::{Tmpfs, Volume};
use crate::plan::{NetworkMode, RunRequest, explain};
use crate::registry::{self, Notice};

#[derive(Debug, Args)]
// As with Docker the last one of a flag counts: aliases and scripts put theirs before the user's.
#[command(args_override_self = true)]
#[command(after_help = "\
Examples:
  mybox run --rm debian cat /etc/os-release
  mybox run --rm -it --memory 512m --cpus 1.5 debian bash
  mybox run --rm --network none --read-only -v /srv/data:/data:ro debian ls /data
  mybox run --dry-run debian            the same by hand, as a shell script")]
pub(super) struct Arguments {
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// Put a small init at pid 1 that reaps and passes signals on
    #[arg(long)]
    init: bool,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Print the plan as a shell script that does the same by hand, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// Set a variable; without a value, pass on the caller's
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    #[arg(value_parser = values::variable)]
    env: Vec<Option<(String, String)>>,
    /// Read variables from a file, a NAME=VALUE a line
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    env_file: Vec<PathBuf>,
    /// Working directory; made if it is missing
    #[arg(short, long, value_name = "DIR", help_heading = "Process")]
    workdir: Option<String>,
    /// User and group, by the image's names or by number
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Process")]
    user: Option<String>,
    /// The signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL", help_heading = "Process")]
    #[arg(value_parser = values::stop_signal)]
    stop_signal: Option<String>,
    /// no-new-privileges: no program gains more than it starts with
    #[arg(long, value_name = "OPTION", help_heading = "Process")]
    #[arg(value_parser = values::security_option)]
    security_opt: Vec<bool>,

    /// Show a directory or file of the host in the container
    #[arg(short, long, value_name = "SRC:DST[:ro]", help_heading = "Files")]
    #[arg(value_parser = values::volume)]
    volume: Vec<Volume>,
    /// Mount an empty file system in memory
    #[arg(long, value_name = "DST[:OPTIONS]", help_heading = "Files")]
    #[arg(value_parser = values::tmpfs)]
    tmpfs: Vec<Tmpfs>,
    /// Make the root file system read-only
    #[arg(long, help_heading = "Files")]
    read_only: bool,

    /// Memory limit, as 512m
    #[arg(short, long, value_name = "SIZE", help_heading = "Limits")]
    #[arg(value_parser = values::bytes)]
    memory: Option<u64>,
    /// Memory and swap together; -1: no limit on swap [default: twice the memory]
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Limits",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::swap)]
    memory_swap: Option<Swap>,
    /// Number of processors, as 1.5
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    #[arg(value_parser = values::cpus)]
    cpus: Option<CpuQuota>,
    /// Share of processor time under contention, 2 to 262144
    #[arg(short = 'c', long, value_name = "NUMBER", help_heading = "Limits")]
    #[arg(value_parser = values::shares)]
    cpu_shares: Option<u64>,
    /// Processors to run on, as 0-2,4
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    #[arg(value_parser = values::cpu_list)]
    cpuset_cpus: Option<String>,
    /// Number of processes and threads; -1: no limit
    #[arg(
        long,
        value_name = "NUMBER",
        help_heading = "Limits",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = values::pids)]
    pids_limit: Option<values::PidsLimit>,

    /// bridge: an interface on the bridge; host: the host's own; none: loopback alone
    #[arg(long, alias = "net", value_name = "MODE", help_heading = "Network")]
    #[arg(default_value = "bridge", value_parser = network_mode)]
    network: NetworkMode,
    /// An address of one's own choice on the bridge
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    ip: Option<Ipv4Addr>,
    /// Host name [default: the container's short id]
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Network")]
    #[arg(value_parser = values::hostname)]
    hostname: Option<String>,
    /// Name server
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    dns: Vec<IpAddr>,
    /// A line for /etc/hosts; the address host-gateway is the host
    #[arg(long, value_name = "NAME:ADDRESS", help_heading = "Network")]
    #[arg(value_parser = values::host_entry)]
    add_host: Vec<HostEntry>,

    /// When to pull the image: always, missing, never
    #[arg(long, value_name = "WHEN", help_heading = "Image")]
    #[arg(default_value = "missing", value_parser = pull_policy)]
    pull: PullPolicy,
    /// The platform, where the image has several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", help_heading = "Image")]
    platform: Option<Platform>,

    /// The image: a name, an id, a digest, or the beginning of one
    image: String,
    /// The command; without it, the image's own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,

    // Last: the heading would go on to what follows.
    #[command(flatten, next_help_heading = "Image")]
    layer_form: LayerFormArgument,
}

/// Runs the container; the answer is its exit code.
pub(super) fn run(places: &Places, arguments: Arguments) -> Result<u8, Failure> {
    let own = |error| Failure::with_code(125, error);
    let dry_run = arguments.dry_run;
    let (policy, platform) = (arguments.pull, arguments.platform.clone());
    let layer_form = arguments.layer_form;
    let mut request = request(arguments).map_err(own)?;
    if dry_run {
        let store = layer_form.open(places).map_err(own)?;
        let here = pull::find_here(&store, &request.image, platform.as_ref()).map_err(own)?;
        request.image = here.name;
        let plan = life::dry_run(places, &store, &here.image, &request).map_err(own)?;
        output::line(explain::script(&plan).trim_end()).map_err(own)?;
        return Ok(0);
    }
    process::seal_own_binary().map_err(|error| own(error.into()))?;
    recover::leftovers(places).map_err(own)?;
    let store = layer_form.open(places).map_err(own)?;
    let (image, name) = bring_image(&store, &request.image, policy, platform).map_err(own)?;
    request.image = name;
    let ending = life::run(places, &store, &image, &request, &mut |text| {
        output::note(text);
    })
    .map_err(|failed| Failure::with_code(failed.code, failed.error))?;
    if ending.out_of_memory {
        report_out_of_memory(ending.code, request.limits.memory);
    }
    Ok(ending.code)
}

/// Pulls the image if that is called for; the image and its name in the store. Progress goes where
/// the command's errors go.
fn bring_image(
    store: &Store,
    image: &str,
    policy: PullPolicy,
    platform: Option<Platform>,
) -> anyhow::Result<(Image, String)> {
    let display = Arc::new(Display::new(Style::choose(false, false)));
    let registry = registry::Options {
        notice: Notice::new(Display::notes(&display)),
        ..registry::Options::default()
    };
    let started = Instant::now();
    let watch = |event| display.show(event);
    let brought = pull::pull_for_run(store, image, platform, policy, registry, &watch);
    display.finish();
    let brought = brought?;
    if let Some(pulled) = brought.pulled {
        output::note(&progress::summary(&pulled, started.elapsed()));
    }
    Ok((brought.image, brought.name))
}

/// 137 alone would leave the user guessing who sent SIGKILL.
fn report_out_of_memory(code: u8, limit: Option<u64>) {
    let limit = limit.map(|bytes| format!(" (limit {})", output::binary_size(bytes)));
    let limit = limit.unwrap_or_default();
    if code == 137 {
        eprintln!("killed: out of memory{limit}");
    } else {
        output::note(&format!(
            "a process of the container was killed: out of memory{limit}"
        ));
    }
}

fn request(arguments: Arguments) -> anyhow::Result<RunRequest> {
    if arguments.tty && arguments.interactive && !rustix::termios::isatty(std::io::stdin()) {
        bail!("the input device is not a terminal: -t and -i together need one");
    }
    let mut env = Vec::new();
    for file in &arguments.env_file {
        env.extend(read_env_file(file)?);
    }
    env.extend(arguments.env.into_iter().flatten());
    let limits = Limits {
        memory: arguments.memory.filter(|bytes| *bytes > 0),
        swap: arguments
            .memory_swap
            .filter(|swap| *swap != Swap::Total(0))
            .or(arguments
                .memory
                .map(|bytes| Swap::Total(bytes.saturating_mul(2)))),
        swap_is_explicit: arguments
            .memory_swap
            .is_some_and(|swap| swap != Swap::Total(0)),
        cpu: arguments.cpus,
        cpu_shares: arguments.cpu_shares,
        cpuset_cpus: arguments.cpuset_cpus,
        pids: arguments.pids_limit.and_then(|limit| limit.0),
    };
    Ok(RunRequest {
        image: arguments.image,
        command: arguments.command,
        entrypoint: arguments.entrypoint,
        name: arguments.name,
        remove: arguments.rm,
        interactive: arguments.interactive,
        terminal: arguments.tty,
        init: arguments.init,
        env,
        workdir: arguments.workdir,
        user: arguments.user,
        hostname: arguments.hostname,
        volumes: arguments.volume,
        tmpfs: arguments.tmpfs,
        read_only: arguments.read_only,
        limits,
        network: arguments.network,
        ip: arguments.ip,
        dns: arguments.dns,
        add_host: arguments.add_host,
        stop_signal: arguments.stop_signal,
        no_new_privileges: arguments.security_opt.last().copied().unwrap_or(false),
    })
}

/// Docker's format: a NAME=VALUE or NAME a line, as it stands; `#` begins a comment line.
fn read_env_file(path: &PathBuf) -> anyhow::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the env file {}", path.display()))?;
    let mut variables = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = || format!("{} line {}", path.display(), number + 1);
        let variable = values::variable(line)
            .map_err(anyhow::Error::msg)
            .with_context(place)?;
        if let Some((name, _)) = variable
            .as_ref()
            .filter(|(name, _)| name.contains(char::is_whitespace))
        {
            bail!(
                "{}: the variable name `{name}` contains white space",
                place()
            );
        }
        variables.extend(variable);
    }
    Ok(variables)
}

fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    match text {
        "always" => Ok(PullPolicy::Always),
        "missing" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        other => Err(format!("`{other}` is none of always, missing, never")),
    }
}

fn network_mode(text: &str) -> Result<NetworkMode, String> {
    match text {
        "bridge" => Ok(NetworkMode::Bridge),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        other => Err(format!(
            "`{other}` is not built yet; there are bridge, host and none"
        )),
    }
}
