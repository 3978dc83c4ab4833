//! The container network of a host: one bridge, a range of addresses, a firewall table.

pub mod subnet; //  ranges, and finding a free one
pub mod bridge; //  the bridge, its range remembered, forwarding
pub mod nat; //     the firewall table
pub mod forward; // what others say about forwarded packets
pub mod ipam; //    which container has which address
pub mod ports; //   which container has which port of the host
pub mod flows; //   who sends datagrams to a port, and where they have gone until now
pub mod names; //   hosts and resolv.conf

mod listeners; //   who else has a port

pub use subnet::Subnet;
