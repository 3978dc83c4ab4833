//! What a container does, as seen from the host: its processes, what it uses, its traffic. The
//! host's /proc is read, never the container's.

use std::fs;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::container::Record;
use crate::container::find::Container;
use crate::kernel::cgroup::usage::{self, Usage};
use crate::kernel::raw;

/// What a container uses, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// From its cgroups.
    pub usage: Usage,
    /// From its interfaces.
    pub traffic: Traffic,
}

/// Bytes through a container's interfaces, loopback left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Into the container.
    pub received: u64,
    /// Out of it.
    pub sent: u64,
}

impl Sample {
    /// Of a container now; `None` if it does not run.
    pub fn of(container: &Container) -> Option<Self> {
        let (pid, _) = container.process?;
        Some(Self {
            at: Instant::now(),
            usage: usage::read(&container.record.cgroups),
            traffic: traffic(pid),
        })
    }

    /// Processor time since an earlier sample, in percent of one processor.
    pub fn cpu_since(&self, earlier: &Self) -> f64 {
        let used = self.usage.cpu.saturating_sub(earlier.usage.cpu);
        let passed = self.at.saturating_duration_since(earlier.at);
        if passed.is_zero() {
            return 0.0;
        }
        100.0 * used.as_secs_f64() / passed.as_secs_f64()
    }
}

/// The machine's memory in bytes: what a container may use that has no limit.
pub fn memory_of_host() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit)
}

/// A container in the host's network namespace has no traffic of its own.
fn traffic(pid: i32) -> Traffic {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    if namespace(&pid.to_string()) == namespace("self") {
        return Traffic::default();
    }
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    counters(&table)
}

/// The sums of `/proc/net/dev` (proc(5)): bytes received are the first number of a line, bytes sent
/// the ninth.
fn counters(table: &str) -> Traffic {
    let mut traffic = Traffic::default();
    for line in table.lines() {
        let Some((name, numbers)) = line.split_once(':') else {
            continue;
        };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        traffic.received += numbers.first().unwrap_or(&0);
        traffic.sent += numbers.get(8).unwrap_or(&0);
    }
    traffic
}

/// A process, as the host's /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number on the host.
    pub pid: i32,
    /// Its parent's number on the host.
    pub ppid: i32,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// Effective user, as the host numbers it.
    pub uid: u32,
    /// `R`, `S`, `Z` ...
    pub state: char,
    /// The terminal's device number; 0 for none.
    pub tty: u32,
    /// Processor time.
    pub cpu: Duration,
    /// Seconds since it was started.
    pub age: Duration,
    /// Threads.
    pub threads: u64,
    /// Bytes of address space.
    pub virtual_memory: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Its short name.
    pub name: String,
    /// Its command line; the short name in brackets where there is none.
    pub command: String,
}

/// The processes of a container. Those that end while they are looked at are left out.
pub fn processes(record: &Record) -> Vec<Process> {
    let up = uptime();
    let pids = usage::processes(&record.cgroups).into_iter();
    pids.filter_map(|pid| process(pid, up)).collect()
}

fn process(pid: i32, up: Duration) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    parse(pid, &stat, &status, &command_line, up)
}

/// From `stat`, `status` and `cmdline` of proc(5).
fn parse(pid: i32, stat: &str, status: &str, line: &[u8], up: Duration) -> Option<Process> {
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    // From the third field, the state, on.
    let fields: Vec<&str> = after.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at)?.parse::<u64>().ok();
    let words = String::from_utf8_lossy(line);
    let command = words.trim_end_matches('\0').replace('\0', " ");
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    Some(Process {
        pid,
        ppid: field(4)?.parse().ok()?,
        pgid: field(5)?.parse().ok()?,
        sid: field(6)?.parse().ok()?,
        uid: uids.split_whitespace().nth(1)?.parse().ok()?,
        state: field(3)?.chars().next()?,
        tty: field(7)?.parse::<i32>().ok()?.cast_unsigned(),
        cpu: ticks(number(14)? + number(15)?),
        age: up.saturating_sub(ticks(number(22)?)),
        threads: number(20)?,
        virtual_memory: number(23)?,
        memory: number(24)? * rustix::param::page_size() as u64,
        command: if command.is_empty() {
            format!("[{name}]")
        } else {
            command
        },
        name,
    })
}

impl Process {
    /// When it was started, as ps shows it: `14:05` today, `Nov25` this year, the year before that.
    pub fn started(&self, now: u64) -> String {
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let local = |seconds: u64| raw::local_time(seconds.cast_signed());
        let started = local(now.saturating_sub(self.age.as_secs()));
        let (Some(started), Some(now)) = (started, local(now)) else {
            return "?".to_owned();
        };
        if started.tm_year != now.tm_year {
            return (1900 + started.tm_year).to_string();
        }
        if started.tm_yday == now.tm_yday {
            return format!("{:02}:{:02}", started.tm_hour, started.tm_min);
        }
        let month = usize::try_from(started.tm_mon).ok();
        let month = month.and_then(|month| MONTHS.get(month)).unwrap_or(&"?");
        format!("{month}{:02}", started.tm_mday)
    }
}

fn ticks(count: u64) -> Duration {
    let a_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(count * 1000 / a_second)
}

fn uptime() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_that_of_all_interfaces_but_loopback() {
        let table = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets
    lo:    5000      10    0    0    0     0          0         0     5000      10 0 0 0 0 0 0
  eth0:    1000      10    0    0    0     0          0         0       20      10 0 0 0 0 0 0
  eth1:       1       1    0    0    0     0          0         0        2       1 0 0 0 0 0 0
";
        let expected = Traffic {
            received: 1001,
            sent: 22,
        };
        assert_eq!(counters(table), expected);
    }

    #[test]
    fn a_process_with_an_odd_name_is_read() {
        let stat = "7 (a) b) S 1 7 7 34816 7 0 0 0 0 0 150 50 0 0 20 0 2 0 1000 4096 3 0";
        let status = "Name:\ta) b\nUid:\t5\t6\t7\t8\n";
        let up = Duration::from_secs(100);
        let process = parse(7, stat, status, b"sh\0-c\0x y\0", up).unwrap();
        assert_eq!(
            (process.name.as_str(), process.command.as_str()),
            ("a) b", "sh -c x y")
        );
        assert_eq!((process.ppid, process.uid, process.state), (1, 6, 'S'));
        assert_eq!((process.tty, process.threads), (34816, 2));
        assert_eq!(process.cpu, Duration::from_secs(2));
        assert_eq!(process.age, Duration::from_secs(90));
        let zombie = parse(7, stat, status, b"", up).unwrap();
        assert_eq!(zombie.command, "[a) b]");
    }
}
