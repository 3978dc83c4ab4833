//! A command in a container, on a terminal that can be left.
//!
//! ```text
//! exec ----- Typed ----> keeper ----> the command, its child
//!  ^------- Told ----------'
//! ```
//! The keeper is a process of its own, so that the command has somebody to read its terminal when whoever
//! typed to it has left. If they die without a word, or the keeper does, so does the command.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::container::Ending;
use crate::container::log::{LONGEST, Stream};
use crate::kernel::poll;
use crate::kernel::process::Child;
use crate::kernel::raw;
use crate::kernel::socket::End;
use crate::life::attach::caller::Caller;
use crate::life::attach::feed::Feed;
use crate::life::attach::protocol::Typed;
use crate::life::launch::Running;
use crate::life::supervise::{self, Executed, Sent};
use crate::life::{RunFailed, stdio};

/// Keeps a command until its end, which `ended` is told of; then this process ends.
pub(super) fn keep(
    running: Running,
    caller: End,
    ended: impl FnOnce(Ending),
) -> Result<Infallible, RunFailed> {
    let Executed {
        child,
        terminal,
        signals,
    } = supervise::until_executed(running)?;
    // Of a signal that ends the keeper the command ends, too.
    drop(signals);
    stdio::let_go()?;
    let terminal = terminal.context("the command sent no terminal")?;
    // Whoever does not wait for it any more has gone, which will be seen.
    let _ = caller.send(b"executes", None);
    let mut keeper = Keeper::new(child, terminal, caller)?;
    let failed = keeper.until_the_end().err();
    if failed.is_some() {
        keeper.child.signal(Signal::KILL)?;
    }
    let ending = supervise::ending(keeper.child.wait()?, keeper.killed_for, &[]);
    ended(ending);
    if let Some(caller) = keeper.caller {
        caller.told_the_end(ending, failed.as_ref());
    }
    std::process::exit(0)
}

struct Keeper {
    child: Child,
    /// `None` when nobody has its other side open any more.
    terminal: Option<OwnedFd>,
    feed: Feed,
    /// `None` when they have left.
    caller: Option<Caller>,
    /// The signal in whose place SIGKILL was sent.
    killed_for: Option<i32>,
}

/// What there is to look at.
struct Ready {
    ended: bool,
    shown: bool,
    said: bool,
}

impl Keeper {
    fn new(child: Child, terminal: OwnedFd, caller: End) -> Result<Self> {
        let to = terminal.try_clone().context("share the terminal")?;
        Ok(Self {
            child,
            terminal: Some(terminal),
            feed: Feed::new(Some(to), true, false)?,
            caller: Some(Caller::new(caller)),
            killed_for: None,
        })
    }

    /// Stays until the command has ended and all it wrote has been taken.
    fn until_the_end(&mut self) -> Result<()> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let ready = self.wait()?;
            if ready.said {
                self.hear()?;
            }
            if let Some(caller) = &mut self.caller {
                caller.catch_up();
            }
            self.feed.pass_on();
            if ready.shown {
                self.show(&mut buffer);
            } else if ready.ended {
                return Ok(());
            }
        }
    }

    fn wait(&self) -> Result<Ready> {
        let behind = self.caller.as_ref().filter(|caller| caller.is_behind());
        let heard = self.caller.as_ref().filter(|_| !self.feed.is_full());
        // What the caller would have to wait for is not read.
        let terminal = self.terminal.as_ref().filter(|_| behind.is_none());
        // Nor is the end of interest until they have taken all.
        let child = behind.is_none().then(|| self.child.pidfd.as_fd());
        let mut readable: Vec<BorrowedFd<'_>> = child.into_iter().collect();
        readable.extend(terminal.map(AsFd::as_fd));
        readable.extend(heard.map(AsFd::as_fd));
        let room = [self.feed.writable(), behind.map(AsFd::as_fd)];
        let room: Vec<BorrowedFd<'_>> = room.into_iter().flatten().collect();
        let ready = poll::wait(&readable, &room, None)?;
        let (of_child, rest) = ready.split_at(usize::from(child.is_some()));
        let (of_terminal, rest) = rest.split_at(usize::from(terminal.is_some()));
        let of_caller = &rest[..usize::from(heard.is_some())];
        Ok(Ready {
            ended: of_child.contains(&true),
            shown: of_terminal.contains(&true),
            said: of_caller.contains(&true),
        })
    }

    /// One read of what the command has written.
    fn show(&mut self, buffer: &mut [u8]) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        match rustix::io::read(terminal, &mut *buffer) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            // EIO: nobody has the other side open any more.
            Ok(0) | Err(_) => self.terminal = None,
            Ok(count) => {
                if let Some(caller) = &mut self.caller {
                    caller.show(Stream::Stdout, &buffer[..count]);
                }
            }
        }
    }

    /// What the caller says.
    fn hear(&mut self) -> Result<()> {
        let Some(message) = self.caller.as_ref().and_then(Caller::hear) else {
            self.caller = None;
            return Ok(self.child.signal(Signal::KILL)?);
        };
        match Typed::parse(&message.bytes) {
            Some(Typed::Leave) => self.caller = None,
            Some(Typed::Signal(number)) => self.forward(number)?,
            typed => self.feed.typed(typed),
        }
        Ok(())
    }

    fn forward(&mut self, number: i32) -> Result<()> {
        let (Some(signal), child) = (raw::signal(number), &self.child) else {
            return Ok(());
        };
        let sent = supervise::forward(child.pid, signal, |signal| child.signal(signal))?;
        if sent == Sent::KillInItsPlace {
            self.killed_for = Some(number);
        }
        Ok(())
    }
}
