//! Signals as a file descriptor, so that one poll loop sees them beside everything else.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Context, Result};

/// Every signal that can be blocked, blocked and readable here until this is dropped.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
    /// Whether they come through again when this is dropped.
    unblocks: bool,
}

impl Signals {
    /// Blocks all signals. Faults of our own (SIGSEGV and its like) still end the process: the
    /// kernel does not let a synchronous fault wait.
    pub fn take() -> Result<Self> {
        let all = SigSet::all();
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before))
            .on("block", "signals")?;
        let fd = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .on("signalfd", "all signals")?;
        Ok(Self {
            fd,
            before,
            unblocks: true,
        })
    }

    /// The number of the next signal that came, if one did.
    pub fn next(&self) -> Result<Option<i32>> {
        let info = self.fd.read_signal().on("read", "signalfd")?;
        Ok(info.map(|info| info.ssi_signo.cast_signed()))
    }

    /// Leaves the signals blocked when this is dropped, for what this process still has to do and must not be
    /// kept from: it ends soon.
    pub fn stay_blocked_to_the_end(&mut self) {
        self.unblocks = false;
    }

    /// Leaves the signals blocked: the program that this process executes next will read them.
    pub fn stay_blocked(self) {
        // The descriptor is close-on-exec.
        std::mem::forget(self);
    }

    /// The mask there was before, for a child to go back to.
    pub fn mask_before(&self) -> SigSet {
        self.before
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if !self.unblocks {
            return;
        }
        // Nothing can be done about a refusal here, and sigprocmask with a valid mask has none.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Whether it is about the process that gets it alone, and so never passed on to a container.
pub fn is_own(number: i32) -> bool {
    matches!(number, libc::SIGCHLD | libc::SIGPIPE | libc::SIGURG)
}

/// Sets the mask of a fresh child, which has inherited a blocked one.
pub fn set_mask(mask: &SigSet) -> Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None).on("set", "signal mask")
}

/// Reads a signal as people write it: `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-3`.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(libc::SIGRTMIN().checked_add(distance(offset, '+')?)?);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(libc::SIGRTMAX() - distance(offset, '-')?);
    }
    format!("SIG{name}")
        .parse::<Signal>()
        .ok()
        .map(|signal| signal as i32)
}

/// How far it is from the first or the last one: `+3`, `-3`, or nothing.
fn distance(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    // One sign: parse would read another.
    let digits = text.strip_prefix(sign)?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let distance = digits.parse::<u8>().ok().filter(|_| is_plain)?;
    Some(distance.into())
}

fn real_time(number: i32) -> Option<i32> {
    (libc::SIGRTMIN()..=libc::SIGRTMAX())
        .contains(&number)
        .then_some(number)
}

/// `SIGTERM` for 15, `SIGRTMIN+3` for a real-time signal; the bare number where there is no name. [`parse`]
/// reads it.
pub fn name(number: i32) -> String {
    if let Ok(signal) = Signal::try_from(number) {
        return signal.as_str().to_owned();
    }
    match real_time(number).map(|number| number - libc::SIGRTMIN()) {
        Some(0) => "SIGRTMIN".to_owned(),
        Some(distance) => format!("SIGRTMIN+{distance}"),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_people_write_them() {
        let cases = [
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("sigint", Some(2)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(libc::SIGRTMIN() + 3)),
            ("RTMIN", Some(libc::SIGRTMIN())),
            ("RTMAX", Some(libc::SIGRTMAX())),
            ("sigrtmax-3", Some(libc::SIGRTMAX() - 3)),
            ("RTMIN-1", None),
            ("RTMIN+99", None),
            ("RTMIN++1", None),
            ("RTMAX+1", None),
            ("RTMAX-63", None),
            ("0", None),
            ("65", None),
            ("SIGNOPE", None),
            ("", None),
        ];
        for (text, number) in cases {
            assert_eq!(parse(text), number, "{text:?}");
        }
    }

    #[test]
    fn what_a_signal_is_called_is_read_as_that_signal() {
        for number in 1..=64 {
            assert_eq!(parse(&name(number)), Some(number), "{}", name(number));
        }
        assert_eq!(name(libc::SIGRTMIN() + 3), "SIGRTMIN+3");
    }
}
