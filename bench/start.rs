//! How long a container takes from the command line to its end, side by side: mybox with an image,
//! an overlay, a bridge and limits, beside whatever of crun, runc, podman and docker is installed.
//!
//! An image of 100 layers stands beside that of one.
//!
//! `cargo bench --bench start [-- ROUNDS]`. The candidates take turns, so that a machine that gets
//! slower does so for all of them; the table has medians and their ratios.

mod layout;
mod peers;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use layout::Layout;
use peers::{Docker, Network, PODMAN_RUN, find, quiet, quietly, run};

/// Something that starts a container that runs `true`.
struct Candidate {
    name: &'static str,
    /// What it does beside executing the command.
    does: &'static str,
    command: Box<dyn Fn(usize) -> Command>,
    times: Vec<Duration>,
}

fn main() {
    let rounds = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(40);
    let place = Place::new();
    let daemon = Docker::start(&place.dir.join("docker"), Network::Bridge);
    let mut candidates = candidates(&place, daemon.as_ref());
    candidates.retain(works);
    for round in 0..rounds + WARM_UP {
        for candidate in &mut candidates {
            let time = time(&mut (candidate.command)(round));
            if round >= WARM_UP {
                candidate.times.push(time);
            }
        }
    }
    print_table(&mut candidates, rounds);
    drop(daemon);
    place.clean_up();
}

/// Rounds that are not counted: caches fill, the bridge is made.
const WARM_UP: usize = 3;

/// Of the image that has many.
const LAYERS: usize = 100;

/// Where the benchmark keeps its images: the directory of the root filesystem is an OCI bundle too.
struct Place {
    dir: PathBuf,
    tar: PathBuf,
}

impl Place {
    /// A root filesystem of one static program, and that imported into mybox.
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("mybox-bench-{}", std::process::id()));
        let tar = peers::busybox_tar(&dir, &["true"]);
        let place = Self { dir, tar };
        run(peers::mybox(&place.dir)
            .arg("import")
            .arg(&place.tar)
            .arg("bench"));
        place.load_layered();
        place
    }

    /// The same root filesystem with other layers over it, of a file each.
    fn load_layered(&self) {
        let path = self.dir.join("layout");
        let mut layout = Layout::new(&path);
        let base = self.dir.join("base.tar");
        fs::copy(&self.tar, &base).expect("copy the image");
        layout.add_layer(&base);
        for number in 1..LAYERS {
            let tar = self.dir.join("layer.tar");
            let mut builder = tar::Builder::new(File::create(&tar).expect("make a layer"));
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(1);
            let name = format!("srv/{number}");
            let file = builder.append_data(&mut header, name, &b"x"[..]);
            file.and_then(|()| builder.finish()).expect("write a layer");
            layout.add_layer(&tar);
        }
        layout.finish("layered");
        let archive = self.dir.join("layered.tar");
        let mut pack = Command::new("tar");
        run(pack.arg("-C").arg(path).arg("-cf").arg(&archive).arg("."));
        let mut load = peers::mybox(&self.dir);
        run(load.args(["load", "--quiet", "--input"]).arg(&archive));
    }

    fn clean_up(&self) {
        run(peers::mybox(&self.dir).args(["network", "rm"]));
        peers::reset_podman(&self.dir);
        fs::remove_dir_all(&self.dir).expect("remove the benchmark's directory");
    }
}

fn candidates(place: &Place, docker: Option<&Docker>) -> Vec<Candidate> {
    const LIMITS: &[&str] = &["-m", "64m", "--pids-limit", "64"];
    let mut all = vec![
        mybox(place, LIMITS, "bench", "mybox", FULL),
        mybox(place, LIMITS, "layered", "mybox, 100 layers", FULL),
        mybox(
            place,
            &["--network", "none"],
            "bench",
            "mybox, no network",
            "image, overlay, cgroup",
        ),
    ];
    for runtime in ["crun", "runc"] {
        all.extend(oci_runtime(place, runtime));
    }
    all.extend(podman(place));
    all.extend(docker.and_then(|daemon| with_docker(place, daemon)));
    all
}

const FULL: &str = "image, overlay, bridge, memory and pids limit";

