//! What the user typed, understood once: no flag is looked at again after this.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use mybox_store::Digest;
use oci_spec::runtime::PosixRlimitType;
use serde::{Deserialize, Serialize};

use super::health::HealthRequest;
use super::{Error, sysctl};
use crate::container::log::Rotation;
use crate::container::port::{Port, Publish};
use crate::container::{RestartPolicy, Timeout};
use crate::kernel::cgroup::{Limits, Swap};
use crate::net::names::HostEntry;

/// A request to run a container. It is kept with the container: each start goes by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
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
    /// Which of its streams lead to whoever runs it in the foreground; none is all.
    pub attach: BTreeSet<StandardStream>,
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
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Directories and files of the host.
    pub volumes: Vec<Volume>,
    /// Volumes, by name or without one.
    pub named_volumes: Vec<NamedVolume>,
    /// Images, to be read.
    pub image_mounts: Vec<ImageMount>,
    /// Containers whose volumes it has; what these are is among the two above.
    pub volumes_from: Vec<VolumesFrom>,
    /// In-memory file systems.
    pub tmpfs: Vec<Tmpfs>,
    /// Nothing of the root file system can be written.
    pub read_only: bool,
    /// cgroup limits.
    pub limits: Limits,
    /// The group that its cgroup lies in, if not mybox's own; an absolute path is from the top.
    pub cgroup_parent: Option<PathBuf>,
    /// Which cgroups it sees.
    pub cgroupns: CgroupMode,
    /// Which network.
    pub network: NetworkMode,
    /// Whose processes it sees.
    pub pid: PidMode,
    /// Whose memory and message queues it shares.
    pub ipc: IpcMode,
    /// Whose name it has.
    pub uts: UtsMode,
    /// An address of one's own choice.
    pub ip: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Domains that names are looked for in; `.` alone is none.
    pub dns_search: Vec<String>,
    /// Options of the resolver.
    pub dns_options: Vec<String>,
    /// The hardware address of eth0, if not the one that follows from its address.
    pub mac: Option<[u8; 6]>,
    /// Annotations of the runtime spec.
    pub annotations: BTreeMap<String, String>,
    /// Ports to be reached through the host's.
    pub publish: Vec<Publish>,
    /// Publish every port that the container is known to have.
    pub publish_all: bool,
    /// Ports the container is known to have, beside the image's.
    pub expose: Vec<Port>,
    /// Lines for /etc/hosts.
    pub add_host: Vec<HostEntry>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// No program can gain privileges it does not have.
    pub no_new_privileges: bool,
    /// No system call is refused for being dangerous.
    pub seccomp_unconfined: bool,
    /// Capabilities beside the default ones, or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities of the default ones that it does not get, or `ALL`.
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, nothing of /proc and /sys hidden, no filter of system calls.
    pub privileged: bool,
    /// Groups beside the user's, names or numbers.
    pub group_add: Vec<String>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// More that its processes may open, as `c 1:3 rwm`.
    pub device_cgroup_rules: Vec<String>,
    /// Limits of each process.
    pub ulimits: Vec<Ulimit>,
    /// Settings of the kernel that are the container's own.
    pub sysctls: BTreeMap<String, String>,
    /// Size of /dev/shm in bytes.
    pub shm_size: Option<u64>,
    /// How gladly the kernel kills it for want of memory, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Whether it runs on without the command that started it.
    pub detach: bool,
    /// When its monitor starts it again.
    pub restart: RestartPolicy,
    /// Seconds that it has to end when it was asked to stop.
    pub stop_timeout: Option<Timeout>,
    /// How much is kept of what it writes in the background.
    pub log: Rotation,
    /// Whether it has no log that anybody reads later.
    pub no_log: bool,
    /// Names of its labels that `logs --details` shows.
    pub log_labels: Vec<String>,
    /// Names of its variables that `logs --details` shows.
    pub log_variables: Vec<String>,
    /// How to find out whether it works.
    pub health: HealthRequest,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// One of a process's three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StandardStream {
    /// What it reads.
    Input,
    /// What it writes.
    Output,
    /// What it complains of.
    Error,
}

/// `-v SOURCE:DESTINATION[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
    /// It cannot be written through this mount.
    pub read_only: bool,
    /// Who sees later mounts below it.
    #[serde(default)]
    pub propagation: Propagation,
}

/// `-v [NAME:]DESTINATION[:ro,nocopy]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedVolume {
    /// Its name; without one it is the container's own.
    pub name: Option<String>,
    /// In the container.
    pub destination: PathBuf,
    /// It cannot be written through this mount.
    pub read_only: bool,
    /// What the image has in its place is not copied into it.
    pub no_copy: bool,
    /// It was another container's first: it must be there.
    #[serde(default)]
    pub borrowed: bool,
}

