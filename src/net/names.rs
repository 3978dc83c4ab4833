//! /etc/hosts and /etc/resolv.conf of a container, as text. Pure, but for the reading of the
//! host's own files.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

/// A line for /etc/hosts, as `--add-host NAME:ADDRESS` gives it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its address; `None` is `host-gateway`, the host as the container sees it.
    pub address: Option<IpAddr>,
}

/// Writes /etc/hosts. `own_names` are the container's, the whole one first.
pub fn hosts_file(
    own_names: &str,
    address: Option<Ipv4Addr>,
    gateway: Option<Ipv4Addr>,
    extra: &[HostEntry],
) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    let own = address.unwrap_or(Ipv4Addr::LOCALHOST);
    for entry in extra {
        let host = gateway.unwrap_or(Ipv4Addr::LOCALHOST);
        let address = entry.address.unwrap_or(IpAddr::V4(host));
        text.push_str(&format!("{address}\t{}\n", entry.name));
    }
    text.push_str(&format!("{own}\t{own_names}\n"));
    text
}

/// /etc/hosts of a container on the host's network: the host's own, and what was added.
pub fn shared_hosts_file(host: &str, extra: &[HostEntry]) -> String {
    let mut text = host.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for entry in extra {
        let address = entry.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        text.push_str(&format!("{address}\t{}\n", entry.name));
    }
    text
}

/// The host's /etc/hosts, if it has one.
pub fn host_hosts() -> Option<String> {
    fs::read_to_string("/etc/hosts").ok()
}

/// What a container's /etc/resolv.conf says, and how that is made true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// The file.
    pub text: String,
    /// A resolver on the host's own loopback, out of a container's reach: queries to the gateway
    /// must be sent on to it.
    pub forward_to: Option<Ipv4Addr>,
    /// The servers are [`PUBLIC`], for want of any other.
    pub is_public: bool,
}

/// Who is asked where the host has no name server that a container can reach: as Docker has it, Google's.
pub const PUBLIC: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];

/// The resolv.conf of a container on the bridge.
///
/// The user's `own` are taken at their word. Of the host's, those on its loopback mean the container itself,
/// inside. They are left out; if none is left, the gateway stands for the first of them and the firewall sends
/// queries there. Where there is none at all, public ones are asked.
pub fn bridged_resolver(host: &str, own: &[IpAddr], gateway: Ipv4Addr) -> Resolver {
    if !own.is_empty() {
        return Resolver {
            text: with_name_servers(host, own),
            forward_to: None,
            is_public: false,
        };
    }
    let given: Vec<IpAddr> = name_servers(host).collect();
    let mut reachable: Vec<IpAddr> = given
        .iter()
        .copied()
        .filter(|server| !server.is_loopback())
        .collect();
    let mut forward_to = None;
    if reachable.is_empty() {
        forward_to = given.iter().find_map(|server| match server {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        reachable.extend(forward_to.map(|_| IpAddr::V4(gateway)));
    }
    let is_public = reachable.is_empty();
    if is_public {
        reachable.extend(PUBLIC.map(IpAddr::V4));
    }
    Resolver {
        text: with_name_servers(host, &reachable),
        forward_to,
        is_public,
    }
}

/// The resolv.conf of a container that shares the host's network, or has none.
pub fn unbridged_resolver(host: &str, own: &[IpAddr]) -> String {
    if own.is_empty() {
        host.to_owned()
    } else {
        with_name_servers(host, own)
    }
}

/// The host's resolv.conf. Where systemd-resolved is the resolver, the list of servers that it
/// uses itself: its own address on the loopback answers nobody else.
pub fn host_resolv_conf() -> String {
    const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let stub = IpAddr::from([127, 0, 0, 53]);
    if name_servers(&text).eq([stub])
        && let Ok(upstream) = fs::read_to_string(UPSTREAM)
    {
        return upstream;
    }
    text
}

fn name_servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        // A zone, as in fe80::1%eth0, names a link of the host.
        words.next()?.parse().ok()
    })
}

/// The text with its nameserver lines replaced; search, options and the rest stay.
fn with_name_servers(text: &str, servers: &[IpAddr]) -> String {
    let mut lines: Vec<String> = servers
        .iter()
        .map(|it| format!("nameserver {it}"))
        .collect();
    let kept = text.lines().filter(|line| {
        let word = line.split_whitespace().next().unwrap_or("");
        !word.is_empty() && word != "nameserver" && !word.starts_with(['#', ';'])
    });
    lines.extend(kept.map(ToOwned::to_owned));
    lines.push(String::new());
    lines.join("\n")
}

