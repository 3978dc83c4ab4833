//! Limits seen from inside, and what happens to those who run into them. The same on a kernel that
//! has only cgroup v2: `tests/vm/containers.rs`.

use std::path::Path;

use mybox_probe::Report;
use rustix::process::Signal;

use crate::detached::until;
use crate::harness::{BareDisk, Cmd, Host, Output, PrivateHost, Rootfs, Sandbox};

/// `mybox run --rm --network none FLAGS tiny probe WORDS`.
fn run(sandbox: &Sandbox, flags: &[&str], words: &[&str]) -> Cmd {
    let run = sandbox.mybox(["run", "--rm", "--network", "none"]);
    run.args(flags).args(["tiny", "probe"]).args(words)
}

/// Fails unless a limit is in force, under its name in v1 or its name in v2, whichever this host
/// has.
#[track_caller]
fn assert_limit(report: &Report, v1: (&str, &str), v2: (&str, &str)) {
    let limits = &report.cgroup.limits;
    let found = [v1, v2].map(|(file, _)| limits.get(file).map(String::as_str));
    let as_it_should = found == [Some(v1.1), None] || found == [None, Some(v2.1)];
    assert!(as_it_should, "{v1:?} or {v2:?}, but: {limits:?}");
}

#[test]
fn a_memory_limit_is_seen_from_inside() {
    let sandbox = Sandbox::tiny("memory");
    let report = sandbox.report(&["-m", "64m", "--memory-swap", "96m"]);
    assert_limit(
        &report,
        ("memory.limit_in_bytes", "67108864"),
        ("memory.max", "67108864"),
    );
    // v1 counts both together, v2 swap alone.
    assert_limit(
        &report,
        ("memory.memsw.limit_in_bytes", "100663296"),
        ("memory.swap.max", "33554432"),
    );
}

#[test]
fn swap_is_as_much_as_memory_unless_it_is_given_or_unlimited() {
    let sandbox = Sandbox::tiny("swap");
    let given = |flags: &[&str]| sandbox.report(flags);
    assert_limit(
        &given(&["-m", "64m"]),
        ("memory.memsw.limit_in_bytes", "134217728"),
        ("memory.swap.max", "67108864"),
    );
    assert_limit(
        &given(&["-m", "64m", "--memory-swap", "-1"]),
        ("memory.memsw.limit_in_bytes", "9223372036854771712"),
        ("memory.swap.max", "max"),
    );
    assert_limit(
        &given(&["--memory-swap", "-1"]),
        ("memory.memsw.limit_in_bytes", "9223372036854771712"),
        ("memory.swap.max", "max"),
    );
}

#[test]
fn whoever_eats_more_memory_than_the_limit_is_killed_and_the_reason_told() {
    let sandbox = Sandbox::tiny("oom");
    let eater = |flags: &[&str]| run(&sandbox, flags, &["eat-memory", "256"]).run();
    let killed = eater(&["-m", "64m", "--memory-swap", "64m"]).code(137);
    assert_eq!(killed.stderr(), "killed: out of memory (limit 64 MiB)\n");
    let eaten: Vec<String> = killed.stdout().lines().map(str::to_owned).collect();
    assert!((8..64).contains(&eaten.len()), "{} MiB", eaten.len());
    // The same as a child of a reaper that lives on.
    let killed = eater(&["--init", "-m", "64m", "--memory-swap", "64m"]).code(137);
    assert_eq!(killed.stderr(), "killed: out of memory (limit 64 MiB)\n");
}

#[test]
fn a_container_that_ended_for_want_of_memory_says_so_in_the_list() {
    let sandbox = Sandbox::tiny("oom-ps");
    let run = sandbox.mybox(["run", "--name", "eater", "--network", "none", "-m", "64m"]);
    let eater = run.args(["tiny", "probe", "eat-memory", "256"]).run();
    drop(eater.code(137));
    let list = sandbox.mybox(["ps", "-a"]).run().ok().stdout();
    assert!(
        list.contains("Exited (137)") && list.contains("out of memory"),
        "{list}"
    );
    drop(sandbox.mybox(["rm", "eater"]).run().ok());
}

/// A signal from elsewhere has the same exit code, and must not be taken for it.
#[test]
fn a_kill_from_elsewhere_is_not_reported_as_want_of_memory() {
    let sandbox = Sandbox::tiny("not-oom");
    let killed = run(&sandbox, &["--init", "-m", "64m"], &["signal-self", "KILL"]).run();
    assert_eq!(killed.code(137).stderr(), "");
}

