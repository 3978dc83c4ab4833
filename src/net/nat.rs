//! The firewall table `ip mybox`: address translation for containers, and who may reach them.
//!
//! One table for all bridges of a host. What differs between bridges are elements of its sets, so
//! a bridge comes and goes by its elements and the rules stay as they are:
//!
//! ```text
//! set bridges                  names of bridges
//! set networks                 their ranges
//! map resolvers                gateway -> name server on the host's loopback
//! chain postrouting            a container's traffic leaves with the host's address
//! chain forward                from outside only answers come in
//! chain dns                    queries to a gateway go to the host's own resolver
//! chain input                  through the bridge, the loopback is reached by such queries alone
//! chain guard                  there only while mybox itself switched forwarding on: the host
//!                              then forwards for containers and for nobody else
//! ```

use std::net::Ipv4Addr;

use super::Subnet;
use crate::kernel::{Result, nft};

/// Name of the table.
pub const TABLE: &str = "mybox";

/// Whether the table and the elements of this bridge are there.
pub fn is_complete(bridge: &str) -> Result<bool> {
    nft::set_has_interface(TABLE, "bridges", bridge)
}

/// The script that makes the table if it is missing and adds a bridge to it.
pub fn script(bridge: &str, subnet: Subnet, resolver: Option<Ipv4Addr>, guard: bool) -> String {
    let mut script = String::from(RULES);
    if guard {
        script.push_str(GUARD);
    }
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
/// what is not there is an error, so they are added first.
pub fn removal(bridge: &str, subnet: Subnet) -> Result<String> {
    let mut script = String::from(RULES);
    for element in [
        format!("bridges {{ \"{bridge}\" }}"),
        format!("networks {{ {subnet} }}"),
    ] {
        script.push_str(&format!(
            "add element ip mybox {element}\ndelete element ip mybox {element}\n"
        ));
    }
    Ok(script + &resolver_removal(subnet)?)
}

/// The script that takes a gateway's resolver out of the map, empty if it has none. Which one it is
/// need not be known, as it must be to add an element that may be there.
pub fn resolver_removal(subnet: Subnet) -> Result<String> {
    let element = format!("{{ {} }}", subnet.gateway());
    let found = nft::list(&["get", "element", "ip", TABLE, "resolvers", &element])?;
    let delete = found.map(|_| format!("delete element ip mybox resolvers {element}\n"));
    Ok(delete.unwrap_or_default())
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
add chain ip mybox postrouting { type nat hook postrouting priority srcnat; policy accept; }
add chain ip mybox forward { type filter hook forward priority filter; policy accept; }
add chain ip mybox dns { type nat hook prerouting priority dstnat; policy accept; }
add chain ip mybox input { type filter hook input priority filter; policy accept; }
flush chain ip mybox postrouting
flush chain ip mybox forward
flush chain ip mybox dns
flush chain ip mybox input
add rule ip mybox postrouting ip saddr @networks oifname != @bridges masquerade
add rule ip mybox forward oifname @bridges ct state established,related accept
add rule ip mybox forward oifname @bridges iifname != @bridges drop
add rule ip mybox dns iifname @bridges udp dport 53 dnat to ip daddr map @resolvers
add rule ip mybox dns iifname @bridges tcp dport 53 dnat to ip daddr map @resolvers
add rule ip mybox input iifname @bridges ip daddr 127.0.0.0/8 ct status dnat accept
add rule ip mybox input iifname @bridges ip daddr 127.0.0.0/8 drop
";

const GUARD: &str = "\
add chain ip mybox guard { type filter hook forward priority filter + 1; policy accept; }
flush chain ip mybox guard
add rule ip mybox guard iifname != @bridges oifname != @bridges drop
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_is_there_only_when_asked_for() {
        let subnet = Subnet::preferred();
        assert!(!script("b", subnet, None, false).contains("guard"));
        assert!(script("b", subnet, None, true).contains("guard"));
    }
}
