//! What others say about forwarded packets. A packet must be accepted by every chain it passes, and
//! Docker sets the policy of `ip filter FORWARD` to drop. There a bridge gets two rules at the end:
//! behind those that the user or Docker have, in front of the policy. Both are of the few expressions
//! that iptables-nft can read. What may come in is decided in mybox's own table all the same.

use crate::kernel::{Result, nft};

const TABLE: &str = "filter";
const CHAIN: &str = "FORWARD";

/// Whether a bridge's packets are let through.
pub fn is_open(bridge: &str) -> Result<bool> {
    Ok(!nft::chain_drops(TABLE, CHAIN)? || nft::chain_mentions(TABLE, CHAIN, &comment(bridge))?)
}

/// The script that lets them through, empty where that is not needed.
pub fn script(bridge: &str) -> Result<String> {
    if is_open(bridge)? {
        return Ok(String::new());
    }
    let rule = |direction: &str| {
        format!(
            "add rule ip {TABLE} {CHAIN} {direction} \"{bridge}\" counter accept comment \"{}\"\n",
            comment(bridge)
        )
    };
    Ok(rule("iifname") + &rule("oifname"))
}

/// The script that takes the rules out again, empty if there are none.
pub fn removal(bridge: &str) -> Result<String> {
    let comment = format!("comment \"{}\"", comment(bridge));
    let rules = nft::list(&["-a", "list", "chain", "ip", TABLE, CHAIN])?.unwrap_or_default();
    let handles = rules
        .lines()
        .filter(|line| line.contains(&comment))
        .filter_map(|line| {
            line.rsplit_once("# handle ")
                .map(|(_, handle)| handle.trim())
        });
    Ok(handles
        .map(|handle| format!("delete rule ip {TABLE} {CHAIN} handle {handle}\n"))
        .collect())
}

fn comment(bridge: &str) -> String {
    format!("mybox: {bridge}.")
}
