//! In the foreground at a container that can be left: it has a monitor, as one in the background has, and
//! the command that runs it is the monitor's caller.
//!
//! ```text
//! run ------ Typed ----> monitor ----> container
//!  ^------- Told ---------'  '---> log
//! ```
//! Leaving is one word to the monitor. Without it, the container ends with the command. A command that is
//! executed on a terminal is stayed at in the same way, with its keeper (`exec/keeper`) in the monitor's place.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Result, bail};

use super::attach::protocol::{Told, Typed};
use super::attach::typing::Typing;
use super::attach::{Left, Options};
use super::detach::{self, Started};
use super::supervise::ends_by_default;
use super::{Asked, RunFailed, teardown, wait};
use crate::container::log::Stream;
use crate::container::{ContainerId, Ending, Places};
use crate::kernel::poll::{self, AT_ONCE};
use crate::kernel::pty::RawMode;
use crate::kernel::signal::{self, Signals};
use crate::kernel::socket::End;
use crate::plan::RunRequest;

/// Between two looks at a container that lost its monitor.
const LOOK: Duration = Duration::from_millis(10);

/// How a stay at a container ended.
#[derive(Debug)]
pub enum Stayed {
    /// With the container.
    Ended(Ending),
    /// Before it.
    Left(Left),
    /// Its command was never executed; why has been told. This is the exit code.
    NeverStarted(u8),
}

/// Who is told what happens.
pub struct Listeners<'a> {
    /// What the user should know before the command starts.
    pub note: &'a mut dyn FnMut(&str),
    /// The container, when it runs.
    pub begun: &'a mut dyn FnMut(&ContainerId) -> Result<()>,
    /// What it writes. Never a note.
    pub show: &'a mut dyn FnMut(Stream, &[u8]) -> Result<()>,
}

/// Whether a container is to be run so that it can be left.
pub fn can_be_left(request: &RunRequest, options: &Options) -> bool {
    let typed_to = request.terminal && request.interactive;
    !options.signals || request.attaches_input_only() || typed_to && options.input
}

/// Runs a new container and stays at it.
pub fn run(
    asked: Asked<'_>,
    options: &Options,
    listeners: Listeners<'_>,
) -> Result<Stayed, RunFailed> {
    let Listeners { note, begun, show } = listeners;
    let (id, link) = match detach::run_linked(asked, note)? {
        Started::Running(id, link) => (id, link),
        Started::Failed(code) => return Ok(Stayed::NeverStarted(code)),
    };
    // If it fails the link goes without a word to the monitor, which will end the container.
    begun(&id)?;
    let request = asked.request;
    let stay = At {
        terminal: request.terminal,
        input_only: request.attaches_input_only(),
    };
    match stay.stay(link, options, show)? {
        Some(stayed) => Ok(stayed),
        None => Ok(Stayed::Ended(without_its_monitor(asked.places, &id)?)),
    }
}

/// What somebody stays at.
pub(super) struct At {
    /// Whether it has a terminal.
    pub(super) terminal: bool,
    /// Whether there is nothing to stay for when all input is given.
    pub(super) input_only: bool,
}

