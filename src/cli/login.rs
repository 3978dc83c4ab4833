//! `mybox login`.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, bail};
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{output, registry};
use crate::error::Failure;
use crate::registry::{Client, Credential};

/// Longest password: tokens of registries have some thousand bytes.
const LONGEST_PASSWORD: u64 = 64 << 10;

#[derive(Debug, Args)]
#[command(after_help = "\
The credentials are tried, then stored where Docker keeps them: in the credential helper that its
config.json names, or else in that file itself ($DOCKER_CONFIG/config.json, ~/.docker/config.json),
readable for you alone. Where the registry gives out identity tokens, one is stored in place of the
password.

Examples:
  mybox login
  mybox login quay.io --username me
  mybox login registry.local:5000 -u me --password-stdin < token")]
pub(super) struct Arguments {
    /// The account's name [default: asked for on the terminal]
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Its password or token; other users of this machine can see it
    #[arg(
        short,
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_stdin"
    )]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    trust: registry::Trust,
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io", value_parser = registry::host)]
    registry: String,
}

pub(super) fn run(arguments: Arguments) -> Result<u8, Failure> {
    let client = Client::new(&arguments.trust.options(output::note))?;
    let credential = credential(&arguments)?;
    let stored = client.login(&arguments.registry, &credential)?;
    output::line("Login Succeeded")?;
    tracing::info!("stored in {}", stored.display());
    Ok(0)
}

fn credential(arguments: &Arguments) -> anyhow::Result<Credential> {
    if arguments.password_stdin && arguments.username.is_none() {
        bail!("--password-stdin needs --username");
    }
    let user = match &arguments.username {
        Some(user) => user.clone(),
        None => ask("Username: ", Echo::On)?,
    };
    let password = match &arguments.password {
        Some(password) => password.clone(),
        None if arguments.password_stdin => read_password()?,
        None => ask("Password: ", Echo::Off)?,
    };
    if user.is_empty() || password.is_empty() {
        bail!("user name and password cannot be empty");
    }
    // The colon is what ends the name in basic authentication (RFC 7617).
    if user.contains(':') {
        bail!("a user name cannot have a colon in it");
    }
    Ok(Credential::Password { user, password })
}

fn read_password() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin()
        .take(LONGEST_PASSWORD)
        .read_to_string(&mut text)
        .context("read the password from standard input")?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    Ok(password.strip_suffix('\r').unwrap_or(password).to_owned())
}

#[derive(Clone, Copy, PartialEq)]
enum Echo {
    On,
    Off,
}

fn ask(prompt: &str, echo: Echo) -> anyhow::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        bail!("standard input is no terminal: use --username and --password-stdin");
    }
    // Before the prompt: who answers fast is not shown either.
    let _silence = match echo {
        Echo::Off => Some(Silence::begin()?),
        Echo::On => None,
    };
    let mut stderr = io::stderr();
    write!(stderr, "{prompt}").context("write to standard error")?;
    stderr.flush().context("write to standard error")?;
    let mut line = String::new();
    stdin
        .lock()
        .read_line(&mut line)
        .context("read the terminal")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("settings of the terminal")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // The end of the line is shown all the same.
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).context("silence the terminal")?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
