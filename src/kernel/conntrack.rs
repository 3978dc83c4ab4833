//! Flows that the kernel remembers (conntrack). One that began before an address translation was there,
//! or when it led elsewhere, goes on as it began: for UDP as long as its sender goes on.

use std::net::Ipv4Addr;

use super::nfnetlink::{self, Request, find, nested};
use super::{Error, Result};

// linux/netfilter/nfnetlink_conntrack.h: enum ctattr_type, ctattr_tuple, ctattr_ip, ctattr_l4proto
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;

/// A remembered UDP flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The address that its first datagram was for.
    pub address: Ipv4Addr,
    /// The port of it.
    pub port: u16,
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
    let address = find(find(original, CTA_TUPLE_IP)?, CTA_IP_V4_DST)?;
    let address: [u8; 4] = address.try_into().ok()?;
    let port = find(protocol, CTA_PROTO_DST_PORT)?;
    Some(Flow {
        port: u16::from_be_bytes(port.try_into().ok()?),
        address: address.into(),
        original: original.to_vec(),
    })
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
mod tests {
    use super::super::nfnetlink::attribute;
    use super::*;

    fn tuple(protocol: u8, address: [u8; 4], port: u16) -> Vec<u8> {
        let numbers = [
            attribute(CTA_PROTO_NUM, &[protocol]),
            attribute(CTA_PROTO_DST_PORT, &port.to_be_bytes()),
        ];
        let ip = nested(CTA_TUPLE_IP, &attribute(CTA_IP_V4_DST, &address));
        [ip, nested(CTA_TUPLE_PROTO, &numbers.concat())].concat()
    }

    #[test]
    fn a_udp_flow_is_read_and_others_are_passed_over() {
        let entry = |protocol| nested(CTA_TUPLE_ORIG, &tuple(protocol, [192, 0, 2, 1], 53));
        let flow = udp(&entry(17)).expect("a UDP flow");
        assert_eq!((flow.address, flow.port), ([192, 0, 2, 1].into(), 53));
        assert_eq!(udp(&entry(6)), None);
        assert_eq!(udp(&[1, 2, 3]), None);
    }
}
