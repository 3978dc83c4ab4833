//! Those who are attached to a container, and what they type.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};

use crate::kernel::socket::{End, Listener};
use crate::life::attach::feed::Feed;
use crate::life::attach::protocol::Typed;

/// The container's input, and those who are attached.
pub(super) struct Input {
    listener: Listener,
    clients: Vec<End>,
    /// On its way to the container.
    pub(super) feed: Feed,
}

impl Input {
    pub(super) fn new(listener: Listener, feed: Feed) -> Self {
        Self {
            listener,
            clients: Vec::new(),
            feed,
        }
    }

    /// What is to be looked at for something to read: the listener, then those who are attached,
    /// unless what they have typed is still on its way.
    pub(super) fn readable(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.listener.as_fd()];
        if self.feed.is_empty() {
            fds.extend(self.clients.iter().map(AsFd::as_fd));
        }
        fds
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
                Some(message) => self.feed.typed(Typed::parse(&message.bytes)),
                None => gone.push(number),
            }
        }
        for number in gone.into_iter().rev() {
            self.clients.remove(number);
        }
        if *connected {
            self.clients.extend(self.listener.accept()?);
        }
        self.feed.pass_on();
        Ok(())
    }
}
