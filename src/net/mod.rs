//! The container network of a host: one bridge, a range of addresses, a firewall table.

pub mod subnet; //  ranges, and finding a free one
pub mod bridge; //  the bridge, its range remembered, forwarding
pub mod nat; //     the firewall table
pub mod ipam; //    which container has which address
pub mod names; //   hosts and resolv.conf

pub use subnet::Subnet;
