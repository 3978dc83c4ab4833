//! mybox killed at any moment: the next command finds what it left and takes it down.
//!
//! strace(1) sends SIGKILL as mybox enters one of its system calls. What it has done until then is
//! what the calls before have done, so killing it at every call that changes something meets every
//! state it can leave; a share of all other calls is tried too, since the child goes on meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Cmd, HostState, Output, PrivateHost, Rootfs, Running, Sandbox};

/// One system call of a program: its name, how many of that name there were with it (strace counts
/// each name for itself), and how strace shows it.
#[derive(Debug, Clone)]
struct Call {
    name: String,
    number: usize,
    shown: String,
}

/// Calls that change nothing that outlives their process, most of them by far.
const HARMLESS: &[&str] = &[
    "access",
    "arch_prctl",
    "brk",
    "close",
    "fcntl",
    "fstat",
    "getdents64",
    "getsockname",
    "gettid",
    "ioctl",
    "lseek",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "poll",
    "ppoll",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "recvfrom",
    "recvmsg",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_getaffinity",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "socket",
    "statfs",
    "statx",
];

impl Call {
    fn changes_something(&self) -> bool {
        match self.name.as_str() {
            "openat" => self.shown.contains("O_CREAT") || self.shown.contains("O_WRONLY"),
            name => !HARMLESS.contains(&name),
        }
    }
}

/// The calls that mybox makes for `words`, which must succeed.
#[track_caller]
fn calls_of(sandbox: &Sandbox, words: &[&str]) -> Vec<Call> {
    let trace = sandbox.scratch().join("trace");
    let options = ["-o", trace.to_str().expect("a plain path")];
    drop(strace(sandbox, &options, words).run().ok());
    let trace = std::fs::read_to_string(trace).expect("the trace");
    let mut counts = BTreeMap::<&str, usize>::new();
    let calls = trace.lines().filter_map(|line| {
        let name = line.split_once('(')?.0;
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        name.bytes().all(letter).then_some(())?;
        let number = counts.entry(name).or_default();
        *number += 1;
        Some(Call {
            name: name.to_owned(),
            number: *number,
            shown: line.to_owned(),
        })
    });
    let calls: Vec<Call> = calls.collect();
    assert!(calls.len() > 50, "{calls:?}");
    calls
}

/// All calls that change something, and every `stride`th of the others.
fn worth_a_kill(calls: &[Call], stride: usize) -> impl Iterator<Item = &Call> {
    let numbered = calls.iter().enumerate();
    let chosen = numbered.filter(move |(at, call)| call.changes_something() || at % stride == 0);
    chosen.map(|(_, call)| call)
}

/// Runs mybox and kills it as it enters that call. It may end before: not every run makes equally
/// many.
#[track_caller]
fn killed_at(sandbox: &Sandbox, call: &Call, words: &[&str]) -> Output {
    let inject = format!("inject={}:signal=SIGKILL:when={}", call.name, call.number);
    let trace = format!("trace={}", call.name);
    let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    strace(sandbox, &options, words).run()
}

/// How often mybox was killed, and how often it came to its end.
#[derive(Debug, Default)]
struct Kills {
    killed: usize,
    ended: usize,
}

impl Kills {
    #[track_caller]
    fn count(&mut self, output: &Output) {
        match output.signal() {
            Some(9) => self.killed += 1,
            _ => self.ended += 1,
        }
    }

    /// Fails if strace did not do what these tests stand on.
    #[track_caller]
    fn assert_most(&self) {
        assert!(self.killed > 9 * self.ended && self.killed > 5, "{self:?}");
    }
}

