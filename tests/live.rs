//! What acts on a container that runs: signals, freezing, limits, names.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::detached::until;
use crate::harness::{Cmd, Running, Sandbox};

/// A container that says a signal's name for each of these and ends after the last.
#[track_caller]
fn trapping(sandbox: &Sandbox, name: &str, signals: &[&str]) -> Running {
    let run = sandbox.run(["--name", name, "tiny", "probe", "trap"]);
    let running = run.args(signals).spawn();
    running.wait_for("ready");
    running
}

/// Whether a child of ours has not ended.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, fields)| &fields[..1]);
    state.is_some_and(|state| !"ZX".contains(state))
}

/// The directories of a container's cgroups.
fn cgroups(sandbox: &Sandbox, name: &str) -> Vec<PathBuf> {
    let shown = sandbox.mybox(["inspect", name]).run().ok().stdout();
    let documents: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let paths = documents[0]["cgroups"].as_array().expect("cgroups");
    let paths = paths.iter().filter_map(|path| path.as_str());
    paths.map(PathBuf::from).collect()
}

#[test]
fn kill_sends_signals_by_name_and_by_number() {
    let sandbox = Sandbox::tiny("kill");
    let running = trapping(&sandbox, "target", &["HUP", "USR1", "INT", "TERM"]);
    for (signal, said) in [
        ("HUP", "SIGHUP"),
        ("SIGUSR1", "SIGUSR1"),
        ("2", "SIGINT"),
        ("sigterm", "SIGTERM"),
    ] {
        let kill = sandbox.mybox(["kill", "-s", signal, "target"]).run().ok();
        assert_eq!(kill.stdout(), "target\n");
        running.wait_for(said);
    }
    drop(running.wait().ok());
    drop(
        sandbox
            .mybox(["kill", "--signal", "NOPE", "target"])
            .run()
            .code(2)
            .says("`NOPE` is no signal"),
    );
}

#[test]
fn kill_ends_what_ignores_everything_else_and_reports_each() {
    let sandbox = Sandbox::tiny("kill9");
    let run = sandbox.mybox(["run", "--network", "none", "--name", "deaf", "tiny"]);
    let running = run.args(["probe", "trap", "USR1"]).spawn();
    running.wait_for("ready");
    // Dropped by the kernel: pid 1 has no handler.
    drop(sandbox.mybox(["kill", "-s", "TERM", "deaf"]).run().ok());
    let both = sandbox.mybox(["kill", "nobody", "deaf"]).run().code(1);
    assert_eq!(both.stdout(), "deaf\n");
    drop(both.says("no such container: nobody"));
    drop(running.wait().code(137));
    let again = sandbox.mybox(["kill", "deaf"]).run().code(1);
    drop(again.says("container deaf is not running"));
    // The record says so by the time kill has returned.
    drop(sandbox.mybox(["rm", "deaf"]).run().ok());
}

#[test]
fn a_paused_container_does_nothing_until_it_is_unpaused() {
    let sandbox = Sandbox::tiny("pause");
    let running = trapping(&sandbox, "frozen", &["USR1", "TERM"]);
    drop(
        sandbox
            .mybox(["unpause", "frozen"])
            .run()
            .code(1)
            .says("container frozen is not paused"),
    );
    assert_eq!(
        sandbox.mybox(["pause", "frozen"]).run().ok().stdout(),
        "frozen\n"
    );
    drop(
        sandbox
            .mybox(["pause", "frozen"])
            .run()
            .code(1)
            .says("container frozen is already paused"),
    );
    let start = sandbox.mybox(["start", "frozen"]).run().code(1);
    drop(start.says("container frozen is paused"));
    let list = sandbox.mybox(["ps"]).run().ok().stdout();
    assert!(list.contains("(Paused)"), "{list}");
    drop(sandbox.mybox(["kill", "-s", "USR1", "frozen"]).run().ok());
    // The signal stays where it is until the process goes on to take it.
    let process = sandbox.container_pid();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    assert_eq!(pending.map(str::trim), Some("0000000000000200"));
    drop(sandbox.mybox(["unpause", "frozen"]).run().ok());
    running.wait_for("SIGUSR1");
    drop(sandbox.mybox(["kill", "-s", "TERM", "frozen"]).run().ok());
    drop(running.wait().ok());
}

