//! What is typed to a command, on its way there.
//!
//! It never waits: while the command does not read, those who type are not read either.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::Winsize;

use super::protocol::Typed;

/// What is on its way to a command that does not read, about: 256 KiB.
const MOST: usize = 256 << 10;

/// A command's input.
pub(in crate::life) struct Feed {
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

impl Feed {
    /// `to` is a pipe or the terminal's master.
    pub(in crate::life) fn new(to: Option<OwnedFd>, terminal: bool, ends: bool) -> Result<Self> {
        if let Some(to) = &to {
            let flags = rustix::fs::fcntl_getfl(to).context("read flags of the input")?;
            rustix::fs::fcntl_setfl(to, flags | OFlags::NONBLOCK).context("set its flags")?;
        }
        Ok(Self {
            to,
            terminal,
            ends,
            ending: false,
            pending: Vec::new(),
        })
    }

    /// Whether the command has taken all of it.
    pub(in crate::life) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether so much is on its way that no more is to be taken from anybody.
    pub(in crate::life) fn is_full(&self) -> bool {
        self.pending.len() > MOST
    }

    /// What is to be looked at for room to write.
    pub(in crate::life) fn writable(&self) -> Option<BorrowedFd<'_>> {
        let to = self.to.as_ref().filter(|_| !self.pending.is_empty());
        to.map(AsFd::as_fd)
    }

    /// Takes what somebody has typed, to be passed on.
    pub(in crate::life) fn typed(&mut self, typed: Option<Typed<'_>>) {
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

    /// Gives the command as much as it takes.
    pub(in crate::life) fn pass_on(&mut self) {
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
