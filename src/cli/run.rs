//! `mybox run`.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::attach::{LeaveArguments, code_of};
use super::device_bounds::DeviceBoundArguments;
use super::health::HealthArguments;
use super::images_wanted::ImageArguments;
use super::isolation::IsolationArguments;
use super::layer_form::LayerFormArgument;
use super::limits::LimitArguments;
use super::log_options::LogArguments;
use super::mounts::MountArguments;
use super::naming::NamingArguments;
use super::sharing::{self, SharingArguments};
use super::{env_file, output, values};
use crate::container::log::Stream;
use crate::container::port::{Port, Publish};
use crate::container::{ContainerId, Ending, Places, RestartPolicy, Timeout};
use crate::error::Failure;
use crate::kernel::cgroup::{Limits, Swap};
use crate::kernel::process;
use crate::life::attach::Options;
use crate::life::detach::{self, Detached};
use crate::life::foreground::{self, Listeners, Stayed};
use crate::life::{self, Asked, pull, recover, volumes_from};
use crate::net::names::HostEntry;
use crate::plan::{NetworkMode, RunRequest, StandardStream, explain};

#[derive(Debug, Args)]
// As with Docker the last one of a flag counts: aliases and scripts put theirs before the user's.
#[command(args_override_self = true)]
#[command(after_help = "\
Examples:
  mybox run --rm debian cat /etc/os-release
  mybox run --rm -it --memory 512m --cpus 1.5 debian bash
  mybox run --rm --network none --read-only -v /srv/data:/data:ro debian ls /data
  mybox run --rm -p 8080:80 -p 127.0.0.1:5353:53/udp web
  mybox run -d --name web --restart always debian sleep infinity
  mybox run --dry-run debian            the same by hand, as a shell script

