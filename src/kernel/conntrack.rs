//! Flows that the kernel remembers (conntrack). One that began before an address translation was there,
//! or when it led elsewhere, goes on as it began: for UDP as long as its sender goes on.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::nfnetlink::{self, Request, find, nested};
use super::{Error, Result};

// linux/netfilter/nfnetlink_conntrack.h: enum ctattr_type, ctattr_tuple, ctattr_ip, ctattr_l4proto
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;

/// A remembered UDP flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Who sent its first datagram.
    pub source: Ipv4Addr,
    /// The address and port that it was for.
    pub target: SocketAddrV4,
    /// Who answers: where the target was translated, another than that.
    pub answers_from: Ipv4Addr,
    /// Where the answers go: where the source was translated, to another than that.
    pub answers_to: SocketAddrV4,
    /// The attributes that it is deleted by.
    original: Vec<u8>,
}

/// Has the kernel forget the UDP flows that are chosen.
pub fn forget_udp(chosen: impl Fn(&Flow) -> bool) -> Result<()> {
    let mut socket = nfnetlink::open()?;
    let flows = nfnetlink::dump(&mut socket, &request(IPCTNL_MSG_CT_GET, Vec::new()))?;
    let flows = flows.map_err(|errno| refused("list", errno))?;
    for flow in flows.iter().filter_map(|entry| udp(entry)).filter(chosen) {
        let body = nested(CTA_TUPLE_ORIG, &flow.original);
        match nfnetlink::tell(&mut socket, &request(IPCTNL_MSG_CT_DELETE, body))? {
            // It has ended by itself.
            Ok(()) | Err(libc::ENOENT) => {}
            Err(errno) => return Err(refused("forget", errno)),
        }
    }
    Ok(())
}

fn udp(entry: &[u8]) -> Option<Flow> {
    let original = find(entry, CTA_TUPLE_ORIG)?;
    let protocol = find(original, CTA_TUPLE_PROTO)?;
    if find(protocol, CTA_PROTO_NUM)? != [libc::IPPROTO_UDP as u8] {
        return None;
    }
    let reply = find(entry, CTA_TUPLE_REPLY)?;
    Some(Flow {
        source: address(original, CTA_IP_V4_SRC)?,
        target: destination(original)?,
        answers_from: address(reply, CTA_IP_V4_SRC)?,
        answers_to: destination(reply)?,
        original: original.to_vec(),
    })
}

fn destination(tuple: &[u8]) -> Option<SocketAddrV4> {
    let port = find(find(tuple, CTA_TUPLE_PROTO)?, CTA_PROTO_DST_PORT)?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    Some(SocketAddrV4::new(address(tuple, CTA_IP_V4_DST)?, port))
}

fn address(tuple: &[u8], which: u16) -> Option<Ipv4Addr> {
    let address = find(find(tuple, CTA_TUPLE_IP)?, which)?;
    let address: [u8; 4] = address.try_into().ok()?;
    Some(address.into())
}

fn request(message: u16, body: Vec<u8>) -> Request {
    Request {
        subsystem: libc::NFNL_SUBSYS_CTNETLINK as u8,
        message,
        body,
    }
}

fn refused(operation: &str, errno: i32) -> Error {
    Error {
        operation: operation.to_owned(),
        object: "flows of the firewall (conntrack)".to_owned(),
        errno,
        detail: None,
    }
}

#[cfg(test)]
impl Flow {
    /// One of which only this is known.
    pub fn new(
        (source, target): (Ipv4Addr, SocketAddrV4),
        (answers_from, answers_to): (Ipv4Addr, SocketAddrV4),
    ) -> Self {
        Self {
            source,
            target,
            answers_from,
            answers_to,
            original: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::nfnetlink::attribute;
    use super::*;

    const CLIENT: [u8; 4] = [198, 51, 100, 1];
    const HOST: [u8; 4] = [192, 0, 2, 1];
    const CONTAINER: [u8; 4] = [10, 10, 0, 2];

    fn tuple(protocol: u8, from: [u8; 4], to: [u8; 4], port: u16) -> Vec<u8> {
        let numbers = [
            attribute(CTA_PROTO_NUM, &[protocol]),
            attribute(CTA_PROTO_DST_PORT, &port.to_be_bytes()),
        ];
        let ip = [
            attribute(CTA_IP_V4_SRC, &from),
            attribute(CTA_IP_V4_DST, &to),
        ];
        let ip = nested(CTA_TUPLE_IP, &ip.concat());
        [ip, nested(CTA_TUPLE_PROTO, &numbers.concat())].concat()
    }

    #[test]
    fn a_udp_flow_is_read_and_others_are_passed_over() {
        let entry = |protocol| {
            let original = tuple(protocol, CLIENT, HOST, 53);
            let reply = tuple(protocol, CONTAINER, CLIENT, 4000);
            [
                nested(CTA_TUPLE_ORIG, &original),
                nested(CTA_TUPLE_REPLY, &reply),
            ]
            .concat()
        };
        let original = tuple(17, CLIENT, HOST, 53);
        let there = (CLIENT.into(), SocketAddrV4::new(HOST.into(), 53));
        let back = (CONTAINER.into(), SocketAddrV4::new(CLIENT.into(), 4000));
        let expected = Flow {
            original,
            ..Flow::new(there, back)
        };
        assert_eq!(udp(&entry(17)), Some(expected));
        assert_eq!(udp(&entry(6)), None);
        assert_eq!(udp(&[1, 2, 3]), None);
    }
}
