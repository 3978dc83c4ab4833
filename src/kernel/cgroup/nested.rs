//! A group within a container's, for processes of it that are ended together.
//!
//! In one hierarchy only, and without controllers of its own: what limits the container limits what is
//! in here, and who freezes or kills the container's group freezes or kills this one, too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Context, Result, Version, kill_all};

/// Where it lies. It is there between [`Nested::make`] and [`Nested::remove`], or its container's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested {
    outer: PathBuf,
    path: PathBuf,
}

impl Nested {
    /// Within one of a container's groups; `None` if none of them can have one.
    pub fn within(groups: &[PathBuf], name: &str) -> Option<Self> {
        // v2 can kill a whole group. On v1 a cpuset would have to be given processors first, and the
        // freezer is what holds all that a pause stops.
        let v2 = groups.iter().find(|group| is_v2(group));
        let outer = v2.or_else(|| groups.iter().find(|it| it.join("freezer.state").exists()))?;
        Some(Self {
            path: outer.join(name),
            outer: outer.clone(),
        })
    }

    /// Makes it.
    pub fn make(&self) -> Result<()> {
        fs::create_dir(&self.path).on_path("make cgroup", &self.path)
    }

    /// The container's groups, this one in the place of that which it lies in.
    pub fn among(&self, groups: &[PathBuf]) -> Vec<PathBuf> {
        let inner = |group: &PathBuf| match *group == self.outer {
            true => self.path.clone(),
            false => group.clone(),
        };
        groups.iter().map(inner).collect()
    }

    /// SIGKILL to everything in it.
    pub fn kill(&self) -> Result<()> {
        match kill_all(&self.path) {
            Err(_) if !self.path.exists() => Ok(()),
            killed => killed,
        }
    }

    /// Removes it; false if there is something in it still.
    pub fn remove(&self) -> Result<bool> {
        match fs::remove_dir(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
            Err(error) => Err(error).on_path("remove cgroup", &self.path),
        }
    }
}

fn is_v2(group: &Path) -> bool {
    group.exists() && Version::of(group) == Version::V2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_in_the_unified_hierarchy_or_in_the_freezer_alone() {
        let dir = std::env::temp_dir().join(format!("mybox-nested-{}", std::process::id()));
        let [memory, freezer, unified] = ["memory", "freezer", "unified"].map(|it| dir.join(it));
        for v1 in [&memory, &freezer] {
            fs::create_dir_all(v1).unwrap();
            fs::write(v1.join("tasks"), "").unwrap();
        }
        assert_eq!(Nested::within(std::slice::from_ref(&memory), "x"), None);
        fs::write(freezer.join("freezer.state"), "THAWED\n").unwrap();
        let groups = [memory.clone(), freezer.clone()];
        let nested = Nested::within(&groups, "x").unwrap();
        assert_eq!(nested.among(&groups), [memory.clone(), freezer.join("x")]);
        nested.make().unwrap();
        assert!(nested.remove().unwrap() && nested.remove().unwrap());
        assert!(nested.kill().is_ok());
        fs::create_dir_all(&unified).unwrap();
        let groups = [memory, freezer, unified.clone()];
        let nested = Nested::within(&groups, "x").unwrap();
        assert_eq!(nested.among(&groups)[2], unified.join("x"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