/// `strace OPTIONS mybox WORDS` on the sandbox's host. Children are not traced. Libraries are not
/// looked for where cargo has its own.
pub(crate) fn strace(sandbox: &Sandbox, options: &[&str], words: &[&str]) -> Cmd {
    let strace = sandbox.host().command("strace").args(options);
    let mybox = strace.arg(env!("CARGO_BIN_EXE_mybox")).args(words);
    mybox
        .env("LD_LIBRARY_PATH", "")
        .env("MYBOX_ROOT", sandbox.root())
        .env("MYBOX_RUN_ROOT", sandbox.run_root())
        .env("MYBOX_BRIDGE", sandbox.bridge())
        .env("MYBOX_LAYER_FORM", sandbox.layer_form())
}

#[track_caller]
fn sandbox(name: &str) -> (PrivateHost, Sandbox) {
    let private = PrivateHost::new();
    let sandbox = Sandbox::on(private.host(), name);
    sandbox.import_tiny();
    (private, sandbox)
}

#[track_caller]
fn ps(sandbox: &Sandbox) -> serde_json::Value {
    sandbox
        .mybox(["ps", "-a", "--json"])
        .run()
        .ok()
        .stdout_json()
}

#[track_caller]
fn remove_network(sandbox: &Sandbox) {
    drop(sandbox.mybox(["network", "rm"]).run().ok());
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

/// Fails with the call if mybox was killed there and left something.
#[track_caller]
fn assert_clean(sandbox: &Sandbox, call: &Call, before: &[PathBuf]) {
    let left = files(sandbox);
    let new: Vec<_> = left.iter().filter(|path| !before.contains(path)).collect();
    assert!(
        new.is_empty() && left.len() == before.len(),
        "{call:?} left {new:?}"
    );
    let running = sandbox.running();
    if !running.is_empty() {
        eprintln!("after {call:?}: {running:?}");
        sandbox.assert_nothing_runs();
    }
}

/// Starts a container that waits for its end, and returns when it does.
#[track_caller]
fn waiting(sandbox: &Sandbox, flags: &[&str]) -> Running {
    let run = sandbox.mybox(["run"]).args(flags);
    let waiting = run.args(["tiny", "probe", "trap", "USR1"]).spawn();
    waiting.wait_for("ready");
    waiting
}

#[track_caller]
fn kill(running: Running) {
    running.signal(Signal::KILL);
    assert_eq!(running.wait().signal(), Some(9));
}

#[test]
fn killed_at_any_system_call_a_run_leaves_nothing() {
    let words = [
        "run",
        "--rm",
        "-m",
        "64m",
        "--pids-limit",
        "9",
        "tiny",
        "true",
    ];
    let (private, sandbox) = sandbox("any-call");
    let untouched = HostState::of(private.host());
    drop(sandbox.mybox(words).run().ok());
    let before = files(&sandbox);
    let mut kills = Kills::default();
    for call in worth_a_kill(&calls_of(&sandbox, &words), 5) {
        kills.count(&killed_at(&sandbox, call, &words));
        assert_eq!(ps(&sandbox), serde_json::json!([]), "{call:?}");
        assert_clean(&sandbox, call, &before);
    }
    kills.assert_most();
    drop(sandbox.mybox(words).run().ok());
    remove_network(&sandbox);
    HostState::of(private.host()).assert_same_as(&untouched);
}

/// Without `--rm` there may be a container afterwards: one that never was, or one that has ended
/// and can be removed by its name, which is free again then.
#[test]
fn killed_at_any_system_call_a_run_leaves_a_container_that_can_be_removed() {
    let words = ["run", "--name", "kept", "--network", "none", "tiny", "true"];
    let (_private, sandbox) = sandbox("kept");
    // The first run compiles the filter of system calls; the others are all alike.
    drop(sandbox.mybox(words).run().ok());
    drop(sandbox.mybox(["rm", "kept"]).run().ok());
    let calls = calls_of(&sandbox, &words);
    drop(sandbox.mybox(["rm", "kept"]).run().ok());
    let before = files(&sandbox);
    let mut outcomes = BTreeMap::<i64, usize>::new();
    let mut kills = Kills::default();
    for call in worth_a_kill(&calls, 1000) {
        kills.count(&killed_at(&sandbox, call, &words));
        let containers = ps(&sandbox);
        for container in containers.as_array().expect("a list") {
            assert_eq!(container["running"], false, "{call:?}");
            let code = container["ending"]["code"].as_i64().expect("a code");
            *outcomes.entry(code).or_default() += 1;
            drop(sandbox.mybox(["rm", "kept"]).run().ok());
        }
        assert_clean(&sandbox, call, &before);
    }
    kills.assert_most();
    // Before its end was on record it died with mybox; after, the next command keeps to the record.
    let codes: Vec<i64> = outcomes.keys().copied().collect();
    assert_eq!(codes, [0, 137], "{outcomes:?}");
}

#[test]
fn killed_while_it_makes_the_bridge_mybox_makes_it_whole_the_next_time() {
    let words = ["run", "--rm", "tiny", "true"];
    let (private, sandbox) = sandbox("bridge");
    private.replace_file("/etc/resolv.conf", "nameserver 127.0.0.53\n");
    let untouched = HostState::of(private.host());
    let calls = calls_of(&sandbox, &words);
    let whole = firewall(&sandbox);
    remove_network(&sandbox);
    // From the first question to the kernel about links to the lease of an address.
    let begin = calls.iter().position(|call| call.name == "sendto");
    let end = calls.iter().rposition(|call| call.name == "symlink");
    let making = &calls[begin.expect("sendto")..end.expect("symlink")];
    assert!(making.iter().any(|call| call.shown.contains("ip_forward")));
    let mut kills = Kills::default();
    for call in worth_a_kill(making, 1000) {
        kills.count(&killed_at(&sandbox, call, &words));
        assert_eq!(ps(&sandbox), serde_json::json!([]), "{call:?}");
        let next = sandbox.mybox(["run", "--rm", "tiny", "probe", "ping", "10.10.0.1"]);
        drop(next.run().ok());
        assert_eq!(firewall(&sandbox), whole, "{call:?}");
        remove_network(&sandbox);
        HostState::of(private.host()).assert_same_as(&untouched);
    }
    kills.assert_most();
}

#[track_caller]
fn firewall(sandbox: &Sandbox) -> String {
    let list = sandbox.host().command("nft").args(["list", "ruleset"]);
    list.run().ok().stdout()
}

#[test]
fn killed_at_any_change_a_removal_of_the_network_is_finished_by_the_next() {
    let (private, sandbox) = sandbox("network-rm");
    let untouched = HostState::of(private.host());
    let make = || drop(sandbox.mybox(["run", "--rm", "tiny", "true"]).run().ok());
    make();
    let words = ["network", "rm"];
    let mut kills = Kills::default();
    for call in worth_a_kill(&calls_of(&sandbox, &words), 1000) {
        make();
        kills.count(&killed_at(&sandbox, call, &words));
        let again = sandbox.mybox(words).run();
        let gone = again.stderr().contains("there is no network");
        assert!(
            gone || again.exit_code() == Some(0),
            "{call:?}: {}",
            again.stderr()
        );
        HostState::of(private.host()).assert_same_as(&untouched);
    }
    kills.assert_most();
}

#[test]
fn killed_at_any_change_a_removal_of_a_container_is_none_or_whole() {
    let (_private, sandbox) = sandbox("rm");
    let before = files(&sandbox);
    let make = || {
        let run = sandbox.mybox(["run", "--name", "kept", "--network", "none", "tiny", "true"]);
        drop(run.run().ok());
    };
    make();
    let words = ["rm", "kept"];
    let calls = calls_of(&sandbox, &words);
    let directories = files(&sandbox);
    assert!(directories.len() <= before.len() + 7, "{directories:?}");
    let mut kills = Kills::default();
    for call in worth_a_kill(&calls, 1000) {
        make();
        kills.count(&killed_at(&sandbox, call, &words));
        if ps(&sandbox) != serde_json::json!([]) {
            drop(sandbox.mybox(words).run().ok());
        }
        assert_clean(&sandbox, call, &directories);
    }
    kills.assert_most();
}

/// Taking down is itself killed, and begun again by whoever comes next.
#[test]
fn killed_at_any_change_a_recovery_is_finished_by_the_next() {
    let (_private, sandbox) = sandbox("recovery");
    drop(sandbox.mybox(["run", "--rm", "tiny", "true"]).run().ok());
    let before = files(&sandbox);
    let crash = || kill(waiting(&sandbox, &["--rm", "-m", "64m"]));
    crash();
    let words = ["ps", "-a"];
    let mut kills = Kills::default();
    for call in worth_a_kill(&calls_of(&sandbox, &words), 1000) {
        crash();
        kills.count(&killed_at(&sandbox, call, &words));
        assert_eq!(ps(&sandbox), serde_json::json!([]), "{call:?}");
        assert_clean(&sandbox, call, &before);
    }
    kills.assert_most();
}

#[test]
fn killed_beside_its_container_mybox_takes_it_along() {
    let (_private, sandbox) = sandbox("beside");
    for flags in [
        &["--rm"][..],
        &["--rm", "--init"],
        &["--rm", "--network", "none"],
    ] {
        let running = waiting(&sandbox, flags);
        let pid = sandbox.container_pid();
        kill(running);
        assert_gone(pid);
        assert_eq!(ps(&sandbox), serde_json::json!([]));
        sandbox.assert_nothing_runs();
    }
}

/// The kernel ends it with mybox, which nobody has to notice: it is a process of its own.
#[track_caller]
fn assert_gone(pid: u32) {
    wait_until(|| is_dead(pid), "the container's process lives on");
}

/// Whether there is no such process, or only its status is left.
fn is_dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    matches!(state, None | Some("Z" | "X"))
}

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool, otherwise: &str) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{otherwise}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn killed_beside_its_container_mybox_leaves_its_record() {
    let (_private, sandbox) = sandbox("record");
    kill(waiting(&sandbox, &["--name", "kept", "-m", "64m"]));
    let table = sandbox.mybox(["ps", "-a"]).run().ok().stdout();
    assert!(
        table.contains("Exited (137)") && table.contains("kept"),
        "{table}"
    );
    sandbox.assert_nothing_runs();
    // The address is free for the next one.
    let next = sandbox
        .mybox(["run", "--rm", "tiny", "probe", "report"])
        .run()
        .ok();
    assert_eq!(next.report().links["eth0"].addresses[0], "10.10.0.2/16");
    drop(sandbox.mybox(["rm", "kept"]).run().ok());
    assert_eq!(ps(&sandbox), serde_json::json!([]));
}

