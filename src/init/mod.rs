//! The child's side of a container's start, from clone to exec.
//!
//! Everything here runs in the new process, single-threaded, on a copy of the parent's memory. It
//! goes by the [`RunPlan`] and touches nothing but its own namespaces. It never returns: it ends in
//! the container's command, or reports through the [`protocol`] and exits.
//!
//! ```text
//! belong     cgroup, cgroup namespace, keyring, death with the parent
//! rootfs     overlay, volumes, /proc /sys /dev, pivot_root, what is hidden
//! network    address, route and loopback, when the parent says that eth0 is there
//! identity   user, groups, capabilities, working directory
//! execute    exec, directly or below a reaper
//! ```
//! `mybox exec` comes another way, [`join`], to the same identity and execute.

pub mod protocol;

mod cgroups;
mod devices;
mod execute;
mod identity;
mod join;
mod mounts;
mod network;
mod reaper;
mod rootfs;
mod volumes;

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::signal::SigSet;
use oci_spec::runtime::Process;
use rustix::fs::Mode;
use rustix::process::{Signal, Uid};

use crate::kernel::overlay::Lower;
use crate::kernel::process::{self, OpenFiles};
use crate::kernel::socket::End;
use crate::kernel::{self, Context, Error, cgroup, mount, namespace, pty, raw, signal};
use crate::plan::{RunPlan, SHM};
pub use join::{Joining, join};
pub use network::INTERFACE;
use protocol::{Failed, FromChild, FromParent, Stage};
pub use rootfs::mount_images;

/// What a container's first process is born with.
#[derive(Debug)]
pub struct Birth<'a> {
    /// What to become.
    pub plan: &'a RunPlan,
    /// The plan's layers, those that are mounts mounted.
    pub lower: &'a [Lower],
    /// The images that it can read beside its own.
    pub images: &'a [ImageTree],
    /// Whose namespaces it joins.
    pub joins: Joins<'a>,
    /// What it executes in the end.
    pub task: Task<'a>,
}

/// An image to be mounted in the container, read-only.
#[derive(Debug)]
pub struct ImageTree {
    /// Where in the container.
    pub destination: PathBuf,
    /// Its layers, the base first, two at least; those that are mounts mounted.
    pub lower: Vec<Lower>,
}

/// First processes of containers, as pidfds, by what is joined of them.
#[derive(Debug)]
pub struct Joins<'a> {
    /// The network.
    pub network: Option<BorrowedFd<'a>>,
    /// Memory and message queues.
    pub ipc: Option<BorrowedFd<'a>>,
    /// The host name.
    pub uts: Option<BorrowedFd<'a>>,
}

/// What a process goes by to become a command, whichever way it came into the container.
#[derive(Debug)]
pub struct Task<'a> {
    /// Command line, environment, user, capabilities.
    pub process: &'a Process,
    /// Groups beside the user's, by the image's names or by number.
    pub groups: &'a [String],
    /// The compiled filter of system calls; empty for none.
    pub filter: &'a [u8],
    /// The way to the parent.
    pub channel: End,
    /// The signal mask the caller of mybox had.
    pub mask: SigSet,
    /// The limit of open files the caller had.
    pub open_files: OpenFiles,
    /// Whether it dies with its parent.
    pub follows_parent: bool,
    /// Its standard input, output and error; `None` for the caller's.
    pub stdio: Option<[OwnedFd; 3]>,
}

/// Becomes the container's first process.
pub fn enter(birth: Birth<'_>) -> ! {
    give_up(&birth.task.channel, become_container(&birth))
}

