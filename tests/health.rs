//! Health checks: what they say is seen from outside, and what they are is seen from inside.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::detached::{known, monitor, remove, until};
use crate::harness::{Cmd, Rootfs, Sandbox};

/// An image with a shell, and with a check that fails until there is a file `/ok`.
fn with_check(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    let check = "HEALTHCHECK --interval=50ms --retries=2 CMD [ -e /ok ] || { echo bad; exit 1; }";
    sandbox.import_with("checked", Rootfs::tiny().busybox(), &[check]);
    sandbox
}

fn background(sandbox: &Sandbox, name: &str, flags: &[&str]) -> Cmd {
    let run = sandbox.mybox(["run", "-d", "--network", "none", "--name", name]);
    run.args(flags).arg("checked")
}

/// `health` of `mybox inspect`.
#[track_caller]
fn health(sandbox: &Sandbox, name: &str) -> Value {
    let inspect = sandbox.mybox(["inspect", name]).run().ok();
    inspect.stdout_json()[0]["health"].clone()
}

/// What `mybox ps` shows.
fn listing(sandbox: &Sandbox) -> String {
    sandbox.mybox(["ps"]).run().ok().stdout()
}

#[track_caller]
fn until_health(sandbox: &Sandbox, name: &str, status: &str) {
    until(status, || health(sandbox, name)["status"] == status);
}

#[track_caller]
fn last_probe(sandbox: &Sandbox, name: &str) -> Value {
    until("a check", || health(sandbox, name)["log"][0].is_object());
    let health = health(sandbox, name);
    let log = health["log"].as_array().expect("an array");
    log.last().expect("a check").clone()
}

#[test]
fn a_container_becomes_unhealthy_and_healthy_as_its_check_says() {
    let sandbox = with_check("health");
    let sleep = ["probe", "sleep", "600"];
    drop(background(&sandbox, "web", &[]).args(sleep).run().ok());
    until_health(&sandbox, "web", "unhealthy");
    let row = known(&sandbox, "web").expect("a row");
    assert_eq!(row["health"], "unhealthy");
    let told = health(&sandbox, "web");
    let last = told["log"].as_array().expect("an array").last().cloned();
    let last = last.expect("a check");
    assert_eq!(
        (&last["exitCode"], &last["output"]),
        (&1.into(), &"bad\n".into())
    );
    assert!(told["failingStreak"].as_u64().expect("a number") >= 2);
    assert!(listing(&sandbox).contains("(unhealthy)"));

    drop(sandbox.mybox(["exec", "web", "touch", "/ok"]).run().ok());
    until_health(&sandbox, "web", "healthy");
    assert_eq!(health(&sandbox, "web")["failingStreak"], 0);
    assert!(listing(&sandbox).contains("(healthy)"));
    let fits = |filter: &str| {
        let ps = sandbox.mybox(["ps", "-aq", "--filter", filter]).run().ok();
        ps.stdout().lines().count()
    };
    assert_eq!((fits("health=healthy"), fits("health=none")), (1, 0));
    let log_is_full = || health(&sandbox, "web")["log"][4].is_object();
    until("five checks", log_is_full);
    assert!(health(&sandbox, "web")["log"][5].is_null());

    drop(sandbox.mybox(["stop", "-t", "0", "web"]).run().ok());
    // Who does not run is not healthy.
    assert_eq!(fits("health=unhealthy"), 1);
    drop(sandbox.mybox(["start", "web"]).run().ok());
    until_health(&sandbox, "web", "healthy");
    let events = ["events", "--since", "0", "--until", "0s", "--json"];
    let told = sandbox
        .mybox(events)
        .args(["-f", "event=health_status"])
        .run();
    let told: Vec<String> = told
        .ok()
        .stdout()
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).expect("an event a line");
            event["action"].as_str().expect("an action").to_owned()
        })
        .collect();
    let [bad, good] = ["health_status: unhealthy", "health_status: healthy"];
    assert_eq!(told, [bad, good, good]);
    remove(&sandbox, "web");
}