/// The kernel's signal at the parent's death does not outlive the exec of a set-user-id program.
#[test]
fn a_command_that_changes_its_user_is_taken_down_too() {
    let (_private, sandbox) = sandbox("setuid");
    let program = std::fs::read(crate::harness::probe()).expect("the probe");
    let rootfs = Rootfs::tiny().file_with("bin/su", &program, |header| header.set_mode(0o4755));
    sandbox.import("setuid", rootfs);
    for init in [&[][..], &["--init"]] {
        let run = sandbox.mybox(["run", "--rm", "-u", "alice"]).args(init);
        let running = run.args(["setuid", "su", "trap", "USR1"]).spawn();
        running.wait_for("ready");
        let pid = sandbox.container_pid();
        running.signal(Signal::KILL);
        wait_until(|| is_dead(running.pid()), "mybox lives on");
        // A reaper goes with mybox; a command that has changed its user does not.
        if init.is_empty() {
            assert!(!is_dead(pid), "this does not test what it should");
        } else {
            wait_until(|| is_dead(pid), "the reaper lives on");
        }
        assert_eq!(ps(&sandbox), serde_json::json!([]));
        assert_gone(pid);
        assert_eq!(running.wait().signal(), Some(9));
        sandbox.assert_nothing_runs();
    }
}

