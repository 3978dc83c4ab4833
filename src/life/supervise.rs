//! Beside a running container: forward signals, carry its terminal, see its end.
//!
//! One poll loop, no threads. While the container starts the channel of `init::protocol` is one of
//! the descriptors; a successful exec closes it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use super::{RunFailed, health::Checker, launch::Running, now, oom::Oom};
use crate::container::Ending;
use crate::init::protocol::{self, Failed, FromChild, Stage};
use crate::kernel::process::{Child, Ended};
use crate::kernel::pty::{self, RawMode};
use crate::kernel::signal::{self, Signals};
use crate::kernel::{cgroup, raw};
use crate::plan::RunPlan;

/// What became of a launched container.
#[derive(Debug)]
pub(super) enum Life {
    /// Its command ran and ended.
    Lived(Ending),
    /// Its command never ran.
    NeverStarted(RunFailed),
}

/// Stays until the container has ended.
pub(super) fn until_the_end(
    running: Running,
    plan: &RunPlan,
    oom: Oom,
    executed: &mut dyn FnMut() -> Option<Checker>,
) -> Result<Life> {
    let (terminal, interactive) = (plan.terminal(), plan.interactive);
    let seen = watch(running, terminal, interactive, Some(oom), executed)?;
    let ending = ending(seen.ended, seen.killed_for, &plan.cgroup.paths());
    let killed = seen.killed_for.is_some() || ending.out_of_memory;
    Ok(match seen.failed {
        Some(failed) if !killed => Life::NeverStarted(failed_to_start(failed)),
        _ => Life::Lived(ending),
    })
}

/// How a process that was watched came to its end.
#[derive(Debug)]
pub(super) struct Seen {
    /// Why its command never ran.
    pub(super) failed: Option<Failed>,
    /// What the kernel says.
    pub(super) ended: Ended,
    /// The signal in whose place SIGKILL was sent.
    pub(super) killed_for: Option<i32>,
}

/// Stays with a process until its end: passes signals on and, with a terminal of its own, carries
/// what is shown and, if `interactive`, what is typed. Want of memory is told by `oom`. `executed` is called
/// when its command executes; the checks that it gives are made from then on.
pub(super) fn watch(
    running: Running,
    terminal: bool,
    interactive: bool,
    oom: Option<Oom>,
    executed: &mut dyn FnMut() -> Option<Checker>,
) -> Result<Seen> {
    let stdin = std::io::stdin();
    let mut watch = Watch::new(running);
    watch.oom = oom;
    let caller_terminal = terminal && rustix::termios::isatty(&stdin);
    let mut raw_mode = None;
    let mut stdin_open = interactive;
    loop {
        if caller_terminal && watch.terminal.is_some() && raw_mode.is_none() && interactive {
            raw_mode = Some(RawMode::enter(stdin.as_fd())?);
        }
        let ready = watch.wait(stdin_open)?;
        if ready.channel {
            // Before any signal: whether the command executes already decides what becomes of one.
            watch.hear()?;
            if matches!(watch.start, Start::Executed) {
                watch.checker = executed();
            }
            continue;
        }
        if ready.signal {
            watch.forward_signals(caller_terminal)?;
        }
        if ready.stdin {
            stdin_open = watch.carry_in(&stdin)?;
        }
        if ready.output {
            watch.carry_out()?;
        }
        if let (true, Some(checker)) = (ready.checker && !ready.ended, &mut watch.checker) {
            checker.attend();
        }
        if let (true, Some(oom)) = (ready.oom, &mut watch.oom) {
            oom.attend();
        }
        if ready.ended {
            drop(raw_mode);
            watch.checker = None;
            if let Some(oom) = watch.oom.take() {
                oom.end();
            }
            return watch.end();
        }
    }
}

/// A container whose command was executed.
pub(super) struct Executed {
    /// Its first process.
    pub(super) child: Child,
    /// Its terminal, if it has one.
    pub(super) terminal: Option<OwnedFd>,
    /// All blocked still.
    pub(super) signals: Signals,
}

/// Stays until the command is executed.
pub(super) fn until_executed(running: Running) -> Result<Executed, RunFailed> {
    let mut watch = Watch::new(running);
    loop {
        let ready = watch.wait(false)?;
        if ready.channel {
            watch.hear()?;
        }
        match watch.start {
            Start::Executed => break,
            Start::Failed(_) => {
                let failed = watch.end()?.failed;
                return Err(failed_to_start(failed.unwrap_or_else(died)));
            }
            Start::Pending | Start::Executing => {}
        }
        if ready.signal {
            watch.forward_signals(false)?;
        }
    }
    let Running { child, signals, .. } = watch.running;
    Ok(Executed {
        child,
        terminal: watch.terminal.map(OwnedFd::from),
        signals,
    })
}

/// How far the start has come.
#[derive(Debug)]
enum Start {
    Pending,
    Executing,
    Executed,
    Failed(Failed),
}

