//! All processes of a group stopped where they are, and let go on: `cgroup.freeze` of v2, or the
//! freezer hierarchy of v1. A group keeps its state whoever set it dies.
//!
//! On v1 a frozen process does not even die of SIGKILL: who kills thaws too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Context, Error, Result, write_existing};

/// How long processes may take to stop: one in the middle of disk I/O stops after it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops everything in the container's groups. When this returns nothing of it runs.
pub fn freeze(paths: &[PathBuf]) -> Result<()> {
    let Some(switch) = Switch::of(paths) else {
        let detail = "none of its cgroups has a freezer";
        return Err(Error::new("freeze", "container", detail));
    };
    let frozen = switch.set(true).and_then(|()| switch.wait());
    if frozen.is_err() {
        // Half frozen is worse than running. The first error says what is wrong.
        let _ = switch.set(false);
    }
    frozen
}

/// Lets everything in the groups go on. Groups that are gone, or that do not freeze, are no error.
pub fn thaw(paths: &[PathBuf]) -> Result<()> {
    Switch::of(paths).map_or(Ok(()), |switch| switch.set(false))
}

/// Whether the groups were told to stop.
pub fn is_frozen(paths: &[PathBuf]) -> bool {
    Switch::of(paths).is_some_and(|switch| switch.is_set())
}

/// What freezes a group.
enum Switch<'a> {
    V1(&'a Path),
    V2(&'a Path),
}

impl<'a> Switch<'a> {
    /// The one among a container's groups that has one. The hybrid may have both: v2's stops what
    /// v1's does, and lets it be killed.
    fn of(paths: &'a [PathBuf]) -> Option<Self> {
        let having = |file: &str| paths.iter().find(|path| path.join(file).exists());
        let v2 = having("cgroup.freeze").map(|path| Self::V2(path));
        v2.or_else(|| having("freezer.state").map(|path| Self::V1(path)))
    }

    fn set(&self, frozen: bool) -> Result<()> {
        let (file, value) = match (self, frozen) {
            (Self::V1(path), true) => (path.join("freezer.state"), "FROZEN"),
            (Self::V1(path), false) => (path.join("freezer.state"), "THAWED"),
            (Self::V2(path), true) => (path.join("cgroup.freeze"), "1"),
            (Self::V2(path), false) => (path.join("cgroup.freeze"), "0"),
        };
        match write_existing(&file, value) {
            Err(error) if !frozen && is_gone(&error) => Ok(()),
            answer => answer.on("write", format_args!("{value} to {}", file.display())),
        }
    }

    /// Waits until the kernel has stopped the last process.
    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_stopped()? {
            if Instant::now() > deadline {
                let detail = format!("it still runs after {} s", PATIENCE.as_secs());
                return Err(Error::new("freeze", self.path().display(), detail));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn has_stopped(&self) -> Result<bool> {
        match self {
            Self::V1(path) => {
                // Told again: a process that was born meanwhile may have been missed.
                let state = read(&path.join("freezer.state"))?;
                if state.trim() == "FREEZING" {
                    self.set(true)?;
                }
                Ok(state.trim() == "FROZEN")
            }
            Self::V2(path) => {
                let events = read(&path.join("cgroup.events"))?;
                Ok(events.lines().any(|line| line == "frozen 1"))
            }
        }
    }

    /// What was asked of this group, whatever the state of those above.
    fn is_set(&self) -> bool {
        let file = match self {
            Self::V1(path) => path.join("freezer.self_freezing"),
            Self::V2(path) => path.join("cgroup.freeze"),
        };
        fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
    }

    fn path(&self) -> &Path {
        match self {
            Self::V1(path) | Self::V2(path) => path,
        }
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).on_path("read", file)
}

/// The group was removed, before or after its file was opened.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_switch_is_preferred_and_none_is_no_error_to_thaw() {
        let dir = std::env::temp_dir().join(format!("mybox-freeze-{}", std::process::id()));
        let (v1, v2) = (dir.join("v1"), dir.join("v2"));
        fs::create_dir_all(&v1).unwrap();
        fs::create_dir_all(&v2).unwrap();
        let paths = [dir.join("none"), v1.clone(), v2.clone()];
        assert!(thaw(&paths).is_ok() && !is_frozen(&paths));
        let error = freeze(&paths).unwrap_err().to_string();
        assert!(error.contains("has a freezer"), "{error}");
        fs::write(v1.join("freezer.state"), "THAWED\n").unwrap();
        fs::write(v1.join("freezer.self_freezing"), "1\n").unwrap();
        assert!(is_frozen(&paths));
        fs::write(v2.join("cgroup.freeze"), "0\n").unwrap();
        assert!(!is_frozen(&paths));
        fs::write(v2.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        freeze(&paths).unwrap();
        assert!(is_frozen(&paths));
        fs::remove_dir_all(&dir).unwrap();
    }
}
