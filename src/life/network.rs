//! A container's place on the bridge: the bridge made ready, an address leased.

use anyhow::{Result, bail};

use crate::container::{ContainerId, Places, Record};
use crate::kernel::netlink::Netlink;
use crate::net::bridge::{self, Network, Ready, Wanted};
use crate::net::{ipam, names};
use crate::plan::{Bridged, NetworkMode, RunRequest};

/// Makes the bridge ready and leases an address; `None` where the container is not on a bridge.
pub(super) fn attach(
    places: &Places,
    request: &RunRequest,
    id: &ContainerId,
    resolv_conf: &str,
    note: &mut dyn FnMut(&str),
) -> Result<Option<(Bridged, Ready)>> {
    if request.network != NetworkMode::Bridge {
        return Ok(None);
    }
    let file = places.network();
    let wanted = wanted(places, request, &file, resolv_conf);
    let ready = bridge::ensure(&mut Netlink::open()?, &wanted)?;
    ready.notes.iter().for_each(|text| note(text));
    let subnet = ready.network.subnet;
    let address = ipam::lease(&places.leases(), subnet, id.as_str(), request.ip)?;
    Ok(Some((place(places, &ready.network, id, address), ready)))
}

/// The place that [`attach`] would give.
pub(super) fn peek(
    places: &Places,
    request: &RunRequest,
    id: &ContainerId,
    resolv_conf: &str,
) -> Result<Option<Bridged>> {
    if request.network != NetworkMode::Bridge {
        return Ok(None);
    }
    let file = places.network();
    let network = bridge::peek(&wanted(places, request, &file, resolv_conf))?;
    let address = ipam::peek(&places.leases(), network.subnet, request.ip)?;
    Ok(Some(place(places, &network, id, address)))
}

fn wanted<'a>(
    places: &'a Places,
    request: &RunRequest,
    file: &'a std::path::Path,
    resolv_conf: &str,
) -> Wanted<'a> {
    // Only whether a resolver is needed matters here; its address does not depend on the gateway.
    let any_gateway = std::net::Ipv4Addr::UNSPECIFIED;
    let resolver = names::bridged_resolver(resolv_conf, &request.dns, any_gateway).forward_to;
    Wanted {
        bridge: &places.bridge,
        file,
        root: &places.root,
        resolver,
    }
}

fn place(
    places: &Places,
    network: &Network,
    id: &ContainerId,
    address: std::net::Ipv4Addr,
) -> Bridged {
    Bridged {
        bridge: network.bridge.clone(),
        alias: bridge::alias(&places.root),
        subnet: network.subnet,
        address,
        veth: id.veth(),
        resolver: network.resolver,
    }
}

/// A line of `mybox network ls`.
#[derive(Debug, serde::Serialize)]
pub struct NetworkRow {
    /// The bridge and its range.
    #[serde(flatten)]
    pub network: Network,
    /// The first address, which is the bridge's.
    pub gateway: std::net::Ipv4Addr,
    /// Whether the bridge exists on the host now.
    pub up: bool,
    /// How many containers are on it.
    pub containers: usize,
}

/// The networks of this root.
pub fn list_networks(places: &Places) -> Result<Vec<NetworkRow>> {
    let dir = places.root.join("networks");
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut netlink = Netlink::open()?;
    let mut rows = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Some(network) = bridge::remembered(&path)? else {
            continue;
        };
        let leases = Places {
            bridge: network.bridge.clone(),
            ..places.clone()
        }
        .leases();
        rows.push(NetworkRow {
            gateway: network.subnet.gateway(),
            up: netlink.link(&network.bridge)?.is_some_and(|link| link.up),
            containers: ipam::leased(&leases)?.len(),
            network,
        });
    }
    rows.sort_by(|a, b| a.network.bridge.cmp(&b.network.bridge));
    Ok(rows)
}

/// Removes a bridge that no container is on, its firewall elements and its leases' directory.
pub fn remove_network(places: &Places) -> Result<()> {
    let leases = places.leases();
    let names: Vec<String> = Record::all(places)?
        .into_iter()
        .filter(|record| {
            let address = record
                .address
                .map(|address| leases.join(address.to_string()));
            address
                .and_then(|link| std::fs::read_link(link).ok())
                .is_some_and(|owner| owner.as_os_str() == record.id.as_str())
        })
        .map(|record| record.name)
        .collect();
    if !names.is_empty() {
        bail!(
            "network {} is in use by {}",
            places.bridge,
            names.join(", ")
        );
    }
    if !ipam::leased(&leases)?.is_empty() {
        bail!(
            "network {} is in use by a container that is just starting",
            places.bridge
        );
    }
    let file = places.network();
    let wanted = Wanted {
        bridge: &places.bridge,
        file: &file,
        root: &places.root,
        resolver: None,
    };
    if !bridge::remove(&wanted)? {
        bail!("there is no network {}", places.bridge);
    }
    match std::fs::remove_dir(&leases) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
