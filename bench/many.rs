//! How many containers start in a second when 1, 4, 16 and 64 are started at once, side by side:
//! mybox, podman and docker, those that are installed and work. Each start is one command in the
//! background (`run -d`), with an image, an overlay and a bridge; what counts is the time until the
//! last command has returned. The containers are removed before the next round, uncounted.
//!
//! `cargo bench --bench many [-- ROUNDS]`. The candidates take turns; the table has medians.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// How many at once.
const AT_ONCE: [usize; 4] = [1, 4, 16, 64];

/// A command line up to its verb.
type Prefix = Box<dyn Fn() -> Command>;

/// A tool that runs containers.
struct Candidate {
    name: &'static str,
    prefix: Prefix,
    /// What `run` takes beside the words that all know.
    flags: &'static [&'static str],
    image: &'static str,
    /// Containers in a second, by round, for each of [`AT_ONCE`].
    rates: [Vec<f64>; AT_ONCE.len()],
}

fn main() {
    let words = std::env::args().skip(1);
    let rounds = words.filter_map(|word| word.parse().ok()).next();
    let rounds: usize = rounds.unwrap_or(3);
    let place = Place::new();
    let mut candidates = vec![place.mybox()];
    candidates.extend(place.podman());
    candidates.extend(place.docker());
    for _ in 0..rounds {
        for (number, at_once) in AT_ONCE.into_iter().enumerate() {
            for candidate in &mut candidates {
                let rate = candidate.rate(at_once);
                candidate.rates[number].push(rate);
            }
        }
    }
    print_table(&mut candidates, rounds);
    drop(candidates);
    place.clean_up();
}

impl Candidate {
    fn new(
        name: &'static str,
        flags: &'static [&'static str],
        image: &'static str,
        prefix: Prefix,
    ) -> Self {
        Self {
            name,
            prefix,
            flags,
            image,
            rates: Default::default(),
        }
    }

    /// Starts so many at once; how many that is in a second.
    fn rate(&self, at_once: usize) -> f64 {
        let names: Vec<String> = (0..at_once)
            .map(|number| format!("bench-{number}"))
            .collect();
        let begin = Instant::now();
        let starting: Vec<Child> = names.iter().map(|name| self.start(name)).collect();
        for mut child in starting {
            let status = child.wait().expect("wait for a start");
            assert!(status.success(), "{} could not start all", self.name);
        }
        let rate = at_once as f64 / begin.elapsed().as_secs_f64();
        run((self.prefix)().args(["rm", "-f"]).args(&names));
        rate
    }

    fn start(&self, name: &str) -> Child {
        let mut command = (self.prefix)();
        command.args(["run", "-d", "--name", name]).args(self.flags);
        command.args([self.image, "/bin/sleep", "600"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().expect("start a container")
    }

    /// Says why it is left out.
    fn works(self) -> Option<Self> {
        let mut command = (self.prefix)();
        command.args(["run", "--rm"]).args(self.flags);
        let output = command.args([self.image, "/bin/true"]).output().ok()?;
        if output.status.success() {
            return Some(self);
        }
        let reason = String::from_utf8_lossy(&output.stderr);
        eprintln!("{} is left out: {}", self.name, reason.trim_end());
        None
    }
}

/// Where the benchmark keeps its images.
struct Place {
    dir: PathBuf,
    tar: PathBuf,
}

impl Place {
    /// A root filesystem of one static program.
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("mybox-many-{}", std::process::id()));
        let rootfs = dir.join("rootfs");
        fs::create_dir_all(rootfs.join("bin")).expect("make a directory for the benchmark");
        fs::create_dir_all(rootfs.join("etc")).expect("make a directory for the benchmark");
        let busybox = find("busybox").expect("busybox: apt-get install busybox-static");
        for name in ["sleep", "true"] {
            fs::copy(&busybox, rootfs.join("bin").join(name)).expect("copy busybox");
        }
        let tar = dir.join("image.tar");
        run(Command::new("tar")
            .arg("-C")
            .arg(&rootfs)
            .arg("-cf")
            .arg(&tar)
            .arg("."));
        Self { dir, tar }
    }

    fn mybox(&self) -> Candidate {
        let dir = self.dir.clone();
        let prefix = move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_mybox"));
            command.env("MYBOX_ROOT", dir.join("root"));
            command.env("MYBOX_RUN_ROOT", dir.join("run"));
            command.env("MYBOX_BRIDGE", "mybox-many");
            command
        };
        run(prefix().arg("import").arg(&self.tar).arg("bench"));
        Candidate::new("mybox", &[], "bench", Box::new(prefix))
    }

    fn podman(&self) -> Option<Candidate> {
        find("podman")?;
        let dir = self.dir.clone();
        let prefix = move || {
            let mut command = Command::new("podman");
            command.arg("--root").arg(dir.join("podman"));
            command.arg("--runroot").arg(dir.join("podman-run"));
            command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
            // Its default, crun, refuses hosts with hybrid cgroups.
            command.args(["--runtime", "runc"]);
            command
        };
        run(prefix().arg("import").arg(&self.tar).arg("bench"));
        // It raises these by default, which takes a capability that not every root has.
        let flags = &[
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ];
        Candidate::new("podman", flags, "bench", Box::new(prefix)).works()
    }

    /// With the daemon that runs, if one does.
    fn docker(&self) -> Option<Candidate> {
        find("docker")?;
        let mut import = Command::new("docker");
        import.arg("import").arg(&self.tar).arg("mybox-bench");
        if !import.output().is_ok_and(|output| output.status.success()) {
            eprintln!("docker is left out: no daemon answers");
            return None;
        }
        Candidate::new(
            "docker",
            &[],
            "mybox-bench",
            Box::new(|| Command::new("docker")),
        )
        .works()
    }

    fn clean_up(&self) {
        let prefix = self.mybox().prefix;
        run(prefix().args(["network", "rm"]));
        if find("podman").is_some() {
            let mut reset = Command::new("podman");
            reset.arg("--root").arg(self.dir.join("podman"));
            reset.arg("--runroot").arg(self.dir.join("podman-run"));
            run(reset.args(["system", "reset", "--force"]));
        }
        fs::remove_dir_all(&self.dir).expect("remove the benchmark's directory");
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("start a command");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| Path::is_file(file))
}

fn print_table(candidates: &mut [Candidate], rounds: usize) {
    println!("{rounds} rounds, candidates in turn; containers started in a second\n");
    println!("{:<10} {:>8} {:>8} {:>8} {:>8}", "at once", 1, 4, 16, 64);
    let medians: Vec<[f64; AT_ONCE.len()]> = candidates
        .iter_mut()
        .map(|candidate| {
            candidate.rates.each_mut().map(|rates| {
                rates.sort_by(f64::total_cmp);
                rates[rates.len() / 2]
            })
        })
        .collect();
    for (candidate, median) in candidates.iter().zip(&medians) {
        print!("{:<10}", candidate.name);
        median.iter().for_each(|rate| print!(" {rate:>8.1}"));
        println!();
        if candidate.name != "mybox" {
            let own = medians[0].iter();
            let ratios = own
                .zip(median)
                .map(|(own, rate)| format!(" {:>7.1}x", own / rate));
            println!("{:<10}{}", "  mybox is", ratios.collect::<String>());
        }
    }
}
