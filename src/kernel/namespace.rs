//! Namespaces beyond what clone3 makes: the host name, the cgroup namespace, and a lock whose
//! scope is exactly one network namespace.

use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::{Context, Result};

/// Sets the host name of the calling process's UTS namespace.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).on("set host name", name)
}

/// Makes the cgroup that the caller is in now the root of its view (cgroup_namespaces(7)).
/// Must come after the process was moved into its cgroup: what it is in at the time becomes `/`.
pub fn unshare_cgroup() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).on("unshare", "cgroup namespace")
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
