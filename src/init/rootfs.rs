//! The container's file system: the overlay becomes `/` of a mount namespace that shows nothing of
//! the host, and what /proc and /sys tell of the host is hidden.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Birth, ImageTree, devices, mounts, volumes};
use crate::kernel::mount::{self, Bind, Options};
use crate::kernel::overlay::{Changes, Overlay};
use crate::kernel::root::Root;
use crate::kernel::{Context, Error, Result, raw};
use crate::plan::{RunPlan, SHM};

/// Mounts everything and makes it the root. Device files of the image mean nothing (`nodev`):
/// /dev is a file system of the container's own. `shm` is what another container has there.
pub(super) fn build(birth: &Birth<'_>, shm: Option<OwnedFd>) -> Result<()> {
    let (plan, lower) = (birth.plan, birth.lower);
    let mut linked = mounts::linked(plan)?;
    linked.extend(shm.map(|shm| (PathBuf::from(SHM), shm)));
    mount::make_all_private()?;
    let overlay = Overlay {
        lower,
        changes: Some(Changes {
            upper: &plan.files.upper(),
            work: &plan.files.work(),
            volatile: plan.remove,
        }),
        attributes: libc::MOUNT_ATTR_NODEV,
    };
    let root = Root::from_fd(overlay.mount_at(&plan.files.rootfs())?);
    linked.extend(mount_images(birth.images, |number| {
        birth.plan.files.image_place(number)
    })?);
    volumes::fill(plan, &root)?;
    for entry in plan.spec.mounts().iter().flatten() {
        mounts::make(plan, &root, entry, &mut linked)?;
        if is_own_dev(entry) {
            devices::populate(&root)?;
            let linux = plan.spec.linux().as_ref();
            let of_host = linux.and_then(|linux| linux.devices().as_ref());
            for device in of_host.into_iter().flatten() {
                devices::make(&root, device)?;
            }
        }
    }
    mount::pivot_to(root.as_fd())
}

/// Stacks the images that a container can read, each on the directory that is its `place` on the way;
/// where in the container each is to be.
pub fn mount_images(
    images: &[ImageTree],
    place: impl Fn(usize) -> PathBuf,
) -> Result<Vec<(PathBuf, OwnedFd)>> {
    let stack = |(number, image): (usize, &ImageTree)| {
        let overlay = Overlay {
            lower: &image.lower,
            changes: None,
            attributes: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV,
        };
        let mount = overlay.mount_at(&place(number))?;
        Ok((image.destination.clone(), mount))
    };
    images.iter().enumerate().map(stack).collect()
}

/// Whether it is a fresh /dev, which takes devices. A volume of the user's in its place brings its
/// own: none is made in a directory of the host.
fn is_own_dev(entry: &oci_spec::runtime::Mount) -> bool {
    entry.destination() == Path::new("/dev") && entry.typ().as_deref() == Some("tmpfs")
}

/// After the last write to /proc: sysctls, hidden and read-only paths, a read-only root.
pub(super) fn close(plan: &RunPlan) -> Result<()> {
    let root = Root::open(Path::new("/"))?;
    let Some(linux) = plan.spec.linux().as_ref() else {
        return Ok(());
    };
    for (name, value) in linux.sysctl().iter().flatten() {
        write_sysctl(&root, name, value)?;
    }
    for path in linux.readonly_paths().iter().flatten() {
        make_read_only(&root, Path::new(path))?;
    }
    for path in linux.masked_paths().iter().flatten() {
        hide(&root, Path::new(path))?;
    }
    let read_only = plan
        .spec
        .root()
        .as_ref()
        .and_then(oci_spec::runtime::Root::readonly);
    if read_only.unwrap_or(false) {
        raw::mount_setattr(root.as_fd(), false, libc::MOUNT_ATTR_RDONLY, 0)
            .on("make read-only", "/")?;
    }
    Ok(())
}

/// Of a kernel that may not have it.
pub(super) fn write_sysctl_if_there(name: &str, value: &str) -> Result<()> {
    match write_sysctl(&Root::open(Path::new("/"))?, name, value) {
        Err(error) if error.is(nix::errno::Errno::ENOENT) => Ok(()),
        written => written,
    }
}

fn write_sysctl(root: &Root, name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let file = root.open_in(Path::new(&path), OFlags::WRONLY)?;
    mount::require_procfs(file.as_fd(), &path)?;
    rustix::io::write(&file, value.as_bytes()).on("write to", &path)?;
    Ok(())
}

/// Opens what may not be there on this kernel.
fn open_if_there(root: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    match root.open_in(path, OFlags::PATH) {
        Err(error) if error.is(nix::errno::Errno::ENOENT) => Ok(None),
        answer => answer.map(Some),
    }
}

fn make_read_only(root: &Root, path: &Path) -> Result<()> {
    let Some(target) = open_if_there(root, path)? else {
        return Ok(());
    };
    let attributes = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    let clone = mount::clone_of_fd(target.as_fd(), path, Bind::Single, attributes)?;
    mount::attach(clone.as_fd(), target.as_fd(), path)
}

/// A file is hidden by /dev/null, a directory by an empty one.
fn hide(root: &Root, path: &Path) -> Result<()> {
    let Some(target) = open_if_there(root, path)? else {
        return Ok(());
    };
    let kind = rustix::fs::fstat(&target).on_path("stat", path)?.st_mode;
    let cover = if rustix::fs::FileType::from_raw_mode(kind) == rustix::fs::FileType::Directory {
        let options = Options::parse(["ro", "nosuid", "nodev", "noexec", "size=0k"]);
        mount::detached("tmpfs", "tmpfs", &options)?
    } else {
        let null = Path::new("/dev/null");
        let null_fd = root.open_in(null, OFlags::PATH)?;
        require_null(null_fd.as_fd())?;
        mount::clone_of_fd(null_fd.as_fd(), null, Bind::Single, 0)?
    };
    mount::attach(cover.as_fd(), target.as_fd(), path)
}

/// What hides files must be the null device: a volume over /dev could have put something else
/// there (CVE-2025-31133).
fn require_null(fd: BorrowedFd<'_>) -> Result<()> {
    let stat = rustix::fs::fstat(fd).on("stat", "/dev/null")?;
    let is_null = rustix::fs::FileType::from_raw_mode(stat.st_mode)
        == rustix::fs::FileType::CharacterDevice
        && (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        ) == (1, 3);
    if is_null {
        Ok(())
    } else {
        Err(Error::new("use", "/dev/null", "it is not the null device"))
    }
}
