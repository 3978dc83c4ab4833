//! What clients and a container's monitor say to each other, one message each.

use crate::container::Ending;
use crate::container::log::Stream;
use crate::kernel;
use crate::kernel::socket::{End, LONGEST};

/// What is sent to a monitor.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::life) enum Typed<'a> {
    /// For the container to read.
    Bytes(&'a [u8]),
    /// The window has this size now.
    Size {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
    /// There is no more.
    End,
    /// For the container's first process. Only whoever runs the container is heard.
    Signal(i32),
    /// The sender goes, and the container is to run on. Only whoever runs the container need say so.
    Leave,
}

impl<'a> Typed<'a> {
    pub(in crate::life) fn parse(message: &'a [u8]) -> Option<Self> {
        match message.split_first()? {
            (b'i', bytes) => Some(Self::Bytes(bytes)),
            (b'w', [a, b, c, d]) => Some(Self::Size {
                rows: u16::from_le_bytes([*a, *b]),
                columns: u16::from_le_bytes([*c, *d]),
            }),
            (b'e', []) => Some(Self::End),
            (b's', [a, b, c, d]) => Some(Self::Signal(i32::from_le_bytes([*a, *b, *c, *d]))),
            (b'l', []) => Some(Self::Leave),
            _ => None,
        }
    }

    pub(in crate::life) fn send(&self, to: &End) -> kernel::Result<()> {
        let mut message = Vec::new();
        match self {
            Self::Bytes(bytes) => {
                message.push(b'i');
                message.extend_from_slice(bytes);
            }
            Self::Size { rows, columns } => {
                message.push(b'w');
                message.extend(rows.to_le_bytes());
                message.extend(columns.to_le_bytes());
            }
            Self::End => message.push(b'e'),
            Self::Signal(number) => {
                message.push(b's');
                message.extend(number.to_le_bytes());
            }
            Self::Leave => message.push(b'l'),
        }
        to.send(&message, None)
    }
}

/// What a monitor tells whoever runs its container.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::life) enum Told<'a> {
    /// The container has written this.
    Output(Stream, &'a [u8]),
    /// It has ended, and nothing of it is left on the host.
    Ended(Ending),
    /// It has ended, and could not be taken down.
    Failed(&'a str),
}

impl<'a> Told<'a> {
    /// The most bytes of [`Told::Output`].
    pub(in crate::life) const MOST: usize = LONGEST - 1;

    pub(in crate::life) fn parse(message: &'a [u8]) -> Option<Self> {
        match message.split_first()? {
            (b'o', bytes) => Some(Self::Output(Stream::Stdout, bytes)),
            (b'x', bytes) => Some(Self::Output(Stream::Stderr, bytes)),
            (b'e', json) => serde_json::from_slice(json).ok().map(Self::Ended),
            (b'f', text) => std::str::from_utf8(text).ok().map(Self::Failed),
            _ => None,
        }
    }

    /// The message; none for a word of mybox's own, which is for the log.
    pub(in crate::life) fn message(&self) -> Option<Vec<u8>> {
        let message = |kind: &[u8], bytes: &[u8]| Some([kind, bytes].concat());
        match self {
            Self::Output(Stream::Stdout, bytes) => message(b"o", bytes),
            Self::Output(Stream::Stderr, bytes) => message(b"x", bytes),
            Self::Output(Stream::Note, _) => None,
            Self::Ended(ending) => message(b"e", &serde_json::to_vec(ending).ok()?),
            Self::Failed(text) => message(b"f", text.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::socket;

    #[test]
    fn what_is_typed_is_read_as_it_was_sent() {
        let (ours, monitors) = socket::pair().unwrap();
        let sizes = Typed::Size {
            rows: 24,
            columns: 300,
        };
        for typed in [
            Typed::Bytes(b"x"),
            sizes,
            Typed::End,
            Typed::Signal(15),
            Typed::Leave,
        ] {
            typed.send(&ours).unwrap();
            let message = monitors.receive().unwrap().expect("a message");
            assert_eq!(Typed::parse(&message.bytes), Some(typed));
        }
        for nothing in [&b""[..], b"w", b"ex", b"?"] {
            assert_eq!(Typed::parse(nothing), None);
        }
    }

    #[test]
    fn what_a_monitor_tells_is_read_as_it_was_sent() {
        let ending = Ending {
            code: 137,
            out_of_memory: true,
            at: 1,
        };
        for told in [
            Told::Output(Stream::Stdout, b"\0x"),
            Told::Output(Stream::Stderr, b""),
            Told::Ended(ending),
            Told::Failed("busy"),
        ] {
            let message = told.message().expect("a message");
            assert_eq!(Told::parse(&message), Some(told));
        }
        assert_eq!(Told::Output(Stream::Note, b"ours").message(), None);
        for nothing in [&b""[..], b"?", b"e{}"] {
            assert_eq!(Told::parse(nothing), None);
        }
    }
}
