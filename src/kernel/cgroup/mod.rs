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
//! caller's own, so that limits of the caller hold for the container too.

mod device_filter;
pub mod freeze;
pub mod nested;
pub mod update;
pub mod usage;
mod v1;
mod v2;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Context, Error, Result, raw};

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
    /// blkio.* of v1.
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

/// How long of each period a group may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CpuQuota {
    /// Microseconds of processor time, all processors together.
    pub quota: u64,
    /// Length of a period in microseconds.
    pub period: u64,
}

/// A bound on memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Swap {
    /// Bytes of memory plus swap, as Docker's `--memory-swap` counts.
    Total(u64),
    /// No bound on swap.
    Unlimited,
}

impl Swap {
    /// As much swap as memory: what goes with a limit of memory, unless the user says otherwise.
    pub fn twice(memory: u64) -> Self {
        Self::Total(memory.saturating_mul(2))
    }
}

/// What a group may use; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Memory plus swap.
    pub swap: Option<Swap>,
    /// Whether the caller asked for `swap` in so many words; if not, a kernel without swap
    /// accounting is no error.
    pub swap_is_explicit: bool,
    /// Bytes of memory that are reclaimed last.
    pub memory_reservation: Option<u64>,
    /// Processor time.
    pub cpu: Option<CpuQuota>,
    /// Share of processor time under contention, 2 to 262144, 1024 being usual (v1's scale).
    pub cpu_shares: Option<u64>,
    /// Processors to run on, as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Nodes to have memory of, as `0-1`.
    pub cpuset_mems: Option<String>,
    /// Number of tasks.
    pub pids: Option<u64>,
}

impl Limits {
    /// The controllers without which these limits would not hold.
    pub fn required(&self) -> BTreeSet<Controller> {
        let needs = [
            (
                Controller::Memory,
                self.memory.is_some() || self.swap.is_some() || self.memory_reservation.is_some(),
            ),
            (
                Controller::Cpu,
                self.cpu.is_some() || self.cpu_shares.is_some(),
            ),
            (
                Controller::Cpuset,
                self.cpuset_cpus.is_some() || self.cpuset_mems.is_some(),
            ),
            (Controller::Pids, self.pids.is_some()),
        ];
        needs
            .into_iter()
            .filter(|(_, needed)| *needed)
            .map(|(name, _)| name)
            .collect()
    }
}

/// Which devices the processes of a group may open or make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceRules {
    /// Whether only what is allowed is.
    pub restricted: bool,
    /// `c 1:3 rwm`, as the kernel reads it.
    pub allowed: Vec<String>,
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
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// v1 or v2.
    pub version: Version,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The directory of the group that the caller is in.
    pub own: PathBuf,
    /// The controllers it has, by their kernel names.
    pub controllers: Vec<String>,
}

impl Version {
    /// What limits swap: on v1, memory and swap together.
    fn swap_file(self) -> &'static str {
        match self {
            Self::V1 => "memory.memsw.limit_in_bytes",
            Self::V2 => "memory.swap.max",
        }
    }
}

impl Hierarchy {
    /// Whether its mount point shows a cgroup file system: elsewhere, directories and files of the
    /// same names could be made, and would limit nothing.
    fn is_visible(&self) -> bool {
        // linux/magic.h: CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC
        let magic = match self.version {
            Version::V1 => 0x0027_e0eb,
            Version::V2 => 0x6367_7270,
        };
        rustix::fs::statfs(&self.mount).is_ok_and(|found| found.f_type == magic)
    }
}

/// The hierarchies of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    hierarchies: Vec<Hierarchy>,
}

