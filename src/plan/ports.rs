//! Which ports a container has and which of them are to be published: flags and image together.

use std::net::Ipv4Addr;

use mybox_store::ImageConfig;

use super::{Error, RunRequest};
use crate::container::port::{self, Port, Protocol, Publish, Published};

/// What the container's ports are to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// Published.
    pub publish: Vec<Publish>,
    /// Known of, be they published or not.
    pub exposed: Vec<Port>,
}

/// Flags and the image's EXPOSE put together.
pub fn wanted(request: &RunRequest, image: &ImageConfig) -> Result<Ports, Error> {
    let mut exposed = request.expose.clone();
    for text in &image.config.exposed_ports {
        exposed.extend(expose(text).map_err(|_| Error::Image {
            field: "ExposedPorts",
            value: text.clone(),
            problem: "is no port such as 80/tcp",
        })?);
    }
    exposed.sort_unstable();
    exposed.dedup();
    let mut publish: Vec<Publish> = Vec::new();
    for it in &request.publish {
        // Said twice is said once, as for Docker.
        if !publish.contains(it) {
            publish.push(*it);
        }
    }
    if request.publish_all {
        let is_named = |port: &Port| request.publish.iter().any(|it| it.port == *port);
        let rest = exposed.iter().copied().filter(|port| !is_named(port));
        publish.extend(rest.map(|port| Publish {
            address: Ipv4Addr::UNSPECIFIED,
            host: None,
            port,
        }));
    }
    no_port_twice(&publish)?;
    Ok(Ports { publish, exposed })
}

/// Of one port of the host only one of the container's can be reached.
fn no_port_twice(publish: &[Publish]) -> Result<(), Error> {
    let mut fixed: Vec<Published> = Vec::new();
    for it in publish {
        let Some((host_port, last)) = it.host else {
            continue;
        };
        let port = Published {
            host_ip: it.address,
            host_port,
            container_port: it.port.container_port,
            protocol: it.port.protocol,
        };
        if host_port < last {
            continue;
        }
        if fixed.iter().any(|other| other.overlaps(&port)) {
            let shown = port.on_host();
            return Err(Error::Conflict(format!(
                "port {shown} of the host is to lead to two ports of the container"
            )));
        }
        fixed.push(port);
    }
    Ok(())
}

/// `80`, `80-90`, `53/udp`, as `--expose` and EXPOSE have it.
pub fn expose(text: &str) -> Result<Vec<Port>, String> {
    let (range, protocol) = port::range_and_protocol(text)?;
    Ok(ports(range, protocol).collect())
}

