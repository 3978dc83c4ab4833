//! The bridge: made when the first container needs it, kept afterwards (as docker0 is), removed by
//! `mybox network rm`. Its range is chosen once and remembered in `<root>/networks/<bridge>.json`.
//!
//! A run on a bridge that is as it should be asks the kernel a few questions and changes nothing.
//! Anything else happens under the network namespace's lock.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Subnet, flows, forward, nat, ports};
use crate::container::Places;
use crate::container::port::Published;
use crate::kernel::file::{Lasting, existing, gone, replace};
use crate::kernel::netlink::{Address, Netlink};
use crate::kernel::process::boot_id;
use crate::kernel::{self, namespace};

/// A route to more than 2^24 addresses is on the way to the outside, and takes no range: those of RFC 1918
/// have no more.
const LARGEST_TAKEN: u8 = 8;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel or nft refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A link of this name is something else.
    #[error("the link `{0}` exists and is not a bridge of mybox")]
    NotOurs(String),
    /// A bridge of this name serves another root.
    #[error("the bridge `{bridge}` belongs to the mybox root {owner}")]
    OtherRoot {
        /// The bridge.
        bridge: String,
        /// The root that made it.
        owner: String,
    },
    /// Every private range is in use.
    #[error("the host uses every private IPv4 range; none is left for the bridge")]
    NoRange,
    /// What is remembered of a bridge makes no sense any more.
    #[error("the record {} of the bridge `{bridge}` is damaged", path.display())]
    Damaged {
        /// The bridge.
        bridge: String,
        /// The remembered network's file.
        path: PathBuf,
        /// What its parser says.
        source: serde_json::Error,
    },
    /// The remembered network could not be read or written.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// What is remembered of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub bridge: String,
    /// Its range; the first address is the bridge's own.
    pub subnet: Subnet,
    /// The resolver on the host's loopback that queries to the gateway are sent on to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<Ipv4Addr>,
}

/// A bridge that is up.
#[derive(Debug, Clone)]
pub struct Ready {
    /// What it is.
    pub network: Network,
    /// Its interface index.
    pub index: u32,
    /// Things the user should know were changed on the host.
    pub notes: Vec<String>,
}

/// Where a bridge's settings come from and what it has to offer.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Name of the bridge.
    pub bridge: &'a str,
    /// The remembered network's file.
    pub file: &'a Path,
    /// Which root the bridge serves.
    pub root: &'a Path,
    /// Where the ports stand that are published.
    pub places: &'a Places,
    /// A resolver on the host's loopback that containers need.
    pub resolver: Option<Ipv4Addr>,
}

/// The network that [`ensure`] would give, without making anything.
pub fn peek(wanted: &Wanted<'_>) -> Result<Network, Error> {
    let network = match remembered(wanted.file)? {
        Some(network) => network,
        None => choose(&mut Netlink::open()?, wanted.bridge, None)?,
    };
    Ok(Network {
        resolver: wanted.resolver,
        ..network
    })
}

/// Sees to it that the bridge is up, has its address, and is in the firewall table.
pub fn ensure(netlink: &mut Netlink, wanted: &Wanted<'_>) -> Result<Ready, Error> {
    if let Some(ready) = as_it_should_be(netlink, wanted)? {
        return Ok(ready);
    }
    let _lock = namespace::lock_network()?;
    // Whoever held the lock before may have done it all.
    match as_it_should_be(netlink, wanted)? {
        Some(ready) => Ok(ready),
        None => set_up(netlink, wanted),
    }
}

