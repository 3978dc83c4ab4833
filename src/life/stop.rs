//! A container asked to end, and made to if it does not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::supervise;
use super::target::Target;
use crate::container::events::{self, Event};
use crate::container::find::{self, Container, State};
use crate::container::{Claim, ContainerId, Places, Timeout};
use crate::kernel::cgroup::freeze;
use crate::kernel::raw;

/// What a container has if neither the user nor the image says.
const DEFAULT_TIMEOUT: Timeout = Timeout::After(10);
/// How long a monitor may take to give up starting its container again.
const MONITOR_TAKES: Duration = Duration::from_secs(20);

/// How long the start or the teardown of a container may take.
const CHANGE_TAKES: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// How a container is to be stopped.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// The signal that asks it; the container's own if none is given.
    pub signal: Option<i32>,
    /// How long it has; the container's own if nothing is given.
    pub timeout: Option<Timeout>,
}

/// Ends a container; when this returns it has ended and its monitor will not start it again. One that
/// has ended already is left as it is.
pub fn stop(places: &Places, container: Container, how: How) -> Result<()> {
    let Some(container) = settled(places, container)? else {
        return Ok(());
    };
    match container.state {
        State::Created | State::Exited => return Ok(()),
        State::Restarting | State::Changing => return leave_ended(places, &container.record.id),
        State::Running => {}
    }
    let record = &container.record;
    Claim::ask_to_stop(places, &record.id).context("ask the monitor to stop")?;
    let own = record.stop_timeout.unwrap_or(DEFAULT_TIMEOUT);
    let timeout = match how.timeout.unwrap_or(own) {
        Timeout::After(seconds) => Some(Duration::from_secs(seconds.into())),
        Timeout::Never => None,
    };
    let Some(target) = held_or_ended(places, container)? else {
        return Ok(());
    };
    let number = how.signal.unwrap_or_else(|| target.record.stop_signal());
    let signal = raw::signal(number).with_context(|| format!("{number} is no signal"))?;
    let process = &target.process;
    target.tell_signal(places, number);
    supervise::forward(process.pid, signal, |signal| process.signal(signal))?;
    freeze::thaw(&target.record.cgroups)?;
    if process.wait_gone(timeout)? {
        target.wait_for_record(places)?;
    } else {
        target.signal(places, libc::SIGKILL)?;
    }
    events::tell(places, &Event::of_container("stop", &target.record));
    Ok(())
}

/// As [`stop`], of one that is to be started again: it is not removed, not even with `--rm`.
pub fn stop_to_restart(places: &Places, container: Container, how: How) -> Result<()> {
    Claim::ask_to_stay(places, &container.record.id).context("ask for the container to stay")?;
    stop(places, container, how)
}

/// Ends a container at once.
pub fn kill(places: &Places, container: Container) -> Result<()> {
    let Some(container) = settled(places, container)? else {
        return Ok(());
    };
    match container.state {
        State::Created | State::Exited => Ok(()),
        State::Restarting | State::Changing => leave_ended(places, &container.record.id),
        State::Running => match held_or_ended(places, container)? {
            Some(target) => target.signal(places, libc::SIGKILL),
            None => Ok(()),
        },
    }
}

/// The container when it has been started or taken down, should it be in the middle of that; `None` if
/// it has gone meanwhile.
pub fn settled(places: &Places, container: Container) -> Result<Option<Container>> {
    let deadline = Instant::now() + CHANGE_TAKES;
    let mut container = container;
    while container.state == State::Changing && Instant::now() < deadline {
        std::thread::sleep(LOOK);
        match find::again(places, &container.record.id)? {
            Some(again) => container = again,
            None => return Ok(None),
        }
    }
    Ok(Some(container))
}

/// Takes hold of a container that ran when it was looked at. If it has ended since, it is taken down
/// when this returns, and not started again.
fn held_or_ended(places: &Places, container: Container) -> Result<Option<Target>> {
    let id = container.record.id.clone();
    let target = Target::held(container)?;
    if target.is_none() {
        leave_ended(places, &id)?;
    }
    Ok(target)
}

/// Keeps a monitor from starting its container again.
fn leave_ended(places: &Places, id: &ContainerId) -> Result<()> {
    Claim::ask_to_stop(places, id).context("ask the monitor to stop")?;
    let live = places.live_container(id);
    let deadline = Instant::now() + MONITOR_TAKES;
    while live.exists() {
        if Instant::now() > deadline {
            bail!(
                "the monitor of container {} does not let go of it",
                id.short()
            );
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
