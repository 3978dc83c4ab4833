//! Control groups: limits on memory, processors and processes (cgroups(7)).
//!
//! Three layouts are met in the wild: v2 alone (every current distribution), v1 alone, and the
//! hybrid, where some controllers are v1 hierarchies and the rest is v2. [`Host`] reads which
//! hierarchy has which controller; [`Host::group`] says which directories a container gets; a
//! [`Group`] makes them, writes the limits and removes them again. Paths are known before
//! anything is made, so that a record can name them first.
//!
//! v2 groups lie at `<mount>/mybox/<id>`: controllers can be enabled only below a group without
//! processes, and the caller's own has some. v1 has no such rule: its groups lie beneath the
//! caller's own, so that limits of the caller hold for the container too. A parent of the user's own
//! choice takes the place of `mybox`.

pub mod block_io;
pub mod cpuset;
mod device_filter;
pub mod freeze;
mod group;
mod host;
mod limits;
pub mod nested;
pub mod oom;
pub mod update;
pub mod usage;
mod v1;
mod v2;

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{Context, Error, Result, raw};

pub use group::{DeviceRules, Group, Setting};
pub use host::{Hierarchy, Host};
pub use limits::{CpuQuota, Limits, Swap};

/// The directory all groups of mybox lie in.
const PARENT: &str = "mybox";

/// A controller that mybox sets limits with, reads use from, or stops processes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// memory.*
    Memory,
    /// cpu.*
    Cpu,
    /// cpuset.*
    Cpuset,
    /// pids.*
    Pids,
    /// freezer.* of v1; v2 has it without a controller.
    Freezer,
    /// cpuacct.* of v1; v2 has it without a controller.
    Cpuacct,
    /// blkio.* of v1, which is what it has for [`Io`](Self::Io).
    Blkio,
    /// io.* of v2.
    Io,
    /// devices.* of v1.
    Devices,
}

impl Controller {
    /// Its name in `cgroup.controllers` and in mount options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
            Self::Cpuacct => "cpuacct",
            Self::Blkio => "blkio",
            Self::Io => "io",
            Self::Devices => "devices",
        }
    }
}

/// Which interface a hierarchy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy a controller (or a few).
    V1,
    /// The unified hierarchy.
    V2,
}

impl Version {
    /// That of a group's directory.
    fn of(group: &Path) -> Self {
        // v2 has no such file.
        match group.join("tasks").exists() {
            true => Self::V1,
            false => Self::V2,
        }
    }

    /// What limits swap: on v1, memory and swap together.
    fn swap_file(self) -> &'static str {
        match self {
            Self::V1 => "memory.memsw.limit_in_bytes",
            Self::V2 => "memory.swap.max",
        }
    }

    /// Files of a group and what is written to them, for these controllers.
    fn settings(
        self,
        limits: &Limits,
        controllers: &[Controller],
        block_devices: &block_io::Numbers,
    ) -> Vec<(&'static str, String)> {
        match self {
            Self::V1 => v1::settings(limits, controllers, block_devices),
            Self::V2 => v2::settings(limits, controllers, block_devices),
        }
    }
}

/// Writes to a file of the kernel's. To ask for it to be made, as [`fs::write`] does, turns "there
/// is none" into "permission denied".
fn write_existing(file: &Path, value: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(file)?;
    file.write_all(value.as_bytes())
}

/// How many processes of these groups the kernel has killed for want of memory.
pub fn oom_kills(paths: &[PathBuf]) -> u64 {
    let counters = ["memory.events", "memory.oom_control"];
    paths
        .iter()
        .flat_map(|path| counters.map(|name| fs::read_to_string(path.join(name))))
        .flatten()
        .find_map(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("oom_kill "))?;
            line.parse().ok()
        })
        .unwrap_or(0)
}

/// Those of a container's recorded groups that are v1's, which a process joins by itself, and v2's
/// for `CLONE_INTO_CGROUP`.
pub fn recorded(paths: &[PathBuf]) -> Result<(Vec<PathBuf>, Option<OwnedFd>)> {
    let is_v1 = |path: &&PathBuf| Version::of(path) == Version::V1;
    let v1 = paths.iter().filter(is_v1).cloned().collect();
    let v2 = paths.iter().find(|path| !is_v1(path));
    Ok((v1, v2.map(|path| v2::open(path)).transpose()?))
}

/// Moves the calling process, which must have one thread, into these v1 groups.
pub fn join_v1(paths: &[PathBuf]) -> Result<()> {
    paths.iter().try_for_each(|path| v1::join(path))
}

/// Removes recorded groups, killing what still runs in them, and the shared parents if these are
/// empty now. Groups that are gone already are no error.
pub fn remove(paths: &[PathBuf]) -> Result<()> {
    paths.iter().try_for_each(|path| remove_one(path))
}

fn remove_one(path: &Path) -> Result<()> {
    // A process that was killed leaves its group only when it is reaped: 5 s in all.
    for attempt in 0u64..100 {
        match fs::remove_dir(path) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempt < 99 => {
                remove_nested(path)?;
                kill_all(path)?;
                std::thread::sleep(std::time::Duration::from_millis(attempt.min(50)));
            }
            Err(error) => return Err(error).on_path("remove cgroup", path),
        }
    }
    // The parent is shared: it stays if another container has its group there, and one that the user
    // chose stays as it is.
    let ours = path.parent().filter(|parent| parent.ends_with(PARENT));
    let _ = ours.map(fs::remove_dir);
    Ok(())
}

/// Those that mybox made within a group, and those that the container did if it could.
fn remove_nested(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path).on_path("list cgroup", path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let inner = entry.path();
            remove_nested(&inner)?;
            kill_all(&inner)?;
            // What is still dying in it makes this fail: it is tried again with the outer one.
            let _ = fs::remove_dir(&inner);
        }
    }
    Ok(())
}

/// SIGKILL to everything in a group.
fn kill_all(path: &Path) -> Result<()> {
    match write_existing(&path.join("cgroup.kill"), "1") {
        Ok(()) => return Ok(()),
        // v1, or v2 before Linux 5.14.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).on_path("kill processes of cgroup", path),
    }
    let processes =
        fs::read_to_string(path.join("cgroup.procs")).on_path("read processes of cgroup", path)?;
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => return Err(errno).on("kill process", pid),
            }
        }
    }
    Ok(())
}
