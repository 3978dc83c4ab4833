//! Containers that run on without the command that started them: their logs, their end, and what
//! becomes of them when something dies.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::harness::{Cmd, Running, Sandbox, Terminal};

/// How long something that is sure to come may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[track_caller]
fn detached(sandbox: &Sandbox, name: &str, flags: &[&str], command: &[&str]) -> String {
    let run = background(sandbox).args(["--name", name]).args(flags);
    let run = run.args(["tiny", "probe"]).args(command).run().ok();
    run.line()
}

fn background(sandbox: &Sandbox) -> Cmd {
    sandbox.mybox(["run", "-d", "--network", "none"])
}

/// What `ps -a` knows of a container; `None` if there is none of this name.
#[track_caller]
pub(crate) fn known(sandbox: &Sandbox, name: &str) -> Option<Value> {
    let rows = sandbox.mybox(["ps", "-a", "--json"]).run().ok();
    let rows = rows.stdout_json();
    let rows = rows.as_array().expect("an array");
    rows.iter().find(|row| row["name"] == name).cloned()
}

#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn until_state(sandbox: &Sandbox, name: &str, state: &str) {
    until(state, || {
        known(sandbox, name).is_some_and(|row| row["state"] == state)
    });
}

#[track_caller]
pub(crate) fn remove(sandbox: &Sandbox, name: &str) {
    drop(sandbox.mybox(["rm", "-f", name]).run().ok());
}

/// The monitor of the one container that runs.
pub(crate) fn monitor(sandbox: &Sandbox) -> Pid {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sandbox.container_pid()));
    let stat = stat.expect("its first process");
    let (_, fields) = stat.rsplit_once(") ").expect("a stat line");
    let parent = fields.split(' ').nth(1).and_then(|word| word.parse().ok());
    Pid::from_raw(parent.expect("its parent")).expect("a pid")
}

#[test]
fn run_d_prints_the_id_and_leaves_a_container_that_runs() {
    let sandbox = Sandbox::tiny("detach");
    let id = detached(&sandbox, "web", &[], &["say", "out:up", "sleep:600"]);
    assert_eq!(id.len(), 64);
    let row = known(&sandbox, "web").expect("a row");
    assert_eq!((&row["state"], &row["id"]), (&"running".into(), &id.into()));
    let of_monitor = format!("/proc/{}/cwd", monitor(&sandbox).as_raw_nonzero());
    let at = std::fs::read_link(of_monitor).expect("its directory");
    assert_eq!(
        at.to_str(),
        Some("/"),
        "no file system of the caller's is kept"
    );
    until("its word", || {
        sandbox.mybox(["logs", "web"]).run().ok().stdout() == "up\n"
    });
    let refused = sandbox.mybox(["rm", "web"]).run().code(1);
    drop(refused.says("stop it, or use rm --force"));
    drop(sandbox.mybox(["stop", "-t", "0", "web"]).run().ok());
    let row = known(&sandbox, "web").expect("a row");
    assert_eq!(
        (&row["state"], &row["ending"]["code"]),
        (&"exited".into(), &137.into())
    );
    sandbox.assert_nothing_runs();
    remove(&sandbox, "web");
    assert!(known(&sandbox, "web").is_none());
}

/// Its monitor, which waits to start it again, changes its record too.
#[test]
fn a_container_can_be_renamed_and_updated_between_two_tries() {
    let sandbox = Sandbox::tiny("backoff");
    let flags = ["--restart", "always"];
    detached(&sandbox, "before", &flags, &["exit", "1"]);
    until("a long pause", || {
        known(&sandbox, "before").is_some_and(|row| row["restartCount"].as_u64() > Some(3))
    });
    drop(sandbox.mybox(["rename", "before", "after"]).run().ok());
    let update = sandbox.mybox(["update", "--restart", "no", "after"]);
    drop(update.run().ok());
    until_state(&sandbox, "after", "exited");
    let row = known(&sandbox, "after").expect("a row");
    assert_eq!(
        (&row["name"], &row["restart"]),
        (&"after".into(), &"no".into())
    );
    assert!(known(&sandbox, "before").is_none());
    remove(&sandbox, "after");
    sandbox.assert_nothing_runs();
}

