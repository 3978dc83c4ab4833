//! Paths inside a container's root. The kernel resolves them (openat2 with `RESOLVE_IN_ROOT`,
//! Linux 5.6), so a symbolic link of the image, absolute or with `..`, never leads outside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

use super::{Context, Result};

/// A directory that is taken for `/` by every path resolved through it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// What a mount point is to be when it does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MakeAs {
    /// A directory, with the directories above it.
    Directory,
    /// An empty regular file, with the directories above it.
    File,
}

impl Root {
    /// Opens `path` on the host as a root.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).on_path("open", path)?;
        Ok(Self { fd })
    }

    /// Takes an open directory, as a detached mount, for a root.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens what `path` leads to without leaving the root. Magic links of procfs are refused.
    pub fn open_in(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        self.resolve(path, flags).on_path("open", path)
    }

    /// As [`Root::open_in`]; `None` if there is nothing.
    pub fn find(&self, path: &Path, flags: OFlags) -> Result<Option<OwnedFd>> {
        match self.resolve(path, flags) {
            Err(Errno::NOENT) => Ok(None),
            found => found.map(Some).on_path("open", path),
        }
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        // EAGAIN: a rename or mount elsewhere raced with "..", openat2(2) asks to try again.
        for _ in 0..128 {
            match openat2(
                &self.fd,
                relative,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN) => {}
                answer => return answer,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens (`O_PATH`) what `path` leads to, making what is missing of it: directories 0755, and
    /// the last component as `kind`, owned by the caller. `true` if the last one is new. Where a
    /// link of the image points to nothing (as Ubuntu's /etc/resolv.conf does), what it points to
    /// is made, inside the root.
    pub fn open_or_make(&self, path: &Path, kind: MakeAs) -> Result<(OwnedFd, bool)> {
        match self.resolve(path, OFlags::PATH) {
            Ok(fd) => Ok((fd, false)),
            Err(Errno::NOENT) => Ok((self.make(path, kind, 0)?, true)),
            Err(errno) => Err(errno).on_path("open", path),
        }
    }

    fn make(&self, path: &Path, kind: MakeAs, links: usize) -> Result<OwnedFd> {
        if links > MAX_LINKS {
            return Err(Errno::LOOP).on_path("make", path);
        }
        let mut at = self
            .resolve(Path::new("/"), OFlags::PATH)
            .on_path("open", "/")?;
        let mut so_far = PathBuf::from("/");
        let mut names = path
            .components()
            .filter(|part| *part != Component::RootDir)
            .peekable();
        while let Some(name) = names.next() {
            let kind = if names.peek().is_none() {
                kind
            } else {
                MakeAs::Directory
            };
            let before = so_far.clone();
            so_far.push(name);
            // Resolved from the root each time: a link met on the way is relative to the root.
            at = match self.resolve(&so_far, OFlags::PATH) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => match make_one(&at, name.as_os_str(), kind) {
                    Err(Errno::EXIST) => {
                        let target = readlinkat(&at, name.as_os_str(), Vec::new())
                            .on_path("read link", &so_far)?;
                        let target = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()));
                        self.make(&before.join(target), kind, links + 1)?
                    }
                    answer => answer.on_path("make", &so_far)?,
                },
                Err(errno) => return Err(errno).on_path("open", &so_far),
            };
        }
        Ok(at)
    }
}

/// As many links as the kernel itself follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

fn make_one(at: &OwnedFd, name: &std::ffi::OsStr, kind: MakeAs) -> Result<OwnedFd, Errno> {
    match kind {
        MakeAs::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(at, name, flags, Mode::from_raw_mode(0o644))?;
        }
        MakeAs::Directory => mkdirat(at, name, Mode::from_raw_mode(0o755))?,
    }
    openat(
        at,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mybox-root-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn links_out_of_the_root_lead_inside_it() {
        let dir = scratch("links");
        symlink("/target", dir.join("absolute")).unwrap();
        symlink("../../../../target", dir.join("dotdot")).unwrap();
        let root = Root::open(&dir).unwrap();
        for link in ["/absolute", "/dotdot"] {
            assert!(root.open_in(Path::new(link), OFlags::PATH).is_err());
        }
        std::fs::write(dir.join("target"), "inside").unwrap();
        for link in ["/absolute", "/dotdot"] {
            assert!(
                root.open_in(Path::new(link), OFlags::PATH).is_ok(),
                "{link}"
            );
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn missing_directories_are_made_behind_links_inside_the_root() {
        let dir = scratch("make");
        std::fs::create_dir(dir.join("real")).unwrap();
        symlink("/real", dir.join("link")).unwrap();
        let root = Root::open(&dir).unwrap();
        let (_, made) = root
            .open_or_make(Path::new("/link/a/b"), MakeAs::Directory)
            .unwrap();
        assert!(made && dir.join("real/a/b").is_dir());
        let (_, made) = root
            .open_or_make(Path::new("/link/a/file"), MakeAs::File)
            .unwrap();
        assert!(made && dir.join("real/a/file").is_file());
        let (_, made) = root
            .open_or_make(Path::new("/link/a/file"), MakeAs::File)
            .unwrap();
        assert!(!made);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_dangling_link_is_made_good_inside_the_root() {
        let dir = scratch("dangling");
        std::fs::create_dir(dir.join("etc")).unwrap();
        symlink("../../../run/x/file", dir.join("etc/link")).unwrap();
        let root = Root::open(&dir).unwrap();
        root.open_or_make(Path::new("/etc/link"), MakeAs::File)
            .unwrap();
        assert!(dir.join("run/x/file").is_file());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn links_in_a_circle_are_refused() {
        let dir = scratch("circle");
        symlink("/b", dir.join("a")).unwrap();
        symlink("/a", dir.join("b")).unwrap();
        let root = Root::open(&dir).unwrap();
        let answer = root.open_or_make(Path::new("/a/x"), MakeAs::File);
        assert!(answer.unwrap_err().is(nix::errno::Errno::ELOOP));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
