//! The command line: one file a verb, each parses, calls and prints. Nothing else prints.

mod archive_output;
mod attach;
mod commit;
mod completion;
mod confirm;
mod cp;
mod device_bounds;
mod df;
mod diff;
mod each;
mod env_file;
mod events;
mod exec;
mod export;
mod format;
mod gc;
mod groups;
mod health;
mod history;
mod images;
mod images_wanted;
mod import;
mod info;
mod inspect;
mod isolation;
mod kill;
mod limits;
mod load;
mod layer_form;
mod layers;
mod log_options;
mod login;
mod logs;
mod logout;
mod mounts;
mod naming;
mod network;
mod not_built;
mod output;
mod pause;
mod progress;
mod pin;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod registry;
mod rename;
mod rm;
mod rmi;
mod run;
mod save;
mod sharing;
mod stats;
mod start;
mod stop;
mod tag;
mod template;
mod top;
mod update;
mod values;
mod verify;
mod volume;
mod wait;
mod why;
mod words;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::container::Places;
use crate::error::Failure;
use crate::kernel::process;
use crate::life::recover;

/// Pull or import root filesystems, stack their layers, launch them as containers
///
/// No daemon: every command does its work and leaves. Results go to standard output, all else to
/// standard error. Exit codes: 0, 1 for a failure, 2 for wrong usage; `run` gives its command's own
/// code, 125 if mybox failed, 126 if the command cannot be executed, 127 if it was not found.
#[derive(Debug, Parser)]
#[command(name = "mybox", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Global {
    /// Where images and containers are kept
    #[arg(long, global = true, env = "MYBOX_ROOT", value_name = "DIR")]
    #[arg(default_value = "/var/lib/mybox", help_heading = "Global options")]
    root: PathBuf,
    /// Where volatile state is kept
    #[arg(long, global = true, env = "MYBOX_RUN_ROOT", value_name = "DIR")]
    #[arg(default_value = "/run/mybox", help_heading = "Global options")]
    run_root: PathBuf,
    /// The bridge that containers are attached to
    #[arg(long, global = true, env = "MYBOX_BRIDGE", value_name = "NAME")]
    #[arg(default_value = "mybox0", help_heading = "Global options")]
    #[arg(value_parser = values::interface_name)]
    bridge: String,
    /// Before the verb: say what is being done (twice: in detail)
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a command in a new container
    // -h is the host name, as it is for docker and podman.
    #[command(disable_help_flag = true)]
    Run(Box<run::Arguments>),
    /// Make a container and do not start it
    #[command(disable_help_flag = true)]
    Create(Box<run::Arguments>),
    /// Start containers that do not run
    Start(start::Arguments),
    /// Ask containers to end, and make them after a while
    Stop(stop::Arguments),
    /// Stop containers and start them again
    Restart(stop::Arguments),
    /// Be at a container that runs: see what it writes, type to it
    Attach(attach::Arguments),
    /// Show what a container has written
    Logs(logs::Arguments),
    /// List containers
    Ps(ps::Arguments),
    /// Remove containers that have ended
    Rm(rm::Arguments),
    /// Make an image of a container
    Commit(commit::Arguments),
    /// Copy files into a container, or out of it
    Cp(cp::Arguments),
    /// Write the files of a container as a tar
    Export(export::Arguments),
    /// Show what a container has changed of its image
    Diff(diff::Arguments),
    /// Execute one more command in a container that runs
    Exec(exec::Arguments),
    /// Show the processes of a container
    Top(top::Arguments),
    /// Show what containers use, once a second
    Stats(stats::Arguments),
    /// Change the limits of containers
    Update(update::Arguments),
    /// Give a container another name
    Rename(rename::Arguments),
    /// Wait until containers have ended; print their exit codes
    Wait(wait::Arguments),
    /// Send a signal to containers
    Kill(kill::Arguments),
    /// Stop all processes of containers where they are
    Pause(pause::Arguments),
    /// Let paused containers go on
    Unpause(pause::Arguments),
    /// Show which ports of the host lead to a container
    Port(port::Arguments),
    /// Fetch an image from a registry
    Pull(pull::Arguments),
    /// Send an image to a registry
    Push(push::Arguments),
    /// Make an image of a root filesystem: a tar or a directory
    Import(import::Arguments),
    /// List images
    Images(images::Arguments),
    /// Show how an image came to be
    History(history::Arguments),
    /// Show layers: all of them, an image's, or how two images differ
    Layers(layers::Arguments),
    /// Show what takes room on the disk
    Df(df::Arguments),
    /// Show what keeps a blob or a layer
    Why(why::Arguments),
    /// Show all that is known of an image or a container, as JSON
    Inspect(inspect::Arguments),
    /// Give an image another name
    Tag(tag::Arguments),
    /// Remove images
    Rmi(rmi::Arguments),
    /// Keep an image whatever its age
    Pin(pin::Arguments),
    /// Leave an image to gc again
    Unpin(pin::Arguments),
    /// Remove what nobody needs, and what was not used for long
    Gc(gc::Arguments),
    /// Remove what is not used: containers that have ended, images without a name
    Prune(prune::Arguments),
    /// Show a registry who you are, from now on
    Login(login::Arguments),
    /// Forget who you are to a registry
    Logout(logout::Arguments),
    /// Write images to a file
    Save(save::Arguments),
    /// Read images from a file
    Load(load::Arguments),
    /// Look for damage in the store, and repair it
    Verify(verify::Arguments),
    /// Look at and remove the bridge
    Network(network::Arguments),
    /// Make, look at and remove volumes
    Volume(volume::Arguments),
    /// Show what happens to containers, images and volumes
    Events(events::Arguments),
    /// Show what mybox finds on this machine
    Info(info::Arguments),
    /// Show what mybox and the kernel are
    Version(info::VersionArguments),
    /// Print the completion script of a shell
    Completion(completion::Arguments),
    /// Write a man page for each verb
    Man(completion::ManArguments),
}

