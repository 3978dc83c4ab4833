//! A host of a test's own: a network namespace and a mount namespace, so that all of its links,
//! addresses, routes, firewall, sysctls and mounts can be compared before and after. Beside it, an
//! outside world.
//!
//! ```text
//!   private host                                outside
//!   bridge of mybox ── routed, NAT ── eth0 ═════ eth0   udp echo on 7, tcp on 80, dns on 53
//!                            203.0.113.1        203.0.113.2
//! ```
//! The namespaces live as long as a process of each that waits for the end of its input. They end
//! with the test, however it ends, and nothing of them has a name on the real host.

use std::time::Duration;

use tempfile::TempDir;

use super::{Cmd, Host, Running, probe, requirements};

/// The private host's own address on the way to the outside.
pub(crate) const ADDRESS: &str = "203.0.113.1";

/// The address of the outside world. It has no route back to any other network.
pub(crate) const OUTSIDE: &str = "203.0.113.2";

/// What the outside's name server answers to every question.
pub(crate) const ANSWER: &str = "198.51.100.7";

/// How long the namespaces are kept at most.
const LIFETIME: Duration = Duration::from_secs(900);

/// A new sysfs shows the new namespace's links; the cgroups of the old one are moved onto it.
const SETUP: &str = r#"set -e
mount --rbind /sys/fs/cgroup "$1"
mount -t sysfs sysfs /sys
mount --move "$1" /sys/fs/cgroup
ip link set lo up
echo 0 >/proc/sys/net/ipv4/ip_forward
echo ready
exec cat
"#;

const SETUP_OUTSIDE: &str = "set -e; ip link set lo up; echo ready; exec cat";

/// A host that only one test sees.
pub(crate) struct PrivateHost {
    holder: Running,
    outside: Option<Outside>,
    directory: TempDir,
}

struct Outside {
    holder: Running,
    servers: Vec<Running>,
}

impl PrivateHost {
    /// A host with nothing but loopback. Forwarding is off.
    #[track_caller]
    pub(crate) fn new() -> Self {
        requirements();
        let directory = tempfile::Builder::new()
            .prefix("mybox-host-")
            .tempdir()
            .expect("directory");
        let stage = directory.path().join("cgroup");
        std::fs::create_dir(&stage).expect("directory");
        let unshare = Cmd::new("unshare").args(["--net", "--mount", "--propagation", "private"]);
        let holder = hold(unshare.args(["sh", "-c", SETUP, "sh"]).arg(stage));
        Self {
            holder,
            outside: None,
            directory,
        }
    }

    /// A host that has a default route to an outside world, where servers answer.
    #[track_caller]
    pub(crate) fn with_outside() -> Self {
        let mut private = Self::new();
        let holder = hold(Cmd::new("unshare").args(["--net", "sh", "-c", SETUP_OUTSIDE]));
        let (inner, outer) = (private.holder.pid().to_string(), holder.pid().to_string());
        // One request makes both ends in their places: the real host never has either.
        Cmd::new("ip")
            .args([
                "link", "add", "name", "eth0", "netns", &inner, "type", "veth",
            ])
            .args(["peer", "name", "eth0", "netns", &outer])
            .run()
            .ok();
        let ip = |pid: &str, words: &str| {
            let nsenter = ["nsenter", "-t", pid, "--net", "--", "ip"];
            Cmd::new(nsenter[0])
                .args(&nsenter[1..])
                .args(words.split(' '))
                .run()
                .ok();
        };
        for (pid, address) in [(&inner, ADDRESS), (&outer, OUTSIDE)] {
            ip(pid, &format!("address add {address}/24 dev eth0"));
            // An address that the kernel makes by itself comes a moment later, and is no change of mybox's.
            ip(pid, "link set eth0 addrgenmode none");
            ip(pid, "link set eth0 up");
        }
        ip(&inner, &format!("route add default via {OUTSIDE}"));
        private.outside = Some(Outside::serve(holder));
        private
    }

    /// To run commands on it.
    pub(crate) fn host(&self) -> Host {
        Host::inside(self.holder.pid())
    }

    /// Puts another content in the place of a file that exists, such as `/etc/resolv.conf`, on this
    /// host only.
    #[track_caller]
    pub(crate) fn replace_file(&self, path: &str, content: &str) {
        let replacement = self.directory.path().join(path.replace('/', "_"));
        std::fs::write(&replacement, content).expect("write the replacement");
        self.host()
            .command("mount")
            .arg("--bind")
            .arg(replacement)
            .arg(path)
            .run()
            .ok();
    }

    /// Lets files be added to `/etc`, on this host only.
    #[track_caller]
    pub(crate) fn make_etc_writable(&self) {
        let layers = self.directory.path().join("etc");
        std::fs::create_dir(&layers).expect("directory");
        let shell = "set -e; mount -t tmpfs tmpfs \"$1\"; mkdir \"$1/upper\" \"$1/work\"
            mount -t overlay -o lowerdir=/etc,upperdir=\"$1/upper\",workdir=\"$1/work\" etc /etc";
        let mount = self.host().command("sh").args(["-c", shell, "sh"]);
        mount.arg(layers).run().ok();
    }

    /// A command in the outside world.
    #[track_caller]
    pub(crate) fn outside(&self, program: &str) -> Cmd {
        let outside = self.outside.as_ref().expect("made with an outside");
        outside.command(program)
    }

    /// All that the outside's servers said until now: whom they answered.
    pub(crate) fn outside_log(&self) -> String {
        let servers = self.outside.iter().flat_map(|outside| &outside.servers);
        servers.map(Running::stdout_so_far).collect()
    }
}

impl Outside {
    fn serve(holder: Running) -> Self {
        let mut outside = Self {
            holder,
            servers: Vec::new(),
        };
        let at = |port: u16| format!("{OUTSIDE}:{port}");
        for words in [
            ["udp-echo-server", &at(7), "1000000"],
            ["tcp-server", &at(80), "outside"],
            ["dns-server", &at(53), ANSWER],
        ] {
            let program = probe().to_str().expect("a plain path");
            let server = outside
                .command(program)
                .args(words)
                .timeout(LIFETIME)
                .spawn();
            server.wait_for("listening");
            outside.servers.push(server);
        }
        outside
    }

    fn command(&self, program: &str) -> Cmd {
        let target = format!("-t{}", self.holder.pid());
        Cmd::new(program).through(["nsenter", &target, "--net", "--"])
    }
}

/// Starts a process that keeps its namespaces until its input ends.
#[track_caller]
fn hold(command: Cmd) -> Running {
    let holder = command.timeout(LIFETIME).spawn();
    holder.wait_for("ready");
    holder
}
