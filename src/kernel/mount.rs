//! Mounts by descriptor (Linux 5.2): a file system is made detached, given its attributes, and only
//! then attached to a directory that was resolved inside the container's root.
//!
//! Everything happens in the caller's mount namespace and vanishes with it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, move_mount, open_tree, unmount,
};

use super::{Context, Error, Result, namespace, raw};

/// The options of one mount as mount(8) writes them, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `MOUNT_ATTR_*`: ro, nosuid, nodev, noexec, ...
    pub attributes: u64,
    /// `bind` or `rbind`.
    pub bind: Option<Bind>,
    /// Whether it goes on to hear of its source's mounts.
    pub link: Option<Link>,
    /// What is left for the file system itself, as `size=64m`.
    pub data: Vec<(String, Option<String>)>,
}

/// How a bind mount goes on to be one with its source (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It hears of mounts that are made there.
    Slave,
    /// And its own are seen there.
    Shared,
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
                "rslave" => options.link = Some(Link::Slave),
                "rshared" => options.link = Some(Link::Shared),
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
    clone_with(source, kind, attributes, libc::MS_PRIVATE)
}

/// As [`clone_of`], and the clone goes on to hear of the source's mounts. The source must itself be
/// shared, as Docker too wants it.
pub fn linked_clone_of(source: &Path, kind: Bind, attributes: u64, link: Link) -> Result<OwnedFd> {
    if !is_shared(source)? {
        let detail = "it is on no shared mount (mount --make-rshared makes it one)";
        return Err(Error::new("link mounts of", source.display(), detail));
    }
    let propagation = match link {
        Link::Slave => libc::MS_SLAVE,
        Link::Shared => libc::MS_SHARED,
    };
    clone_with(source, kind, attributes, propagation)
}

fn clone_with(source: &Path, kind: Bind, attributes: u64, propagation: u64) -> Result<OwnedFd> {
    let tree = open_tree(CWD, source, clone_flags(kind)).on_path("clone the mount of", source)?;
    restrict(tree.as_fd(), kind, attributes, propagation)
        .on_path("set mount attributes of", source)?;
    Ok(tree)
}

/// Whether the mount that a path is on has peers (proc(5), mountinfo).
fn is_shared(path: &Path) -> Result<bool> {
    const TABLE: &str = "/proc/self/mountinfo";
    let wanted = StatxFlags::MNT_ID;
    let id = statx(CWD, path, AtFlags::empty(), wanted)
        .on_path("stat", path)?
        .stx_mnt_id;
    let table = std::fs::read_to_string(TABLE).on("read", TABLE)?;
    let is_it = |line: &&str| line.split(' ').next() == Some(id.to_string().as_str());
    let line = table.lines().find(is_it).unwrap_or_default();
    Ok(line.contains(" shared:"))
}

/// Something that is mounted on or below a directory, if anything is (proc(5), mountinfo).
pub fn mounted_below(dir: &Path) -> Result<Option<PathBuf>> {
    const TABLE: &str = "/proc/self/mountinfo";
    let dir = dir.canonicalize().on_path("look for", dir)?;
    let table = std::fs::read(TABLE).on("read", TABLE)?;
    let points = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let mut points = points.map(unescaped);
    Ok(points.find(|point| point.starts_with(&dir)))
}

/// A path of mountinfo, in which blanks, line breaks and backslashes are octal.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = &after[3..];
            }
            None => {
                path.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

/// Removes a directory with all that is in it, and nothing that somebody has mounted there: it is
/// emptied through a clone of the mount it is on, which shows no other. A mount point stays, and is an
/// error. Who may not mount, may not have mounted anything either.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    let clone = match open_tree(CWD, dir, clone_flags(Bind::Single)) {
        Err(Errno::PERM) => return std::fs::remove_dir_all(dir),
        clone => clone?,
    };
    let inside = format!("/proc/self/fd/{}", clone.as_raw_fd());
    for entry in std::fs::read_dir(inside)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    drop(clone);
    std::fs::remove_dir(dir)
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
    restrict(tree.as_fd(), kind, attributes, libc::MS_PRIVATE)
        .on_path("set mount attributes of", name)?;
    Ok(tree)
}

/// Clones the tmpfs at a path in the mount namespace of `process`, a pidfd. No link of that one's leads it
/// elsewhere, and no device or program of that one's comes along.
pub fn clone_of_tmpfs_in(process: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    namespace::among_mounts_of(process, || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let source = openat2(CWD, path, flags, Mode::empty(), resolve).on(
            "open",
            format_args!("{} of the other container", path.display()),
        )?;
        let found = rustix::fs::fstatfs(&source).on_path("statfs", path)?.f_type;
        if found as i64 != TMPFS_MAGIC {
            return Err(Error::new("share", path.display(), "it is no tmpfs"));
        }
        clone_of_fd(source.as_fd(), path, Bind::Single, attributes)
    })
}

fn clone_flags(kind: Bind) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match kind {
        Bind::Single => flags,
        Bind::Recursive => flags | OpenTreeFlags::AT_RECURSIVE,
    }
}

/// Adds attributes and sets propagation: unless linked, a volume's later mounts on the host stay on
/// the host.
fn restrict(tree: BorrowedFd<'_>, kind: Bind, attributes: u64, propagation: u64) -> io::Result<()> {
    raw::mount_setattr(tree, kind == Bind::Recursive, attributes, propagation)
}

/// Has nobody write to a mount's files through it.
pub fn make_read_only(mount: BorrowedFd<'_>, name: &Path) -> Result<()> {
    restrict(
        mount,
        Bind::Single,
        libc::MOUNT_ATTR_RDONLY,
        libc::MS_PRIVATE,
    )
    .on_path("make read-only", name)
}

/// Attaches a detached mount on what `target` is open on.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags).on_path("mount on", name)
}

/// Takes the mount at a path away, with all that is mounted in it. Nothing being there is fine.
pub fn detach(at: &Path) -> Result<()> {
    match unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(Errno::INVAL) => Ok(()),
        done => done.on_path("unmount", at),
    }
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
    fn paths_of_mountinfo_are_read_as_they_are() {
        let plain = |text: &str| unescaped(text.as_bytes());
        assert_eq!(plain("/a/b"), Path::new("/a/b"));
        assert_eq!(plain(r"/a\040b\134c\011"), Path::new("/a b\\c\t"));
        assert_eq!(plain(r"/a\04"), Path::new(r"/a\04"));
        assert!(mounted_below(Path::new("/")).unwrap().is_some());
        let none = std::env::temp_dir().join(format!("mybox-nomount-{}", std::process::id()));
        std::fs::create_dir_all(none.join("a/b")).unwrap();
        std::fs::write(none.join("a/file"), "").unwrap();
        assert_eq!(mounted_below(&none).unwrap(), None);
        remove_tree(&none).unwrap();
        assert!(!none.exists());
    }

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
