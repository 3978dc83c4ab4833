//! What only one container can have is claimed before anything is planned: the id's directory
//! under the run root, the name, the address. The claim comes first, so that whoever finds it
//! without its supervisor gives back the rest.

use anyhow::{Context, Result};
use mybox_store::Stack;
use oci_spec::runtime::Capabilities;

use super::teardown::{self, Seen};
use super::{joined, network, rights};
use crate::container::{Claim, ContainerId, Files, Places, names};
use crate::kernel::cgroup::{Group, Hierarchy, Host};
use crate::kernel::namespace;
use crate::net::bridge::Ready;
use crate::net::names::{host_hosts, host_resolv_conf};
use crate::net::ports::Held;
use crate::plan::ports::Ports;
use crate::plan::{Bridged, Given, GivenDevice, Joined, Layer, NetworkMode, RunRequest};

/// A container that has all it needs to be planned.
pub struct Prepared {
    /// The right to be its supervisor.
    pub claim: Claim,
    /// What the plan is made from.
    pub given: Given,
    /// The bridge it will be attached to.
    pub bridge: Option<Ready>,
    /// Keeps its ports from others.
    pub held: Held,
}

/// Which container is to be started.
#[derive(Debug)]
pub enum Who {
    /// One that is not there yet.
    New,
    /// One that is there and does not run.
    There(ContainerId, String),
    /// The same, claimed already.
    Claimed(Claim, String),
}

impl Who {
    fn claim(self, places: &Places) -> Result<(Claim, Option<String>)> {
        let (id, name) = match self {
            Self::New => (ContainerId::random().context("make a container id")?, None),
            Self::There(id, name) => (id, Some(name)),
            Self::Claimed(claim, name) => return Ok((claim, Some(name))),
        };
        if let Some(name) = name {
            let claim = teardown::claim_there(places, &id, &name)?;
            Ok((claim, Some(name)))
        } else {
            let claim = Claim::new(places, &id)
                .with_context(|| format!("claim {}", places.live_container(&id).display()))?;
            Ok((claim, None))
        }
    }
}

/// Claims id, name and address.
pub fn claim(
    places: &Places,
    request: &RunRequest,
    who: Who,
    ports: &Ports,
    layers: &Stack,
    note: &mut dyn FnMut(&str),
) -> Result<Prepared> {
    let (claim, name) = who.claim(places)?;
    let id = claim.id().clone();
    let rest = || -> Result<(Given, Option<Ready>, Held)> {
        let name = match name {
            Some(name) => name,
            None => names::claim_or_invent(places, request.name.as_deref(), &id)?,
        };
        // Before the network: a limit that cannot be enforced is no reason to make a bridge.
        let share = Share::find(places, &id, request)?;
        if let Some(text) = rights::without_device_rules(request, &share.group)? {
            note(text);
        }
        let resolv_conf = host_resolv_conf();
        let attached = network::attach(places, request, ports, &id, &resolv_conf, note)?;
        let (bridged, bridge, held) = match attached {
            Some(it) => (Some(it.bridged), Some(it.bridge), it.held),
            None => (None, None, Held::default()),
        };
        let id = id.clone();
        let given = given(places, layers, share, id, name, bridged, resolv_conf);
        Ok((given, bridge, held))
    };
    match rest() {
        Ok((given, bridge, held)) => Ok(Prepared {
            claim,
            given,
            bridge,
            held,
        }),
        Err(error) => {
            // What went wrong first is what the user wants to read; what could not be given back
            // is found by the next command, since the claim's directory stays then.
            if let Err(undo) = teardown::teardown(places, claim, Seen::NeverStarted(125)) {
                tracing::debug!("after a failed start: {undo:#}");
            }
            Err(error)
        }
    }
}

/// What [`claim`] would give to this one, with nothing taken or made.
pub fn peek(
    places: &Places,
    request: &RunRequest,
    ports: &Ports,
    layers: &Stack,
    (id, name): (ContainerId, String),
) -> Result<Given> {
    let resolv_conf = host_resolv_conf();
    let bridged = network::peek(places, request, ports, &id, &resolv_conf)?;
    let share = Share::find(places, &id, request)?;
    rights::without_device_rules(request, &share.group)?;
    Ok(given(places, layers, share, id, name, bridged, resolv_conf))
}

/// What a container gets of the host.
struct Share {
    group: Group,
    hierarchies: Vec<Hierarchy>,
    held: Capabilities,
    devices: Vec<GivenDevice>,
    joined: Joined,
    host_name: String,
    host_hosts: Option<String>,
}

impl Share {
    fn find(places: &Places, id: &ContainerId, request: &RunRequest) -> Result<Self> {
        let host = Host::detect()?;
        let parent = request.cgroup_parent.as_deref();
        let group = host.group(id.as_str(), &request.limits, parent)?;
        Ok(Self {
            hierarchies: host.hierarchies_of(&group),
            group,
            held: rights::held()?,
            devices: rights::devices(request)?,
            joined: joined::find(places, request)?,
            host_name: namespace::host_name(),
            host_hosts: match request.network {
                NetworkMode::Host => host_hosts(),
                _ => None,
            },
        })
    }
}

fn given(
    places: &Places,
    layers: &Stack,
    share: Share,
    id: ContainerId,
    name: String,
    bridged: Option<Bridged>,
    host_resolv_conf: String,
) -> Given {
    Given {
        files: Files::of(places.container(&id)),
        hierarchies: share.hierarchies,
        cgroup: share.group,
        held: share.held,
        devices: share.devices,
        joined: share.joined,
        host_name: share.host_name,
        volumes: places.volumes(),
        layers: layers.layers().iter().map(Layer::from).collect(),
        id,
        name,
        bridged,
        host_resolv_conf,
        host_hosts: share.host_hosts,
    }
}
