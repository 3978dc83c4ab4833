//! Gathers the report: each function reads one part of what can be seen from inside.
//!
//! A part that cannot be read is empty, not an error: a container without `/sys` is a thing to
//! report.

use std::collections::BTreeMap;
use std::fs::{read_dir, read_link, read_to_string};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mybox_probe::{
    Cgroup, Clocks, Identity, Link, Mount, Node, Privileges, Process, Report, Route, SignalMasks,
    Tty,
};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::LinkAddr;
use rustix::fs::Mode;
use rustix::time::{ClockId, clock_gettime};

use crate::files;

/// Everything.
pub(crate) fn report(argv: &[String]) -> Result<Report> {
    let status = Status::read()?;
    let uname = rustix::system::uname();
    Ok(Report {
        argv: argv.to_vec(),
        env: std::env::vars_os()
            .map(|(name, value)| (lossy(name), lossy(value)))
            .collect(),
        cwd: std::env::current_dir().map_or_else(|error| files::io_error_name(&error), lossy),
        exe: read_link("/proc/self/exe").map(lossy).unwrap_or_default(),
        identity: identity(&status),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        domainname: uname.domainname().to_string_lossy().into_owned(),
        privileges: privileges(&status),
        signals: SignalMasks {
            blocked: status.get("SigBlk"),
            ignored: status.get("SigIgn"),
            caught: status.get("SigCgt"),
        },
        namespaces: links_in("/proc/self/ns"),
        uid_map: text("/proc/self/uid_map"),
        gid_map: text("/proc/self/gid_map"),
        mounts: mounts(),
        links: links(),
        routes: routes(),
        sysctls: sysctls(),
        fds: fds(),
        cgroup: cgroup(),
        dev: dev(),
        etc: etc(),
        tty: tty(),
        oom_score_adj: text("/proc/self/oom_score_adj"),
        rlimits: rlimits(),
        processes: processes(),
        clocks: Clocks {
            realtime: clock(ClockId::Realtime),
            boottime: clock(ClockId::Boottime),
        },
    })
}

/// The fields of `/proc/self/status`.
struct Status(BTreeMap<String, String>);

impl Status {
    fn read() -> Result<Self> {
        let text = read_to_string("/proc/self/status").context("/proc/self/status")?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(Self(
            fields
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
        ))
    }

    fn get(&self, field: &str) -> String {
        self.0.get(field).cloned().unwrap_or_default()
    }

    fn numbers(&self, field: &str) -> Vec<u32> {
        self.get(field)
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    }

    fn number(&self, field: &str) -> u32 {
        self.numbers(field).first().copied().unwrap_or_default()
    }
}

fn identity(status: &Status) -> Identity {
    // The mask can only be read by setting it, before any thread could make a file in between.
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    let raw = |pid: Option<rustix::process::Pid>| {
        pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())
            .unwrap_or_default()
    };
    Identity {
        pid: std::process::id(),
        ppid: std::os::unix::process::parent_id(),
        pgid: raw(rustix::process::getpgid(None).ok()),
        sid: raw(rustix::process::getsid(None).ok()),
        uids: status.numbers("Uid"),
        gids: status.numbers("Gid"),
        groups: status.numbers("Groups"),
        umask: umask.bits(),
    }
}

fn privileges(status: &Status) -> Privileges {
    Privileges {
        no_new_privs: status.number("NoNewPrivs") == 1,
        seccomp_mode: status.number("Seccomp"),
        seccomp_filters: status.number("Seccomp_filters"),
        inheritable: status.get("CapInh"),
        permitted: status.get("CapPrm"),
        effective: status.get("CapEff"),
        bounding: status.get("CapBnd"),
        ambient: status.get("CapAmb"),
    }
}

fn mounts() -> Vec<Mount> {
    text("/proc/self/mountinfo")
        .lines()
        .filter_map(Mount::parse)
        .collect()
}

