//! The tools that a benchmark puts side by side, each with a state of its own below a directory.

#![allow(dead_code, reason = "each benchmark uses some of it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What podman's `run` needs beside the words that all know: it raises these limits by default, which
/// takes a capability that not every root has.
pub const PODMAN_RUN: &[&str] = &[
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1024:1024",
];

/// mybox as it was just built, with a bridge of the benchmark's.
pub fn mybox(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mybox"));
    command
        .env("MYBOX_ROOT", dir.join("root"))
        .env("MYBOX_RUN_ROOT", dir.join("run"))
        .env("MYBOX_BRIDGE", "mybox-bench");
    command
}

pub fn podman(dir: &Path) -> Command {
    let mut command = Command::new("podman");
    command.arg("--root").arg(dir.join("podman"));
    command.arg("--runroot").arg(dir.join("podman-run"));
    command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
    // Its default, crun, refuses hosts with hybrid cgroups.
    if Path::new("/sys/fs/cgroup/memory").exists() {
        command.args(["--runtime", "runc"]);
    }
    command
}

/// Gives back what podman made in `dir`.
pub fn reset_podman(dir: &Path) {
    if find("podman").is_some() {
        run(podman(dir).args(["system", "reset", "--force"]));
    }
}

/// Whether docker's daemon has a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Its usual bridge and firewall rules: for a network namespace of the benchmark's.
    Bridge,
    /// None.
    None,
}

/// A docker daemon that ends with this.
pub struct Docker {
    daemon: Child,
    host: String,
    cgroup: PathBuf,
}

impl Docker {
    /// Starts one; `None` where it is not installed or does not start, which is said.
    pub fn start(root: &Path, network: Network) -> Option<Self> {
        let program = find("dockerd")?;
        fs::create_dir_all(root).expect("make a directory");
        let cgroup = own_cgroup().join(format!("mybox-bench-{}", std::process::id()));
        let host = format!("unix://{}", root.join("socket").display());
        let log = File::create(root.join("log")).expect("make docker's log");
        let mut command = Command::new(program);
        command.args(["--host", &host, "--storage-driver", "overlay2"]);
        command.arg("--cgroup-parent").arg(&cgroup);
        command.arg("--data-root").arg(root.join("data"));
        command.arg("--exec-root").arg(root.join("exec"));
        command.arg("--pidfile").arg(root.join("pid"));
        if network == Network::None {
            command.args(["--bridge", "none", "--iptables=false", "--ip-forward=false"]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let daemon = command.spawn().expect("start dockerd");
        let docker = Self {
            daemon,
            host,
            cgroup,
        };
        let answers = || {
            let mut ask = docker.command();
            quiet(ask.arg("version"))
                .status()
                .is_ok_and(|status| status.success())
        };
        if wait_until(answers) {
            return Some(docker);
        }
        eprintln!("docker is left out: see {}", root.join("log").display());
        None
    }

    /// docker, with this daemon.
    pub fn command(&self) -> Command {
        client(&self.host)
    }

    /// The same, for a closure that outlives the borrow.
    pub fn commands(&self) -> impl Fn() -> Command + Clone + use<> {
        let host = self.host.clone();
        move || client(&host)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        // It stops its containerd, given the chance.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
        // Its runtime leaves the parents of the containers' cgroups, in each hierarchy of v1.
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        for hierarchy in hierarchies.flatten().map(|entry| entry.path()) {
            for parent in self.cgroup.ancestors() {
                let parent = parent.strip_prefix("/").unwrap_or(parent);
                // Those with anything in them stay, and the hierarchy itself.
                let _ = fs::remove_dir(hierarchy.join(parent));
            }
        }
    }
}

fn client(host: &str) -> Command {
    let mut command = Command::new("docker");
    command.args(["--host", host]);
    command
}

/// Of the hierarchies, the one that is most often given out in parts.
fn own_cgroup() -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").expect("read /proc/self/cgroup");
    let path = |line: &str| line.split(':').nth(2).map(PathBuf::from);
    let memory = text.lines().find(|line| line.contains(":memory:"));
    let unified = || text.lines().find(|line| line.starts_with("0::"));
    let own = memory.or_else(unified).and_then(path);
    own.unwrap_or_else(|| PathBuf::from("/"))
}

/// A tar of a root filesystem of busybox under these names in /bin.
pub fn busybox_tar(dir: &Path, names: &[&str]) -> PathBuf {
    let (rootfs, tar) = (dir.join("rootfs"), dir.join("image.tar"));
    fs::create_dir_all(rootfs.join("bin")).expect("make a directory for the benchmark");
    fs::create_dir_all(rootfs.join("etc")).expect("make a directory for the benchmark");
    let busybox = find("busybox").expect("busybox: apt-get install busybox-static");
    for name in names {
        fs::copy(&busybox, rootfs.join("bin").join(name)).expect("copy busybox");
    }
    let mut pack = Command::new("tar");
    pack.arg("-C").arg(rootfs).arg("-cf").arg(&tar).arg(".");
    run(&mut pack);
    tar
}

/// Where a program is, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| Path::is_file(file))
}

/// Runs what has to work.
pub fn run(command: &mut Command) {
    if let Err(reason) = quietly(command) {
        panic!("{command:?}: {reason}");
    }
}

/// Runs what may fail, with the last line of its complaint.
pub fn quietly(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.trim_end().lines().last();
    Err(last.unwrap_or("it failed without a word").to_owned())
}

/// Without input and without a word.
pub fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

/// `false` if it took too long.
pub fn wait_until(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}
