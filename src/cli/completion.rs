//! `mybox completion` and `mybox man`: what is made of the command line's own description.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use super::output;
use crate::error::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox completion bash > /usr/share/bash-completion/completions/mybox
  mybox completion zsh > /usr/local/share/zsh/site-functions/_mybox
  mybox completion fish > /usr/share/fish/vendor_completions.d/mybox.fish

Verbs and flags are completed; names of containers and images are not.")]
pub(super) struct Arguments {
    /// For this shell
    shell: KnownShell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// The directory that the pages are written to; it is made if it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints the shell's script.
pub(super) fn completion(mut command: Command, arguments: &Arguments) -> Result<u8, Failure> {
    let shell = match arguments.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "mybox", &mut script);
    output::print_on(&script)?;
    Ok(0)
}

/// Writes one page a verb.
pub(super) fn man(command: Command, arguments: &ManArguments) -> Result<u8, Failure> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("write man pages to {}", directory.display()))?;
    Ok(0)
}
