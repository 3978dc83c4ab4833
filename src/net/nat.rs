//! The firewall table `ip mybox`: address translation for containers, and who may reach them.
//!
//! One table for all bridges of a host. What differs between bridges are elements of its sets, so
//! a bridge comes and goes by its elements and the rules stay as they are:
//!
//! ```text
//! set bridges                  names of bridges
//! set networks                 their ranges
//! map resolvers                gateway -> name server on the host's loopback
//! map ports                    address . protocol . port -> container's address . port
//! map ports_of_all             the same for ports that all addresses of the host have
//! chain postrouting            a container's traffic leaves with the host's address; what comes to a
//!                              container by way of a published port of the host from where the answer
//!                              would not find back, comes with the bridge's
//! chain forward                from outside only answers come in, and what is for a published port
//! chain prerouting, output     what comes to the host, and what it sends to itself: to chain published
//! chain published              to the container that the maps say
//! chain dns                    queries to a gateway go to the host's own resolver
//! chain input                  through the bridge, the loopback is reached by such queries alone
//! chain guard                  there only while mybox itself switched forwarding on: the host
//!                              then forwards for containers and virtual machines, whose links are
//!                              bridges, and for nobody else
//! ```

use std::net::Ipv4Addr;

use super::Subnet;
use crate::container::port::{Protocol, Published};
use crate::kernel::{Result, nft};

/// Name of the table.
pub const TABLE: &str = "mybox";

/// Whether the bridge is in the table, and all rules are: they are fewer in one that somebody has flushed, and
/// others in one that an older mybox has made.
pub fn is_complete(bridge: &str) -> Result<bool> {
    if !has_bridge(bridge)? {
        return Ok(false);
    }
    let rules = nft::rules(TABLE, None)?.len();
    let unguarded = count_rules(RULES);
    Ok(rules == unguarded || rules == unguarded + count_rules(&guard(&[])))
}

/// Whether the bridge is in the table.
pub fn has_bridge(bridge: &str) -> Result<bool> {
    nft::set_has_interface(TABLE, "bridges", bridge)
}

fn count_rules(script: &str) -> usize {
    script.matches("add rule ").count()
}