/// The text with other search domains and options, where there are any. The domain `.` stands for no
/// search at all, as Docker has it.
pub fn with_choices(text: &str, search: &[String], options: &[String]) -> String {
    let replaced = |line: &str| match line.split_whitespace().next() {
        Some("search" | "domain") => !search.is_empty(),
        Some("options") => !options.is_empty(),
        _ => false,
    };
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !replaced(line))
        .map(ToOwned::to_owned)
        .collect();
    let domains: Vec<&str> = search.iter().map(String::as_str).collect();
    if !domains.is_empty() && domains != ["."] {
        lines.push(format!("search {}", domains.join(" ")));
    }
    if !options.is_empty() {
        lines.push(format!("options {}", options.join(" ")));
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);

    #[test]
    fn loopback_servers_are_left_out() {
        let host = "# made by hand\nsearch example.org\nnameserver 127.0.0.1\nnameserver 9.9.9.9\n";
        let resolver = bridged_resolver(host, &[], GATEWAY);
        assert_eq!(resolver.text, "nameserver 9.9.9.9\nsearch example.org\n");
        assert_eq!(resolver.forward_to, None);
    }

    #[test]
    fn a_lone_loopback_server_is_reached_through_the_gateway() {
        let resolver = bridged_resolver("nameserver ::1\nnameserver 127.0.0.2\n", &[], GATEWAY);
        assert_eq!(resolver.text, "nameserver 10.10.0.1\n");
        assert_eq!(resolver.forward_to, Some([127, 0, 0, 2].into()));
    }

    #[test]
    fn own_servers_replace_the_hosts() {
        // One of its own loopback too: for all containers together there is only one to send queries on to.
        for own in ["1.1.1.1", "127.0.0.2"] {
            let servers = [own.parse().unwrap()];
            let resolver = bridged_resolver("nameserver 127.0.0.1\n", &servers, GATEWAY);
            assert_eq!(resolver.text, format!("nameserver {own}\n"));
            assert_eq!(resolver.forward_to, None);
        }
        assert_eq!(
            unbridged_resolver("nameserver 127.0.0.1\n", &[]),
            "nameserver 127.0.0.1\n"
        );
    }

    #[test]
    fn search_domains_and_options_replace_the_hosts() {
        let host = "nameserver 1.1.1.1\nsearch a.org\noptions ndots:1\n";
        let words = |words: &[&str]| -> Vec<String> {
            words.iter().map(|word| (*word).to_owned()).collect()
        };
        assert_eq!(with_choices(host, &[], &[]), host);
        assert_eq!(
            with_choices(host, &words(&["b.org", "c.org"]), &words(&["rotate"])),
            "nameserver 1.1.1.1\nsearch b.org c.org\noptions rotate\n"
        );
        assert_eq!(
            with_choices(host, &words(&["."]), &[]),
            "nameserver 1.1.1.1\noptions ndots:1\n"
        );
    }

    #[test]
    fn without_a_resolver_that_can_be_reached_public_ones_are_asked() {
        for host in ["", "nameserver ::1\n"] {
            let public = Resolver {
                text: "nameserver 8.8.8.8\nnameserver 8.8.4.4\n".into(),
                forward_to: None,
                is_public: true,
            };
            assert_eq!(bridged_resolver(host, &[], GATEWAY), public, "{host}");
        }
        assert_eq!(unbridged_resolver("", &[]), "");
    }

    #[test]
    fn hosts_has_the_container_and_what_was_added() {
        let extra = [
            HostEntry {
                name: "db".into(),
                address: Some("10.0.0.9".parse().unwrap()),
            },
            HostEntry {
                name: "host".into(),
                address: None,
            },
        ];
        let text = hosts_file("web", Some([10, 10, 0, 5].into()), Some(GATEWAY), &extra);
        for line in [
            "127.0.0.1\tlocalhost",
            "10.0.0.9\tdb",
            "10.10.0.1\thost",
            "10.10.0.5\tweb",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is missing in\n{text}"
            );
        }
    }
}
