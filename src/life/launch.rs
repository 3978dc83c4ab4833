//! From plan to running process. The parent's side of `init::protocol`.

use std::os::fd::AsFd;

use anyhow::{Context, Result};

use super::{RunFailed, filter, stack};
use crate::container::{Claim, Places};
use crate::init::protocol::{self, FromParent};
use crate::init::{self, Birth};
use crate::kernel::netlink::{Netlink, VethPair};
use crate::kernel::overlay::Lower;
use crate::kernel::process::{self, Child, OpenFiles, Side, SingleThreaded};
use crate::kernel::signal::Signals;
use crate::kernel::socket::{self, End};
use crate::net::bridge::{self, Ready};
use crate::plan::{NetworkMode, RunPlan};

/// A container process that has been told to go on.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) channel: End,
    pub(super) signals: Signals,
}

/// Makes what the record names and starts the process.
pub(super) fn launch(
    places: &Places,
    proof: &SingleThreaded,
    claim: &Claim,
    plan: &RunPlan,
    lower: &[Lower],
    open_files: OpenFiles,
    bridge: Option<Ready>,
) -> Result<Running, RunFailed> {
    // From here on a signal waits until it can be forwarded, or ends in an orderly teardown.
    let signals = Signals::take().map_err(anyhow::Error::from)?;
    stack::make_directories(plan)?;
    limit(plan)?;
    let filter = filter::compiled(places, plan)?;
    let (channel, child_channel) = socket::pair().map_err(anyhow::Error::from)?;
    let birth = Birth {
        plan,
        lower,
        filter: &filter,
        channel: child_channel,
        mask: signals.mask_before(),
        open_files,
    };
    let child = clone(proof, birth, &channel)?;
    let started = attach(claim, plan, bridge, &child)
        .and_then(|()| Ok(protocol::send(&channel, &FromParent::Proceed, None)?));
    if let Err(error) = started {
        return Err(child_first(child, &channel, error));
    }
    Ok(Running {
        child,
        channel,
        signals,
    })
}

fn limit(plan: &RunPlan) -> Result<()> {
    plan.cgroup.make()?;
    plan.cgroup.apply(&plan.limits)?;
    Ok(())
}

fn clone(proof: &SingleThreaded, birth: Birth<'_>, channel: &End) -> Result<Child> {
    let plan = birth.plan;
    let cgroup = plan.cgroup.open_v2()?;
    let flags = namespaces(plan.network);
    match process::clone_child(proof, flags, cgroup.as_ref().map(AsFd::as_fd))? {
        Side::Parent(child) => Ok(child),
        Side::Child => {
            // The child's copy of the parent's end: left open, its death would go unnoticed.
            crate::kernel::raw::close_copy(channel.as_fd());
            init::enter(birth)
        }
    }
}

/// The cgroup namespace is left out: it takes the cgroup that its maker is in, and on v1 the
/// child has yet to join its own.
fn namespaces(network: NetworkMode) -> u64 {
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    let flags = match network {
        NetworkMode::Host => flags,
        NetworkMode::Bridge | NetworkMode::None => flags | libc::CLONE_NEWNET,
    };
    u64::from(flags.cast_unsigned())
}

/// Puts the process on record and its interface on the bridge.
fn attach(claim: &Claim, plan: &RunPlan, bridge: Option<Ready>, child: &Child) -> Result<()> {
    let started = process::start_time(child.pid).context("read the start time of the container")?;
    claim
        .write_process(child.pid, started)
        .context("record the container's process")?;
    let (Some(bridged), Some(ready)) = (&plan.bridged, bridge) else {
        return Ok(());
    };
    let mut netlink = Netlink::open()?;
    let hardware = bridge::hardware_address(bridged.address);
    netlink.add_veth(&VethPair {
        host: &bridged.veth,
        bridge: ready.index,
        peer: init::INTERFACE,
        peer_hardware: hardware,
        peer_pid: child.pid,
    })?;
    // Whoever had the address before may be dying still, its port not yet gone.
    if let Some(port) = netlink.link(&bridged.veth)? {
        netlink.claim_hardware_address(port.index, &bridged.veth, hardware)?;
    }
    Ok(())
}

/// If the child failed first, its reason is the reason: the parent's own error only follows.
fn child_first(child: Child, channel: &End, error: anyhow::Error) -> RunFailed {
    let told = match poll_failed(channel) {
        Some(failed) => super::supervise::failed_to_start(failed),
        None => RunFailed::from(error),
    };
    let ended = child
        .signal(rustix::process::Signal::KILL)
        .and_then(|()| child.wait());
    if let Err(error) = ended {
        tracing::debug!("after a failed start: {error}");
    }
    told
}

/// What the child has said already, if it was why it failed.
fn poll_failed(channel: &End) -> Option<protocol::Failed> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let fd = channel.as_fd();
    let mut set = [PollFd::new(&fd, PollFlags::IN)];
    poll(
        &mut set,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .ok()
    .filter(|ready| *ready > 0)?;
    match protocol::receive(channel).ok()?? {
        (protocol::FromChild::Failed(failed), _) => Some(failed),
        _ => None,
    }
}