struct Watch {
    running: Running,
    terminal: Option<File>,
    start: Start,
    /// The signal in whose place SIGKILL was sent, see [`Watch::forward`].
    killed_for: Option<i32>,
    /// Its health checks.
    checker: Option<Checker>,
    /// Its want of memory.
    oom: Option<Oom>,
}

/// What the poll loop has to look at.
#[derive(Debug, Default)]
struct Ready {
    channel: bool,
    signal: bool,
    stdin: bool,
    output: bool,
    checker: bool,
    oom: bool,
    ended: bool,
}

impl Watch {
    fn new(running: Running) -> Self {
        Self {
            running,
            terminal: None,
            start: Start::Pending,
            killed_for: None,
            checker: None,
            oom: None,
        }
    }

    fn wait(&self, stdin_open: bool) -> Result<Ready> {
        let stdin = std::io::stdin();
        let (signals, child) = (
            self.running.signals.as_fd(),
            self.running.child.pidfd.as_fd(),
        );
        let channel = self.running.channel.as_fd();
        let starting = matches!(self.start, Start::Pending | Start::Executing);
        let terminal = self.terminal.as_ref().map(AsFd::as_fd);
        let input = stdin.as_fd();
        let mut set = vec![
            PollFd::new(&signals, PollFlags::IN),
            PollFd::new(&child, PollFlags::IN),
        ];
        let mut add = |fd, wanted: bool| {
            wanted.then(|| {
                set.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                set.len() - 1
            })
        };
        let channel_at = add(channel, starting);
        let output_at = terminal.and_then(|fd| add(fd, true));
        let checker_at = self.checker.as_ref().and_then(|it| add(it.as_fd(), true));
        let oom = self.oom.as_ref().and_then(Oom::descriptor);
        let oom_at = oom.and_then(|fd| add(fd, true));
        let stdin_at = add(input, stdin_open && terminal.is_some());
        match poll(&mut set, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
        let ready = |at: Option<usize>| at.is_some_and(|at| !set[at].revents().is_empty());
        Ok(Ready {
            signal: ready(Some(0)),
            // What the channel and the terminal still hold is read first.
            ended: ready(Some(1)) && !ready(channel_at) && !has_input(&set, output_at),
            channel: ready(channel_at),
            output: ready(output_at),
            checker: ready(checker_at),
            oom: ready(oom_at),
            stdin: ready(stdin_at),
        })
    }

    /// One message of the start.
    fn hear(&mut self) -> Result<()> {
        let message = protocol::receive::<FromChild>(&self.running.channel)?;
        match message {
            Some((FromChild::Terminal, Some(master))) => self.open_terminal(master)?,
            Some((FromChild::Terminal, None)) => anyhow::bail!("the container sent no terminal"),
            Some((FromChild::Executing, _)) => self.start = Start::Executing,
            Some((FromChild::Failed(failed), _)) => self.start = Start::Failed(failed),
            None if matches!(self.start, Start::Executing) => self.start = Start::Executed,
            None => self.start = Start::Failed(died()),
        }
        Ok(())
    }

    fn open_terminal(&mut self, master: OwnedFd) -> Result<()> {
        let stdin = std::io::stdin();
        if rustix::termios::isatty(&stdin) {
            pty::copy_size(stdin.as_fd(), master.as_fd())?;
        }
        self.terminal = Some(File::from(master));
        Ok(())
    }

    fn forward_signals(&mut self, caller_terminal: bool) -> Result<()> {
        while let Some(number) = self.running.signals.next()? {
            match (number, &self.terminal) {
                (number, _) if signal::is_own(number) => {}
                (libc::SIGWINCH, Some(terminal)) if caller_terminal => {
                    pty::copy_size(std::io::stdin().as_fd(), terminal.as_fd())?;
                }
                (number, _) => self.forward(number)?,
            }
        }
        Ok(())
    }

    /// Sends a signal on to the container.
    ///
    /// The kernel drops what pid 1 of a namespace has no handler for. A signal whose default is
    /// to end the process would then be lost, and Ctrl-C would do nothing; so we do what the
    /// default would have done.
    fn forward(&mut self, number: i32) -> Result<()> {
        let Some(signal) = raw::signal(number) else {
            return Ok(());
        };
        let child = &self.running.child;
        let starting = matches!(self.start, Start::Pending | Start::Executing);
        if starting && ends_by_default(number) {
            self.killed_for = Some(number);
            return Ok(child.signal(Signal::KILL)?);
        }
        if forward(child.pid, signal, |signal| child.signal(signal))? == Sent::KillInItsPlace {
            self.killed_for = Some(number);
        }
        Ok(())
    }

    /// What was typed, to the container. `false` when there is no more.
    fn carry_in(&mut self, stdin: &std::io::Stdin) -> Result<bool> {
        let Some(terminal) = &mut self.terminal else {
            return Ok(true);
        };
        let mut bytes = [0; 8192];
        let count = match rustix::io::read(stdin.as_fd(), &mut bytes) {
            Ok(0) => {
                // The end of a file or pipe is what Ctrl-D is on a terminal.
                let end_of_transmission = [4];
                terminal
                    .write_all(&end_of_transmission)
                    .context("write to the container")?;
                return Ok(false);
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(true),
            // A terminal that is hung up, or that a background process may not read.
            Err(rustix::io::Errno::IO) => return Ok(false),
            count => count.context("read standard input")?,
        };
        match terminal.write_all(&bytes[..count]) {
            // The container has closed its side.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(false),
            written => written.context("write to the container").map(|()| true),
        }
    }

    /// What the container wrote, to the caller.
    fn carry_out(&mut self) -> Result<()> {
        let Some(terminal) = &mut self.terminal else {
            return Ok(());
        };
        let mut bytes = [0; 32 << 10];
        match terminal.read(&mut bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            // EIO: nobody has the other side open any more.
            Ok(0) | Err(_) => {
                self.terminal = None;
                Ok(())
            }
            Ok(count) => {
                let mut stdout = std::io::stdout().lock();
                match stdout
                    .write_all(&bytes[..count])
                    .and_then(|()| stdout.flush())
                {
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                    written => written.context("write standard output"),
                }
            }
        }
    }

    fn end(self) -> Result<Seen> {
        let ended = self.running.child.wait()?;
        let failed = match self.start {
            Start::Failed(failed) => Some(failed),
            Start::Pending | Start::Executing | Start::Executed => None,
        };
        Ok(Seen {
            failed,
            ended,
            killed_for: self.killed_for,
        })
    }
}

/// What a container was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The signal.
    Itself,
    /// SIGKILL, since its first process would not have noticed the signal.
    KillInItsPlace,
}

/// Sends a signal to a container's first process, in such a way that it counts.
pub(super) fn forward(
    pid: i32,
    signal: Signal,
    send: impl Fn(Signal) -> crate::kernel::Result<()>,
) -> Result<Sent> {
    let number = signal.as_raw();
    if ends_by_default(number) && is_dropped_by(pid, number) {
        send(Signal::KILL)?;
        return Ok(Sent::KillInItsPlace);
    }
    send(signal)?;
    Ok(Sent::Itself)
}

fn has_input(set: &[PollFd<'_>], at: Option<usize>) -> bool {
    at.is_some_and(|at| set[at].revents().contains(PollFlags::IN))
}

/// How a container ended: as its first process did, or of the signal in whose place that was killed.
pub(super) fn ending(ended: Ended, killed_for: Option<i32>, cgroups: &[PathBuf]) -> Ending {
    let out_of_memory = killed_for.is_none() && cgroup::oom_kills(cgroups) > 0;
    let ended = killed_for.map_or(ended, Ended::Signalled);
    Ending {
        code: ended.code() as u8,
        out_of_memory,
        at: now(),
    }
}

/// The channel closed without a word before the exec.
pub(super) fn died() -> Failed {
    let error = crate::kernel::Error::new("start", "container process", "it was killed");
    Failed::at(Stage::Belong)(error)
}

/// The child's failure as the user's.
pub(super) fn failed_to_start(failed: Failed) -> RunFailed {
    let error = anyhow::Error::from(failed.error);
    let error = match failed.stage {
        Stage::Execute => error,
        Stage::Belong => error.context("set up the container's process"),
        Stage::Rootfs => error.context("set up the container's file system"),
        Stage::Network => error.context("set up the container's network"),
        Stage::Terminal => error.context("set up the container's terminal"),
        Stage::Identity => error.context("become the container's user"),
    };
    RunFailed {
        code: failed.code,
        error,
    }
}

/// Whether a process without a handler ends of it (signal(7)).
pub(super) fn ends_by_default(number: i32) -> bool {
    !matches!(
        number,
        libc::SIGCHLD
            | libc::SIGCONT
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
            | libc::SIGURG
            | libc::SIGWINCH
    )
}

/// Whether a namespace's pid 1 has neither a handler for the signal nor blocks it to wait for it. A
/// signal it ignores is its own will.
fn is_dropped_by(pid: i32, number: i32) -> bool {
    let is_kept = || shows_interest(pid, number) || waits_for_signals(pid);
    // Between the two looks it may have gone from one state to the other.
    !is_kept() && !is_kept()
}

/// The masks of `/proc/PID/status` (proc(5)).
fn shows_interest(pid: i32, number: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let has = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let mask = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 << (number - 1) != 0)
    };
    has("SigCgt:") || has("SigIgn:") || has("SigBlk:")
}

/// Whether it is in sigwait(3) or its like, as most init programs are: for that time the mask of
/// blocked signals is without those that are waited for.
fn waits_for_signals(pid: i32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|word| word.parse().ok());
    number == Some(libc::SYS_rt_sigtimedwait)
}
