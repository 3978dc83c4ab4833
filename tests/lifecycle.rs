//! However a run ends, the host and the store are as before, and the caller is told why.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{Cmd, Disk, HostState, Output, PrivateHost, Rootfs, Sandbox, Terminal};

/// A private host with a sandbox whose bridge is up, and what they looked like then.
struct Ground {
    // Dropped in this order: the sandbox looks at the host that it is on.
    sandbox: Sandbox,
    private: PrivateHost,
    untouched: HostState,
    files: Vec<PathBuf>,
}

impl Ground {
    #[track_caller]
    fn new(name: &str) -> Self {
        let private = PrivateHost::new();
        let sandbox = Sandbox::on(private.host(), name);
        sandbox.import_tiny();
        let untouched = HostState::of(private.host());
        drop(sandbox.mybox(["run", "--rm", "tiny", "true"]).run().ok());
        let files = files(&sandbox);
        Self {
            private,
            sandbox,
            untouched,
            files,
        }
    }

    /// `mybox run FLAGS tiny WORDS`, without `--rm`: a start that fails leaves no container either.
    fn run(&self, flags: &[&str], words: &[&str]) -> Cmd {
        let run = self.sandbox.mybox(["run"]).args(flags);
        run.arg("tiny").args(words)
    }

    /// Fails unless everything is as before; takes the network down for that.
    #[track_caller]
    fn assert_as_before(self) {
        self.sandbox.assert_nothing_runs();
        assert_eq!(files(&self.sandbox), self.files);
        drop(self.sandbox.mybox(["network", "rm"]).run().ok());
        HostState::of(self.private.host()).assert_same_as(&self.untouched);
    }
}

