//! One more command in a container that runs. Nothing of it is on record: it belongs to the
//! container's namespaces and cgroups, and ends with them. In the foreground it ends with us, too.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::launch::Running;
use super::supervise::{self, failed_to_start};
use super::target::Target;
use super::{RunFailed, filter, rights, stack};
use crate::container::events::{self, Event};
use crate::container::{Files, Places};
use crate::init::protocol::{self, FromChild};
use crate::init::{self, Joining, Task};
use crate::kernel::process::{self, Ended, OpenFiles, Side, SingleThreaded};
use crate::kernel::signal::Signals;
use crate::kernel::socket::End;
use crate::kernel::{cgroup, namespace, raw, socket};
use crate::plan::{self, ExecRequest, exec};

/// The code of a command that could not be set up, as Docker's.
const NOT_SET_UP: u8 = 126;

/// Executes the command; the answer is its exit code, or 0 as soon as it executes with `detach`.
pub fn exec(places: &Places, target: &Target, request: &ExecRequest) -> Result<u8, RunFailed> {
    exec_in(places, target, request, &target.record.cgroups)
}

/// The same in other groups: the container's, or such as lie within them.
pub(super) fn exec_in(
    places: &Places,
    target: &Target,
    request: &ExecRequest,
    cgroups: &[PathBuf],
) -> Result<u8, RunFailed> {
    target.must_not_be_paused().map_err(in_general)?;
    let running = start(places, target, request, cgroups).map_err(in_general)?;
    let event = |action| Event::of_container(action, &target.record);
    let created = event("exec_create").with("command", request.command.join(" "));
    events::tell(places, &created);
    if request.detach {
        return executed(&running.channel);
    }
    let seen = supervise::watch(running, request.terminal, request.interactive, &mut || None);
    let seen = seen.map_err(in_general)?;
    if let Some(failed) = seen.failed {
        return Err(refused(failed));
    }
    let ended = seen.killed_for.map_or(seen.ended, Ended::Signalled);
    let code = ended.code() as u8;
    events::tell(places, &event("exec_die").with("exitCode", code));
    Ok(code)
}

/// A failure of mybox itself, before there was a process.
fn in_general(error: anyhow::Error) -> RunFailed {
    RunFailed { code: 1, error }
}

fn refused(failed: protocol::Failed) -> RunFailed {
    let failed = failed_to_start(failed);
    RunFailed {
        code: if failed.code == 125 {
            NOT_SET_UP
        } else {
            failed.code
        },
        ..failed
    }
}

fn start(
    places: &Places,
    target: &Target,
    request: &ExecRequest,
    cgroups: &[PathBuf],
) -> Result<Running> {
    let proof = SingleThreaded::check()?;
    let spec = stack::read_config(&Files::of(places.container(&target.record.id)))?;
    let process = exec::process(&spec, request, &rights::held()?)?;
    let groups = plan::groups(&spec);
    let filter = if request.privileged {
        Vec::new()
    } else {
        filter::compiled(places, &spec)?
    };
    if !request.terminal {
        silence(request)?;
    }
    let signals = Signals::take()?;
    let (channel, child_channel) = socket::pair()?;
    let task = Task {
        process: &process,
        groups: &groups,
        filter: &filter,
        channel: child_channel,
        mask: signals.mask_before(),
        open_files: OpenFiles::now(),
        follows_parent: !request.detach,
        stdio: None,
    };
    let child = clone(&proof, target, cgroups, task, &channel)?;
    Ok(Running {
        child,
        channel,
        signals,
    })
}

/// The standard descriptors that the command does not get are the null device.
fn silence(request: &ExecRequest) -> Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.context("open /dev/null")?;
    if !request.interactive {
        rustix::stdio::dup2_stdin(&null).context("dup2 standard input")?;
    }
    if request.detach {
        rustix::stdio::dup2_stdout(&null).context("dup2 standard output")?;
        rustix::stdio::dup2_stderr(&null).context("dup2 standard error")?;
    }
    Ok(())
}

fn clone(
    proof: &SingleThreaded,
    target: &Target,
    cgroups: &[PathBuf],
    task: Task<'_>,
    channel: &End,
) -> Result<process::Child> {
    let (v1_cgroups, v2_cgroup) = cgroup::recorded(cgroups)?;
    // Before the clone: the container sees the child from its first moment.
    process::make_undumpable()?;
    namespace::bear_children_in(target.process.as_fd())?;
    match process::clone_child(proof, 0, v2_cgroup.as_ref().map(AsFd::as_fd))? {
        Side::Parent(child) => Ok(child),
        Side::Child => {
            // The child's copy of the parent's end: left open, its death would go unnoticed.
            raw::close_copy(channel.as_fd());
            init::join(Joining {
                container: target.process.as_fd(),
                v1_cgroups: &v1_cgroups,
                terminal: task.process.terminal().unwrap_or(false),
                task,
            })
        }
    }
}

/// Waits until the command executes, or cannot.
fn executed(channel: &End) -> Result<u8, RunFailed> {
    let mut executing = false;
    loop {
        match protocol::receive::<FromChild>(channel).map_err(|error| in_general(error.into()))? {
            Some((FromChild::Executing, _)) => executing = true,
            Some((FromChild::Terminal, _)) => {}
            Some((FromChild::Failed(failed), _)) => return Err(refused(failed)),
            None if executing => return Ok(0),
            None => return Err(refused(supervise::died())),
        }
    }
}