#[test]
fn a_run_recovers_what_another_left_before_it_starts() {
    let (_private, sandbox) = sandbox("next-run");
    kill(waiting(
        &sandbox,
        &["--rm", "--ip", "10.10.0.9", "--name", "same"],
    ));
    let again = [
        "run",
        "--rm",
        "--ip",
        "10.10.0.9",
        "--name",
        "same",
        "tiny",
        "true",
    ];
    drop(sandbox.mybox(again).run().ok());
    sandbox.assert_nothing_runs();
}

#[test]
fn recovery_does_not_touch_containers_that_run() {
    let (_private, sandbox) = sandbox("others");
    let living = waiting(&sandbox, &["--rm", "--name", "living"]);
    kill(waiting(&sandbox, &["--rm", "--name", "dead"]));
    let containers = ps(&sandbox);
    let names: Vec<_> = containers
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["living"]);
    assert_eq!(containers[0]["running"], true);
    let address = containers[0]["address"].as_str().expect("an address");
    let ping = sandbox.mybox(["run", "--rm", "tiny", "probe", "ping", address]);
    drop(ping.run().ok());
    living.signal(Signal::USR1);
    assert_eq!(living.wait().ok().stdout(), "ready\nSIGUSR1\n");
}

/// One of two that start at the same time is killed at each of its changes; the other one and
/// what it has must not suffer.
#[test]
fn a_start_goes_on_whatever_becomes_of_another() {
    let (_private, sandbox) = sandbox("parallel");
    let words = ["run", "--rm", "tiny", "true"];
    drop(sandbox.mybox(words).run().ok());
    let before = files(&sandbox);
    let calls = calls_of(&sandbox, &words);
    let changes: Vec<&Call> = worth_a_kill(&calls, 1000).collect();
    for call in changes.iter().step_by(4) {
        let other = sandbox.mybox(["run", "--rm", "tiny", "probe", "ping", "10.10.0.1"]);
        let other = other.spawn();
        drop(killed_at(&sandbox, call, &words));
        drop(other.wait().ok());
        assert_eq!(ps(&sandbox), serde_json::json!([]), "{call:?}");
        assert_clean(&sandbox, call, &before);
    }
}

