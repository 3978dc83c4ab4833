//! Processes: clone3, pidfd, wait, and running from a read-only view of our own binary.
//!
//! A process is held by its pidfd wherever we started it; a number read from a record counts only
//! together with the start time that was recorded beside it.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit,
    pidfd_getfd, pidfd_open, pidfd_send_signal, setrlimit, waitid,
};

use super::{Context, Error, Result, raw};

/// By how much a thread steps back: of 19 and the usual 0, so far that others get nine tenths.
const STEP_BACK: i32 = 10;

/// Proof that the process has a single thread, which [`clone_child`] needs.
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads once. Nothing in mybox starts one on the way to a clone.
    pub fn check() -> Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")
            .on("list", "/proc/self/task")?
            .count();
        if threads == 1 {
            Ok(Self(()))
        } else {
            Err(Error::new(
                "clone",
                "container process",
                format!("{threads} threads are running"),
            ))
        }
    }
}

/// Both sides of a clone.
pub enum Side {
    /// In the new process.
    Child,
    /// In the caller.
    Parent(Child),
}

/// A child process of ours.
#[derive(Debug)]
pub struct Child {
    /// Its number in our pid namespace.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It called exit with this code.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
}

impl Ended {
    /// The code a shell would show: the exit code, or 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(signal) => 128 + signal,
        }
    }
}

/// Forks into new namespaces (`flags`: `CLONE_NEW*`) and, on cgroup v2, straight into `cgroup`.
pub fn clone_child(
    proof: &SingleThreaded,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Side> {
    match raw::clone3(proof, flags, cgroup).on("clone", "container process")? {
        raw::Cloned::Child => Ok(Side::Child),
        raw::Cloned::Parent { pid, pidfd } => Ok(Side::Parent(Child { pid, pidfd })),
    }
}

/// Keeps everybody without privileges over the whole host from reading, tracing or opening the
/// descriptors of this process and of the children it clones, until they execute something.
pub fn make_undumpable() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .on("make undumpable", "")
}

/// Takes [`make_undumpable`] back.
pub fn make_dumpable() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .on("make dumpable", "")
}

/// Raises this process's limit of open files as far as it may go; the answer is what it was.
pub fn allow_many_descriptors() -> Result<OpenFiles> {
    let before = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: before.maximum,
        ..before
    };
    OpenFiles(most).set()?;
    Ok(OpenFiles(before))
}

/// A limit of open files.
#[derive(Debug)]
pub struct OpenFiles(Rlimit);

impl OpenFiles {
    /// The limit of this process.
    pub fn now() -> Self {
        Self(getrlimit(Resource::Nofile))
    }

    /// Makes it this process's; what is open stays open.
    pub fn set(&self) -> Result<()> {
        setrlimit(Resource::Nofile, self.0).on("set limit", "open files")
    }
}

/// Lets the process's other threads go first from now on: this one, and those that it starts, get a
/// tenth of the time that each of the others gets (nice(2), which on Linux is each thread's own).
pub fn step_back() {
    // Where that is refused, everything takes a little longer.
    let _ = rustix::process::nice(STEP_BACK);
}

impl Child {
    /// Sends a signal; a process that has ended already is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_pidfd(self.pidfd.as_fd(), signal, self.pid)
    }

    /// Whether it has ended; it is not reaped.
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::PidFd(self.pidfd.as_fd()), options), Ok(None))
    }

    /// Waits for the end and reaps the process.
    pub fn wait(&self) -> Result<Ended> {
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    return Ok(match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Ended::Exited(code),
                        (None, signal) => Ended::Signalled(signal.unwrap_or(0)),
                    });
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno).on("wait for process", self.pid),
            }
        }
    }
}

fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: Signal, pid: i32) -> Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno).on("signal process", pid),
    }
}

/// When a process started, in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)), or
/// `None` if there is no such process. With the pid it names a process for good.
pub fn start_time(pid: i32) -> Option<u64> {
    Some(state_and_start(pid)?.1)
}

/// Whether the process that started then has not ended. One that has, and whose parent has not asked
/// yet how, still has its number and nothing else.
pub fn is_alive(pid: i32, started: u64) -> bool {
    state_and_start(pid).is_some_and(|(state, start)| start == started && !"ZX".contains(state))
}

/// Whether it is on its way out, or gone: the processes of its namespace end before it does.
pub fn is_ending(pid: i32) -> bool {
    // linux/sched.h, in field 9 of proc(5).
    const PF_EXITING: u32 = 4;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let mut fields = fields.unwrap_or_default().split_whitespace();
    let state = fields.next().unwrap_or("X");
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u32>().ok());
    "ZX".contains(state) || flags.is_none_or(|flags| flags & PF_EXITING != 0)
}

fn state_and_start(pid: i32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets and may itself hold brackets and spaces.
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace();
    let state = after_name.next()?.chars().next()?;
    Some((state, after_name.nth(18)?.parse().ok()?))
}

/// Which boot of the machine this is (random(4)); empty where the kernel does not tell.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim_end().to_owned()
}

/// A copy of descriptor `number` of the process with this pid, if that is still the one that
/// started then and we may look into it (`pidfd_getfd(2)`, Linux 5.6; ptrace(2), "Ptrace access mode
/// checking"). It shares the open file, and is close-on-exec.
pub fn descriptor_of(pid: i32, started: u64, number: i32) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Compared after the pidfd is open, as below.
    if start_time(pid) != Some(started) {
        return None;
    }
    pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()).ok()
}

