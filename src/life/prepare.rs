//! What only one container can have is claimed before anything is planned: the id's directory
//! under the run root, the name, the address. The claim comes first, so that whoever finds it
//! without its supervisor gives back the rest.

use anyhow::{Context, Result};
use mybox_store::Stack;

use super::network;
use super::teardown::{self, Seen};
use crate::container::{Claim, ContainerId, Files, Places, names};
use crate::kernel::cgroup::{Group, Hierarchy, Host};
use crate::net::bridge::Ready;
use crate::net::names::host_resolv_conf;
use crate::plan::{Bridged, Given, Layer, RunRequest};

/// A container that has all it needs to be planned.
pub struct Prepared {
    /// The right to be its supervisor.
    pub claim: Claim,
    /// What the plan is made from.
    pub given: Given,
    /// The bridge it will be attached to.
    pub bridge: Option<Ready>,
}

/// Claims id, name and address.
pub fn claim(
    places: &Places,
    request: &RunRequest,
    layers: &Stack,
    note: &mut dyn FnMut(&str),
) -> Result<Prepared> {
    let id = ContainerId::random().context("make a container id")?;
    let claim = Claim::new(places, &id)
        .with_context(|| format!("claim {}", places.live_container(&id).display()))?;
    let mut rest = || -> Result<(Given, Option<Ready>)> {
        let name = match &request.name {
            Some(name) => names::claim(places, name, &id).map(|()| name.clone())?,
            None => names::claim_any(places, &id)?,
        };
        // Before the network: a limit that cannot be enforced is no reason to make a bridge.
        let cgroups = Cgroups::find(&id, request)?;
        let resolv_conf = host_resolv_conf();
        let attached = network::attach(places, request, &id, &resolv_conf, note)?;
        let (bridged, bridge) = attached.unzip();
        let id = id.clone();
        let given = given(places, layers, cgroups, id, name, bridged, resolv_conf);
        Ok((given, bridge))
    };
    match rest() {
        Ok((given, bridge)) => Ok(Prepared {
            claim,
            given,
            bridge,
        }),
        Err(error) => {
            // What went wrong first is what the user wants to read; what could not be given back
            // is found by the next command, since the claim's directory stays then.
            if let Err(undo) = teardown::teardown(places, claim, Seen::NeverStarted) {
                tracing::debug!("after a failed start: {undo:#}");
            }
            Err(error)
        }
    }
}

/// What [`claim`] would give, with nothing taken or made.
pub fn peek(places: &Places, request: &RunRequest, layers: &Stack) -> Result<Given> {
    let id = ContainerId::random().context("make a container id")?;
    let name = request.name.clone().unwrap_or_else(|| "dry_run".to_owned());
    names::check(&name)?;
    let resolv_conf = host_resolv_conf();
    let bridged = network::peek(places, request, &id, &resolv_conf)?;
    let cgroups = Cgroups::find(&id, request)?;
    Ok(given(
        places,
        layers,
        cgroups,
        id,
        name,
        bridged,
        resolv_conf,
    ))
}

/// Where a container's cgroups will be.
struct Cgroups {
    group: Group,
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    fn find(id: &ContainerId, request: &RunRequest) -> Result<Self> {
        let host = Host::detect()?;
        let group = host.group(id.as_str(), &request.limits)?;
        Ok(Self {
            hierarchies: host.hierarchies_of(&group),
            group,
        })
    }
}

fn given(
    places: &Places,
    layers: &Stack,
    cgroups: Cgroups,
    id: ContainerId,
    name: String,
    bridged: Option<Bridged>,
    host_resolv_conf: String,
) -> Given {
    Given {
        files: Files::of(places.container(&id)),
        hierarchies: cgroups.hierarchies,
        cgroup: cgroups.group,
        layers: layers.layers().iter().map(Layer::from).collect(),
        id,
        name,
        bridged,
        host_resolv_conf,
    }
}