/// `[ADDRESS:][HOST]:CONTAINER` or `CONTAINER`, each port a range if need be, `/udp` behind it. The host's
/// port 0 is any free one.
pub fn publish(text: &str) -> Result<Vec<Publish>, String> {
    if text.contains(['[', ']']) || text.matches(':').count() > 2 {
        return Err(format!(
            "`{text}`: IPv6 addresses are not built yet, the bridge has IPv4 alone"
        ));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (address, host, container) = match parts[..] {
        [container] => ("", "", container),
        [host, container] => ("", host, container),
        [address, host, container] => (address, host, container),
        _ => return Err(format!("`{text}` is not [ADDRESS:][PORT:]PORT[/tcp|/udp]")),
    };
    let address = match address {
        "" => Ipv4Addr::UNSPECIFIED,
        address => address
            .parse()
            .map_err(|_| format!("`{address}` is no IPv4 address"))?,
    };
    let (container, protocol) = port::range_and_protocol(container)?;
    let host = match host {
        "" | "0" => None,
        host => Some(port::range(host)?),
    };
    let length = |(first, last): (u16, u16)| last - first;
    let one_by_one = |host: Option<(u16, u16)>| {
        ports(container, protocol)
            .enumerate()
            .map(|(at, port)| Publish {
                address,
                host: host.map(|(first, _)| (first + at as u16, first + at as u16)),
                port,
            })
            .collect()
    };
    match host {
        Some(range) if length(range) == length(container) => Ok(one_by_one(host)),
        // The container's one port, wherever there is room for it.
        Some(_) if length(container) == 0 => Ok(ports(container, protocol)
            .map(|port| Publish {
                address,
                host,
                port,
            })
            .collect()),
        Some(_) => Err(format!(
            "`{text}`: the host's range and the container's have different lengths"
        )),
        None => Ok(one_by_one(None)),
    }
}

fn ports((first, last): (u16, u16), protocol: Protocol) -> impl Iterator<Item = Port> {
    (first..=last).map(move |container_port| Port {
        container_port,
        protocol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        let one = |it: &Publish| format!("{} {:?} {}", it.address, it.host, it.port);
        publish(text).map(|all| all.iter().map(one).collect())
    }

    #[test]
    fn ports_are_published_as_docker_writes_it() {
        let cases: &[(&str, &[&str])] = &[
            ("80", &["0.0.0.0 None 80/tcp"]),
            (":80", &["0.0.0.0 None 80/tcp"]),
            ("8080:80", &["0.0.0.0 Some((8080, 8080)) 80/tcp"]),
            ("53:53/udp", &["0.0.0.0 Some((53, 53)) 53/udp"]),
            (
                "127.0.0.1:8080:80",
                &["127.0.0.1 Some((8080, 8080)) 80/tcp"],
            ),
            ("127.0.0.1::80/tcp", &["127.0.0.1 None 80/tcp"]),
            ("0:80", &["0.0.0.0 None 80/tcp"]),
            ("127.0.0.1:0:80", &["127.0.0.1 None 80/tcp"]),
            ("80-81", &["0.0.0.0 None 80/tcp", "0.0.0.0 None 81/tcp"]),
            (
                "8000-8001:80-81",
                &[
                    "0.0.0.0 Some((8000, 8000)) 80/tcp",
                    "0.0.0.0 Some((8001, 8001)) 81/tcp",
                ],
            ),
            ("8000-8010:80", &["0.0.0.0 Some((8000, 8010)) 80/tcp"]),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text).unwrap(), *expected, "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for bad in [
            "",
            ":",
            "x",
            "80:",
            "0",
            "0-1:80-81",
            "80:0",
            "65536",
            "a:80:80",
            "1.2.3:80:80",
            "80-79:1-2",
            "8000-8001:80-82",
            "8000:80-81",
            "80/sctp",
            "80/tcp:80",
        ] {
            assert!(publish(bad).is_err(), "{bad}");
        }
        for v6 in ["[::1]:80:80", "::1:80:80"] {
            assert!(publish(v6).unwrap_err().contains("IPv6"), "{v6}");
        }
    }

    #[test]
    fn a_port_of_the_host_leads_to_one_of_the_container() {
        for (flags, fits) in [
            (["80:80", "80:80"], true),
            (["80:80", "80:81"], false),
            (["80:80", "127.0.0.1:80:81"], false),
            (["127.0.0.1:80:80", "127.0.0.2:80:81"], true),
            (["80:80", "80:80/udp"], true),
            (["80-81:80", "80-81:81"], true),
            (["0:80", "0:81"], true),
        ] {
            let request = RunRequest {
                publish: flags
                    .iter()
                    .flat_map(|flag| publish(flag).unwrap())
                    .collect(),
                ..RunRequest::default()
            };
            let wanted = wanted(&request, &ImageConfig::default());
            assert_eq!(wanted.is_ok(), fits, "{flags:?}");
        }
    }

    #[test]
    fn all_that_is_exposed_is_published_unless_it_is_already() {
        let mut image = ImageConfig::default();
        image.config.exposed_ports = ["80/tcp", "53/udp"].map(ToOwned::to_owned).into();
        let request = RunRequest {
            publish: publish("8080:80").unwrap(),
            expose: expose("90-91").unwrap(),
            publish_all: true,
            ..RunRequest::default()
        };
        let ports = wanted(&request, &image).unwrap();
        let numbers =
            |ports: &[Port]| -> Vec<u16> { ports.iter().map(|it| it.container_port).collect() };
        assert_eq!(numbers(&ports.exposed), [53, 80, 90, 91]);
        let published: Vec<Port> = ports.publish.iter().map(|it| it.port).collect();
        assert_eq!(numbers(&published), [80, 53, 90, 91]);
        image.config.exposed_ports = ["many".to_owned()].into();
        assert!(wanted(&request, &image).is_err());
    }
}