#[test]
fn a_process_killed_for_want_of_memory_beside_the_command_is_noted() {
    let sandbox = Sandbox::new("oom-child");
    let shell = std::fs::read("/bin/busybox").expect("busybox");
    let with_shell = Rootfs::tiny().file_with("bin/sh", &shell, |header| header.set_mode(0o755));
    sandbox.import("shell", with_shell);
    let run = sandbox.mybox(["run", "--rm", "--network", "none", "-m", "64m", "shell"]);
    let script = "probe eat-memory 256 >/dev/null; exit 3";
    let noted = run.args(["sh", "-c", script]).run().code(3);
    let note = "note: a process of the container was killed: out of memory (limit 64 MiB)\n";
    assert!(noted.stderr().ends_with(note), "{}", noted.stderr());
}

#[test]
fn processes_are_bounded_by_the_pids_limit() {
    let sandbox = Sandbox::tiny("pids");
    let bomb = run(&sandbox, &["--pids-limit", "10"], &["fork-bomb", "30"]);
    let stopped = serde_json::json!({ "started": 9, "error": "EAGAIN" });
    assert_eq!(bomb.run().ok().stdout_json(), stopped);
    let limited = sandbox.report(&["--pids-limit", "10"]);
    assert_eq!(limited.cgroup.limits["pids.max"], "10");
    for none in ["-1", "0"] {
        let bomb = run(&sandbox, &["--pids-limit", none], &["fork-bomb", "30"]);
        let unbounded = serde_json::json!({ "started": 30, "error": null });
        assert_eq!(bomb.run().ok().stdout_json(), unbounded);
    }
}

#[test]
fn processor_time_is_bounded_by_cpus() {
    let sandbox = Sandbox::tiny("cpus");
    let limited = sandbox.report(&["--cpus", "0.25"]);
    assert_limit(
        &limited,
        ("cpu.cfs_quota_us", "25000"),
        ("cpu.max", "25000 100000"),
    );
    let burnt = run(&sandbox, &["--cpus", "0.1"], &["burn-cpu", "0.5"])
        .run()
        .ok();
    let stat = burnt.stdout_json()["cpu.stat"].as_str().map(str::to_owned);
    let throttled = stat.as_deref().and_then(|stat| {
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix("nr_throttled "));
        line?.parse::<u32>().ok()
    });
    assert!(throttled > Some(0), "{stat:?}");
}

#[test]
fn a_quota_may_have_a_period_of_its_own() {
    let sandbox = Sandbox::tiny("quota");
    let limited = sandbox.report(&["--cpu-quota", "20000", "--cpu-period", "50000"]);
    assert_limit(
        &limited,
        ("cpu.cfs_period_us", "50000"),
        ("cpu.max", "20000 50000"),
    );
    let usual = sandbox.report(&["--cpu-quota", "20000"]);
    assert_limit(
        &usual,
        ("cpu.cfs_quota_us", "20000"),
        ("cpu.max", "20000 100000"),
    );
    for (flags, v1, v2) in [
        (
            ["--cpu-period=50000"],
            ("cpu.cfs_period_us", "50000"),
            "max 50000",
        ),
        (["--cpu-quota=-1"], ("cpu.cfs_quota_us", "-1"), "max 100000"),
    ] {
        assert_limit(&sandbox.report(&flags), v1, ("cpu.max", v2));
    }
}

#[test]
fn memory_can_be_reserved_and_be_that_of_some_nodes() {
    let sandbox = Sandbox::tiny("reservation");
    let limited = sandbox.report(&[
        "-m",
        "64m",
        "--memory-reservation",
        "32m",
        "--cpuset-mems",
        "0",
    ]);
    assert_limit(
        &limited,
        ("memory.soft_limit_in_bytes", "33554432"),
        ("memory.low", "33554432"),
    );
    assert_eq!(limited.cgroup.limits["cpuset.mems"], "0");
    let absent = run(&sandbox, &["--cpuset-mems", "900"], &["echo"]).run();
    drop(absent.code(125).says("cpuset.mems"));
}

#[test]
fn shares_are_given_on_the_scale_of_the_hosts_cgroups() {
    let sandbox = Sandbox::tiny("shares");
    for (shares, weight) in [("2", "1"), ("1024", "39"), ("262144", "10000")] {
        let report = sandbox.report(&["--cpu-shares", shares]);
        assert_limit(&report, ("cpu.shares", shares), ("cpu.weight", weight));
    }
}