fn links() -> BTreeMap<String, Link> {
    let mut links: BTreeMap<String, Link> = BTreeMap::new();
    for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let link = links.entry(entry.interface_name.clone()).or_default();
        link.flags = flag_names(entry.flags);
        link.mtu = text(format!("/sys/class/net/{}/mtu", entry.interface_name))
            .parse()
            .ok();
        let Some(address) = entry.address else {
            continue;
        };
        if let Some(hardware) = address.as_link_addr().and_then(LinkAddr::addr) {
            link.mac = Some(hardware.map(|byte| format!("{byte:02x}")).join(":"));
        }
        if let Some(v4) = address.as_sockaddr_in() {
            let mask = entry
                .netmask
                .and_then(|mask| Some(mask.as_sockaddr_in()?.ip().to_bits()));
            let prefix = mask.map_or(32, u32::leading_ones);
            link.addresses.push(format!("{}/{prefix}", v4.ip()));
        }
        if let Some(v6) = address.as_sockaddr_in6() {
            let mask = entry
                .netmask
                .and_then(|mask| Some(mask.as_sockaddr_in6()?.ip().to_bits()));
            let prefix = mask.map_or(128, u128::leading_ones);
            link.addresses.push(format!("{}/{prefix}", v6.ip()));
        }
    }
    links
}

fn flag_names(flags: InterfaceFlags) -> Vec<String> {
    flags
        .iter_names()
        .map(|(name, _)| name.trim_start_matches("IFF_").to_owned())
        .collect()
}

/// `/proc/net/route`: addresses are hexadecimal, in the byte order of the machine.
fn routes() -> Vec<Route> {
    let table = text("/proc/net/route");
    table.lines().skip(1).filter_map(route).collect()
}

fn route(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |index: usize| {
        let raw = u32::from_str_radix(fields.get(index)?, 16).ok()?;
        Some(Ipv4Addr::from(raw.to_ne_bytes()))
    };
    let gateway = address(2)?;
    Some(Route {
        destination: format!("{}/{}", address(1)?, address(7)?.to_bits().leading_ones()),
        gateway: (!gateway.is_unspecified()).then(|| gateway.to_string()),
        device: (*fields.first()?).to_owned(),
        metric: fields.get(6)?.parse().ok()?,
    })
}

fn sysctls() -> BTreeMap<String, String> {
    [
        "ip_forward",
        "ping_group_range",
        "ip_unprivileged_port_start",
    ]
    .iter()
    .filter_map(|name| {
        let value = read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
        Some(((*name).to_owned(), value.trim().to_owned()))
    })
    .collect()
}

fn fds() -> BTreeMap<u32, String> {
    // The descriptor that lists the directory is in the list, but closed again when its link is
    // read.
    let numbers: Vec<u32> = names_in("/proc/self/fd")
        .iter()
        .filter_map(|n| n.parse().ok())
        .collect();
    let target = |fd: u32| Some((fd, lossy(read_link(format!("/proc/self/fd/{fd}")).ok()?)));
    numbers.into_iter().filter_map(target).collect()
}

/// Files that say what a group may use, under the names of v2 and of v1.
const LIMIT_FILES: &[&str] = &[
    "memory.max",
    "memory.high",
    "memory.low",
    "memory.swap.max",
    "memory.oom.group",
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.cpus.effective",
    "cpuset.mems",
    "pids.max",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.shares",
    "cpuset.effective_cpus",
];

fn cgroup() -> Cgroup {
    let is_cgroup = |mount: &Mount| mount.fstype.starts_with("cgroup");
    let writable = |mount: Mount| (mount.target.clone(), !mount.has("ro"));
    let limit = |name: &&str| Some(((*name).to_owned(), cgroup_file(name)?));
    Cgroup {
        membership: text("/proc/self/cgroup")
            .lines()
            .map(str::to_owned)
            .collect(),
        mounts: mounts()
            .into_iter()
            .filter(is_cgroup)
            .map(writable)
            .collect(),
        limits: LIMIT_FILES.iter().filter_map(limit).collect(),
    }
}

/// The content of `name` in whichever of the process's own groups has it.
pub(crate) fn cgroup_file(name: &str) -> Option<String> {
    let content = own_groups()
        .into_iter()
        .find_map(|group| read_to_string(group.join(name)).ok())?;
    Some(content.trim().to_owned())
}