#[test]
fn what_is_not_there_is_removed_by_force_and_what_does_not_run_is_not_waited_for() {
    let sandbox = Sandbox::tiny("absent");
    let create = sandbox.mybox(["create", "--network", "none", "--name", "idle", "tiny"]);
    drop(create.arg("true").run().ok());
    assert_eq!(sandbox.mybox(["wait", "idle"]).run().ok().line(), "0");
    drop(sandbox.mybox(["rm", "nobody"]).run().code(1));
    let forced = sandbox.mybox(["rm", "-f", "nobody", "idle"]).run().ok();
    assert_eq!(forced.line(), "idle");
    drop(forced.says("no such container: nobody"));
    // Nothing has kept what it wrote, which is said.
    let run = sandbox.mybox(["run", "--network", "none", "--name", "fore", "tiny"]);
    drop(run.args(["echo", "x"]).run().ok());
    let logs = sandbox.mybox(["logs", "fore"]).run().ok();
    drop(logs.says("given to whoever ran it"));
    remove(&sandbox, "fore");
}

#[test]
fn what_goes_when_it_ends_runs_on_after_a_restart() {
    let sandbox = Sandbox::tiny("rm-restart");
    let id = detached(&sandbox, "web", &["--rm"], &["sleep", "600"]);
    for _ in 0..2 {
        let before = sandbox.container_pid();
        drop(sandbox.mybox(["restart", "-t", "0", "web"]).run().ok());
        let row = known(&sandbox, "web").expect("a row");
        assert_eq!(
            (&row["state"], &row["id"]),
            (&"running".into(), &id.clone().into())
        );
        assert_ne!(sandbox.container_pid(), before);
    }
    drop(sandbox.mybox(["stop", "-t", "0", "web"]).run().ok());
    until("its removal", || known(&sandbox, "web").is_none());
    sandbox.assert_nothing_runs();
}

#[test]
fn whoever_looks_at_what_is_just_removed_leaves_nothing_of_it() {
    let sandbox = Sandbox::tiny("removed");
    for round in 0..12 {
        let name = format!("brief{round}");
        detached(&sandbox, &name, &["--rm"], &["exit", "3"]);
        // In time or too late.
        let _ = sandbox.mybox(["export", &name]).run();
        let _ = sandbox
            .mybox(["rename", &name, &format!("late{round}")])
            .run();
    }
    until("all are gone", || {
        let listed = sandbox.mybox(["ps", "-aq"]).run().ok().stdout();
        listed.is_empty()
    });
    for directory in ["containers", "containers/names"] {
        let left = std::fs::read_dir(sandbox.root().join(directory)).expect("a directory");
        let left: Vec<_> = left
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert!(
            left.iter().all(|name| name == "names"),
            "{directory}: {left:?}"
        );
    }
}

/// It may end between two looks of whoever ends it.
#[test]
fn a_container_that_is_just_ending_can_be_stopped_and_removed() {
    let sandbox = Sandbox::tiny("ending");
    for round in 0..15 {
        let name = format!("brief{round}");
        detached(&sandbox, &name, &[], &["say", "out:x"]);
        if round % 2 == 0 {
            drop(sandbox.mybox(["stop", &name]).run().ok());
        }
        remove(&sandbox, &name);
    }
    sandbox.assert_nothing_runs();
}

#[test]
fn a_command_that_cannot_be_executed_is_the_error_of_run_d() {
    let sandbox = Sandbox::tiny("detach-fail");
    let run = sandbox
        .run(["-d", "--name", "bad", "tiny", "no-such"])
        .run();
    drop(run.code(127).says("no-such"));
    assert!(known(&sandbox, "bad").is_none());
    let run = background(&sandbox).args(["tiny", "/etc"]).run();
    drop(run.code(126));
    sandbox.assert_nothing_runs();
}