/// Tells the parent what went wrong.
fn give_up(channel: &End, answer: Result<Infallible, Failed>) -> ! {
    let failed = match answer {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    // If even this cannot be sent, the parent sees the channel close without a word.
    let _ = protocol::send(channel, &FromChild::Failed(failed), None);
    raw::exit_now(protocol::SETUP_FAILED)
}

fn become_container(birth: &Birth<'_>) -> Result<Infallible, Failed> {
    let (plan, task) = (birth.plan, &birth.task);
    let shm = belong(birth).map_err(Failed::at(Stage::Belong))?;
    rootfs::build(birth, shm).map_err(Failed::at(Stage::Rootfs))?;
    // Sent when eth0 exists and this process is on record; until then nothing runs.
    wait_for_parent(&task.channel).map_err(Failed::at(Stage::Network))?;
    network::configure(plan).map_err(Failed::at(Stage::Network))?;
    execute::make_working_directory(task.process).map_err(Failed::at(Stage::Rootfs))?;
    rootfs::close(plan).map_err(Failed::at(Stage::Rootfs))?;
    let identity =
        identity::resolve(task.process, task.groups).map_err(Failed::at(Stage::Identity))?;
    if plan.terminal() {
        take_terminal(&task.channel, identity.uid).map_err(Failed::at(Stage::Terminal))?;
    }
    execute::enter_working_directory(task.process).map_err(Failed::at(Stage::Identity))?;
    execute::execute(task, &identity, plan.init)
}

/// Joins what the process belongs to, and cuts what tied it to the caller. The answer is another
/// container's /dev/shm, mounted nowhere, if it shares that.
fn belong(birth: &Birth<'_>) -> kernel::Result<Option<OwnedFd>> {
    die_with_parent(&birth.task.channel)?;
    take_streams(&birth.task)?;
    // Not to be read or traced by anybody in the container while it still is mybox: /proc/1 has
    // the host's memory and descriptors until the exec.
    process::make_undumpable()?;
    cgroup::join_v1(&birth.plan.cgroup.v1_paths())?;
    if birth.plan.has_cgroup_namespace() {
        namespace::unshare_cgroup()?;
    }
    if let Some(other) = birth.joins.network {
        namespace::join_network(other)?;
    }
    if let Some(other) = birth.joins.uts {
        namespace::join_uts(other)?;
    }
    let shm = match birth.joins.ipc {
        Some(other) => {
            namespace::join_ipc(other)?;
            Some(mount::clone_of_tmpfs_in(other, Path::new(SHM))?)
        }
        None => None,
    };
    adjust_oom_score(birth.task.process)?;
    stand_alone()?;
    if let Some(hostname) = birth.plan.spec.hostname() {
        namespace::set_hostname(hostname)?;
    }
    if let Some(domainname) = birth.plan.spec.domainname() {
        namespace::set_domainname(domainname)?;
    }
    Ok(shm)
}

/// Takes the standard streams that it is to have in the place of the caller's.
fn take_streams(task: &Task<'_>) -> kernel::Result<()> {
    let Some([stdin, stdout, stderr]) = &task.stdio else {
        return Ok(());
    };
    rustix::stdio::dup2_stdin(stdin).on("dup2", "standard input")?;
    rustix::stdio::dup2_stdout(stdout).on("dup2", "standard output")?;
    rustix::stdio::dup2_stderr(stderr).on("dup2", "standard error")
}

/// How gladly the kernel kills this process, by the host's /proc: the container's may be hidden.
fn adjust_oom_score(process: &Process) -> kernel::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    match process.oom_score_adj() {
        Some(score) => {
            std::fs::write(FILE, score.to_string()).on("write", format_args!("{score} to {FILE}"))
        }
        None => Ok(()),
    }
}

/// A session and a keyring of its own, and the usual umask.
fn stand_alone() -> kernel::Result<()> {
    raw::join_new_session_keyring()
        .on("join", "new session keyring")
        .or_else(unless_missing)?;
    // A session of its own: the caller's terminal cannot be taken over (TIOCSTI), and its Ctrl-C
    // reaches the container once, through mybox, not twice.
    rustix::process::setsid().on("start", "session")?;
    // The caller's would show in the modes of what is made in the container, from mount points to
    // the command's own files.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Kernels can be built without keyrings; then there is none to inherit either.
fn unless_missing(error: Error) -> kernel::Result<()> {
    if error.is(nix::errno::Errno::ENOSYS) {
        Ok(())
    } else {
        Err(error)
    }
}

/// SIGKILL when the supervisor dies. It may have died before this call: then its end of the
/// channel is closed.
fn die_with_parent(channel: &End) -> kernel::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .on("set", "parent death signal")?;
    let fd = channel.as_fd();
    let mut set = [PollFd::new(&fd, PollFlags::IN)];
    poll(
        &mut set,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .on("poll", "parent")?;
    if set[0].revents().contains(PollFlags::HUP) {
        raw::exit_now(protocol::SETUP_FAILED);
    }
    Ok(())
}

fn wait_for_parent(channel: &End) -> kernel::Result<()> {
    match protocol::receive::<FromParent>(channel)? {
        Some((FromParent::Proceed, _)) => Ok(()),
        // The parent gave up or is dead; it says why, if anybody does.
        None => raw::exit_now(protocol::SETUP_FAILED),
    }
}

/// The terminal belongs to the command's user, who could otherwise write to it but not open it
/// again, as /dev/stdout does.
fn take_terminal(channel: &End, owner: Uid) -> kernel::Result<()> {
    let terminal = pty::open()?;
    rustix::fs::fchown(&terminal.slave, Some(owner), None).on("set owner of", "terminal")?;
    devices::bind_console(terminal.slave.as_fd())?;
    pty::take_as_own(terminal.slave.as_fd())?;
    protocol::send(channel, &FromChild::Terminal, Some(terminal.master.as_fd()))
}

/// Gives the process the caller's signal mask and default dispositions, as a program expects.
fn plain_signals(mask: &SigSet) -> kernel::Result<()> {
    raw::default_signal_dispositions();
    signal::set_mask(mask)
}
