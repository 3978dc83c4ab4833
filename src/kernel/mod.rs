//! The kernel, one primitive a file. Nothing here knows of containers, plans or files of mybox.
//!
//! Every call that can fail answers with [`Error`]: the operation, the object it was tried on, and
//! the kernel's errno. Callers add what they were about; nobody prints here.

pub mod file; //      files that come, go and are replaced under one's eyes
pub mod raw; //        system calls that no crate wraps: the only unsafe code in mybox
pub mod process; //    clone3, pidfd, wait, and running from a read-only view of our own binary
pub mod signal; //     signals as a file descriptor
pub mod poll; //       waiting for several descriptors
pub mod timer; //      a point in time as one
pub mod namespace; //  host name, cgroup namespace, the network namespace's own lock
pub mod root; //       paths inside a container's root, resolved by the kernel
pub mod mount; //      detached mounts, made first and attached by descriptor
pub mod overlay; //    any number of lower directories, paths or mounts
pub mod erofs; //      an index and the files its data lies in, mounted without a place
pub mod caps; //       capability sets
pub mod rlimit; //     limits of a process
pub mod seccomp; //    system call filters
pub mod pty; //        pseudo terminals and raw mode
pub mod cgroup; //     limits: v2, v1 and the hybrid of both
pub mod netlink; //    links, addresses, routes
pub mod nfnetlink; //  messages of netfilter
pub mod nft; //        the firewall, through nft(8)
pub mod conntrack; //  flows that the kernel remembers
pub mod port; //       ports of the host, held
pub mod socket; //     messages with descriptors over a SEQPACKET pair

use std::fmt;
use std::io;
use std::path::Path;

/// What the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Error {
    /// The operation in the field's words, as `mount` or `open`.
    pub operation: String,
    /// What it was tried on: a path, an interface, a signal.
    pub object: String,
    /// The errno, or 0 where the answer was no errno; then `detail` says it.
    pub errno: i32,
    /// The answer in words where there was no errno.
    pub detail: Option<String>,
}

/// The result of asking the kernel.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that carries no errno.
    pub fn new(operation: &str, object: impl ToString, detail: impl ToString) -> Self {
        Self {
            operation: operation.to_owned(),
            object: object.to_string(),
            errno: 0,
            detail: Some(detail.to_string()),
        }
    }

    /// Whether the kernel answered with this errno.
    pub fn is(&self, errno: nix::errno::Errno) -> bool {
        self.errno == errno as i32
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operation)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => {
                let errno = nix::errno::Errno::from_raw(self.errno);
                write!(f, ": {errno:?} ({})", errno.desc())
            }
        }
    }
}

impl std::error::Error for Error {}

/// Names the operation and its object where a system call fails.
pub trait Context<T> {
    /// The same result, its error saying what was tried on what.
    fn on(self, operation: &str, object: impl fmt::Display) -> Result<T>;

    /// As [`Context::on`], with a path.
    fn on_path(self, operation: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn on(self, operation: &str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            let errno = error.raw_os_error();
            Error {
                operation: operation.to_owned(),
                object: object.to_string(),
                errno: errno.unwrap_or(0),
                detail: errno.is_none().then(|| error.to_string()),
            }
        })
    }

    fn on_path(self, operation: &str, path: impl AsRef<Path>) -> Result<T> {
        self.on(operation, path.as_ref().display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_object_and_errno() {
        let error = std::fs::File::open("/nonexistent/file").on("open", "/nonexistent/file");
        assert_eq!(
            error.unwrap_err().to_string(),
            "open /nonexistent/file: ENOENT (No such file or directory)"
        );
    }
}
