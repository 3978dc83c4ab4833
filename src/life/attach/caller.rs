//! Whoever ran a container in the foreground, or a command in it, and stays at it: shown all that it writes as
//! fast as they take it, heard in what they type.
//!
//! Whoever only attaches reads the log, and holds up nobody. This one is waited for, as a terminal or a
//! pipe of one's own would be: no output is lost on them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use super::protocol::Told;
use crate::container::Ending;
use crate::container::log::Stream;
use crate::kernel::socket::{End, Message};

/// The one who ran it.
pub(in crate::life) struct Caller {
    end: End,
    /// Messages that they have not taken yet.
    unsent: VecDeque<Vec<u8>>,
    /// They take no more.
    deaf: bool,
}

impl Caller {
    pub(in crate::life) fn new(end: End) -> Self {
        Self {
            end,
            unsent: VecDeque::new(),
            deaf: false,
        }
    }

    /// Shows them what the container wrote, or keeps it until they take it.
    pub(in crate::life) fn show(&mut self, stream: Stream, bytes: &[u8]) {
        let chunks = bytes.chunks(Told::MOST);
        let messages = chunks.filter_map(|chunk| Told::Output(stream, chunk).message());
        self.unsent.extend(messages);
        self.catch_up();
    }

    /// Whether there is something that they have not taken: until then no more is to be read for them.
    pub(in crate::life) fn is_behind(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends what they take now.
    pub(in crate::life) fn catch_up(&mut self) {
        while let Some(message) = self.unsent.front().filter(|_| !self.deaf) {
            match self.end.try_send(message) {
                Ok(true) => drop(self.unsent.pop_front()),
                Ok(false) => return,
                // Their last words are still to be heard.
                Err(_) => self.deaf = true,
            }
        }
        self.unsent.clear();
    }

    /// The next thing that they say, a [`Typed`]; `None` if they have died. Whoever leaves says so.
    ///
    /// [`Typed`]: super::protocol::Typed
    pub(in crate::life) fn hear(&self) -> Option<Message> {
        self.end.receive().ok().flatten()
    }

    /// The last that they are told, after all output: how it ended, or why it could not be taken down.
    pub(in crate::life) fn told_the_end(self, ending: Ending, failed: Option<&anyhow::Error>) {
        let failed = failed.map(|error| format!("{error:#}"));
        let last = failed.as_deref().map_or(Told::Ended(ending), Told::Failed);
        for message in self.unsent.into_iter().chain(last.message()) {
            // Whoever has gone meanwhile needs no answer.
            if self.end.send(&message, None).is_err() {
                return;
            }
        }
    }
}

impl AsFd for Caller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::socket;
    use crate::life::attach::protocol::Typed;

    #[test]
    fn a_caller_who_does_not_read_is_waited_for_and_loses_nothing() {
        let (monitors, callers) = socket::pair().unwrap();
        let mut caller = Caller::new(monitors);
        let mut shown = Vec::new();
        while !caller.is_behind() {
            let next = vec![(shown.len() % 251) as u8; 100_000];
            caller.show(Stream::Stdout, &next);
            shown.extend(next);
        }
        let ending = Ending {
            code: 3,
            out_of_memory: false,
            at: 0,
        };
        let last = std::thread::spawn(move || caller.told_the_end(ending, None));
        let mut seen = Vec::new();
        loop {
            let message = callers.receive().unwrap().expect("a message");
            match Told::parse(&message.bytes).expect("of the protocol") {
                Told::Output(Stream::Stdout, bytes) => seen.extend_from_slice(bytes),
                told => {
                    assert_eq!(told, Told::Ended(ending));
                    break;
                }
            }
        }
        last.join().unwrap();
        assert!(seen == shown, "{} of {} bytes", seen.len(), shown.len());
    }

    #[test]
    fn a_caller_who_leaves_is_told_from_one_who_dies() {
        for says in [Some(Typed::Leave), None] {
            let (monitors, callers) = socket::pair().unwrap();
            let mut caller = Caller::new(monitors);
            Typed::Bytes(b"x").send(&callers).unwrap();
            if let Some(typed) = &says {
                typed.send(&callers).unwrap();
            }
            drop(callers);
            // What is shown to somebody who has gone is lost, what they said is not.
            caller.show(Stream::Stderr, b"shown");
            assert!(!caller.is_behind());
            assert_eq!(caller.hear().unwrap().bytes, b"ix");
            let last = caller.hear();
            let last = last.as_ref().map(|it| Typed::parse(&it.bytes).unwrap());
            assert_eq!(last, says);
        }
    }
}
