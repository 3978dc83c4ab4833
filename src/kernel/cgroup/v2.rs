//! The unified hierarchy (Documentation/admin-guide/cgroup-v2.rst).

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::block_io::{self, Numbers};
use super::{Context, Controller, Error, Limits, Result, Swap};

/// The value that enables controllers for the groups below: `+cpu +memory`.
pub(super) fn enabling(controllers: &[Controller]) -> String {
    let words: Vec<String> = controllers
        .iter()
        .map(|controller| format!("+{}", controller.name()))
        .collect();
    words.join(" ")
}

/// Enables controllers for the children of each of these, which lie in one another.
pub(super) fn enable(dirs: &[PathBuf], controllers: &[Controller]) -> Result<()> {
    for dir in dirs {
        let file = dir.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&file).on_path("read", &file)?;
        let missing: Vec<Controller> = controllers
            .iter()
            .copied()
            .filter(|controller| {
                !enabled
                    .split_whitespace()
                    .any(|name| name == controller.name())
            })
            .collect();
        if missing.is_empty() {
            continue;
        }
        let value = enabling(&missing);
        match fs::write(&file, &value) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let detail = "it has processes of its own, which rules out limits below it; \
                              move them into a group beneath it first";
                return Err(Error::new("enable controllers in", dir.display(), detail));
            }
            answer => answer.on("write", format_args!("{value} to {}", file.display()))?,
        }
    }
    Ok(())
}

/// A group as clone3 takes it.
pub(super) fn open(group: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(group, flags, Mode::empty()).on_path("open cgroup", group)
}

/// Files of a group and what is written to them, for the controllers this hierarchy has.
pub(super) fn settings(
    limits: &Limits,
    controllers: &[Controller],
    block_devices: &Numbers,
) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    for controller in controllers {
        match controller {
            Controller::Memory => {
                settings.extend(limits.memory.map(|it| ("memory.max", it.to_string())));
                settings.extend(swap_max(limits).map(|it| ("memory.swap.max", it)));
                let reserved = limits.memory_reservation.map(|it| it.to_string());
                settings.extend(reserved.map(|it| ("memory.low", it)));
            }
            Controller::Cpu => {
                let quota = limits.cpu;
                let quota = quota.map(|it| format!("{} {}", it.written("max"), it.length()));
                settings.extend(quota.map(|it| ("cpu.max", it)));
                let weight = limits.cpu_shares.map(|it| weight(it).to_string());
                settings.extend(weight.map(|it| ("cpu.weight", it)));
            }
            Controller::Cpuset => {
                settings.extend(limits.cpuset_cpus.clone().map(|it| ("cpuset.cpus", it)));
                settings.extend(limits.cpuset_mems.clone().map(|it| ("cpuset.mems", it)));
            }
            Controller::Pids => {
                settings.extend(limits.pids.map(|it| ("pids.max", it.to_string())));
            }
            Controller::Io => {
                settings.extend(block_io::v2_settings(&limits.block_io, block_devices));
            }
            Controller::Freezer | Controller::Cpuacct | Controller::Blkio | Controller::Devices => {
            }
        }
    }
    settings
}

/// v2 bounds swap alone where Docker's flag bounds memory and swap together.
fn swap_max(limits: &Limits) -> Option<String> {
    match (limits.swap?, limits.memory) {
        (Swap::Unlimited, _) => Some("max".into()),
        (Swap::Total(total), Some(memory)) => Some(total.saturating_sub(memory).to_string()),
        (Swap::Total(_), None) => None,
    }
}

/// v1's 2..=262144 onto v2's 1..=10000, the linear map that the OCI runtimes agreed on.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn shares_map_onto_the_whole_range_of_weights() {
        assert_eq!(
            [weight(0), weight(2), weight(1024), weight(262_144)],
            [1, 1, 39, 10_000]
        );
    }
}
