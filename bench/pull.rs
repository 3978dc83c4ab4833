//! How long an image takes from the registry to runnable, side by side: mybox with its layers indexed
//! and unpacked, podman, docker, and two ways to do it by hand: `curl | gzip -d | tar`, and the least
//! that anybody could do, `curl | sha256sum` beside `gzip -d` into a file, with the fastest gzip -d
//! there is. Then how long it takes to be rid of it again.
//!
//! `cargo bench --bench pull [-- ROUNDS]`. The image has three layers, 300 MB compressed and 57,000
//! files; a registry on loopback serves it. The candidates take turns, each into an empty store on
//! the same file system: a new ext4 on a loop device, since how long a file takes to be made depends
//! on what was deleted before on an old one. The table has medians and their ratios.
//!
//! Run it in mount and network namespaces of its own, as `make bench` does.

mod layout;
mod peers;

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use layout::Layout;
use peers::{Docker, Network, find, quiet, run, wait_until};

/// Files in each layer. The sizes add up to about 780 MB.
const LAYERS: [usize; 3] = [40_000, 12_000, 5_000];
const ROUNDS: usize = 3;
/// Bytes of the disk that the stores are on: sparse.
const DISK: u64 = 24 << 30;

fn main() {
    let rounds = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(ROUNDS);
    let dir = bench_dir();
    let layout = image(&dir);
    let registry = Registry::start(&dir);
    registry.push(&layout);
    let stores = Disk::new(&dir);
    let place = &stores.mounted;
    let mut candidates = vec![
        mybox(place, &registry, "indexed"),
        mybox(place, &registry, "unpacked"),
    ];
    candidates.extend(podman(place, &registry));
    candidates.extend(docker(place, &registry));
    candidates.extend(by_hand(place, &registry));
    candidates.extend(least(place, &registry));
    for _ in 0..rounds {
        for candidate in &mut candidates {
            // What the one before left to be written is not this one's to wait for.
            rustix::fs::sync();
            let started = Instant::now();
            (candidate.pull)();
            candidate.times.push(started.elapsed());
            rustix::fs::sync();
            let started = Instant::now();
            (candidate.remove)();
            candidate.removals.push(started.elapsed());
        }
    }
    print_table(&mut candidates, rounds);
}

/// A file system of its own, mounted while this lives.
struct Disk {
    mounted: PathBuf,
    image: PathBuf,
}

impl Disk {
    fn new(dir: &Path) -> Self {
        // Podman takes no run root of more than 50 characters.
        let short = format!("mybox-bench-{}", std::process::id());
        let (image, mounted) = (dir.join("disk"), std::env::temp_dir().join(short));
        fs::create_dir_all(&mounted).expect("make a directory");
        let file = File::create(&image).expect("make a disk");
        file.set_len(DISK).expect("size the disk");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        // Past the page cache of the file system below, as with a disk: else each byte that is
        // flushed is copied, and costs memory, once more.
        let mut losetup = Command::new("losetup");
        losetup.args(["--direct-io=on", "--find", "--show"]);
        let device = losetup.arg(&image).output().expect("start losetup");
        let device = String::from_utf8(device.stdout).expect("the name of a loop device");
        let device = device.trim_end();
        run(Command::new("mount").arg(device).arg(&mounted));
        // It ends when nothing is mounted from it any more.
        run(Command::new("losetup").args(["--detach", device]));
        Self { mounted, image }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.mounted));
        fs::remove_dir(&self.mounted).expect("remove the mount point");
        fs::remove_file(&self.image).expect("remove the disk");
    }
}

/// One way to get the image.
struct Candidate {
    name: String,
    /// What it does beside getting the files there.
    does: &'static str,
    pull: Box<dyn Fn()>,
    /// Throws away what the pull brought.
    remove: Box<dyn Fn()>,
    times: Vec<Duration>,
    removals: Vec<Duration>,
    /// Ends when the candidate is dropped.
    _daemon: Option<Docker>,
}

impl Candidate {
    fn new(
        name: impl Into<String>,
        does: &'static str,
        pull: impl Fn() + 'static,
        remove: impl Fn() + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            does,
            pull: Box::new(pull),
            remove: Box::new(remove),
            times: Vec::new(),
            removals: Vec::new(),
            _daemon: None,
        }
    }
}

fn mybox(dir: &Path, registry: &Registry, form: &'static str) -> Candidate {
    let root = dir.join(format!("mybox-{form}"));
    let run_root = dir.join(format!("mybox-{form}-run"));
    let reference = registry.reference();
    let command = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mybox"));
        command.env("MYBOX_LAYER_FORM", form);
        command.arg("--root").arg(&root);
        command.arg("--run-root").arg(&run_root);
        command
    };
    let (remove, name) = (command.clone(), reference.clone());
    Candidate::new(
        format!("mybox, {form}"),
        "checks, flushes to the disk",
        move || run(command().args(["pull", "--quiet", &reference])),
        move || {
            run(remove().args(["rmi", &name]));
            run(remove().args(["gc"]));
        },
    )
}

