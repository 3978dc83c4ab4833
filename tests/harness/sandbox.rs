//! A place of its own for each test: a store, a run root and a bridge that nothing else on the
//! machine shares.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mybox_probe::Report;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::host::{Marks, Network, Trace};
use super::{Cmd, Host, Rootfs, requirements};

/// Files that may stay in the run root when nothing runs: locks are never removed, as that could
/// not be done safely, and compiled system call filters, the log of events and what was found out about the kernel serve
/// the next container.
const MAY_STAY: &[&str] = &[
    ".lock",
    ".bpf",
    ".forms",
    "/events.json",
    "/events.json.old",
];

/// How long the kernel may take to let go of what a dead namespace held.
const SETTLING: Duration = Duration::from_secs(3);

/// mybox with a root, a run root and a bridge of its own. When it is dropped, it checks that
/// nothing of it is left.
pub(crate) struct Sandbox {
    host: Host,
    directory: TempDir,
    bridge: String,
    layer_form: String,
    containers: Containers,
    finished: bool,
}

/// The form of the layers in every sandbox that does not say which: `indexed`, `unpacked` or `auto`,
/// which it is if nothing is said. `make test` runs the tests of images once with each form.
const LAYER_FORM: &str = "MYBOX_TEST_LAYER_FORM";

impl Sandbox {
    /// A sandbox for the test `name`, on the real host.
    #[track_caller]
    pub(crate) fn new(name: &str) -> Self {
        Self::on(Host::REAL, name)
    }

    /// A sandbox on `host`.
    #[track_caller]
    pub(crate) fn on(host: Host, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        requirements();
        // A real filesystem with short names: an overlay cannot have its upper directory on another
        // overlay, and paths of sockets end at 107 bytes.
        let parent = std::env::var_os("MYBOX_TEST_DIR").unwrap_or("/var/tmp".into());
        let directory = tempfile::Builder::new()
            .prefix(&format!("mybox-{name}-"))
            .tempdir_in(parent);
        let directory = directory.expect("a directory for the sandbox");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let containers = directory.path().join("root/containers");
        std::fs::create_dir_all(&containers).expect("the store's directory of containers");
        Self {
            host,
            bridge: format!("mb{:x}x{count:x}", std::process::id()),
            containers: Containers::watch(&containers),
            directory,
            layer_form: std::env::var(LAYER_FORM).unwrap_or_else(|_| "auto".to_owned()),
            finished: false,
        }
    }

    /// The same, where layers get this form.
    pub(crate) fn with_layer_form(mut self, form: &str) -> Self {
        form.clone_into(&mut self.layer_form);
        self
    }

    /// The form that layers get here.
    pub(crate) fn layer_form(&self) -> &str {
        &self.layer_form
    }

    /// The host it is on.
    pub(crate) fn host(&self) -> Host {
        self.host
    }

    /// A directory for the test's own files.
    pub(crate) fn scratch(&self) -> PathBuf {
        let scratch = self.directory.path().join("scratch");
        std::fs::create_dir_all(&scratch).expect("scratch directory");
        scratch
    }

    /// `--root`.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// `--run-root`.
    pub(crate) fn run_root(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// `--bridge`.
    pub(crate) fn bridge(&self) -> &str {
        &self.bridge
    }

    /// The real binary, pointed at this sandbox by its environment.
    pub(crate) fn mybox<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Cmd {
        self.host
            .command(env!("CARGO_BIN_EXE_mybox"))
            .args(arguments)
            .env("MYBOX_ROOT", self.root())
            .env("MYBOX_RUN_ROOT", self.run_root())
            .env("MYBOX_BRIDGE", &self.bridge)
            .env("MYBOX_LAYER_FORM", &self.layer_form)
    }

    /// Podman, with everything it keeps in the sandbox.
    pub(crate) fn podman(&self) -> Cmd {
        let place = |name: &str| self.scratch().join(name);
        Cmd::new("podman")
            .arg("--root")
            .arg(place("podman"))
            .arg("--runroot")
            .arg(place("podman-run"))
            .arg("--tmpdir")
            .arg(place("podman-tmp"))
            .args(["--storage-driver", "vfs", "--events-backend", "none"])
            .args(["--cgroup-manager", "cgroupfs"])
    }

    /// Imports `rootfs` as `reference`.
    #[track_caller]
    pub(crate) fn import(&self, reference: &str, rootfs: Rootfs) {
        self.mybox(["import", "-", reference])
            .stdin(rootfs.tar())
            .run()
            .ok();
    }

    /// Imports [`Rootfs::tiny`] as `tiny`.
    #[track_caller]
    pub(crate) fn import_tiny(&self) {
        self.import("tiny", Rootfs::tiny());
    }

    /// A sandbox with the image `tiny`.
    #[track_caller]
    pub(crate) fn tiny(name: &str) -> Self {
        let sandbox = Self::new(name);
        sandbox.import_tiny();
        sandbox
    }

    /// `mybox run --rm --network none`, with more flags, the image and the command as `words`: for
    /// tests that are not about the network or what stays.
    pub(crate) fn run<T: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = T>) -> Cmd {
        self.mybox(["run", "--rm", "--network", "none"]).args(words)
    }

