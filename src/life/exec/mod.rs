//! One more command in a container that runs. Nothing of it is on record: it belongs to the
//! container's namespaces and cgroups, and ends with them. In the foreground it ends with us, too, unless we
//! leave it.

mod keeper;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use super::apart::{self, Began};
use super::attach::Options;
use super::attach::protocol::Typed;
use super::foreground::{At, Stayed};
use super::launch::Running;
use super::supervise::{self, failed_to_start};
use super::target::Target;
use super::{RunFailed, filter, rights, stack, stdio};
use crate::container::events::{self, Event};
use crate::container::log::Stream;
use crate::container::{Ending, Files, Places};
use crate::init::protocol::{self, FromChild};
use crate::init::{self, Joining, Task};
use crate::kernel::process::{self, Ended, OpenFiles, Side, SingleThreaded};
use crate::kernel::signal::Signals;
use crate::kernel::socket::End;
use crate::kernel::{cgroup, namespace, raw, socket};
use crate::plan::{self, ExecRequest, exec};

/// The code of a command that could not be set up, as Docker's.
const NOT_SET_UP: u8 = 126;
/// The code of what SIGKILL ended.
const KILLED: u8 = 137;

/// Executes the command; the answer is its exit code, or 0 as soon as it executes with `detach`, or is left.
///
/// What is typed to it on a terminal is looked through for `options`' detach keys, and what it writes there
/// given to `show`.
pub fn exec(
    places: &Places,
    target: &Target,
    request: &ExecRequest,
    options: &Options,
    show: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
) -> Result<u8, RunFailed> {
    let session = Session {
        places,
        target,
        request,
        cgroups: &target.record.cgroups,
    };
    match (request.terminal, request.interactive, request.detach) {
        (true, true, _) => session.with_keeper(options, show),
        (true, false, true) => session.left_to_keeper(),
        _ => session.by_this_process(),
    }
}

/// The same in other groups, which lie within the container's, for somebody who does not leave.
pub(super) fn exec_in(
    places: &Places,
    target: &Target,
    request: &ExecRequest,
    cgroups: &[PathBuf],
) -> Result<u8, RunFailed> {
    let session = Session {
        places,
        target,
        request,
        cgroups,
    };
    session.by_this_process()
}

/// A command, and where it is to be executed.
struct Session<'a> {
    places: &'a Places,
    target: &'a Target,
    request: &'a ExecRequest,
    cgroups: &'a [PathBuf],
}

impl Session<'_> {
    fn by_this_process(&self) -> Result<u8, RunFailed> {
        let running = self
            .start()
            .map_err(|error| self.refused(in_general(error)))?;
        if self.request.detach {
            return executed(&running.channel).map_err(|failed| self.refused(failed));
        }
        let (terminal, interactive) = (self.request.terminal, self.request.interactive);
        let seen = supervise::watch(running, terminal, interactive, None, &mut || None);
        let seen = seen.map_err(in_general)?;
        if let Some(failed) = seen.failed {
            return Err(self.refused(failed_to_start(failed)));
        }
        let ended = seen.killed_for.map_or(seen.ended, Ended::Signalled);
        let code = ended.code() as u8;
        self.tell_its_end(code);
        Ok(code)
    }

    fn with_keeper(
        &self,
        options: &Options,
        show: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<u8, RunFailed> {
        let link = match self.begin_with_keeper()? {
            Began::Indeed(_, link) => link,
            Began::Failed(code) => return Ok(code),
        };
        let at = At {
            terminal: true,
            input_only: false,
        };
        match at.stay(link, options, show).map_err(in_general)? {
            Some(Stayed::Ended(ending)) => Ok(ending.code),
            Some(Stayed::Left(_) | Stayed::NeverStarted(_)) => Ok(0),
            None => {
                let killed =
                    anyhow!("the process that kept the command was killed, and it with it");
                Err(RunFailed {
                    code: KILLED,
                    error: killed,
                })
            }
        }
    }

    /// On a terminal that nobody sees.
    fn left_to_keeper(&self) -> Result<u8, RunFailed> {
        match self.begin_with_keeper()? {
            Began::Indeed(_, link) => {
                // A command that has ended already need not be left.
                let _ = Typed::Leave.send(&link);
                Ok(0)
            }
            Began::Failed(code) => Ok(code),
        }
    }

    fn begin_with_keeper(&self) -> Result<Began, RunFailed> {
        apart::in_a_child(|caller| {
            let running = self
                .start()
                .map_err(|error| self.refused(in_general(error)))?;
            let told = |ending: Ending| self.tell_its_end(ending.code);
            keeper::keep(running, caller, told).map_err(|failed| self.refused(failed))
        })
    }

    /// Why it was not executed, with the code that this has.
    fn refused(&self, failed: RunFailed) -> RunFailed {
        // Whoever joins what is just ending fails in one way or another.
        if self.target.process.is_gone().is_ok_and(|gone| gone) {
            let name = &self.target.record.name;
            return in_general(anyhow!("container {name} has ended"));
        }
        match failed.code {
            125 => RunFailed {
                code: NOT_SET_UP,
                ..failed
            },
            _ => failed,
        }
    }

    /// Starts it, and tells of that.
    fn start(&self) -> Result<Running> {
        self.target.must_not_be_paused()?;
        let running = launch(self.places, self.target, self.request, self.cgroups)?;
        let command = self.request.command.join(" ");
        self.tell(self.event("exec_create").with("command", command));
        Ok(running)
    }

    fn tell_its_end(&self, code: u8) {
        self.tell(self.event("exec_die").with("exitCode", code));
    }

    fn event(&self, action: &'static str) -> Event {
        Event::of_container(action, &self.target.record)
    }

    fn tell(&self, event: Event) {
        events::tell(self.places, &event);
    }
}

/// A failure of mybox itself, before there was a process.
fn in_general(error: anyhow::Error) -> RunFailed {
    RunFailed { code: 1, error }
}

fn launch(
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
    let stdio = standard_streams(request)?;
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
        stdio,
    };
    let child = clone(&proof, target, cgroups, task, &channel)?;
    Ok(Running {
        child,
        channel,
        signals,
    })
}

/// Those that it has in the place of ours, on which we say why it could not be executed.
fn standard_streams(request: &ExecRequest) -> Result<Option<[OwnedFd; 3]>> {
    if request.terminal {
        return Ok(None);
    }
    if request.detach {
        return Ok(Some([stdio::null()?, stdio::null()?, stdio::null()?]));
    }
    if !request.interactive {
        // Nor do we read it.
        rustix::stdio::dup2_stdin(stdio::null()?).context("dup2 standard input")?;
    }
    Ok(None)
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
            Some((FromChild::Failed(failed), _)) => return Err(failed_to_start(failed)),
            None if executing => return Ok(0),
            None => return Err(failed_to_start(supervise::died())),
        }
    }
}
