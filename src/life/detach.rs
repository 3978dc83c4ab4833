//! Containers that run on without the command that started them.
//!
//! ```text
//! command              its child (apart)                  the container
//!   fork -----------------> all stages of a start --------> executed
//!   <---------- its id -----|
//!   prints the id           becomes the monitor, by an exec
//! ```
//! The exec gives the monitor a fresh small memory, and leaves it the container's parent.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use mybox_store::{Image, Stack, Store};

use super::apart::{self, Began};
use super::monitor::{Handover, Streams};
use super::prepare::Who;
use super::stdio::{Pipes, Stdio};
use super::supervise::{self, Executed};
use super::{Asked, RunFailed, Up, bring_up, create, monitor, undo_start};
use crate::container::claim::INPUT;
use crate::container::events::{self, Event};
use crate::container::{Claim, ContainerId, Places, Record};
use crate::kernel::socket::{End, Listener};
use crate::plan::{RunRequest, StandardStream};

/// What became of a start.
#[derive(Debug)]
pub enum Detached {
    /// The command was executed.
    Started(ContainerId),
    /// It was not; why has been told. This is the exit code.
    Failed(u8),
}

/// Runs a new container in the background.
pub fn run(asked: Asked<'_>, note: &mut dyn FnMut(&str)) -> Result<Detached, RunFailed> {
    let started = in_a_child(|command| start_here(asked, Who::New, Command::Gone(command), note))?;
    Ok(started.without_link())
}

/// Runs a new container for a command that stays at it; the link to its monitor, which tells what it
/// writes.
pub(super) fn run_linked(
    asked: Asked<'_>,
    note: &mut dyn FnMut(&str),
) -> Result<Started, RunFailed> {
    in_a_child(|command| start_here(asked, Who::New, Command::Stays(command), note))
}

/// What became of a start, for the command that asked for it.
pub(super) enum Started {
    /// The command was executed. The link leads to the monitor, if that is to have one.
    Running(ContainerId, End),
    /// It was not; why has been told. This is the exit code.
    Failed(u8),
}

impl Started {
    fn without_link(self) -> Detached {
        match self {
            Self::Running(id, _) => Detached::Started(id),
            Self::Failed(code) => Detached::Failed(code),
        }
    }
}

/// The command on whose behalf a container is started.
enum Command {
    /// It waits until the container runs.
    Gone(End),
    /// It stays at the container.
    Stays(End),
    /// There is none: a monitor starts its container again.
    None,
}

/// Starts a container that is there.
pub fn start(
    places: &Places,
    store: &Store,
    record: &Record,
    note: &mut dyn FnMut(&str),
) -> Result<Detached, RunFailed> {
    let (image, request) = made_of(places, store, record)?;
    let asked = Asked {
        places,
        store,
        image: &image,
        request: &request,
    };
    let who = Who::There(record.id.clone(), record.name.clone());
    let started = in_a_child(|command| start_here(asked, who, Command::Gone(command), note))?;
    Ok(started.without_link())
}

/// Starts a container again whose monitor we are.
pub(super) fn again(
    places: &Places,
    claim: Claim,
    record: &Record,
) -> Result<Infallible, RunFailed> {
    let store = Store::open(&places.root).map_err(anyhow::Error::from)?;
    let (image, request) = made_of(places, &store, record)?;
    let asked = Asked {
        places,
        store: &store,
        image: &image,
        request: &request,
    };
    let who = Who::Claimed(claim, record.name.clone());
    start_here(asked, who, Command::None, &mut |_| {})
}

/// The image and the request of a container.
fn made_of(places: &Places, store: &Store, record: &Record) -> anyhow::Result<(Image, RunRequest)> {
    let request = create::read_request(&places.container(&record.id))?;
    let image = store
        .find(&record.manifest.to_string())
        .with_context(|| format!("find the image of container {}", record.name))?;
    Ok((image, request))
}

/// Starts it in a child of its own.
fn in_a_child(
    start: impl FnOnce(End) -> Result<Infallible, RunFailed>,
) -> Result<Started, RunFailed> {
    match apart::in_a_child(start)? {
        Began::Indeed(word, link) => {
            let id = String::from_utf8_lossy(&word.bytes);
            let id = ContainerId::parse(&id).context("read the id of the container")?;
            Ok(Started::Running(id, link))
        }
        Began::Failed(code) => Ok(Started::Failed(code)),
    }
}

/// All stages up to the executed command; then this process becomes the container's monitor.
fn start_here(
    asked: Asked<'_>,
    who: Who,
    command: Command,
    note: &mut dyn FnMut(&str),
) -> Result<Infallible, RunFailed> {
    let mut stdio = if asked.request.terminal {
        Stdio::Terminal
    } else {
        let is_typed_to = matches!(command, Command::Stays(_))
            && asked.request.is_attached(StandardStream::Input);
        Stdio::Pipes(Pipes::new(asked.request.interactive || is_typed_to)?)
    };
    let Up {
        claim,
        record,
        plan: _plan,
        layers,
        mounts,
        running,
        held: ports,
    } = bring_up(asked, who, &mut stdio, note)?;
    let Executed {
        child,
        terminal,
        signals,
    } = match supervise::until_executed(running) {
        Ok(executed) => executed,
        Err(failed) => {
            drop(mounts);
            return Err(undo_start(asked.places, claim, failed));
        }
    };
    // For the monitor, which reads them.
    signals.stay_blocked();
    events::tell(asked.places, &Event::of_container("start", &record));
    let streams = match stdio {
        Stdio::Pipes(pipes) => Streams::Pipes(pipes.output, pipes.input),
        _ => Streams::Terminal(terminal.context("the container sent no terminal")?),
    };
    let listener = Listener::bind(claim.as_fd(), INPUT)?;
    let layers = layers.into_iter().flat_map(Stack::into_descriptors);
    let mut held: Vec<OwnedFd> = layers.collect();
    held.extend(mounts.into_descriptors());
    held.extend(ports.into_descriptors());
    let caller = match command {
        Command::None => None,
        Command::Gone(end) => {
            // Whoever does not wait for it any more has gone.
            let _ = end.send(record.id.as_str().as_bytes(), None);
            None
        }
        Command::Stays(end) => {
            end.send(record.id.as_str().as_bytes(), None)?;
            Some(end)
        }
    };
    let handover = Handover {
        claim,
        child,
        streams,
        listener,
        caller,
        // As Docker has it: what was run in the background reads on.
        input_ends: !asked.request.detach,
        held,
    };
    Ok(monitor::become_monitor(asked.places, handover)?)
}
