//! In the foreground at a container that can be left: it has a monitor, as one in the background has, and
//! the command that runs it is the monitor's caller.
//!
//! ```text
//! run ------ Typed ----> monitor ----> container
//!  ^------- Told ---------'  '---> log
//! ```
//! Leaving is one word to the monitor. Without it, the container ends with the command.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use mybox_store::{Image, Store};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::attach::protocol::{Told, Typed};
use super::attach::typing::Typing;
use super::attach::{Left, Options};
use super::detach::{self, Started};
use super::supervise::ends_by_default;
use super::{Asked, RunFailed, teardown, wait};
use crate::container::log::Stream;
use crate::container::{ContainerId, Ending, Places};
use crate::kernel::pty::RawMode;
use crate::kernel::signal::Signals;
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

/// Runs a new container and stays at it.
pub fn run(
    places: &Places,
    store: &Store,
    image: &Image,
    request: &RunRequest,
    options: &Options,
    listeners: Listeners<'_>,
) -> Result<Stayed, RunFailed> {
    let Listeners { note, begun, show } = listeners;
    let asked = Asked {
        places,
        store,
        image,
        request,
    };
    let (id, link) = match detach::run_linked(asked, note)? {
        Started::Running(id, link) => (id, link),
        Started::Failed(code) => return Ok(Stayed::NeverStarted(code)),
    };
    // Without a word to the monitor, which will end it.
    begun(&id)?;
    let signals = Signals::take()?;
    let stdin = std::io::stdin();
    let at_terminal = request.terminal && rustix::termios::isatty(&stdin);
    let mut typing = Typing::new(link, at_terminal, &options.detach_keys);
    typing.open = options.input;
    let raw_mode = match at_terminal && options.input {
        true => Some(RawMode::enter(stdin.as_fd())?),
        false => None,
    };
    if at_terminal {
        typing.tell_size()?;
    }
    let mut waits_for_room = false;
    loop {
        if request.attaches_input_only() && !typing.open {
            typing.tell(&Typed::Leave)?;
            return Ok(Stayed::Left(Left::Detached));
        }
        let ready = wait_for_one(&typing, &signals, waits_for_room)?;
        waits_for_room &= !ready.room;
        if ready.told {
            let Some(message) = typing.monitor().receive()? else {
                drop(raw_mode);
                return Ok(Stayed::Ended(without_its_monitor(places, &id)?));
            };
            match Told::parse(&message.bytes) {
                Some(Told::Output(stream, bytes)) => show(stream, bytes)?,
                Some(Told::Ended(ending)) => return Ok(Stayed::Ended(ending)),
                Some(Told::Failed(text)) => return Err(anyhow!("{text}").into()),
                None => return Err(anyhow!("its monitor speaks another language").into()),
            }
        }
        if ready.signal {
            while let Some(number) = signals.next()? {
                match number {
                    libc::SIGCHLD | libc::SIGPIPE | libc::SIGURG => {}
                    libc::SIGWINCH if at_terminal => typing.tell_size()?,
                    number if options.signals => typing.tell(&Typed::Signal(number))?,
                    number if ends_by_default(number) => {
                        typing.tell(&Typed::Leave)?;
                        return Ok(Stayed::Left(Left::Signalled(number)));
                    }
                    _ => {}
                }
            }
        }
        if !ready.typed {
            continue;
        }
        // Waiting for the monitor to take what is typed, with it waiting for us, nobody would go on.
        waits_for_room = !has_room(&typing)?;
        if !waits_for_room && !typing.carry()? {
            typing.tell(&Typed::Leave)?;
            return Ok(Stayed::Left(Left::Detached));
        }
    }
}

/// Whether a container is to be run so that it can be left.
pub fn can_be_left(request: &RunRequest, options: &Options) -> bool {
    let typed_to = request.terminal && request.interactive;
    !options.signals || request.attaches_input_only() || typed_to && options.input
}

/// What there is to look at.
struct Ready {
    told: bool,
    /// The monitor takes more of what is typed.
    room: bool,
    signal: bool,
    typed: bool,
}

fn wait_for_one(typing: &Typing, signals: &Signals, waits_for_room: bool) -> Result<Ready> {
    let stdin = std::io::stdin();
    let wanted = match waits_for_room {
        true => PollFlags::IN | PollFlags::OUT,
        false => PollFlags::IN,
    };
    let mut set = vec![
        PollFd::new(typing.monitor(), wanted),
        PollFd::new(signals, PollFlags::IN),
    ];
    if typing.open && !waits_for_room {
        set.push(PollFd::new(&stdin, PollFlags::IN));
    }
    match poll(&mut set, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno).context("poll"),
    }
    let ready = |at: usize| set.get(at).is_some_and(|it| !it.revents().is_empty());
    let of_monitor = set[0].revents();
    Ok(Ready {
        told: of_monitor.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
        room: of_monitor.contains(PollFlags::OUT),
        signal: ready(1),
        typed: ready(2),
    })
}

fn has_room(typing: &Typing) -> Result<bool> {
    let mut set = [PollFd::new(typing.monitor(), PollFlags::OUT)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut set, Some(&at_once)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(errno).context("poll"),
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