#[test]
fn streams_are_kept_apart_and_in_order() {
    let sandbox = Sandbox::tiny("streams");
    let steps = [
        "say",
        "out:one",
        "sleep:0.1",
        "err:two",
        "sleep:0.1",
        "out:three",
    ];
    detached(&sandbox, "both", &[], &steps);
    until_state(&sandbox, "both", "exited");
    let logs = sandbox.mybox(["logs", "both"]).run().ok();
    assert_eq!(logs.stdout(), "one\nthree\n");
    assert_eq!(logs.stderr(), "two\n");
    let last = sandbox.mybox(["logs", "-n", "1", "-t", "both"]).run().ok();
    let line = last.line();
    let (time, text) = line.split_once(' ').expect("a time");
    assert_eq!(
        (text, time.len(), &time[10..11]),
        ("three", 30, "T"),
        "{line}"
    );
    let none = sandbox.mybox(["logs", "--since", "2099-01-01T00:00:00Z", "both"]);
    assert_eq!(none.run().ok().stdout(), "");
    remove(&sandbox, "both");
}

#[test]
fn details_of_a_log_are_the_labels_and_variables_that_were_named() {
    let sandbox = Sandbox::tiny("details");
    let flags = [
        ["--label", "tier=back end"],
        ["--label", "other=x"],
        ["-e", "ZONE=a,b"],
        ["--log-opt", "labels=tier,absent"],
        ["--log-opt", "env=ZONE"],
    ];
    let words = ["say", "out:one", "err:two", "out:three"];
    detached(&sandbox, "named", flags.as_flattened(), &words);
    drop(sandbox.mybox(["wait", "named"]).run().ok());
    let logs = |flags: &[&str]| sandbox.mybox(["logs"]).args(flags).arg("named").run().ok();
    let logged = logs(&["--details"]);
    let before = "ZONE=a%2Cb,tier=back+end";
    assert_eq!(logged.stdout(), format!("{before} one\n{before} three\n"));
    assert_eq!(logged.stderr(), format!("{before} two\n"));
    let stamped = logs(&["--details", "--timestamps"]).line();
    assert!(stamped.ends_with(&format!("Z {before} three")), "{stamped}");
    remove(&sandbox, "named");
    // Docker begins a line with a space where nothing was named.
    detached(&sandbox, "plain", &[], &["say", "out:one"]);
    drop(sandbox.mybox(["wait", "plain"]).run().ok());
    let plain = sandbox.mybox(["logs", "--details", "plain"]).run().ok();
    assert_eq!(plain.stdout(), " one\n");
    remove(&sandbox, "plain");
}

#[test]
fn logs_are_followed_to_the_end() {
    let sandbox = Sandbox::tiny("follow");
    detached(
        &sandbox,
        "talker",
        &[],
        &["say", "out:first", "sleep:0.7", "out:last"],
    );
    let follow = sandbox.mybox(["logs", "-f", "talker"]).spawn();
    follow.wait_for("first");
    assert_eq!(follow.wait().ok().stdout(), "first\nlast\n");
    remove(&sandbox, "talker");
}

/// More than is kept: what is followed is whole, what is kept is the end.
#[test]
fn nothing_of_a_flood_is_lost() {
    const LINES: u64 = 200_000;
    let sandbox = Sandbox::tiny("flood");
    detached(&sandbox, "flood", &[], &["lines", &LINES.to_string()]);
    until_state(&sandbox, "flood", "exited");
    let logs = sandbox.mybox(["logs", "flood"]).run().ok().stdout();
    let numbers: Vec<u64> = logs
        .lines()
        .map(|line| {
            line.split(' ')
                .nth(1)
                .expect("a number")
                .parse()
                .expect("a number")
        })
        .collect();
    assert_eq!(numbers.len() as u64, LINES);
    assert!(numbers.iter().copied().eq(0..LINES));
    let tail = sandbox.mybox(["logs", "--tail", "2", "flood"]).run().ok();
    assert_eq!(tail.stdout().lines().count(), 2);
    remove(&sandbox, "flood");
}

