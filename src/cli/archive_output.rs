//! Where `save` and `export` write their archive: a file, whole or not there, or standard output.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

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

/// The file while it is written; removed unless it is published.
struct Partial {
    file: File,
    path: PathBuf,
    is_published: bool,
}

impl Partial {
    fn beside(path: &Path) -> Result<Self> {
        let name = path.file_name();
        let name = name.with_context(|| format!("{} is no name of a file", path.display()))?;
        let mut partial = OsString::from(".");
        partial.push(name);
        partial.push(format!(".{}", std::process::id()));
        let path = path.with_file_name(partial);
        let file = File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self {
            file,
            path,
            is_published: false,
        })
    }

    fn publish(mut self, path: &Path) -> Result<()> {
        self.file
            .sync_all()
            .with_context(|| format!("flush {}", self.path.display()))?;
        fs::rename(&self.path, path).with_context(|| format!("create {}", path.display()))?;
        self.is_published = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_published {
            // The error that is reported is the one that came first.
            let _ = fs::remove_file(&self.path);
        }
    }
}