With -it, Ctrl-P Ctrl-Q leaves the container and lets it run; `mybox attach` comes back to it.")]
pub(super) struct Arguments {
    /// Run in the background, print the id
    #[arg(short, long)]
    detach: bool,
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
    /// Only these of its streams, without -d: stdin, stdout, stderr; what it writes to others is not
    /// shown
    #[arg(short, long, value_name = "STREAM", value_parser = values::standard_stream)]
    attach: Vec<StandardStream>,
    #[command(flatten)]
    leave: LeaveArguments,
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
    /// Start it again when it has ended: no, on-failure[:N], always, unless-stopped
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "no",
        help_heading = "Process"
    )]
    #[arg(value_parser = values::restart_policy)]
    restart: RestartPolicy,
    /// Set a label
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    #[arg(value_parser = values::label)]
    label: Vec<(String, String)>,
    /// Write the id of the container to a file that is not there yet
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    cidfile: Option<PathBuf>,
    /// Seconds that it has to end when asked to stop; -1: as long as it takes [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = "Process")]
    #[arg(allow_negative_numbers = true, value_parser = values::timeout)]
    stop_timeout: Option<Timeout>,
    /// The signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL", help_heading = "Process")]
    #[arg(value_parser = values::stop_signal)]
    stop_signal: Option<String>,
    #[command(flatten)]
    isolation: IsolationArguments,
    #[command(flatten)]
    naming: NamingArguments,
    #[command(flatten)]
    sharing: SharingArguments,
    #[command(flatten)]
    health: HealthArguments,
    #[command(flatten)]
    log: LogArguments,

    #[command(flatten)]
    mounts: MountArguments,
    /// Make the root file system read-only
    #[arg(long, help_heading = "Files")]
    read_only: bool,

    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    device_bounds: DeviceBoundArguments,

    /// bridge: an interface on the bridge; host: the host's own; none: loopback; container:NAME
    #[arg(long, alias = "net", value_name = "MODE", help_heading = "Network")]
    #[arg(default_value = "bridge", value_parser = sharing::network_mode)]
    network: NetworkMode,
    /// An address of one's own choice on the bridge
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    ip: Option<Ipv4Addr>,
    /// Reach the container's port through one of the host
    #[arg(
        short,
        long,
        value_name = "[[IP:]PORT:]PORT[/udp]",
        help_heading = "Network"
    )]
    #[arg(value_parser = values::publish)]
    publish: Vec<values::Ports<Publish>>,
    /// Publish all ports that the image or --expose name, on free ports of the host
    #[arg(short = 'P', long, help_heading = "Network")]
    publish_all: bool,
    /// A port that the container is known to have, beside the image's
    #[arg(long, value_name = "PORT[/udp]", help_heading = "Network")]
    #[arg(value_parser = values::expose)]
    expose: Vec<values::Ports<Port>>,
    /// Host name [default: the container's short id]
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Network")]
    #[arg(value_parser = values::hostname)]
    hostname: Option<String>,
    /// NIS domain name, also after the host name in /etc/hosts
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    #[arg(value_parser = values::hostname)]
    domainname: Option<String>,
    /// Name server
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    dns: Vec<IpAddr>,
    /// A line for /etc/hosts; the address host-gateway is the host
    #[arg(long, value_name = "NAME:ADDRESS", help_heading = "Network")]
    #[arg(value_parser = values::host_entry)]
    add_host: Vec<HostEntry>,

    #[command(flatten)]
    images: ImageArguments,

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
    let dry_run = arguments.dry_run;
    let images = arguments.images.clone();
    let layer_form = arguments.layer_form;
    let cid_file = arguments.cidfile.clone();
    attach_fits(&arguments).map_err(own)?;
    let leave = arguments.leave.options().map_err(own)?;
    let mut request = request(arguments).map_err(own)?;
    if dry_run {
        volumes_from::add(places, &mut request).map_err(own)?;
        let store = layer_form.open(places).map_err(own)?;
        let here = pull::find_here(&store, &request.image, images.platform()).map_err(own)?;
        request.image = here.name;
        for mount in &mut request.image_mounts {
            let here = pull::find_here(&store, &mount.image, images.platform()).map_err(own)?;
            mount.manifest = Some(here.image.manifest);
        }
        let plan = life::dry_run(places, &store, &here.image, &request).map_err(own)?;
        output::line(explain::script(&plan).trim_end()).map_err(own)?;
        return Ok(0);
    }
    process::seal_own_binary().map_err(|error| own(error.into()))?;
    recover::leftovers(places, &mut output::note).map_err(own)?;
    volumes_from::add(places, &mut request).map_err(own)?;
    let cid_file = cid_file.map(CidFile::new).transpose().map_err(own)?;
    let store = layer_form.open(places).map_err(own)?;
    let image = images.bring(places, &store, &mut request).map_err(own)?;
    let options = Options {
        input: request.is_attached(StandardStream::Input),
        ..leave
    };
    let asked = Asked {
        places,
        store: &store,
        image: &image,
        request: &request,
    };
    if request.detach {
        in_background(asked, cid_file)
    } else if foreground::can_be_left(&request, &options) {
        with_a_monitor(asked, &options, cid_file)
    } else {
        by_this_process(asked, cid_file)
    }
}

/// In the background.
fn in_background(asked: Asked<'_>, cid_file: Option<CidFile>) -> Result<u8, Failure> {
    let mut note = |text: &str| output::note(text);
    let detached = detach::run(asked, &mut note).map_err(run_failed)?;
    match detached {
        Detached::Failed(code) => Ok(code),
        Detached::Started(id) => {
            cid_file
                .map_or(Ok(()), |file| file.keep(&id))
                .map_err(own)?;
            output::line(id.as_str()).map_err(own)?;
            Ok(0)
        }
    }
}

