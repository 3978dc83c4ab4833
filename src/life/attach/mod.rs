//! At a container that runs in the background: what it writes is read from its log, what is typed
//! goes to its monitor.
//!
//! ```text
//! attach ---- Typed ----> <run root>/containers/<id>/input ---- monitor ----> container
//!    ^------------------- log <------------------------------ monitor <------------'
//! ```
//! So a client that is slow, or stopped, holds up nobody.

pub(super) mod caller;
pub(super) mod feed;
pub(super) mod protocol;
pub(super) mod typing;

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result};

use super::create::read_request;
use super::logs::{self, Growth};
use super::supervise::ends_by_default;
use super::target::Target;
use crate::container::claim::INPUT;
use crate::container::find::Container;
use crate::container::log::{Frame, Reader};
use crate::container::{Files, Places};
use crate::kernel::pty::RawMode;
use crate::kernel::signal::{self, Signals};
use crate::kernel::socket;
use typing::Typing;

pub use typing::parse_keys;

/// How to be attached.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether what is typed goes to the container.
    pub input: bool,
    /// Whether signals do.
    pub signals: bool,
    /// What leaves the container, typed at a terminal.
    pub detach_keys: Vec<u8>,
}

/// How an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The container has ended.
    Ended,
    /// The user has left it.
    Detached,
    /// This signal, which was not to reach it, has ended the attachment.
    Signalled(i32),
    /// Nobody reads any more.
    Unread,
}

/// The end of the container's log: what is written from now on.
pub fn from_now_on(places: &Places, container: &Container) -> Result<Reader> {
    let directory = Files::of(places.container(&container.record.id)).logs();
    let about = || format!("read {}", directory.display());
    let mut reader = Reader::open(&directory).with_context(about)?;
    reader.skip_to_last(0).with_context(about)?;
    Ok(reader)
}

/// Stays at a container until it ends or the user leaves. `show` is given what it writes, and says
/// whether anybody wants more.
pub fn attach(
    places: &Places,
    container: Container,
    reader: &mut Reader,
    options: &Options,
    show: &mut dyn FnMut(&Frame<'_>) -> Result<bool>,
) -> Result<Left> {
    let id = container.record.id.clone();
    let request = read_request(&places.container(&id))?;
    let live = places.live_container(&id);
    let name = container.record.name.clone();
    // It may end at any moment, and then there is only its log to show.
    let target = Target::held(container)?;
    let signals = Signals::take()?;
    let growth = Growth::of(&Files::of(places.container(&id)).logs())?;
    let stdin = std::io::stdin();
    let at_terminal = request.terminal && rustix::termios::isatty(&stdin);
    let mut typing = if options.input && request.interactive && target.is_some() {
        let directory = File::open(&live).with_context(|| format!("open {}", live.display()))?;
        let monitor = socket::connect_to(directory.as_fd(), INPUT)
            .with_context(|| format!("reach the monitor of {name}"))?;
        Some(Typing::new(monitor, at_terminal, &options.detach_keys))
    } else {
        None
    };
    let _raw = match &typing {
        Some(typing) if at_terminal => {
            typing.tell_size()?;
            Some(RawMode::enter(stdin.as_fd())?)
        }
        _ => None,
    };
    loop {
        // Asked before the log is read: what is written up to the end is read after it.
        let goes_on = logs::goes_on(places, &id)?;
        while let Some(frame) = reader.next().context("read the log")? {
            if !show(&frame)? {
                return Ok(Left::Unread);
            }
        }
        if !goes_on {
            return Ok(Left::Ended);
        }
        let reads = typing.as_ref().is_some_and(|typing| typing.open);
        let fds = [signals.as_fd(), stdin.as_fd()];
        let ready = growth.wait_with(&fds[..1 + usize::from(reads)])?;
        if ready[0] {
            while let Some(number) = signals.next()? {
                match (number, &typing, &target) {
                    (number, ..) if signal::is_own(number) => {}
                    (libc::SIGWINCH, Some(typing), _) if at_terminal => typing.tell_size()?,
                    (libc::SIGWINCH, ..) => {}
                    (number, _, Some(target)) if options.signals => {
                        target.signal(places, number)?;
                    }
                    (number, ..) if ends_by_default(number) => {
                        return Ok(Left::Signalled(number));
                    }
                    _ => {}
                }
            }
        }
        if ready.get(1) == Some(&true)
            && let Some(typing) = &mut typing
            && !typing.carry()?
        {
            return Ok(Left::Detached);
        }
    }
}
