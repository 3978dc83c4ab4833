//! What is typed, on its way to a container's monitor, and the keys that leave the container.

use anyhow::{Context, Result, bail};
use rustix::io::Errno;

use super::protocol::Typed;
use crate::kernel::socket::End;

/// What is typed, on its way to the monitor.
pub(in crate::life) struct Typing {
    monitor: End,
    at_terminal: bool,
    detach_keys: Vec<u8>,
    /// How many of the detach keys have been typed.
    matched: usize,
    /// Whether there can be more.
    pub(in crate::life) open: bool,
}

impl Typing {
    pub(in crate::life) fn new(monitor: End, at_terminal: bool, detach_keys: &[u8]) -> Self {
        Self {
            monitor,
            at_terminal,
            detach_keys: detach_keys.to_vec(),
            matched: 0,
            open: true,
        }
    }

    pub(in crate::life) fn tell_size(&self) -> Result<()> {
        let size = rustix::termios::tcgetwinsize(std::io::stdin()).context("read window size")?;
        let (rows, columns) = (size.ws_row, size.ws_col);
        self.tell(&Typed::Size { rows, columns })
    }

    /// A monitor that is gone has no use for it; that the container has ended will be seen.
    pub(in crate::life) fn tell(&self, typed: &Typed<'_>) -> Result<()> {
        match typed.send(&self.monitor) {
            Err(error) if error.is(nix::errno::Errno::EPIPE) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Where it goes.
    pub(in crate::life) fn monitor(&self) -> &End {
        &self.monitor
    }

    /// One read; `false` if the detach keys were in it.
    pub(in crate::life) fn carry(&mut self) -> Result<bool> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::socket;

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
}
