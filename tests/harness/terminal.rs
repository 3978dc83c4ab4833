//! A pseudo-terminal with mybox on it and the test at the keyboard.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::Cmd;
use super::command::{Process, readable_by};

/// A terminal that nothing runs on yet.
pub(crate) struct Terminal {
    /// The keyboard and screen.
    master: File,
    /// The side that programs see. Kept open: its settings are to be compared, and the master would
    /// hang up without it.
    slave: OwnedFd,
}

impl Terminal {
    /// A new terminal of `rows` and `columns`.
    pub(crate) fn new(rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("open /dev/ptmx");
        grantpt(&master).expect("grant the pty");
        unlockpt(&master).expect("unlock the pty");
        let slave = ioctl_tiocgptpeer(&master, flags).expect("open the pty's other side");
        rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK).expect("make the pty non-blocking");
        let terminal = Self {
            master: File::from(master),
            slave,
        };
        terminal.resize(rows, columns);
        terminal
    }

    /// Changes its size, which sends SIGWINCH to the foreground process group.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).expect("resize the terminal");
    }

    /// Its settings, in a form that can be compared.
    pub(crate) fn settings(&self) -> String {
        let Termios {
            input_modes,
            output_modes,
            control_modes,
            local_modes,
            special_codes,
            ..
        } = tcgetattr(&self.slave).expect("settings of the terminal");
        format!(
            "{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?} {special_codes:?}"
        )
    }

    /// Starts `command` in a session of its own with this as its controlling terminal and standard
    /// streams.
    #[track_caller]
    pub(crate) fn spawn(self, command: Cmd) -> Session {
        // setsid(1) becomes the command, with the process id that it was started with.
        let command = command.through(["setsid", "--ctty"]);
        let stream = || self.slave.try_clone().expect("duplicate a descriptor");
        let child = command
            .build()
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn();
        let shown = command.shown();
        let child = child.unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
        let process = Process::new(child, shown, command.limit());
        Session {
            terminal: self,
            process,
            screen: Vec::new(),
            read: 0,
        }
    }
}

/// A program on a terminal. Dropped before its end, it is killed.
pub(crate) struct Session {
    terminal: Terminal,
    process: Process,
    /// All that was ever shown.
    screen: Vec<u8>,
    /// How much of it [`Session::read_until`] has gone over.
    read: usize,
}

impl Session {
    /// The terminal, to resize it or look at its settings.
    pub(crate) fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid().as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        self.process.signal(signal);
    }

    /// Types `text`; `"\x03"` is Ctrl-C.
    pub(crate) fn send(&mut self, text: &str) {
        self.terminal
            .master
            .write_all(text.as_bytes())
            .expect("type on the terminal");
    }

    /// Reads until `text` is shown, and returns what came since the last call, with it.
    #[track_caller]
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        loop {
            let fresh = String::from_utf8_lossy(&self.screen[self.read..]).into_owned();
            if let Some(at) = fresh.find(text) {
                let end = at + text.len();
                self.read += end;
                return fresh[..end].to_owned();
            }
            assert!(
                readable_by(&self.terminal.master, self.process.deadline()) && self.absorb(),
                "the terminal never showed {text:?}, but:\n{}",
                String::from_utf8_lossy(&self.screen),
            );
        }
    }

    /// Waits for the program's end; its exit code as a shell gives it, everything shown, and the
    /// terminal.
    #[track_caller]
    pub(crate) fn wait(mut self) -> (i32, String, Terminal) {
        // The program's output must be read for it to end: a full terminal would block it.
        while !self
            .process
            .ends_by(Instant::now() + Duration::from_millis(20))
        {
            self.absorb();
            assert!(
                Instant::now() < self.process.deadline(),
                "the program on the terminal did not end:\n{}",
                String::from_utf8_lossy(&self.screen),
            );
        }
        let status = self.process.wait().expect("it has ended");
        while readable_by(&self.terminal.master, Instant::now()) && self.absorb() {}
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
        let code = status.code().unwrap_or(128 + signal);
        (
            code,
            String::from_utf8_lossy(&self.screen).into_owned(),
            self.terminal,
        )
    }

    /// Closes the terminal, as a window that goes away, and waits for the program to end.
    #[track_caller]
    pub(crate) fn hang_up(self) {
        let Self {
            terminal, process, ..
        } = self;
        drop(terminal);
        while !process.ends_by(Instant::now() + Duration::from_millis(20)) {
            assert!(
                Instant::now() < process.deadline(),
                "the program did not end with its terminal"
            );
        }
    }

    /// Takes in what there is; false if there was nothing.
    fn absorb(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let count = self.terminal.master.read(&mut buffer).unwrap_or(0);
        self.screen.extend_from_slice(&buffer[..count]);
        count > 0
    }
}