#[test]
fn the_container_runs_on_the_processors_of_its_set() {
    let sandbox = Sandbox::tiny("cpuset");
    let limited = sandbox.report(&["--cpuset-cpus", "0"]);
    assert_limit(
        &limited,
        ("cpuset.effective_cpus", "0"),
        ("cpuset.cpus.effective", "0"),
    );
    let status = run(
        &sandbox,
        &["--cpuset-cpus", "0"],
        &["read", "/proc/self/status"],
    );
    let status = status.run().ok().stdout();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    let absent = run(&sandbox, &["--cpuset-cpus", "4000"], &["echo"])
        .run()
        .code(125);
    drop(absent.says("cpuset.cpus to 4000: not all of these are there: available is 0"));
    let create = [
        "create",
        "--network",
        "none",
        "--cpuset-cpus",
        "900",
        "tiny",
    ];
    drop(
        sandbox
            .mybox(create)
            .run()
            .code(1)
            .says("cpuset.cpus to 900"),
    );
}

/// What a file of the container's own group says, by its name in v1 and in v2.
#[track_caller]
fn in_group(sandbox: &Sandbox, flags: &[&str], v1: &str, v2: &str) -> String {
    let files = [v1, v2].map(|file| format!("/sys/fs/cgroup/{file}"));
    let of_this_host = usize::from(!Path::new("/sys/fs/cgroup/blkio").exists());
    let words = ["read", &files[of_this_host]];
    run(sandbox, flags, &words).run().ok().stdout()
}

#[test]
fn the_use_of_a_disk_is_bounded_by_the_number_of_its_device() {
    let sandbox = Sandbox::tiny("block-io");
    let disk = BareDisk::new(&sandbox);
    let (device, number) = (disk.device(), disk.number());
    for (flag, value, v1, in_v1, in_v2) in [
        ("read-bps", "1mb", "read_bps", "1048576", "rbps=1048576"),
        ("write-bps", "2k", "write_bps", "2048", "wbps=2048"),
        ("read-iops", "30", "read_iops", "30", "riops=30"),
        ("write-iops", "40", "write_iops", "40", "wiops=40"),
    ] {
        let flags = [&*format!("--device-{flag}"), &*format!("{device}:{value}")];
        let file = format!("blkio/blkio.throttle.{v1}_device");
        let said = in_group(&sandbox, &flags, &file, "io.max");
        let of_v1 = said == format!("{number} {in_v1}\n");
        let of_v2 = said.starts_with(&number) && said.contains(in_v2);
        assert!(of_v1 || of_v2, "{flag}: {said}");
    }
    let weight = format!("{device}:500");
    let flags = ["--blkio-weight", "300", "--blkio-weight-device", &weight];
    let files = ("blkio/blkio.bfq.weight_device", "io.bfq.weight");
    let said = in_group(&sandbox, &flags, files.0, files.1);
    assert_eq!(said, format!("default 300\n{number} 500\n"));
}

#[test]
fn what_is_no_disk_or_knows_no_weights_is_refused() {
    let sandbox = Sandbox::tiny("no-disk");
    let refused = |flags: &[&str]| run(&sandbox, flags, &["echo"]).run().code(125);
    let null = refused(&["--device-read-bps", "/dev/null:1mb"]);
    drop(null.says("/dev/null: it is no block device"));
    let absent = refused(&["--device-write-iops", "/dev/no-such-disk:1"]);
    drop(absent.says("/dev/no-such-disk"));
    let disk = BareDisk::new(&sandbox);
    let name = disk.device().trim_start_matches("/dev/");
    let scheduler = format!("/sys/block/{name}/queue/scheduler");
    std::fs::write(scheduler, "none").expect("the scheduler");
    let flags = ["--blkio-weight-device", &format!("{}:500", disk.device())];
    drop(refused(&flags).says("knows no weights"));
}

/// v2 has no such settings: there the flags are an error, see `tests/vm/containers.rs`.
#[test]
fn memory_is_swapped_out_and_waited_for_as_v1_is_told() {
    let sandbox = Sandbox::tiny("swappiness");
    let flags = [
        "-m",
        "64m",
        "--memory-swappiness",
        "7",
        "--oom-kill-disable",
    ];
    let file = |name: &str| format!("/sys/fs/cgroup/memory/{name}");
    if !Path::new("/sys/fs/cgroup/memory").exists() {
        let refused = run(&sandbox, &flags, &["echo"]).run().code(125);
        drop(refused.says("cgroups v2"));
        return;
    }
    let read = |name| run(&sandbox, &flags, &["read", &file(name)]).run().ok();
    assert_eq!(read("memory.swappiness").line(), "7");
    let control = read("memory.oom_control").stdout();
    assert!(control.starts_with("oom_kill_disable 1\n"), "{control}");
}

