//! `--init`: a pid 1 that reaps what nobody waits for and passes signals on.
//!
//! It stays mybox's own process: not dumpable, so nothing in the container can look into it, and
//! with every descriptor closed but the standard ones and its own.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, WaitStatus, kill_process, waitpid};

use super::protocol::{Failed, Stage};
use crate::kernel::process::{self, Side, SingleThreaded};
use crate::kernel::signal::Signals;
use crate::kernel::socket::End;
use crate::kernel::{Context, Result, raw};

/// Starts the command as a child and becomes its reaper. In the child, returns what `command`
/// does; in the reaper, ends with the command's exit code.
///
/// The child waits until the reaper has let go of `channel`: its closing tells the parent that the
/// command executes, and must not come late.
pub(super) fn run(
    channel: &End,
    command: impl FnOnce() -> Result<Infallible, Failed>,
) -> Result<Infallible, Failed> {
    let at_execute = |error| Failed::at(Stage::Execute)(error);
    let proof = SingleThreaded::check().map_err(at_execute)?;
    let signals = Signals::take().map_err(at_execute)?;
    let (gate, gate_keeper) = pipe_with(PipeFlags::CLOEXEC)
        .on("make", "pipe")
        .map_err(at_execute)?;
    match process::clone_child(&proof, 0, None).map_err(at_execute)? {
        Side::Child => {
            drop(gate_keeper);
            wait_for_end(&gate).map_err(at_execute)?;
            command()
        }
        Side::Parent(child) => {
            raw::close_copy(channel.as_fd());
            // The gate among them: now the child may go on.
            raw::close_all_but(signals.as_fd());
            // If reaping itself fails nobody is left to tell, and without a reaper the container
            // ends.
            let code = supervise(child.pid, &signals).map_or(125, code_of);
            raw::exit_now(code)
        }
    }
}

/// Nothing is ever written: the pipe ends when the reaper closes its other end.
fn wait_for_end(gate: &OwnedFd) -> Result<()> {
    loop {
        match rustix::io::read(gate, &mut [0]) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).on("wait for", "the reaper"),
        }
    }
}

/// Reaps and forwards until the command has ended.
fn supervise(command: i32, signals: &Signals) -> Result<WaitStatus> {
    let pid = Pid::from_raw(command);
    loop {
        if let Some(status) = reap(pid)? {
            return Ok(status);
        }
        wait_readable(signals)?;
        while let Some(number) = signals.next()? {
            if number != libc::SIGCHLD {
                forward(pid, number)?;
            }
        }
    }
}

fn forward(command: Option<Pid>, number: i32) -> Result<()> {
    let (Some(pid), Some(signal)) = (command, raw::signal(number)) else {
        return Ok(());
    };
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno).on("signal process", pid),
    }
}

fn wait_readable(signals: &Signals) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    let fd = signals.as_fd();
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno).on("wait for", "signals"),
    }
}

/// Reaps whatever has ended; the status of the command if it was among it.
fn reap(command: Option<Pid>) -> Result<Option<WaitStatus>> {
    loop {
        match waitpid(None, WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if Some(pid) == command => return Ok(Some(status)),
            Ok(Some(_)) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
            Err(errno) => return Err(errno).on("wait for", "children"),
        }
    }
}

fn code_of(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(0),
    }
}
