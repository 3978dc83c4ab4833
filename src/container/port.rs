//! Ports as they are written down: `80/tcp` in a container, `0.0.0.0:8080->80/tcp` where one is
//! published, and the PORTS column of listings.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a port is a port of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A port of a container: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Its number.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A port of the host that leads to a container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Published {
    /// The host's address; 0.0.0.0 for all of them.
    pub host_ip: Ipv4Addr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol of both.
    pub protocol: Protocol,
}

/// A port of the container that is to be reached through a port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The host's address; 0.0.0.0 for all of them.
    pub address: Ipv4Addr,
    /// The host's port: the first free one from this to that, or any free one.
    pub host: Option<(u16, u16)>,
    /// The container's.
    pub port: Port,
}

impl Published {
    /// The container's side.
    pub fn port(&self) -> Port {
        Port {
            container_port: self.container_port,
            protocol: self.protocol,
        }
    }

    /// Whether a packet could be meant for both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let any = |port: &Self| port.host_ip.is_unspecified();
        (self.protocol, self.host_port) == (other.protocol, other.host_port)
            && (self.host_ip == other.host_ip || any(self) || any(other))
    }

    /// `0.0.0.0:8080/tcp`: the host's side.
    pub fn on_host(&self) -> String {
        format!("{}:{}/{}", self.host_ip, self.host_port, self.protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Err("sctp is not built yet; there are tcp and udp".to_owned()),
            _ => Err(format!("`{text}` is no protocol: tcp or udp")),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container_port, self.protocol)
    }
}

impl FromStr for Port {
    type Err = String;

    /// `80` or `80/udp`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (range, protocol) = range_and_protocol(text)?;
        match range {
            (first, last) if first == last => Ok(Self {
                container_port: first,
                protocol,
            }),
            _ => Err(format!("`{text}` is not one port")),
        }
    }
}

/// `80`, `80-90`, each with `/tcp` or `/udp` behind it or neither: first, last and protocol.
pub fn range_and_protocol(text: &str) -> Result<((u16, u16), Protocol), String> {
    let (range, protocol) = match text.split_once('/') {
        Some((range, protocol)) => (range, protocol.parse()?),
        None => (text, Protocol::Tcp),
    };
    Ok((self::range(range)?, protocol))
}

/// `80` or `80-90`: first and last.
pub fn range(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("`{text}` is no port (1 to 65535)"))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first > last {
        return Err(format!("the range {text} ends before it begins"));
    }
    Ok((first, last))
}

/// The PORTS column, as Docker has it: neighbours that are published under their own number are one
/// entry, then come those under another number; a port that is only exposed stands for itself.
pub fn listing(published: &[Published], exposed: &[Port]) -> String {
    let hidden = |port: &Port| !published.iter().any(|it| it.port() == *port);
    let mut same: Vec<(Option<Ipv4Addr>, Port)> = exposed
        .iter()
        .copied()
        .filter(hidden)
        .map(|port| (None, port))
        .collect();
    let mut moved = Vec::new();
    for it in published {
        if it.host_port == it.container_port {
            same.push((Some(it.host_ip), it.port()));
        } else {
            moved.push(*it);
        }
    }
    same.sort_by_key(|(address, port)| (*address, port.protocol, port.container_port));
    same.dedup();
    moved.sort_by_key(|it| (it.container_port, it.protocol, it.host_ip, it.host_port));
    let mut entries: Vec<String> = runs(&same).into_iter().map(run_text).collect();
    entries.extend(
        moved
            .iter()
            .map(|it| format!("{}:{}->{}", it.host_ip, it.host_port, it.port())),
    );
    entries.join(", ")
}

/// Neighbours of one address and protocol put together: the first, and the last number.
fn runs(sorted: &[(Option<Ipv4Addr>, Port)]) -> Vec<(Option<Ipv4Addr>, Port, u16)> {
    let mut runs: Vec<(Option<Ipv4Addr>, Port, u16)> = Vec::new();
    for (address, port) in sorted {
        match runs.last_mut() {
            Some((before, first, last))
                if before == address
                    && first.protocol == port.protocol
                    && last.checked_add(1) == Some(port.container_port) =>
            {
                *last = port.container_port;
            }
            _ => runs.push((*address, *port, port.container_port)),
        }
    }
    runs
}

fn run_text((address, first, last): (Option<Ipv4Addr>, Port, u16)) -> String {
    let range = match first.container_port {
        first if first == last => first.to_string(),
        first => format!("{first}-{last}"),
    };
    match address {
        Some(address) => format!("{address}:{range}->{range}/{}", first.protocol),
        None => format!("{range}/{}", first.protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(host: u16, container: u16, protocol: Protocol) -> Published {
        Published {
            host_ip: Ipv4Addr::UNSPECIFIED,
            host_port: host,
            container_port: container,
            protocol,
        }
    }

    #[test]
    fn ports_are_read_with_and_without_a_protocol() {
        let port = |text: &str| text.parse::<Port>().map(|port| port.to_string());
        assert_eq!(port("80"), Ok("80/tcp".into()));
        assert_eq!(port("53/UDP"), Ok("53/udp".into()));
        for bad in ["", "0", "65536", "80-81", "80/", "80/icmp", "x", "-1"] {
            assert!(port(bad).is_err(), "{bad}");
        }
        assert!(port("80/sctp").unwrap_err().contains("not built yet"));
        assert_eq!(range("80-90"), Ok((80, 90)));
        assert!(range("90-80").is_err());
    }

    #[test]
    fn ports_are_listed_as_docker_lists_them() {
        use Protocol::{Tcp, Udp};
        let exposed = ["443", "444", "80"].map(|text| text.parse().unwrap());
        let cases = [
            (vec![], "80/tcp, 443-444/tcp"),
            (
                vec![published(8080, 80, Tcp)],
                "443-444/tcp, 0.0.0.0:8080->80/tcp",
            ),
            (
                vec![
                    published(81, 81, Tcp),
                    published(80, 80, Tcp),
                    published(53, 53, Udp),
                ],
                "443-444/tcp, 0.0.0.0:80-81->80-81/tcp, 0.0.0.0:53->53/udp",
            ),
        ];
        for (published, text) in cases {
            assert_eq!(listing(&published, &exposed), text);
        }
    }

    #[test]
    fn all_addresses_overlap_with_each() {
        let any = published(80, 1, Protocol::Tcp);
        let local = Published {
            host_ip: Ipv4Addr::LOCALHOST,
            ..any
        };
        let other = Published {
            host_ip: Ipv4Addr::new(192, 0, 2, 1),
            ..any
        };
        assert!(any.overlaps(&local) && local.overlaps(&any) && any.overlaps(&any));
        assert!(!local.overlaps(&other));
        assert!(!any.overlaps(&published(80, 1, Protocol::Udp)));
    }
}