/// Nobody in it can be killed for want of memory, and yet it can be removed.
#[test]
fn a_container_that_waits_for_memory_can_be_removed() {
    if !Path::new("/sys/fs/cgroup/memory").exists() {
        return;
    }
    let sandbox = Sandbox::tiny("waits");
    let run = sandbox.mybox(["run", "-d", "--name", "waits", "--network", "none"]);
    let flags = ["-m", "32m", "--memory-swap", "32m", "--oom-kill-disable"];
    let run = run.args(flags).args(["tiny", "probe", "eat-memory", "64"]);
    let id = run.run().ok().line();
    let groups = groups_named(&id);
    let mut files = groups.iter().map(|group| group.join("memory.oom_control"));
    let control = files.find(|file| file.exists()).expect("a group");
    let waits = || std::fs::read_to_string(&control).is_ok_and(|it| it.contains("under_oom 1"));
    until("its wait for memory", waits);
    drop(sandbox.mybox(["rm", "-f", "waits"]).run().ok());
    assert!(groups.iter().all(|group| !group.exists()));
}

#[test]
fn the_group_lies_in_the_one_that_was_chosen_and_that_one_stays() {
    let sandbox = Sandbox::tiny("parent");
    let parent = format!("chosen-{}", std::process::id());
    let below = format!("{parent}/inner");
    let flags = ["--cgroup-parent", &below, "-m", "64m"];
    let waiting = run(&sandbox, &flags, &["trap", "TERM"]).spawn();
    waiting.wait_for("ready");
    let id = sandbox.containers().remove(0);
    let groups = groups_named(&id);
    assert!(!groups.is_empty());
    let parents: Vec<&Path> = groups.iter().filter_map(|group| group.parent()).collect();
    assert!(parents.iter().all(|it| it.ends_with(&below)), "{parents:?}");
    waiting.signal(Signal::TERM);
    drop(waiting.wait().ok());
    assert!(groups.iter().all(|group| !group.exists()));
    for inner in parents {
        std::fs::remove_dir(inner).expect("the chosen group is there, and empty");
        let outer = inner.parent().expect("its parent");
        std::fs::remove_dir(outer).expect("the one above it, too");
    }
    for bad in ["", "/", "../x", "a/../b"] {
        let refused = run(&sandbox, &["--cgroup-parent", bad], &["echo"]).run();
        drop(refused.code(125).says("--cgroup-parent"));
    }
}

/// Nothing a container does may escape its limits by being early: its first program is executed
/// when the process is in its groups and the limits are written.
#[test]
fn the_command_is_in_its_groups_before_its_first_instruction() {
    let sandbox = Sandbox::tiny("first");
    let trace = sandbox.scratch().join("trace");
    let flags = ["-m", "64m", "--pids-limit", "9", "--cpus", "1"];
    let traced = run(&sandbox, &flags, &["true"]).through([
        "strace",
        "-f",
        "-e",
        "trace=execve,openat,clone3",
        "-o",
        trace.to_str().expect("a plain path"),
    ]);
    drop(traced.run().ok());
    let trace = std::fs::read_to_string(trace).expect("the trace");
    let at = |found: &dyn Fn(&str) -> bool| trace.lines().position(found);
    let command = at(&|line| line.contains("execve(\"/bin/probe\"")).expect("the command");
    for limit in ["memory", "pids", "cpu"] {
        let opened = |line: &str, file: &str| line.contains(&format!("/{file}\", O_WRONLY"));
        let written = |line: &str| match limit {
            "memory" => opened(line, "memory.limit_in_bytes") || opened(line, "memory.max"),
            "pids" => opened(line, "pids.max"),
            _ => opened(line, "cpu.cfs_quota_us") || opened(line, "cpu.max"),
        };
        let joined = |line: &str| {
            let v1 = opened(line, "tasks") && line.contains(&format!("/{limit}"));
            v1 || line.contains("CLONE_INTO_CGROUP") || line.contains("0x200000000")
        };
        let (written, joined) = (at(&written), at(&joined));
        assert!(
            written.is_some() && written < joined && joined < Some(command),
            "{limit}: written at {written:?}, joined at {joined:?}, executed at {command}:\n{trace}"
        );
    }
}