/// A reboot: processes, links and cgroups are gone, and so is the run root.
#[test]
fn after_a_reboot_containers_have_ended_and_those_with_rm_are_gone() {
    let (private, sandbox) = sandbox("reboot");
    for name in ["kept", "gone", "torn"] {
        let flags: &[&str] = if name == "kept" { &[] } else { &["--rm"] };
        let flags = [flags, &["--network", "none", "--name", name]].concat();
        let running = waiting(&sandbox, &flags);
        let pid = sandbox.container_pid();
        if name == "torn" {
            // What a power cut leaves of a record that was not flushed.
            let found = sandbox.mybox(["inspect", "torn"]).run().ok().stdout_json();
            let id = found[0]["id"].as_str().expect("an id");
            let directory = sandbox.root().join("containers").join(id);
            let record = directory.join("record.json");
            std::fs::write(record, "").expect("empty the record");
        }
        kill(running);
        assert_gone(pid);
        std::fs::remove_dir_all(sandbox.run_root()).expect("remove the run root");
        remove_cgroups(&sandbox);
    }
    private.replace_file("/proc/sys/kernel/random/boot_id", "another\n");
    let containers = ps(&sandbox);
    let names: Vec<_> = containers
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(containers[0]["ending"]["code"], 137);
    drop(sandbox.mybox(["rm", "kept"]).run().ok());
    let again = ["--rm", "--network=none", "--name=torn", "tiny", "true"];
    drop(sandbox.run(again).run().ok());
}