#[test]
fn a_check_is_a_process_of_the_container_with_its_rights() {
    let sandbox = with_check("health-inside");
    let look = "echo A=$A; pwd; exec probe report";
    let flags = [
        "--health-cmd",
        look,
        "-e",
        "A=b",
        "-u",
        "alice",
        "-w",
        "/home",
        "--cap-drop",
        "CHOWN",
    ];
    let sleep = ["probe", "sleep", "600"];
    drop(background(&sandbox, "seen", &flags).args(sleep).run().ok());
    let probe = last_probe(&sandbox, "seen");
    assert_eq!(probe["exitCode"], 0);
    let output = probe["output"].as_str().expect("text");
    let (begin, report) = output.split_once("/home\n").expect("its directory");
    assert_eq!(begin, "A=b\n");
    let exec = sandbox.mybox(["exec", "seen", "probe", "report"]).run();
    let expected = exec.ok().stdout();
    for field in ["\"uid\":1000", "\"A\":\"b\""] {
        assert_eq!(report.contains(field), expected.contains(field), "{field}");
    }
    let status = "cat /proc/self/status; ls /proc/self/fd";
    let flags = ["--health-cmd", status, "--init"];
    drop(background(&sandbox, "plain", &flags).args(sleep).run().ok());
    let probe = last_probe(&sandbox, "plain");
    let output = probe["output"].as_str().expect("text");
    assert!(output.contains("SigBlk:\t0000000000000000"), "{output}");
    // The fourth is the directory that ls reads.
    assert!(output.ends_with("\n0\n1\n2\n3\n"), "{output}");
    remove(&sandbox, "plain");
    remove(&sandbox, "seen");
}

#[test]
fn a_check_that_takes_too_long_is_ended_and_a_long_output_is_cut() {
    let sandbox = with_check("health-late");
    let sleep = ["probe", "sleep", "600"];
    let slow = [
        "--health-cmd",
        "echo begun; exec probe sleep 300",
        "--health-timeout",
        "300ms",
        "--health-retries=1",
    ];
    drop(background(&sandbox, "slow", &slow).args(sleep).run().ok());
    until_health(&sandbox, "slow", "unhealthy");
    let probe = &health(&sandbox, "slow")["log"][0];
    assert_eq!(probe["exitCode"], -1);
    let output = probe["output"].as_str().expect("text");
    assert!(
        output.contains("timeout (300ms)") && output.contains("begun"),
        "{output}"
    );
    remove(&sandbox, "slow");

    let loud = ["--health-cmd", "probe lines 2000"];
    drop(background(&sandbox, "loud", &loud).args(sleep).run().ok());
    let probe = last_probe(&sandbox, "loud");
    let output = probe["output"].as_str().expect("text");
    assert_eq!((&probe["exitCode"], output.len()), (&0.into(), 4096));
    remove(&sandbox, "loud");

    let none = ["--health-cmd", "no-such-program"];
    drop(background(&sandbox, "none", &none).args(sleep).run().ok());
    assert_eq!(last_probe(&sandbox, "none")["exitCode"], 127);
    remove(&sandbox, "none");
    sandbox.assert_nothing_runs();
}

/// How many processes of the container have this word in their command line.
fn processes(sandbox: &Sandbox, name: &str, word: &str) -> usize {
    let top = sandbox.mybox(["top", name]).run().ok().stdout();
    top.lines().filter(|line| line.contains(word)).count()
}

#[test]
fn what_a_check_has_started_ends_with_it_if_it_takes_too_long_and_else_stays() {
    let sandbox = with_check("health-children");
    let sleep = ["probe", "sleep", "600"];
    let once = "[ -e /begun ] && exit 0; touch /begun; probe sleep 301 & (probe sleep 302 &)";
    let late = format!("{once}; exec probe sleep 303");
    let flags = ["--health-cmd", &late, "--health-timeout", "300ms"];
    drop(background(&sandbox, "late", &flags).args(sleep).run().ok());
    until_health(&sandbox, "late", "healthy");
    assert_eq!(health(&sandbox, "late")["log"][0]["exitCode"], -1);
    until("the end of it all", || {
        processes(&sandbox, "late", "sleep 30") == 0
    });
    assert_eq!(processes(&sandbox, "late", "sleep 600"), 1);
    remove(&sandbox, "late");

    let prompt = format!("exec >/dev/null 2>&1; {once}");
    let flags = ["--health-cmd", &prompt];
    drop(
        background(&sandbox, "prompt", &flags)
            .args(sleep)
            .run()
            .ok(),
    );
    until("two checks", || {
        health(&sandbox, "prompt")["log"][1].is_object()
    });
    assert_eq!(processes(&sandbox, "prompt", "sleep 30"), 2);
    remove(&sandbox, "prompt");
    sandbox.assert_nothing_runs();
}

