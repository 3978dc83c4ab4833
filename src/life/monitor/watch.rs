//! While a container runs: what it writes goes to the log, signals to it, its end is seen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::event::Timespec;
use rustix::io::Errno;

use super::handover::Streams;
use super::input::Input;
use super::{Monitor, Output};
use crate::container::Claim;
use crate::container::log::{LONGEST, Stream};
use crate::kernel::cgroup::freeze;
use crate::kernel::poll::{self, AT_ONCE};
use crate::kernel::process::Child;
use crate::kernel::raw;
use crate::kernel::signal;
use crate::kernel::socket::Listener;
use crate::life::attach::feed::Feed;
use crate::life::attach::protocol::Typed;
use crate::life::oom::Oom;
use crate::life::supervise::{self, Sent};

/// After so long without anything to do the monitor makes itself small.
const QUIET: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Where output comes from, and what it is.
pub(super) struct Source {
    fd: OwnedFd,
    stream: Stream,
}

/// Stays until the container's first process has ended and all it wrote is in the log.
pub(super) fn until_the_end(
    monitor: &mut Monitor,
    child: &Child,
    mut sources: Vec<Source>,
    mut input: Input,
) -> Result<()> {
    let mut buffer = vec![0; LONGEST];
    let mut at_rest = false;
    loop {
        let limit = (!at_rest).then_some(&QUIET);
        let ready = wait(monitor, child, &sources, &input, limit)?;
        at_rest = !ready.any;
        if at_rest {
            // Most of the program is of no use until something happens, often for months.
            if let Err(error) = raw::forget_own_code() {
                tracing::debug!("memory is not given back: {error}");
            }
        }
        if ready.signal {
            while let Some(number) = monitor.signals.next()? {
                forward(child, number)?;
            }
        }
        if ready.caller {
            hear(monitor, child, &mut input)?;
        }
        if let Some(caller) = &mut monitor.output.caller {
            caller.catch_up();
        }
        take(
            &mut sources,
            &ready.sources,
            &mut monitor.output,
            &mut buffer,
        );
        input.take(&ready.typed)?;
        if let (true, Some(checker)) = (ready.check && !ready.ended, &mut monitor.checker) {
            checker.attend();
        }
        if let (true, Some(oom)) = (ready.oom, &mut monitor.oom) {
            oom.attend();
        }
        // Its other processes have ended with it: what they wrote is in the pipes.
        if ready.ended {
            monitor.checker = None;
            if let Some(oom) = monitor.oom.take() {
                oom.end();
            }
            return drain(&mut sources, &mut monitor.output, &mut buffer);
        }
    }
}

/// What is to be watched of a container's streams.
pub(super) fn sources(
    listener: Listener,
    streams: Streams,
    input_ends: bool,
) -> Result<(Vec<Source>, Input)> {
    let source = |fd, stream| Source { fd, stream };
    let (sources, to, terminal) = match streams {
        Streams::Terminal(master) => {
            let to = master.try_clone().context("share the terminal")?;
            (vec![source(master, Stream::Stdout)], Some(to), true)
        }
        Streams::Pipes([output, error], to) => {
            let sources = vec![
                source(output, Stream::Stdout),
                source(error, Stream::Stderr),
            ];
            (sources, to, false)
        }
    };
    let ends = input_ends && !terminal;
    let feed = Feed::new(to, terminal, ends)?;
    Ok((sources, Input::new(listener, feed)))
}

/// What the loop has to look at.
struct Ready {
    /// Anything at all.
    any: bool,
    signal: bool,
    ended: bool,
    /// Something of the health checks.
    check: bool,
    /// Something of its want of memory.
    oom: bool,
    /// In the order of the sources.
    sources: Vec<bool>,
    /// In the order of [`Input::readable`].
    typed: Vec<bool>,
    /// Whoever ran it says something, or is gone.
    caller: bool,
}

