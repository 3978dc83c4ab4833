//! Builds small root filesystems as tar archives, entry by entry in the order of the calls.

use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::probe;

/// A tar archive in the making. Times are 0 and owners root unless a call says otherwise.
pub(crate) struct Rootfs(Builder<Vec<u8>>);

impl Rootfs {
    /// An archive without an entry.
    pub(crate) fn empty() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// The least that a container needs: the probe as `/bin/probe`, a link for each of its applets,
    /// and two users.
    pub(crate) fn tiny() -> Self {
        let program = std::fs::read(probe()).expect("the probe was just built");
        let bin = Self::empty()
            .dir("bin", 0o755)
            .file_with("bin/probe", &program, |header| header.set_mode(0o755));
        let bin = mybox_probe::APPLETS.iter().fold(bin, |bin, applet| {
            bin.hardlink(&format!("bin/{applet}"), "bin/probe")
        });
        bin.dir("etc", 0o755)
            .file(
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n",
            )
            .file("etc/group", "root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n")
            .dir("root", 0o700)
            .dir("home", 0o755)
            .file_with("home/alice/", &[], |header| {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                header.set_uid(1000);
                header.set_gid(1000);
            })
            .dir("tmp", 0o1777)
    }

    /// A shell with its programs: the host's busybox, which must be a static one.
    pub(crate) fn busybox(self) -> Self {
        let program = std::fs::read("/usr/bin/busybox").expect("busybox-static is installed");
        let shell = self.file_with("bin/busybox", &program, |header| header.set_mode(0o755));
        let names =
            "sh rm mkdir ln mkfifo chmod chown touch mv dd find grep sort stat md5sum ls cat";
        names.split(' ').fold(shell, |shell, name| {
            shell.symlink(&format!("bin/{name}"), "busybox")
        })
    }

    /// A directory.
    pub(crate) fn dir(self, path: &str, mode: u32) -> Self {
        self.file_with(path, &[], |header| {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(mode);
        })
    }

    /// A file of mode 0644.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.file_with(path, text.as_bytes(), |_| {})
    }

    /// A file, or whatever `adjust` makes of its header.
    pub(crate) fn file_with(
        mut self,
        path: &str,
        content: &[u8],
        adjust: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = plain_header();
        header.set_size(content.len() as u64);
        adjust(&mut header);
        self.0
            .append_data(&mut header, path, content)
            .expect("append to an archive in memory");
        self
    }

    /// An extended attribute of the next entry.
    pub(crate) fn attribute(mut self, name: &str, value: &[u8]) -> Self {
        let name = format!("SCHILY.xattr.{name}");
        let appended = self.0.append_pax_extensions([(&*name, value)]);
        appended.expect("append to an archive in memory");
        self
    }

    /// A symbolic link to `target`.
    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    /// A second name of the earlier entry `target`.
    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Link, path, target)
    }

    fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = plain_header();
        header.set_entry_type(kind);
        self.0
            .append_link(&mut header, path, Path::new(target))
            .expect("append to memory");
        self
    }

    /// The finished archive.
    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.into_inner().expect("finish an archive in memory")
    }
}

fn plain_header() -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
