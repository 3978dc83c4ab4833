//! Where `save` and `export` write their archive: a file, whole or not there, or standard output.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use rustix::io::Errno;

/// Writes to the file, else to standard output if that is no terminal.
pub(super) fn write(
    path: Option<&Path>,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    match path {
        Some(path) => to_file(path, write),
        None if io::stdout().is_terminal() => {
            bail!("standard output is a terminal; name a file with --output")
        }
        None => write(&mut io::stdout().lock()),
    }
}

/// Writes beside the file, and gives it its name when it is whole. What is no regular file, as a
/// pipe or /dev/null, is written to as it is.
fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let there = fs::metadata(path);
    if there.is_ok_and(|there| !there.is_file()) {
        let file = File::options().write(true).open(path);
        return write(&mut file.with_context(|| format!("open {}", path.display()))?);
    }
    let partial = Partial::beside(path)?;
    write(&mut &partial.file)?;
    partial.publish(path)
}

/// The file while it is written. Where the file system can have it so, it has no name until it is published:
/// then nothing of it stays, whatever ends this process.
struct Partial {
    file: File,
    /// The name that it has meanwhile, or for the moment between a link and a rename.
    path: PathBuf,
    named: bool,
}

impl Partial {
    fn beside(path: &Path) -> Result<Self> {
        let name = path.file_name();
        let name = name.with_context(|| format!("{} is no name of a file", path.display()))?;
        let mut partial = OsString::from(".");
        partial.push(name);
        partial.push(format!(".{}", std::process::id()));
        let beside = path.with_file_name(partial);
        let (file, named) = match nameless(&beside) {
            Some(file) => (file, false),
            None => {
                let file = File::create_new(&beside);
                let file = file.with_context(|| format!("create {}", path.display()))?;
                (file, true)
            }
        };
        Ok(Self {
            file,
            path: beside,
            named,
        })
    }

    fn publish(mut self, path: &Path) -> Result<()> {
        let about = || format!("create {}", path.display());
        let flushed = self.file.sync_all();
        flushed.with_context(|| format!("flush {}", path.display()))?;
        if !self.named {
            match self.link(path) {
                // No link replaces a file: it takes a name for a moment, and a rename.
                Err(Errno::EXIST) => {
                    self.link(&self.path).with_context(about)?;
                    self.named = true;
                }
                linked => return linked.with_context(about),
            }
        }
        fs::rename(&self.path, path).with_context(about)?;
        self.named = false;
        Ok(())
    }

    fn link(&self, path: &Path) -> Result<(), Errno> {
        let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)
    }
}

/// A file without a name where the one at `path` would be; `None` if there can be none, whose reason comes
/// up again when one with a name is made.
fn nameless(path: &Path) -> Option<File> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    let file = rustix::fs::open(directory, flags, mode).ok()?;
    // It is by this link that it gets its name.
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::symlink_metadata(link).is_ok().then(|| file.into())
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.named {
            // The error that is reported is the one that came first.
            let _ = fs::remove_file(&self.path);
        }
    }
}
