//! OverlayFS over any number of lower layers, directories and mounts mixed
//! (Documentation/filesystems/overlayfs.rst).
//!
//! Linux 6.7 and later take lower directories one by one (`lowerdir+`), each up to 255 bytes. Before
//! that all options of a mount share one page of 4096 bytes: there the directories are opened and
//! named by the bare numbers of their descriptors, relative to /proc/self/fd, in which 500 layers
//! come to 2 KiB. They must be opened in the overlay's own mount namespace: the kernel refuses
//! layers that lie on another namespace's mounts.
//!
//! A mount that is in no namespace is a layer as it is since Linux 6.15; before that it must be
//! attached first.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsOpenFlags, MountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsopen, mount, open_tree,
};

use super::mount::mount_of;
use super::{Context, Error, Result};

const OPAQUE: &str = "trusted.overlay.opaque";

/// Whatever the kernel was built with, the upper directory holds whole files and whole directories:
/// what a container has changed can be read from it, and become a layer (Linux 4.19). An overlay that
/// is only read has the same words, so that it shows its layers as one that is written shows them.
const PLAIN: [(&str, &str); 2] = [("metacopy", "off"), ("redirect_dir", "off")];

/// One lower layer.
#[derive(Debug)]
pub enum Lower {
    /// A directory.
    Directory(PathBuf),
    /// The root of a mount that is attached nowhere and stays so: others may use it too.
    Detached(OwnedFd),
    /// The root of a mount of this overlay's own, attached nowhere, for kernels that want it to be.
    Attachable(OwnedFd),
}

impl Lower {
    /// As overlayfs is told of it one by one.
    fn name(&self) -> Result<Cow<'_, str>> {
        match self {
            Self::Directory(path) => Ok(path_text(path)?.into()),
            Self::Detached(root) | Self::Attachable(root) => {
                Ok(format!("/proc/self/fd/{}", root.as_raw_fd()).into())
            }
        }
    }

    /// Whether it shows nothing of the layers below it. Overlayfs heeds the mark on every directory
    /// but a layer's root: who stacks layers must leave out what such a root hides.
    pub fn is_opaque(&self) -> Result<bool> {
        let name = self.name()?;
        let mut value = [0; 8];
        match rustix::fs::getxattr(&*name, OPAQUE, &mut value) {
            Ok(length) => Ok(value[..length] == *b"y"),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
            // Some other value, a longer one.
            Err(Errno::RANGE) => Ok(false),
            Err(errno) => Err(errno).on("read an attribute of", name),
        }
    }
}

/// What makes an overlay writable.
#[derive(Debug)]
pub struct Changes<'a> {
    /// Where changes go.
    pub upper: &'a Path,
    /// OverlayFS's own scratch directory, empty and on the upper directory's file system.
    pub work: &'a Path,
    /// Never wait for the disk (`volatile`, Linux 5.10): the upper directory is thrown away anyway.
    pub volatile: bool,
}

/// What to stack.
#[derive(Debug)]
pub struct Overlay<'a> {
    /// Lower layers, the base first.
    pub lower: &'a [Lower],
    /// Where changes go; without it the overlay is read-only, and of two layers at least.
    pub changes: Option<Changes<'a>>,
    /// `MOUNT_ATTR_*` of the mount.
    pub attributes: u64,
}

