//! The separate hierarchies (Documentation/admin-guide/cgroup-v1).

use std::fs;
use std::path::Path;

use super::block_io::{self, Numbers};
use super::{Context, Controller, Limits, Result, Swap};

/// A v1 cpuset starts with neither processors nor memory nodes and takes no process until it has
/// both: the shared parent gets what its own parent has.
pub(super) fn prepare(parent: &Path, controllers: &[Controller]) -> Result<()> {
    if controllers.contains(&Controller::Cpuset) {
        inherit_cpuset(parent)?;
        // Groups made below start as copies of the parent.
        let clone = parent.join("cgroup.clone_children");
        fs::write(&clone, "1").on_path("write 1 to", &clone)?;
    }
    Ok(())
}

fn inherit_cpuset(group: &Path) -> Result<()> {
    let Some(above) = group.parent() else {
        return Ok(());
    };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = group.join(name);
        let set = fs::read_to_string(&file).on_path("read", &file)?;
        if set.trim().is_empty() {
            let from = above.join(name);
            let inherited = fs::read_to_string(&from).on_path("read", &from)?;
            fs::write(&file, inherited.trim()).on_path("write", &file)?;
        }
    }
    Ok(())
}

/// Files of a group and what is written to them. Memory comes before memory plus swap, which must
/// never be the smaller; the period before the quota.
pub(super) fn settings(
    limits: &Limits,
    controllers: &[Controller],
    block_devices: &Numbers,
) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    for controller in controllers {
        match controller {
            Controller::Memory => {
                settings.extend(
                    limits
                        .memory
                        .map(|it| ("memory.limit_in_bytes", it.to_string())),
                );
                let swap = match limits.swap {
                    Some(Swap::Total(total)) => Some(total.to_string()),
                    Some(Swap::Unlimited) => Some("-1".to_owned()),
                    None => None,
                };
                settings.extend(swap.map(|it| ("memory.memsw.limit_in_bytes", it)));
                let reserved = limits.memory_reservation.map(|it| it.to_string());
                settings.extend(reserved.map(|it| ("memory.soft_limit_in_bytes", it)));
                let swappiness = limits.swappiness.map(|it| it.to_string());
                settings.extend(swappiness.map(|it| ("memory.swappiness", it)));
                let waits = limits.waits_for_memory.then(|| "1".to_owned());
                settings.extend(waits.map(|it| ("memory.oom_control", it)));
            }
            Controller::Cpu => {
                if let Some(cpu) = limits.cpu {
                    settings.push(("cpu.cfs_period_us", cpu.length().to_string()));
                    settings.push(("cpu.cfs_quota_us", cpu.written("-1")));
                }
                settings.extend(limits.cpu_shares.map(|it| ("cpu.shares", it.to_string())));
            }
            Controller::Cpuset => {
                settings.extend(limits.cpuset_cpus.clone().map(|it| ("cpuset.cpus", it)));
                settings.extend(limits.cpuset_mems.clone().map(|it| ("cpuset.mems", it)));
            }
            Controller::Pids => {
                settings.extend(limits.pids.map(|it| ("pids.max", it.to_string())));
            }
            Controller::Blkio | Controller::Io => {
                settings.extend(block_io::v1_settings(&limits.block_io, block_devices));
            }
            Controller::Freezer | Controller::Cpuacct | Controller::Devices => {}
        }
    }
    settings
}

/// Moves the caller, a single thread, into a group: 0 in `tasks` means whoever writes.
///
/// Not `cgroup.procs`: moving a whole process takes a lock that stops every fork of the host and
/// waits for an RCU grace period (several milliseconds); moving the writing thread alone does not.
pub(super) fn join(group: &Path) -> Result<()> {
    let tasks = group.join("tasks");
    fs::write(&tasks, "0").on_path("join cgroup", group)
}
