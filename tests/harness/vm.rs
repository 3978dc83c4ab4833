//! Runs a shell script on another kernel: Debian's, with nothing but cgroup v2, booted in QEMU from
//! memory.
//!
//! There is no disk unless a test gives it one. The kernel unpacks a cpio archive with busybox, the modules that mybox needs,
//! `ip`, `nft`, mybox, the probe and the test's files; `tests/vm/init.sh` sets the machine up and
//! runs the script; the serial console carries what it says, between two lines that nothing else
//! prints. Emulation only: nested KVM hangs on the machines we have.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::{Cmd, Running, fixtures, probe, requirements};

/// `no_timer_check`: the kernel's check of its timer counts ticks for a moment at boot, and panics if
/// the emulator was not given processor time just then.
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off no_timer_check";

/// What the virtual machine's kernel must have loaded. What these need is found in modules.dep.
const MODULES: &[&str] = &[
    "overlay",
    "erofs",
    "loop",
    "veth",
    "bridge",
    "br_netfilter",
    "nf_tables",
    "nf_nat",
    "nf_conntrack",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_fib_ipv4",
    "nft_reject_inet",
];

/// Programs of the host that are there under the same paths, with their shared libraries. Busybox
/// has all others; its own shell would prefer its own `ip`, whatever the PATH.
const PROGRAMS: &[&str] = &["/bin/sh", "/usr/sbin/nft", "/sbin/ip"];

const INIT: &str = include_str!("../vm/init.sh");

/// A virtual machine that runs one script.
#[must_use]
pub(crate) struct Vm {
    files: Archive,
    script: String,
    kernel_arguments: String,
    modules: Vec<&'static str>,
    devices: Vec<String>,
    limit: Duration,
}

/// A virtual machine that can be started any number of times, always from its beginning: only its
/// disk remembers.
pub(crate) struct Machine {
    marker: String,
    /// Has the initramfs.
    _directory: TempDir,
    command: Vec<OsString>,
    limit: Duration,
}

impl Machine {
    /// Switches it on. Its console is standard output; killing the process is a power cut: what the
    /// machine had not handed to its disk is gone.
    #[track_caller]
    pub(crate) fn start(&self) -> Running {
        self.emulator().spawn()
    }

    fn emulator(&self) -> Cmd {
        let (program, arguments) = self.command.split_first().expect("a program");
        Cmd::new(program).args(arguments).timeout(self.limit)
    }

    #[track_caller]
    fn run(&self) -> Transcript {
        let console = self.emulator().run().ok().stdout();
        between_markers(&console.replace("\r\n", "\n"), &self.marker)
            .unwrap_or_else(|| panic!("the script never ended:\n{console}"))
    }
}

/// What the script left behind.
#[derive(Debug)]
pub(crate) struct Transcript {
    /// All that it said on standard output and standard error.
    pub(crate) text: String,
    /// Its exit code.
    pub(crate) code: i32,
}

impl Transcript {
    /// Asserts that the script succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(
            self.code == 0,
            "the script ended with {}:\n{}",
            self.code,
            self.text
        );
        self
    }
}

impl Vm {
    /// A machine that will run `script` in `sh` as root, with mybox, `probe`, `ip` and `nft` in its
    /// PATH.
    pub(crate) fn new(script: &str) -> Self {
        let script = script.to_owned();
        Self {
            files: Archive::default(),
            script,
            kernel_arguments: KERNEL_ARGUMENTS.to_owned(),
            modules: MODULES.to_vec(),
            devices: Vec::new(),
            limit: Duration::from_secs(300),
        }
    }

    /// Adds a disk, `/dev/vda`: a file that outlives the machine.
    pub(crate) fn disk(mut self, file: &Path) -> Self {
        self.modules.extend(["virtio_pci", "virtio_blk"]);
        let file = file.display();
        self.devices.extend([
            "-drive".to_owned(),
            format!("file={file},format=raw,if=virtio,cache=writethrough"),
        ]);
        self
    }

    /// Adds `eth0`: the machine is 10.0.2.15 and finds this host's loopback at 10.0.2.2.
    pub(crate) fn network(mut self) -> Self {
        self.modules.extend(["virtio_pci", "virtio_net"]);
        self.devices.extend([
            "-netdev".to_owned(),
            "user,id=n".to_owned(),
            "-device".to_owned(),
            "virtio-net-pci,netdev=n,romfile=".to_owned(),
        ]);
        self
    }

    /// Adds a file.
    pub(crate) fn file(mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.add(path, content.into(), mode);
        self
    }