impl Host {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub fn detect() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).on("read", path);
        let controllers_of_v2 =
            |mount: &Path| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        let mut host = Self::from_text(
            &read("/proc/self/mountinfo")?,
            &read("/proc/self/cgroup")?,
            controllers_of_v2,
        );
        // The table also has mounts that others lie on top of.
        host.hierarchies.retain(Hierarchy::is_visible);
        Ok(host)
    }

    fn from_text(
        mountinfo: &str,
        membership: &str,
        controllers_of_v2: impl Fn(&Path) -> String,
    ) -> Self {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in mountinfo.lines().filter_map(Mounted::parse) {
            if hierarchies.iter().any(|known| known.mount == mount.point) {
                continue;
            }
            let (version, controllers) = match mount.kind {
                "cgroup2" => (Version::V2, words(&controllers_of_v2(&mount.point))),
                "cgroup" => (
                    Version::V1,
                    controllers_of_v1(mount.super_options, membership),
                ),
                _ => continue,
            };
            let own = own_group(membership, version, &controllers).unwrap_or("/");
            let below = Path::new(own)
                .strip_prefix(mount.root)
                .unwrap_or(Path::new(""));
            let own = mount.point.join(below);
            hierarchies.push(Hierarchy {
                version,
                mount: mount.point,
                own,
                controllers,
            });
        }
        Self { hierarchies }
    }

    /// All of them.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// The hierarchies that a group has a directory in, in the order they are mounted. In the
    /// others its processes stay where the caller is, which is none of their business.
    pub fn hierarchies_of(&self, group: &Group) -> Vec<Hierarchy> {
        let has_part = |it: &&Hierarchy| group.parts.iter().any(|part| part.mount == it.mount);
        self.hierarchies.iter().filter(has_part).cloned().collect()
    }

    /// The hierarchy that has this controller. v1 has it if it is mounted there: a controller can
    /// only be in one place.
    pub fn hierarchy_of(&self, controller: Controller) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| {
            hierarchy
                .controllers
                .iter()
                .any(|name| name == controller.name())
        })
    }

    /// Whether it counts swap, and can limit it: a kernel can be told not to. No root group has
    /// such a file on v2, so others are asked too.
    pub fn counts_swap(&self) -> bool {
        let Some(hierarchy) = self.hierarchy_of(Controller::Memory) else {
            return false;
        };
        let below = fs::read_dir(&hierarchy.mount)
            .into_iter()
            .flatten()
            .flatten();
        let groups = [hierarchy.own.clone()];
        let mut groups = groups.into_iter().chain(below.map(|entry| entry.path()));
        groups.any(|group| group.join(hierarchy.version.swap_file()).exists())
    }

    /// The group that a container `name` with these limits gets: where it lies, not yet made.
    ///
    /// Fails with the name of the controller if a limit could not be enforced.
    pub fn group(&self, name: &str, limits: &Limits) -> Result<Group> {
        let mut wanted = limits.required();
        for &controller in &wanted {
            if self.hierarchy_of(controller).is_none() {
                let detail = format!("this host has no `{}` cgroup controller", controller.name());
                return Err(Error::new("limit", controller.name(), detail));
            }
        }
        // These are there for whoever wants to know what a container uses, or to pause it; only
        // limits require.
        wanted.extend([
            Controller::Memory,
            Controller::Cpu,
            Controller::Pids,
            Controller::Freezer,
            Controller::Cpuacct,
            Controller::Blkio,
            Controller::Io,
            Controller::Devices,
        ]);
        let mut parts: Vec<Part> = Vec::new();
        for controller in wanted {
            let Some(hierarchy) = self.hierarchy_of(controller) else {
                continue;
            };
            match parts.iter_mut().find(|part| part.mount == hierarchy.mount) {
                Some(part) => part.controllers.push(controller),
                None => parts.push(Part::new(hierarchy, name, controller)),
            }
        }
        Ok(Group { parts })
    }
}

/// A container's directories, one in each hierarchy that has a controller for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    version: Version,
    mount: PathBuf,
    parent: PathBuf,
    path: PathBuf,
    controllers: Vec<Controller>,
}

impl Part {
    fn new(hierarchy: &Hierarchy, name: &str, controller: Controller) -> Self {
        let base = match hierarchy.version {
            Version::V1 => &hierarchy.own,
            Version::V2 => &hierarchy.mount,
        };
        let parent = base.join(PARENT);
        Self {
            version: hierarchy.version,
            mount: hierarchy.mount.clone(),
            path: parent.join(name),
            parent,
            controllers: vec![controller],
        }
    }

