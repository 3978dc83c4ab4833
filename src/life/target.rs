//! A container that runs, for commands that act on it beside its supervisor: with signals, through
//! its cgroups, from within its namespaces. There is no server to ask: each acts by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::teardown;
use crate::container::events::{self, Event};
use crate::container::find::Container;
use crate::container::{Claim, Places, Record, claim};
use crate::kernel::cgroup::freeze;
use crate::kernel::process::{self, Held, KILL_TAKES};
use crate::kernel::raw;

/// How long a supervisor may take to write down that its container has ended.
const RECORD_TAKES: Duration = Duration::from_secs(10);

/// A container and its pid 1.
#[derive(Debug)]
pub struct Target {
    /// What is known of it.
    pub record: Record,
    /// Its first process.
    pub process: Held,
}

impl Target {
    /// Takes hold of the container, which must be running.
    pub fn of(container: Container) -> Result<Self> {
        let name = container.record.name.clone();
        Self::held(container)?.with_context(|| format!("container {name} is not running"))
    }

    /// Takes hold of the container; `None` if it does not run, or no more.
    pub fn held(container: Container) -> Result<Option<Self>> {
        let Some((pid, started)) = container.process else {
            return Ok(None);
        };
        let record = container.record;
        let process = process::hold_running(pid, started)?;
        Ok(process.map(|process| Self { record, process }))
    }

    /// Fails if it is frozen, and whoever joins it would be too.
    pub fn must_not_be_paused(&self) -> Result<()> {
        if self.is_paused() {
            let name = &self.record.name;
            bail!("container {name} is paused; `mybox unpause {name}` lets it go on");
        }
        Ok(())
    }

    /// Whether its processes are frozen.
    pub fn is_paused(&self) -> bool {
        freeze::is_frozen(&self.record.cgroups)
    }

    /// Freezes all its processes.
    pub fn pause(&self, places: &Places) -> Result<()> {
        if self.is_paused() {
            bail!("container {} is already paused", self.record.name);
        }
        freeze::freeze(&self.record.cgroups)?;
        events::tell(places, &Event::of_container("pause", &self.record));
        Ok(())
    }

    /// Lets them go on.
    pub fn unpause(&self, places: &Places) -> Result<()> {
        if !self.is_paused() {
            bail!("container {} is not paused", self.record.name);
        }
        freeze::thaw(&self.record.cgroups)?;
        events::tell(places, &Event::of_container("unpause", &self.record));
        Ok(())
    }

    /// Sends a signal to pid 1. After SIGKILL the container has ended when this returns.
    ///
    /// After SIGKILL, or the signal that asks it to stop, its monitor does not start it again, and if it was
    /// frozen it goes on. Others reach a frozen container when it goes on. All but SIGKILL are lost on a
    /// pid 1 that has no handler for them: that is the kernel's rule for the first process of a namespace.
    pub fn signal(&self, places: &Places, number: i32) -> Result<()> {
        let signal = raw::signal(number).with_context(|| format!("{number} is no signal"))?;
        let asks_to_stop = self.record.is_stopped_by(number);
        if asks_to_stop {
            Claim::ask_to_stop(places, &self.record.id).context("ask the monitor to stop")?;
        }
        self.tell_signal(places, number);
        self.process.signal(signal)?;
        if asks_to_stop {
            freeze::thaw(&self.record.cgroups)?;
        }
        if number != libc::SIGKILL {
            return Ok(());
        }
        if !self.process.wait_gone(Some(KILL_TAKES))? {
            let (name, seconds) = (&self.record.name, KILL_TAKES.as_secs());
            bail!("container {name} has not ended within {seconds} s of SIGKILL");
        }
        self.wait_for_record(places).map(drop)
    }

    /// Told before: the container's end is told by others.
    pub(super) fn tell_signal(&self, places: &Places, number: i32) {
        let event = Event::of_container("kill", &self.record);
        events::tell(places, &event.with("signal", number));
    }

    /// Waits until pid 1 has ended and its supervisor has said how.
    pub fn wait_ended(&self, places: &Places) -> Result<()> {
        self.process.wait_gone(None)?;
        let said = self.wait_for_record(places)?.is_some();
        // With --rm its files go before the claim does.
        let is_there = Record::read(&places.container(&self.record.id))?.is_some();
        if !said && is_there && places.live_container(&self.record.id).exists() {
            let name = &self.record.name;
            bail!("container {name} has ended, but its supervisor has not said how");
        }
        Ok(())
    }

    /// Once pid 1 has ended: waits until the supervisor has said how or has started the next one,
    /// and answers with the record then. `None` if it is gone, as with `--rm`. If the supervisor died
    /// too, the container is taken down here.
    pub(super) fn wait_for_record(&self, places: &Places) -> Result<Option<Record>> {
        let dir = places.container(&self.record.id);
        let live = places.live_container(&self.record.id);
        let deadline = Instant::now() + RECORD_TAKES;
        loop {
            let record = Record::read(&dir).context("read the container's record")?;
            let next = claim::read_process(&live).filter(|(pid, _)| *pid != self.process.pid);
            match record {
                None => return Ok(None),
                Some(record) if next.is_some() => return Ok(Some(record)),
                Some(record) if record.ending.is_some() && !live.exists() => {
                    return Ok(Some(record));
                }
                Some(_) if Instant::now() > deadline => return Ok(None),
                Some(_) => {
                    // Its supervisor may have died too.
                    teardown::orphan(places, &self.record.id)?;
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }
}