/// In the foreground, and so that it can be left.
fn with_a_monitor(
    asked: Asked<'_>,
    options: &Options,
    cid_file: Option<CidFile>,
) -> Result<u8, Failure> {
    let request = asked.request;
    let shows_nothing = request.attaches_input_only();
    let mut begun = |id: &ContainerId| {
        if let Some(file) = &cid_file {
            file.write(id)?;
        }
        if shows_nothing {
            output::line(id.as_str())?;
        }
        Ok(())
    };
    // That nobody reads it is for the container to notice, if anybody: it runs on.
    let mut show = |stream, bytes: &[u8]| {
        let is_read = match stream {
            Stream::Stdout if request.is_attached(StandardStream::Output) => {
                output::print_on(bytes)
            }
            Stream::Stderr if request.is_attached(StandardStream::Error) => {
                output::print_on_stderr(bytes)
            }
            _ => Ok(true),
        };
        is_read.map(drop)
    };
    let mut note = |text: &str| output::note(text);
    let listeners = Listeners {
        note: &mut note,
        begun: &mut begun,
        show: &mut show,
    };
    let stayed = foreground::run(asked, options, listeners);
    let code = match stayed.map_err(run_failed)? {
        Stayed::NeverStarted(code) => return Ok(code),
        Stayed::Ended(_) if shows_nothing => 0,
        Stayed::Ended(ending) => {
            report_out_of_memory(ending, request.limits.memory);
            ending.code
        }
        Stayed::Left(left) => code_of(left),
    };
    if let Some(file) = cid_file {
        file.stay();
    }
    Ok(code)
}

/// In the foreground, by this process.
fn by_this_process(asked: Asked<'_>, cid_file: Option<CidFile>) -> Result<u8, Failure> {
    let mut begun = |id: &ContainerId| match &cid_file {
        Some(file) => file.write(id),
        None => Ok(()),
    };
    let mut note = |text: &str| output::note(text);
    let ending = life::run(asked, &mut note, &mut begun);
    let ending = ending.map_err(run_failed)?;
    if let Some(file) = cid_file {
        file.stay();
    }
    report_out_of_memory(ending, asked.request.limits.memory);
    Ok(ending.code)
}

/// A failure of mybox's own.
fn own(error: anyhow::Error) -> Failure {
    Failure::with_code(125, error)
}

fn run_failed(failed: life::RunFailed) -> Failure {
    Failure::with_code(failed.code, failed.error)
}

/// Flags about the streams that do not go together.
fn attach_fits(arguments: &Arguments) -> anyhow::Result<()> {
    let attach = &arguments.attach;
    ensure!(
        attach.is_empty() || !arguments.detach,
        "--attach does not go with --detach"
    );
    if let (Some(flag), true) = (arguments.leave.given(), arguments.detach) {
        bail!("{flag} does not go with --detach: whoever attaches later says how to leave");
    }
    ensure!(
        attach.is_empty() || !arguments.tty || attach.contains(&StandardStream::Output),
        "all that is written to a terminal is standard output: attach that with --tty"
    );
    Ok(())
}

/// Makes the container and does not start it.
pub(super) fn create(places: &Places, arguments: Arguments) -> Result<u8, Failure> {
    let of_run = [
        (arguments.detach, "--detach"),
        (arguments.dry_run, "--dry-run"),
    ];
    let of_run = of_run.iter().find(|(given, _)| *given);
    if let Some(flag) = of_run.map(|(_, flag)| *flag).or(arguments.leave.given()) {
        let error = anyhow::anyhow!("create starts nothing: it does not take {flag}");
        return Err(Failure::with_code(2, error));
    }
    let images = arguments.images.clone();
    let layer_form = arguments.layer_form;
    let cid_file = arguments.cidfile.clone().map(CidFile::new).transpose()?;
    let mut request = request(Arguments {
        // Whoever attaches to it needs a terminal, not who makes it.
        detach: true,
        ..arguments
    })?;
    request.detach = false;
    volumes_from::add(places, &mut request)?;
    let store = layer_form.open(places)?;
    let image = images.bring(places, &store, &mut request)?;
    let id = life::create::create(places, &store, &image, &request)?;
    cid_file.map_or(Ok(()), |file| file.keep(&id))?;
    output::line(id.as_str())?;
    Ok(0)
}

