//! What others say about forwarded packets. A packet must be accepted by every chain it passes, and
//! `ip filter FORWARD` may drop: Docker sets its policy so, other hosts end it with a REJECT. There a bridge
//! gets two rules: behind those that the user or Docker have, in front of what decides about all packets, be
//! that a rule or the policy. Both are of the few expressions that iptables-nft can read. What may come in is
//! decided in mybox's own table all the same.

use std::collections::BTreeMap;

use crate::kernel::{Result, nft};

const TABLE: &str = "filter";
const CHAIN: &str = "FORWARD";

/// Whether a bridge's packets are let through: its rules are there, or none at all.
pub fn is_open(bridge: &str) -> Result<bool> {
    let rules = nft::rules(TABLE, Some(CHAIN))?;
    let comment = comment(bridge);
    let is_ours = |rule: &Vec<u8>| {
        rule.windows(comment.len())
            .any(|bytes| bytes == comment.as_bytes())
    };
    Ok(match rules.is_empty() {
        true => !nft::chain_drops(TABLE, CHAIN)?,
        false => rules.iter().any(is_ours),
    })
}

/// The script that lets them through, empty where that is not needed.
pub fn script(bridge: &str) -> Result<String> {
    if is_open(bridge)? {
        return Ok(String::new());
    }
    let listing = nft::list(&["-a", "list", "table", "ip", TABLE])?.unwrap_or_default();
    let place = match Chains::of(&listing).refusal(CHAIN) {
        Some(handle) => format!("insert rule ip {TABLE} {CHAIN} position {handle}"),
        None => format!("add rule ip {TABLE} {CHAIN}"),
    };
    let rule = |direction: &str| {
        format!(
            "{place} {direction} \"{bridge}\" counter accept comment \"{}\"\n",
            comment(bridge)
        )
    };
    Ok(rule("iifname") + &rule("oifname"))
}

/// The chains of a table, as `nft -a list table` prints them.
struct Chains<'a>(BTreeMap<&'a str, Vec<Rule<'a>>>);

/// A rule without its counter, and the handle that it is named by.
struct Rule<'a> {
    text: &'a str,
    handle: &'a str,
}

impl<'a> Chains<'a> {
    fn of(listing: &'a str) -> Self {
        let mut chains = BTreeMap::new();
        let mut current = None;
        for line in listing.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("chain ") {
                current = rest.split(' ').next();
            } else if line == "}" {
                current = None;
            } else if let (Some(chain), Some((text, handle))) =
                (current, line.rsplit_once(" # handle "))
            {
                let text = without_counter(text);
                let rules: &mut Vec<Rule<'_>> = chains.entry(chain).or_default();
                rules.push(Rule { text, handle });
            }
        }
        Self(chains)
    }

    /// The handle of the first rule of a chain that lets nothing pass. What the user has in DOCKER-USER stays
    /// above ours, whatever it is.
    fn refusal(&self, chain: &str) -> Option<&'a str> {
        let mut rules = self.0.get(chain)?.iter();
        let refusal = rules.find(|rule| rule.text != "jump DOCKER-USER" && self.refuses(rule))?;
        Some(refusal.handle)
    }

    /// Whether the rule refuses every packet that comes to it, perhaps by a chain of the user's own.
    fn refuses(&self, rule: &Rule<'_>) -> bool {
        const REFUSALS: [&str; 4] = [
            "reject",
            "drop",
            "xt target \"REJECT\"",
            "xt target \"DROP\"",
        ];
        let to = rule.text.strip_prefix("jump ");
        match to.or_else(|| rule.text.strip_prefix("goto ")) {
            Some(chain) => self.refusal(chain).is_some(),
            None => REFUSALS.iter().any(|word| rule.text.starts_with(word)),
        }
    }
}

fn without_counter(rule: &str) -> &str {
    match rule.strip_prefix("counter packets ") {
        Some(rest) => rest.splitn(4, ' ').nth(3).unwrap_or_default(),
        None => rule,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(rules: &str) -> Option<String> {
        let listing = format!(
            "table ip filter {{ # handle 1\n\tchain FORWARD {{ # handle 2\n\
             \t\ttype filter hook forward priority filter; policy accept;\n{rules}\t}}\n\
             \tchain own {{ # handle 3\n\t\tip saddr 192.0.2.1 return # handle 4\n\
             \t\tcounter packets 0 bytes 0 reject # handle 5\n\t}}\n\
             \tchain DOCKER-USER {{ # handle 6\n\t\tdrop # handle 7\n\t}}\n}}\n"
        );
        Chains::of(&listing).refusal(CHAIN).map(str::to_owned)
    }

    #[test]
    fn our_rules_come_before_what_refuses_all() {
        assert_eq!(place(""), None);
        assert_eq!(
            place("\t\tiifname \"eth1\" counter packets 1 bytes 2 drop # handle 9\n"),
            None
        );
        assert_eq!(
            place("\t\tcounter packets 1 bytes 2 accept # handle 9\n"),
            None
        );
        assert_eq!(
            place("\t\tcounter packets 1 bytes 2 jump DOCKER-USER # handle 9\n"),
            None
        );
        for refusal in [
            "counter packets 1 bytes 2 reject with icmp type host-prohibited",
            "counter packets 1 bytes 2 xt target \"REJECT\"",
            "drop comment \"end\"",
            "jump own",
        ] {
            let rules =
                format!("\t\tip saddr 192.0.2.2 drop # handle 8\n\t\t{refusal} # handle 9\n");
            assert_eq!(place(&rules).as_deref(), Some("9"), "{refusal}");
        }
    }
}
