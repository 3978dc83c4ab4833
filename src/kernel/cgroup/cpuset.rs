//! The processors and memory nodes that a group can be bound to: those that the group above it has.

use std::fs;
use std::path::Path;

use super::{Error, Limits, Result};

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
}