/// Every path below the store and the run root.
fn files(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![sandbox.root(), sandbox.run_root()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[test]
fn a_normal_end_leaves_the_host_as_it_was() {
    let ground = Ground::new("normal");
    for (words, code) in [(&["true"][..], 0), (&["probe", "exit", "3"], 3)] {
        drop(ground.run(&["--rm", "-m", "64m"], words).run().code(code));
    }
    drop(ground.run(&["--rm", "--init"], &["true"]).run().ok());
    ground.assert_as_before();
}

#[test]
fn a_container_without_rm_stays_until_it_is_removed() {
    let ground = Ground::new("stays");
    let run = ground.run(&["--name", "kept"], &["probe", "exit", "3"]);
    drop(run.run().code(3));
    ground.sandbox.assert_nothing_runs();
    let list = ground.sandbox.mybox(["ps", "-a"]).run().ok().stdout();
    assert!(
        list.contains("kept") && list.contains("Exited (3)"),
        "{list}"
    );
    drop(ground.sandbox.mybox(["rm", "kept"]).run().ok());
    let again = ground.sandbox.mybox(["rm", "kept"]).run().code(1);
    drop(again.says("no such container: kept"));
    ground.assert_as_before();
}

#[test]
fn a_container_that_runs_is_not_removed() {
    let ground = Ground::new("runs");
    let running = ground.run(&["--rm", "--name", "busy"], &["probe", "trap", "TERM"]);
    let running = running.spawn();
    running.wait_for("ready");
    let refused = ground.sandbox.mybox(["rm", "busy"]).run().code(1);
    drop(refused.says("container busy is running"));
    running.signal(Signal::TERM);
    drop(running.wait().ok());
    ground.assert_as_before();
}

#[test]
fn a_command_that_is_not_found_leaves_nothing() {
    let ground = Ground::new("not-found");
    for flags in [&[][..], &["--rm"], &["--init"]] {
        drop(ground.run(flags, &["nonexistent"]).run().code(127));
        drop(ground.run(flags, &["/etc/passwd"]).run().code(126));
    }
    ground.assert_as_before();
}

#[test]
fn a_mount_that_fails_leaves_nothing() {
    let ground = Ground::new("mount");
    let file = ground.sandbox.scratch().join("file");
    std::fs::write(&file, "text").expect("a file");
    let file = file.to_str().expect("a plain path");
    for (volume, complaint) in [
        (format!("{file}:/bin"), "and that is a directory"),
        (format!("{file}:/etc/passwd/x"), "ENOTDIR"),
        ("/nonexistent/x:/data".to_owned(), "/nonexistent/x"),
    ] {
        let failed = ground.run(&["-v", &volume], &["true"]).run().code(125);
        drop(failed.says("error: ").says(complaint));
    }
    ground.assert_as_before();
}

#[test]
fn a_user_the_image_does_not_know_leaves_nothing() {
    let ground = Ground::new("user");
    drop(ground.run(&["-u", "mallory"], &["true"]).run().code(125));
    ground.assert_as_before();
}

#[test]
fn a_signal_while_it_runs_ends_the_container_and_leaves_nothing() {
    let ground = Ground::new("signal");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let running = ground.run(&["--rm"], &["sleep", "infinity"]).spawn();
        wait_until_it_runs(&ground.sandbox);
        running.signal(signal);
        drop(running.wait().code(code));
    }
    ground.assert_as_before();
}

/// Until the command is executed: what `sleep` itself could not say.
#[track_caller]
fn wait_until_it_runs(sandbox: &Sandbox) {
    let begin = std::time::Instant::now();
    loop {
        let rows = sandbox.mybox(["ps", "-q"]).run().ok().line();
        let command = (!rows.is_empty()).then(|| {
            let path = format!("/proc/{}/cmdline", sandbox.container_pid());
            std::fs::read_to_string(path).unwrap_or_default()
        });
        if command.is_some_and(|command| command.starts_with("sleep\0")) {
            return;
        }
        assert!(begin.elapsed().as_secs() < 30, "it never ran");
    }
}

#[test]
fn ctrl_c_on_a_terminal_ends_the_container_and_leaves_nothing() {
    let ground = Ground::new("ctrl-c");
    for flags in [&["--rm"][..], &["--rm", "-it"]] {
        let terminal = Terminal::new(24, 80);
        let before = terminal.settings();
        let run = ground.run(flags, &["probe", "trap", "INT"]);
        let mut session = terminal.spawn(run);
        session.read_until("ready");
        session.send("\x03");
        let (code, screen, terminal) = session.wait();
        assert_eq!((code, terminal.settings()), (0, before), "{screen}");
        assert!(screen.contains("SIGINT"), "{screen}");
    }
    ground.assert_as_before();
}

/// The terminal's window is closed: the kernel sends SIGHUP to the session's leader.
#[test]
fn a_terminal_that_hangs_up_ends_the_container_and_leaves_nothing() {
    let ground = Ground::new("hang-up");
    for flags in [&["--rm"][..], &["--rm", "-it"]] {
        let run = ground.run(flags, &["sleep", "infinity"]);
        let session = Terminal::new(24, 80).spawn(run);
        wait_until_it_runs(&ground.sandbox);
        let pid = ground.sandbox.container_pid();
        session.hang_up();
        let begin = std::time::Instant::now();
        while Path::new(&format!("/proc/{pid}/exe")).exists() {
            assert!(begin.elapsed().as_secs() < 30, "{flags:?}: it lives on");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        ground.sandbox.assert_nothing_runs();
    }
    ground.assert_as_before();
}

/// A run that strace(1) sends a signal to at a call, as `rmdir:signal=SIGINT:when=1`.
fn traced(ground: &Ground, signal_at: &str, words: &[&str]) -> Cmd {
    let (call, _) = signal_at.split_once(':').expect("a call");
    let (trace, inject) = (format!("trace={call}"), format!("inject={signal_at}"));
    let strace = ground.sandbox.host().command("strace");
    strace
        .args(["-o", "/dev/null", "-e", &trace, "-e", &inject])
        .arg(env!("CARGO_BIN_EXE_mybox"))
        .args(["run", "--rm", "tiny"])
        .args(words)
        .env("MYBOX_ROOT", ground.sandbox.root())
        .env("MYBOX_RUN_ROOT", ground.sandbox.run_root())
        .env("MYBOX_BRIDGE", ground.sandbox.bridge())
        .env("MYBOX_LAYER_FORM", ground.sandbox.layer_form())
}

/// A second Ctrl-C, or the second SIGHUP of a terminal that went away: strace(1) sends it as the first group
/// of the container is about to be removed.
#[test]
fn a_signal_while_a_container_is_taken_down_changes_nothing() {
    let ground = Ground::new("taken-down");
    for signal in ["INT", "TERM", "HUP"] {
        let signal_at = format!("rmdir:signal=SIG{signal}:when=1");
        let run = traced(&ground, &signal_at, &["probe", "exit", "3"]);
        drop(run.run().code(3));
        ground.sandbox.assert_nothing_runs();
    }
    ground.assert_as_before();
}

/// strace(1) sends the signal as mybox enters one of the calls of the start. Whether it still ends
/// mybox itself, or the start, or the command that was just executed, all of it ends.
#[test]
fn a_signal_at_any_stage_of_the_start_leaves_nothing() {
    let ground = Ground::new("start");
    for signal in ["INT", "TERM", "HUP"] {
        for call in [
            "execveat:when=1",
            "mkdir:when=1",
            "symlink:when=1",
            "symlink:when=2",
            "rename:when=1",
            "signalfd4:when=1",
            "socketpair:when=1",
            "clone3:when=1",
            "sendmsg:when=1",
        ] {
            let (name, when) = call.split_once(':').expect("a call");
            let signal_at = format!("{name}:signal=SIG{signal}:{when}");
            let run = traced(&ground, &signal_at, &["sleep", "infinity"]);
            let ended = run.run();
            let number = match signal {
                "INT" => 2,
                "TERM" => 15,
                _ => 1,
            };
            let died = ended.signal() == Some(number) || ended.exit_code() == Some(128 + number);
            assert!(died, "{signal} at {call}: {:?}", ended.stderr());
            drop(ground.sandbox.mybox(["ps"]).run().ok());
            ground.sandbox.assert_nothing_runs();
        }
    }
    ground.assert_as_before();
}

/// `--root` on a file system of `size`, mounted on the private host alone.
#[track_caller]
fn on_small_disk(size: &str) -> (PrivateHost, Sandbox) {
    let private = PrivateHost::new();
    // The kernel mounts no index that lies in memory.
    let sandbox = Sandbox::on(private.host(), "disk").with_layer_form("unpacked");
    let root = sandbox.root();
    let mount = private.host().command("mount");
    let mount = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
    drop(mount.arg(root).run().ok());
    sandbox.import_tiny();
    (private, sandbox)
}

#[track_caller]
fn on_host(sandbox: &Sandbox, command: &str) -> Output {
    let shell = sandbox.host().command("sh").args(["-c", command]);
    shell.env("ROOT", sandbox.root()).run().ok()
}

/// What is in the store and the run root, as the private host sees it.
#[track_caller]
fn seen_files(sandbox: &Sandbox) -> String {
    let run = sandbox.run_root();
    on_host(sandbox, &format!("find $ROOT {} | sort", run.display())).stdout()
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let (private, sandbox) = on_small_disk("16m");
    let untouched = HostState::of(private.host());
    drop(sandbox.mybox(["run", "--rm", "tiny", "true"]).run().ok());
    on_host(
        &sandbox,
        "dd if=/dev/zero of=$ROOT/lost+found bs=64k 2>/dev/null; dd if=/dev/zero of=$ROOT/lost+found bs=1 count=4096 oflag=append conv=notrunc 2>/dev/null; true",
    );
    let before = seen_files(&sandbox);
    let full = sandbox.mybox(["run", "tiny", "true"]).run().code(125);
    assert!(
        full.stderr().contains("ENOSPC") || full.stderr().contains("No space left"),
        "{}",
        full.stderr()
    );
    drop(full.says("hint: the disk is full"));
    assert_eq!(seen_files(&sandbox), before);
    // With room again it goes on.
    on_host(&sandbox, "rm $ROOT/lost+found");
    drop(sandbox.mybox(["run", "--rm", "tiny", "true"]).run().ok());
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    HostState::of(private.host()).assert_same_as(&untouched);
    on_host(&sandbox, "umount $ROOT");
}

#[test]
fn on_a_full_disk_containers_end_as_they_end_and_all_that_makes_room_works() {
    let (_private, sandbox) = on_small_disk("16m");
    let fill = || drop(on_host(&sandbox, &filling("$ROOT/lost+found")));
    on_a_disk_that_fills(&sandbox, &sandbox.root(), &fill);
    on_host(&sandbox, "umount $ROOT");
}

/// As most machines have it: a file's data, a directory and a new file may each want a block.
#[test]
fn on_a_full_ext4_all_that_makes_room_works_too() {
    let sandbox = Sandbox::new("ext4");
    let disk = Disk::new(&sandbox, 32 << 20);
    let shell = filling(&disk.path().join("fill").display().to_string());
    let fill = || drop(Cmd::new("sh").args(["-c", &shell]).run().ok());
    on_a_disk_that_fills(&sandbox, &disk.path().join("root"), &fill);
}

/// Fills a disk to the last byte.
fn filling(file: &str) -> String {
    format!(
        "dd if=/dev/zero of={file} bs=1k oflag=append conv=notrunc 2>/dev/null
         dd if=/dev/zero of={file} bs=1 oflag=append conv=notrunc 2>/dev/null; true"
    )
}

#[track_caller]
fn on_a_disk_that_fills(sandbox: &Sandbox, root: &Path, fill: &dyn Fn()) {
    let mybox = |words: &[&str]| sandbox.mybox(["--root"]).arg(root).args(words);
    let done = |words: &[&str]| {
        fill();
        mybox(words).run().ok().stdout()
    };
    let tar = sandbox.scratch().join("shell.tar");
    let busybox = std::fs::read("/bin/busybox").expect("busybox");
    let shell = Rootfs::empty().file_with("bin/sh", &busybox, |header| header.set_mode(0o755));
    std::fs::write(&tar, shell.tar()).expect("a tar");
    for name in ["shell", "other"] {
        let import = ["import", "--layer-form", "unpacked", "--change"];
        let label = format!("LABEL name={name}");
        let import = mybox(&import).arg(label).arg(&tar).arg(name);
        drop(import.run().ok());
    }
    let run = ["run", "--network", "none", "--name"];
    let hog = format!("{}; exit 7", filling("/big"));
    let sleep = ["idle", "-d", "shell", "sh", "-c", "sleep infinity"];
    drop(mybox(&run).args(sleep).run().ok());
    // In the foreground the code is the command's, too.
    drop(
        mybox(&run)
            .args(["foreground", "shell", "sh", "-c", &hog])
            .run()
            .code(7),
    );
    drop(mybox(&["rm", "foreground"]).run().ok());
    drop(
        mybox(&run)
            .args(["hog", "-d", "shell", "sh", "-c", &hog])
            .run()
            .ok(),
    );
    assert_eq!(mybox(&["wait", "hog"]).run().ok().line(), "7");
    assert_eq!(done(&["kill", "idle"]), "idle\n");
    let codes = done(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    assert!(codes.contains("hog Exited (7) "), "{codes}");
    assert!(codes.contains("idle Exited (137) "), "{codes}");
    assert_eq!(
        done(&["inspect", "-f", "{{.State.ExitCode}}", "hog"]),
        "7\n"
    );
    let refused = mybox(&["start", "hog"]).run().code(1);
    drop(refused.says("hint: the disk is full"));
    assert_eq!(done(&["logs", "hog"]), "");
    assert!(done(&["images", "-q"]).lines().count() > 1);
    let removed = done(&["rmi", "other"]);
    assert!(removed.contains("Deleted: "), "{removed}");
    drop(done(&["gc"]));
    assert_eq!(done(&["rm", "idle"]), "idle\n");
    assert!(done(&["prune", "-f"]).contains("hog"));
    // With the room of that it goes on as before.
    let again = mybox(&run).args(["again", "shell", "sh", "-c", "exit 3"]);
    drop(again.run().code(3));
    let again = mybox(&["inspect", "-f", "{{.State.ExitCode}}", "again"]);
    assert_eq!(again.run().ok().line(), "3");
}

#[test]
fn a_read_only_root_is_told_and_leaves_nothing() {
    let (private, sandbox) = on_small_disk("64m");
    drop(sandbox.mybox(["run", "--rm", "tiny", "true"]).run().ok());
    on_host(&sandbox, "mount -o remount,ro $ROOT");
    let before = (seen_files(&sandbox), HostState::of(private.host()));
    for network in ["bridge", "none"] {
        let run = sandbox.mybox(["run", "--network", network, "tiny", "true"]);
        let refused = run.run().code(125);
        drop(
            refused
                .says("error: ")
                .says("hint: the file system is read-only"),
        );
        assert_eq!(seen_files(&sandbox), before.0);
    }
    // Looking is still possible.
    drop(sandbox.mybox(["ps", "-a"]).run().ok());
    let images = sandbox.mybox(["images"]).run().ok().stdout();
    assert!(images.contains("tiny"), "{images}");
    on_host(&sandbox, "mount -o remount,rw $ROOT");
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    on_host(&sandbox, "umount $ROOT");
}

#[test]
fn without_nft_a_bridge_is_refused_by_name_and_nothing_is_left() {
    let private = PrivateHost::new();
    let sandbox = Sandbox::on(private.host(), "nft");
    sandbox.import_tiny();
    let untouched = HostState::of(private.host());
    let run = |network: &str| sandbox.mybox(["run", "--rm", "--network", network, "tiny", "true"]);
    // Debian's, and where mybox looks when PATH has none.
    on_host(&sandbox, "mount -t tmpfs tmpfs /usr/sbin");
    let refused = run("bridge").run().code(125);
    let refused = refused.says("nft").says("it is not installed");
    assert!(
        refused.stderr().contains("nftables"),
        "{}",
        refused.stderr()
    );
    drop(run("none").run().ok());
    on_host(&sandbox, "umount /usr/sbin");
    let containers = sandbox.mybox(["ps", "-a", "--json"]).run().ok();
    assert_eq!(containers.stdout_json(), serde_json::json!([]));
    sandbox.assert_nothing_runs();
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    HostState::of(private.host()).assert_same_as(&untouched);
}

#[test]
fn an_image_that_does_not_exist_leaves_nothing() {
    let ground = Ground::new("image");
    let words = ["run", "--pull", "never", "absent", "true"];
    let run = ground.sandbox.mybox(words).run();
    drop(run.code(125).says("no such image: absent"));
    ground.assert_as_before();
}

/// A child in a container of its own pid namespace ends with the command; so does one that has left
/// its session and closed all its files.
#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let ground = Ground::new("daemon");
    let shell = std::fs::read("/bin/busybox").expect("busybox");
    let rootfs = Rootfs::tiny();
    let rootfs = rootfs.file_with("bin/sh", &shell, |header| header.set_mode(0o755));
    let private = PrivateHost::new();
    let sandbox = Sandbox::on(private.host(), "daemon-image");
    sandbox.import("shell", rootfs);
    for init in [&[][..], &["--init"]] {
        let run = sandbox
            .mybox(["run", "--rm", "--network", "none"])
            .args(init);
        let script = "sleep infinity >/dev/null 2>&1 </dev/null & exit 4";
        drop(run.args(["shell", "sh", "-c", script]).run().code(4));
        sandbox.assert_nothing_runs();
    }
    ground.assert_as_before();
}
