//! The processors and memory nodes that a group can be bound to: those that the group above it has.
//!
//! No container has a cpuset that did not ask for one: v1's forgets processors that were offline for a
//! while. So one that runs may have to be moved into one.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::usage::processes;
use super::{Context, Error, Limits, Result, Version, write_existing};

/// What there is in a group: v2's name, v1's, and that of v1 before Linux 4.2.
const CPUS: [&str; 3] = [
    "cpuset.cpus.effective",
    "cpuset.effective_cpus",
    "cpuset.cpus",
];
const MEMS: [&str; 3] = [
    "cpuset.mems.effective",
    "cpuset.effective_mems",
    "cpuset.mems",
];

/// Refuses what is not there: the kernel's own answers are "invalid" and "out of range".
pub(super) fn check(above: &Path, limits: &Limits) -> Result<()> {
    let sets = [
        ("cpuset.cpus", &limits.cpuset_cpus, CPUS),
        ("cpuset.mems", &limits.cpuset_mems, MEMS),
    ];
    for (file, asked, names) in sets {
        let read = |name| fs::read_to_string(above.join(name)).ok();
        let Some((asked, there)) = asked.as_ref().zip(names.into_iter().find_map(read)) else {
            continue;
        };
        let there = there.trim();
        if !is_within(asked, there) {
            let detail = format!("not all of these are there: available is {there}");
            return Err(Error::new(
                "limit",
                format_args!("{file} to {asked}"),
                detail,
            ));
        }
    }
    Ok(())
}

/// Whether one of a container's groups can be bound to some.
pub fn is_among(paths: &[PathBuf]) -> bool {
    paths.iter().any(|path| is_cpuset(path))
}

fn is_cpuset(path: &Path) -> bool {
    path.join("cpuset.cpus").is_file()
}

/// Moves the processes of a container's other groups into its cpuset, where that was made after them. On v2
/// the one group is all of them.
pub fn gather(paths: &[PathBuf]) -> Result<()> {
    let is_v1 = |path: &&PathBuf| Version::of(path) == Version::V1;
    let mut cpusets = paths.iter().filter(is_v1);
    let Some(cpuset) = cpusets.find(|path| is_cpuset(path)) else {
        return Ok(());
    };
    let others: Vec<PathBuf> = paths.iter().filter(|it| *it != cpuset).cloned().collect();
    let file = cpuset.join("cgroup.procs");
    let mut tried = HashSet::new();
    loop {
        let all = processes(&others);
        let inside = processes(std::slice::from_ref(cpuset));
        let outside = all.into_iter().filter(|pid| !inside.contains(pid));
        // One that has moved has its children inside; the others may have had some meanwhile.
        let new: Vec<i32> = outside.filter(|pid| tried.insert(*pid)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for pid in new {
            match write_existing(&file, &pid.to_string()) {
                // It has ended.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                moved => moved.on("write", format_args!("{pid} to {}", file.display()))?,
            }
        }
    }
}

/// Whether each number of a list such as `0-2,4` is in the other one.
fn is_within(asked: &str, there: &str) -> bool {
    let there: Vec<(u32, u32)> = ranges(there).collect();
    let is_there = |number| there.iter().any(|(a, b)| (*a..=*b).contains(&number));
    ranges(asked).all(|(first, last)| (first..=last).all(is_there))
}

fn ranges(list: &str) -> impl Iterator<Item = (u32, u32)> {
    list.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_a_list_must_be_there() {
        for (asked, there, fits) in [
            ("0", "0-1", true),
            ("0-1", "0,1", true),
            ("7", "0-1", false),
            ("1-2", "0-1", false),
            ("0-4294967295", "0-1", false),
            ("0,2", "0-1,3", false),
            ("3-5,0", "0-1,3-6", true),
        ] {
            assert_eq!(is_within(asked, there), fits, "{asked} in {there}");
        }
    }

    #[test]
    fn those_that_are_not_in_it_are_moved_into_v1s() {
        let dir = std::env::temp_dir().join(format!("mybox-cpuset-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let group = |name: &str, pids: &str| {
            let group = dir.join(name);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("tasks"), "").unwrap();
            fs::write(group.join("cgroup.procs"), pids).unwrap();
            group
        };
        let paths = [group("memory", "8\n"), group("cpuset", "9\n")];
        assert!(!is_among(&paths));
        gather(&paths).unwrap();
        fs::write(paths[1].join("cpuset.cpus"), "0").unwrap();
        assert!(is_among(&paths));
        gather(&paths).unwrap();
        let procs = fs::read_to_string(paths[1].join("cgroup.procs")).unwrap();
        assert_eq!(procs, "8\n");
        fs::remove_dir_all(dir).unwrap();
    }
}
