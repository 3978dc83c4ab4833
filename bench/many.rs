//! How many containers start in a second when 1, 4, 16 and 64 are started at once, side by side:
//! mybox, podman and docker, those that are installed and work. Each start is one command in the
//! background (`run -d`), with an image, an overlay and a bridge; what counts is the time until the
//! last command has returned. The containers are removed before the next round, uncounted.
//!
//! `cargo bench --bench many [-- ROUNDS]`. The candidates take turns; the table has medians. Run it in
//! a network namespace of its own, as `make bench` does.

mod peers;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use peers::{Docker, Network, PODMAN_RUN, find, quietly, run};

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
    /// What `rm -f` takes to do so at once.
    removal: &'static [&'static str],
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
    let daemon = Docker::start(&place.dir.join("docker"), Network::Bridge);
    candidates.extend(daemon.as_ref().and_then(|daemon| place.docker(daemon)));
    for _ in 0..rounds {
        for (number, at_once) in AT_ONCE.into_iter().enumerate() {
            for candidate in &mut candidates {
                let rate = candidate.rate(at_once);
                candidate.rates[number].push(rate);
            }
        }
    }
    print_table(&mut candidates, rounds);
    drop(daemon);
    place.clean_up();
}

impl Candidate {
    fn new(name: &'static str, flags: &'static [&'static str], prefix: Prefix) -> Self {
        Self {
            name,
            prefix,
            flags,
            removal: &[],
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
        let mut remove = (self.prefix)();
        run(remove.args(["rm", "-f"]).args(self.removal).args(&names));
        rate
    }

    fn start(&self, name: &str) -> Child {
        let mut command = (self.prefix)();
        command.args(["run", "-d", "--name", name]).args(self.flags);
        command.args(["bench", "/bin/sleep", "600"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().expect("start a container")
    }

    /// Says why it is left out.
    fn works(self) -> Option<Self> {
        let mut command = (self.prefix)();
        command.args(["run", "--rm"]).args(self.flags);
        match quietly(command.args(["bench", "/bin/true"])) {
            Ok(()) => Some(self),
            Err(reason) => {
                eprintln!("{} is left out: {reason}", self.name);
                None
            }
        }
    }
}

/// Where the benchmark keeps its images.
struct Place {
    dir: PathBuf,
    tar: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("mybox-many-{}", std::process::id()));
        let tar = peers::busybox_tar(&dir, &["sleep", "true"]);
        Self { dir, tar }
    }

    fn mybox(&self) -> Candidate {
        let dir = self.dir.clone();
        let prefix = move || peers::mybox(&dir);
        run(prefix().arg("import").arg(&self.tar).arg("bench"));
        Candidate::new("mybox", &[], Box::new(prefix))
    }

    fn podman(&self) -> Option<Candidate> {
        find("podman")?;
        let dir = self.dir.clone();
        let prefix = move || peers::podman(&dir);
        run(prefix().arg("import").arg(&self.tar).arg("bench"));
        let podman = Candidate::new("podman", PODMAN_RUN, Box::new(prefix));
        // It waits for what does not end by SIGTERM.
        let removal = &["-t", "0"];
        Candidate { removal, ..podman }.works()
    }

    fn docker(&self, daemon: &Docker) -> Option<Candidate> {
        let prefix = daemon.commands();
        run(prefix().arg("import").arg(&self.tar).arg("bench"));
        Candidate::new("docker", &[], Box::new(prefix)).works()
    }

    fn clean_up(&self) {
        run(peers::mybox(&self.dir).args(["network", "rm"]));
        peers::reset_podman(&self.dir);
        fs::remove_dir_all(&self.dir).expect("remove the benchmark's directory");
    }
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
