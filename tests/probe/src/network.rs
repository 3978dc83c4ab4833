//! Small network actions: servers and clients that say one thing, an echo request, a DNS query. All
//! are bounded.

use std::io::{Read, Write, copy, stdout};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrV4, SocketType, ipproto};

/// How long any single answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends back `count` datagrams to where they came from, prints each sender, then ends.
pub(crate) fn udp_echo_server(address: &str, count: usize) -> Result<()> {
    let socket = UdpSocket::bind(address).with_context(|| format!("bind {address}"))?;
    println!("listening {}", socket.local_addr()?);
    let mut buffer = [0; 65536];
    for _ in 0..count {
        let (length, sender) = socket.recv_from(&mut buffer)?;
        println!("from {sender}");
        socket.send_to(&buffer[..length], sender)?;
    }
    Ok(())
}

/// Answers every connection with `text` and the peer's address on a line of its own, until it is
/// killed.
pub(crate) fn tcp_server(address: &str, text: &str) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("bind {address}"))?;
    println!("listening {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let mut stream = stream?;
        let peer = stream.peer_addr()?.ip();
        // A client that left early is its own business; the server goes on.
        let _ = stream.write_all(format!("{text}\n{peer}\n").as_bytes());
    }
    Ok(())
}

/// Connects and prints all that the server says.
pub(crate) fn tcp_get(address: &str) -> Result<()> {
    let target: SocketAddr = address.parse().context("address")?;
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)
        .with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    copy(&mut Read::by_ref(&mut stream), &mut stdout())?;
    Ok(())
}

/// Sends one datagram and prints the answer.
pub(crate) fn udp_send(address: &str, text: &str) -> Result<()> {
    let answer = ask(address.parse().context("address")?, text.as_bytes())?;
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// The same from an address and port of one's own choice.
pub(crate) fn udp_send_from(own: &str, address: &str, text: &str) -> Result<()> {
    let own = own.parse().context("own address")?;
    let answer = ask_from(own, address.parse().context("address")?, text.as_bytes())?;
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Sends one datagram and waits for one back.
fn ask(server: SocketAddr, question: &[u8]) -> Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    }
    .parse()?;
    ask_from(any, server, question)
}

/// The same from this address.
fn ask_from(own: SocketAddr, server: SocketAddr, question: &[u8]) -> Result<Vec<u8>> {
    let socket = UdpSocket::bind(own).context("bind")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket
        .connect(server)
        .with_context(|| format!("connect to {server}"))?;
    socket
        .send(question)
        .with_context(|| format!("send to {server}"))?;
    let mut buffer = vec![0; 65536];
    let length = socket
        .recv(&mut buffer)
        .with_context(|| format!("no answer from {server}"))?;
    buffer.truncate(length);
    Ok(buffer)
}

/// One ICMP echo, by an unprivileged datagram socket, or a raw one where `ping_group_range` forbids
/// that.
pub(crate) fn ping(address: Ipv4Addr) -> Result<()> {
    let (socket, kind) = match icmp_socket(SocketType::DGRAM) {
        Ok(socket) => (socket, "dgram"),
        Err(Errno::ACCESS | Errno::PERM) => (
            icmp_socket(SocketType::RAW).context("neither a datagram nor a raw socket")?,
            "raw",
        ),
        Err(errno) => return Err(errno).context("ICMP socket"),
    };
    set_socket_timeout(socket.as_fd(), Timeout::Recv, Some(PATIENCE)).context("time-out")?;
    let to = SocketAddrV4::new(address, 0);
    rustix::net::sendto(&socket, &echo_request(), SendFlags::empty(), &to)
        .with_context(|| format!("send to {address}"))?;
    let mut buffer = [0_u8; 1500];
    // A raw socket hears every ICMP message that reaches this host, its own request on loopback
    // included.
    for _ in 0..64 {
        let (length, _, from) = rustix::net::recvfrom(&socket, &mut buffer, RecvFlags::empty())
            .with_context(|| format!("no echo from {address}"))?;
        let header = if kind == "raw" {
            4 * usize::from(buffer[0] & 0x0f)
        } else {
            0
        };
        let is_from_target = from
            .and_then(|from| SocketAddrV4::try_from(from).ok())
            .is_some_and(|from| from.ip() == to.ip());
        if is_from_target && header < length && buffer[header] == 0 {
            println!("echo from {address} by {kind} socket");
            return Ok(());
        }
    }
    bail!("no echo from {address}")
}

