//! Messages of netfilter's netlink family, put together by hand: one question and its answer, or a
//! whole list.

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::{Context, Result};

/// Bytes of `struct nlmsghdr`, and of `struct nfgenmsg` behind it.
const HEADER: usize = 16;
const FAMILY: usize = 4;

/// A request of family ip.
#[derive(Debug)]
pub struct Request {
    /// `NFNL_SUBSYS_*`.
    pub subsystem: u8,
    /// The subsystem's own number for it.
    pub message: u16,
    /// Attributes.
    pub body: Vec<u8>,
}

/// A connected socket.
pub fn open() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER).on("open socket", "nfnetlink")?;
    socket.bind_auto().on("bind socket", "nfnetlink")?;
    socket
        .connect(&SocketAddr::new(0, 0))
        .on("connect socket", "nfnetlink")?;
    Ok(socket)
}

/// Sends a question; the attributes of the answer, or the errno that the kernel gave.
pub fn ask(socket: &mut Socket, request: &Request) -> Result<Result<Vec<u8>, i32>> {
    send(socket, request, 0)?;
    let (datagram, _) = socket.recv_from_full().on("receive from", "nfnetlink")?;
    Ok(match errno(&datagram) {
        Some(0) => Ok(Vec::new()),
        Some(errno) => Err(errno),
        None => Ok(datagram.get(HEADER + FAMILY..).unwrap_or_default().to_vec()),
    })
}

/// Asks for something to be done; the errno that the kernel gave, if it was not.
pub fn tell(socket: &mut Socket, request: &Request) -> Result<Result<(), i32>> {
    send(socket, request, libc::NLM_F_ACK as u16)?;
    let (datagram, _) = socket.recv_from_full().on("receive from", "nfnetlink")?;
    Ok(match errno(&datagram) {
        Some(0) | None => Ok(()),
        Some(errno) => Err(errno),
    })
}

/// Asks for a list; the attributes of each entry, or the errno that the kernel gave.
pub fn dump(socket: &mut Socket, request: &Request) -> Result<Result<Vec<Vec<u8>>, i32>> {
    send(socket, request, libc::NLM_F_DUMP as u16)?;
    let mut entries = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().on("receive from", "nfnetlink")?;
        let mut rest = datagram.as_slice();
        while let Some(length) = length(rest) {
            let message = &rest[..length];
            if kind(message) == libc::NLMSG_DONE as u16 {
                return Ok(Ok(entries));
            }
            if let Some(errno) = errno(message) {
                return Ok(Err(errno));
            }
            entries.push(message.get(HEADER + FAMILY..).unwrap_or_default().to_vec());
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn send(socket: &Socket, request: &Request, flags: u16) -> Result<()> {
    const NFPROTO_IPV4: u8 = 2;
    let length = (HEADER + FAMILY + request.body.len()) as u32;
    let kind = u16::from(request.subsystem) << 8 | request.message;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes()); // sequence number
    bytes.extend(0u32.to_ne_bytes()); // port: the kernel fills it in
    bytes.extend([NFPROTO_IPV4, 0, 0, 0]); // nfgenmsg: family, version, resource id
    bytes.extend(&request.body);
    socket.send(&bytes, 0).on("send to", "nfnetlink").map(drop)
}

/// The length of the message that `bytes` begin with, if it is all there.
fn length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    (HEADER..=bytes.len()).contains(&length).then_some(length)
}

fn kind(message: &[u8]) -> u16 {
    message
        .get(4..6)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u16::from_ne_bytes)
}

/// The errno of an error message, 0 in an acknowledgement.
fn errno(message: &[u8]) -> Option<i32> {
    if kind(message) != libc::NLMSG_ERROR as u16 {
        return None;
    }
    let word = message
        .get(HEADER..HEADER + 4)
        .and_then(|bytes| bytes.try_into().ok());
    Some(word.map_or(libc::EBADMSG, |bytes| -i32::from_ne_bytes(bytes)))
}

/// An attribute as it is sent.
pub fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// An attribute that holds attributes.
pub fn nested(kind: u16, payload: &[u8]) -> Vec<u8> {
    attribute(kind | libc::NLA_F_NESTED as u16, payload)
}

/// The payload of the first attribute of this kind.
pub fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let found = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let payload = rest.get(4..length)?;
        if found & libc::NLA_TYPE_MASK as u16 == kind {
            return Some(payload);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_as_they_were_put_together() {
        let mut bytes = attribute(1, b"abc");
        bytes.extend(nested(2, &attribute(3, b"inside")));
        assert_eq!(find(&bytes, 1), Some(&b"abc"[..]));
        let inner = find(&bytes, 2).expect("it was put there");
        assert_eq!(find(inner, 3), Some(&b"inside"[..]));
        assert_eq!(find(&bytes, 3), None);
        assert_eq!(find(&bytes[..6], 1), None);
        assert_eq!(find(&[0; 8], 1), None);
    }
}
