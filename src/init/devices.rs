//! /dev of the container: the six harmless devices, the terminal multiplexer, the usual links, and
//! the host's devices that were asked for.
//! (runtime-spec config-linux.md, "Default Devices")

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::fs::{chmodat, chownat, makedev, mknodat, symlinkat, unlinkat};

use crate::kernel::mount::{self, Bind};
use crate::kernel::root::{MakeAs, Root};
use crate::kernel::{Context, Error, Result};

/// Name, major, minor (Documentation/admin-guide/devices.txt); all 0666.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Fills /dev, a fresh tmpfs.
pub(super) fn populate(root: &Root) -> Result<()> {
    let dev = root.open_in(Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY)?;
    let mode = Mode::from_raw_mode(0o666);
    for (name, major, minor) in DEVICES {
        let device = makedev(major, minor);
        mknodat(&dev, name, FileType::CharacterDevice, mode, device)
            .on("make device", format_args!("/dev/{name}"))?;
        // mknod is subject to the caller's umask, and the file's group to the directory's.
        chmodat(&dev, name, mode, AtFlags::empty()).on("set mode of", name)?;
        chownat(
            &dev,
            name,
            Some(Uid::ROOT),
            Some(Gid::ROOT),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .on("set owner of", name)?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).on("link", format_args!("/dev/{name}"))?;
    }
    Ok(())
}

/// Makes a device of the host in it, in place of what may be there.
pub(super) fn make(root: &Root, device: &LinuxDevice) -> Result<()> {
    let path = device.path();
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new("make device", path.display(), "it has no name"));
    };
    let (directory, _) = root.open_or_make(directory, MakeAs::Directory)?;
    match unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(errno).on_path("replace", path),
    }
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::A => FileType::CharacterDevice,
    };
    // Numbers of devices have 32 bits (makedev(3)).
    let number = makedev(device.major() as u32, device.minor() as u32);
    let mode = Mode::from_raw_mode(device.file_mode().unwrap_or(0o666));
    mknodat(&directory, name, kind, mode, number).on_path("make device", path)?;
    chmodat(&directory, name, mode, AtFlags::empty()).on_path("set mode of", path)?;
    let owner = Uid::from_raw(device.uid().unwrap_or(0));
    let group = Gid::from_raw(device.gid().unwrap_or(0));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    chownat(&directory, name, Some(owner), Some(group), flags).on_path("set owner of", path)
}

/// Shows the container's terminal as /dev/console. Called after pivot_root: `/` is its own.
pub(super) fn bind_console(terminal: BorrowedFd<'_>) -> Result<()> {
    let console = Path::new("/dev/console");
    let (target, _) = Root::open(Path::new("/"))?.open_or_make(console, MakeAs::File)?;
    let clone = mount::clone_of_fd(terminal, console, Bind::Single, 0)?;
    mount::attach(clone.as_fd(), target.as_fd(), console)
}
