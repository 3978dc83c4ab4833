//! One mount of the runtime spec at a time (runtime-spec config.md, "Mounts").

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Mount;
use rustix::fs::FileType;

use super::cgroups;
use crate::kernel::mount::{self, Bind, Options};
use crate::kernel::root::{MakeAs, Root};
use crate::kernel::{Context, Error, Result};
use crate::plan::RunPlan;

/// Makes a mount in the container's root. The mount point is made if it is missing, and what
/// leads to it is resolved inside the root.
pub(super) fn make(plan: &RunPlan, root: &Root, entry: &Mount) -> Result<()> {
    let destination = entry.destination();
    let words = entry.options().iter().flatten().map(String::as_str);
    let options = Options::parse(words);
    let kind = entry.typ().as_deref().unwrap_or("none");
    let source = entry.source().as_deref().unwrap_or(Path::new("none"));
    let (mount, make_as) = match (options.bind, kind) {
        (Some(bind), _) => bound(source, bind, options.attributes)?,
        (None, "cgroup") => return cgroups::mount_view(plan, root, destination, &options),
        (None, "sysfs") => (sysfs(&options)?, MakeAs::Directory),
        (None, kind) => {
            let name = source.to_str().unwrap_or(kind);
            (mount::detached(kind, name, &options)?, MakeAs::Directory)
        }
    };
    let (target, _) = root.open_or_make(destination, make_as)?;
    require_same_kind(&mount, &target, source, destination)?;
    mount::attach(mount.as_fd(), target.as_fd(), destination)
}

fn bound(source: &Path, bind: Bind, attributes: u64) -> Result<(OwnedFd, MakeAs)> {
    let clone = mount::clone_of(source, bind, attributes)?;
    let make_as = if is_directory(&clone, source)? {
        MakeAs::Directory
    } else {
        MakeAs::File
    };
    Ok((clone, make_as))
}

fn is_directory(fd: &OwnedFd, name: &Path) -> Result<bool> {
    let mode = rustix::fs::fstat(fd).on_path("stat", name)?.st_mode;
    Ok(FileType::from_raw_mode(mode) == FileType::Directory)
}

fn require_same_kind(
    mount: &OwnedFd,
    target: &OwnedFd,
    source: &Path,
    destination: &Path,
) -> Result<()> {
    let kind = |directory| if directory { "a directory" } else { "a file" };
    let (from, onto) = (
        is_directory(mount, source)?,
        is_directory(target, destination)?,
    );
    if from == onto {
        return Ok(());
    }
    let detail = format!(
        "{} is {}, and that is {}",
        source.display(),
        kind(from),
        kind(onto)
    );
    Err(Error::new("mount on", destination.display(), detail))
}

/// A new sysfs shows the network namespace it is mounted in. Where that is not the caller's own to
/// mount (a shared network namespace inside another container), the host's is bound.
fn sysfs(options: &Options) -> Result<OwnedFd> {
    match mount::detached("sysfs", "sysfs", options) {
        Err(error) if error.is(nix::errno::Errno::EPERM) => {
            mount::clone_of(Path::new("/sys"), Bind::Recursive, options.attributes)
        }
        answer => answer,
    }
}