fn podman(dir: &Path, registry: &Registry) -> Option<Candidate> {
    find("podman")?;
    let reference = registry.reference();
    let (root, run_root) = (dir.join("podman"), dir.join("podman-run"));
    let command = move || {
        let mut command = Command::new("podman");
        command.arg("--root").arg(&root);
        command.arg("--runroot").arg(&run_root);
        command.args(["--storage-driver", "overlay"]);
        command
    };
    let remove = command.clone();
    Some(Candidate::new(
        "podman",
        "checks",
        move || run(command().args(["pull", "--quiet", "--tls-verify=false", &reference])),
        move || run(remove().args(["rmi", "--all", "--force"])),
    ))
}

fn docker(dir: &Path, registry: &Registry) -> Option<Candidate> {
    let daemon = Docker::start(&dir.join("docker"), Network::None)?;
    let reference = registry.reference();
    let command = daemon.commands();
    let remove = command.clone();
    let name = reference.clone();
    let mut candidate = Candidate::new(
        "docker",
        "checks",
        move || run(command().args(["pull", "--quiet", &reference])),
        move || run(remove().args(["rmi", "--force", &name])),
    );
    candidate._daemon = Some(daemon);
    Some(candidate)
}

/// Each layer with curl, gzip -d and tar, side by side.
fn by_hand(dir: &Path, registry: &Registry) -> Option<Candidate> {
    find("curl")?;
    let inflate = registry.fastest_gunzip();
    Some(for_each_layer(
        format!("curl | {inflate} | tar"),
        "nothing",
        dir.join("by-hand"),
        registry.layer_urls(),
        move |url| format!("curl -sS {url} | {inflate} | tar -x"),
    ))
}

/// What nobody can do without: getting the bytes, hashing them, inflating them.
fn least(dir: &Path, registry: &Registry) -> Option<Candidate> {
    find("curl")?;
    let inflate = registry.fastest_gunzip();
    Some(for_each_layer(
        format!("curl | sha256sum & {inflate}"),
        "hashes what it gets",
        dir.join("least"),
        registry.layer_urls(),
        move |url| {
            format!(
                "mkfifo bytes; {inflate} < bytes > layer.tar & \
                 curl -sS {url} | tee bytes | sha256sum > digest; wait"
            )
        },
    ))
}

/// A shell script for each layer, all at once, each in a directory of its own.
fn for_each_layer(
    name: String,
    does: &'static str,
    place: PathBuf,
    urls: Vec<String>,
    script: impl Fn(&str) -> String + 'static,
) -> Candidate {
    let remove = place.clone();
    Candidate::new(
        name,
        does,
        move || {
            let start = |(number, url): (usize, &String)| -> Child {
                let layer = place.join(number.to_string());
                fs::create_dir_all(&layer).expect("make a directory");
                let mut shell = Command::new("sh");
                shell.args(["-ec", &script(url)]).current_dir(layer);
                shell.spawn().expect("start sh")
            };
            let running: Vec<Child> = urls.iter().enumerate().map(start).collect();
            for mut child in running {
                assert!(child.wait().expect("wait for sh").success());
            }
        },
        move || remove_tree(&remove),
    )
}

/// Debian's docker-registry on a free port of loopback.
struct Registry {
    child: Child,
    port: u16,
    layers: PathBuf,
}

