//! From plan to running process. The parent's side of `init::protocol`.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::{RunFailed, filter, network, stack};
use crate::container::{Claim, Places, claim};
use crate::init::protocol::{self, FromParent};
use crate::init::{self, Birth, ImageTree, Joins, Task};
use crate::kernel::namespace;
use crate::kernel::netlink::{Netlink, VethPair};
use crate::kernel::overlay::Lower;
use crate::kernel::poll::{self, AT_ONCE};
use crate::kernel::process::{self, Child, Held, OpenFiles, Side, SingleThreaded};
use crate::kernel::signal::Signals;
use crate::kernel::socket::{self, End};
use crate::net::bridge::Ready;
use crate::plan::{Joined, Neighbour, RunPlan, devices};

/// A container process that has been told to go on.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) channel: End,
    pub(super) signals: Signals,
}

/// What there is already for the process to be started on.
pub(super) struct Ground<'a> {
    /// The plan's layers, those that are mounts mounted.
    pub(super) lower: &'a [Lower],
    /// The images that it can read.
    pub(super) images: &'a [ImageTree],
    /// The limit of open files the caller had.
    pub(super) open_files: OpenFiles,
    /// The bridge it will be attached to.
    pub(super) bridge: Option<Ready>,
    /// Its standard input, output and error, if they are not the caller's.
    pub(super) stdio: Option<[OwnedFd; 3]>,
}

/// Makes what the record names and starts the process.
pub(super) fn launch(
    places: &Places,
    proof: &SingleThreaded,
    claim: &Claim,
    plan: &RunPlan,
    ground: Ground<'_>,
) -> Result<Running, RunFailed> {
    let Ground {
        lower,
        images,
        open_files,
        bridge,
        stdio,
    } = ground;
    // From here on a signal waits until it can be forwarded, or ends in an orderly teardown.
    let signals = Signals::take().map_err(anyhow::Error::from)?;
    stack::make_directories(plan)?;
    limit(plan)?;
    let filter = filter::compiled(places, &plan.spec)?;
    let groups = crate::plan::groups(&plan.spec);
    let (channel, child_channel) = socket::pair().map_err(anyhow::Error::from)?;
    let joining = Joining::of(places, &plan.joined)?;
    let birth = Birth {
        joins: Joins {
            network: joining.network.as_ref().map(AsFd::as_fd),
            ipc: joining.ipc.as_ref().map(AsFd::as_fd),
            uts: joining.uts.as_ref().map(AsFd::as_fd),
        },
        plan,
        lower,
        images,
        task: Task {
            process: plan.process()?,
            groups: &groups,
            filter: &filter,
            channel: child_channel,
            mask: signals.mask_before(),
            open_files,
            follows_parent: true,
            stdio,
        },
    };
    let child = clone(proof, birth, &joining, &channel)?;
    let started = attach(places, claim, plan, bridge, &child)
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
    // From the first moment: all that mybox itself opens in the container is allowed to everybody.
    plan.cgroup
        .restrict_devices(&devices::of_spec(&plan.spec))?;
    Ok(())
}

fn clone(
    proof: &SingleThreaded,
    birth: Birth<'_>,
    joining: &Joining,
    channel: &End,
) -> Result<Child> {
    let plan = birth.plan;
    let cgroup = plan.cgroup.open_v2()?;
    let flags = namespaces(&plan.spec);
    if let Some(other) = &joining.pid {
        // Before the clone: the other container sees the child from its first moment.
        process::make_undumpable()?;
        namespace::bear_children_in(other.as_fd())?;
    }
    match process::clone_child(proof, flags, cgroup.as_ref().map(AsFd::as_fd))? {
        Side::Parent(child) => {
            if joining.pid.is_some() {
                namespace::bear_children_here()?;
                process::make_dumpable()?;
            }
            Ok(child)
        }
        Side::Child => {
            // The child's copy of the parent's end: left open, its death would go unnoticed.
            crate::kernel::raw::close_copy(channel.as_fd());
            init::enter(birth)
        }
    }
}

/// First processes of the containers whose namespaces are joined, held.
struct Joining {
    pid: Option<Held>,
    network: Option<Held>,
    ipc: Option<Held>,
    uts: Option<Held>,
}

impl Joining {
    fn of(places: &Places, joined: &Joined) -> Result<Self> {
        let pid = joined.pid.as_ref().map(held).transpose()?;
        let network = joined.network.as_ref().map(held).transpose()?;
        let ipc = joined.ipc.as_ref().map(held).transpose()?;
        let uts = joined.uts.as_ref().map(held).transpose()?;
        if let Some(neighbour) = &joined.network {
            claim::share_network(places, &neighbour.id)
                .with_context(|| format!("join the network of container {}", neighbour.name))?;
        }
        Ok(Self {
            pid,
            network,
            ipc,
            uts,
        })
    }
}

fn held(neighbour: &Neighbour) -> Result<Held> {
    let (pid, started) = neighbour.process;
    process::hold_running(pid, started)?
        .with_context(|| format!("container {} is not running any more", neighbour.name))
}

/// The new ones. The cgroup namespace is left out: it takes the cgroup that its maker is in, and on
/// v1 the child has yet to join its own.
fn namespaces(spec: &Spec) -> u64 {
    let linux = spec.linux().as_ref();
    let all = linux.and_then(|linux| linux.namespaces().as_ref());
    let new = all.into_iter().flatten().filter(|it| it.path().is_none());
    let flags = new.fold(0, |flags, namespace| {
        flags
            | match namespace.typ() {
                LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
                LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
                LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
                LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
                LinuxNamespaceType::Network => libc::CLONE_NEWNET,
                LinuxNamespaceType::Cgroup
                | LinuxNamespaceType::User
                | LinuxNamespaceType::Time => 0,
            }
    });
    u64::from(flags.cast_unsigned())
}

/// Puts the process on record and its interface on the bridge.
fn attach(
    places: &Places,
    claim: &Claim,
    plan: &RunPlan,
    bridge: Option<Ready>,
    child: &Child,
) -> Result<()> {
    let started = process::start_time(child.pid).context("read the start time of the container")?;
    claim
        .write_process(child.pid, started)
        .context("record the container's process")?;
    let (Some(bridged), Some(ready)) = (&plan.bridged, bridge) else {
        return Ok(());
    };
    let mut netlink = Netlink::open()?;
    let hardware = bridged.hardware;
    let pair = VethPair {
        host: &bridged.veth,
        bridge: ready.index,
        peer: init::INTERFACE,
        peer_hardware: hardware,
        peer_pid: child.pid,
    };
    match netlink.add_veth(&pair) {
        // The container's own, of its last run: the kernel has yet to take that namespace down.
        Err(error) if error.is(Errno::EEXIST) => {
            netlink.remove_link(pair.host)?;
            netlink.add_veth(&pair)?;
        }
        made => made?,
    }
    // Whoever had the address before may be dying still, its port not yet gone.
    if let Some(port) = netlink.link(&bridged.veth)? {
        netlink.claim_hardware_address(port.index, &bridged.veth, hardware)?;
        if !bridged.ports.is_empty() {
            netlink.set_hairpin(port.index, &bridged.veth)?;
        }
    }
    if !bridged.ports.is_empty() {
        network::publish(places, bridged)?;
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
    let ready = poll::wait(&[channel.as_fd()], &[], Some(&AT_ONCE)).ok()?;
    ready.contains(&true).then_some(())?;
    match protocol::receive(channel).ok()?? {
        (protocol::FromChild::Failed(failed), _) => Some(failed),
        _ => None,
    }
}
