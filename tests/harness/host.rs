//! What is on a host: all of it, to compare before and after, or the part that bears a sandbox's
//! marks.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::Cmd;

/// Where commands run: the machine itself, or the namespaces of a [`super::PrivateHost`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host {
    /// A process whose network and mount namespaces to enter.
    inside: Option<u32>,
}

impl Host {
    /// The machine itself.
    pub(crate) const REAL: Self = Self { inside: None };

    /// The host that process `pid` lives on.
    pub(super) fn inside(pid: u32) -> Self {
        Self { inside: Some(pid) }
    }

    /// A command on this host. On a private host its working directory is `/`.
    pub(crate) fn command(self, program: impl AsRef<OsStr>) -> Cmd {
        let command = Cmd::new(program);
        match self.inside {
            // nsenter(1) becomes the command, with the process id that it was started with.
            Some(pid) => {
                command.through(["nsenter", &format!("-t{pid}"), "--net", "--mount", "--"])
            }
            None => command,
        }
    }

    /// What a command says on standard output.
    #[track_caller]
    fn ask<T: AsRef<OsStr>>(self, program: &str, arguments: impl IntoIterator<Item = T>) -> String {
        self.command(program).args(arguments).run().ok().stdout()
    }

    /// The content of a file.
    #[track_caller]
    pub(crate) fn read(self, path: &str) -> String {
        self.ask("cat", [path])
    }

    /// The IPv4 networks of an interface: address and prefix length. None if there is no such
    /// interface.
    pub(crate) fn networks(self, interface: &str) -> Vec<Network> {
        let addresses = self
            .command("ip")
            .args(["-o", "-4", "addr", "show", "dev", interface])
            .run();
        addresses
            .stdout()
            .lines()
            .filter_map(Network::in_line)
            .collect()
    }
}

/// An IPv4 network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    address: Ipv4Addr,
    mask: u32,
}

impl Network {
    /// The one in a line of `ip -o -4 addr`.
    fn in_line(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once("inet ")?;
        let (address, prefix) = rest.split_whitespace().next()?.split_once('/')?;
        let prefix: u32 = prefix.parse().ok()?;
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        Some(Self {
            address: address.parse().ok()?,
            mask,
        })
    }

    /// The address it was read with.
    pub(crate) fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Whether `address` belongs to it.
    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask == 0
    }
}

/// All that mybox could change on a host, one fact a line: links, addresses, routes, firewall,
/// sysctls, mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostState(BTreeSet<String>);

/// Sysctls whose values change by themselves.
const RESTLESS: &[&str] = &[
    "nf_conntrack_count",
    "/route/",
    "random",
    "tcp_mem",
    "udp_mem",
];

impl HostState {
    /// The state of `host` now. On the real host other tests change it all the time: compare
    /// private ones.
    #[track_caller]
    pub(crate) fn of(host: Host) -> Self {
        let mut facts = BTreeSet::new();
        let mut add = |kind: &str, text: &str| {
            facts.extend(text.lines().map(|line| format!("{kind}: {}", line.trim())));
        };
        add("link", &host.ask("ip", ["-o", "-d", "link"]));
        // An IPv6 address is tentative at first; that passes by itself.
        add(
            "address",
            &host.ask("ip", ["-o", "addr"]).replace(" tentative", ""),
        );
        add("route", &host.ask("ip", ["route", "show", "table", "all"]));
        add(
            "route6",
            &host.ask("ip", ["-6", "route", "show", "table", "all"]),
        );
        add("rule", &host.ask("ip", ["rule"]));
        add(
            "neighbour proxy",
            &host.ask("ip", ["neigh", "show", "proxy"]),
        );
        add(
            "firewall",
            &host.ask("nft", ["--stateless", "list", "ruleset"]),
        );
        // Some sysctls can only be written: grep -s passes over them, and says so with exit code 2.
        let sysctls = host
            .command("grep")
            .args(["-rs", "", "/proc/sys/net"])
            .run()
            .stdout();
        let steady = |line: &&str| !RESTLESS.iter().any(|word| line.contains(word));
        add(
            "sysctl",
            &sysctls
                .lines()
                .filter(steady)
                .collect::<Vec<_>>()
                .join("\n"),
        );
        add("mount", &mounts(host).join("\n"));
        Self(facts)
    }

    /// Fails with the differences unless this state is the same as the one `before`.
    #[track_caller]
    pub(crate) fn assert_same_as(&self, before: &Self) {
        let gone = before.0.difference(&self.0).map(|fact| format!("- {fact}"));
        let new = self.0.difference(&before.0).map(|fact| format!("+ {fact}"));
        let differences: Vec<String> = gone.chain(new).collect();
        assert!(
            differences.is_empty(),
            "the host changed:\n{}",
            differences.join("\n")
        );
    }
}

/// The mount table without the mounts' ids, which mean nothing.
fn mounts(host: Host) -> Vec<String> {
    let table = host.read("/proc/self/mountinfo");
    table
        .lines()
        .filter_map(|line| Some(line.splitn(3, ' ').nth(2)?.to_owned()))
        .collect()
}

