//! One mount of the runtime spec at a time (runtime-spec config.md, "Mounts").

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::Mount;
use rustix::fs::FileType;

use super::cgroups;
use crate::kernel::mount::{self, Bind, Options};
use crate::kernel::root::{MakeAs, Root};
use crate::kernel::{Context, Error, Result};
use crate::plan::{IMAGE_MOUNT, RunPlan, is_own_etc_file};

/// Makes a mount in the container's root. The mount point is made if it is missing, and what
/// leads to it is resolved inside the root.
pub(super) fn make(plan: &RunPlan, root: &Root, entry: &Mount, linked: &mut Linked) -> Result<()> {
    let destination = entry.destination();
    let words = entry.options().iter().flatten().map(String::as_str);
    let options = Options::parse(words);
    let kind = entry.typ().as_deref().unwrap_or("none");
    let source = entry.source().as_deref().unwrap_or(Path::new("none"));
    let (mount, make_as) = match (options.bind, kind) {
        (Some(bind), _) => match linked.remove(destination) {
            Some(clone) => with_kind(clone, source)?,
            None => with_kind(mount::clone_of(source, bind, options.attributes)?, source)?,
        },
        (None, IMAGE_MOUNT) => {
            let missing = || Error::new("mount on", destination.display(), "no image is stacked");
            let image = linked.remove(destination).ok_or_else(missing)?;
            (image, MakeAs::Directory)
        }
        (None, "cgroup") => return cgroups::mount_view(plan, root, destination, &options),
        (None, "sysfs") => (sysfs(&options)?, MakeAs::Directory),
        (None, kind) => {
            let name = source.to_str().unwrap_or(kind);
            (mount::detached(kind, name, &options)?, MakeAs::Directory)
        }
    };
    let (target, _) = match root.open_or_make(destination, make_as) {
        // The user has something read-only on /etc that lacks it: that stays as it is.
        Err(error) if is_own_etc_file(entry) && error.is(Errno::EROFS) => return Ok(()),
        target => target?,
    };
    require_same_kind(&mount, &target, source, destination)?;
    mount::attach(mount.as_fd(), target.as_fd(), destination)
}

/// Mounts that are there already, by where they will be: those that go on to hear of their sources',
/// what lies in another container, and images.
pub(super) type Linked = BTreeMap<PathBuf, OwnedFd>;

/// Makes them, attached nowhere: while the mounts of this namespace still hear of the host's.
pub(super) fn linked(plan: &RunPlan) -> Result<Linked> {
    let mut linked = Linked::new();
    for entry in plan.spec.mounts().iter().flatten() {
        let words = entry.options().iter().flatten().map(String::as_str);
        let options = Options::parse(words);
        let source = entry.source().as_deref();
        if let (Some(bind), Some(link), Some(source)) = (options.bind, options.link, source) {
            let clone = mount::linked_clone_of(source, bind, options.attributes, link)?;
            linked.insert(entry.destination().clone(), clone);
        }
    }
    Ok(linked)
}

fn with_kind(clone: OwnedFd, source: &Path) -> Result<(OwnedFd, MakeAs)> {
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
        Err(error) if error.is(Errno::EPERM) => {
            mount::clone_of(Path::new("/sys"), Bind::Recursive, options.attributes)
        }
        answer => answer,
    }
}
