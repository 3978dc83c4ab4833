//! What a group uses: processor time, memory, block I/O, tasks. From v1's files or v2's, wherever a
//! container's groups have them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a container uses at one moment. What no group counts is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since it was started.
    pub cpu: Duration,
    /// Bytes of memory, without what the kernel could give back at once: cached files that nobody
    /// has used for a while.
    pub memory: u64,
    /// Its bytes of memory at most.
    pub memory_limit: Option<u64>,
    /// Bytes read from block devices.
    pub read: u64,
    /// Bytes written to block devices.
    pub written: u64,
    /// Tasks: processes and their threads.
    pub pids: u64,
    /// Tasks at most.
    pub pids_limit: Option<u64>,
}

/// Reads it from a container's groups.
pub fn read(paths: &[PathBuf]) -> Usage {
    usage(&|name| find(paths, name))
}

fn usage(file: Read<'_>) -> Usage {
    let (read, written) = block(file);
    Usage {
        cpu: cpu(file),
        memory: memory(file),
        memory_limit: limit(file, &["memory.max", "memory.limit_in_bytes"]),
        read,
        written,
        pids: number(file, &["pids.current"]).unwrap_or(0),
        pids_limit: limit(file, &["pids.max"]),
    }
}

/// The processes in a container's groups, and in groups that it made below them.
pub fn processes(paths: &[PathBuf]) -> Vec<i32> {
    let mut pids = Vec::new();
    // All groups of a container have the same processes; one may have been removed meanwhile.
    if let Some(path) = paths.iter().find(|path| path.exists()) {
        collect(path, &mut pids);
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn collect(group: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}

fn find(paths: &[PathBuf], name: &str) -> Option<String> {
    let mut texts = paths.iter().map(|path| fs::read_to_string(path.join(name)));
    texts.find_map(Result::ok)
}

type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

fn number(file: Read<'_>, names: &[&str]) -> Option<u64> {
    names
        .iter()
        .find_map(|name| file(name)?.trim().parse().ok())
}

/// v2 says `max`, v1's memory a number that no machine has.
fn limit(file: Read<'_>, names: &[&str]) -> Option<u64> {
    const BEYOND_ALL: u64 = 1 << 62;
    number(file, names).filter(|limit| *limit < BEYOND_ALL)
}

/// The value of a line `name value`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.strip_prefix(' ')?.trim().parse().ok()
}

fn cpu(file: Read<'_>) -> Duration {
    if let Some(nanoseconds) = number(file, &["cpuacct.usage"]) {
        return Duration::from_nanos(nanoseconds);
    }
    // v1 has a file of this name too, without this line.
    let v2 = file("cpu.stat").and_then(|text| field(&text, "usage_usec"));
    Duration::from_micros(v2.unwrap_or(0))
}

fn memory(file: Read<'_>) -> u64 {
    let used = number(file, &["memory.current", "memory.usage_in_bytes"]).unwrap_or(0);
    let stat = file("memory.stat").unwrap_or_default();
    let idle = field(&stat, "total_inactive_file").or_else(|| field(&stat, "inactive_file"));
    used.saturating_sub(idle.unwrap_or(0))
}

/// Bytes read and written, over all devices.
fn block(file: Read<'_>) -> (u64, u64) {
    match file("io.stat") {
        Some(text) => io_stat(&text),
        None => {
            let names = [
                "blkio.throttle.io_service_bytes_recursive",
                "blkio.throttle.io_service_bytes",
            ];
            names
                .into_iter()
                .find_map(file)
                .map_or((0, 0), |text| blkio(&text))
        }
    }
}

/// v2: `8:0 rbytes=1 wbytes=2 rios=...` a device.
fn io_stat(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_whitespace();
        let values = words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.sum()
    };
    (sum("rbytes="), sum("wbytes="))
}

/// v1: `8:0 Read 1` and `8:0 Write 2` a device, then a total.
fn blkio(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        let lines = text.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            (fields.next()? == kind).then(|| fields.next()?.parse::<u64>().ok())?
        });
        lines.sum()
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage_of(files: &[(&str, &str)]) -> Usage {
        usage(&|name: &str| {
            let found = files.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn both_interfaces_say_the_same() {
        let expected = Usage {
            cpu: Duration::from_micros(1500),
            memory: 700,
            memory_limit: Some(4096),
            read: 30,
            written: 7,
            pids: 3,
            pids_limit: None,
        };
        let v2 = usage_of(&[
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
            ("memory.current", "1000\n"),
            ("memory.stat", "anon 5\ninactive_file 300\n"),
            ("memory.max", "4096\n"),
            (
                "io.stat",
                "8:0 rbytes=10 wbytes=7 rios=1\n8:16 rbytes=20 wbytes=0\n",
            ),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
        ]);
        assert_eq!(v2, expected);
        let v1 = usage_of(&[
            ("cpuacct.usage", "1500000\n"),
            ("cpu.stat", "nr_periods 0\n"),
            ("memory.usage_in_bytes", "1000\n"),
            ("memory.stat", "inactive_file 9\ntotal_inactive_file 300\n"),
            ("memory.limit_in_bytes", "4096\n"),
            (
                "blkio.throttle.io_service_bytes",
                "8:0 Read 10\n8:0 Write 7\n8:16 Read 20\nTotal 37\n",
            ),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
        ]);
        assert_eq!(v1, expected);
    }

    #[test]
    fn no_limit_is_none_and_nothing_counted_is_nothing_used() {
        let v1 = usage_of(&[("memory.limit_in_bytes", "9223372036854771712\n")]);
        assert_eq!(v1, Usage::default());
    }
}