fn remove_cgroups(sandbox: &Sandbox) {
    for id in sandbox.containers() {
        let find = Cmd::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &id]);
        for group in find.run().stdout().lines() {
            std::fs::remove_dir(group).expect("remove an empty cgroup");
        }
    }
}

/// Whoever pauses for a while is not the container's supervisor: it lives, and must go on.
#[test]
fn killed_while_a_container_stands_still_a_commit_leaves_one_that_goes_on() {
    let (_private, sandbox) = sandbox("commit");
    let running = waiting(&sandbox, &["--network", "none", "--name", "web"]);
    let words = ["commit", "web", "new"];
    let calls = calls_of(&sandbox, &words);
    let freezes = |word: &str| {
        let is_it = |call: &Call| call.shown.starts_with("write") && call.shown.contains(word);
        calls.iter().position(is_it)
    };
    let begin = freezes("FROZEN")
        .or_else(|| freezes("\"1\""))
        .expect("a pause");
    let mut paused = 0;
    for call in worth_a_kill(&calls[begin..], 1000) {
        drop(killed_at(&sandbox, call, &words));
        let id = sandbox.containers().remove(0);
        let still = sandbox.run_root().join("containers").join(id).join("still");
        paused += usize::from(still.exists());
        assert_eq!(ps(&sandbox)[0]["paused"], false, "{call:?}");
        assert!(!still.exists(), "{call:?}");
    }
    assert!(paused > 0, "no commit was killed during its pause");
    // The commands that are asked for most by then need no `ps` before them.
    let rename = calls[begin..].iter().find(|call| call.name == "mkdir");
    let within = rename.unwrap_or(&calls[begin + 1]);
    drop(killed_at(&sandbox, within, &words));
    let refused = sandbox.mybox(["unpause", "web"]).run().code(1);
    drop(refused.says("is not paused"));
    drop(killed_at(&sandbox, within, &words));
    drop(sandbox.mybox(["kill", "-s", "USR1", "web"]).run().ok());
    running.wait_for("SIGUSR1");
    drop(running.wait().ok());
    drop(sandbox.mybox(["rm", "-f", "web"]).run().ok());
}

/// Another run root on the same root sees no claims of the first; its containers live all the same.
#[test]
fn a_command_with_another_run_root_touches_no_container_that_runs() {
    let (_private, sandbox) = sandbox("run-root");
    let living = waiting(&sandbox, &["--rm", "--network", "none"]);
    let before = files(&sandbox);
    let elsewhere = sandbox.scratch().join("run");
    let ps = sandbox
        .mybox(["ps", "-a"])
        .env("MYBOX_RUN_ROOT", &elsewhere);
    drop(ps.run().ok());
    assert_eq!(files(&sandbox), before);
    living.signal(Signal::USR1);
    drop(living.wait().ok());
}

/// A process id that was given to somebody else since must not be killed for the container's.
#[test]
fn a_stranger_with_the_recorded_process_id_is_left_alone() {
    let (_private, sandbox) = sandbox("stranger");
    let running = waiting(&sandbox, &["--rm", "--network", "none"]);
    let pid = sandbox.container_pid();
    kill(running);
    assert_gone(pid);
    // Start times are counted in hundredths of a second.
    std::thread::sleep(Duration::from_millis(20));
    let stranger = Cmd::new("sleep").arg("60").spawn();
    let id = sandbox.containers().remove(0);
    let file = sandbox.run_root().join("containers").join(id).join("pid");
    let text = std::fs::read_to_string(&file).expect("the record of the process");
    let started = text.split_whitespace().nth(1).expect("a start time");
    std::fs::write(&file, format!("{} {started}\n", stranger.pid())).expect("rewrite it");
    assert_eq!(ps(&sandbox), serde_json::json!([]));
    let stranger_pid = Pid::from_raw(i32::try_from(stranger.pid()).expect("a pid"));
    kill_process(stranger_pid.expect("a pid"), Signal::TERM).expect("it lives");
    assert_eq!(stranger.wait().signal(), Some(15));
}
