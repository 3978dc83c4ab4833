//! From the process that started a container to the same process as its monitor, across an exec.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use crate::container::{Claim, ContainerId, Places};
use crate::kernel::process::{self, Child};
use crate::kernel::raw;
use crate::kernel::socket::{End, Listener};
use crate::life::stdio;

const VARIABLE: &str = "MYBOX_HANDOVER";
const ROLE: &str = "monitor";

/// All that a monitor gets.
pub(in crate::life) struct Handover {
    /// The right to be the container's supervisor.
    pub(in crate::life) claim: Claim,
    /// Its first process.
    pub(in crate::life) child: Child,
    /// What it reads and writes.
    pub(in crate::life) streams: Streams,
    /// Where those connect who attach to it: there before anybody is told that it runs.
    pub(in crate::life) listener: Listener,
    /// Whoever ran it in the foreground, if they stay.
    pub(in crate::life) caller: Option<End>,
    /// Whether it reads the end of what whoever is attached types.
    pub(in crate::life) input_ends: bool,
    /// What is to stay open as long as it runs.
    pub(in crate::life) held: Vec<OwnedFd>,
}

/// Our side of a container's standard streams.
pub(in crate::life) enum Streams {
    /// The terminal's master.
    Terminal(OwnedFd),
    /// Its output and error, and its input if it reads any.
    Pipes([OwnedFd; 2], Option<OwnedFd>),
}

/// What the variable says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    root: PathBuf,
    run_root: PathBuf,
    bridge: String,
    id: ContainerId,
    pid: i32,
    pidfd: RawFd,
    claim: RawFd,
    streams: Vec<RawFd>,
    terminal: bool,
    listener: RawFd,
    caller: Option<RawFd>,
    input_ends: bool,
    held: Vec<RawFd>,
}

/// Whether this process was executed to be a monitor.
pub fn is_wanted() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == ROLE)
        && std::env::var_os(VARIABLE).is_some()
}

/// Executes this binary again, as a monitor.
pub(in crate::life) fn become_monitor(places: &Places, handover: Handover) -> Result<Infallible> {
    let Handover {
        claim,
        child,
        streams,
        listener,
        caller,
        input_ends,
        held,
    } = handover;
    let (terminal, streams) = match streams {
        Streams::Terminal(master) => (true, vec![master]),
        Streams::Pipes(output, input) => (false, output.into_iter().chain(input).collect()),
    };
    // Whatever the caller of mybox left open.
    raw::close_on_exec_from(3).context("close what was inherited")?;
    let numbers = Numbers {
        root: places.root.clone(),
        run_root: places.run_root.clone(),
        bridge: places.bridge.clone(),
        id: claim.id().clone(),
        pid: child.pid,
        pidfd: keep(&child.pidfd)?,
        claim: keep(&claim)?,
        streams: streams.iter().map(keep).collect::<Result<_>>()?,
        terminal,
        listener: keep(&listener)?,
        caller: caller.as_ref().map(keep).transpose()?,
        input_ends,
        held: held.iter().map(keep).collect::<Result<_>>()?,
    };
    let words = ["mybox", ROLE, claim.id().short()].map(CString::new);
    let words = words.into_iter().collect::<Result<Vec<CString>, _>>()?;
    let variable = format!("{VARIABLE}={}", serde_json::to_string(&numbers)?);
    stdio::let_go()?;
    let errno = process::exec(
        &c"/proc/self/exe".to_owned(),
        &words,
        &[CString::new(variable)?],
    );
    Err(errno).context("execute the monitor")
}

/// Keeps a descriptor open across the exec; its number.
fn keep(fd: &impl AsFd) -> Result<RawFd> {
    rustix::io::fcntl_setfd(fd, FdFlags::empty()).context("keep a descriptor for the monitor")?;
    Ok(fd.as_fd().as_raw_fd())
}

/// What this process was executed with.
pub(super) fn receive() -> Result<(Places, Handover)> {
    let text = std::env::var(VARIABLE).context(VARIABLE)?;
    let numbers: Numbers = serde_json::from_str(&text).context(VARIABLE)?;
    let places = Places {
        root: numbers.root,
        run_root: numbers.run_root,
        bridge: numbers.bridge,
    };
    let mut streams = numbers.streams.into_iter().map(inherited);
    let mut stream = || streams.next().transpose();
    let streams = if numbers.terminal {
        Streams::Terminal(stream()?.context("no terminal")?)
    } else {
        let output = stream()?.context("no standard output")?;
        let error = stream()?.context("no standard error")?;
        Streams::Pipes([output, error], stream()?)
    };
    let handover = Handover {
        claim: Claim::inherited(&places, &numbers.id, inherited(numbers.claim)?),
        child: Child {
            pid: numbers.pid,
            pidfd: inherited(numbers.pidfd)?,
        },
        streams,
        listener: Listener::inherited(inherited(numbers.listener)?),
        caller: numbers
            .caller
            .map(|number| inherited(number).map(End::inherited))
            .transpose()?,
        input_ends: numbers.input_ends,
        held: numbers
            .held
            .into_iter()
            .map(inherited)
            .collect::<Result<_>>()?,
    };
    Ok((places, handover))
}

/// A descriptor of ours, which no container's process is to get.
fn inherited(number: RawFd) -> Result<OwnedFd> {
    let fd = raw::inherited(number).with_context(|| format!("take over descriptor {number}"))?;
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC).context("make close-on-exec")?;
    Ok(fd)
}