impl Registry {
    fn start(dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            dir.join("registry").display()
        );
        fs::write(&config, text).expect("write the registry's config");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        // It reports each blob that it does not have yet as an error.
        let child = quiet(&mut command)
            .spawn()
            .expect("start docker-registry: apt-get install docker-registry");
        let registry = Self {
            child,
            port,
            layers: dir.join("layout"),
        };
        let answers = wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(answers, "docker-registry does not answer");
        registry
    }

    fn push(&self, layout: &Path) {
        let from = format!("oci:{}:bench", layout.display());
        let to = format!("docker://{}", self.reference());
        run(Command::new("skopeo").args([
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            &from,
            &to,
        ]));
    }

    fn reference(&self) -> String {
        format!("127.0.0.1:{}/bench:1", self.port)
    }

    /// Of the programs that inflate gzip, those that are installed, the one that is done first with
    /// the first layer.
    fn fastest_gunzip(&self) -> &'static str {
        let blobs = self.layers.join("blobs/sha256");
        let list = fs::read_to_string(self.layers.join("layers")).expect("the list of layers");
        let first = list.lines().next().expect("an image has layers");
        let first = blobs.join(first.trim_start_matches("sha256:"));
        let time = |words: &&str| {
            let mut words = words.split(' ');
            let mut command = Command::new(words.next().expect("a program"));
            let input = File::open(&first).expect("open a layer");
            let started = Instant::now();
            let status = quiet(command.args(words)).stdin(input).status();
            assert!(status.expect("start it").success());
            started.elapsed()
        };
        let there = |words: &&str| find(words.split(' ').next().expect("a program")).is_some();
        // Those that begin before they have all of it: libdeflate-gunzip does not.
        let known = ["igzip -dc", "pigz -dc", "gzip -dc"];
        let fastest = known.into_iter().filter(there).min_by_key(time);
        fastest.expect("gzip is everywhere")
    }

    fn layer_urls(&self) -> Vec<String> {
        let list = fs::read_to_string(self.layers.join("layers")).expect("the list of layers");
        let url = |digest: &str| format!("http://127.0.0.1:{}/v2/bench/blobs/{digest}", self.port);
        list.lines().map(url).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The image as an OCI layout, made once.
fn image(dir: &Path) -> PathBuf {
    let layout = dir.join("layout");
    if layout.join("layers").exists() {
        return layout;
    }
    remove_tree(&layout);
    fs::create_dir_all(&layout).expect("make a directory");
    let tars: Vec<PathBuf> = LAYERS
        .iter()
        .enumerate()
        .map(|(number, files)| {
            let path = layout.join(format!("layer{number}.tar"));
            eprintln!("making {} with {files} files", path.display());
            write_layer(&path, number, *files);
            path
        })
        .collect();
    eprintln!("compressing");
    let mut made = Layout::new(&layout);
    let digests: Vec<String> = tars.iter().map(|tar| made.add_layer(tar)).collect();
    made.finish("bench");
    fs::write(layout.join("layers"), digests.join("\n")).expect("write the list of layers");
    layout
}

/// A layer of many small files and few large ones, about as compressible as programs are.
fn write_layer(path: &Path, number: usize, files: usize) {
    let mut noise = Noise(number as u64 + 1);
    let file = std::io::BufWriter::new(File::create(path).expect("make a layer"));
    let mut tar = tar::Builder::new(file);
    for file in 0..files {
        if file % 20 == 0 {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            let name = format!("usr/share/layer{number}/{}/", file / 20);
            tar.append_data(&mut header, name, std::io::empty())
                .expect("write a directory");
        }
        let content = noise.content();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        let name = format!("usr/share/layer{number}/{}/file{file}", file / 20);
        tar.append_data(&mut header, name, &*content)
            .expect("write a file");
    }
    tar.into_inner()
        .and_then(|mut file| file.flush())
        .expect("finish a layer");
}

/// xorshift64: the same on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Sizes from some bytes to some 200 kB, most of them small; noise and repetition mixed.
    fn content(&mut self) -> Vec<u8> {
        let exponent = self.next() % 12;
        let size = 64 + self.next() % (80 << exponent);
        let size = usize::try_from(size).expect("fits");
        let mut content = Vec::with_capacity(size + 64);
        while content.len() < size {
            let word = self.next();
            if word % 8 < 6 {
                content.extend_from_slice(&word.to_le_bytes());
            } else {
                content.extend_from_slice(b"a line as it occurs in many files of a system\n");
            }
        }
        content.truncate(size);
        content
    }
}

fn bench_dir() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-pull");
    fs::create_dir_all(&dir).expect("make a directory for the benchmark");
    dir
}

fn print_table(candidates: &mut [Candidate], rounds: usize) {
    for candidate in candidates.iter_mut() {
        candidate.times.sort();
        candidate.removals.sort();
    }
    let median = |times: &[Duration]| times[times.len() / 2];
    let own = median(&candidates[0].times);
    println!(
        "{:<34} {:>8} {:>8} {:>8} {:>10}   {rounds} rounds",
        "", "median", "best", "ratio", "removal"
    );
    for candidate in candidates.iter() {
        let time = median(&candidate.times);
        println!(
            "{:<34} {:>6.2} s {:>6.2} s {:>7.2}x {:>7} ms   {}",
            candidate.name,
            time.as_secs_f64(),
            candidate.times[0].as_secs_f64(),
            time.as_secs_f64() / own.as_secs_f64(),
            median(&candidate.removals).as_millis(),
            candidate.does
        );
    }
}

fn remove_tree(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            panic!("remove {}: {error}", path.display())
        }
        _ => {}
    }
}