    /// Adds a program of the host, under the same path and with its shared libraries, before
    /// busybox's of its name.
    pub(crate) fn program(mut self, path: &str) -> Self {
        self.files.copy_program(Path::new(path), path);
        self
    }

    /// Adds an argument to the kernel's command line.
    pub(crate) fn kernel_argument(mut self, argument: &str) -> Self {
        self.kernel_arguments += &format!(" {argument}");
        self
    }

    /// How long the machine may run, its start included.
    pub(crate) fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Boots it, runs the script, powers it off.
    #[must_use = "whether the script succeeded is not checked"]
    #[track_caller]
    pub(crate) fn run(self) -> Transcript {
        self.build().run()
    }

    /// Puts everything together.
    #[track_caller]
    pub(crate) fn build(mut self) -> Machine {
        requirements();
        let kernel = kernel();
        let marker = marker();
        self.install(&kernel, &marker);
        let directory = tempfile::Builder::new()
            .prefix("mybox-vm-")
            .tempdir()
            .expect("directory");
        let initramfs = directory.path().join("initramfs");
        std::fs::write(&initramfs, self.files.cpio()).expect("write the initramfs");
        let fixed = "qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 \
                     -nodefaults -nographic -no-reboot -serial stdio";
        let mut command: Vec<OsString> = fixed.split_whitespace().map(OsString::from).collect();
        command.extend(self.devices.iter().map(OsString::from));
        command.extend(["-append".into(), self.kernel_arguments.into()]);
        command.extend(["-kernel".into(), kernel.join("vmlinuz").into()]);
        command.extend(["-initrd".into(), initramfs.into()]);
        Machine {
            marker,
            _directory: directory,
            command,
            limit: self.limit,
        }
    }

    fn install(&mut self, kernel: &Path, marker: &str) {
        let modules = modules_in_order(&kernel.join("modules"), &self.modules);
        let mut order = String::new();
        for module in modules {
            let name = module
                .file_name()
                .expect("a module is a file")
                .to_string_lossy()
                .into_owned();
            order += &format!("{name}\n");
            self.files.copy(&module, &format!("/lib/modules/{name}"));
        }
        self.files
            .add("/lib/modules/order", order.into_bytes(), 0o644);
        self.files.copy(Path::new("/bin/busybox"), "/bin/busybox");
        for program in PROGRAMS {
            self.files.copy_program(Path::new(program), program);
        }
        self.files.copy_program(
            &stripped(Path::new(env!("CARGO_BIN_EXE_mybox"))),
            "/usr/bin/mybox",
        );
        self.files.copy(probe(), "/usr/bin/probe");
        self.files.add(
            "/init",
            INIT.replace("@MARKER@", marker).into_bytes(),
            0o755,
        );
        self.files.add(
            "/script",
            std::mem::take(&mut self.script).into_bytes(),
            0o644,
        );
    }
}

/// What stands between the two lines of the marker; the second one carries the exit code.
fn between_markers(console: &str, marker: &str) -> Option<Transcript> {
    let (_, rest) = console.split_once(&format!("{marker} begin\n"))?;
    let (text, rest) = rest.split_once(&format!("{marker} end "))?;
    let code = rest.lines().next()?.trim().parse().ok()?;
    Some(Transcript {
        text: text.to_owned(),
        code,
    })
}