impl Overlay<'_> {
    /// Mounts it. `at` is an existing directory that only older kernels need as a place to mount
    /// on; the answer is the root of the overlay, attached to `at`.
    pub fn mount_at(&self, at: &Path) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = rustix::fs::open(at, flags, Mode::empty()).on_path("open", at)?;
        self.attach_layers(target.as_fd(), at)?;
        match self.mount_one_by_one() {
            Ok(detached) => {
                super::mount::attach(detached.as_fd(), target.as_fd(), at)?;
                Ok(detached)
            }
            Err(Attempt::Unsupported) => self.mount_by_numbers(at),
            Err(Attempt::Failed(error)) => Err(error),
        }
    }

    /// Mounts it without a place, for Linux 6.7 and later.
    pub fn mount_detached(&self) -> Result<OwnedFd> {
        self.mount_one_by_one().map_err(|attempt| match attempt {
            Attempt::Failed(error) => error,
            Attempt::Unsupported => Error::new("mount", "overlay", "it takes no `lowerdir+`"),
        })
    }

    /// All on the one directory, each on top of the one before and the overlay on top of them all:
    /// whoever holds the root of a mount sees it, whatever covers it.
    fn attach_layers(&self, target: BorrowedFd<'_>, at: &Path) -> Result<()> {
        for layer in self.lower {
            if let Lower::Attachable(mount) = layer {
                super::mount::attach(mount.as_fd(), target, at)?;
            }
        }
        Ok(())
    }

    /// Layers of several file systems would show in `st_dev`: a file's would not be its directory's,
    /// which `tar --one-file-system` and `du -x` go by. With `xino` (Linux 4.17) all have the
    /// overlay's, and the inode numbers of which file system it is.
    fn has_mounts(&self) -> bool {
        let is_mount = |layer: &Lower| !matches!(layer, Lower::Directory(_));
        self.lower.iter().any(is_mount)
    }

    fn mount_one_by_one(&self) -> Result<OwnedFd, Attempt> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).on("fsopen", "overlay")?;
        if takes_any_option(&context) {
            return Err(Attempt::Unsupported);
        }
        let set = |key: &str, value: &str| fsconfig_set_string(context.as_fd(), key, value);
        set("source", "overlay").on("set source of", "overlay")?;
        for (position, layer) in self.lower.iter().rev().enumerate() {
            let name = layer.name()?;
            match set("lowerdir+", &name) {
                // No such option; or a path that fsconfig(2) finds too long.
                Err(Errno::INVAL) if position == 0 => return Err(Attempt::Unsupported),
                answer => answer.on("add lower directory", name)?,
            }
        }
        if self.has_mounts() {
            set("xino", "on").on("set option", "xino=on")?;
        }
        for (option, value) in PLAIN {
            set(option, value).on("set option", option)?;
        }
        if let Some(changes) = &self.changes {
            let (upper, work) = (changes.upper, changes.work);
            set("upperdir", path_text(upper)?).on_path("set upper directory", upper)?;
            set("workdir", path_text(work)?).on_path("set work directory", work)?;
            if changes.volatile {
                fsconfig_set_flag(context.as_fd(), "volatile").on("set option", "volatile")?;
            }
        }
        fsconfig_create(context.as_fd()).on("create file system", "overlay")?;
        Ok(mount_of(context.as_fd(), "overlay", self.attributes)?)
    }

    fn mount_by_numbers(&self, at: &Path) -> Result<OwnedFd> {
        // Open until the overlay is there. It orders its layers the topmost first.
        let layers = self.lower.iter().rev().map(opened);
        let layers: Vec<Opened<'_>> = layers.collect::<Result<_>>()?;
        let mut options = String::from("lowerdir=");
        for (position, layer) in layers.iter().enumerate() {
            let separator = if position == 0 { "" } else { ":" };
            let _ = write!(options, "{separator}{}", layer.as_fd().as_raw_fd());
        }
        if self.has_mounts() {
            options.push_str(",xino=on");
        }
        for (option, value) in PLAIN {
            let _ = write!(options, ",{option}={value}");
        }
        if let Some(changes) = &self.changes {
            let upper = escaped(path_text(changes.upper)?);
            let work = escaped(path_text(changes.work)?);
            let _ = write!(options, ",upperdir={upper},workdir={work}");
            if changes.volatile {
                options.push_str(",volatile");
            }
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

/// A layer by its descriptor.
enum Opened<'a> {
    Directory(OwnedFd),
    Mount(BorrowedFd<'a>),
}

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Directory(fd) => fd.as_fd(),
            Self::Mount(fd) => *fd,
        }
    }
}

fn opened(layer: &Lower) -> Result<Opened<'_>> {
    let path = match layer {
        Lower::Directory(path) => path,
        Lower::Detached(root) | Lower::Attachable(root) => return Ok(Opened::Mount(root.as_fd())),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).on_path("open layer", path)?;
    Ok(Opened::Directory(directory))
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