#[test]
fn a_paused_container_can_be_killed_and_its_supervisor_too() {
    let sandbox = Sandbox::tiny("pausekill");
    let running = trapping(&sandbox, "one", &["TERM"]);
    drop(sandbox.mybox(["pause", "one"]).run().ok());
    drop(sandbox.mybox(["kill", "one"]).run().ok());
    drop(running.wait().code(137));
    sandbox.assert_nothing_runs();
    let running = trapping(&sandbox, "two", &["TERM"]);
    let groups = cgroups(&sandbox, "two");
    drop(sandbox.mybox(["pause", "two"]).run().ok());
    let supervisor = running.pid();
    running.signal(Signal::KILL);
    // On v1 what is frozen has SIGKILL before it, and holds its output open until it is thawed.
    while is_alive(supervisor) {
        std::thread::yield_now();
    }
    drop(sandbox.mybox(["ps", "-a"]).run().ok());
    drop(running.wait());
    sandbox.assert_nothing_runs();
    assert!(!groups.is_empty() && groups.iter().all(|path| !path.exists()));
}

#[test]
fn top_shows_the_processes_as_the_host_numbers_them() {
    let sandbox = Sandbox::tiny("top");
    let running = trapping(&sandbox, "busy", &["TERM"]);
    let exec = sandbox
        .mybox(["exec", "busy", "probe", "trap", "USR1"])
        .spawn();
    exec.wait_for("ready");
    let pid = sandbox.container_pid().to_string();
    let shown = sandbox.mybox(["top", "busy"]).run().ok().stdout();
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|it| it.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    );
    assert_eq!(lines.len(), 3, "{shown}");
    let first = lines.iter().find(|line| line[1] == pid).expect("pid 1");
    assert_eq!((first[0], first[5], first[6]), ("root", "?", "00:00:00"));
    assert_eq!(first[7..], ["probe", "trap", "TERM"]);
    let json = sandbox
        .mybox(["top", "--json", "busy", "-o", "pid,cmd"])
        .run()
        .ok();
    let rows = json.stdout_json();
    let rows = rows.as_array().expect("rows");
    assert!(
        rows.contains(&serde_json::json!({"pid": pid, "cmd": "probe trap TERM"})),
        "{rows:?}"
    );
    let named = sandbox.mybox(["top", "busy", "-o", "user,uid"]).run().ok();
    let heading: Vec<String> = named.stdout().lines().take(2).map(Into::into).collect();
    assert_eq!(heading, ["USER   UID", "root   0"]);
    let refused = sandbox.mybox(["top", "busy", "aux"]).run().code(1);
    drop(refused.says("`aux` are not built yet"));
    exec.signal(Signal::USR1);
    drop(exec.wait().ok());
    running.signal(Signal::TERM);
    drop(running.wait().ok());
}

#[test]
fn stats_shows_what_is_used() {
    let sandbox = Sandbox::tiny("stats");
    let run = sandbox.run(["--name", "burner", "-m", "64m", "tiny", "probe"]);
    let running = run.args(["burn-cpu", "60"]).spawn();
    while !sandbox
        .mybox(["exec", "burner", "true"])
        .run()
        .stderr()
        .is_empty()
    {
        std::thread::yield_now();
    }
    let json = sandbox.mybox(["stats", "--no-stream", "--json"]).run().ok();
    let row = json.stdout_json();
    assert_eq!(row["name"], "burner");
    assert_eq!(row["memoryLimit"], 64 << 20);
    assert!(row["cpuPercent"].as_f64().expect("a number") > 1.0, "{row}");
    assert!(row["memory"].as_u64().expect("a number") > 0, "{row}");
    assert!(row["pids"].as_u64().expect("a number") >= 1, "{row}");
    let table = sandbox
        .mybox(["stats", "--no-stream", "burner"])
        .run()
        .ok()
        .stdout();
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("CONTAINER ID   NAME     CPU %"),
        "{table}"
    );
    assert!(
        lines[1].contains("burner") && lines[1].contains(" / 64MiB"),
        "{table}"
    );
    drop(sandbox.mybox(["kill", "burner"]).run().ok());
    drop(running.wait().code(137));
}

