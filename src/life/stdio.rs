//! What a container has for standard input, output and error.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::plan::{RunRequest, StandardStream};

/// Where a container's standard streams lead.
#[derive(Debug)]
pub(super) enum Stdio {
    /// To whoever called mybox.
    Callers,
    /// To a terminal of its own, whose master comes from the container's process.
    Terminal,
    /// Some to whoever called mybox, others nowhere.
    Chosen(Chosen),
    /// To its monitor.
    Pipes(Pipes),
}

/// Streams of which not all are the caller's.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Until the container's process has them.
    inside: Option<[OwnedFd; 3]>,
    /// As long as this is open it waits for input that never comes.
    _input: Option<OwnedFd>,
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
            (null()?, None)
        };
        let ((output, stdout), (error, stderr)) = (pipe()?, pipe()?);
        Ok(Self {
            inside: Some([stdin, stdout, stderr]),
            output: [output, error],
            input,
        })
    }
}

impl Chosen {
    fn of(request: &RunRequest) -> Result<Self> {
        let is_attached = |stream| request.is_attached(stream);
        let (stdin, input) = match (is_attached(StandardStream::Input), request.interactive) {
            (true, _) => (own(&std::io::stdin())?, None),
            (false, true) => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
                (read, Some(write))
            }
            (false, false) => (null()?, None),
        };
        let stdout = match is_attached(StandardStream::Output) {
            true => own(&std::io::stdout())?,
            false => null()?,
        };
        let stderr = match is_attached(StandardStream::Error) {
            true => own(&std::io::stderr())?,
            false => null()?,
        };
        Ok(Self {
            inside: Some([stdin, stdout, stderr]),
            _input: input,
        })
    }
}

fn own(stream: &impl AsFd) -> Result<OwnedFd> {
    let copy = stream.as_fd().try_clone_to_owned();
    copy.context("share a standard stream")
}

pub(super) fn null() -> Result<OwnedFd> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    Ok(null.context("open /dev/null")?.into())
}

/// Lets go of our own, which others wait for the end of, and of the directory that we were called in, whose
/// file system could not be unmounted.
pub(super) fn let_go() -> Result<()> {
    rustix::process::chdir("/").context("chdir to /")?;
    let null = null()?;
    rustix::stdio::dup2_stdin(&null).context("dup2 standard input")?;
    rustix::stdio::dup2_stdout(&null).context("dup2 standard output")?;
    rustix::stdio::dup2_stderr(&null).context("dup2 standard error")
}

impl Stdio {
    /// Those of a container in the foreground. What a terminal carries is chosen where it is carried.
    pub(super) fn in_foreground(request: &RunRequest) -> Result<Self> {
        match request.terminal || request.attach.is_empty() {
            true => Ok(Self::Callers),
            false => Chosen::of(request).map(Self::Chosen),
        }
    }

    /// The container's side, given away: the pipes end when the container's processes do.
    pub(super) fn take_inside(&mut self) -> Option<[OwnedFd; 3]> {
        match self {
            Self::Callers | Self::Terminal => None,
            Self::Chosen(chosen) => chosen.inside.take(),
            Self::Pipes(pipes) => pipes.inside.take(),
        }
    }
}
