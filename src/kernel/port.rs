//! A port of the host that is held: bound by a socket that nobody reads, so that no other program can
//! have it.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketAddrV4, SocketFlags, SocketType, sockopt};

use super::{Context, Result};

/// Binds a port; the socket, and the port where 0 asked for any.
///
/// A TCP socket does not listen: should a connection ever come to it rather than to whom the port is
/// for, it is refused at once. `SO_REUSEADDR` only lets it pass over connections that a server of the host
/// had on the port a minute ago; taken back, it keeps others from the port.
pub fn hold(kind: SocketType, address: Ipv4Addr, port: u16) -> Result<(OwnedFd, u16)> {
    let object = || format!("{address}:{port}");
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)
        .on("make", "socket")?;
    let reuse = |on| sockopt::set_socket_reuseaddr(&socket, on).on("set up socket for", object());
    let is_stream = kind == SocketType::STREAM;
    if is_stream {
        reuse(true)?;
    } else {
        // What comes here is read by nobody; the kernel makes it its least.
        sockopt::set_socket_recv_buffer_size(&socket, 0).on("set up socket for", object())?;
    }
    rustix::net::bind(&socket, &SocketAddrV4::new(address, port)).on("bind", object())?;
    if is_stream {
        reuse(false)?;
    }
    let bound = rustix::net::getsockname(&socket).on("ask the name of", object())?;
    let bound = SocketAddrV4::try_from(bound).on("ask the name of", object())?;
    Ok((socket, bound.port()))
}
