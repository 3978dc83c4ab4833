//! What parent and child say to each other while a container starts.
//!
//! ```text
//! parent (supervisor)                         child (container)
//!   record, lease, cgroup
//!   clone ----------------------------------> belong, rootfs
//!   pid on record
//!   veth into the child's namespace
//!   Proceed --------------------------------> network, close, identity
//!            <------------------------------- Terminal (with the master's descriptor), with -t
//!            <------------------------------- Executing
//!            <------------------------------- (closed by the exec itself)
//! ```
//! Instead of any message the child may send `Failed` and exit. Closed without `Executing` means
//! that the child was killed. The channel is closed by a successful exec, so `Failed` after
//! `Executing` is an exec that the kernel refused.

use std::os::fd::{BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::kernel::socket::{End, LONGEST};
use crate::kernel::{self, Error};

/// The exit code of a child that failed before the exec. Nobody sees it: the parent goes by the
/// message.
pub const SETUP_FAILED: i32 = 125;

/// To the child.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromParent {
    /// The process is on record and its network is there.
    Proceed,
}

/// To the parent.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromChild {
    /// The container's terminal; its master comes with the message.
    Terminal,
    /// The next system call is the exec.
    Executing,
    /// It went no further.
    Failed(Failed),
}

/// Which part of the start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// cgroup, session, namespaces.
    Belong,
    /// The file system.
    Rootfs,
    /// eth0 and the loopback.
    Network,
    /// The terminal.
    Terminal,
    /// User, groups, capabilities, working directory.
    Identity,
    /// The exec.
    Execute,
}

/// Why the child went no further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Where.
    pub stage: Stage,
    /// Operation, object, errno.
    pub error: Error,
    /// What `run` exits with: 125, or 126 and 127 for a command that cannot be executed or found.
    pub code: u8,
}

impl Failed {
    /// A failure of mybox itself at this stage.
    pub fn at(stage: Stage) -> impl FnOnce(Error) -> Self {
        move |error| Self {
            stage,
            error,
            code: 125,
        }
    }
}

/// Sends a message, perhaps with a descriptor.
pub fn send<T: Serialize>(
    channel: &End,
    message: &T,
    fd: Option<BorrowedFd<'_>>,
) -> kernel::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(|error| garbled(&error))?;
    debug_assert!(bytes.len() <= LONGEST);
    channel.send(&bytes, fd)
}

/// Waits for a message; `None` when the channel is closed.
pub fn receive<T: DeserializeOwned>(channel: &End) -> kernel::Result<Option<(T, Option<OwnedFd>)>> {
    let Some(message) = channel.receive()? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&message.bytes).map_err(|error| garbled(&error))?;
    Ok(Some((value, message.fd)))
}

fn garbled(error: &serde_json::Error) -> Error {
    Error::new("talk to", "the other side of the start", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::socket;
    use std::os::fd::AsFd;

    #[test]
    fn messages_and_descriptors_cross() {
        let (parent, child) = socket::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(&child, &FromChild::Terminal, Some(file.as_fd())).unwrap();
        let error = Error::new("open", "/x", "no");
        let failed = Failed::at(Stage::Rootfs)(error);
        send(&child, &FromChild::Failed(failed.clone()), None).unwrap();
        drop(child);
        let (first, fd) = receive::<FromChild>(&parent).unwrap().unwrap();
        assert!(matches!(first, FromChild::Terminal) && fd.is_some());
        let (second, fd) = receive::<FromChild>(&parent).unwrap().unwrap();
        assert!(matches!(second, FromChild::Failed(it) if it == failed) && fd.is_none());
        assert!(receive::<FromChild>(&parent).unwrap().is_none());
    }
}