/// `--mount type=image,source=IMAGE,target=DESTINATION`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageMount {
    /// The image as the user names it.
    pub image: String,
    /// Its manifest, when it has been found.
    pub manifest: Option<Digest>,
    /// In the container.
    pub destination: PathBuf,
}

/// `--volumes-from CONTAINER[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumesFrom {
    /// Its name or id, as it was asked for.
    pub container: String,
    /// None of them can be written through these mounts.
    pub read_only: bool,
}

/// Who sees a mount that is made below a volume later (mount_namespaces(7)); the mounts that are
/// there already count too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Propagation {
    /// Who made it.
    #[default]
    Private,
    /// What the host mounts, the container sees.
    Slave,
    /// And the reverse.
    Shared,
}

/// `--tmpfs DESTINATION[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tmpfs {
    /// In the container.
    pub destination: PathBuf,
    /// As mount(8) takes them.
    pub options: Vec<String>,
}

/// `--device SOURCE[:DESTINATION][:ACCESS]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// A device of the host, or a directory of such.
    pub source: PathBuf,
    /// In the container, below /dev.
    pub destination: PathBuf,
    /// What may be done with it: letters of `rwm`.
    #[serde(default = "all_access")]
    pub access: String,
}

/// What requests have that were kept before there was a choice.
fn all_access() -> String {
    "rwm".to_owned()
}

/// `--ulimit NAME=SOFT[:HARD]`; `u64::MAX` is no limit (getrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ulimit {
    /// As the runtime spec names it: `RLIMIT_NOFILE`.
    pub kind: PosixRlimitType,
    /// What is in force.
    pub soft: u64,
    /// How far a process may raise it.
    pub hard: u64,
}

/// `--network`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkMode {
    /// A network namespace with eth0 on the bridge.
    #[default]
    Bridge,
    /// The host's own network namespace.
    Host,
    /// A network namespace with nothing but loopback.
    None,
    /// That of another container, by name or id.
    Container(String),
}

impl fmt::Display for NetworkMode {
    /// As `--network` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge => f.write_str("bridge"),
            Self::Host => f.write_str("host"),
            Self::None => f.write_str("none"),
            Self::Container(name) => write!(f, "container:{name}"),
        }
    }
}

/// `--pid`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PidMode {
    /// Its first process is pid 1, and it sees no other's.
    #[default]
    Own,
    /// It sees the host's processes.
    Host,
    /// It sees those of another container, by name or id.
    Container(String),
}

/// `--ipc`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IpcMode {
    /// Its own.
    #[default]
    Own,
    /// Its own, and others may join it.
    Shareable,
    /// Its own, without /dev/shm.
    None,
    /// The host's.
    Host,
    /// Those of another container, by name or id.
    Container(String),
}

/// `--cgroupns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CgroupMode {
    /// Its own, as if there were no others.
    #[default]
    Own,
    /// The host's.
    Host,
}

/// `--uts`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UtsMode {
    /// Its own.
    #[default]
    Own,
    /// The host's, which it can change with the capability to.
    Host,
    /// That of another container, by name or id.
    Container(String),
}

/// The kernel's least useful memory limit, as Docker has it: below, nothing even starts.
const LEAST_MEMORY: u64 = 6 << 20;

impl RunRequest {
    /// Whether this stream leads to whoever runs it in the foreground.
    pub fn is_attached(&self, stream: StandardStream) -> bool {
        self.attach.is_empty() || self.attach.contains(&stream)
    }

    /// Whether standard input is all that leads there: nothing is shown.
    pub fn attaches_input_only(&self) -> bool {
        self.attach.iter().eq([&StandardStream::Input])
    }

