//! Health checks of a container that runs, made by whoever supervises it: its monitor, or `run` itself.
//!
//! ```text
//! supervisor             its child                             in the container
//!   timer rings
//!   fork -----------------> lets go of all that is not its own
//!                           mybox exec -----------------------> the check
//!   reads the output <-------------------------------------------|
//!   sees the end <--------- ends with the check's code <---------|
//!   health.json, timer
//! ```
//! The supervisor waits for none of it: timer, output and end are descriptors of one epoll instance, which
//! its loop looks at beside all else. A check that takes too long ends with the child, and whatever it has
//! started with it: each check has a cgroup of its own within the container's. What a check leaves behind
//! that has ended by itself stays, as with Docker. What goes wrong with a check is the check's result, and
//! never the supervisor's end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use super::target::Target;
use super::{RunFailed, exec};
use crate::container::events::{self, Event, nanoseconds_now};
use crate::container::health::{Health, Probe};
use crate::container::{ContainerId, Files, Places, Record, claim, find};
use crate::kernel::cgroup::freeze;
use crate::kernel::cgroup::nested::Nested;
use crate::kernel::process::{self, Child, Side, SingleThreaded};
use crate::kernel::timer::Timer;
use crate::kernel::{raw, signal};
use crate::plan::ExecRequest;

/// How much of a check's output is kept, as Docker has it.
const KEPT: usize = 4096;
/// How much is read at once.
const PIECE: usize = 4096;
/// How many pieces before others have their turn.
const PIECES: usize = 16;
/// The exit code of a check that has none of its own.
const NO_CODE: i32 = -1;

/// The checks of one container that runs.
pub(super) struct Checker {
    places: Places,
    id: ContainerId,
    health: Health,
    /// When the container's command was executed.
    started: Instant,
    /// Rings for the next check, or when the one that is being made takes too long.
    timer: Timer,
    epoll: OwnedFd,
    underway: Option<Underway>,
    /// Groups of checks that took too long, with something in them that was not gone at once.
    doomed: Vec<Nested>,
}

/// A check that is being made.
struct Underway {
    child: Child,
    /// What all of it runs in; `None` if there can be none.
    group: Option<Nested>,
    /// `None` when there is no more to come.
    output: Option<OwnedFd>,
    text: Vec<u8>,
    start: u64,
    /// Of the container, at its start.
    age: Duration,
    took_too_long: bool,
}