#[test]
fn in_the_foreground_checks_are_made_too() {
    let sandbox = with_check("health-foreground");
    let wait = "until [ -e /seen ]; do probe sleep 0.02; done";
    let flags = ["--health-cmd", "touch /seen"];
    let run = sandbox.run(flags).args(["checked", "sh", "-c", wait]);
    drop(run.run().ok());
    // With another check on its way when the container ends.
    let flags = [
        "--health-cmd",
        "touch /seen; probe sleep 300",
        "--name",
        "own",
    ];
    let run = sandbox.run(flags).args(["checked", "sh", "-c", wait]);
    drop(run.run().ok());
    sandbox.assert_nothing_runs();
}

#[test]
fn a_paused_container_is_not_checked_and_keeps_its_status() {
    let sandbox = with_check("health-pause");
    let count = ["--health-cmd", "echo x >> /count"];
    let sleep = ["probe", "sleep", "600"];
    drop(background(&sandbox, "still", &count).args(sleep).run().ok());
    until_health(&sandbox, "still", "healthy");
    drop(sandbox.mybox(["pause", "still"]).run().ok());
    let before = health(&sandbox, "still");
    assert!(listing(&sandbox).contains("(Paused)"));
    drop(sandbox.mybox(["unpause", "still"]).run().ok());
    until("another check", || {
        health(&sandbox, "still")["log"] != before["log"]
    });
    let after = health(&sandbox, "still");
    assert_eq!(
        (&after["status"], &after["failingStreak"]),
        (&"healthy".into(), &0.into())
    );
    remove(&sandbox, "still");
}

/// The check that is being made has nothing of what the monitor holds.
#[test]
fn a_monitor_that_is_killed_takes_its_check_along() {
    let sandbox = with_check("health-killed");
    let slow = ["--health-cmd", "touch /begun; exec probe sleep 300"];
    let sleep = ["probe", "sleep", "600"];
    drop(background(&sandbox, "victim", &slow).args(sleep).run().ok());
    until("the check", || {
        let root = format!("/proc/{}/root/begun", sandbox.container_pid());
        Path::new(&root).exists()
    });
    rustix::process::kill_process(monitor(&sandbox), Signal::KILL).expect("kill the monitor");
    until("its end", || {
        known(&sandbox, "victim").is_some_and(|row| row["ending"]["code"] == 137)
    });
    sandbox.assert_nothing_runs();
    remove(&sandbox, "victim");
}

#[test]
fn checks_can_be_left_out_and_wrong_flags_are_refused() {
    let sandbox = with_check("health-flags");
    let sleep = ["probe", "sleep", "600"];
    let none = ["--no-healthcheck"];
    drop(background(&sandbox, "none", &none).args(sleep).run().ok());
    assert!(health(&sandbox, "none").is_null());
    let ps = sandbox.mybox(["ps", "-q", "-f", "health=none"]).run().ok();
    assert_eq!(ps.stdout().lines().count(), 1);
    remove(&sandbox, "none");
    let refused = |flags: &[&str], code, text| {
        let run = sandbox.run(flags).args(["checked", "true"]).run();
        drop(run.code(code).says(text));
    };
    refused(&["--health-interval", "30"], 125, "such as 30s, 1m30s");
    refused(&["--health-timeout", "1us"], 125, "less than 1ms");
    let both = ["--no-healthcheck", "--health-cmd", "true"];
    refused(&both, 125, "--no-healthcheck does not go with");
    sandbox.import_tiny();
    let run = sandbox.run(["--health-retries", "1", "tiny", "true"]).run();
    drop(run.code(125).says("nothing to check"));
}
