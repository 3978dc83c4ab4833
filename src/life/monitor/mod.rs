//! The monitor of a container that runs in the background: it keeps what the container writes, sees
//! its end, takes it down, and starts it again where that is wanted.
//!
//! One process for each container, without threads; `detach` becomes it by an exec, with all
//! it needs in one environment variable and under the numbers of descriptors. Nothing that happens
//! to a log, a pipe or a client may end it: with it the container would end too.

mod handover;
mod input;
mod restart;
mod watch;

use std::path::Path;

use anyhow::{Context, Result};

use super::attach::caller::Caller;
use super::health::Checker;
use super::oom::Oom;
use super::recover::is_for_want_of_room;
use super::teardown::{self, Seen};
use super::{create, detach, mounts, supervise};
use crate::container::events::nanoseconds_now;
use crate::container::log::{Rotation, Stream, Writer};
use crate::container::{Claim, Ending, Places, Record, RestartPolicy};
use crate::kernel::process::Child;
use crate::kernel::raw;
use crate::kernel::signal::Signals;

pub use handover::is_wanted;
pub(super) use handover::{Handover, Streams, become_monitor};

/// A monitor at work.
struct Monitor {
    places: Places,
    record: Record,
    output: Output,
    signals: Signals,
    /// The signal in whose place SIGKILL was sent.
    killed_for: Option<i32>,
    /// Its health checks, while it runs.
    checker: Option<Checker>,
    /// Its want of memory, while it runs.
    oom: Option<Oom>,
}

/// Where what the container writes goes.
struct Output {
    log: Writer,
    caller: Option<Caller>,
}

impl Output {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        self.log.write(stream, bytes, nanoseconds_now());
        if let Some(caller) = &mut self.caller {
            caller.show(stream, bytes);
        }
    }
}

/// Does the work of a monitor, in a process that was executed to be one.
pub fn run() -> Result<()> {
    let signals = Signals::take()?;
    let (places, handover) = handover::receive()?;
    let Handover {
        claim,
        child,
        streams,
        listener,
        caller,
        input_ends,
        held,
    } = handover;
    let dir = places.container(claim.id());
    let files = crate::container::Files::of(dir.clone());
    // What is kept at most is not worth a container's life.
    let request = create::read_request(&dir);
    let rotation = request.map_or_else(|_| Rotation::default(), |request| request.log);
    let checker = Checker::of(&places, claim.id());
    let mut monitor = Monitor {
        record: Record::read(&dir)?
            .ok_or_else(|| anyhow::anyhow!("the container has no record"))?,
        output: Output {
            log: Writer::open(&files.logs(), rotation)?,
            caller: caller.map(Caller::new),
        },
        places,
        signals,
        killed_for: None,
        checker: None,
        oom: None,
    };
    let groups = &monitor.record.cgroups;
    monitor.oom = Some(Oom::of(&monitor.places, &monitor.record.id, groups));
    match checker {
        Ok(checker) => monitor.checker = checker,
        Err(error) => monitor.note(&format!("its health will not be checked: {error:#}")),
    }
    // From here on most of the program is of no use any more.
    raw::forget_own_code().context("give memory back")?;
    let (sources, input) = watch::sources(listener, streams, input_ends)?;
    watch::until_the_end(&mut monitor, &child, sources, input)?;
    let ending = monitor.ending(&child)?;
    // While the claim is there: who finds that without us looks for what we share, too.
    drop(held);
    mounts::strike_own(&monitor.places)?;
    monitor.afterwards(claim, ending)
}

impl Monitor {
    fn ending(&self, child: &Child) -> Result<Ending> {
        let (ended, cgroups) = (child.wait()?, &self.record.cgroups);
        Ok(supervise::ending(ended, self.killed_for, cgroups))
    }

    /// A word of our own in the log.
    fn note(&mut self, text: &str) {
        let line = format!("mybox: {text}\n");
        self.output.write(Stream::Note, line.as_bytes());
    }

    /// Changes the record, and sees what others have changed.
    fn change_record(&mut self, dir: &Path, change: impl FnOnce(&mut Record)) -> Result<()> {
        let changed = Record::change(dir, |mut record| {
            change(&mut record);
            record
        })?;
        self.record = changed.context("the container has no record any more")?;
        Ok(())
    }

    /// Whether somebody has stopped it, on a record that may have been renamed or updated. On a full disk
    /// nobody will know it after a reboot.
    fn note_stopped(&mut self, dir: &Path, stopped: bool) -> Result<()> {
        match self.change_record(dir, |record| record.stopped |= stopped) {
            Err(error) if is_for_want_of_room(&error) => Ok(()),
            changed => changed,
        }
    }

    /// The last word to whoever ran it.
    fn tell_the_end(&mut self, ending: Ending, failed: Option<&anyhow::Error>) {
        if let Some(caller) = self.output.caller.take() {
            caller.told_the_end(ending, failed);
        }
    }

    /// Taken down, and started again if that is wanted.
    fn afterwards(mut self, claim: Claim, ending: Ending) -> Result<()> {
        let dir = self.places.container(claim.id());
        let stopped = claim.is_to_stop();
        self.note_stopped(&dir, stopped)?;
        if stopped || !restart::is_wanted(&self.record, ending) {
            let down = teardown::teardown(&self.places, claim, Seen::Ended(ending));
            self.tell_the_end(ending, down.as_ref().err());
            return down;
        }
        let undone = teardown::undo(&self.places, &claim, Seen::Ended(ending));
        // Whoever ran it has seen it end, and does not wait for the next time.
        self.tell_the_end(ending, undone.as_ref().err());
        undone?;
        claim.forget_process()?;
        let pause = restart::pause(&self.record, ending);
        let to_restart = self.change_record(&dir, |record| {
            record.ending = Some(ending);
            record.restarting = true;
            record.restart_count = record.restart_count.saturating_add(1);
        });
        if let Err(error) = to_restart {
            self.note(&format!("cannot start it again: {error:#}"));
            return teardown::teardown(&self.places, claim, Seen::Ended(ending));
        }
        let goes_on = restart::wait(&self.signals, &claim, pause)?;
        // By now it may be another's wish that it stays down.
        self.note_stopped(&dir, !goes_on)?;
        if !goes_on || self.record.restart == RestartPolicy::No {
            return teardown::teardown(&self.places, claim, Seen::Ended(ending));
        }
        match detach::again(&self.places, claim, &self.record) {
            Ok(never) => match never {},
            Err(failed) => {
                self.note(&format!("cannot start it again: {:#}", failed.error));
                Ok(())
            }
        }
    }
}