/// Whether all elements of these ports are in the maps.
pub fn are_published(ports: &[(Published, Ipv4Addr)]) -> Result<bool> {
    for (port, _) in ports {
        if !nft::has_element(TABLE, map_of(port), &raw_key(port), &key(port))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The key as the kernel has it: each field in four bytes.
fn raw_key(port: &Published) -> Vec<u8> {
    let protocol = match port.protocol {
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
    };
    let [high, low] = port.host_port.to_be_bytes();
    let mut key = vec![protocol, 0, 0, 0, high, low, 0, 0];
    if map_of(port) == OF_ONE {
        key.splice(0..0, port.host_ip.octets());
    }
    key
}

/// The script that makes the table if it is missing and adds a bridge to it; with a guard where these are
/// the links to the outside.
pub fn script(
    bridge: &str,
    subnet: Subnet,
    resolver: Option<Ipv4Addr>,
    uplinks: Option<&[String]>,
) -> String {
    let mut script = String::from(RULES);
    script.extend(uplinks.map(guard));
    script.push_str(&format!(
        "add element ip mybox bridges {{ \"{bridge}\" }}\n"
    ));
    script.push_str(&format!("add element ip mybox networks {{ {subnet} }}\n"));
    if let Some(resolver) = resolver {
        let gateway = subnet.gateway();
        script.push_str(&format!(
            "add element ip mybox resolvers {{ {gateway} : {resolver} }}\n"
        ));
    }
    script
}

/// The script that takes a bridge out of the table, whichever of its elements are there: deleting
/// what is not there is an error, so they are added first. Without its range, which nobody may know any
/// more, that stays.
pub fn removal(bridge: &str, subnet: Option<Subnet>) -> Result<String> {
    let mut script = String::from(RULES);
    let range = subnet.map(|subnet| format!("networks {{ {subnet} }}"));
    for element in [format!("bridges {{ \"{bridge}\" }}")]
        .into_iter()
        .chain(range)
    {
        script.push_str(&format!(
            "add element ip mybox {element}\ndelete element ip mybox {element}\n"
        ));
    }
    if let Some(subnet) = subnet {
        script.push_str(&resolver_removal(subnet)?);
    }
    Ok(script)
}

/// The script that takes a gateway's resolver out of the map, empty if it has none. Which one it is
/// need not be known, as it must be to add an element that may be there.
pub fn resolver_removal(subnet: Subnet) -> Result<String> {
    let element = format!("{{ {} }}", subnet.gateway());
    let found = nft::list(&["get", "element", "ip", TABLE, "resolvers", &element])?;
    let delete = found.map(|_| format!("delete element ip mybox resolvers {element}\n"));
    Ok(delete.unwrap_or_default())
}

/// The script that has ports of the host lead to containers, empty if there are none. Elements that
/// are there already stay.
pub fn publication(ports: &[(Published, Ipv4Addr)]) -> String {
    let elements = ports.iter().map(|(port, address)| {
        let element = format!("{} : {address} . {}", key(port), port.container_port);
        (port, element)
    });
    change("add", elements)
}

/// Takes elements out of the maps, those that are there.
pub fn unpublish(ports: &[Published]) -> Result<()> {
    if nft::apply(&unpublication(ports)).is_ok() {
        return Ok(());
    }
    // Somebody has flushed the firewall, or the container was never published: what is not there
    // cannot be deleted.
    let mut left = Vec::new();
    for map in [OF_ONE, OF_ALL] {
        let there = nft::list(&["list", "map", "ip", TABLE, map])?.unwrap_or_default();
        let is_there = |port: &Published| there.contains(&format!(" {} : ", key(port)));
        let here = |port: &Published| map_of(port) == map && is_there(port);
        left.extend(ports.iter().copied().filter(here));
    }
    match left.is_empty() {
        true => Ok(()),
        false => nft::apply(&unpublication(&left)),
    }
}

/// The script that takes elements out of the maps, all of which must be there.
pub fn unpublication(ports: &[Published]) -> String {
    change("delete", ports.iter().map(|port| (port, key(port))))
}

const OF_ONE: &str = "ports";
const OF_ALL: &str = "ports_of_all";

fn map_of(port: &Published) -> &'static str {
    if port.host_ip.is_unspecified() {
        OF_ALL
    } else {
        OF_ONE
    }
}

fn key(port: &Published) -> String {
    let (address, protocol, number) = (port.host_ip, port.protocol, port.host_port);
    match map_of(port) {
        OF_ALL => format!("{protocol} . {number}"),
        _ => format!("{address} . {protocol} . {number}"),
    }
}

/// A line for each map that something is to be changed in.
fn change<'a>(verb: &str, elements: impl Iterator<Item = (&'a Published, String)>) -> String {
    let all: Vec<(&Published, String)> = elements.collect();
    let mut script = String::new();
    for map in [OF_ONE, OF_ALL] {
        let those = all.iter().filter(|(port, _)| map_of(port) == map);
        let elements: Vec<&str> = those.map(|(_, element)| element.as_str()).collect();
        if !elements.is_empty() {
            let elements = elements.join(", ");
            script.push_str(&format!("{verb} element ip mybox {map} {{ {elements} }}\n"));
        }
    }
    script
}

/// The script that leaves nothing of the table but the guard.
pub fn guard_alone(uplinks: &[String]) -> String {
    format!(
        "{REMOVE_TABLE}add table ip mybox\n{BRIDGES}{}",
        guard(uplinks)
    )
}

/// Docker asks whether the host forwards, and counts on it: what passes any bridge is forwarded. But for
/// one that is the way to the outside, as on a host of virtual machines.
fn guard(uplinks: &[String]) -> String {
    let names: Vec<String> = uplinks.iter().map(|name| format!("\"{name}\"")).collect();
    let accept = |side: &str| {
        let others = match names.as_slice() {
            [] => String::new(),
            names => format!(" {side}ifname != {{ {} }}", names.join(", ")),
        };
        format!("add rule ip mybox guard meta {side}ifkind \"bridge\"{others} accept\n")
    };
    format!("{GUARD}{}{}{DROP_OTHERS}", accept("i"), accept("o"))
}

/// The script that removes the table, if it is there.
pub const REMOVE_TABLE: &str = "\
add table ip mybox
delete table ip mybox
";