/// Removes bridge, firewall elements and what is remembered; with the last bridge the table, and
/// forwarding if mybox switched it on. `None` if there was nothing, else what the user should know. If what
/// is remembered is damaged, the bridge itself tells its range.
pub fn remove(wanted: &Wanted<'_>) -> Result<Option<Vec<String>>, Error> {
    let _lock = namespace::lock_network()?;
    let mut netlink = Netlink::open()?;
    let link = netlink.link(wanted.bridge)?;
    let (is_remembered, range) = match remembered(wanted.file) {
        Ok(network) => (network.is_some(), network.map(|network| network.subnet)),
        Err(Error::Damaged { .. }) => (true, range_of(&mut netlink, link.as_ref())?),
        Err(error) => return Err(error),
    };
    if let Some(link) = &link {
        check_owner(link, is_remembered, wanted)?;
        // No container is on it, but the kernel may still be about to remove the last one's port.
        for port in netlink
            .ports(link)?
            .iter()
            .filter(|name| name.starts_with("veth"))
        {
            netlink.remove_link(port)?;
        }
        netlink.remove_link(wanted.bridge)?;
    }
    // Its record may have gone with the root directory, and the link with whoever cleaned up by hand.
    let is_known = is_remembered || link.is_none() && nat::has_bridge(wanted.bridge)?;
    let mut notes = Vec::new();
    if is_known {
        // Each step finds its part or finds it gone: somebody may have flushed the firewall, or a
        // removal was killed half-way. What tells of the rest goes last.
        kernel::nft::apply(&nat::removal(wanted.bridge, range)?)?;
        kernel::nft::apply(&forward::removal(wanted.bridge)?)?;
        if !nat::has_bridges()? {
            notes.extend(remove_table(&mut netlink, wanted.file)?);
        }
        forget(&forwarding_marker(wanted.file))?;
        forget(wanted.file)?;
    }
    Ok((link.is_some() || is_known).then_some(notes))
}

/// The range that a bridge has by its address; `None` if it is not there.
fn range_of(
    netlink: &mut Netlink,
    link: Option<&kernel::netlink::Link>,
) -> Result<Option<Subnet>, Error> {
    let addresses = netlink.addresses()?.into_iter();
    let own = addresses.filter(|(index, _)| link.is_some_and(|link| link.index == *index));
    let mut ranges = own.map(|(_, address)| Subnet::containing(address.ip, address.prefix));
    Ok(ranges.next())
}

fn as_it_should_be(netlink: &mut Netlink, wanted: &Wanted<'_>) -> Result<Option<Ready>, Error> {
    let Some(network) = remembered(wanted.file)? else {
        return Ok(None);
    };
    let Some(link) = netlink.link(wanted.bridge)? else {
        return Ok(None);
    };
    check_owner(&link, true, wanted)?;
    let gateway = gateway(network.subnet);
    let complete = link.up
        && netlink.addresses()?.contains(&(link.index, gateway))
        && (wanted.resolver.is_none() || network.resolver == wanted.resolver)
        && forwarding()?
        && nat::is_complete(wanted.bridge)?
        && forward::is_open(wanted.bridge)?;
    Ok(complete.then(|| Ready {
        network,
        index: link.index,
        notes: Vec::new(),
    }))
}

fn set_up(netlink: &mut Netlink, wanted: &Wanted<'_>) -> Result<Ready, Error> {
    let mut notes = Vec::new();
    let before = remembered(wanted.file)?;
    let link = netlink.link(wanted.bridge)?;
    if let Some(link) = &link {
        check_owner(link, before.is_some(), wanted)?;
    }
    // A range that is remembered is kept while the bridge is there; else it must still be free.
    let network = match (&before, &link) {
        (Some(network), Some(_)) => network.clone(),
        _ => choose(
            netlink,
            wanted.bridge,
            before.as_ref().map(|network| network.subnet),
        )?,
    };
    if let Some(before) = before.filter(|before| before.subnet != network.subnet) {
        notes.push(format!(
            "the host now uses {}; bridge {} moves to {}",
            before.subnet, wanted.bridge, network.subnet
        ));
        // While the file still tells what was in the table for the range that is given up.
        kernel::nft::apply(&nat::removal(wanted.bridge, Some(before.subnet))?)?;
    }
    // A container with name servers of its own takes the resolver from no other.
    let network = Network {
        resolver: wanted.resolver.or(network.resolver),
        ..network
    };
    remember(wanted.file, &network)?;
    let index = bring_up(netlink, wanted, network.subnet)?;
    let forwards = forwarding()?;
    if !forwards {
        mark_forwarding(wanted.file)?;
    }
    // The rules come before what they guard: a process killed in between leaves nothing open.
    let uplinks = match nat::has_guard()? || is_forwarding_marked(wanted.file) {
        true => Some(uplinks(netlink)?),
        false => None,
    };
    let (subnet, resolver) = (network.subnet, network.resolver);
    let script = nat::script(wanted.bridge, subnet, resolver, uplinks.as_deref());
    // Under the lock that teardown takes too: no port is put back that is just being taken away.
    let published = ports::published(wanted.places).map_err(file_error(
        "list the published ports in",
        &wanted.places.ports(),
    ))?;
    kernel::nft::apply(
        &(nat::resolver_removal(network.subnet)?
            + &script
            + &nat::publication(&published)
            + &forward::script(wanted.bridge)?),
    )?;
    if network.resolver.is_some() || !published.is_empty() {
        route_loopback(wanted.bridge)?;
    }
    // Those that began while the firewall was flushed.
    flows::forget_others(&published)?;
    if !forwards {
        write(Path::new(FORWARDING), "1")?;
        notes.push(
            "switched on IPv4 forwarding (net.ipv4.ip_forward), for bridges only; \
             `mybox network rm` switches it off again"
                .to_owned(),
        );
    }
    Ok(Ready {
        network,
        index,
        notes,
    })
}

