//! What a container has for standard input, output and error.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::pipe::{PipeFlags, pipe_with};

/// Where a container's standard streams lead.
#[derive(Debug)]
pub(super) enum Stdio {
    /// To whoever called mybox.
    Callers,
    /// To a terminal of its own, whose master comes from the container's process.
    Terminal,
    /// To its monitor.
    Pipes(Pipes),
}

/// The two sides of the pipes to a monitor.
#[derive(Debug)]
pub(super) struct Pipes {
    /// Until the container's process has them.
    inside: Option<[OwnedFd; 3]>,
    /// Where what it writes comes out: output, error.
    pub(super) output: [OwnedFd; 2],
    /// Where what it reads goes in, if it is to read anything.
    pub(super) input: Option<OwnedFd>,
}

impl Pipes {
    /// New pipes. Without input it reads from /dev/null.
    pub(super) fn new(with_input: bool) -> Result<Self> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
        let (stdin, input) = if with_input {
            let (read, write) = pipe()?;
            (read, Some(write))
        } else {
            let null = OpenOptions::new().read(true).open("/dev/null");
            (null.context("open /dev/null")?.into(), None)
        };
        let ((output, stdout), (error, stderr)) = (pipe()?, pipe()?);
        Ok(Self {
            inside: Some([stdin, stdout, stderr]),
            output: [output, error],
            input,
        })
    }
}

impl Stdio {
    /// The container's side, given away: the pipes end when the container's processes do.
    pub(super) fn take_inside(&mut self) -> Option<[OwnedFd; 3]> {
        match self {
            Self::Callers | Self::Terminal => None,
            Self::Pipes(pipes) => pipes.inside.take(),
        }
    }
}