/// A word that no script can know.
fn marker() -> String {
    let mut random = [0; 16];
    let mut source = std::fs::File::open("/dev/urandom").expect("/dev/urandom");
    source
        .read_exact(&mut random)
        .expect("/dev/urandom never ends");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The directory with Debian's `vmlinuz` and `modules`, made once.
fn kernel() -> PathBuf {
    fixtures::cached("vm-kernel", |directory| {
        // linux-image-cloud-amd64 is empty, and depends on the package of today's version.
        let depends = Cmd::new("apt-cache")
            .args(["depends", "linux-image-cloud-amd64"])
            .run()
            .stdout();
        let package = depends
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
        let package = package.expect("Debian's package lists: run apt-get update");
        let download = ["download", &format!("linux-image-{package}")];
        Cmd::new("apt-get")
            .args(download)
            .dir(directory)
            .timeout(Duration::from_secs(300))
            .run()
            .ok();
        let unpacked = directory.join("package");
        let archive = only_entry(directory);
        Cmd::new("dpkg-deb")
            .arg("-x")
            .arg(&archive)
            .arg(&unpacked)
            .run()
            .ok();
        Cmd::new("depmod")
            .arg("-b")
            .arg(&unpacked)
            .arg(package)
            .run()
            .ok();
        let keep = |from: PathBuf, name: &str| {
            std::fs::rename(from, directory.join(name)).expect("move a part of the package");
        };
        keep(unpacked.join(format!("boot/vmlinuz-{package}")), "vmlinuz");
        keep(unpacked.join("lib/modules").join(package), "modules");
        std::fs::remove_dir_all(&unpacked).expect("remove the rest of the package");
        std::fs::remove_file(archive).expect("remove the package");
    })
}

fn only_entry(directory: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(directory).expect("directory").flatten();
    entries.next().expect("apt-get download made a file").path()
}

/// Paths of the wanted modules and of all they need, each after those it needs.
fn modules_in_order(directory: &Path, wanted: &[&str]) -> Vec<PathBuf> {
    let table = std::fs::read_to_string(directory.join("modules.dep")).expect("modules.dep");
    let builtin =
        std::fs::read_to_string(directory.join("modules.builtin")).expect("modules.builtin");
    let builtin: BTreeSet<String> = builtin.lines().map(module_name).collect();
    // A line names a module's file, then all that it needs, each before those that it needs itself.
    let files: BTreeMap<String, Vec<&str>> = table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| {
            let order = needs.split_whitespace().rev().chain([file]).collect();
            (module_name(file), order)
        })
        .collect();
    let mut order: Vec<PathBuf> = Vec::new();
    for name in wanted.iter().filter(|name| !builtin.contains(**name)) {
        let needed = files
            .get(*name)
            .unwrap_or_else(|| panic!("this kernel has no module {name}"));
        for path in needed.iter().map(|file| directory.join(file)) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    order
}

/// `kernel/fs/overlayfs/overlay.ko` is `overlay`; dashes and underscores are the same in names of
/// modules.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

/// A copy of `program` without debug information, which would be most of the archive.
fn stripped(program: &Path) -> PathBuf {
    let copy = fixtures::target().join("tmp/mybox-stripped");
    let partial = copy.with_extension(marker());
    Cmd::new("strip")
        .arg("-o")
        .arg(&partial)
        .arg(program)
        .run()
        .ok();
    std::fs::rename(partial, &copy).expect("put the stripped copy into place");
    copy
}

/// Files for the initramfs by absolute path.
#[derive(Default)]
struct Archive(BTreeMap<String, (u32, Vec<u8>)>);

impl Archive {
    fn add(&mut self, path: &str, content: Vec<u8>, mode: u32) {
        for (slash, _) in path.match_indices('/').filter(|(slash, _)| *slash > 0) {
            self.0
                .entry(path[..slash].to_owned())
                .or_insert((0o040_755, Vec::new()));
        }
        self.0.insert(path.to_owned(), (0o100_000 | mode, content));
    }

    fn copy(&mut self, from: &Path, to: &str) {
        let content =
            std::fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        let metadata = from.metadata().expect("it was just read");
        assert!(
            !metadata.file_type().is_char_device(),
            "{} is no file",
            from.display()
        );
        self.add(to, content, metadata.mode() & 0o7777);
    }

    /// Copies a program and the shared objects it is linked with, each to the path where it is
    /// looked for.
    fn copy_program(&mut self, from: &Path, to: &str) {
        self.copy(from, to);
        let libraries = Cmd::new("ldd").arg(from).run().ok().stdout();
        let path = |line: &str| {
            line.split_whitespace()
                .find(|word| word.starts_with('/'))
                .map(str::to_owned)
        };
        for library in libraries.lines().filter_map(path) {
            self.copy(Path::new(&library), &library);
        }
    }

    /// In the "newc" format of the kernel's
    /// Documentation/driver-api/early-userspace/buffer-format.rst.
    fn cpio(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (inode, (path, (mode, content))) in self.0.iter().enumerate() {
            entry(
                &mut bytes,
                inode + 1,
                path.trim_start_matches('/'),
                *mode,
                content,
            );
        }
        entry(&mut bytes, 0, "TRAILER!!!", 0, &[]);
        bytes
    }
}

fn entry(bytes: &mut Vec<u8>, inode: usize, name: &str, mode: u32, content: &[u8]) {
    bytes.extend_from_slice(b"070701");
    let (size, name_size) = (content.len(), name.len() + 1);
    // inode, mode, uid, gid, nlink, mtime, size, device and rdev as major and minor, length of the
    // name, checksum.
    let mode = mode as usize;
    for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
        bytes.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