#[test]
fn a_container_is_created_started_and_started_again_with_what_it_changed() {
    let sandbox = Sandbox::tiny("again");
    let create = sandbox.mybox([
        "create",
        "--name",
        "kept",
        "tiny",
        "probe",
        "say",
        "out:hello",
    ]);
    let id = create.run().ok().line();
    assert_eq!(known(&sandbox, "kept").expect("a row")["state"], "created");
    let config = sandbox
        .root()
        .join("containers")
        .join(&id)
        .join("config.json");
    let read_meanwhile = std::fs::File::open(config).expect("a runtime spec");
    for _ in 0..2 {
        assert_eq!(
            sandbox.mybox(["start", &id[..12]]).run().ok().line(),
            id[..12]
        );
        until_state(&sandbox, "kept", "exited");
    }
    let logs = sandbox.mybox(["logs", "kept"]).run().ok();
    assert_eq!(logs.stdout(), "hello\nhello\n");
    let links = read_meanwhile.metadata().expect("its status").nlink();
    assert_eq!(
        links, 0,
        "each start writes another file, and who reads one has all of it"
    );
    remove(&sandbox, "kept");

    // The kernel takes a namespace down in its own time: the link of the last run may be there still.
    let create = sandbox.mybox(["create", "--name", "soon", "tiny", "true"]);
    let id = create.run().ok().line();
    let veth = format!("veth{}", &id[..10]);
    let made = Cmd::new("ip").args(["link", "add", &veth, "type", "bridge"]);
    drop(made.run().ok());
    drop(sandbox.mybox(["start", "soon"]).run().ok());
    until_state(&sandbox, "soon", "exited");
    remove(&sandbox, "soon");

    let write = sandbox.mybox([
        "run",
        "--network",
        "none",
        "--name",
        "writer",
        "tiny",
        "probe",
        "write",
        "/kept",
        "by the first",
    ]);
    drop(write.run().ok());
    drop(sandbox.mybox(["start", "writer"]).run().ok());
    until_state(&sandbox, "writer", "exited");
    remove(&sandbox, "writer");
}

#[test]
fn stop_asks_with_the_containers_own_signal() {
    let sandbox = Sandbox::tiny("stop-signal");
    detached(
        &sandbox,
        "polite",
        &["--stop-signal", "USR1", "--stop-timeout", "-1"],
        &["trap", "USR1"],
    );
    let timeout = ["inspect", "-f", "{{.Config.StopTimeout}}", "polite"];
    assert_eq!(sandbox.mybox(timeout).run().ok().stdout(), "-1\n");
    until("its handler", || {
        let logs = sandbox.mybox(["logs", "polite"]).run().ok().stdout();
        logs.contains("ready")
    });
    drop(sandbox.mybox(["stop", "polite"]).run().ok());
    let row = known(&sandbox, "polite").expect("a row");
    assert_eq!(row["ending"]["code"], 0);
    let logs = sandbox.mybox(["logs", "polite"]).run().ok().stdout();
    assert!(logs.contains("SIGUSR1"), "{logs}");
    remove(&sandbox, "polite");
}

#[test]
fn a_container_that_fails_is_started_again_as_often_as_its_policy_says() {
    let sandbox = Sandbox::tiny("restart");
    let policy = ["--restart", "on-failure:2"];
    detached(&sandbox, "flaky", &policy, &["say", "out:try", "exit:3"]);
    until_state(&sandbox, "flaky", "exited");
    let logs = sandbox.mybox(["logs", "flaky"]).run().ok();
    assert_eq!(logs.stdout(), "try\ntry\ntry\n");
    let row = known(&sandbox, "flaky").expect("a row");
    assert_eq!(
        (&row["ending"]["code"], &row["restartCount"]),
        (&3.into(), &2.into())
    );
    // Somebody who starts it gives it all its tries again.
    drop(sandbox.mybox(["start", "flaky"]).run().ok());
    until("all tries", || {
        let logs = sandbox.mybox(["logs", "flaky"]).run().ok().stdout();
        logs == "try\n".repeat(6)
    });
    until_state(&sandbox, "flaky", "exited");
    assert_eq!(known(&sandbox, "flaky").expect("a row")["restartCount"], 2);
    remove(&sandbox, "flaky");
    sandbox.assert_nothing_runs();
}

