//! A filesystem of its own for a test: what is allocated on it is the test's alone.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Cmd, Sandbox};

/// A filesystem mounted on a directory; unmounted when it is dropped.
pub(crate) struct Disk {
    mounted_on: PathBuf,
}

impl Disk {
    /// A new ext4 of a given size, in a file in the sandbox's scratch directory.
    #[track_caller]
    pub(crate) fn new(sandbox: &Sandbox, bytes: u64) -> Self {
        let image = sandbox.scratch().join("disk");
        let file = File::create(&image).expect("the disk's file");
        file.set_len(bytes).expect("the disk's size");
        // Everything of it is written now: no background work changes what is allocated later.
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        let make = Cmd::new("mkfs.ext4").args(["-q", "-F", "-E", options]);
        make.arg(&image).run().ok();
        Self::mount(sandbox, Cmd::new("mount").args(["-o", "loop"]).arg(&image))
    }

    /// One in memory, for many files that no disk need ever see.
    #[track_caller]
    pub(crate) fn in_memory(sandbox: &Sandbox) -> Self {
        Self::mount(
            sandbox,
            Cmd::new("mount").args(["-t", "tmpfs", "mybox-test"]),
        )
    }

    #[track_caller]
    fn mount(sandbox: &Sandbox, command: Cmd) -> Self {
        let mounted_on = sandbox.scratch().join("mounted");
        std::fs::create_dir(&mounted_on).expect("a place to mount on");
        command.arg(&mounted_on).run().ok();
        Self { mounted_on }
    }

    /// Nothing can be written to it any more.
    #[track_caller]
    pub(crate) fn make_read_only(&self) {
        let remount = Cmd::new("mount").args(["-o", "remount,ro"]);
        remount.arg(&self.mounted_on).run().ok();
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mounted_on
    }

    /// Bytes that are free once everything is written that is to be written.
    #[track_caller]
    pub(crate) fn free(&self) -> u64 {
        let directory = File::open(&self.mounted_on).expect("the disk");
        rustix::fs::syncfs(&directory).expect("sync");
        let stat = rustix::fs::statvfs(&self.mounted_on).expect("statvfs");
        stat.f_bfree * stat.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a failed test has left running there must not keep the mount.
        let unmount = Cmd::new("umount").arg("--lazy").arg(&self.mounted_on);
        let _ = unmount.build().status();
    }
}

/// A disk without a file system: a loop device; let go when it is dropped.
pub(crate) struct BareDisk {
    device: String,
}

impl BareDisk {
    /// One whose scheduler knows weights.
    #[track_caller]
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let image = sandbox.scratch().join("bare-disk");
        let file = File::create(&image).expect("the disk's file");
        file.set_len(1 << 20).expect("the disk's size");
        let attach = Cmd::new("losetup").args(["--find", "--show"]).arg(&image);
        let device = attach.run().ok().line();
        let disk = Self { device };
        let name = disk.device.trim_start_matches("/dev/");
        std::fs::write(format!("/sys/block/{name}/queue/scheduler"), "bfq").expect("the scheduler");
        disk
    }

    /// Its file below /dev.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// Its number, as the kernel writes it.
    #[track_caller]
    pub(crate) fn number(&self) -> String {
        let number = std::fs::metadata(&self.device).expect("the disk").rdev();
        format!(
            "{}:{}",
            rustix::fs::major(number),
            rustix::fs::minor(number)
        )
    }
}

impl Drop for BareDisk {
    fn drop(&mut self) {
        drop(
            Cmd::new("losetup")
                .args(["--detach", &self.device])
                .run()
                .ok(),
        );
    }
}