fn mybox(
    place: &Place,
    flags: &[&str],
    image: &'static str,
    name: &'static str,
    does: &'static str,
) -> Candidate {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let dir = place.dir.clone();
    let command = move |_| {
        let mut command = peers::mybox(&dir);
        command.args(["run", "--rm"]).args(&flags);
        command.args([image, "/bin/true"]);
        command
    };
    Candidate {
        name,
        does,
        command: Box::new(command),
        times: Vec::new(),
    }
}

/// crun or runc on a bundle: a directory for a root, no image, a network without interfaces.
fn oci_runtime(place: &Place, name: &'static str) -> Option<Candidate> {
    find(name)?;
    let bundle = place.dir.clone();
    if !bundle.join("config.json").exists() {
        quietly(Command::new(name).arg("spec").current_dir(&bundle)).ok()?;
        let config = bundle.join("config.json");
        let text = fs::read_to_string(&config).ok()?;
        let text = text.replace("\"terminal\": true", "\"terminal\": false");
        fs::write(&config, text.replace("\"sh\"", "\"/bin/true\"")).ok()?;
    }
    let state = place.dir.join(name);
    let command = move |round| {
        let mut command = Command::new(name);
        command
            .arg("--root")
            .arg(&state)
            .args(["run", "--bundle"])
            .arg(&bundle);
        command.arg(format!("bench-{round}"));
        command
    };
    let does = "bundle; no image, no network";
    Some(Candidate {
        name,
        does,
        command: Box::new(command),
        times: Vec::new(),
    })
}

/// What podman and docker are asked for.
const FULL_RUN: [&str; 6] = ["run", "--rm", "-m", "64m", "--pids-limit", "64"];

fn podman(place: &Place) -> Option<Candidate> {
    find("podman")?;
    let dir = place.dir.clone();
    run(peers::podman(&dir)
        .arg("import")
        .arg(&place.tar)
        .arg("bench"));
    let command = move |_| {
        let mut command = peers::podman(&dir);
        command.args(FULL_RUN).args(PODMAN_RUN);
        command.args(["bench", "/bin/true"]);
        command
    };
    Some(Candidate {
        name: "podman",
        does: FULL,
        command: Box::new(command),
        times: Vec::new(),
    })
}

fn with_docker(place: &Place, daemon: &Docker) -> Option<Candidate> {
    let client = daemon.commands();
    run(client().arg("import").arg(&place.tar).arg("bench"));
    let command = move |_| {
        let mut command = client();
        command.args(FULL_RUN).args(["bench", "/bin/true"]);
        command
    };
    Some(Candidate {
        name: "docker",
        does: FULL,
        command: Box::new(command),
        times: Vec::new(),
    })
}

/// Says why a candidate is left out.
fn works(candidate: &Candidate) -> bool {
    match quietly(&mut (candidate.command)(usize::MAX)) {
        Ok(()) => true,
        Err(reason) => {
            eprintln!("{} is left out: {reason}", candidate.name);
            false
        }
    }
}

fn time(command: &mut Command) -> Duration {
    quiet(command);
    let begin = Instant::now();
    let status = command
        .status()
        .expect("start a candidate that started before");
    let time = begin.elapsed();
    assert!(status.success(), "{command:?} ended with {status}");
    time
}

fn print_table(candidates: &mut [Candidate], rounds: usize) {
    for candidate in candidates.iter_mut() {
        candidate.times.sort();
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let median = |candidate: &Candidate| milliseconds(candidate.times[candidate.times.len() / 2]);
    let base = candidates.first().map_or(1.0, median);
    println!(
        "{rounds} rounds, candidates in turn; milliseconds from the command line to its end\n"
    );
    println!(
        "{:<18} {:>8} {:>8} {:>8} {:>8}   does",
        "", "median", "fastest", "slowest", "ratio"
    );
    for candidate in candidates.iter() {
        let (first, last) = (
            candidate.times[0],
            candidate.times[candidate.times.len() - 1],
        );
        println!(
            "{:<18} {:>8.1} {:>8.1} {:>8.1} {:>7.1}x   {}",
            candidate.name,
            median(candidate),
            milliseconds(first),
            milliseconds(last),
            median(candidate) / base,
            candidate.does
        );
    }
}