/// The directories of the process's own groups, one for each mounted hierarchy.
fn own_groups() -> Vec<PathBuf> {
    let membership = text("/proc/self/cgroup");
    let lines: Vec<(&str, &str)> = membership
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .collect();
    let group_on = |mount: &Mount| {
        let (_, path) = lines
            .iter()
            .find(|(controllers, _)| match mount.fstype.as_str() {
                "cgroup2" => controllers.is_empty(),
                "cgroup" => controllers
                    .split(',')
                    .any(|controller| mount.has(controller)),
                _ => false,
            })?;
        let below = Path::new(path)
            .strip_prefix(&mount.root)
            .unwrap_or(Path::new(""));
        Some(Path::new(&mount.target).join(below))
    };
    mounts().iter().filter_map(group_on).collect()
}

fn dev() -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    let mut directories = vec![PathBuf::from("/dev")];
    while let Some(directory) = directories.pop() {
        for name in names_in(&directory) {
            let path = directory.join(name);
            let Ok(node) = files::node(&path) else {
                continue;
            };
            if node.kind == "dir" {
                directories.push(path.clone());
            }
            nodes.insert(lossy(path), node);
        }
    }
    nodes
}

fn etc() -> BTreeMap<String, String> {
    ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"]
        .iter()
        .filter_map(|path| Some(((*path).to_owned(), read_to_string(path).ok()?)))
        .collect()
}

fn tty() -> Tty {
    let fds = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    let is_terminal = fds.map(rustix::termios::isatty);
    let size = fds
        .iter()
        .find_map(|fd| rustix::termios::tcgetwinsize(fd).ok());
    let foreground = rustix::termios::tcgetpgrp(rustix::stdio::stdin()).ok();
    Tty {
        is_terminal,
        size: size.map(|size| (size.ws_row, size.ws_col)),
        controlling: std::fs::File::open("/dev/tty").is_ok(),
        foreground: foreground.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()),
        name: if is_terminal[0] {
            read_link("/proc/self/fd/0").ok().map(lossy)
        } else {
            None
        },
    }
}

/// `/proc/self/limits` is a table of fixed columns: 26 characters of name, 21 of soft and 21 of
/// hard limit.
fn rlimits() -> BTreeMap<String, (String, String)> {
    let column = |line: &str, from: usize, to: usize| {
        line.get(from..to.min(line.len()))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let row = |line: &str| {
        (
            column(line, 0, 26),
            (column(line, 26, 47), column(line, 47, 68)),
        )
    };
    text("/proc/self/limits").lines().skip(1).map(row).collect()
}

/// Every process that `/proc` shows; one that ends in the meantime is left out.
pub(crate) fn processes() -> Vec<Process> {
    let mut pids: Vec<u32> = names_in("/proc")
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(process).collect()
}

fn process(pid: u32) -> Option<Process> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself contain any of both.
    let (before, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let cmdline = read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Some(Process {
        pid,
        state: fields.next()?.to_owned(),
        ppid: fields.next()?.parse().ok()?,
        comm: before.split_once('(')?.1.to_owned(),
        cmdline: cmdline.split_terminator('\0').map(str::to_owned).collect(),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a double holds today's microseconds exactly"
)]
fn clock(id: ClockId) -> f64 {
    let time = clock_gettime(id);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn text(path: impl AsRef<Path>) -> String {
    read_to_string(path)
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

fn names_in(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| lossy(entry.file_name())).collect()
}

fn links_in(directory: &str) -> BTreeMap<String, String> {
    let target = |name: &String| read_link(Path::new(directory).join(name)).ok().map(lossy);
    names_in(directory)
        .into_iter()
        .filter_map(|name| Some((name.clone(), target(&name)?)))
        .collect()
}

fn lossy(text: impl Into<std::ffi::OsString>) -> String {
    text.into().to_string_lossy().into_owned()
}

/// Looks again and again, until the file `stop` is there, at every other process for what it
/// executes and has open; prints each thing that it could see once.
pub(crate) fn stalk(stop: &Path) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    let own = std::process::id().to_string();
    println!("stalking");
    while !stop.exists() {
        for entry in read_dir("/proc").context("/proc")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let links = ["exe", "cwd", "root"].map(|link| entry.path().join(link));
            let open = read_dir(entry.path().join("fd")).into_iter().flatten();
            let open = open.flatten().map(|fd| fd.path());
            for link in open.chain(links) {
                if let Ok(target) = read_link(&link) {
                    seen.insert(target.to_string_lossy().into_owned());
                }
            }
        }
    }
    for target in seen {
        println!("saw {target}");
    }
    Ok(())
}