    fn make(&self) -> Result<()> {
        // A run that ends may remove the shared parent between our two mkdirs.
        for _ in 0..100 {
            match fs::create_dir(&self.parent) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).on_path("make cgroup", &self.parent);
                }
                _ => {}
            }
            let prepared = match self.version {
                Version::V1 => v1::prepare(&self.parent, &self.controllers),
                Version::V2 => v2::enable(&self.mount, &self.parent, &self.controllers),
            };
            match prepared
                .and_then(|()| fs::create_dir(&self.path).on_path("make cgroup", &self.path))
            {
                Err(error) if error.is(nix::errno::Errno::ENOENT) && !self.parent.exists() => {}
                // The removal can fall between the kernel's look-up and its mkdir.
                Err(error) if error.is(nix::errno::Errno::ENODEV) => {}
                answer => return answer,
            }
        }
        Err(Error::new(
            "make cgroup",
            self.path.display(),
            "its parent keeps disappearing",
        ))
    }
}

/// One write to a file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The file.
    pub file: PathBuf,
    /// What is written to it.
    pub value: String,
}

impl Setting {
    /// Whether it bounds swap, which a kernel may not account for.
    pub fn is_swap(&self) -> bool {
        let swap = [Version::V1, Version::V2].map(Version::swap_file);
        swap.iter().any(|name| self.file.ends_with(name))
    }
}

impl Group {
    /// The directories, for a record to name before they are made.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|part| part.path.clone()).collect()
    }

    /// Whether processes are put in by a write of their own (v1) rather than by clone3 (v2).
    pub fn v1_paths(&self) -> Vec<PathBuf> {
        self.parts_of(Version::V1)
            .map(|part| part.path.clone())
            .collect()
    }

    fn parts_of(&self, version: Version) -> impl Iterator<Item = &Part> {
        self.parts
            .iter()
            .filter(move |part| part.version == version)
    }

    /// Makes the directories.
    pub fn make(&self) -> Result<()> {
        self.parts.iter().try_for_each(Part::make)
    }

    /// The v2 directory for `CLONE_INTO_CGROUP`.
    pub fn open_v2(&self) -> Result<Option<OwnedFd>> {
        self.parts_of(Version::V2)
            .next()
            .map(|part| v2::open(&part.path))
            .transpose()
    }

    /// The writes that put `limits` in force, in the order the kernel wants them. Pure: this is
    /// also what `--dry-run` prints.
    pub fn settings(&self, limits: &Limits) -> Vec<Setting> {
        self.parts
            .iter()
            .flat_map(|part| {
                let values = match part.version {
                    Version::V1 => v1::settings(limits, &part.controllers),
                    Version::V2 => v2::settings(limits, &part.controllers),
                };
                values.into_iter().map(|(file, value)| Setting {
                    file: part.path.join(file),
                    value,
                })
            })
            .collect()
    }

    /// Whether rules for devices can be put in force: by v1's controller, else by a program on v2.
    pub fn has_device_rules(&self) -> bool {
        self.has_device_files() || self.parts_of(Version::V2).next().is_some()
    }

    fn has_device_files(&self) -> bool {
        let has = |part: &Part| part.controllers.contains(&Controller::Devices);
        self.parts_of(Version::V1).any(has)
    }

    /// The writes that put rules for devices in force: everything is taken, then some given back. v2 has no
    /// files for them.
    pub fn device_settings(&self, rules: &DeviceRules) -> Vec<Setting> {
        let has = |part: &&Part| part.controllers.contains(&Controller::Devices);
        let Some(part) = self.parts_of(Version::V1).find(has) else {
            return Vec::new();
        };
        let write = |file: &str, value: &str| Setting {
            file: part.path.join(file),
            value: value.to_owned(),
        };
        let deny = rules.restricted.then(|| write("devices.deny", "a"));
        let allow = rules.allowed.iter().filter(|_| rules.restricted);
        let allow = allow.map(|rule| write("devices.allow", rule));
        deny.into_iter().chain(allow).collect()
    }

    /// Puts them in force, before there is a process in the group.
    pub fn restrict_devices(&self, rules: &DeviceRules) -> Result<()> {
        if !self.has_device_files() && rules.restricted {
            return self.filter_devices(rules);
        }
        for Setting { file, value } in self.device_settings(rules) {
            write_existing(&file, &value)
                .on("write", format_args!("{value} to {}", file.display()))?;
        }
        Ok(())
    }

    fn filter_devices(&self, rules: &DeviceRules) -> Result<()> {
        let Some(group) = self.open_v2()? else {
            return Ok(());
        };
        let program = device_filter::program(rules)
            .ok_or_else(|| Error::new("make", "rules for devices", "one of them cannot be read"))?;
        let filter = raw::load_device_filter(&program).on(
            "load",
            "the rules for devices (bpf; --privileged needs none)",
        )?;
        raw::attach_device_filter(group.as_fd(), filter.as_fd())
            .on("attach", "the rules for devices to the cgroup")
    }

    /// The writes that make controllers available below the shared parents, for `--dry-run`.
    pub fn preparations(&self) -> Vec<(PathBuf, Vec<Setting>)> {
        self.parts
            .iter()
            .map(|part| match part.version {
                Version::V1 => (part.parent.clone(), Vec::new()),
                Version::V2 => {
                    let value = v2::enabling(&part.controllers);
                    let settings = [&part.mount, &part.parent].map(|dir| Setting {
                        file: dir.join("cgroup.subtree_control"),
                        value: value.clone(),
                    });
                    (part.parent.clone(), settings.into())
                }
            })
            .collect()
    }

    /// Writes the limits.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        for setting in self.settings(limits) {
            match write_existing(&setting.file, &setting.value) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && setting.is_swap() => {
                    if limits.swap_is_explicit {
                        let detail = "this kernel has no swap accounting (boot with swapaccount=1)";
                        return Err(Error::new("limit", "memory and swap", detail));
                    }
                }
                answer => {
                    let Setting { file, value } = &setting;
                    answer.on("write", format_args!("{value} to {}", file.display()))?;
                }
            }
        }
        Ok(())
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
    // The parent is shared: it stays if another container has its group there.
    let _ = path.parent().map(fs::remove_dir);
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