    /// What the probe sees in a container of `tiny` that is run with these flags and no network.
    #[track_caller]
    pub(crate) fn report(&self, flags: &[&str]) -> Report {
        let run = self.run(flags).args(["tiny", "probe", "report"]);
        run.run().ok().report()
    }

    /// `mybox run --rm FLAGS tiny probe WORDS`: on the bridge unless the flags say otherwise.
    pub(crate) fn probe(&self, flags: &[&str], words: &[&str]) -> Cmd {
        let run = self.mybox(["run", "--rm"]).args(flags);
        run.args(["tiny", "probe"]).args(words)
    }

    /// Imports `rootfs` as `reference`, with Dockerfile words that change the image's config.
    #[track_caller]
    pub(crate) fn import_with(&self, reference: &str, rootfs: Rootfs, changes: &[&str]) {
        let import = self.mybox(["import", "-", reference]);
        let changed = changes
            .iter()
            .fold(import, |import, change| import.args(["--change", change]));
        changed.stdin(rootfs.tar()).run().ok();
    }

    /// The first process of the one container that runs, as the host numbers it.
    #[track_caller]
    pub(crate) fn container_pid(&self) -> u32 {
        let live = std::fs::read_dir(self.run_root().join("containers")).expect("a container");
        let pids: Vec<u32> = live
            .flatten()
            .filter_map(|entry| {
                let text = std::fs::read_to_string(entry.path().join("pid")).ok()?;
                text.split_whitespace().next()?.parse().ok()
            })
            .collect();
        assert_eq!(pids.len(), 1, "containers that run: {pids:?}");
        pids[0]
    }

    /// Ids of all containers there ever were.
    pub(crate) fn containers(&self) -> Vec<String> {
        self.containers.seen()
    }

