//! The container's end of its network: address, default route, loopback.

use super::rootfs;
use crate::kernel::netlink::{Address, Netlink};
use crate::kernel::{Error, Result};
use crate::plan::{NetworkMode, RunPlan};

/// The name of a container's interface.
pub const INTERFACE: &str = "eth0";

/// Configures what the parent has put into this network namespace.
pub(super) fn configure(plan: &RunPlan) -> Result<()> {
    if matches!(plan.network, NetworkMode::Host | NetworkMode::Container(_)) {
        return Ok(());
    }
    let mut netlink = Netlink::open()?;
    let loopback = index_of(&mut netlink, "lo")?;
    netlink.set_up(loopback, "lo")?;
    let Some(bridged) = &plan.bridged else {
        return Ok(());
    };
    let index = index_of(&mut netlink, INTERFACE)?;
    let address = Address {
        ip: bridged.address,
        prefix: bridged.subnet.prefix(),
    };
    // From other containers of the bridge. `--sysctl` has the last word, later.
    rootfs::write_sysctl_if_there(&format!("net.ipv6.conf.{INTERFACE}.accept_ra"), "0")?;
    netlink.add_address(index, INTERFACE, address)?;
    netlink.set_up(index, INTERFACE)?;
    netlink.add_default_route(bridged.subnet.gateway())
}

fn index_of(netlink: &mut Netlink, name: &str) -> Result<u32> {
    match netlink.link(name)? {
        Some(link) => Ok(link.index),
        None => Err(Error::new(
            "configure",
            name,
            "there is no such link in the container",
        )),
    }
}