impl Checker {
    /// For a container whose command was executed just now; `None` if it has no health check.
    pub(super) fn of(places: &Places, id: &ContainerId) -> Result<Option<Self>> {
        let files = Files::of(places.container(id));
        let health = Health::read(&files).context("read the container's health check")?;
        let Some(health) = health else {
            return Ok(None);
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("make an epoll instance")?;
        let timer = Timer::new()?;
        watch(&epoll, timer.as_fd())?;
        timer.set(health.pause(Duration::ZERO))?;
        Ok(Some(Self {
            places: places.clone(),
            id: id.clone(),
            health,
            started: Instant::now(),
            timer,
            epoll,
            underway: None,
            doomed: Vec::new(),
        }))
    }

    /// Does what is to be done now: to be called when this can be read, and never blocking.
    pub(super) fn attend(&mut self) {
        let has_rung = self.timer.has_rung();
        let Some(underway) = &mut self.underway else {
            if has_rung {
                self.begin();
            }
            return;
        };
        // Before the output is read: then all of it is there.
        let has_ended = underway.child.has_ended();
        underway.read(&self.epoll);
        if has_ended {
            self.finish();
        } else if has_rung {
            underway.took_too_long = true;
            underway.end();
        }
    }

    fn begin(&mut self) {
        self.doomed.retain(|group| !is_ended(group));
        if self.is_paused() {
            return self.wait_for_next();
        }
        let (start, age) = (nanoseconds_now(), self.started.elapsed());
        let failed = |error: anyhow::Error| Probe {
            start,
            end: nanoseconds_now(),
            exit_code: NO_CODE,
            output: format!("the check could not be made: {error:#}"),
        };
        match self.start(start, age) {
            Ok(underway) => {
                self.underway = Some(underway);
                // It cannot fail: the time is one.
                let _ = self.timer.set(self.health.check.timeout);
            }
            Err(error) => self.take_in(failed(error), age),
        }
    }

    fn start(&self, start: u64, age: Duration) -> Result<Underway> {
        let proof = SingleThreaded::check()?;
        let (output, inside) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
        let flags = rustix::fs::fcntl_getfl(&output).context("read flags of the pipe")?;
        rustix::fs::fcntl_setfl(&output, flags | OFlags::NONBLOCK).context("set its flags")?;
        let parent = Some(rustix::process::getpid());
        let group = self.group(start)?;
        let child = match process::clone_child(&proof, 0, None)? {
            Side::Child => make(self, group.as_ref(), &inside, parent),
            Side::Parent(child) => child,
        };
        let underway = Underway {
            child,
            group,
            output: Some(output),
            text: Vec::new(),
            start,
            age,
            took_too_long: false,
        };
        let ends = underway.child.pidfd.as_fd();
        let fds = [ends]
            .into_iter()
            .chain(underway.output.iter().map(AsFd::as_fd));
        for fd in fds {
            watch(&self.epoll, fd)?;
        }
        Ok(underway)
    }

    /// For the check that begins at this time.
    fn group(&self, start: u64) -> Result<Option<Nested>> {
        let cgroups = self.record().map(|record| record.cgroups);
        let group = Nested::within(&cgroups.unwrap_or_default(), &format!("check-{start}"));
        group.iter().try_for_each(Nested::make)?;
        Ok(group)
    }

    fn finish(&mut self) {
        let Some(mut underway) = self.underway.take() else {
            return;
        };
        if let Some(group) = underway.group.take() {
            match underway.took_too_long {
                true if !is_ended(&group) => self.doomed.push(group),
                true => {}
                // What the check has left behind keeps it.
                false => drop(group.remove()),
            }
        }
        let age = underway.age;
        match underway.result(self.health.check.timeout) {
            Some(probe) => self.take_in(probe, age),
            None => self.wait_for_next(),
        }
    }

    /// What happens to a container that ends or stands still says nothing of its health.
    fn take_in(&mut self, probe: Probe, age: Duration) {
        let counts = probe.exit_code == 0 || !self.is_ending() && !self.is_paused();
        if counts {
            let is_news = self.health.take_in(probe, age);
            let files = Files::of(self.places.container(&self.id));
            // On a full disk what is there stays; the next one may fit again.
            if let Err(error) = self.health.write(&files) {
                tracing::debug!("health.json: {error}");
            }
            if is_news {
                let action = format!("health_status: {}", self.health.status.word());
                if let Some(record) = self.record() {
                    events::tell(&self.places, &Event::of_container(&action, &record));
                }
            }
        }
        self.wait_for_next();
    }

    fn wait_for_next(&self) {
        // It cannot fail: the time is one.
        let _ = self.timer.set(self.health.pause(self.started.elapsed()));
    }

    fn is_ending(&self) -> bool {
        let process = claim::read_process(&self.places.live_container(&self.id));
        process.is_none_or(|(pid, _)| process::is_ending(pid))
    }

    fn is_paused(&self) -> bool {
        self.record()
            .is_some_and(|record| freeze::is_frozen(&record.cgroups))
    }

    /// It may have been renamed meanwhile.
    fn record(&self) -> Option<Record> {
        let record = Record::read(&self.places.container(&self.id));
        record.ok().flatten()
    }
}

impl AsFd for Checker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Underway {
    /// What there is to read of its output.
    fn read(&mut self, epoll: &OwnedFd) {
        let mut piece = Vec::with_capacity(PIECE);
        for _ in 0..PIECES {
            let Some(output) = &self.output else {
                return;
            };
            piece.clear();
            match rustix::io::read(output, spare_capacity(&mut piece)) {
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => {
                    // Nothing else has it open, so closing it does the same.
                    let _ = epoll::delete(epoll, output);
                    self.output = None;
                }
                Ok(_) => {
                    let room = KEPT.saturating_sub(self.text.len());
                    self.text.extend(piece.iter().take(room));
                }
            }
        }
    }

