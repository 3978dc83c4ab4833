//! A container's place on the bridge: the bridge made ready, an address leased.

use anyhow::{Result, bail};

use crate::container::port::Published;
use crate::container::{ContainerId, Places, Record};
use crate::kernel::file::{existing, gone};
use crate::kernel::namespace;
use crate::kernel::netlink::Netlink;
use crate::net::bridge::{self, Network, Ready, Wanted};
use crate::net::ports::Held;
use crate::net::{flows, ipam, names, nat, ports};
use crate::plan::ports::Ports;
use crate::plan::{Bridged, NetworkMode, RunRequest};

/// A container's place on the bridge, and what is needed to take it.
pub(super) struct Attached {
    pub(super) bridged: Bridged,
    pub(super) bridge: Ready,
    pub(super) held: Held,
}

/// Makes the bridge ready, leases an address and claims ports; `None` where the container is not on a
/// bridge.
pub(super) fn attach(
    places: &Places,
    request: &RunRequest,
    wanted_ports: &Ports,
    id: &ContainerId,
    resolv_conf: &str,
    note: &mut dyn FnMut(&str),
) -> Result<Option<Attached>> {
    if request.network == NetworkMode::Host && !wanted_ports.publish.is_empty() {
        note(
            "on the host's network the container's ports are the host's own; -p and -P do nothing",
        );
    }
    if request.network != NetworkMode::Bridge {
        return Ok(None);
    }
    let resolver = resolver(request, resolv_conf);
    if resolver.is_public {
        let [first, second] = names::PUBLIC;
        note(&format!(
            "the host has no name server that a container can reach: {first} and {second} are asked \
             (--dns gives others)"
        ));
    }
    let file = places.network();
    let wanted = wanted(places, &file, &resolver);
    let ready = bridge::ensure(&mut Netlink::open()?, &wanted)?;
    ready.notes.iter().for_each(|text| note(text));
    let subnet = ready.network.subnet;
    let address = ipam::lease(&places.leases(), subnet, id.as_str(), request.ip)?;
    let (ports, held) = ports::claim(places, id, &wanted_ports.publish)?;
    Ok(Some(Attached {
        bridged: place(places, request, &ready.network, id, address, ports),
        bridge: ready,
        held,
    }))
}

/// The place that [`attach`] would give.
pub(super) fn peek(
    places: &Places,
    request: &RunRequest,
    wanted_ports: &Ports,
    id: &ContainerId,
    resolv_conf: &str,
) -> Result<Option<Bridged>> {
    if request.network != NetworkMode::Bridge {
        return Ok(None);
    }
    let file = places.network();
    let network = bridge::peek(&wanted(places, &file, &resolver(request, resolv_conf)))?;
    let address = ipam::peek(&places.leases(), network.subnet, request.ip)?;
    let ports = ports::peek(places, id, &wanted_ports.publish)?;
    Ok(Some(place(places, request, &network, id, address, ports)))
}

fn wanted<'a>(
    places: &'a Places,
    file: &'a std::path::Path,
    resolver: &names::Resolver,
) -> Wanted<'a> {
    Wanted {
        resolver: resolver.forward_to,
        ..bridge_of(places, file)
    }
}

/// Which resolver is needed: that does not depend on the gateway.
fn resolver(request: &RunRequest, resolv_conf: &str) -> names::Resolver {
    names::bridged_resolver(resolv_conf, &request.dns, std::net::Ipv4Addr::UNSPECIFIED)
}

fn place(
    places: &Places,
    request: &RunRequest,
    network: &Network,
    id: &ContainerId,
    address: std::net::Ipv4Addr,
    ports: Vec<Published>,
) -> Bridged {
    Bridged {
        bridge: network.bridge.clone(),
        alias: bridge::alias(&places.root),
        subnet: network.subnet,
        hardware: request.mac.unwrap_or(bridge::hardware_address(address)),
        address,
        ports,
        veth: id.veth(),
        resolver: network.resolver,
    }
}

/// Has the ports lead to the container.
pub(super) fn publish(places: &Places, bridged: &Bridged) -> Result<()> {
    let publish = || bridge::publish(&bridged.bridge, &bridged.published());
    if publish().is_ok() {
        return Ok(());
    }
    // Somebody has flushed the firewall since the bridge was made ready.
    restore(places)?;
    Ok(publish()?)
}

/// Takes a container's ports back: nothing leads to its address any more, and others may have them.
/// Which ports these are, its claims say: a record can be of an earlier start.
///
/// Under the lock of whoever puts the firewall in order, which would else find the claims and put back
/// what was taken away a moment ago.
pub(super) fn unpublish(places: &Places, id: &ContainerId) -> Result<()> {
    if ports::of(places, id)?.is_empty() {
        return Ok(());
    }
    let _lock = namespace::lock_network()?;
    let ports = ports::of(places, id)?;
    nat::unpublish(&ports)?;
    flows::forget(&ports, &ipam::of(&places.leases(), id.as_str())?)?;
    ports::release(places, id, &ports)?;
    Ok(())
}

/// The bridge of this root, without a resolver.
fn bridge_of<'a>(places: &'a Places, file: &'a std::path::Path) -> Wanted<'a> {
    Wanted {
        bridge: &places.bridge,
        file,
        root: &places.root,
        places,
        resolver: None,
    }
}

/// Puts the network in order where somebody has flushed the firewall while containers have ports.
pub fn restore(places: &Places) -> Result<()> {
    let file = places.network();
    let published = ports::published(places)?;
    if bridge::remembered(&file)?.is_none() || published.is_empty() {
        return Ok(());
    }
    let wanted = bridge_of(places, &file);
    bridge::ensure(&mut Netlink::open()?, &wanted)?;
    if nat::are_published(&published)? {
        return Ok(());
    }
    // Only the maps were flushed. No port is put back that is just being taken away.
    let _lock = namespace::lock_network()?;
    Ok(bridge::publish(&places.bridge, &ports::published(places)?)?)
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
    let Some(entries) = existing(std::fs::read_dir(&dir))? else {
        return Ok(Vec::new());
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
pub fn remove_network(places: &Places, note: &mut dyn FnMut(&str)) -> Result<()> {
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
    let wanted = bridge_of(places, &file);
    let Some(notes) = bridge::remove(&wanted)? else {
        bail!("there is no network {}", places.bridge);
    };
    notes.iter().for_each(|text| note(text));
    Ok(gone(std::fs::remove_dir(&leases))?)
}
