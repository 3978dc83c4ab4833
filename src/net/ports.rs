//! Which container has which port of the host: the port is bound by the container's supervisor, and
//! a symbolic link per port leads to the id of its container.
//!
//! The socket keeps the port from every other program, and the kernel decides between a port of one
//! address and the same of all. The link says whose it is, and stays when a supervisor dies, for as
//! long as the firewall may still send to its container.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::net::SocketType;

use super::listeners;
use crate::container::port::{Protocol, Publish, Published};
use crate::container::{ContainerId, Places, Record};
use crate::kernel;
use crate::kernel::file::{existing, remove_link_to};
use crate::kernel::port::hold;

/// Why a port is not published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody has it.
    #[error(
        "port {port} of the host is taken by {owner}; publish another, or leave the host's port out \
         for a free one"
    )]
    Taken {
        /// The port, as the user would write it.
        port: String,
        /// Who has it.
        owner: String,
    },
    /// The same port was asked for twice.
    #[error("port {0} of the host is to lead to two ports of the container")]
    Twice(String),
    /// All of a range are taken.
    #[error("no port of {address}:{first}-{last} is free")]
    Exhausted {
        /// The host's address.
        address: Ipv4Addr,
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// The host does not have the address.
    #[error("{0} is not an address of this host, so no port of it can be published")]
    NotOurs(Ipv4Addr),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The link could not be made or read.
    #[error("claim a port in {}", path.display())]
    Io {
        /// The directory of ports.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Ports that are kept from others for as long as this is.
#[derive(Debug, Default)]
pub struct Held {
    /// Bound, one for each port. They may go on to another process.
    sockets: Vec<OwnedFd>,
}

impl Held {
    /// What has to stay open for the ports to be kept.
    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        self.sockets
    }
}

/// Claims a port of the host for each that is wanted. What was claimed when one fails is left to
/// the caller's teardown.
pub fn claim(
    places: &Places,
    id: &ContainerId,
    wanted: &[Publish],
) -> Result<(Vec<Published>, Held), Error> {
    let link = |port: &Published| take(places, id, port);
    choose(places, id, wanted, &link)
}

/// The ports that [`claim`] would give now, without taking them.
pub fn peek(
    places: &Places,
    id: &ContainerId,
    wanted: &[Publish],
) -> Result<Vec<Published>, Error> {
    choose(places, id, wanted, &|_| Ok(true)).map(|(ports, _)| ports)
}

fn choose(
    places: &Places,
    id: &ContainerId,
    wanted: &[Publish],
    link: &dyn Fn(&Published) -> Result<bool, Error>,
) -> Result<(Vec<Published>, Held), Error> {
    let mut ports: Vec<Published> = Vec::new();
    let mut held = Held::default();
    for publish in wanted {
        let (port, socket) = first_free(publish, link)?.ok_or_else(|| match publish.host {
            Some((first, last)) if first < last => Error::Exhausted {
                address: publish.address,
                first,
                last,
            },
            host => taken(places, id, &at(publish, host.map_or(0, |(port, _)| port))),
        })?;
        ports.push(port);
        held.sockets.push(socket);
    }
    Ok((ports, held))
}

/// The first port of those that would do, bound and claimed.
fn first_free(
    publish: &Publish,
    link: &dyn Fn(&Published) -> Result<bool, Error>,
) -> Result<Option<(Published, OwnedFd)>, Error> {
    // Any free one is the kernel's choice: it can be one that a dead container has still a link to.
    const TRIES: u16 = 16;
    let candidates: Box<dyn Iterator<Item = u16>> = match publish.host {
        Some((first, last)) => Box::new(first..=last),
        None => Box::new((0..TRIES).map(|_| 0)),
    };
    for number in candidates {
        let bound = hold(kind(publish.port.protocol), publish.address, number);
        let (socket, number) = match bound {
            Err(error) if error.is(Errno::EADDRINUSE) => continue,
            Err(error) if error.is(Errno::EADDRNOTAVAIL) => {
                return Err(Error::NotOurs(publish.address));
            }
            bound => bound?,
        };
        let port = at(publish, number);
        if link(&port)? {
            return Ok(Some((port, socket)));
        }
    }
    Ok(None)
}

fn kind(protocol: Protocol) -> SocketType {
    match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    }
}

fn at(publish: &Publish, host_port: u16) -> Published {
    Published {
        host_ip: publish.address,
        host_port,
        container_port: publish.port.container_port,
        protocol: publish.port.protocol,
    }
}

/// Makes the link; `false` if a port that overlaps with it has another container.
fn take(places: &Places, id: &ContainerId, port: &Published) -> Result<bool, Error> {
    let dir = places.ports();
    let failed = |source| Error::Io {
        path: dir.clone(),
        source,
    };
    fs::create_dir_all(&dir).map_err(failed)?;
    match symlink(id.as_str(), dir.join(file_name(port))) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        made => made.map_err(failed)?,
    }
    // A container whose supervisor is dead binds nothing any more.
    let rivals = claims(&dir, |other| other.overlaps(port)).map_err(failed)?;
    if rivals
        .iter()
        .any(|(_, owner)| owner.as_str() != id.as_str())
    {
        release(places, id, std::slice::from_ref(port)).map_err(failed)?;
        return Ok(false);
    }
    Ok(true)
}