    /// Removes the network and checks that nothing is left. Dropping does the same.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.check();
    }

    #[track_caller]
    fn check(&mut self) {
        self.finished = true;
        let networks = self.host.networks(&self.bridge);
        if !networks.is_empty() {
            self.mybox(["network", "rm", &self.bridge]).run().ok();
        }
        let left = once_settled(|| self.left(&networks));
        if !left.is_empty() {
            self.sweep(&networks);
            panic!("left behind:\n  {}", left.join("\n  "));
        }
    }

    /// Fails if anything of any container is on the host or in the run root. The bridge may be there,
    /// and so may records of containers that have ended.
    #[track_caller]
    pub(crate) fn assert_nothing_runs(&self) {
        let left = once_settled(|| self.running());
        assert!(left.is_empty(), "still there:\n  {}", left.join("\n  "));
    }

    /// Everything of any container that is on the host or in the run root now.
    pub(crate) fn running(&self) -> Vec<String> {
        let containers = self.containers();
        let marks = Marks {
            bridge: None,
            ..self.marks(&[], &containers)
        };
        self.described(&marks).chain(self.run_files()).collect()
    }

    /// What is left of the sandbox, records included.
    fn left(&self, networks: &[Network]) -> Vec<String> {
        let containers = self.containers();
        let records = all_below(&self.root().join("containers"));
        let records = records
            .into_iter()
            .filter(|path| !path.ends_with("containers/names"));
        self.described(&self.marks(networks, &containers))
            .chain(self.run_files())
            .chain(records.map(|path| format!("file {}", path.display())))
            .collect()
    }

    fn described(&self, marks: &Marks<'_>) -> impl Iterator<Item = String> + use<> {
        marks
            .traces(self.host)
            .into_iter()
            .map(|trace| format!("{trace:?}"))
    }

    fn run_files(&self) -> impl Iterator<Item = String> {
        let files = all_below(&self.run_root())
            .into_iter()
            .filter(|path| !self.may_stay(path));
        files.map(|path| format!("file {}", path.display()))
    }

    /// Directories of the run root may stay, and locks; not what is there for one container.
    fn may_stay(&self, path: &Path) -> bool {
        let is_a_containers = path.parent() == Some(&self.run_root().join("containers"));
        let is_directory = path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir());
        let is_lock = MAY_STAY
            .iter()
            .any(|name| path.to_string_lossy().ends_with(name));
        !is_a_containers && (is_directory || is_lock)
    }

    fn marks<'a>(&'a self, networks: &'a [Network], containers: &'a [String]) -> Marks<'a> {
        Marks {
            directory: self.directory.path(),
            bridge: Some(&self.bridge),
            networks,
            containers,
        }
    }

    /// After a failure: takes down what can be found, so that one failure does not become many.
    fn sweep(&self, networks: &[Network]) {
        let containers = self.containers();
        let marks = self.marks(networks, &containers);
        let traces = marks.traces(self.host);
        traces.iter().for_each(thaw);
        for trace in traces {
            if let Trace::Process {
                pid,
                is_its_own: true,
                ..
            } = trace
            {
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                // It may have ended by itself.
                let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
            }
        }
        std::thread::sleep(Duration::from_millis(100));
        for trace in marks.traces(self.host) {
            self.remove(&trace);
        }
    }

    fn remove(&self, trace: &Trace) {
        let run = |program: &str, arguments: &[&str]| {
            drop(self.host.command(program).args(arguments).run());
        };
        match trace {
            Trace::Link(line) => {
                let name = line.split_whitespace().nth(1).unwrap_or_default();
                run(
                    "ip",
                    &[
                        "link",
                        "delete",
                        name.split(['@', ':']).next().unwrap_or_default(),
                    ],
                );
            }
            Trace::Mount(line) => {
                run(
                    "umount",
                    &["--lazy", line.split(' ').nth(2).unwrap_or_default()],
                );
            }
            // Busy for as long as a process that was just killed is in it: then it stays, as the
            // report says.
            Trace::Cgroup(path) => drop(std::fs::remove_dir(path)),
            // Rules go with mybox's own table, which others share.
            Trace::Firewall(_) | Trace::Process { .. } => {}
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.sweep(&[]);
        } else if !self.finished {
            self.check();
        }
    }
}

/// On v1 a process of a paused container does not die of SIGKILL.
fn thaw(trace: &Trace) {
    let Trace::Cgroup(path) = trace else {
        return;
    };
    for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let file = OpenOptions::new().write(true).open(path.join(file));
        // A group has one of them at most, and may be gone.
        drop(file.and_then(|mut file| file.write_all(value.as_bytes())));
    }
}

/// What `left` returns when it returns nothing, or when what is left had time to go and did not.
fn once_settled(left: impl Fn() -> Vec<String>) -> Vec<String> {
    let start = Instant::now();
    loop {
        let left = left();
        if left.is_empty() || start.elapsed() > SETTLING {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything below `directory`, which need not exist.
fn all_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// Bytes allocated to a file, or to a directory with all that is in it, each inode once.
#[track_caller]
pub(crate) fn allocated(path: &Path) -> u64 {
    let mut paths = vec![path.to_owned()];
    if path.is_dir() {
        paths.extend(all_below(path));
    }
    let mut seen = BTreeSet::new();
    let measured = paths
        .iter()
        .map(|path| path.symlink_metadata().expect("what is measured"));
    let once = measured.filter(|metadata| seen.insert(metadata.ino()));
    once.map(|metadata| metadata.blocks() * 512).sum()
}

/// Remembers every container there ever was: `--rm` leaves no record that would tell whose
/// leftovers to look for.
struct Containers {
    /// An inotify instance on the directory of containers.
    events: OwnedFd,
    seen: RefCell<BTreeSet<String>>,
}

impl Containers {
    fn watch(directory: &Path) -> Self {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
        let made = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&events, directory, made).expect("watch the containers");
        Self {
            events,
            seen: RefCell::default(),
        }
    }

    fn seen(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 65536];
        let mut reader = Reader::new(&self.events, &mut buffer);
        let mut seen = self.seen.borrow_mut();
        // The end is EAGAIN.
        while let Ok(event) = reader.next() {
            let name = event
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            // Temporary names are dotted; a name of a few letters could be found in what is not the
            // sandbox's.
            seen.extend(name.filter(|name| name.len() >= 12 && !name.starts_with('.')));
        }
        seen.iter().cloned().collect()
    }
}
