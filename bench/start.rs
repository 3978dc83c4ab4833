//! How long a container takes from the command line to its end, side by side: mybox with an image,
//! an overlay, a bridge and limits, beside whatever of crun, runc, podman and docker is installed.
//!
//! An image of 100 layers stands beside that of one.
//!
//! `cargo bench --bench start [-- ROUNDS]`. The candidates take turns, so that a machine that gets
//! slower does so for all of them; the table has medians and their ratios.

mod layout;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use layout::Layout;

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
    let mut candidates = candidates(&place);
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
    place.clean_up();
}

/// Rounds that are not counted: caches fill, the bridge is made.
const WARM_UP: usize = 3;

/// Of the image that has many.
const LAYERS: usize = 100;

/// Where the benchmark keeps its images and bundles.
struct Place {
    dir: PathBuf,
    rootfs: PathBuf,
}

impl Place {
    /// A root filesystem of one static program, and that imported into mybox.
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("mybox-bench-{}", std::process::id()));
        let rootfs = dir.join("bundle/rootfs");
        fs::create_dir_all(rootfs.join("bin")).expect("make a directory for the benchmark");
        fs::create_dir_all(rootfs.join("etc")).expect("make a directory for the benchmark");
        let busybox = find("busybox").expect("busybox: apt-get install busybox-static");
        fs::copy(busybox, rootfs.join("bin/true")).expect("copy busybox");
        let place = Self { dir, rootfs };
        let mut import = place.mybox();
        import.arg("import").arg(&place.rootfs).arg("bench");
        layout::run(&mut import);
        place.load_layered();
        place
    }

    /// The same root filesystem with other layers over it, of a file each.
    fn load_layered(&self) {
        let path = self.dir.join("layout");
        let mut layout = Layout::new(&path);
        layout.add_layer(&image_tar(self).expect("tar is everywhere"));
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
        layout::run(pack.arg("-C").arg(path).arg("-cf").arg(&archive).arg("."));
        layout::run(
            self.mybox()
                .args(["load", "--quiet", "--input"])
                .arg(&archive),
        );
    }

    fn mybox(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mybox"));
        command
            .env("MYBOX_ROOT", self.dir.join("root"))
            .env("MYBOX_RUN_ROOT", self.dir.join("run"))
            .env("MYBOX_BRIDGE", "mybox-bench");
        command
    }

    fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.dir.join("podman"));
        command.arg("--runroot").arg(self.dir.join("podman-run"));
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
        command
    }

    fn clean_up(&self) {
        let _ = quietly(self.mybox().args(["network", "rm"]));
        if find("podman").is_some() {
            let _ = quietly(self.podman().args(["system", "reset", "--force"]));
        }
        if find("docker").is_some() {
            let _ = quietly(Command::new("docker").args(["rmi", "mybox-bench"]));
        }
        fs::remove_dir_all(&self.dir).expect("remove the benchmark's directory");
    }
}

fn candidates(place: &Place) -> Vec<Candidate> {
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
    all.extend(docker(place));
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
        let place = Place {
            dir: dir.clone(),
            rootfs: PathBuf::new(),
        };
        let mut command = place.mybox();
        command
            .args(["run", "--rm"])
            .args(&flags)
            .args([image, "/bin/true"]);
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
    let bundle = place.rootfs.parent()?.to_owned();
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

fn podman(place: &Place) -> Option<Candidate> {
    find("podman")?;
    let tar = image_tar(place)?;
    quietly(place.podman().arg("import").arg(tar).arg("bench")).ok()?;
    // Podman's default, crun, refuses hosts with hybrid cgroups.
    let with = |runtime: &'static [&'static str]| {
        let dir = place.dir.clone();
        let command = move |_| {
            let place = Place {
                dir: dir.clone(),
                rootfs: PathBuf::new(),
            };
            let mut command = place.podman();
            command.args(runtime);
            command.args(["run", "--rm", "-m", "64m", "--pids-limit", "64"]);
            // Podman raises these by default, which takes a capability that not every root has.
            command.args([
                "--ulimit",
                "nofile=1024:1024",
                "--ulimit",
                "nproc=1024:1024",
            ]);
            command.args(["bench", "/bin/true"]);
            command
        };
        Candidate {
            name: "podman",
            does: FULL,
            command: Box::new(command),
            times: Vec::new(),
        }
    };
    let candidate = with(&[]);
    if works(&candidate) {
        return Some(candidate);
    }
    Some(with(&["--runtime", "runc"]))
}

fn docker(place: &Place) -> Option<Candidate> {
    find("docker")?;
    quietly(Command::new("docker").arg("info")).ok()?;
    let tar = image_tar(place)?;
    quietly(
        Command::new("docker")
            .arg("import")
            .arg(tar)
            .arg("mybox-bench"),
    )
    .ok()?;
    let command = |_| {
        let mut command = Command::new("docker");
        command.args([
            "run",
            "--rm",
            "-m",
            "64m",
            "--pids-limit",
            "64",
            "mybox-bench",
            "/bin/true",
        ]);
        command
    };
    Some(Candidate {
        name: "docker",
        does: FULL,
        command: Box::new(command),
        times: Vec::new(),
    })
}

fn image_tar(place: &Place) -> Option<PathBuf> {
    let tar = place.dir.join("image.tar");
    quietly(
        Command::new("tar")
            .arg("-C")
            .arg(&place.rootfs)
            .arg("-cf")
            .arg(&tar)
            .arg("."),
    )
    .ok()?;
    Some(tar)
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
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let begin = Instant::now();
    let status = command
        .status()
        .expect("start a candidate that started before");
    let time = begin.elapsed();
    assert!(status.success(), "{command:?} ended with {status}");
    time
}

fn quietly(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(stderr
        .lines()
        .last()
        .unwrap_or("it failed without a word")
        .to_owned())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| Path::is_file(file))
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