/// The controllers among a v1 mount's options: those that `/proc/self/cgroup` knows too.
fn controllers_of_v1(super_options: &str, membership: &str) -> Vec<String> {
    let known = |word: &str| {
        let mut fields = membership.lines().filter_map(|line| line.split(':').nth(1));
        fields.any(|names| names.split(',').any(|name| name == word))
    };
    super_options
        .split(',')
        .filter(|word| known(word))
        .map(ToOwned::to_owned)
        .collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

/// The caller's group from `/proc/self/cgroup`: lines of `number:controllers:path`.
fn own_group<'a>(membership: &'a str, version: Version, controllers: &[String]) -> Option<&'a str> {
    membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let matches = match version {
            Version::V2 => number == "0" && names.is_empty(),
            Version::V1 => {
                !names.is_empty()
                    && names
                        .split(',')
                        .all(|name| controllers.iter().any(|c| c == name))
            }
        };
        matches.then_some(path)
    })
}

/// A line of `/proc/self/mountinfo` (proc(5)).
struct Mounted<'a> {
    root: &'a str,
    point: PathBuf,
    kind: &'a str,
    super_options: &'a str,
}

impl<'a> Mounted<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut fields = after.split(' ');
        let (kind, _source) = (fields.next()?, fields.next()?);
        Some(Self {
            root,
            point: point.into(),
            kind,
            super_options: fields.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 /docker/x /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const HYBRID_MEMBERSHIP: &str = "\
4:memory:/docker/x/own
3:cpuset:/
2:cpu,cpuacct:/some/group
9:name=systemd:/
0::/init
";

    fn hybrid() -> Host {
        Host::from_text(HYBRID_MOUNTS, HYBRID_MEMBERSHIP, |_| {
            "hugetlb pids\n".into()
        })
    }

    fn v2() -> Host {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        Host::from_text(mounts, "0::/user.slice\n", |_| {
            "cpuset cpu io memory pids\n".into()
        })
    }

    #[test]
    fn hybrid_has_each_controller_where_it_is_mounted() {
        let host = hybrid();
        let memory = host.hierarchy_of(Controller::Memory).unwrap();
        assert_eq!(memory.own, Path::new("/sys/fs/cgroup/memory/own"));
        let cpu = host.hierarchy_of(Controller::Cpu).unwrap();
        assert_eq!(cpu.own, Path::new("/sys/fs/cgroup/cpu,cpuacct/some/group"));
        assert_eq!(
            host.hierarchy_of(Controller::Pids).unwrap().version,
            Version::V2
        );
    }

    #[test]
    fn v1_groups_lie_beneath_the_callers_own_and_v2_groups_at_the_top() {
        let limits = Limits {
            memory: Some(1 << 20),
            ..Limits::default()
        };
        let paths = hybrid().group("abc", &limits).unwrap().paths();
        assert!(
            paths.contains(&"/sys/fs/cgroup/memory/own/mybox/abc".into()),
            "{paths:?}"
        );
        assert!(
            paths.contains(&"/sys/fs/cgroup/unified/mybox/abc".into()),
            "{paths:?}"
        );
        let paths = v2().group("abc", &limits).unwrap().paths();
        assert_eq!(paths, [PathBuf::from("/sys/fs/cgroup/mybox/abc")]);
    }

    #[test]
    fn a_limit_without_its_controller_is_an_error_that_names_it() {
        let host = Host::from_text("", "", |_| String::new());
        let limits = Limits {
            cpuset_cpus: Some("0".into()),
            ..Limits::default()
        };
        let error = host.group("abc", &limits).unwrap_err();
        assert!(
            error.to_string().contains("no `cpuset` cgroup controller"),
            "{error}"
        );
        assert!(
            host.group("abc", &Limits::default())
                .unwrap()
                .paths()
                .is_empty()
        );
    }

    #[test]
    fn settings_are_written_in_the_interface_of_each_hierarchy() {
        let limits = Limits {
            memory: Some(512 << 20),
            swap: Some(Swap::Total(1 << 30)),
            memory_reservation: Some(256 << 20),
            cpu: Some(CpuQuota {
                quota: 150_000,
                period: 100_000,
            }),
            cpu_shares: Some(1024),
            pids: Some(64),
            ..Limits::default()
        };
        let shown = |host: Host| -> Vec<String> {
            let group = host.group("x", &limits).unwrap();
            let settings = group.settings(&limits);
            settings
                .iter()
                .map(|s| format!("{} {}", s.value, s.file.display()))
                .collect()
        };
        assert_eq!(
            shown(v2()),
            [
                "536870912 /sys/fs/cgroup/mybox/x/memory.max",
                "536870912 /sys/fs/cgroup/mybox/x/memory.swap.max",
                "268435456 /sys/fs/cgroup/mybox/x/memory.low",
                "150000 100000 /sys/fs/cgroup/mybox/x/cpu.max",
                "39 /sys/fs/cgroup/mybox/x/cpu.weight",
                "64 /sys/fs/cgroup/mybox/x/pids.max",
            ]
        );
        assert_eq!(
            shown(hybrid()),
            [
                "536870912 /sys/fs/cgroup/memory/own/mybox/x/memory.limit_in_bytes",
                "1073741824 /sys/fs/cgroup/memory/own/mybox/x/memory.memsw.limit_in_bytes",
                "268435456 /sys/fs/cgroup/memory/own/mybox/x/memory.soft_limit_in_bytes",
                "100000 /sys/fs/cgroup/cpu,cpuacct/some/group/mybox/x/cpu.cfs_period_us",
                "150000 /sys/fs/cgroup/cpu,cpuacct/some/group/mybox/x/cpu.cfs_quota_us",
                "1024 /sys/fs/cgroup/cpu,cpuacct/some/group/mybox/x/cpu.shares",
                "64 /sys/fs/cgroup/unified/mybox/x/pids.max",
            ]
        );
    }
}
