//! Mounts by descriptor (Linux 5.2): a file system is made detached, given its attributes, and only
//! then attached to a directory that was resolved inside the container's root.
//!
//! Everything happens in the caller's mount namespace and vanishes with it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, move_mount, open_tree, unmount,
};

use super::{Context, Error, Result, raw};

/// The options of one mount as mount(8) writes them, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `MOUNT_ATTR_*`: ro, nosuid, nodev, noexec, ...
    pub attributes: u64,
    /// `bind` or `rbind`.
    pub bind: Option<Bind>,
    /// What is left for the file system itself, as `size=64m`.
    pub data: Vec<(String, Option<String>)>,
}

/// How much of a tree a bind mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// The one mount.
    Single,
    /// The mounts beneath it too.
    Recursive,
}

impl Options {
    /// Takes `ro`, `nosuid`, `bind`, `mode=755`, ... apart (mount(8), "FILESYSTEM-INDEPENDENT
    /// MOUNT OPTIONS").
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut options = Self::default();
        for word in words {
            match word {
                "rw" | "suid" | "dev" | "exec" | "private" | "rprivate" => {}
                "ro" => options.attributes |= libc::MOUNT_ATTR_RDONLY,
                "nosuid" => options.attributes |= libc::MOUNT_ATTR_NOSUID,
                "nodev" => options.attributes |= libc::MOUNT_ATTR_NODEV,
                "noexec" => options.attributes |= libc::MOUNT_ATTR_NOEXEC,
                "noatime" => options.attributes |= libc::MOUNT_ATTR_NOATIME,
                "strictatime" => options.attributes |= libc::MOUNT_ATTR_STRICTATIME,
                "relatime" => options.attributes |= libc::MOUNT_ATTR_RELATIME,
                "nosymfollow" => options.attributes |= libc::MOUNT_ATTR_NOSYMFOLLOW,
                "bind" => options.bind = Some(Bind::Single),
                "rbind" => options.bind = Some(Bind::Recursive),
                data => options.data.push(match data.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (data.to_owned(), None),
                }),
            }
        }
        options
    }
}

/// Stops mounts of this namespace from showing in the one it was copied from, and the reverse.
pub fn make_all_private() -> Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .on("make private", "/")
}

/// Makes a file system of this type, mounted nowhere yet.
pub fn detached(kind: &str, source: &str, options: &Options) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).on("fsopen", kind)?;
    fsconfig_set_string(context.as_fd(), "source", source).on("set source of", kind)?;
    for (key, value) in &options.data {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str())
                .on("set option", format_args!("{key}={value} of {kind}"))?,
            None => fsconfig_set_flag(context.as_fd(), key.as_str())
                .on("set option", format_args!("{key} of {kind}"))?,
        }
    }
    fsconfig_create(context.as_fd()).on("create file system", kind)?;
    mount_of(context.as_fd(), kind, options.attributes)
}

/// Turns a created file system context into a detached mount.
pub(super) fn mount_of(context: BorrowedFd<'_>, kind: &str, attributes: u64) -> Result<OwnedFd> {
    // All attributes that exist lie in the low half: fsmount(2) takes 32 bits.
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).on("mount", kind)
}

/// Clones the mount (tree) at a path of the host, mounted nowhere yet, with added attributes.
pub fn clone_of(source: &Path, kind: Bind, attributes: u64) -> Result<OwnedFd> {
    let tree = open_tree(CWD, source, clone_flags(kind)).on_path("clone the mount of", source)?;
    restrict(tree.as_fd(), kind, attributes).on_path("set mount attributes of", source)?;
    Ok(tree)
}

/// Clones the mount (tree) that an open descriptor is on.
pub fn clone_of_fd(
    source: BorrowedFd<'_>,
    name: &Path,
    kind: Bind,
    attributes: u64,
) -> Result<OwnedFd> {
    let flags = clone_flags(kind) | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(source, "", flags).on_path("clone the mount of", name)?;
    restrict(tree.as_fd(), kind, attributes).on_path("set mount attributes of", name)?;
    Ok(tree)
}

fn clone_flags(kind: Bind) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match kind {
        Bind::Single => flags,
        Bind::Recursive => flags | OpenTreeFlags::AT_RECURSIVE,
    }
}

/// Adds attributes and cuts propagation: a volume's later mounts on the host stay on the host.
fn restrict(tree: BorrowedFd<'_>, kind: Bind, attributes: u64) -> std::io::Result<()> {
    raw::mount_setattr(tree, kind == Bind::Recursive, attributes, libc::MS_PRIVATE)
}

/// Attaches a detached mount on what `target` is open on.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags).on_path("mount on", name)
}

/// Makes the directory `root` (a mount point) the root of the mount namespace and lets go of the
/// old one (pivot_root(2), "pivot_root(".", ".")").
pub fn pivot_to(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).on("chdir to", "container root")?;
    rustix::process::pivot_root(".", ".").on("pivot_root to", "container root")?;
    // The old root now lies on top of the new one at "."; what leaves is the old.
    unmount(".", UnmountFlags::DETACH).on("unmount", "old root")?;
    rustix::process::chdir("/").on("chdir to", "/")
}

/// Refuses a directory that claims to be procfs and is not (CVE-2019-16884, CVE-2019-19921): an
/// image may try to have what is written to /proc land elsewhere.
pub fn require_procfs(fd: BorrowedFd<'_>, name: &str) -> Result<()> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let found = rustix::fs::fstatfs(fd).on("statfs", name)?.f_type;
    if found as i64 == PROC_SUPER_MAGIC {
        Ok(())
    } else {
        Err(Error::new("use", name, "it is not procfs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_apart_as_mount_8_has_them() {
        let options = Options::parse([
            "nosuid",
            "noexec",
            "rw",
            "mode=755",
            "size=65536k",
            "newinstance",
        ]);
        assert_eq!(
            options.attributes,
            libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC
        );
        assert_eq!(options.bind, None);
        assert_eq!(
            options.data,
            [
                ("mode".to_owned(), Some("755".to_owned())),
                ("size".to_owned(), Some("65536k".to_owned())),
                ("newinstance".to_owned(), None),
            ]
        );
        assert_eq!(Options::parse(["rbind", "ro"]).bind, Some(Bind::Recursive));
    }
}
