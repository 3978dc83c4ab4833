//! Links, addresses and routes over rtnetlink (rtnetlink(7)).
//!
//! Plain blocking requests over one socket: a run makes a handful of them, which needs no event
//! loop. The socket belongs to the network namespace it was opened in, whatever the caller does
//! later.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroI32;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{Context, Error, Result};

/// A socket to the kernel's routing tables.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// What is known of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is a bridge.
    pub is_bridge: bool,
    /// Index of the bridge that it is a port of.
    pub controller: Option<u32>,
    /// The free text that `ip link` shows as `alias`.
    pub alias: Option<String>,
}

/// An IPv4 address with the length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address itself.
    pub ip: Ipv4Addr,
    /// Bits of it that name the network.
    pub prefix: u8,
}

/// A veth pair to make: one end here on a bridge and up, the other in a process's namespace.
#[derive(Debug)]
pub struct VethPair<'a> {
    /// Name of the end that stays.
    pub host: &'a str,
    /// Index of the bridge it is attached to.
    pub bridge: u32,
    /// Name of the other end.
    pub peer: &'a str,
    /// Hardware address of the other end.
    pub peer_hardware: [u8; 6],
    /// A process in the network namespace the other end is born in.
    pub peer_pid: i32,
}

impl Netlink {
    /// Opens a socket in the caller's network namespace.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).on("open socket", "rtnetlink")?;
        socket.bind_auto().on("bind socket", "rtnetlink")?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .on("connect socket", "rtnetlink")?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// The link of this name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        match self.ask(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(into_link)),
            Err(errno) if errno == libc::ENODEV => Ok(None),
            Err(errno) => Err(refused("look up link", name, errno)),
        }
    }

    /// All links.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self
            .ask(message, NLM_F_DUMP)
            .map_err(|errno| refused("list", "links", errno))?;
        Ok(answers.into_iter().filter_map(into_link).collect())
    }

    /// The names of a bridge's ports.
    pub fn ports(&mut self, bridge: &Link) -> Result<Vec<String>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::Controller(bridge.index));
        let answers = self
            .ask(RouteNetlinkMessage::GetLink(message), NLM_F_DUMP)
            .map_err(|errno| refused("list ports of", &bridge.name, errno))?;
        // A kernel that does not know the filter lists every link.
        let is_port = |link: &Link| link.controller == Some(bridge.index);
        let links = answers.into_iter().filter_map(into_link);
        Ok(links.filter(is_port).map(|link| link.name).collect())
    }

    /// Makes a bridge that is up, with a hardware address of its own: without one it takes over
    /// that of whichever port comes or goes.
    pub fn add_bridge(&mut self, name: &str, hardware: [u8; 6]) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.extend([
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(hardware.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ]);
        self.create("make bridge", name, RouteNetlinkMessage::NewLink(message))
    }

    /// Sets the free text of a link.
    pub fn set_alias(&mut self, index: u32, name: &str, alias: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message
            .attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
        self.change("set alias of", name, RouteNetlinkMessage::SetLink(message))
    }

    /// Makes a veth pair in one request: no moment at which its peer is on the host.
    pub fn add_veth(&mut self, pair: &VethPair<'_>) -> Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes.extend([
            LinkAttribute::IfName(pair.peer.to_owned()),
            LinkAttribute::Address(pair.peer_hardware.to_vec()),
            LinkAttribute::NetNsPid(pair.peer_pid.cast_unsigned()),
        ]);
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.extend([
            LinkAttribute::IfName(pair.host.to_owned()),
            LinkAttribute::Controller(pair.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ]);
        self.create(
            "make veth",
            pair.host,
            RouteNetlinkMessage::NewLink(message),
        )
    }

    /// Has a bridge send what is for a hardware address to this port, from now on and without
    /// waiting for the port to speak: another port may have had the address a moment ago.
    pub fn claim_hardware_address(
        &mut self,
        port: u32,
        name: &str,
        address: [u8; 6],
    ) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = port;
        message.header.state = NeighbourState::Noarp;
        message.header.flags = NeighbourFlags::Controller;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(address.to_vec()));
        self.ask(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
        .map_err(|errno| refused("claim a hardware address for", name, errno))
    }

    /// Lets a bridge send out through a port what came in there. Needed where frames on the bridge pass
    /// the firewall (br_netfilter): what is translated back to its sender never leaves the bridge then.
    pub fn set_hairpin(&mut self, port: u32, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = port;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(
                true,
            )])),
        ]));
        let operation = "switch on hairpin mode of";
        self.change(operation, name, RouteNetlinkMessage::NewLink(message))
    }

    /// Removes a link; one that is gone is no error.
    pub fn remove_link(&mut self, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        match self.ask(RouteNetlinkMessage::DelLink(message), NLM_F_ACK) {
            Err(errno) if errno != libc::ENODEV => Err(refused("remove link", name, errno)),
            _ => Ok(()),
        }
    }

    /// Switches a link on.
    pub fn set_up(&mut self, index: u32, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.change("switch on", name, RouteNetlinkMessage::SetLink(message))
    }

    /// All IPv4 addresses of this namespace with the index of their link.
    pub fn addresses(&mut self) -> Result<Vec<(u32, Address)>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self
            .ask(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)
            .map_err(|errno| refused("list", "addresses", errno))?;
        Ok(answers.into_iter().filter_map(into_address).collect())
    }

    /// Gives a link an address.
    pub fn add_address(&mut self, index: u32, name: &str, address: Address) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = address.prefix;
        message.header.index = index;
        let hosts = u32::MAX.checked_shr(u32::from(address.prefix)).unwrap_or(0);
        message.attributes.extend([
            AddressAttribute::Local(IpAddr::V4(address.ip)),
            AddressAttribute::Address(IpAddr::V4(address.ip)),
            AddressAttribute::Broadcast(Ipv4Addr::from_bits(address.ip.to_bits() | hosts)),
        ]);
        let object = format!("{}/{} to {name}", address.ip, address.prefix);
        self.create(
            "add address",
            &object,
            RouteNetlinkMessage::NewAddress(message),
        )
    }

    /// Destinations of all IPv4 routes of this namespace, the default route left out.
    pub fn routes(&mut self) -> Result<Vec<Address>> {
        let answers = self.list_routes()?.into_iter();
        Ok(answers.filter_map(into_destination).collect())
    }

    /// The indices of the links that the default routes lead through.
    pub fn default_links(&mut self) -> Result<Vec<u32>> {
        let answers = self.list_routes()?.into_iter();
        Ok(answers.filter_map(into_default_link).collect())
    }

    fn list_routes(&mut self) -> Result<Vec<RouteNetlinkMessage>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)
            .map_err(|errno| refused("list", "routes", errno))
    }

    /// Sends what no other route takes to `gateway`.
    pub fn add_default_route(&mut self, gateway: Ipv4Addr) -> Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Boot;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message
            .attributes
            .push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        let object = format!("default via {gateway}");
        self.create("add route", &object, RouteNetlinkMessage::NewRoute(message))
    }

    fn create(
        &mut self,
        operation: &str,
        object: &str,
        message: RouteNetlinkMessage,
    ) -> Result<()> {
        self.ask(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
            .map(drop)
            .map_err(|errno| refused(operation, object, errno))
    }

    fn change(
        &mut self,
        operation: &str,
        object: &str,
        message: RouteNetlinkMessage,
    ) -> Result<()> {
        self.ask(message, NLM_F_ACK)
            .map(drop)
            .map_err(|errno| refused(operation, object, errno))
    }

    /// Sends one request and reads all of its answer. The error is an errno.
    fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, i32> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        self.socket.send(&bytes, 0).map_err(errno)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(errno)?;
            if self.read_datagram(&datagram, flags, &mut answers)? {
                return Ok(answers);
            }
        }
    }

    /// Reads the messages of one datagram; `true` when the answer is complete.
    fn read_datagram(
        &self,
        datagram: &[u8],
        flags: u16,
        answers: &mut Vec<RouteNetlinkMessage>,
    ) -> Result<bool, i32> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|_| libc::EBADMSG)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::Error(answer) => {
                    return answer
                        .code
                        .map_or(Ok(true), |code: NonZeroI32| Err(-code.get()));
                }
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::InnerMessage(inner) => {
                    answers.push(inner);
                    // A lone answer, neither acknowledged nor part of a dump, stands for itself.
                    if flags & (NLM_F_DUMP | NLM_F_ACK) == 0 {
                        return Ok(true);
                    }
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

fn refused(operation: &str, object: &str, errno: i32) -> Error {
    Error {
        operation: operation.to_owned(),
        object: object.to_owned(),
        errno,
        detail: None,
    }
}

fn into_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        is_bridge: false,
        controller: None,
        alias: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::LinkInfo(info) => {
                link.is_bridge = info.contains(&LinkInfo::Kind(InfoKind::Bridge));
            }
            _ => {}
        }
    }
    Some(link)
}

fn into_address(message: RouteNetlinkMessage) -> Option<(u32, Address)> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let prefix = message.header.prefix_len;
    message
        .attributes
        .into_iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(ip)) => {
                Some((message.header.index, Address { ip, prefix }))
            }
            _ => None,
        })
}

fn into_destination(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let prefix = message.header.destination_prefix_length;
    message
        .attributes
        .into_iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(Address { ip, prefix }),
            _ => None,
        })
}

fn into_default_link(message: RouteNetlinkMessage) -> Option<u32> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let mut attributes = message.attributes.into_iter();
    let is_default = message.header.destination_prefix_length == 0;
    attributes.find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) if is_default => Some(index),
        _ => None,
    })
}
