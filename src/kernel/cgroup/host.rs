//! The hierarchies of this host, and which of them has which controller.

use std::fs;
use std::path::{Path, PathBuf};

use super::group::{Group, Part};
use super::{Context, Controller, Error, Limits, Result, Version, block_io, cpuset};

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
        let has_part = |it: &&Hierarchy| group.is_in(it);
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

    /// The group that a container `name` with these limits gets: where it lies, not yet made. It lies in
    /// `parent` of each hierarchy, from its top if that is an absolute path.
    ///
    /// Fails with the name of the controller if a limit could not be enforced.
    pub fn group(&self, name: &str, limits: &Limits, parent: Option<&Path>) -> Result<Group> {
        let mut wanted = limits.required();
        for &controller in &wanted {
            self.must_have(controller)?;
        }
        let memory = self.hierarchy_of(Controller::Memory);
        if memory.is_some_and(|it| it.version == Version::V2)
            && let Some(what) = limits.of_v1_only()
        {
            let detail = "cgroups v2 leave that to the kernel; only v1 has a setting for it";
            return Err(Error::new("set", what, detail));
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
            match parts.iter_mut().find(|part| part.is_in(hierarchy)) {
                Some(part) => part.add(controller),
                None => parts.push(Part::new(hierarchy, parent, name, controller)),
            }
        }
        if let Some(part) = parts.iter().find(|part| part.has(Controller::Cpuset)) {
            cpuset::check(part.top(), limits)?;
        }
        let block_devices = block_io::numbers(&limits.block_io)?;
        Ok(Group::new(parts, block_devices))
    }

    /// The group that a container `name` gets for processors and memory nodes of its own choice, as in
    /// [`group`](Self::group): without such limits it is started with none.
    pub fn cpuset(&self, name: &str, limits: &Limits, parent: Option<&Path>) -> Result<Group> {
        let controller = Controller::Cpuset;
        self.must_have(controller)?;
        let hierarchy = self.hierarchy_of(controller).into_iter();
        let parts: Vec<Part> = hierarchy
            .map(|it| Part::new(it, parent, name, controller))
            .collect();
        for part in &parts {
            cpuset::check(part.top(), limits)?;
        }
        Ok(Group::new(parts, block_io::Numbers::new()))
    }

    fn must_have(&self, controller: Controller) -> Result<()> {
        let found = match controller {
            Controller::Io => self
                .hierarchy_of(Controller::Io)
                .or_else(|| self.hierarchy_of(Controller::Blkio)),
            other => self.hierarchy_of(other),
        };
        match found {
            Some(_) => Ok(()),
            None => {
                let name = controller.name();
                let detail = format!("this host has no `{name}` cgroup controller");
                Err(Error::new("limit", name, detail))
            }
        }
    }
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
    use super::super::{CpuQuota, Swap};
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
        let paths = hybrid().group("abc", &limits, None).unwrap().paths();
        assert!(
            paths.contains(&"/sys/fs/cgroup/memory/own/mybox/abc".into()),
            "{paths:?}"
        );
        assert!(
            paths.contains(&"/sys/fs/cgroup/unified/mybox/abc".into()),
            "{paths:?}"
        );
        let paths = v2().group("abc", &limits, None).unwrap().paths();
        assert_eq!(paths, [PathBuf::from("/sys/fs/cgroup/mybox/abc")]);
    }

    #[test]
    fn a_limit_without_its_controller_is_an_error_that_names_it() {
        let host = Host::from_text("", "", |_| String::new());
        let limits = Limits {
            cpuset_cpus: Some("0".into()),
            ..Limits::default()
        };
        let error = host.group("abc", &limits, None).unwrap_err();
        assert!(
            error.to_string().contains("no `cpuset` cgroup controller"),
            "{error}"
        );
        assert!(
            host.group("abc", &Limits::default(), None)
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
                quota: Some(150_000),
                period: None,
            }),
            cpu_shares: Some(1024),
            pids: Some(64),
            ..Limits::default()
        };
        let shown = |host: Host| -> Vec<String> {
            let group = host.group("x", &limits, None).unwrap();
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