/// By what a sandbox's things can be told from all others.
pub(super) struct Marks<'a> {
    /// Its directory, which no other path contains.
    pub(super) directory: &'a Path,
    /// Its bridge; none to look for its containers' things only.
    pub(super) bridge: Option<&'a str>,
    /// Networks its bridge had.
    pub(super) networks: &'a [Network],
    /// Ids of all containers it ever had.
    pub(super) containers: &'a [String],
}

/// Something of a sandbox that is on the host.
#[derive(Debug)]
pub(super) enum Trace {
    Link(String),
    Mount(String),
    Cgroup(PathBuf),
    Firewall(String),
    Process {
        pid: u32,
        /// Whether it was started for the sandbox. Only then may it be killed: any other one merely
        /// uses a file or a mount of the sandbox, and may be anybody's.
        is_its_own: bool,
        described: String,
    },
}

impl Marks<'_> {
    /// Everything of the sandbox that is on `host`, files aside.
    pub(super) fn traces(&self, host: Host) -> Vec<Trace> {
        let links = self.links(host).into_iter().map(Trace::Link);
        let mounts = mounts(host)
            .into_iter()
            .filter(|line| self.names_directory(line));
        let cgroups = self.cgroups().into_iter().map(Trace::Cgroup);
        let firewall = self.firewall(host).into_iter().map(Trace::Firewall);
        links
            .chain(mounts.map(Trace::Mount))
            .chain(cgroups)
            .chain(firewall)
            .chain(self.processes())
            .collect()
    }

    fn names_directory(&self, text: &str) -> bool {
        text.contains(
            self.directory
                .to_str()
                .expect("the harness's names are plain"),
        )
    }

    /// Whether `text` has the first eight digits of a container's id; names of links have no room
    /// for more.
    fn names_container(&self, text: &str) -> bool {
        self.containers
            .iter()
            .any(|id| text.contains(id.get(..8).unwrap_or(id)))
    }

    /// Whether `path` has a container's id; groups have room for at least as much of it as people
    /// are shown.
    fn names_group(&self, path: &str) -> bool {
        self.containers
            .iter()
            .any(|id| path.contains(id.get(..12).unwrap_or(id)))
    }

    fn links(&self, host: Host) -> Vec<String> {
        let is_ours = |line: &&str| {
            line.split([' ', ':', '@'])
                .any(|word| Some(word) == self.bridge)
                || self.names_container(line)
        };
        host.ask("ip", ["-o", "link"])
            .lines()
            .filter(is_ours)
            .map(str::to_owned)
            .collect()
    }

    fn firewall(&self, host: Host) -> Vec<String> {
        let used = host.ask("ip", ["-o", "-4", "addr"]);
        let used: Vec<Network> = used.lines().filter_map(Network::in_line).collect();
        // A range that was given back may have gone to another sandbox since.
        let is_free =
            |network: &&Network| !used.iter().any(|other| network.contains(other.address));
        let free: Vec<&Network> = self.networks.iter().filter(is_free).collect();
        let has_address = |line: &str| {
            line.split(|letter: char| !letter.is_ascii_digit() && letter != '.')
                .filter_map(|word| word.parse::<Ipv4Addr>().ok())
                .any(|address| free.iter().any(|network| network.contains(address)))
        };
        let is_ours = |line: &&str| {
            self.bridge.is_some_and(|bridge| line.contains(bridge))
                || self.names_container(line)
                || has_address(line)
        };
        host.ask("nft", ["list", "ruleset"])
            .lines()
            .filter(is_ours)
            .map(str::to_owned)
            .collect()
    }

    /// Groups named after a container, in any hierarchy; the deepest first.
    fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(&directory)
                .into_iter()
                .flatten()
                .flatten()
            {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path());
                }
            }
            if self.names_group(&directory.to_string_lossy()) {
                found.push(directory);
            }
        }
        found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        found
    }

    /// Processes of the sandbox, wherever they were put.
    fn processes(&self) -> Vec<Trace> {
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let others = pids.filter(|pid| *pid != std::process::id());
        others.filter_map(|pid| self.process(pid)).collect()
    }

    fn process(&self, pid: u32) -> Option<Trace> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let text = |name: &str| {
            let bytes = std::fs::read(proc.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        // It was started for the sandbox, or put into a container's group: that is no accident.
        let is_its_own = ["cmdline", "environ"]
            .iter()
            .any(|name| self.names_directory(&text(name)))
            || self.names_group(&text("cgroup"));
        let uses_it = is_its_own || self.has_file_open(&proc) || self.has_mounted(&proc);
        let described = format!("{} ({})", text("comm").trim(), text("cmdline").trim());
        uses_it.then_some(Trace::Process {
            pid,
            is_its_own,
            described,
        })
    }

    fn has_file_open(&self, proc: &Path) -> bool {
        let entries = std::fs::read_dir(proc.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.any(|target| self.names_directory(&target.to_string_lossy()))
    }

    /// Whether a mount of the sandbox is in the process's mount namespace, and that is not the
    /// machine's, which nearly every process shares.
    fn has_mounted(&self, proc: &Path) -> bool {
        let namespace = |proc: &Path| std::fs::read_link(proc.join("ns/mnt")).ok();
        let table = std::fs::read_to_string(proc.join("mountinfo")).unwrap_or_default();
        namespace(proc) != namespace(Path::new("/proc/self")) && self.names_directory(&table)
    }
}
