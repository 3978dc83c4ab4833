//! The container network of a host: one bridge, a range of addresses, a firewall table.

pub mod bridge; //  the bridge, its range remembered, forwarding
pub mod ipam; //    which container has which address
pub mod names;
pub mod nat; //     the firewall table
pub mod subnet; //  ranges, and finding a free one //   hosts and resolv.conf

pub use subnet::Subnet;