    /// With it the check ends: SIGKILL when its parent dies. What that has started has gone when the
    /// group has.
    fn end(&self) {
        // One that has ended already is no error, and nothing else can be wrong.
        let _ = self.child.signal(Signal::KILL);
    }

    /// Once it has ended; `None` if nobody knows how.
    fn result(self, timeout: Duration) -> Option<Probe> {
        let ended = self.child.wait().ok()?;
        let text = String::from_utf8_lossy(&self.text).into_owned();
        let (exit_code, output) = if self.took_too_long {
            let text = format!("health check exceeded timeout ({timeout:?}): {text}");
            (NO_CODE, text)
        } else {
            (ended.code(), text)
        };
        Some(Probe {
            start: self.start,
            end: nanoseconds_now(),
            exit_code,
            output,
        })
    }
}

/// A check that nobody waits for any more ends.
impl Drop for Checker {
    fn drop(&mut self) {
        if let Some(underway) = self.underway.take() {
            underway.end();
            // It would stay a zombie; how it ended is nobody's concern.
            let _ = underway.child.wait();
        }
    }
}

/// Ends what is in the group of a check; whether it is gone. If not it is tried again, and the container's
/// end is its end in any case.
fn is_ended(group: &Nested) -> bool {
    let ended = group.kill().and_then(|()| group.remove());
    ended.unwrap_or_else(|error| {
        tracing::debug!("a check that took too long: {error}");
        false
    })
}

fn watch(epoll: &OwnedFd, fd: BorrowedFd<'_>) -> Result<()> {
    let nothing = epoll::EventData::new_u64(0);
    epoll::add(epoll, fd, nothing, epoll::EventFlags::IN).context("watch a descriptor")
}

/// Makes one check, in a process that does nothing else: it has the supervisor's memory, and must have
/// nothing of what the supervisor holds.
fn make(checker: &Checker, group: Option<&Nested>, output: &OwnedFd, parent: Option<Pid>) -> ! {
    let code = stand_alone(output, parent)
        .map_err(RunFailed::from)
        .and_then(|()| execute(checker, group))
        .unwrap_or_else(|failed| {
            let text = format!("{:#}", failed.error);
            // Whoever does not read it has ended.
            let _ = rustix::io::write(output, text.as_bytes());
            failed.code
        });
    raw::exit_now(code.into())
}

/// As if it had been started by nobody, with its output into a pipe.
fn stand_alone(output: &OwnedFd, parent: Option<Pid>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("set parent death signal")?;
    // It may have died before that.
    if rustix::process::getppid() != parent {
        raw::exit_now(0);
    }
    // Ctrl-C at the terminal of `run` is meant for the container.
    rustix::process::setsid().context("start a session")?;
    rustix::stdio::dup2_stdout(output).context("dup2 standard output")?;
    rustix::stdio::dup2_stderr(output).context("dup2 standard error")?;
    // The claim above all: who can take it takes the supervisor for dead.
    raw::close_all_but(output.as_fd());
    signal::set_mask(&SigSet::empty())?;
    Ok(())
}

fn execute(checker: &Checker, group: Option<&Nested>) -> Result<u8, RunFailed> {
    let Checker { places, id, .. } = checker;
    let container = find::again(places, id)?.context("the container is gone")?;
    let request = ExecRequest {
        command: checker.health.check.command.clone(),
        ..ExecRequest::default()
    };
    let target = Target::of(container)?;
    let own = &target.record.cgroups;
    let cgroups = group.map_or_else(|| own.clone(), |group| group.among(own));
    exec::exec_in(places, &target, &request, &cgroups)
}