/// A process that somebody else started, held so that its number cannot come to mean another.
#[derive(Debug)]
pub struct Held {
    /// Its number in our pid namespace.
    pub pid: i32,
    pidfd: OwnedFd,
}

/// Takes hold of the process with this number if it is still the one that started then.
pub fn hold(pid: i32, started: u64) -> Result<Option<Held>> {
    let Some(number) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(errno).on("open pidfd of", pid),
    };
    // Compared after the pidfd is open: from here the number cannot come to mean another process.
    Ok((start_time(pid) == Some(started)).then_some(Held { pid, pidfd }))
}

/// The same, if it has not ended: a zombie is still the one that started then.
pub fn hold_running(pid: i32, started: u64) -> Result<Option<Held>> {
    match hold(pid, started)? {
        Some(process) if !process.is_gone()? => Ok(Some(process)),
        _ => Ok(None),
    }
}

impl Held {
    /// Sends a signal; a process that has ended already is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_pidfd(self.pidfd.as_fd(), signal, self.pid)
    }

    /// Waits until it has ended, so long at most or for ever; `false` if it still runs.
    pub fn wait_gone(&self, limit: Option<Duration>) -> Result<bool> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().cast_signed(),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let fd = self.pidfd.as_fd();
        let mut set = [PollFd::new(&fd, PollFlags::IN)];
        loop {
            match poll(&mut set, limit.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno).on("wait for process", self.pid),
            }
        }
    }

    /// Whether it has ended; its parent need not have asked how.
    pub fn is_gone(&self) -> Result<bool> {
        self.wait_gone(Some(Duration::ZERO))
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// How long a process may take to end after SIGKILL.
pub const KILL_TAKES: Duration = Duration::from_secs(10);

/// Kills the process with this number if it is still the one that started then, and waits until
/// it is gone. `true` if there was one to kill.
pub fn kill_recorded(pid: i32, started: u64) -> Result<bool> {
    let Some(process) = hold(pid, started)? else {
        return Ok(false);
    };
    process.signal(Signal::KILL)?;
    if process.wait_gone(Some(KILL_TAKES))? {
        return Ok(true);
    }
    let detail = format!(
        "it has not ended within {} s of SIGKILL",
        KILL_TAKES.as_secs()
    );
    Err(Error::new("kill process", pid, detail))
}

/// Replaces this process by `path`; returns only what went wrong.
pub fn exec(path: &CString, argv: &[CString], env: &[CString]) -> nix::errno::Errno {
    match nix::unistd::execve(path, argv, env) {
        Err(errno) => errno,
        Ok(never) => {
            let _: Infallible = never;
            match never {}
        }
    }
}

/// Goes on from a read-only mount of our own binary, unless it lies on one already.
///
/// Whoever controls an image can have the container execute `/proc/self/exe` and so get a
/// descriptor of the host's binary to overwrite it (CVE-2019-5736). A detached read-only clone of
/// the binary's mount answers every such write with EROFS. The mount is in no namespace, so no
/// path leads to it and nobody can remount it.
pub fn seal_own_binary() -> Result<()> {
    use rustix::fs::{CWD, StatVfsMountFlags, statvfs};
    const EXE: &str = "/proc/self/exe";
    if statvfs(EXE)
        .on("statvfs", EXE)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY)
    {
        return Ok(());
    }
    let binary = std::fs::read_link(EXE).on("readlink", EXE)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let sealed = open_tree(CWD, EXE, flags).on_path("clone the mount of", &binary)?;
    raw::mount_setattr(sealed.as_fd(), false, libc::MOUNT_ATTR_RDONLY, 0)
        .on_path("make read-only", &binary)?;
    let arguments: Vec<CString> = std::env::args_os().map(|word| c_string(&word)).collect();
    let environment: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| {
            let mut line = name;
            line.push("=");
            line.push(value);
            c_string(&line)
        })
        .collect();
    let answer = nix::unistd::execveat(
        &sealed,
        c"",
        &arguments,
        &environment,
        nix::fcntl::AtFlags::AT_EMPTY_PATH,
    );
    match answer {
        Err(errno) => Err(errno).on_path("execute again", &binary),
        Ok(never) => match never {},
    }
}

fn c_string(word: &std::ffi::OsStr) -> CString {
    CString::new(word.as_bytes()).expect("arguments and environment came as C strings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_of_this_process_is_known_and_that_of_none_is_not() {
        assert!(start_time(std::process::id().cast_signed()).is_some());
        assert_eq!(start_time(i32::MAX), None);
    }

    #[test]
    fn a_recorded_process_is_killed_only_with_its_own_start_time() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        let started = start_time(pid).unwrap();
        assert!(!kill_recorded(pid, started + 1).unwrap());
        assert!(
            child.try_wait().unwrap().is_none(),
            "another process's start time killed it"
        );
        assert!(kill_recorded(pid, started).unwrap());
        child.wait().unwrap();
    }

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!(Ended::Exited(3).code(), 3);
        assert_eq!(Ended::Signalled(15).code(), 143);
    }
}