impl At {
    /// Stays, with a link to whoever keeps it; `None` if that one has died.
    pub(super) fn stay(
        &self,
        link: End,
        options: &Options,
        show: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<Option<Stayed>> {
        let stdin = std::io::stdin();
        let at_terminal = self.terminal && rustix::termios::isatty(&stdin);
        let mut typing = Typing::new(link, at_terminal, &options.detach_keys);
        typing.open = options.input;
        let mut stay = Stay {
            signals: Signals::take()?,
            typing,
            at_terminal,
            passes_signals: options.signals,
            leaves_after_input: self.input_only,
            waits_for_room: false,
        };
        let _raw_mode = match at_terminal && options.input {
            true => Some(RawMode::enter(stdin.as_fd())?),
            false => None,
        };
        if at_terminal {
            stay.typing.tell_size()?;
        }
        stay.carry_all(show)
    }
}

/// What there is to look at.
struct Ready {
    told: bool,
    signal: bool,
    typed: bool,
}

/// Beside the monitor of a container that runs.
struct Stay {
    signals: Signals,
    typing: Typing,
    /// Whether the container's terminal is shown on one.
    at_terminal: bool,
    passes_signals: bool,
    /// There is nothing to stay for then.
    leaves_after_input: bool,
    /// What was typed is left lying until the monitor takes more.
    waits_for_room: bool,
}

impl Stay {
    /// Carries all there is; `None` if the monitor has died.
    fn carry_all(
        &mut self,
        show: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<Option<Stayed>> {
        loop {
            if self.leaves_after_input && !self.typing.open {
                return self.leave(Left::Detached);
            }
            let ready = self.wait()?;
            if ready.told {
                let Some(message) = self.typing.monitor().receive()? else {
                    return Ok(None);
                };
                match Told::parse(&message.bytes) {
                    Some(Told::Output(stream, bytes)) => show(stream, bytes)?,
                    Some(Told::Ended(ending)) => return Ok(Some(Stayed::Ended(ending))),
                    Some(Told::Failed(text)) => bail!("{text}"),
                    None => bail!("its monitor speaks another language"),
                }
            }
            if ready.signal
                && let Some(number) = self.pass_signals()?
            {
                return self.leave(Left::Signalled(number));
            }
            if ready.typed && !self.carry()? {
                return self.leave(Left::Detached);
            }
        }
    }

    fn leave(&self, left: Left) -> Result<Option<Stayed>> {
        self.typing.tell(&Typed::Leave)?;
        Ok(Some(Stayed::Left(left)))
    }

    /// Passes on the signals that have come; the number of one that is to end the stay instead.
    fn pass_signals(&self) -> Result<Option<i32>> {
        while let Some(number) = self.signals.next()? {
            match number {
                number if signal::is_own(number) => {}
                libc::SIGWINCH if self.at_terminal => self.typing.tell_size()?,
                number if self.passes_signals => self.typing.tell(&Typed::Signal(number))?,
                number if ends_by_default(number) => return Ok(Some(number)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// What was typed, to the monitor; `false` if the detach keys were in it. If we waited for the monitor
    /// to take it, and it for us to take what the container writes, nobody would go on.
    fn carry(&mut self) -> Result<bool> {
        self.waits_for_room = !self.has_room()?;
        Ok(self.waits_for_room || self.typing.carry()?)
    }

    fn wait(&mut self) -> Result<Ready> {
        let stdin = std::io::stdin();
        let monitor = self.typing.monitor().as_fd();
        let mut readable = vec![monitor, self.signals.as_fd()];
        let reads = self.typing.open && !self.waits_for_room;
        readable.extend(reads.then(|| stdin.as_fd()));
        let room: Vec<BorrowedFd<'_>> =
            self.waits_for_room.then_some(monitor).into_iter().collect();
        let ready = poll::wait(&readable, &room, None)?;
        let (ready, has_room) = ready.split_at(readable.len());
        self.waits_for_room &= !has_room.contains(&true);
        Ok(Ready {
            told: ready[0],
            signal: ready[1],
            typed: ready.get(2) == Some(&true),
        })
    }

    fn has_room(&self) -> Result<bool> {
        let monitor = self.typing.monitor().as_fd();
        Ok(poll::wait(&[], &[monitor], Some(&AT_ONCE))?.contains(&true))
    }
}

/// The monitor has died, and the container with it: what is left of it is taken down here.
fn without_its_monitor(places: &Places, id: &ContainerId) -> Result<Ending> {
    // Its claim may be another mybox's by then, which takes it down.
    for _ in 0..1000 {
        teardown::orphan(places, id)?;
        if !places.live_container(id).exists() {
            break;
        }
        std::thread::sleep(LOOK);
    }
    let code = wait::wait_for(places, id)?;
    Ok(Ending {
        code,
        ..teardown::killed()
    })
}