/// Reads the command line and does what it says. The answer is the exit code.
pub fn run() -> Result<u8, Failure> {
    let words = match groups::replaced(std::env::args_os().collect(), &Cli::command()) {
        Ok(words) => words::separated(words, &Cli::command()),
        Err(unknown) => return Ok(tell_of_group(&unknown)),
    };
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return Ok(refuse(&error, &words)),
    };
    log_to_stderr(cli.global.verbose);
    let is_run = matches!(cli.verb, Verb::Run(_));
    let places = places(cli.global).map_err(|error| in_its_place(is_run, error))?;
    make_ready(&cli.verb, &places)?;
    act(cli.verb, &places)
}

/// What comes before most verbs: what a killed mybox has left is taken down.
fn make_ready(verb: &Verb, places: &Places) -> anyhow::Result<()> {
    match verb {
        // They do it when it holds up nobody, need nothing of it, or must work in a damaged store.
        Verb::Run(_) | Verb::Exec(_) | Verb::Verify(_) => return Ok(()),
        Verb::Version(_) | Verb::Completion(_) | Verb::Man(_) => return Ok(()),
        // This process may become a container's monitor: before anything else.
        Verb::Start(_) | Verb::Restart(_) => process::seal_own_binary()?,
        _ => {}
    }
    recover::leftovers(places, &mut output::note)
}

