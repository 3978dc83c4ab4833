//! What is typed to a container by those who are attached to it, on its way to the container.
//!
//! It never waits: while the container does not read, those who type are not read either.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::Winsize;

use crate::kernel::socket::{End, Listener};
use crate::life::attach::protocol::Typed;

/// What is on its way to a container that does not read, about: 256 KiB.
const MOST: usize = 256 << 10;

/// The container's input, and those who are attached.
pub(super) struct Input {
    listener: Listener,
    clients: Vec<End>,
    /// `None` if it reads nothing, or no more.
    to: Option<OwnedFd>,
    terminal: bool,
    /// Whether the end of what somebody types is the end of its input.
    ends: bool,
    /// It is, when it has taken the rest.
    ending: bool,
    /// Bytes that it has not taken yet.
    pending: Vec<u8>,
}

impl Input {
    /// `to` is a pipe or the terminal's master.
    pub(super) fn new(
        listener: Listener,
        to: Option<OwnedFd>,
        terminal: bool,
        ends: bool,
    ) -> Result<Self> {
        if let Some(to) = &to {
            let flags = rustix::fs::fcntl_getfl(to).context("read flags of the input")?;
            rustix::fs::fcntl_setfl(to, flags | OFlags::NONBLOCK).context("set its flags")?;
        }
        Ok(Self {
            listener,
            clients: Vec::new(),
            to,
            terminal,
            ends,
            ending: false,
            pending: Vec::new(),
        })
    }

    /// What is to be looked at for something to read: the listener, then those who are attached,
    /// unless what they have typed is still on its way.
    pub(super) fn readable(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.listener.as_fd()];
        if self.pending.is_empty() {
            fds.extend(self.clients.iter().map(AsFd::as_fd));
        }
        fds
    }

    /// What is to be looked at for room to write.
    pub(super) fn writable(&self) -> Option<BorrowedFd<'_>> {
        let to = self.to.as_ref().filter(|_| !self.pending.is_empty());
        to.map(AsFd::as_fd)
    }

    /// Takes what has come. `ready` is in the order of [`Input::readable`].
    pub(super) fn take(&mut self, ready: &[bool]) -> Result<()> {
        let (connected, typed) = ready
            .split_first()
            .context("the listener was not looked at")?;
        let mut gone = Vec::new();
        for (number, _) in typed.iter().enumerate().filter(|(_, ready)| **ready) {
            // Whoever goes away in the middle of a message has gone.
            match self.clients[number].receive().ok().flatten() {
                Some(message) => self.typed(Typed::parse(&message.bytes)),
                None => gone.push(number),
            }
        }
        for number in gone.into_iter().rev() {
            self.clients.remove(number);
        }
        if *connected {
            self.clients.extend(self.listener.accept()?);
        }
        self.pass_on();
        Ok(())
    }

    /// Whether so much is on its way that no more is to be taken from anybody.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() > MOST
    }

    /// Takes what somebody has typed, to be passed on.
    pub(super) fn typed(&mut self, typed: Option<Typed<'_>>) {
        match typed {
            Some(Typed::Bytes(bytes)) if self.to.is_some() => self.pending.extend(bytes),
            Some(Typed::Size { rows, columns }) if self.terminal => {
                let size = Winsize {
                    ws_row: rows,
                    ws_col: columns,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                if let Some(to) = &self.to {
                    // A terminal that is gone has no size.
                    let _ = rustix::termios::tcsetwinsize(to, size);
                }
            }
            Some(Typed::End) => self.ending |= self.ends,
            _ => {}
        }
    }

    /// Gives the container as much as it takes.
    pub(super) fn pass_on(&mut self) {
        while let Some(to) = self.to.as_ref().filter(|_| !self.pending.is_empty()) {
            match rustix::io::write(to, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // It reads no more.
                Err(_) => {
                    self.to = None;
                    self.pending.clear();
                }
            }
        }
        if self.ending {
            self.to = None;
        }
    }
}
