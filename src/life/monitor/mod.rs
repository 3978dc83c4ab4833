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

use anyhow::{Context, Result};

use super::health::Checker;
use super::teardown::{self, Seen};
use super::{create, detach, mounts, supervise};
use crate::container::events::nanoseconds_now;
use crate::container::log::{Rotation, Stream, Writer};
use crate::container::{Claim, Ending, Places, Record};
use crate::kernel::process::Child;
use crate::kernel::signal::Signals;
use crate::kernel::{cgroup, raw};

pub use handover::is_wanted;
pub(super) use handover::{Handover, Streams, become_monitor};

/// A monitor at work.
struct Monitor {
    places: Places,
    record: Record,
    log: Writer,
    signals: Signals,
    /// Its health checks, while it runs.
    checker: Option<Checker>,
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
        log: Writer::open(&files.logs(), rotation)?,
        places,
        signals,
        checker: None,
    };
    match checker {
        Ok(checker) => monitor.checker = checker,
        Err(error) => monitor.note(&format!("its health will not be checked: {error:#}")),
    }
    // From here on most of the program is of no use any more, often for months.
    raw::forget_own_code().context("give memory back")?;
    let (sources, input) = watch::sources(listener, streams, input_ends)?;
    watch::until_the_end(&mut monitor, &child, sources, input)?;
    let ending = ending(&monitor.record, &child)?;
    // While the claim is there: who finds that without us looks for what we share, too.
    drop(held);
    mounts::strike_own(&monitor.places)?;
    monitor.afterwards(claim, ending)
}

fn ending(record: &Record, child: &Child) -> Result<Ending> {
    let ended = child.wait()?;
    let out_of_memory = cgroup::oom_kills(&record.cgroups) > 0;
    Ok(supervise::ending(ended, out_of_memory))
}

impl Monitor {
    /// A word of our own in the log.
    fn note(&mut self, text: &str) {
        let line = format!("mybox: {text}\n");
        self.log
            .write(Stream::Note, line.as_bytes(), nanoseconds_now());
    }

    /// Taken down, and started again if that is wanted.
    fn afterwards(mut self, claim: Claim, ending: Ending) -> Result<()> {
        let dir = self.places.container(claim.id());
        // It may have been renamed or updated.
        if let Some(record) = Record::read(&dir)? {
            self.record = record;
        }
        let stopped = claim.is_to_stop();
        if stopped {
            self.record.stopped = true;
            self.record.write(&dir)?;
        }
        if stopped || !restart::is_wanted(&self.record, ending) {
            return teardown::teardown(&self.places, claim, Seen::Ended(ending));
        }
        teardown::undo(&self.places, &claim, Seen::Ended(ending))?;
        claim.forget_process()?;
        let pause = restart::pause(&self.record, ending);
        self.record.ending = Some(ending);
        self.record.restarting = true;
        self.record.restart_count = self.record.restart_count.saturating_add(1);
        self.record.write(&dir)?;
        if !restart::wait(&self.signals, &claim, pause)? {
            self.record.stopped = true;
            self.record.write(&dir)?;
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