/// Gives ports back, those of them that are `id`'s.
pub fn release(places: &Places, id: &ContainerId, ports: &[Published]) -> io::Result<()> {
    for port in ports {
        let link = places.ports().join(file_name(port));
        remove_link_to(&link, id.as_str())?;
    }
    Ok(())
}

/// The ports that `id` has. Which ports of the container they lead to is not known here.
pub fn of(places: &Places, id: &ContainerId) -> io::Result<Vec<Published>> {
    let claims = claims(&places.ports(), |_| true)?.into_iter();
    let own = claims.filter(|(_, owner)| owner.as_str() == id.as_str());
    Ok(own.map(|(port, _)| port).collect())
}

/// What the firewall has to send where, by the records of the containers that have a claim.
pub fn published(places: &Places) -> io::Result<Vec<(Published, Ipv4Addr)>> {
    let claims = claims(&places.ports(), |_| true)?;
    let mut published = Vec::new();
    if claims.is_empty() {
        return Ok(published);
    }
    for record in Record::all(places)? {
        let Some(address) = record.address else {
            continue;
        };
        let is_claimed = |port: &&Published| {
            claims
                .iter()
                .any(|(claim, owner)| is_same(claim, port) && owner.as_str() == record.id.as_str())
        };
        let ports = record.ports.iter().filter(is_claimed);
        published.extend(ports.map(|port| (*port, address)));
    }
    Ok(published)
}

fn is_same(a: &Published, b: &Published) -> bool {
    (a.host_ip, a.host_port, a.protocol) == (b.host_ip, b.host_port, b.protocol)
}

fn file_name(port: &Published) -> String {
    format!("{}-{}-{}", port.protocol, port.host_ip, port.host_port)
}

/// The links there are to ports that are `asked` for, and whose they are. A link does not say which port of
/// the container it is.
fn claims(dir: &Path, asked: impl Fn(&Published) -> bool) -> io::Result<Vec<(Published, String)>> {
    let mut claims = Vec::new();
    for entry in existing(fs::read_dir(dir))?.into_iter().flatten() {
        let entry = entry?;
        let port = entry.file_name().to_str().and_then(parse);
        let Some(port) = port.filter(&asked) else {
            continue;
        };
        let owner = existing(fs::read_link(entry.path()))?;
        claims.extend(owner.map(|owner| (port, owner.to_string_lossy().into_owned())));
    }
    Ok(claims)
}

fn parse(name: &str) -> Option<Published> {
    let mut parts = name.split('-');
    let protocol = parts.next()?.parse().ok()?;
    Some(Published {
        protocol,
        host_ip: parts.next()?.parse().ok()?,
        host_port: parts.next()?.parse().ok()?,
        container_port: 0,
    })
}

/// Who has a port that could not be had.
fn taken(places: &Places, id: &ContainerId, port: &Published) -> Error {
    let shown = port.on_host();
    let claims = claims(&places.ports(), |claim| claim.overlaps(port)).unwrap_or_default();
    let owner = claims.into_iter().next();
    let owner = match owner {
        Some((_, owner)) if owner == id.as_str() => return Error::Twice(shown),
        Some((_, owner)) => format!("container {}", name_of(places, &owner)),
        None => listeners::of(port).unwrap_or_else(|| {
            "a program that has bound it and does not listen, as mybox with another --root does"
                .to_owned()
        }),
    };
    Error::Taken { port: shown, owner }
}

/// The name, or the id of a container that has no record yet.
fn name_of(places: &Places, id: &str) -> String {
    let record = ContainerId::parse(id)
        .ok()
        .and_then(|id| Record::read(&places.container(&id)).ok()?);
    record.map_or_else(|| id.chars().take(12).collect(), |record| record.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_claimed_once_and_told_whose_it_is() {
        let root = std::env::temp_dir().join(format!("mybox-ports-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let places = Places {
            root: root.clone(),
            run_root: root.join("run"),
            bridge: "none".into(),
        };
        let (a, b) = (
            ContainerId::random().unwrap(),
            ContainerId::random().unwrap(),
        );
        let publish = |host| Publish {
            address: Ipv4Addr::LOCALHOST,
            host,
            port: "80/tcp".parse().unwrap(),
        };
        let (ports, held) = claim(&places, &a, &[publish(None)]).unwrap();
        let again = publish(Some((ports[0].host_port, ports[0].host_port)));
        let refused = claim(&places, &b, &[again]).unwrap_err().to_string();
        assert!(refused.contains(a.short()), "{refused}");
        // As after the death of its supervisor.
        drop(held);
        let all = Publish {
            address: Ipv4Addr::UNSPECIFIED,
            ..again
        };
        assert!(claim(&places, &b, &[again]).is_err() && claim(&places, &b, &[all]).is_err());
        release(&places, &a, &of(&places, &a).unwrap()).unwrap();
        let (_, _held) = claim(&places, &b, &[again]).unwrap();
        assert!(matches!(claim(&places, &b, &[again]), Err(Error::Twice(_))));
        fs::remove_dir_all(root).unwrap();
    }
}