#[test]
fn the_group_is_that_of_the_container_and_no_part_of_it_stays() {
    let sandbox = Sandbox::tiny("group");
    let waiting = run(&sandbox, &["-m", "64m"], &["trap", "TERM"]).spawn();
    waiting.wait_for("ready");
    let id = sandbox.containers().remove(0);
    let groups = groups_named(&id);
    assert!(!groups.is_empty(), "no group is named after {id}");
    for group in &groups {
        let processes = std::fs::read_to_string(group.join("cgroup.procs")).expect("processes");
        assert_eq!(processes.lines().count(), 1, "{}", group.display());
    }
    waiting.signal(Signal::TERM);
    drop(waiting.wait().ok());
    assert!(groups.iter().all(|group| !group.exists()));
}

/// Directories of that name in all hierarchies.
fn groups_named(id: &str) -> Vec<std::path::PathBuf> {
    let find = Cmd::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", id]);
    // Groups of other tests come and go while it looks.
    let found = find.run().stdout();
    found.lines().map(Into::into).collect()
}

#[test]
fn values_that_mean_nothing_are_refused_with_the_flags_name() {
    let sandbox = Sandbox::tiny("values");
    for (flag, value) in [
        ("--memory", "lots"),
        ("--memory", "1m"),
        ("--memory-swap", "64q"),
        ("--cpus", "0.001"),
        ("--cpus", "many"),
        ("--cpus", "100000"),
        ("--cpu-shares", "1"),
        ("--cpuset-cpus", "3-1"),
        ("--cpuset-mems", "one"),
        ("--cpu-quota", "999"),
        ("--cpu-period", "999"),
        ("--pids-limit", "-2"),
        ("--blkio-weight", "9"),
        ("--blkio-weight-device", "/dev/sda:1001"),
        ("--device-read-bps", "sda:1mb"),
        ("--device-write-iops", "/dev/sda:1k"),
        ("--memory-swappiness", "101"),
    ] {
        let refused = run(&sandbox, &[flag, value], &["echo"]).run().code(125);
        assert!(
            refused.stderr().contains(flag),
            "{flag} {value}: {}",
            refused.stderr()
        );
    }
    let refused = |flags: &[&str]| run(&sandbox, flags, &["echo"]).run().code(125);
    drop(refused(&["--memory-swap", "1g"]).says("--memory-swap needs --memory"));
    drop(refused(&["--oom-kill-disable"]).says("--oom-kill-disable needs --memory"));
    drop(refused(&["--cpus", "1", "--cpu-period", "5000"]).says("--cpu-period"));
    drop(refused(&["--cpus", "1", "--cpu-quota", "5000"]).says("--cpu-quota"));
    drop(refused(&["-m", "64m", "--memory-reservation", "65m"]).says("--memory-reservation"));
    let less = ["-m", "64m", "--memory-swap", "32m"];
    drop(refused(&less).says("--memory-swap is memory and swap together"));
}

#[test]
fn a_limit_without_its_controller_is_refused_by_its_name() {
    let private = PrivateHost::new();
    let sandbox = Sandbox::on(private.host(), "controller");
    sandbox.import_tiny();
    for (controller, flags) in [
        ("pids", ["--pids-limit", "10"]),
        ("cpuset", ["--cpuset-cpus", "0"]),
        ("memory", ["--memory", "64m"]),
        ("cpu", ["--cpus", "1"]),
    ] {
        let run = |flags: &[&str]| run(&sandbox, flags, &["echo", "it", "runs"]).run();
        drop(run(&flags).ok());
        hide_controller(&private, controller);
        let refused: Output = run(&flags).code(125);
        drop(refused.says(&format!(
            "this host has no `{controller}` cgroup controller"
        )));
        assert_eq!(run(&[]).ok().line(), "it runs");
    }
}

/// Makes the private host one without this controller: v1's hierarchy is not mounted, v2 does not
/// name it.
#[track_caller]
fn hide_controller(private: &PrivateHost, controller: &str) {
    let hierarchy = format!("/sys/fs/cgroup/{controller}");
    let all = "/sys/fs/cgroup/cgroup.controllers";
    if Path::new(&hierarchy).exists() {
        private.host().command("umount").arg(hierarchy).run().ok();
    } else {
        let others = private.host().read(all).replace(controller, "");
        assert!(Host::REAL.read(all).contains(controller), "{controller}");
        private.replace_file(all, &others);
    }
}
