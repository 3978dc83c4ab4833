//! From what the user typed and what the image says to what will be done. Pure: nothing here
//! touches the host, so `run`, `--dry-run` and the tests see the same plan.
//!
//! [`RunRequest`] + image config + [`Given`] -> [`RunPlan`]. The plan holds an OCI runtime spec, which
//! is all that the launcher goes by inside the container, and beside it what a spec cannot say.

pub mod explain;
mod process;
mod seccomp;
pub mod request;
mod spec;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use mybox_store::{ImageConfig, Indexed, Lower};
use oci_spec::runtime::Spec;

use crate::container::{ContainerId, Files};
use crate::kernel::cgroup::{Group, Hierarchy, Limits};
use crate::net::Subnet;

pub use request::{NetworkMode, RunRequest};

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
    /// What marks the bridge as this root's.
    pub alias: String,
    /// The host's end of the veth pair.
    pub veth: String,
    /// The loopback resolver that the gateway sends queries on to.
    pub resolver: Option<Ipv4Addr>,
}

/// A volume that the image asks for and the user did not name: the container's own directory,
/// which starts as a copy of what the image has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnonymousVolume {
    /// Where it appears in the container.
    pub destination: PathBuf,
    /// Where it lies on the host.
    pub source: PathBuf,
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
    /// Volumes that start as a copy of the image's directory.
    pub anonymous_volumes: Vec<AnonymousVolume>,
    /// Text of hostname, hosts and resolv.conf.
    pub etc: [(&'static str, String); 3],
    /// Which network it has.
    pub network: NetworkMode,
    /// Its place on the bridge, with [`NetworkMode::Bridge`].
    pub bridged: Option<Bridged>,
    /// What it may use.
    pub limits: Limits,
    /// Its cgroup directories.
    pub cgroup: Group,
    /// The hierarchies these are in: what it sees under /sys/fs/cgroup.
    pub hierarchies: Vec<Hierarchy>,
    /// Whether standard input stays open.
    pub interactive: bool,
    /// Whether a small reaper of ours is pid 1.
    pub init: bool,
    /// Whether everything goes when it ends.
    pub remove: bool,
}

impl RunPlan {
    /// The command line that will be executed.
    pub fn command(&self) -> &[String] {
        let process = self.spec.process().as_ref();
        process
            .and_then(|process| process.args().as_deref())
            .unwrap_or_default()
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

/// Decides everything.
pub fn plan(request: &RunRequest, image: &ImageConfig, given: Given) -> Result<RunPlan, Error> {
    request.check()?;
    let hostname = request
        .hostname
        .clone()
        .unwrap_or_else(|| given.id.short().to_owned());
    let volumes = spec::anonymous_volumes(request, image, &given.files)?;
    let spec = spec::runtime_spec(request, image, &given, &hostname, &volumes)?;
    let etc = spec::etc_files(request, &given, &hostname);
    Ok(RunPlan {
        id: given.id,
        name: given.name,
        image: request.image.clone(),
        files: given.files,
        spec,
        layers: given.layers,
        anonymous_volumes: volumes,
        etc,
        network: request.network,
        bridged: given.bridged,
        limits: request.limits.clone(),
        cgroup: given.cgroup,
        hierarchies: given.hierarchies,
        interactive: request.interactive,
        init: request.init,
        remove: request.remove,
    })
}
