//! What the tests need from the machine. Something missing is a failure that names it, never a
//! skipped test.

use std::path::Path;
use std::sync::OnceLock;

/// Programs that tests call, and the Debian packages that have them.
const TOOLS: &[(&str, &str)] = &[
    ("apt-get", "apt"),
    ("busybox", "busybox-static"),
    ("bzip2", "bzip2"),
    ("cargo", "cargo"),
    ("cc", "gcc"),
    ("debootstrap", "debootstrap"),
    ("depmod", "kmod"),
    ("docker-registry", "docker-registry"),
    ("dpkg-deb", "dpkg"),
    ("fincore", "util-linux-extra"),
    ("gzip", "gzip"),
    ("ip", "iproute2"),
    ("ldd", "libc-bin"),
    ("losetup", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("podman", "podman"),
    ("prlimit", "util-linux"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("setsid", "util-linux"),
    ("skopeo", "skopeo"),
    ("strace", "strace"),
    ("strip", "binutils"),
    ("unshare", "util-linux"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// Fails unless the tests run as root on a machine that has all their tools.
#[track_caller]
pub(crate) fn requirements() {
    static MISSING: OnceLock<Vec<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(missing);
    assert!(
        missing.is_empty(),
        "mybox's tests cannot run here:\n  {}",
        missing.join("\n  ")
    );
}

fn missing() -> Vec<String> {
    let root = (!rustix::process::geteuid().is_root()).then(|| "they need root".to_owned());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).exists());
    let tools = TOOLS.iter().filter(|(tool, _)| !is_there(tool));
    let probing = [
        ("/proc/self/ns/cgroup", "cgroup namespaces"),
        ("/sys/fs/cgroup", "cgroups"),
    ];
    let kernel = probing.iter().filter(|(path, _)| !Path::new(path).exists());
    root.into_iter()
        .chain(tools.map(|(tool, package)| format!("no {tool}: apt-get install {package}")))
        .chain(kernel.map(|(path, what)| format!("the kernel has no {what}: no {path}")))
        .collect()
}
