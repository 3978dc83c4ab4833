//! The child's side of `mybox exec`: from a clone that was born in the container's pid namespace to
//! the exec of one more command.
//!
//! The container may be hostile, and sees this process from its first moment. So it is undumpable
//! before it is born, which keeps its memory, descriptors and binary from everybody in there; joins
//! all other namespaces in one step; closes what it has of the host; and opens for writing or
//! executes a file of the container only as the command's own user, under the container's filter.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use super::protocol::{self, Failed, FromChild, Stage};
use super::{Task, execute, give_up, identity};
use crate::kernel::{self, cgroup, namespace, pty, raw};

/// What a process is born with that joins a container.
#[derive(Debug)]
pub struct Joining<'a> {
    /// The pidfd of the container's first process.
    pub container: BorrowedFd<'a>,
    /// Its v1 cgroups; on v2 the process is born in the right one.
    pub v1_cgroups: &'a [PathBuf],
    /// Whether the command gets a terminal of its own.
    pub terminal: bool,
    /// What it executes in the end.
    pub task: Task<'a>,
}

/// Becomes one more process of the container.
pub fn join(joining: Joining<'_>) -> ! {
    give_up(&joining.task.channel, become_member(&joining))
}

fn become_member(joining: &Joining<'_>) -> Result<Infallible, Failed> {
    let task = &joining.task;
    belong(joining).map_err(Failed::at(Stage::Belong))?;
    let identity =
        identity::resolve(task.process, task.groups).map_err(Failed::at(Stage::Identity))?;
    execute::enter_working_directory(task.process).map_err(Failed::at(Stage::Identity))?;
    execute::become_command(task, &identity, || {
        if joining.terminal {
            take_terminal(joining).map_err(Failed::at(Stage::Terminal))?;
        }
        Ok(())
    })
}

/// The groups first: their paths are the host's.
fn belong(joining: &Joining<'_>) -> kernel::Result<()> {
    super::die_with_parent(&joining.task.channel)?;
    super::take_streams(&joining.task)?;
    cgroup::join_v1(joining.v1_cgroups)?;
    super::adjust_oom_score(joining.task.process)?;
    namespace::join_all(joining.container)?;
    // A link of the container to /proc/self/fd/N must find nothing of the host's.
    raw::close_all_but(joining.task.channel.as_fd());
    super::stand_alone()
}

/// From the container's own devpts, opened as the command's user: it is the owner, and a hostile
/// /dev/ptmx leads nowhere that the command itself could not go.
fn take_terminal(joining: &Joining<'_>) -> kernel::Result<()> {
    let terminal = pty::open()?;
    pty::take_as_own(terminal.slave.as_fd())?;
    let master = Some(terminal.master.as_fd());
    protocol::send(&joining.task.channel, &FromChild::Terminal, master)
}
