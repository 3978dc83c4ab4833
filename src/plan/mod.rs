//! From what the user typed and what the image says to what will be done. Pure: nothing here
//! touches the host, so `run`, `--dry-run` and the tests see the same plan.
//!
//! [`RunRequest`] + image config + [`Given`] -> [`RunPlan`]. The plan holds an OCI runtime spec, which
//! is all that the launcher goes by inside the container, and beside it what a spec cannot say.

pub mod capabilities;
pub mod committed;
pub mod devices;
pub mod exec;
pub mod explain;
pub mod health;
pub mod ports;
mod process;
mod seccomp;
pub mod request;
mod spec;
pub mod sysctl;
mod volumes;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use mybox_store::{ImageConfig, Indexed, Lower};
use oci_spec::runtime::{Capabilities, LinuxNamespaceType, Process, Spec};

use crate::container::health::Check;
use crate::container::port::Published;
use crate::container::{ContainerId, Files};
use crate::kernel::cgroup::{Group, Hierarchy, Limits};
use crate::net::Subnet;

pub use devices::GivenDevice;
pub use exec::ExecRequest;
pub use process::entrypoint_and_command;
pub use request::{
    CgroupMode, ImageMount, IpcMode, NetworkMode, PidMode, RunRequest, StandardStream, UtsMode,
};
pub use spec::{IMAGE_MOUNT, SHM, is_own_etc_file};
pub use volumes::Volume;

/// Why a request cannot be carried out as it stands.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither the user nor the image says what to execute.
    #[error("no command: the image has neither Cmd nor Entrypoint, and none was given")]
    NoCommand,
    /// Two flags, or a flag and the image, do not fit together.
    #[error("{0}")]
    Conflict(String),
    /// The image's config has a value that means nothing.
    #[error("the image's {field} `{value}` {problem}")]
    Image {
        /// The field of the image config.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The OCI spec could not be put together.
    #[error("put together the runtime spec")]
    Spec(#[from] oci_spec::OciSpecError),
}

/// What the host gives to a container, found out or claimed before planning.
#[derive(Debug)]
pub struct Given {
    /// The container's id.
    pub id: ContainerId,
    /// The container's name.
    pub name: String,
    /// The container's files.
    pub files: Files,
    /// Where volumes are kept.
    pub volumes: PathBuf,
    /// Lower layers, the base first.
    pub layers: Vec<Layer>,
    /// The cgroup directories it gets.
    pub cgroup: Group,
    /// The hierarchies these are in.
    pub hierarchies: Vec<Hierarchy>,
    /// Bridge and address, if it is on a bridge.
    pub bridged: Option<Bridged>,
    /// The host's /etc/resolv.conf.
    pub host_resolv_conf: String,
    /// The host's /etc/hosts, with [`NetworkMode::Host`].
    pub host_hosts: Option<String>,
    /// The capabilities that mybox itself has.
    pub held: Capabilities,
    /// Devices of the host that it gets.
    pub devices: Vec<GivenDevice>,
    /// The containers whose namespaces it joins.
    pub joined: Joined,
    /// The host's name.
    pub host_name: String,
}

/// Containers that another one shares namespaces with.
#[derive(Debug, Clone, Default)]
pub struct Joined {
    /// Whose processes it sees.
    pub pid: Option<Neighbour>,
    /// Whose network it is on.
    pub network: Option<Neighbour>,
    /// Whose memory and message queues it shares.
    pub ipc: Option<Neighbour>,
    /// Whose name it has.
    pub uts: Option<Neighbour>,
}

/// A container that runs.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its first process: pid and start time.
    pub process: (i32, u64),
    /// Its host name.
    pub hostname: String,
    /// Its files.
    pub files: Files,
}

/// A lower layer of the container's overlay, as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layer {
    /// A tree of files.
    Tree(PathBuf),
    /// An EROFS image to mount, and the files that its data lies in.
    Indexed {
        /// The image.
        index: PathBuf,
        /// Its devices, in their order.
        devices: Vec<PathBuf>,
    },
}

impl From<&Lower> for Layer {
    fn from(lower: &Lower) -> Self {
        match lower {
            Lower::Tree(tree) => Self::Tree(tree.path.clone()),
            Lower::Indexed(Indexed { index, devices }) => Self::Indexed {
                index: index.path.clone(),
                devices: devices.iter().map(|device| device.path.clone()).collect(),
            },
        }
    }
}

/// A container's place on the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridged {
    /// Name of the bridge.
    pub bridge: String,
    /// Its range; the gateway is its first address.
    pub subnet: Subnet,
    /// The container's address.
    pub address: Ipv4Addr,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// What marks the bridge as this root's.
    pub alias: String,
    /// Ports of the host that lead to it.
    pub ports: Vec<Published>,
    /// The host's end of the veth pair.
    pub veth: String,
    /// The loopback resolver that the gateway sends queries on to.
    pub resolver: Option<Ipv4Addr>,
}

