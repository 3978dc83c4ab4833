//! What the probe reports, as types: the probe writes them as JSON inside a container, the harness
//! reads them back.
//!
//! Values are the kernel's own words wherever the kernel has words for them: capability sets stay
//! hexadecimal strings, limits stay the text of their file. A test then compares with what `/proc`
//! shows on the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The names by which the probe can be called directly; an image makes links of these names to it.
pub const APPLETS: &[&str] = &["true", "false", "sleep", "echo", "cat", "ls"];

/// Everything the probe can see of its surroundings, written by `probe report`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The arguments, the program's own name first.
    pub argv: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The working directory, or the error that hides it.
    pub cwd: String,
    /// What `/proc/self/exe` points to.
    pub exe: String,
    /// Who the probe is.
    pub identity: Identity,
    /// The nodename of its UTS namespace.
    pub hostname: String,
    /// The domain name of its UTS namespace.
    pub domainname: String,
    /// `no_new_privs`, the seccomp mode and the capability sets.
    pub privileges: Privileges,
    /// Which signals are blocked, ignored and caught, as hexadecimal masks.
    pub signals: SignalMasks,
    /// Namespace kind (`pid`, `mnt` ...) to what its link in `/proc/self/ns` says
    /// (`pid:[4026531836]`).
    pub namespaces: BTreeMap<String, String>,
    /// `/proc/self/uid_map`.
    pub uid_map: String,
    /// `/proc/self/gid_map`.
    pub gid_map: String,
    /// The mount table, in the kernel's order.
    pub mounts: Vec<Mount>,
    /// Network interfaces by name.
    pub links: BTreeMap<String, Link>,
    /// The main IPv4 routing table.
    pub routes: Vec<Route>,
    /// Readable files under `/proc/sys/net/ipv4` that matter here (`ip_forward`, `ping_group_range`
    /// ...).
    pub sysctls: BTreeMap<String, String>,
    /// The probe's open file descriptors, other than the one that lists them.
    pub fds: BTreeMap<u32, String>,
    /// Cgroup membership and the limits in force.
    pub cgroup: Cgroup,
    /// Everything under `/dev`, by path.
    pub dev: BTreeMap<String, Node>,
    /// Contents of `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf`; absent where the file is.
    pub etc: BTreeMap<String, String>,
    /// The terminal, if there is one.
    pub tty: Tty,
    /// `/proc/self/oom_score_adj`.
    pub oom_score_adj: String,
    /// Name as in `/proc/self/limits` (`Max open files`) to soft and hard limit.
    pub rlimits: BTreeMap<String, (String, String)>,
    /// Every process that `/proc` shows.
    pub processes: Vec<Process>,
    /// Clocks, to tell when things happened.
    pub clocks: Clocks,
}

/// Process, user and group ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Process id in its own pid namespace.
    pub pid: u32,
    /// Parent's process id; 0 when the parent is outside of the pid namespace.
    pub ppid: u32,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Real, effective, saved and filesystem user id.
    pub uids: Vec<u32>,
    /// Real, effective, saved and filesystem group id.
    pub gids: Vec<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The file mode creation mask.
    pub umask: u32,
}

/// What the process may do, from `/proc/self/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Privileges {
    /// `NoNewPrivs`.
    pub no_new_privs: bool,
    /// `Seccomp`: 0 none, 1 strict, 2 filter.
    pub seccomp_mode: u32,
    /// `Seccomp_filters`: how many filters are stacked.
    pub seccomp_filters: u32,
    /// `CapInh`, sixteen hexadecimal digits, as the others.
    pub inheritable: String,
    /// `CapPrm`.
    pub permitted: String,
    /// `CapEff`.
    pub effective: String,
    /// `CapBnd`.
    pub bounding: String,
    /// `CapAmb`.
    pub ambient: String,
}

/// Signal masks from `/proc/self/status`, hexadecimal.
///
/// Rust's own start-up ignores SIGPIPE and catches SIGSEGV and SIGBUS.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignalMasks {
    /// `SigBlk`.
    pub blocked: String,
    /// `SigIgn`.
    pub ignored: String,
    /// `SigCgt`.
    pub caught: String,
}