fn act(verb: Verb, places: &Places) -> Result<u8, Failure> {
    match verb {
        Verb::Run(arguments) => run::run(places, *arguments),
        Verb::Exec(arguments) => exec::run(places, arguments),
        Verb::Version(arguments) => info::version(places, &arguments),
        Verb::Verify(arguments) => verify::run(places, &arguments),
        Verb::Completion(arguments) => completion::completion(Cli::command(), &arguments),
        Verb::Man(arguments) => completion::man(Cli::command(), &arguments),
        Verb::Create(arguments) => run::create(places, *arguments),
        Verb::Start(arguments) => start::run(places, &arguments),
        Verb::Stop(arguments) => stop::run(places, &arguments),
        Verb::Restart(arguments) => stop::restart(places, &arguments),
        Verb::Attach(arguments) => attach::run(places, &arguments),
        Verb::Logs(arguments) => logs::run(places, &arguments),
        Verb::Ps(arguments) => ps::run(places, &arguments),
        Verb::Rm(arguments) => rm::run(places, &arguments),
        Verb::Cp(arguments) => cp::run(places, &arguments),
        Verb::Export(arguments) => export::run(places, &arguments),
        Verb::Commit(arguments) => commit::run(places, arguments),
        Verb::Diff(arguments) => diff::run(places, &arguments),
        Verb::Top(arguments) => top::run(places, &arguments),
        Verb::Stats(arguments) => stats::run(places, &arguments),
        Verb::Update(arguments) => update::run(places, &arguments),
        Verb::Rename(arguments) => rename::run(places, &arguments),
        Verb::Wait(arguments) => wait::run(places, &arguments),
        Verb::Kill(arguments) => kill::run(places, &arguments),
        Verb::Pause(arguments) => pause::run(places, &arguments, true),
        Verb::Unpause(arguments) => pause::run(places, &arguments, false),
        Verb::Port(arguments) => port::run(places, &arguments),
        Verb::Pull(arguments) => pull::run(places, arguments),
        Verb::Push(arguments) => push::run(places, arguments),
        Verb::Import(arguments) => import::run(places, arguments),
        Verb::Images(arguments) => images::run(places, &arguments),
        Verb::History(arguments) => history::run(places, &arguments),
        Verb::Layers(arguments) => layers::run(places, &arguments),
        Verb::Df(arguments) => df::run(places, &arguments),
        Verb::Why(arguments) => why::run(places, &arguments),
        Verb::Inspect(arguments) => inspect::run(places, &arguments),
        Verb::Tag(arguments) => tag::run(places, &arguments),
        Verb::Rmi(arguments) => rmi::run(places, &arguments),
        Verb::Pin(arguments) => pin::run(places, &arguments, true),
        Verb::Unpin(arguments) => pin::run(places, &arguments, false),
        Verb::Gc(arguments) => gc::run(places, &arguments),
        Verb::Prune(arguments) => prune::run(places, &arguments),
        Verb::Login(arguments) => login::run(arguments),
        Verb::Logout(arguments) => logout::run(&arguments),
        Verb::Save(arguments) => save::run(places, arguments),
        Verb::Load(arguments) => load::run(places, &arguments),
        Verb::Network(arguments) => network::run(places, &arguments),
        Verb::Volume(arguments) => volume::run(places, &arguments),
        Verb::Events(arguments) => events::run(places, &arguments),
        Verb::Info(arguments) => info::info(places, &arguments),
    }
}

/// Prints what is wrong with the command line, or the help or version that was asked for.
///
/// `run` has its own code for it: 2 could be the command's. Which verb it was is asked again, with
/// the errors overlooked.
fn refuse(error: &clap::Error, words: &[OsString]) -> u8 {
    let told = match not_built::explain(error) {
        Some(told) => writeln!(io::stderr(), "{told}"),
        None => error.print(),
    };
    // Where standard error is closed there is nobody to tell.
    let _ = told;
    let overlooked = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(words);
    let is_run =
        overlooked.is_ok_and(|matches| matches!(matches.subcommand_name(), Some("run" | "exec")));
    match (error.use_stderr(), is_run) {
        (false, _) => 0,
        (true, true) => 125,
        (true, false) => 2,
    }
}

/// Prints what a management word has; the exit code.
fn tell_of_group(unknown: &groups::Unknown) -> u8 {
    let told = match unknown.is_help() {
        true => write!(io::stdout(), "{}", unknown.text()),
        false => write!(io::stderr(), "{}", unknown.text()),
    };
    // As above.
    let _ = told;
    if unknown.is_help() { 0 } else { 2 }
}

/// Absolute places: they go into records, mounts and aliases of links.
fn places(global: Global) -> anyhow::Result<Places> {
    Ok(Places {
        root: std::path::absolute(global.root)?,
        run_root: std::path::absolute(global.run_root)?,
        bridge: global.bridge,
    })
}

/// A failure before the verb has its say has the code that the verb would give.
fn in_its_place(is_run: bool, error: anyhow::Error) -> Failure {
    Failure::with_code(if is_run { 125 } else { 1 }, error)
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    if verbose > 0 {
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(io::stderr)
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    /// Longer lines are broken where nobody meant them to be.
    #[test]
    fn help_fits_into_a_hundred_columns() {
        fn too_long(command: &clap::Command, found: &mut Vec<String>) {
            let text = command.get_after_help().map(ToString::to_string);
            let lines = text.iter().flat_map(|text| text.lines());
            found.extend(
                lines
                    .filter(|line| line.len() > 100)
                    .map(|line| format!("{}: {line}", command.get_name())),
            );
            for verb in command.get_subcommands() {
                too_long(verb, found);
            }
        }
        let mut found = Vec::new();
        too_long(&Cli::command(), &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}
