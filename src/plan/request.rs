//! What the user typed, understood once: no flag is looked at again after this.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::Error;
use crate::kernel::cgroup::{Limits, Swap};
use crate::net::names::HostEntry;

/// A request to run a container.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// The image as the user names it.
    pub image: String,
    /// Words after the image: they replace the image's Cmd.
    pub command: Vec<String>,
    /// Replaces the image's Entrypoint; an empty word means none.
    pub entrypoint: Option<String>,
    /// Name of the container.
    pub name: Option<String>,
    /// Remove everything at the end.
    pub remove: bool,
    /// Keep standard input open.
    pub interactive: bool,
    /// Give it a terminal.
    pub terminal: bool,
    /// Put a reaper of ours at pid 1.
    pub init: bool,
    /// Variables in the order given; a later one wins.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub workdir: Option<String>,
    /// `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Directories and files of the host.
    pub volumes: Vec<Volume>,
    /// In-memory file systems.
    pub tmpfs: Vec<Tmpfs>,
    /// Nothing of the root file system can be written.
    pub read_only: bool,
    /// cgroup limits.
    pub limits: Limits,
    /// Which network.
    pub network: NetworkMode,
    /// An address of one's own choice.
    pub ip: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Lines for /etc/hosts.
    pub add_host: Vec<HostEntry>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// No program can gain privileges it does not have.
    pub no_new_privileges: bool,
}

/// `-v SOURCE:DESTINATION[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
    /// It cannot be written through this mount.
    pub read_only: bool,
}

/// `--tmpfs DESTINATION[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// In the container.
    pub destination: PathBuf,
    /// As mount(8) takes them.
    pub options: Vec<String>,
}

/// `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkMode {
    /// A network namespace with eth0 on the bridge.
    #[default]
    Bridge,
    /// The host's own network namespace.
    Host,
    /// A network namespace with nothing but loopback.
    None,
}

/// The kernel's least useful memory limit, as Docker has it: below, nothing even starts.
const LEAST_MEMORY: u64 = 6 << 20;

impl RunRequest {
    /// Refuses what contradicts itself.
    pub(super) fn check(&self) -> Result<(), Error> {
        let conflict = |text: &str| Err(Error::Conflict(text.to_owned()));
        if self.ip.is_some() && self.network != NetworkMode::Bridge {
            return conflict("--ip needs --network bridge");
        }
        match (self.limits.memory, self.limits.swap) {
            (Some(memory), _) if memory < LEAST_MEMORY => conflict("--memory must be at least 6m"),
            (None, Some(_)) => conflict("--memory-swap needs --memory"),
            (Some(memory), Some(Swap::Total(total))) if total < memory => {
                conflict("--memory-swap is memory and swap together: it must not be below --memory")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused_by_name() {
        let with = |change: fn(&mut RunRequest)| {
            let mut request = RunRequest::default();
            change(&mut request);
            request.check().map_err(|error| error.to_string())
        };
        assert!(with(|_| {}).is_ok());
        let ip = with(|it| {
            it.ip = Some([10, 10, 0, 9].into());
            it.network = NetworkMode::None;
        });
        assert!(ip.unwrap_err().contains("--ip"));
        assert!(
            with(|it| it.limits.memory = Some(1))
                .unwrap_err()
                .contains("6m")
        );
        let swap = with(|it| {
            it.limits.memory = Some(64 << 20);
            it.limits.swap = Some(Swap::Total(32 << 20));
        });
        assert!(swap.unwrap_err().contains("--memory-swap"));
    }
}