fn wait(
    monitor: &Monitor,
    child: &Child,
    sources: &[Source],
    input: &Input,
    limit: Option<&Timespec>,
) -> Result<Ready> {
    let typed = input.readable();
    let caller = monitor.output.caller.as_ref();
    let behind = caller.filter(|caller| caller.is_behind());
    // What the caller would have to wait for is not read.
    let sources = if behind.is_some() { &[] } else { sources };
    let heard = caller.filter(|_| !input.feed.is_full());
    let mut fds = vec![monitor.signals.as_fd(), child.pidfd.as_fd()];
    fds.extend(sources.iter().map(|source| source.fd.as_fd()));
    fds.extend(&typed);
    fds.extend(heard.map(AsFd::as_fd));
    fds.extend(monitor.checker.as_ref().map(AsFd::as_fd));
    let oom = monitor.oom.as_ref().and_then(Oom::descriptor);
    fds.extend(oom);
    let room = [input.feed.writable(), behind.map(AsFd::as_fd)];
    let room: Vec<BorrowedFd<'_>> = room.into_iter().flatten().collect();
    let ready = poll::wait(&fds, &room, limit)?;
    let any = ready.contains(&true);
    let (ours, rest) = ready.split_at(2);
    let (of_sources, rest) = rest.split_at(sources.len());
    let (of_typed, rest) = rest.split_at(typed.len());
    let (of_caller, rest) = rest.split_at(usize::from(heard.is_some()));
    let (of_checks, rest) = rest.split_at(usize::from(monitor.checker.is_some()));
    let of_oom = &rest[..usize::from(oom.is_some())];
    Ok(Ready {
        any,
        signal: ours[0],
        ended: ours[1],
        sources: of_sources.to_vec(),
        typed: of_typed.to_vec(),
        caller: of_caller.contains(&true),
        check: of_checks.contains(&true),
        oom: of_oom.contains(&true),
    })
}

/// One read of each source that has something; those that have ended go.
fn take(sources: &mut Vec<Source>, ready: &[bool], output: &mut Output, buffer: &mut [u8]) {
    let mut number = 0;
    sources.retain(|source| {
        let is_ready = ready.get(number).copied().unwrap_or(false);
        number += 1;
        !is_ready || read(source, output, buffer)
    });
}

/// Whether there can be more.
fn read(source: &Source, output: &mut Output, buffer: &mut [u8]) -> bool {
    match rustix::io::read(&source.fd, &mut *buffer) {
        Err(Errno::INTR | Errno::AGAIN) => true,
        // EIO: nobody has the terminal's other side open any more.
        Ok(0) | Err(_) => false,
        Ok(count) => {
            output.write(source.stream, &buffer[..count]);
            true
        }
    }
}

/// What is there still. A process outside of the container may have a pipe open, and write on: it
/// is not waited for.
fn drain(sources: &mut Vec<Source>, output: &mut Output, buffer: &mut [u8]) -> Result<()> {
    loop {
        let fds: Vec<BorrowedFd<'_>> = sources.iter().map(|it| it.fd.as_fd()).collect();
        let ready = poll::wait(&fds, &[], Some(&AT_ONCE))?;
        if !ready.contains(&true) {
            return Ok(());
        }
        take(sources, &ready, output, buffer);
    }
}

/// What whoever ran the container says.
fn hear(monitor: &mut Monitor, child: &Child, input: &mut Input) -> Result<()> {
    let Some(caller) = &monitor.output.caller else {
        return Ok(());
    };
    let Some(message) = caller.hear() else {
        // In the foreground it ends with them.
        monitor.output.caller = None;
        return signal_of_the_caller(monitor, child, libc::SIGKILL);
    };
    match Typed::parse(&message.bytes) {
        Some(Typed::Leave) => monitor.output.caller = None,
        Some(Typed::Signal(number)) => signal_of_the_caller(monitor, child, number)?,
        typed => {
            input.feed.typed(typed);
            input.feed.pass_on();
        }
    }
    Ok(())
}

/// Passes on a signal that whoever ran the container got. What asks it to stop stops it for good.
fn signal_of_the_caller(monitor: &mut Monitor, child: &Child, number: i32) -> Result<()> {
    let Some(signal) = raw::signal(number) else {
        return Ok(());
    };
    let record = &monitor.record;
    let asks_to_stop = record.is_stopped_by(number);
    if asks_to_stop {
        Claim::ask_to_stop(&monitor.places, &record.id).context("note that it is to stop")?;
    }
    let sent = supervise::forward(child.pid, signal, |signal| child.signal(signal))?;
    if asks_to_stop {
        freeze::thaw(&record.cgroups)?;
    }
    if sent == Sent::KillInItsPlace {
        monitor.killed_for = Some(number);
    }
    Ok(())
}

fn forward(child: &Child, number: i32) -> Result<()> {
    match number {
        libc::SIGWINCH | libc::SIGHUP => Ok(()),
        number if signal::is_own(number) => Ok(()),
        number => match raw::signal(number) {
            Some(signal) => supervise::forward(child.pid, signal, |it| child.signal(it)).map(drop),
            None => Ok(()),
        },
    }
}