/// Whether the host forwards because mybox had it do so.
pub fn has_guard() -> Result<bool> {
    Ok(nft::list(&["list", "chain", "ip", TABLE, "guard"])?.is_some())
}

/// Whether any bridge is in the table.
pub fn has_bridges() -> Result<bool> {
    let set = nft::list(&["list", "set", "ip", TABLE, "bridges"])?;
    Ok(set.is_some_and(|text| text.contains("elements")))
}

/// Idempotent: what is there stays, rules are written anew.
const RULES: &str = "\
add table ip mybox
add set ip mybox bridges { type ifname; }
add set ip mybox networks { type ipv4_addr; flags interval; }
add map ip mybox resolvers { type ipv4_addr : ipv4_addr; }
add map ip mybox ports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
add map ip mybox ports_of_all { type inet_proto . inet_service : ipv4_addr . inet_service; }
add chain ip mybox published
add chain ip mybox prerouting { type nat hook prerouting priority dstnat + 1; policy accept; }
add chain ip mybox output { type nat hook output priority -100; policy accept; }
add chain ip mybox postrouting { type nat hook postrouting priority srcnat; policy accept; }
add chain ip mybox forward { type filter hook forward priority filter; policy accept; }
add chain ip mybox dns { type nat hook prerouting priority dstnat; policy accept; }
add chain ip mybox input { type filter hook input priority filter; policy accept; }
flush chain ip mybox published
flush chain ip mybox prerouting
flush chain ip mybox output
flush chain ip mybox postrouting
flush chain ip mybox forward
flush chain ip mybox dns
flush chain ip mybox input
add rule ip mybox postrouting ip saddr @networks oifname != @bridges masquerade
add rule ip mybox postrouting ip saddr @networks oifname @bridges ct status dnat masquerade
add rule ip mybox postrouting ip saddr 127.0.0.0/8 oifname @bridges ct status dnat masquerade
add rule ip mybox forward oifname @bridges ct state established,related accept
add rule ip mybox forward oifname @bridges ct status dnat accept
add rule ip mybox forward oifname @bridges iifname != @bridges drop
add rule ip mybox dns iifname @bridges udp dport 53 dnat to ip daddr map @resolvers
add rule ip mybox dns iifname @bridges tcp dport 53 dnat to ip daddr map @resolvers
add rule ip mybox published meta l4proto != { tcp, udp } return
add rule ip mybox published dnat ip to ip daddr . meta l4proto . th dport map @ports
add rule ip mybox published fib daddr type local dnat ip to meta l4proto . th dport map @ports_of_all
add rule ip mybox prerouting ip daddr 127.0.0.0/8 return
add rule ip mybox prerouting jump published
add rule ip mybox output jump published
add rule ip mybox input iifname @bridges ip daddr 127.0.0.0/8 ct status dnat accept
add rule ip mybox input iifname @bridges ip daddr 127.0.0.0/8 drop
";

const BRIDGES: &str = "add set ip mybox bridges { type ifname; }\n";

const GUARD: &str = "\
add chain ip mybox guard { type filter hook forward priority filter + 1; policy accept; }
flush chain ip mybox guard
";

const DROP_OTHERS: &str = "\
add rule ip mybox guard iifname != @bridges oifname != @bridges drop
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_elements_of_the_map_that_fits_their_address() {
        let port = |host_ip: [u8; 4]| Published {
            host_ip: host_ip.into(),
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let container = Ipv4Addr::new(10, 10, 0, 2);
        let ports = [(port([0; 4]), container), (port([127, 0, 0, 1]), container)];
        assert_eq!(
            publication(&ports),
            "add element ip mybox ports { 127.0.0.1 . tcp . 8080 : 10.10.0.2 . 80 }\n\
             add element ip mybox ports_of_all { tcp . 8080 : 10.10.0.2 . 80 }\n"
        );
        assert_eq!(
            unpublication(&[ports[0].0]),
            "delete element ip mybox ports_of_all { tcp . 8080 }\n"
        );
        assert_eq!(publication(&[]), "");
    }

    #[test]
    fn the_guard_is_there_only_when_asked_for() {
        let subnet = Subnet::preferred();
        assert!(!script("b", subnet, None, None).contains("guard"));
        assert!(script("b", subnet, None, Some(&[])).contains("guard"));
    }
}
