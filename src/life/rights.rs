//! What mybox itself may do, and which devices of the host a container gets: what a plan is made from.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Capabilities, LinuxDeviceBuilder, LinuxDeviceType};

use crate::kernel::cgroup::Group;
use crate::kernel::{self, caps};
use crate::plan::capabilities::{self, ALL};
use crate::plan::{GivenDevice, RunRequest};

/// The capabilities that mybox has to give.
pub(super) fn held() -> kernel::Result<Capabilities> {
    let held = caps::permitted()?;
    let is_held = |name: &str| caps::parse(name).is_ok_and(|one| held.contains(one));
    let all = ALL.into_iter();
    Ok(all.filter(|it| is_held(&it.to_string())).collect())
}

/// What of the host's /dev is never handed on: each container has its own.
const OWN: [&str; 14] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/console",
    "/dev/ptmx",
    "/dev/core",
    "/dev/fd",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/dev/.lxc",
];

/// The devices of the host that the request asks for.
pub(super) fn devices(request: &RunRequest) -> Result<Vec<GivenDevice>> {
    let mut found = Vec::new();
    if request.privileged {
        let dev = Path::new("/dev");
        below(dev, dev, "rwm", &mut found)?;
    }
    for device in &request.devices {
        let (from, to) = (&device.source, &device.destination);
        let access = device.access.as_str();
        let metadata =
            fs::metadata(from).with_context(|| format!("--device {}", from.display()))?;
        let before = found.len();
        if metadata.is_dir() {
            below(from, to, access, &mut found)?;
        } else {
            found.extend(node(&metadata, to, access)?);
        }
        if found.len() == before {
            bail!("--device {}: it is not a device", from.display());
        }
    }
    Ok(found)
}

/// Fails for what only a device cgroup could keep; the answer is what the user should know of the
/// lack of one.
pub(super) fn without_device_rules(
    request: &RunRequest,
    group: &Group,
) -> Result<Option<&'static str>> {
    if group.has_device_rules() || request.privileged {
        return Ok(None);
    }
    const LACK: &str = "this host has neither cgroups v2 nor the `devices` controller of v1";
    if let Some(device) = request.devices.iter().find(|it| it.access.len() < 3) {
        let (path, access) = (device.source.display(), &device.access);
        bail!("--device {path}: `{access}`: {LACK}, so it could be given as `rwm` only");
    }
    if let Some(rule) = request.device_cgroup_rules.first() {
        bail!("--device-cgroup-rule `{rule}`: {LACK}");
    }
    let opens = capabilities::opens_devices(&request.cap_add, &request.cap_drop);
    Ok(opens.then_some(
        "with CAP_MKNOD the container can open every device of the host: there are neither \
         cgroups v2 nor the `devices` controller of v1 here",
    ))
}

/// All devices of a directory and of those below it; no symbolic link is followed.
fn below(from: &Path, to: &Path, access: &str, found: &mut Vec<GivenDevice>) -> Result<()> {
    let listed = |path: &Path| format!("list {}", path.display());
    for entry in fs::read_dir(from).with_context(|| listed(from))? {
        let entry = entry.with_context(|| listed(from))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if OWN.iter().any(|own| path == Path::new(own)) {
            continue;
        }
        let metadata = match entry.metadata() {
            // Unplugged in between.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            metadata => metadata.with_context(|| format!("stat {}", path.display()))?,
        };
        if metadata.is_dir() {
            below(&path, &to, access, found)?;
        } else {
            found.extend(node(&metadata, &to, access)?);
        }
    }
    Ok(())
}

/// The device with its owner and mode on the host; `None` for what is no device.
fn node(metadata: &Metadata, to: &Path, access: &str) -> Result<Option<GivenDevice>> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return Ok(None),
    };
    let number = metadata.rdev();
    let node = LinuxDeviceBuilder::default()
        .path(to)
        .typ(kind)
        .major(rustix::fs::major(number))
        .minor(rustix::fs::minor(number))
        .file_mode(metadata.mode() & 0o777)
        .uid(metadata.uid())
        .gid(metadata.gid())
        .build()?;
    let access = access.to_owned();
    Ok(Some(GivenDevice { node, access }))
}
