//! A container's directories in the hierarchies: made, written to, opened.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::block_io::{self, Numbers};
use super::{
    Context, Controller, Error, Hierarchy, Limits, PARENT, Result, Version, device_filter, raw, v1,
    v2, write_existing,
};

/// Which devices the processes of a group may open or make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceRules {
    /// Whether only what is allowed is.
    pub restricted: bool,
    /// `c 1:3 rwm`, as the kernel reads it.
    pub allowed: Vec<String>,
}

/// A container's directories, one in each hierarchy that has a controller for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    parts: Vec<Part>,
    /// The devices whose use is bounded.
    block_devices: Numbers,
}

/// The directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    version: Version,
    mount: PathBuf,
    /// What lies above it, from a directory that is there down to its parent.
    above: Vec<PathBuf>,
    path: PathBuf,
    controllers: Vec<Controller>,
}

impl Part {
    /// `parent` is the user's choice, and of plain names.
    pub(super) fn new(
        hierarchy: &Hierarchy,
        parent: Option<&Path>,
        name: &str,
        controller: Controller,
    ) -> Self {
        let parent = parent.unwrap_or(Path::new(PARENT));
        let top = match hierarchy.version {
            Version::V1 if !parent.is_absolute() => &hierarchy.own,
            Version::V1 | Version::V2 => &hierarchy.mount,
        };
        let below = parent.strip_prefix("/").unwrap_or(parent);
        let mut above = vec![top.clone()];
        let mut path = top.clone();
        for component in below {
            path.push(component);
            above.push(path.clone());
        }
        path.push(name);
        Self {
            version: hierarchy.version,
            mount: hierarchy.mount.clone(),
            above,
            path,
            controllers: vec![controller],
        }
    }

    pub(super) fn is_in(&self, hierarchy: &Hierarchy) -> bool {
        self.mount == hierarchy.mount
    }

    pub(super) fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    pub(super) fn add(&mut self, controller: Controller) {
        self.controllers.push(controller);
    }

    /// The directory that is there for certain.
    pub(super) fn top(&self) -> &Path {
        self.above.first().map_or(&self.mount, PathBuf::as_path)
    }

    /// The directories above it that may have to be made.
    fn parents(&self) -> &[PathBuf] {
        self.above.get(1..).unwrap_or_default()
    }

    fn make(&self) -> Result<()> {
        // A run that ends may remove the shared parent between two of our mkdirs.
        for _ in 0..100 {
            match self.try_to_make() {
                Err(error)
                    if error.is(nix::errno::Errno::ENOENT)
                        && !self.parents().iter().all(|parent| parent.exists()) => {}
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

    fn try_to_make(&self) -> Result<()> {
        for parent in self.parents() {
            match fs::create_dir(parent) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).on_path("make cgroup", parent);
                }
                _ => {}
            }
            if self.version == Version::V1 {
                v1::prepare(parent, &self.controllers)?;
            }
        }
        if self.version == Version::V2 {
            v2::enable(&self.above, &self.controllers)?;
        }
        fs::create_dir(&self.path).on_path("make cgroup", &self.path)
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

    /// What is written where a kernel has another file for the same.
    pub fn instead(&self) -> Option<Self> {
        let name = self.file.file_name()?.to_str()?;
        let (name, value) = block_io::without_bfq(name, &self.value)?;
        Some(Self {
            file: self.file.with_file_name(name),
            value,
        })
    }

    /// Writes it. Where the kernel does not account for swap, only `swap_is_explicit` makes that an error.
    pub(super) fn write(&self, swap_is_explicit: bool) -> Result<()> {
        let about = || format!("{} to {}", self.value, self.file.display());
        match write_existing(&self.file, &self.value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.instead() {
                Some(instead) => instead.write(swap_is_explicit),
                None if !self.is_swap() => self.missing(error),
                None if swap_is_explicit => {
                    let detail = "this kernel has no swap accounting (boot with swapaccount=1)";
                    Err(Error::new("limit", "memory and swap", detail))
                }
                None => Ok(()),
            },
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let detail = "the container uses more than that now";
                Err(Error::new("write", about(), detail))
            }
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                let detail = "the scheduler of that disk knows no weights: write bfq to its \
                              /sys/block/NAME/queue/scheduler";
                Err(Error::new("write", about(), detail))
            }
            written => written.on("write", about()),
        }
    }

    fn missing(&self, error: io::Error) -> Result<()> {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        if ["blkio.weight", "blkio.weight_device", "io.weight"].contains(&&*name) {
            let detail = "this kernel has no weights for it (they come with its scheduler bfq)";
            return Err(Error::new("limit", "block I/O", detail));
        }
        let about = format_args!("{} to {}", self.value, self.file.display());
        Err(error).on("write", about)
    }
}

impl Group {
    pub(super) fn new(parts: Vec<Part>, block_devices: Numbers) -> Self {
        Self {
            parts,
            block_devices,
        }
    }

    pub(super) fn is_in(&self, hierarchy: &Hierarchy) -> bool {
        self.parts.iter().any(|part| part.is_in(hierarchy))
    }

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

    /// The same for a container that runs and may have some of them: on v2 they get their controllers then.
    pub fn make_the_missing(&self) -> Result<()> {
        self.parts.iter().try_for_each(|part| match part.make() {
            Err(error) if error.is(nix::errno::Errno::EEXIST) => Ok(()),
            made => made,
        })
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
                let (controllers, devices) = (&part.controllers, &self.block_devices);
                let values = part.version.settings(limits, controllers, devices);
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
        let has = |part: &Part| part.has(Controller::Devices);
        self.parts_of(Version::V1).any(has)
    }

    /// The writes that put rules for devices in force: everything is taken, then some given back. v2 has no
    /// files for them.
    pub fn device_settings(&self, rules: &DeviceRules) -> Vec<Setting> {
        let has = |part: &&Part| part.has(Controller::Devices);
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

    /// The directories above its own, outermost first, for `--dry-run`.
    pub fn parents(&self) -> Vec<PathBuf> {
        let all = self.parts.iter().flat_map(|part| part.parents());
        all.cloned().collect()
    }

    /// Those of them that are mybox's, and go with the last container.
    pub fn own_parents(&self) -> impl Iterator<Item = &Path> {
        let parents = self.parts.iter().filter_map(|part| part.path.parent());
        parents.filter(|parent| parent.ends_with(PARENT))
    }

    /// The writes that make controllers available in its own directories, for `--dry-run`.
    pub fn preparations(&self) -> Vec<Setting> {
        let preparations = self.parts_of(Version::V2).flat_map(|part| {
            let value = v2::enabling(&part.controllers);
            part.above.iter().map(move |dir| Setting {
                file: dir.join("cgroup.subtree_control"),
                value: value.clone(),
            })
        });
        preparations.collect()
    }

    /// Writes the limits.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        let settings = self.settings(limits);
        settings
            .iter()
            .try_for_each(|setting| setting.write(limits.swap_is_explicit))
    }
}
