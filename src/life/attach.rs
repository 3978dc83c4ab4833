//! At a container that runs in the background: what it writes is read from its log, what is typed
//! goes to its monitor.
//!
//! ```text
//! attach ---- Typed ----> <run root>/containers/<id>/input ---- monitor ----> container
//!    ^------------------- log <------------------------------ monitor <------------'
//! ```
//! So a client that is slow, or stopped, holds up nobody.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;

use super::create::read_request;
use super::logs::{self, Growth};
use super::target::Target;
use crate::container::claim::INPUT;
use crate::container::find::Container;
use crate::container::log::{Frame, Reader};
use crate::container::{Files, Places};
use crate::kernel;
use crate::kernel::pty::RawMode;
use crate::kernel::signal::Signals;
use crate::kernel::socket::{self, End};

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
                    (libc::SIGCHLD | libc::SIGPIPE | libc::SIGURG, ..) => {}
                    (libc::SIGWINCH, Some(typing), _) if at_terminal => typing.tell_size()?,
                    (libc::SIGWINCH, ..) => {}
                    (number, _, Some(target)) if options.signals => {
                        target.signal(places, number)?;
                    }
                    _ => return Ok(Left::Detached),
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

/// What is typed, on its way to the monitor.
struct Typing {
    monitor: End,
    at_terminal: bool,
    detach_keys: Vec<u8>,
    /// How many of the detach keys have been typed.
    matched: usize,
    /// Whether there can be more.
    open: bool,
}

impl Typing {
    fn new(monitor: End, at_terminal: bool, detach_keys: &[u8]) -> Self {
        Self {
            monitor,
            at_terminal,
            detach_keys: detach_keys.to_vec(),
            matched: 0,
            open: true,
        }
    }

    fn tell_size(&self) -> Result<()> {
        let size = rustix::termios::tcgetwinsize(std::io::stdin()).context("read window size")?;
        let (rows, columns) = (size.ws_row, size.ws_col);
        self.tell(&Typed::Size { rows, columns })
    }

    /// A monitor that is gone has no use for it; that the container has ended will be seen.
    fn tell(&self, typed: &Typed<'_>) -> Result<()> {
        match typed.send(&self.monitor) {
            Err(error) if error.is(nix::errno::Errno::EPIPE) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// One read; `false` if the detach keys were in it.
    fn carry(&mut self) -> Result<bool> {
        let mut bytes = [0; 8192];
        let count = match rustix::io::read(std::io::stdin(), &mut bytes) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
            // A terminal that is hung up, or that a background process may not read.
            Ok(0) | Err(Errno::IO) => {
                self.open = false;
                self.tell(&Typed::End)?;
                return Ok(true);
            }
            count => count.context("read standard input")?,
        };
        let (typed, detached) = if self.at_terminal {
            self.until_detached(&bytes[..count])
        } else {
            (bytes[..count].to_vec(), false)
        };
        if !typed.is_empty() {
            self.tell(&Typed::Bytes(&typed))?;
        }
        Ok(!detached)
    }

    /// What is for the container, and whether the detach keys followed. Keys that could have been
    /// theirs and were not are the container's.
    fn until_detached(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.detach_keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.detach_keys.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.detach_keys[..self.matched]);
            self.matched = usize::from(self.detach_keys.first() == Some(byte));
            if self.matched == 0 {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

/// Reads keys as `ctrl-p,ctrl-q` or `a,b`; none at all is an empty text.
pub fn parse_keys(text: &str) -> Result<Vec<u8>> {
    let key = |word: &str| -> Result<u8> {
        let lower = word.to_ascii_lowercase();
        match (lower.strip_prefix("ctrl-"), word.as_bytes()) {
            (Some(letter), _) => match letter.as_bytes() {
                [letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => {
                    Ok(letter.to_ascii_uppercase() & 0x1f)
                }
                _ => bail!("`{word}` is no key: ctrl- and a letter"),
            },
            (None, [letter]) => Ok(*letter),
            (None, _) => bail!("`{word}` is no key: a letter, or ctrl- and a letter"),
        }
    };
    text.split(',')
        .filter(|word| !word.is_empty())
        .map(key)
        .collect()
}

/// What is sent to a monitor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed<'a> {
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
}

impl<'a> Typed<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        match message.split_first()? {
            (b'i', bytes) => Some(Self::Bytes(bytes)),
            (b'w', [a, b, c, d]) => Some(Self::Size {
                rows: u16::from_le_bytes([*a, *b]),
                columns: u16::from_le_bytes([*c, *d]),
            }),
            (b'e', []) => Some(Self::End),
            _ => None,
        }
    }

    fn send(&self, to: &End) -> kernel::Result<()> {
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
        }
        to.send(&message, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typing() -> Typing {
        let (monitor, _) = socket::pair().unwrap();
        Typing::new(monitor, true, &parse_keys("ctrl-p,ctrl-q").unwrap())
    }

    #[test]
    fn detach_keys_are_found_though_they_come_one_by_one() {
        let mut typing = typing();
        assert_eq!(typing.until_detached(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(typing.until_detached(b"\x11x"), (Vec::new(), true));
    }

    #[test]
    fn half_of_the_detach_keys_is_the_containers() {
        let mut typing = typing();
        assert_eq!(typing.until_detached(b"\x10"), (Vec::new(), false));
        assert_eq!(typing.until_detached(b"a"), (b"\x10a".to_vec(), false));
        assert_eq!(
            typing.until_detached(b"\x10\x10"),
            (b"\x10".to_vec(), false)
        );
        assert_eq!(typing.until_detached(b"\x11"), (Vec::new(), true));
    }

    #[test]
    fn keys_are_read_as_docker_has_them() {
        assert_eq!(parse_keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(parse_keys("a,ctrl-@").unwrap(), [b'a', 0]);
        assert!(parse_keys("").unwrap().is_empty());
        assert!(parse_keys("ctrl-").is_err() && parse_keys("ab").is_err());
    }

    #[test]
    fn what_is_typed_is_read_as_it_was_sent() {
        let (ours, monitors) = socket::pair().unwrap();
        let sizes = Typed::Size {
            rows: 24,
            columns: 300,
        };
        for typed in [Typed::Bytes(b"x"), sizes, Typed::End] {
            typed.send(&ours).unwrap();
            let message = monitors.receive().unwrap().expect("a message");
            assert_eq!(Typed::parse(&message.bytes), Some(typed));
        }
        for nothing in [&b""[..], b"w", b"ex", b"?"] {
            assert_eq!(Typed::parse(nothing), None);
        }
    }
}
