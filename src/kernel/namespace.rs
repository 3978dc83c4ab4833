//! Namespaces beyond what clone3 makes: the host name, the cgroup namespace, and a lock whose
//! scope is exactly one network namespace.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::{Context, Result};

/// Sets the host name of the calling process's UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).on("set host name", name)
}

/// Sets the NIS domain name of the calling process's UTS namespace.
pub fn set_domainname(name: &str) -> Result<()> {
    rustix::system::setdomainname(name.as_bytes()).on("set domain name", name)
}

/// The host name of the calling process's UTS namespace.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Makes the cgroup that the caller is in now the root of its view (cgroup_namespaces(7)).
/// Must come after the process was moved into its cgroup: what it is in at the time becomes `/`.
pub fn unshare_cgroup() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).on("unshare", "cgroup namespace")
}

/// Gives the caller, and whoever it starts from now on, mounts of its own: a copy of those that are there,
/// which go with it.
pub fn unshare_mounts() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).on("unshare", "mount namespace")?;
    super::mount::make_all_private()
}

/// Has the children that the caller clones from now on be born in the pid namespace of `process`, a
/// pidfd (setns(2); Linux 5.8). The caller itself stays where it is.
pub fn bear_children_in(process: BorrowedFd<'_>) -> Result<()> {
    nix::sched::setns(process, CloneFlags::CLONE_NEWPID).on("join pid namespace of", "container")
}

/// Has the children that the caller clones from now on be born where it is itself, again.
pub fn bear_children_here() -> Result<()> {
    const NAMESPACE: &str = "/proc/self/ns/pid";
    let own = rustix::fs::open(NAMESPACE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = own.on("open", NAMESPACE)?;
    nix::sched::setns(own, CloneFlags::CLONE_NEWPID).on("join", NAMESPACE)
}

/// Moves the caller into the network namespace of `process`, a pidfd.
pub fn join_network(process: BorrowedFd<'_>) -> Result<()> {
    nix::sched::setns(process, CloneFlags::CLONE_NEWNET).on("join network of", "container")
}

/// Moves the caller into the IPC namespace of `process`, a pidfd.
pub fn join_ipc(process: BorrowedFd<'_>) -> Result<()> {
    nix::sched::setns(process, CloneFlags::CLONE_NEWIPC).on("join memory of", "container")
}

/// Moves the caller into the UTS namespace of `process`, a pidfd.
pub fn join_uts(process: BorrowedFd<'_>) -> Result<()> {
    nix::sched::setns(process, CloneFlags::CLONE_NEWUTS).on("join name of", "container")
}

/// Does something in the mount namespace of `process`, a pidfd, and comes back. The root directory is then that
/// of the caller's own namespace, and the working directory what it was.
pub fn among_mounts_of<T>(process: BorrowedFd<'_>, act: impl FnOnce() -> Result<T>) -> Result<T> {
    const NAMESPACE: &str = "/proc/self/ns/mnt";
    let own = rustix::fs::open(NAMESPACE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = own.on("open", NAMESPACE)?;
    // Both ways lead to a root directory.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let here = rustix::fs::open(".", flags, Mode::empty()).on("open", "the working directory")?;
    nix::sched::setns(process, CloneFlags::CLONE_NEWNS).on("join mounts of", "container")?;
    let done = act();
    nix::sched::setns(own, CloneFlags::CLONE_NEWNS).on("go back to", NAMESPACE)?;
    rustix::process::fchdir(here).on("go back to", "the working directory")?;
    done
}

/// Moves the caller into the other namespaces of `process`, all in one step: no path of a container
/// is looked at, and there is no state in between.
pub fn join_all(process: BorrowedFd<'_>) -> Result<()> {
    let kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    nix::sched::setns(process, kinds).on("join namespaces of", "container")
}

/// Held while links, ranges or firewall tables of this network namespace are being made.
///
/// flock on the namespace's own file: processes of any mybox root share it if and only if they
/// share the links it protects, and the kernel lets go of it when its holder dies.
#[derive(Debug)]
pub struct NetworkLock(#[allow(dead_code, reason = "held for its flock")] OwnedFd);

/// Waits for the lock on the caller's network namespace.
pub fn lock_network() -> Result<NetworkLock> {
    const NAMESPACE: &str = "/proc/self/ns/net";
    // Without CLOEXEC: an nft(8) that outlives a killed mybox holds the lock until its change is made.
    let file = rustix::fs::open(NAMESPACE, OFlags::RDONLY, Mode::empty()).on("open", NAMESPACE)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).on("lock", NAMESPACE)?;
    Ok(NetworkLock(file))
}