#[test]
fn what_is_stopped_stays_stopped_whatever_its_policy() {
    let sandbox = Sandbox::tiny("stay-stopped");
    detached(
        &sandbox,
        "always",
        &["--restart", "always"],
        &["say", "out:up", "sleep:0.05"],
    );
    until("a second run", || {
        let logs = sandbox.mybox(["logs", "always"]).run().ok().stdout();
        logs.lines().count() > 1
    });
    drop(sandbox.mybox(["stop", "always"]).run().ok());
    let row = known(&sandbox, "always").expect("a row");
    assert_eq!(
        (&row["state"], &row["stopped"]),
        (&"exited".into(), &true.into())
    );
    sandbox.assert_nothing_runs();
    remove(&sandbox, "always");
}

#[test]
fn a_kill_with_the_stop_signal_keeps_it_down_and_another_signal_does_not() {
    let sandbox = Sandbox::tiny("kill-restart");
    let ready = |name: &str, times: usize| {
        until("its handlers", || {
            let logs = sandbox.mybox(["logs", name]).run().ok().stdout();
            logs.matches("ready").count() == times
        });
    };
    let always = ["--restart", "always"];
    detached(&sandbox, "down", &always, &["trap", "TERM"]);
    ready("down", 1);
    drop(sandbox.mybox(["kill", "-s", "TERM", "down"]).run().ok());
    until_state(&sandbox, "down", "exited");
    let row = known(&sandbox, "down").expect("a row");
    assert_eq!(
        (&row["stopped"], &row["restartCount"]),
        (&true.into(), &0.into())
    );
    remove(&sandbox, "down");

    detached(&sandbox, "back", &always, &["trap", "TERM", "USR1"]);
    ready("back", 1);
    drop(sandbox.mybox(["kill", "-s", "USR1", "back"]).run().ok());
    ready("back", 2);
    remove(&sandbox, "back");
}

#[test]
fn a_log_is_as_large_as_its_options_say() {
    let sandbox = Sandbox::tiny("log-opt");
    let few = ["--log-opt", "max-size=10k", "--log-opt", "max-file=2"];
    let id = detached(&sandbox, "small", &few, &["lines", "5000"]);
    until_state(&sandbox, "small", "exited");
    let logs = sandbox.root().join("containers").join(id).join("logs");
    let files = std::fs::read_dir(logs).expect("its log");
    let sizes: Vec<u64> = files
        .map(|file| file.expect("a file").metadata().expect("metadata").len())
        .collect();
    assert!(
        sizes.len() == 2 && sizes.iter().all(|size| *size <= 10_000),
        "{sizes:?}"
    );
    let tail = sandbox.mybox(["logs", "-n", "1", "small"]).run().ok();
    assert!(tail.line().contains("000000004999"));
    // A start goes by what was asked for.
    drop(sandbox.mybox(["start", "small"]).run().ok());
    remove(&sandbox, "small");
    let refused = |flags: [&str; 2], text| {
        let run = background(&sandbox)
            .args(flags)
            .args(["tiny", "true"])
            .run();
        drop(run.code(125).says(text));
    };
    refused(["--log-driver", "syslog"], "not built yet");
    let none = ["--log-driver=none", "--log-opt=max-file=2"];
    refused(none, "--log-opt does not go with --log-driver none");
    refused(["--log-opt", "compress=true"], "max-size=SIZE, max-file");
}

