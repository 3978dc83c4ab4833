//! What the container sees under /sys/fs/cgroup: its own part of each hierarchy, read-only. The
//! cgroup namespace makes the part look like the whole.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};

use crate::kernel::cgroup::{Hierarchy, Version};
use crate::kernel::mount::{self, Options};
use crate::kernel::root::{MakeAs, Root};
use crate::kernel::{Context, Error, Result, raw};
use crate::plan::RunPlan;

/// Mounts the view on `destination`: on v2 the one hierarchy; where there are v1 hierarchies a
/// directory for each of them in a small tmpfs, as systemd lays them out.
pub(super) fn mount_view(
    plan: &RunPlan,
    root: &Root,
    destination: &Path,
    options: &Options,
) -> Result<()> {
    let (target, _) = root.open_or_make(destination, MakeAs::Directory)?;
    let v1: Vec<&Hierarchy> = plan
        .hierarchies
        .iter()
        .filter(|it| has_controllers(it))
        .collect();
    if v1.is_empty() {
        let unified = mount::detached("cgroup2", "cgroup", options)?;
        return mount::attach(unified.as_fd(), target.as_fd(), destination);
    }
    let base = small_tmpfs(options)?;
    // Attached before it is filled: a detached mount takes no mounts before Linux 6.15.
    mount::attach(base.as_fd(), target.as_fd(), destination)?;
    for hierarchy in v1 {
        mount_hierarchy(&base, hierarchy, options)?;
    }
    raw::mount_setattr(base.as_fd(), false, libc::MOUNT_ATTR_RDONLY, 0)
        .on_path("make read-only", destination)
}

/// v1 hierarchies that limit something; a named one, as systemd's, only keeps lists.
fn has_controllers(hierarchy: &Hierarchy) -> bool {
    let named = hierarchy
        .controllers
        .iter()
        .any(|name| name.starts_with("name="));
    hierarchy.version == Version::V1 && !named
}

fn small_tmpfs(options: &Options) -> Result<OwnedFd> {
    let tmpfs = Options {
        attributes: options.attributes & !libc::MOUNT_ATTR_RDONLY,
        data: vec![
            ("mode".into(), Some("755".into())),
            ("size".into(), Some("64k".into())),
        ],
        bind: None,
        link: None,
    };
    mount::detached("tmpfs", "cgroup", &tmpfs)
}

fn mount_hierarchy(base: &OwnedFd, hierarchy: &Hierarchy, options: &Options) -> Result<()> {
    let name = directory_name(hierarchy)?;
    mkdirat(base, name, Mode::from_raw_mode(0o755)).on("make directory", name)?;
    for controller in hierarchy.controllers.iter().filter(|it| *it != name) {
        symlinkat(name, base, controller.as_str()).on("link", controller)?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(base, name, flags, Mode::empty()).on("open", name)?;
    let data = hierarchy
        .controllers
        .iter()
        .map(|name| (name.clone(), None))
        .collect();
    let with_controllers = Options {
        data,
        ..options.clone()
    };
    let mounted = mount::detached("cgroup", "cgroup", &with_controllers)?;
    mount::attach(mounted.as_fd(), target.as_fd(), Path::new(name))
}

/// The host's name for it, as `cpu,cpuacct`.
fn directory_name(hierarchy: &Hierarchy) -> Result<&str> {
    hierarchy
        .mount
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::new("use", hierarchy.mount.display(), "it has no name"))
}
