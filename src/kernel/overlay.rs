//! OverlayFS over any number of lower directories (Documentation/filesystems/overlayfs.rst).
//!
//! Linux 6.7 and later take lower directories one by one (`lowerdir+`), each up to 255 bytes. Before
//! that all options of a mount share one page of 4096 bytes: there the directories are opened and
//! named by the bare numbers of their descriptors, relative to /proc/self/fd, in which 500 layers
//! come to 2 KiB. They must be opened in the overlay's own mount namespace: the kernel refuses
//! layers that lie on another namespace's mounts.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsOpenFlags, MountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsopen, mount, open_tree,
};

use super::mount::mount_of;
use super::{Context, Error, Result};

/// What to stack.
#[derive(Debug)]
pub struct Overlay<'a> {
    /// Lower directories, the base first.
    pub lower: &'a [PathBuf],
    /// Where changes go.
    pub upper: &'a Path,
    /// OverlayFS's own scratch directory, empty and on the upper directory's file system.
    pub work: &'a Path,
    /// Never wait for the disk (`volatile`, Linux 5.10): the upper directory is thrown away anyway.
    pub volatile: bool,
    /// `MOUNT_ATTR_*` of the mount.
    pub attributes: u64,
}

impl Overlay<'_> {
    /// Mounts it. `at` is an existing directory that only older kernels need as a place to mount
    /// on; the answer is the root of the overlay, attached to `at`.
    pub fn mount_at(&self, at: &Path) -> Result<OwnedFd> {
        match self.mount_one_by_one() {
            Ok(detached) => {
                let target = rustix::fs::open(
                    at,
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .on_path("open", at)?;
                super::mount::attach(detached.as_fd(), target.as_fd(), at)?;
                Ok(detached)
            }
            Err(Attempt::Unsupported) => self.mount_by_numbers(at),
            Err(Attempt::Failed(error)) => Err(error),
        }
    }

    fn mount_one_by_one(&self) -> Result<OwnedFd, Attempt> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).on("fsopen", "overlay")?;
        if takes_any_option(&context) {
            return Err(Attempt::Unsupported);
        }
        let set = |key: &str, value: &str| fsconfig_set_string(context.as_fd(), key, value);
        set("source", "overlay").on("set source of", "overlay")?;
        for (position, layer) in self.lower.iter().rev().enumerate() {
            match set("lowerdir+", path_text(layer)?) {
                // No such option; or a path that fsconfig(2) finds too long.
                Err(rustix::io::Errno::INVAL) if position == 0 => return Err(Attempt::Unsupported),
                answer => answer.on_path("add lower directory", layer)?,
            }
        }
        set("upperdir", path_text(self.upper)?).on_path("set upper directory", self.upper)?;
        set("workdir", path_text(self.work)?).on_path("set work directory", self.work)?;
        if self.volatile {
            fsconfig_set_flag(context.as_fd(), "volatile").on("set option", "volatile")?;
        }
        fsconfig_create(context.as_fd()).on("create file system", "overlay")?;
        Ok(mount_of(context.as_fd(), "overlay", self.attributes)?)
    }

    /// The layers as OverlayFS orders them, the topmost first.
    fn open_layers(&self) -> Result<Vec<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |path: &PathBuf| {
            rustix::fs::open(path, flags, Mode::empty()).on_path("open layer", path)
        };
        self.lower.iter().rev().map(open).collect()
    }

    fn mount_by_numbers(&self, at: &Path) -> Result<OwnedFd> {
        let layers = self.open_layers()?;
        let mut options = String::from("lowerdir=");
        for (position, layer) in layers.iter().enumerate() {
            let separator = if position == 0 { "" } else { ":" };
            let _ = write!(options, "{separator}{}", layer.as_raw_fd());
        }
        let upper = escaped(path_text(self.upper)?);
        let work = escaped(path_text(self.work)?);
        let _ = write!(options, ",upperdir={upper},workdir={work}");
        if self.volatile {
            options.push_str(",volatile");
        }
        let options = std::ffi::CString::new(options).on("mount", "overlay")?;
        rustix::process::chdir("/proc/self/fd").on("chdir to", "/proc/self/fd")?;
        let flags = mount_flags(self.attributes);
        let mounted = mount("overlay", at, "overlay", flags, options.as_c_str())
            .on_path("mount overlay on", at);
        rustix::process::chdir("/").on("chdir to", "/")?;
        mounted?;
        let flags = OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(rustix::fs::CWD, at, flags).on_path("open", at)
    }
}

/// Before Linux 6.5 a context of overlayfs does not know its options: it takes any, and refuses them
/// all in the end, when it is too late to tell which one it was.
fn takes_any_option(context: &OwnedFd) -> bool {
    fsconfig_set_string(context.as_fd(), "no-such-option", "").is_ok()
}

/// Why the newer way did not work.
enum Attempt {
    Unsupported,
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| Error::new("mount overlay with", path.display(), "not UTF-8"))
}

/// In a classic option string a comma ends an option and a backslash escapes.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\")
        .replace(',', "\\,")
        .replace(':', "\\:")
}

fn mount_flags(attributes: u64) -> MountFlags {
    let pairs = [
        (libc::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (libc::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (libc::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (libc::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
    ];
    pairs
        .into_iter()
        .filter(|(attribute, _)| attributes & attribute != 0)
        .fold(MountFlags::empty(), |flags, (_, flag)| flags | flag)
}