#[test]
fn stats_ends_when_nobody_reads_it() {
    let sandbox = Sandbox::tiny("statsend");
    let running = trapping(&sandbox, "idle", &["TERM"]);
    // The first line, and then head goes.
    let command = format!("'{}' stats --json | head -n 1", env!("CARGO_BIN_EXE_mybox"));
    let shell = Cmd::new("sh").args(["-c", &command]);
    let shell = shell
        .env("MYBOX_ROOT", sandbox.root())
        .env("MYBOX_RUN_ROOT", sandbox.run_root())
        .env("MYBOX_BRIDGE", sandbox.bridge());
    let said = shell.run().ok().stdout();
    assert!(said.contains("\"name\":\"idle\""), "{said}");
    running.signal(Signal::TERM);
    drop(running.wait().ok());
}

/// A file of one of a container's cgroups, as the host sees it.
#[track_caller]
fn limit(groups: &[PathBuf], names: [&str; 2]) -> String {
    let files = groups
        .iter()
        .flat_map(|group| names.map(|name| group.join(name)));
    let text = files.map(std::fs::read_to_string).find_map(Result::ok);
    text.expect("a limit").trim().to_owned()
}

#[test]
fn update_changes_the_limits_of_a_container_that_runs() {
    let sandbox = Sandbox::tiny("update");
    let run = sandbox.run(["--name", "grown", "-m", "64m", "--pids-limit", "20", "tiny"]);
    let running = run.args(["probe", "trap", "TERM"]).spawn();
    running.wait_for("ready");
    let groups = cgroups(&sandbox, "grown");
    let update = |flags: &[&str]| sandbox.mybox(["update"]).args(flags).arg("grown").run();
    // Up beyond memory plus swap, down, and up again.
    for (size, bytes) in [
        ("256m", "268435456"),
        ("32m", "33554432"),
        ("1g", "1073741824"),
    ] {
        assert_eq!(update(&["--memory", size]).ok().stdout(), "grown\n");
        assert_eq!(
            limit(&groups, ["memory.limit_in_bytes", "memory.max"]),
            bytes
        );
    }
    drop(update(&["--pids-limit", "33", "--cpu-shares", "512"]).ok());
    assert_eq!(limit(&groups, ["pids.max"; 2]), "33");
    assert_eq!(limit(&groups, ["cpu.shares", "cpu.weight"]).len(), 3);
    drop(update(&["--pids-limit", "-1"]).ok());
    assert_eq!(limit(&groups, ["pids.max"; 2]), "max");
    let cpu = || {
        let v1 =
            ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|file| limit(&groups, [file, "cpu.max"]));
        if v1[0] == v1[1] {
            v1[0].clone()
        } else {
            v1.join(" ").replace("-1 ", "max ")
        }
    };
    for (flags, quota) in [
        (&["--cpu-quota", "20000"][..], "20000 100000"),
        (&["--cpu-period", "50000"], "20000 50000"),
        (&["--cpu-quota", "30000"], "30000 50000"),
        (&["--cpu-quota", "-1"], "max 50000"),
    ] {
        drop(update(flags).ok());
        assert_eq!(cpu(), quota, "{flags:?}");
    }
    // It was started without a cpuset; whoever comes later is in it, too.
    let allowed = |pid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
        line.expect("a list").to_owned()
    };
    drop(
        update(&["--cpuset-cpus", "900"])
            .code(1)
            .says("cpuset.cpus to 900"),
    );
    for _ in 0..2 {
        drop(update(&["--cpuset-cpus", "0", "--cpuset-mems", "0"]).ok());
        assert_eq!(allowed(&sandbox.container_pid().to_string()), "0");
    }
    let exec = sandbox.mybox(["exec", "grown", "probe", "read", "/proc/self/status"]);
    let status = exec.run().ok().stdout();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    let groups = cgroups(&sandbox, "grown");
    assert_eq!(limit(&groups, ["cpuset.cpus"; 2]), "0");
    drop(update(&["--memory", "1m"]).code(1).says("at least 6m"));
    drop(update(&[]).code(1).says("nothing to change"));
    drop(
        update(&["--restart", "never"])
            .code(2)
            .says("`never` is none of"),
    );
    drop(update(&["--restart", "always"]).code(1).says("--rm"));
    running.signal(Signal::TERM);
    drop(running.wait().ok());
    assert!(groups.iter().all(|group| !group.exists()));
}

