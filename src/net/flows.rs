//! UDP flows that the kernel remembers: whoever goes on sending from the same port is led to where the first
//! datagram went, whoever has the port or the address by then.
//!
//! ```text
//! from outside   client -> host:port         answered by the container
//! from inside    container -> client         answered to host:port, where the port was free
//! ```
//! The second kind leads the client's datagrams to the container just as well.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::container::port::{Protocol, Published};
use crate::kernel::conntrack::{self, Flow};
use crate::kernel::{Result, netlink::Netlink};

/// Has datagrams to these ports, which lead to containers by now, find their way anew where they went
/// elsewhere. Those that a container has had already stay as they are: forgotten between question and answer
/// they would begin anew with the answer, from inside.
pub fn forget_others(ports: &[(Published, Ipv4Addr)]) -> Result<()> {
    let udp: Vec<(u16, Ipv4Addr)> = ports
        .iter()
        .filter(|(port, _)| port.protocol == Protocol::Udp)
        .map(|(port, container)| (port.host_port, *container))
        .collect();
    if udp.is_empty() {
        return Ok(());
    }
    let own = own_addresses()?;
    conntrack::forget_udp(|flow| {
        udp.iter()
            .any(|(port, to)| leads_past(flow, *port, *to, &own))
    })
}

/// Forgets what led to a container by these ports, and what its addresses have to do with: another container
/// may have them next.
pub fn forget(ports: &[Published], containers: &[Ipv4Addr]) -> Result<()> {
    let udp: Vec<u16> = ports
        .iter()
        .filter(|port| port.protocol == Protocol::Udp)
        .map(|port| port.host_port)
        .collect();
    if udp.is_empty() {
        return Ok(());
    }
    let own = own_addresses()?;
    conntrack::forget_udp(|flow| {
        containers.contains(&flow.source)
            || containers.contains(&flow.answers_from)
            || udp.iter().any(|port| is_at(flow.target, *port, &own))
    })
}

/// Whether a flow leads datagrams to the host's port to somebody else than the container.
fn leads_past(flow: &Flow, port: u16, container: Ipv4Addr, own: &[Ipv4Addr]) -> bool {
    is_at(flow.target, port, own) && flow.answers_from != container
        || is_at(flow.answers_to, port, own) && flow.source != container
}

/// What is on its way to the same port of another host is none of these.
fn is_at(target: SocketAddrV4, port: u16, own: &[Ipv4Addr]) -> bool {
    target.port() == port && (target.ip().is_loopback() || own.contains(target.ip()))
}

fn own_addresses() -> Result<Vec<Ipv4Addr>> {
    let addresses = Netlink::open()?.addresses()?.into_iter();
    Ok(addresses.map(|(_, address)| address.ip).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_the_container_stays_and_all_else_goes() {
        let client = Ipv4Addr::new(198, 51, 100, 1);
        let host = Ipv4Addr::new(192, 0, 2, 1);
        let [container, other] = [2, 3].map(|last| Ipv4Addr::new(10, 10, 0, last));
        let from = SocketAddrV4::new(client, 4000);
        let port = SocketAddrV4::new(host, 5000);
        let leads_past = |flow: &Flow| leads_past(flow, 5000, container, &[host]);
        for (who, astray) in [(container, false), (other, true), (host, true)] {
            let outside = Flow::new((client, port), (who, from));
            let inside = Flow::new((who, from), (client, port));
            assert_eq!(
                (leads_past(&outside), leads_past(&inside)),
                (astray, astray)
            );
        }
        let far = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 9), 5000);
        assert!(!leads_past(&Flow::new((client, far), (other, from))));
    }
}