/// One line of `/proc/self/mountinfo` (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Unique id of the mount.
    pub id: u32,
    /// Id of the mount it lies on.
    pub parent: u32,
    /// `major:minor` of the filesystem.
    pub device: String,
    /// Which directory of the filesystem is mounted.
    pub root: String,
    /// Where, as seen from the process's root.
    pub target: String,
    /// Options of this mount.
    pub options: Vec<String>,
    /// Optional fields: `shared:1`, `master:2` ...
    pub propagation: Vec<String>,
    /// Filesystem type.
    pub fstype: String,
    /// What is mounted; for virtual filesystems any word.
    pub source: String,
    /// Options of the filesystem as a whole.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Whether the mount or its filesystem has the option `name`.
    pub fn has(&self, name: &str) -> bool {
        self.options
            .iter()
            .chain(&self.super_options)
            .any(|option| option == name)
    }

    /// Parses one line of mountinfo.
    pub fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let mut right = right.splitn(3, ' ');
        let commas = |text: &str| text.split(',').map(str::to_owned).collect();
        Some(Self {
            id: left.first()?.parse().ok()?,
            parent: left.get(1)?.parse().ok()?,
            device: (*left.get(2)?).to_owned(),
            root: unescape(left.get(3)?),
            target: unescape(left.get(4)?),
            options: commas(left.get(5)?),
            propagation: left
                .get(6..)?
                .iter()
                .map(|field| (*field).to_owned())
                .collect(),
            fstype: right.next()?.to_owned(),
            source: unescape(right.next()?),
            super_options: commas(right.next().unwrap_or_default()),
        })
    }
}

/// Undoes mountinfo's octal escapes of space, tab, newline and backslash.
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |text, (escape, plain)| {
        text.replace(escape, plain)
    })
}

/// A network interface.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Link {
    /// Flags by name: `UP`, `RUNNING`, `LOOPBACK` ...
    pub flags: Vec<String>,
    /// Hardware address, `02:42:0a:0a:00:02`.
    pub mac: Option<String>,
    /// Addresses with their prefix length: `10.10.0.2/16`, `fe80::1/64`.
    pub addresses: Vec<String>,
    /// From sysfs; none where that is not mounted.
    pub mtu: Option<u32>,
}

/// One IPv4 route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination network with its prefix length; `0.0.0.0/0` is the default route.
    pub destination: String,
    /// Next hop; none for a network that is on the link.
    pub gateway: Option<String>,
    /// The interface it leaves by.
    pub device: String,
    /// Its priority.
    pub metric: u32,
}

/// Where the process stands in the control groups, as seen from inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cgroup {
    /// `/proc/self/cgroup`, line by line.
    pub membership: Vec<String>,
    /// Mounted cgroup filesystems: where, and whether writable.
    pub mounts: BTreeMap<String, bool>,
    /// Limit file (`memory.max`, `cpu.cfs_quota_us` ...) to its content, for the process's own
    /// group.
    pub limits: BTreeMap<String, String>,
}

/// A file, as `lstat` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `file`, `dir`, `symlink`, `char`, `block`, `fifo`, `socket`.
    pub kind: String,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Number of hard links.
    pub nlink: u64,
    /// Inode number.
    pub inode: u64,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// Where a symlink points.
    pub target: Option<String>,
    /// Time of last change of content: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Extended attributes that may be read, values in hexadecimal.
    pub xattrs: BTreeMap<String, String>,
}

/// The terminal of the process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tty {
    /// Whether standard input, output and error are terminals.
    pub is_terminal: [bool; 3],
    /// Rows and columns of the first of them that is one.
    pub size: Option<(u16, u16)>,
    /// Whether `/dev/tty` opens: there is a controlling terminal.
    pub controlling: bool,
    /// The terminal's foreground process group.
    pub foreground: Option<u32>,
    /// The name of standard input's terminal, from `/proc/self/fd/0`.
    pub name: Option<String>,
}

/// A process in `/proc`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// `R`, `S`, `Z` ...
    pub state: String,
    /// Short name.
    pub comm: String,
    /// Arguments; empty for a zombie or a kernel thread.
    pub cmdline: Vec<String>,
}

/// Clocks at the time of the report, in seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Clocks {
    /// Since 1970.
    pub realtime: f64,
    /// Since boot, the time asleep included.
    pub boottime: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_lines_are_parsed() {
        let line = "36 35 98:0 /a\\040b /mnt rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let mount = Mount::parse(line).expect("a line of proc(5)");
        assert_eq!(mount.root, "/a b");
        assert_eq!(mount.propagation, ["master:1", "shared:2"]);
        assert_eq!(
            (mount.fstype.as_str(), mount.source.as_str()),
            ("ext3", "/dev/root")
        );
        assert!(mount.has("noatime") && mount.has("errors=continue") && !mount.has("ro"));
        assert_eq!(Mount::parse("nonsense"), None);
    }
}