/// Lets packets of the loopback's addresses pass the bridge, as the firewall translates them.
fn route_loopback(bridge: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet");
    let path = Path::new(&path);
    let is_on = fs::read_to_string(path).map_err(file_error("read", path))? == "1\n";
    if is_on { Ok(()) } else { write(path, "1") }
}

/// Has the host take no IPv6 addresses and routes from containers. A kernel without IPv6 takes none.
fn refuse_router_advertisements(bridge: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/net/ipv6/conf/{bridge}/accept_ra");
    let path = Path::new(&path);
    gone(fs::write(path, "0")).map_err(file_error("write", path))
}

/// Has ports of the host lead to a container of the bridge.
pub fn publish(bridge: &str, ports: &[(Published, Ipv4Addr)]) -> Result<(), Error> {
    route_loopback(bridge)?;
    kernel::nft::apply(&nat::publication(ports))?;
    Ok(flows::forget_others(ports)?)
}

/// Makes the bridge, or what is missing of one that a killed process began.
fn bring_up(netlink: &mut Netlink, wanted: &Wanted<'_>, subnet: Subnet) -> Result<u32, Error> {
    let name = wanted.bridge;
    if netlink.link(name)?.is_none() {
        netlink.add_bridge(name, hardware_address(subnet.gateway()))?;
    }
    // Before it has a port: else a container could give the host routes (CVE-2020-13401).
    refuse_router_advertisements(name)?;
    let Some(link) = netlink.link(name)? else {
        return Err(kernel::Error::new("make bridge", name, "it vanished again").into());
    };
    netlink.set_alias(link.index, name, &alias(wanted.root))?;
    let gateway = gateway(subnet);
    if !netlink.addresses()?.contains(&(link.index, gateway)) {
        netlink.add_address(link.index, name, gateway)?;
    }
    if !link.up {
        netlink.set_up(link.index, name)?;
    }
    Ok(link.index)
}

/// The bridge's own address.
fn gateway(subnet: Subnet) -> Address {
    Address {
        ip: subnet.gateway(),
        prefix: subnet.prefix(),
    }
}

fn choose(
    netlink: &mut Netlink,
    bridge: &str,
    preferred: Option<Subnet>,
) -> Result<Network, Error> {
    let own = netlink.link(bridge)?.map(|link| link.index);
    let addresses = netlink.addresses()?;
    let range = |address: Address| Subnet::containing(address.ip, address.prefix);
    let ours: Vec<Subnet> = addresses
        .iter()
        .filter(|(index, _)| Some(*index) == own)
        .map(|(_, address)| range(*address))
        .collect();
    let taken: Vec<Subnet> = addresses
        .iter()
        .filter(|(index, _)| Some(*index) != own)
        .map(|(_, address)| range(*address))
        .chain(
            netlink
                .routes()?
                .into_iter()
                // A VPN that takes all traffic has halves of the Internet: more specific routes go on before.
                .filter(|route| route.prefix >= LARGEST_TAKEN)
                .map(range)
                .filter(|route| !ours.iter().any(|it| it.overlaps(*route))),
        )
        .collect();
    let free = |range: &Subnet| !taken.iter().any(|used| used.overlaps(*range));
    let subnet = preferred
        .into_iter()
        .chain(ours)
        .find(free)
        .or_else(|| Subnet::first_free(&taken))
        .ok_or(Error::NoRange)?;
    Ok(Network {
        bridge: bridge.to_owned(),
        subnet,
        resolver: None,
    })
}

/// Beside the network's file: that it was mybox who switched forwarding on, and in which boot. The
/// guard chain says so too, but goes with a firewall that somebody flushes.
fn forwarding_marker(file: &Path) -> PathBuf {
    file.with_extension("forwarding")
}

fn mark_forwarding(file: &Path) -> Result<(), Error> {
    let marker = forwarding_marker(file);
    write(&marker, &boot_id())
}