fn icmp_socket(kind: SocketType) -> rustix::io::Result<OwnedFd> {
    rustix::net::socket(AddressFamily::INET, kind, Some(ipproto::ICMP))
}

/// Type 8, code 0, checksum, identifier 1, sequence 1 (RFC 792). The kernel overwrites a datagram
/// socket's identifier and checksum.
fn echo_request() -> [u8; 8] {
    let mut message = [8, 0, 0, 0, 0, 1, 0, 1];
    let sum: u32 = message
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX);
    message[2..4].copy_from_slice(&(!folded).to_be_bytes());
    message
}

/// Asks the first nameserver of `/etc/resolv.conf` for the IPv4 addresses of `name` and prints
/// them.
pub(crate) fn resolve(name: &str) -> Result<()> {
    let conf = std::fs::read_to_string("/etc/resolv.conf").context("/etc/resolv.conf")?;
    let server = conf
        .lines()
        .find_map(|line| {
            line.strip_prefix("nameserver")?
                .trim()
                .parse::<IpAddr>()
                .ok()
        })
        .context("/etc/resolv.conf names no server")?;
    let answer = ask(SocketAddr::new(server, 53), &dns_query(name)?)?;
    let code = answer.get(3).context("short answer")? & 0x0f;
    ensure!(code == 0, "{server} answers with code {code}");
    let addresses = dns_addresses(&answer).context("malformed answer")?;
    ensure!(!addresses.is_empty(), "{server} knows no address of {name}");
    addresses.iter().for_each(|address| println!("{address}"));
    Ok(())
}

/// Answers every DNS query with the one address `answer`, and prints who asked, until it is killed.
pub(crate) fn dns_server(address: &str, answer: Ipv4Addr) -> Result<()> {
    let socket = UdpSocket::bind(address).with_context(|| format!("bind {address}"))?;
    println!("listening {}", socket.local_addr()?);
    let mut buffer = [0; 512];
    loop {
        let (length, client) = socket.recv_from(&mut buffer)?;
        println!("query from {client}");
        if let Some(reply) = dns_reply(&buffer[..length], answer) {
            socket.send_to(&reply, client)?;
        }
    }
}

/// The query turned into an answer: the same question, then one A record whose name points to it.
fn dns_reply(query: &[u8], answer: Ipv4Addr) -> Option<Vec<u8>> {
    let question_end = skip_name(query, 12)? + 4;
    let mut reply = query.get(..question_end)?.to_vec();
    reply[2..4].copy_from_slice(&[0x81, 0x80]);
    reply[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    reply.extend_from_slice(&answer.octets());
    Some(reply)
}

/// A recursive query for A records (RFC 1035, section 4).
fn dns_query(name: &str) -> Result<Vec<u8>> {
    let mut query = vec![0x4d, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        query.push(
            u8::try_from(label.len())
                .ok()
                .filter(|length| *length < 64)
                .context("label")?,
        );
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    Ok(query)
}

/// The A records among the answers; none if the message is malformed.
fn dns_addresses(message: &[u8]) -> Option<Vec<Ipv4Addr>> {
    let word = |at: usize| {
        Some(u16::from_be_bytes([
            *message.get(at)?,
            *message.get(at + 1)?,
        ]))
    };
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip_name(message, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..word(6)? {
        at = skip_name(message, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        if let (1, Ok(octets)) = (kind, <[u8; 4]>::try_from(data)) {
            addresses.push(Ipv4Addr::from(octets));
        }
        at += 10 + length;
    }
    Some(addresses)
}

/// Where the name that starts at `at` ends: at a zero byte or after a two-byte pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_answer_with_pointer_and_cname_is_read() {
        let mut message = dns_query("a.example").expect("a short name");
        message[7] = 2;
        message.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 14]);
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
        assert_eq!(
            dns_addresses(&message),
            Some(vec![Ipv4Addr::new(192, 0, 2, 7)])
        );
        assert_eq!(dns_addresses(&message[..message.len() - 1]), None);
    }

    #[test]
    fn the_dns_server_gives_what_the_client_reads() {
        let address = Ipv4Addr::new(192, 0, 2, 9);
        let query = dns_query("some.name.example").expect("a short name");
        let reply = dns_reply(&query, address).expect("a whole query");
        assert_eq!(dns_addresses(&reply), Some(vec![address]));
    }

    #[test]
    fn the_echo_request_carries_its_checksum() {
        assert_eq!(echo_request(), [8, 0, 0xf7, 0xfd, 0, 1, 0, 1]);
    }
}