/// `--cidfile`: made before anything else, and gone again if there is no container to name.
struct CidFile {
    path: PathBuf,
    stays: bool,
}

impl CidFile {
    fn new(path: PathBuf) -> anyhow::Result<Self> {
        let made = File::create_new(&path);
        made.with_context(|| format!("make the cid file {}", path.display()))?;
        Ok(Self { path, stays: false })
    }

    fn write(&self, id: &ContainerId) -> anyhow::Result<()> {
        std::fs::write(&self.path, id.as_str())
            .with_context(|| format!("write the cid file {}", self.path.display()))
    }

    fn stay(mut self) {
        self.stays = true;
    }

    fn keep(self, id: &ContainerId) -> anyhow::Result<()> {
        self.write(id)?;
        self.stay();
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if !self.stays {
            // The error that is being told is the one that counts.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// 137 alone would leave the user guessing who sent SIGKILL.
fn report_out_of_memory(ending: Ending, limit: Option<u64>) {
    let limit = limit.map(|bytes| format!(" (limit {})", output::binary_size(bytes)));
    let limit = limit.unwrap_or_default();
    match ending {
        Ending {
            out_of_memory: false,
            ..
        } => {}
        Ending { code: 137, .. } => eprintln!("killed: out of memory{limit}"),
        _ => output::note(&format!(
            "a process of the container was killed: out of memory{limit}"
        )),
    }
}

fn request(arguments: Arguments) -> anyhow::Result<RunRequest> {
    let here = arguments.tty && arguments.interactive && !arguments.detach;
    if here && !rustix::termios::isatty(std::io::stdin()) {
        bail!("the input device is not a terminal: -t and -i together need one");
    }
    let env = env_file::with_flags(&arguments.env_file, arguments.env)?;
    let asked = arguments.limits.limits();
    let limits = Limits {
        swap: asked.swap.or(asked.memory.map(Swap::twice)),
        ..asked
    };
    let mut request = RunRequest {
        image: arguments.image,
        command: arguments.command,
        entrypoint: arguments.entrypoint,
        // An empty word is what a script has of an unset variable: to Docker it is none.
        name: arguments.name.filter(|name| !name.is_empty()),
        remove: arguments.rm,
        interactive: arguments.interactive,
        terminal: arguments.tty,
        attach: arguments.attach.into_iter().collect(),
        init: arguments.init,
        env,
        workdir: arguments.workdir.filter(|dir| !dir.is_empty()),
        user: arguments.user.filter(|user| !user.is_empty()),
        hostname: arguments.hostname.filter(|name| !name.is_empty()),
        domainname: arguments.domainname.filter(|name| !name.is_empty()),
        read_only: arguments.read_only,
        limits,
        network: arguments.network,
        ip: arguments.ip,
        dns: arguments.dns,
        publish: arguments.publish.into_iter().flat_map(|it| it.0).collect(),
        publish_all: arguments.publish_all,
        expose: arguments.expose.into_iter().flat_map(|it| it.0).collect(),
        add_host: arguments.add_host,
        stop_signal: arguments.stop_signal,
        detach: arguments.detach,
        restart: arguments.restart,
        stop_timeout: arguments.stop_timeout,
        labels: arguments.label.into_iter().collect(),
        ..RunRequest::default()
    };
    arguments.device_bounds.apply(&mut request);
    arguments.isolation.apply(&mut request);
    arguments.sharing.apply(&mut request);
    arguments.health.apply(&mut request);
    arguments.log.apply(&mut request)?;
    arguments.mounts.apply(&mut request);
    arguments.naming.apply(&mut request)?;
    Ok(request)
}