#[test]
fn a_monitor_that_is_killed_takes_its_container_along_and_start_all_brings_it_back() {
    let sandbox = Sandbox::tiny("killed");
    detached(
        &sandbox,
        "victim",
        &["--restart", "always"],
        &["sleep", "600"],
    );
    rustix::process::kill_process(monitor(&sandbox), Signal::KILL).expect("kill the monitor");
    until("its end", || {
        known(&sandbox, "victim").is_some_and(|row| row["ending"]["code"] == 137)
    });
    sandbox.assert_nothing_runs();
    assert_eq!(
        sandbox.mybox(["start", "--all"]).run().ok().line(),
        "victim"
    );
    assert_eq!(
        known(&sandbox, "victim").expect("a row")["state"],
        "running"
    );
    remove(&sandbox, "victim");
    sandbox.assert_nothing_runs();
}

#[test]
fn a_container_stays_whose_monitor_is_killed_before_it_starts_it_again() {
    let sandbox = Sandbox::tiny("paused");
    let command = ["say", "sleep:0.5", "exit:3"];
    detached(
        &sandbox,
        "web",
        &["--restart", "always", "-v", "/data"],
        &command,
    );
    let monitor = monitor(&sandbox);
    until_state(&sandbox, "web", "restarting");
    rustix::process::kill_process(monitor, Signal::KILL).expect("kill the monitor");
    until_state(&sandbox, "web", "exited");
    let volumes = sandbox.mybox(["volume", "ls", "-q"]).run().ok().stdout();
    assert_eq!(volumes.lines().count(), 1);
    drop(sandbox.mybox(["rm", "-fv", "web"]).run().ok());
    sandbox.assert_nothing_runs();
}

#[test]
fn with_rm_nothing_is_left_at_the_end() {
    let sandbox = Sandbox::tiny("detach-rm");
    detached(&sandbox, "brief", &["--rm"], &["say", "out:x"]);
    until("its removal", || known(&sandbox, "brief").is_none());
    sandbox.assert_nothing_runs();
}

#[test]
fn a_cid_file_names_the_container_or_is_not_there() {
    let sandbox = Sandbox::tiny("cidfile");
    let file = sandbox.scratch().join("cid");
    let path = file.to_str().expect("UTF-8");
    let run = background(&sandbox)
        .args(["--cidfile", path, "tiny", "no-such"])
        .run();
    drop(run.code(127));
    assert!(!file.exists());
    let id = detached(&sandbox, "named", &["--cidfile", path], &["true"]);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), id);
    let again = background(&sandbox)
        .args(["--cidfile", path, "tiny", "probe", "true"])
        .run();
    drop(again.code(125).says("cid file"));
    remove(&sandbox, "named");
}

#[test]
fn many_start_at_once_and_all_are_stopped_and_removed() {
    const MANY: usize = 12;
    let sandbox = Sandbox::tiny("many-detached");
    let names: Vec<String> = (0..MANY).map(|number| format!("one-{number}")).collect();
    let starts: Vec<Running> = names
        .iter()
        .map(|name| {
            let run = sandbox.mybox(["run", "-d", "--name", name, "tiny", "probe", "sleep", "600"]);
            run.spawn()
        })
        .collect();
    for start in starts {
        drop(start.wait().ok());
    }
    let rows = sandbox.mybox(["ps", "--json"]).run().ok().stdout_json();
    let rows = rows.as_array().expect("an array").clone();
    let addresses: std::collections::BTreeSet<String> =
        rows.iter().map(|row| row["address"].to_string()).collect();
    assert_eq!((rows.len(), addresses.len()), (MANY, MANY));
    let stop = sandbox.mybox(["stop", "-t", "0"]).args(&names);
    assert_eq!(stop.run().ok().stdout().lines().count(), MANY);
    drop(sandbox.mybox(["rm"]).args(&names).run().ok());
    sandbox.assert_nothing_runs();
}