#[test]
fn memory_is_not_limited_below_what_is_used() {
    let sandbox = Sandbox::tiny("updateless");
    let run = sandbox.run(["--name", "full", "-m", "256m", "tiny", "probe"]);
    let running = run.args(["eat-memory", "64", "hold"]).spawn();
    running.wait_for("holding");
    let groups = cgroups(&sandbox, "full");
    let update = sandbox.mybox(["update", "--memory", "16m", "full"]).run();
    drop(update.code(1).says("the container uses"));
    assert_eq!(
        limit(&groups, ["memory.limit_in_bytes", "memory.max"]),
        "268435456"
    );
    drop(sandbox.mybox(["kill", "full"]).run().ok());
    drop(running.wait().code(137));
}

#[test]
fn a_renamed_container_goes_by_its_new_name_alone() {
    let sandbox = Sandbox::tiny("rename");
    let running = trapping(&sandbox, "before", &["TERM"]);
    let other = trapping(&sandbox, "other", &["TERM"]);
    let rename = |from: &str, to: &str| sandbox.mybox(["rename", from, to]).run();
    drop(
        rename("before", "other")
            .code(1)
            .says("the name `other` is taken"),
    );
    drop(
        rename("before", "a/b")
            .code(1)
            .says("`a/b` is no container name"),
    );
    drop(
        rename("before", "before")
            .code(1)
            .says("has that name already"),
    );
    drop(rename("before", "after").ok());
    drop(rename("before", "again").code(1).says("no such container"));
    drop(sandbox.mybox(["exec", "after", "true"]).run().ok());
    let names = sandbox.root().join("containers/names");
    let mut links: Vec<_> = std::fs::read_dir(&names)
        .expect("names")
        .map(|entry| entry.expect("a name").file_name())
        .collect();
    links.sort();
    assert_eq!(links, ["after", "other"]);
    for running in [running, other] {
        running.signal(Signal::TERM);
        drop(running.wait().ok());
    }
    assert_eq!(std::fs::read_dir(&names).expect("names").count(), 0);
}

#[test]
fn wait_prints_exit_codes_when_containers_have_ended() {
    let sandbox = Sandbox::tiny("wait");
    let run = |name: &str| sandbox.mybox(["run", "--network", "none", "--name", name, "tiny"]);
    drop(run("early").args(["probe", "exit", "3"]).run().code(3));
    let late = run("late").args(["probe", "trap", "TERM"]).spawn();
    late.wait_for("ready");
    let wait = sandbox.mybox(["wait", "early", "late", "nobody"]).spawn();
    wait.wait_for("3\n");
    drop(sandbox.mybox(["kill", "-s", "KILL", "late"]).run().ok());
    drop(late.wait().code(137));
    let waited = wait.wait().code(1);
    assert_eq!(waited.stdout(), "3\n137\n");
    drop(waited.says("no such container: nobody"));
    drop(sandbox.mybox(["rm", "early", "late"]).run().ok());
}

#[test]
fn wait_prints_the_exit_code_of_a_container_that_is_removed_when_it_ends() {
    let sandbox = Sandbox::tiny("wait-rm");
    for (signal, code) in [("TERM", "0\n"), ("KILL", "137\n")] {
        let gone = trapping(&sandbox, "gone", &["TERM"]);
        let wait = sandbox.mybox(["wait", "gone"]).spawn();
        until("wait has the container's process", || has_pidfd(wait.pid()));
        drop(sandbox.mybox(["kill", "-s", signal, "gone"]).run().ok());
        drop(gone.wait());
        assert_eq!(wait.wait().ok().stdout(), code);
    }
}

/// Whether a process of ours has a descriptor for some process.
fn has_pidfd(pid: u32) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let mut descriptors = descriptors.expect("its descriptors").flatten();
    descriptors.any(|it| {
        let target = std::fs::read_link(it.path()).unwrap_or_default();
        target.to_string_lossy().contains("pidfd")
    })
}
