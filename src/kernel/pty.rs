//! Pseudo terminals, and raw mode that is given back whatever happens.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, Winsize};

use super::{Context, Result};

/// Both ends of a new terminal, opened through the `/dev/ptmx` that the caller sees.
#[derive(Debug)]
pub struct Terminal {
    /// The end that whoever types holds.
    pub master: OwnedFd,
    /// The end that the program takes for its terminal.
    pub slave: OwnedFd,
}

/// Opens a terminal. The slave is opened through the master (`TIOCGPTPEER`, Linux 4.13), so no
/// path is trusted.
pub fn open() -> Result<Terminal> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).on("open", "/dev/ptmx")?;
    unlockpt(&master).on("unlock", "terminal")?;
    let slave = ioctl_tiocgptpeer(&master, flags).on("open", "terminal slave")?;
    Ok(Terminal { master, slave })
}

/// Makes the terminal the caller's controlling one and its standard input, output and error.
pub fn take_as_own(slave: BorrowedFd<'_>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave).on("take as controlling terminal", "terminal")?;
    rustix::stdio::dup2_stdin(slave).on("dup2", "standard input")?;
    rustix::stdio::dup2_stdout(slave).on("dup2", "standard output")?;
    rustix::stdio::dup2_stderr(slave).on("dup2", "standard error")
}

/// Copies the window size of one terminal to another.
pub fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let size: Winsize = rustix::termios::tcgetwinsize(from).on("read size of", "terminal")?;
    rustix::termios::tcsetwinsize(to, size).on("set size of", "terminal")
}

/// The caller's terminal in raw mode until this is dropped.
#[derive(Debug)]
pub struct RawMode<'fd> {
    terminal: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> RawMode<'fd> {
    /// Switches `terminal` to raw mode.
    pub fn enter(terminal: BorrowedFd<'fd>) -> Result<Self> {
        let before = rustix::termios::tcgetattr(terminal).on("read mode of", "terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw)
            .on("set mode of", "terminal")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // A terminal that has gone away has no mode to restore.
        let _ =
            rustix::termios::tcsetattr(self.terminal.as_fd(), OptionalActions::Now, &self.before);
    }
}