impl Bridged {
    /// Each port with where it leads to.
    pub fn published(&self) -> Vec<(Published, Ipv4Addr)> {
        self.ports
            .iter()
            .map(|port| (*port, self.address))
            .collect()
    }
}

/// Everything about one run, decided.
#[derive(Debug)]
pub struct RunPlan {
    /// The container.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// The image as the user named it.
    pub image: String,
    /// Its files.
    pub files: Files,
    /// The runtime spec: process, mounts, namespaces, capabilities.
    pub spec: Spec,
    /// Lower layers, the base first.
    pub layers: Vec<Layer>,
    /// Its volumes, named or not.
    pub volumes: Vec<Volume>,
    /// Images that it can read beside its own.
    pub images: Vec<ImageMount>,
    /// Text of hostname, hosts and resolv.conf.
    pub etc: [(&'static str, String); 3],
    /// Which network it has.
    pub network: NetworkMode,
    /// The containers whose namespaces it joins.
    pub joined: Joined,
    /// Its place on the bridge, with [`NetworkMode::Bridge`].
    pub bridged: Option<Bridged>,
    /// What it may use.
    pub limits: Limits,
    /// Its cgroup directories.
    pub cgroup: Group,
    /// The hierarchies these are in: what it sees under /sys/fs/cgroup.
    pub hierarchies: Vec<Hierarchy>,
    /// Whether what is typed goes to it.
    pub interactive: bool,
    /// Whether a small reaper of ours is pid 1.
    pub init: bool,
    /// Whether everything goes when it ends.
    pub remove: bool,
    /// The signal that asks it to stop, by name.
    pub stop_signal: String,
    /// How to find out whether it works.
    pub health: Option<Check>,
}

impl RunPlan {
    /// Whether it sees its own part of the cgroups alone.
    pub fn has_cgroup_namespace(&self) -> bool {
        let linux = self.spec.linux().as_ref();
        let all = linux.and_then(|linux| linux.namespaces().as_ref());
        all.into_iter()
            .flatten()
            .any(|it| it.typ() == LinuxNamespaceType::Cgroup)
    }

    /// The command line that will be executed.
    pub fn command(&self) -> &[String] {
        let process = self.spec.process().as_ref();
        process
            .and_then(|process| process.args().as_deref())
            .unwrap_or_default()
    }

    /// What is executed, as whom, with which rights.
    pub fn process(&self) -> Result<&Process, Error> {
        self.spec.process().as_ref().ok_or(Error::NoCommand)
    }

    /// Whether the container has a terminal of its own.
    pub fn terminal(&self) -> bool {
        self.spec
            .process()
            .as_ref()
            .and_then(|process| process.terminal())
            .unwrap_or(false)
    }
}

/// The groups that a command of this container has beside its user's, by name or number.
pub fn groups(spec: &Spec) -> Vec<String> {
    spec::groups(spec)
}

/// Whoever is on the host's network has its name too, as with Docker, though in a namespace of his own.
fn shares_the_hosts_name(request: &RunRequest) -> bool {
    request.uts == UtsMode::Host || request.network == NetworkMode::Host
}

/// What the UTS namespace it is in says, or will say.
fn hostname(request: &RunRequest, given: &Given) -> String {
    let neighbour = given.joined.network.as_ref().or(given.joined.uts.as_ref());
    match (neighbour, &request.hostname) {
        (Some(neighbour), _) => neighbour.hostname.clone(),
        (None, Some(hostname)) => hostname.clone(),
        (None, None) if shares_the_hosts_name(request) => given.host_name.clone(),
        (None, None) => given.id.short().to_owned(),
    }
}

/// Decides everything.
pub fn plan(request: &RunRequest, image: &ImageConfig, given: Given) -> Result<RunPlan, Error> {
    request.check()?;
    let hostname = hostname(request, &given);
    let volumes = volumes::wanted(request, image, &given)?;
    let spec = spec::runtime_spec(request, image, &given, &hostname, &volumes)?;
    let etc = spec::etc_files(request, &given, &hostname);
    Ok(RunPlan {
        id: given.id,
        name: given.name,
        image: request.image.clone(),
        files: given.files,
        spec,
        layers: given.layers,
        volumes,
        images: request.image_mounts.clone(),
        etc,
        network: request.network.clone(),
        joined: given.joined,
        bridged: given.bridged,
        limits: request.limits.clone(),
        cgroup: given.cgroup,
        hierarchies: given.hierarchies,
        interactive: request.interactive && request.is_attached(StandardStream::Input),
        init: request.init,
        remove: request.remove,
        stop_signal: process::stop_signal(request, image)?,
        health: health::check(&request.health, image)?,
    })
}