    /// Refuses flags about what is not the container's own.
    fn check_shared(&self) -> Result<(), Error> {
        let conflict = |text: String| Err(Error::Conflict(text));
        if let NetworkMode::Container(name) = &self.network {
            let of_the_other = [
                (self.hostname.is_some(), "--hostname"),
                (self.domainname.is_some(), "--domainname"),
                (!self.dns.is_empty(), "--dns"),
                (!self.dns_search.is_empty(), "--dns-search"),
                (!self.dns_options.is_empty(), "--dns-option"),
                (!self.add_host.is_empty(), "--add-host"),
                (!self.publish.is_empty(), "--publish"),
                (self.publish_all, "--publish-all"),
                (!self.expose.is_empty(), "--expose"),
                (self.uts != UtsMode::Own, "--uts"),
            ];
            if let Some((_, flag)) = of_the_other.iter().find(|(given, _)| *given) {
                return conflict(format!(
                    "{flag} does not go with --network container:{name}: that is the other container's"
                ));
            }
        }
        let names = [
            (self.hostname.is_some(), "--hostname"),
            (self.domainname.is_some(), "--domainname"),
        ];
        if let Some((_, flag)) = names.iter().find(|(given, _)| *given) {
            match &self.uts {
                UtsMode::Own => {}
                UtsMode::Host => {
                    return conflict(format!(
                        "{flag} does not go with --uts host: it would rename the host"
                    ));
                }
                UtsMode::Container(name) => {
                    return conflict(format!(
                        "{flag} does not go with --uts container:{name}: it would rename that one"
                    ));
                }
            }
        }
        if self.init && self.pid != PidMode::Own {
            return conflict("--init needs a pid namespace of the container's own".into());
        }
        if self.shm_size.is_some() {
            match &self.ipc {
                IpcMode::Own | IpcMode::Shareable => {}
                IpcMode::None => {
                    return conflict(
                        "--shm-size does not go with --ipc none: there is no /dev/shm".into(),
                    );
                }
                IpcMode::Host => {
                    return conflict(
                        "--shm-size does not go with --ipc host: /dev/shm is the host's".into(),
                    );
                }
                IpcMode::Container(name) => {
                    return conflict(format!(
                        "--shm-size does not go with --ipc container:{name}: /dev/shm is that one's"
                    ));
                }
            }
        }
        let shares_network = matches!(self.network, NetworkMode::Host | NetworkMode::Container(_));
        for name in self.sysctls.keys() {
            let (shared, flag) = if sysctl::is_of_network(name) {
                (shares_network, "--network")
            } else {
                (
                    matches!(self.ipc, IpcMode::Host | IpcMode::Container(_)),
                    "--ipc",
                )
            };
            if shared {
                return conflict(format!(
                    "--sysctl {name} would change more than the container: its {flag} is not its own"
                ));
            }
        }
        Ok(())
    }

    /// Where something of the user's is mounted.
    pub fn mount_points(&self) -> impl Iterator<Item = &Path> {
        let binds = self.volumes.iter().map(|it| &it.destination);
        let volumes = self.named_volumes.iter().map(|it| &it.destination);
        let tmpfs = self.tmpfs.iter().map(|it| &it.destination);
        let images = self.image_mounts.iter().map(|it| &it.destination);
        let all = binds.chain(volumes).chain(tmpfs).chain(images);
        all.map(PathBuf::as_path)
    }

    /// Refuses what contradicts itself.
    pub fn check(&self) -> Result<(), Error> {
        self.check_shared()?;
        let conflict = |text: &str| Err(Error::Conflict(text.to_owned()));
        if self.ip.is_some() && self.network != NetworkMode::Bridge {
            return conflict("--ip needs --network bridge");
        }
        if self.mac.is_some() && self.network != NetworkMode::Bridge {
            return conflict("--mac-address needs --network bridge");
        }
        let dev = Path::new("/dev");
        if !self.devices.is_empty() && self.mount_points().any(|it| it == dev) {
            return conflict("--device and a volume on /dev do not go together");
        }
        let publishes = self.publish_all || !self.publish.is_empty();
        if publishes && self.network == NetworkMode::None {
            return conflict(
                "-p and -P need --network bridge: without a network there is nothing to reach",
            );
        }
        if self.remove && self.restart != RestartPolicy::No {
            return conflict("--rm removes what --restart would start again");
        }
        let reserved = self.limits.memory_reservation;
        if reserved
            .zip(self.limits.memory)
            .is_some_and(|(low, limit)| low > limit)
        {
            return conflict("--memory-reservation must not be above --memory");
        }
        match (self.limits.memory, self.limits.swap) {
            (Some(memory), _) if memory < LEAST_MEMORY => conflict("--memory must be at least 6m"),
            (None, Some(Swap::Total(_))) => conflict("--memory-swap needs --memory"),
            (None, _) if self.limits.waits_for_memory => {
                conflict("--oom-kill-disable needs --memory: without a limit nobody waits")
            }
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
        let alone = |swap| {
            let mut request = RunRequest::default();
            request.limits.swap = Some(swap);
            request.check()
        };
        assert!(alone(Swap::Total(32 << 20)).is_err());
        assert!(alone(Swap::Unlimited).is_ok());
        let reservation = with(|it| {
            it.limits.memory = Some(64 << 20);
            it.limits.memory_reservation = Some(65 << 20);
        });
        assert!(reservation.unwrap_err().contains("--memory-reservation"));
    }
}