#[test]
fn what_a_terminal_shows_is_logged() {
    let sandbox = Sandbox::tiny("detach-tty");
    detached(&sandbox, "tty", &["-t"], &["say", "out:on a terminal"]);
    until_state(&sandbox, "tty", "exited");
    let logs = sandbox.mybox(["logs", "tty"]).run().ok();
    assert_eq!(logs.stdout(), "on a terminal\r\n");
    remove(&sandbox, "tty");
}

#[test]
fn what_is_typed_reaches_the_container_and_what_it_says_comes_back() {
    let sandbox = Sandbox::tiny("attach");
    let create = sandbox.mybox(["create", "-i", "--network", "none", "--name", "echo"]);
    drop(create.args(["tiny", "probe", "cat"]).run().ok());
    let start = sandbox
        .mybox(["start", "-ai", "echo"])
        .stdin("hello\n")
        .run();
    // The end of what is typed is the end of what it reads.
    assert_eq!(start.ok().stdout(), "hello\n");
    remove(&sandbox, "echo");

    detached(&sandbox, "stays", &["-i"], &["cat"]);
    let mut attached = sandbox.mybox(["attach", "stays"]).spawn();
    attached.send(
        b"typed
",
    );
    attached.wait_for("typed");
    drop(sandbox.mybox(["stop", "-t", "0", "stays"]).run().ok());
    drop(attached.wait().code(137));
    remove(&sandbox, "stays");
}

#[test]
fn start_attached_shows_all_and_ends_with_the_containers_code() {
    let sandbox = Sandbox::tiny("start-attached");
    let steps = [
        "tiny",
        "probe",
        "say",
        "out:one",
        "err:two",
        "sleep:0.2",
        "exit:4",
    ];
    let create = sandbox.mybox(["create", "--network", "none", "--name", "told"]);
    drop(create.args(steps).run().ok());
    for _ in 0..2 {
        let start = sandbox.mybox(["start", "-a", "told"]).run().code(4);
        assert_eq!(
            (start.stdout(), start.stderr()),
            ("one\n".into(), "two\n".into())
        );
    }
    remove(&sandbox, "told");
}

#[test]
fn the_detach_keys_leave_a_container_that_runs_on() {
    let sandbox = Sandbox::tiny("detach-keys");
    detached(&sandbox, "shell", &["-it"], &["cat"]);
    let attach = sandbox.mybox(["attach", "shell"]);
    let mut attached = Terminal::new(24, 80).spawn(attach);
    let untouched = Terminal::new(24, 80).settings();
    until("raw mode", || attached.terminal().settings() != untouched);
    attached.send("typed\n");
    attached.read_until("typed");
    attached.send("\x10\x11");
    let (code, _, _) = attached.wait();
    assert_eq!(code, 0);
    assert_eq!(known(&sandbox, "shell").expect("a row")["state"], "running");
    remove(&sandbox, "shell");
}

#[test]
fn a_container_without_a_log_has_none_to_show_and_can_be_attached_all_the_same() {
    let sandbox = Sandbox::tiny("log-none");
    let none = ["--log-driver", "none"];
    detached(&sandbox, "mute", &none, &["say", "out:first", "sleep:600"]);
    let flags = [&none[..], &["-i"]].concat();
    detached(&sandbox, "echo", &flags, &["cat"]);
    for name in ["mute", "echo"] {
        let logs = sandbox.mybox(["logs", name]).run().code(1);
        let says = format!("container {name} has no log: it was made with --log-driver none");
        drop(logs.says(&says));
        drop(sandbox.mybox(["logs", "-f", name]).run().code(1));
    }
    for driver in ["json-file", "k8s-file", "local"] {
        let flags = ["--log-driver", driver];
        detached(&sandbox, driver, &flags, &["say", "out:x"]);
        until("its word", || {
            sandbox.mybox(["logs", driver]).run().ok().stdout() == "x\n"
        });
        remove(&sandbox, driver);
    }
    let mut attached = sandbox.mybox(["attach", "echo"]).spawn();
    attached.send(b"typed\n");
    attached.wait_for("typed");
    remove(&sandbox, "mute");
    remove(&sandbox, "echo");
    drop(attached.wait().code(137));
}