/// A reboot has reset the switch: what was marked before says nothing any more.
fn is_forwarding_marked(file: &Path) -> bool {
    fs::read_to_string(forwarding_marker(file)).is_ok_and(|boot| boot == boot_id())
}

/// Removes the table, and switches forwarding off if it was mybox who switched it on, unless somebody else
/// counts on it by now: for them it stays, and the guard with it. The answer is what the user should know.
fn remove_table(netlink: &mut Netlink, file: &Path) -> Result<Option<String>, Error> {
    let is_ours = nat::has_guard()? || is_forwarding_marked(file);
    if let (true, Some(other)) = (is_ours, bridge_of_others(netlink)?) {
        kernel::nft::apply(&nat::guard_alone(&uplinks(netlink)?))?;
        return Ok(Some(format!(
            "IPv4 forwarding (net.ipv4.ip_forward) stays on, since bridge {other} needs it; in nftables, the \
             table `ip mybox` stays, which keeps others from being forwarded"
        )));
    }
    if is_ours {
        write(Path::new(FORWARDING), "0")?;
    }
    kernel::nft::apply(nat::REMOVE_TABLE)?;
    Ok(None)
}

/// The names of the links that lead to the outside.
fn uplinks(netlink: &mut Netlink) -> Result<Vec<String>, Error> {
    let default = netlink.default_links()?;
    let links = netlink.links()?.into_iter();
    let mut names: Vec<String> = links
        .filter(|link| default.contains(&link.index))
        .map(|link| link.name)
        .collect();
    names.sort();
    Ok(names)
}

/// A bridge that is up and has an address, as Docker's have: the host forwards for it.
fn bridge_of_others(netlink: &mut Netlink) -> Result<Option<String>, Error> {
    let uplinks = uplinks(netlink)?;
    let addresses = netlink.addresses()?;
    let has_address = |index| addresses.iter().any(|(link, _)| *link == index);
    let mut bridges = netlink.links()?.into_iter().filter(|link| {
        link.is_bridge && link.up && has_address(link.index) && !uplinks.contains(&link.name)
    });
    Ok(bridges.next().map(|link| link.name))
}

fn forwarding() -> Result<bool, Error> {
    let text = fs::read_to_string(FORWARDING).map_err(file_error("read", Path::new(FORWARDING)))?;
    Ok(text.trim() == "1")
}

/// The hardware address that goes with an address, Docker's rule: whoever gets an address after
/// somebody else is still found by neighbours that remember the one before.
pub fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// A hardware address as text, for `ip link`.
pub fn hardware_text(hardware: [u8; 6]) -> String {
    hardware.map(|byte| format!("{byte:02x}")).join(":")
}

/// What `ip link` shows beside the bridge: whose it is.
pub fn alias(root: &Path) -> String {
    format!("mybox {}", root.display())
}

fn check_owner(
    link: &kernel::netlink::Link,
    is_remembered: bool,
    wanted: &Wanted<'_>,
) -> Result<(), Error> {
    if !link.is_bridge {
        return Err(Error::NotOurs(link.name.clone()));
    }
    match link.alias.as_deref() {
        // Killed between making the bridge and naming its owner: remembered before both.
        None if is_remembered => Ok(()),
        None => Err(Error::NotOurs(link.name.clone())),
        Some(found) if found == alias(wanted.root) => Ok(()),
        Some(found) => match found.strip_prefix("mybox ") {
            Some(owner) => Err(Error::OtherRoot {
                bridge: link.name.clone(),
                owner: owner.to_owned(),
            }),
            None => Err(Error::NotOurs(link.name.clone())),
        },
    }
}

/// Reads what is remembered of a bridge.
pub fn remembered(file: &Path) -> Result<Option<Network>, Error> {
    let Some(bytes) = existing(fs::read(file)).map_err(file_error("read", file))? else {
        return Ok(None);
    };
    let damaged = |source| Error::Damaged {
        bridge: file.file_stem().unwrap_or_default().display().to_string(),
        path: file.to_owned(),
        source,
    };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

fn remember(file: &Path, network: &Network) -> Result<(), Error> {
    let write = || {
        fs::create_dir_all(file.parent().unwrap_or(file))?;
        replace(file, &serde_json::to_vec_pretty(network)?, Lasting::No)
    };
    write().map_err(file_error("write", file))
}

fn forget(file: &Path) -> Result<(), Error> {
    gone(fs::remove_file(file)).map_err(file_error("remove", file))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(file_error("write", path))
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        operation,
        path,
        source,
    }
}
