//! What happens, as `mybox events` tells it.

use serde_json::Value;

use crate::detached::until;
use crate::harness::Sandbox;

/// All events of the sandbox that fit, as JSON.
#[track_caller]
fn events(sandbox: &Sandbox, filters: &[&str]) -> Vec<Value> {
    let all = ["events", "--since", "0", "--until", "0s", "--json"];
    let flags = filters.iter().flat_map(|filter| ["--filter", filter]);
    let output = sandbox.mybox(all).args(flags).run().ok();
    let lines = output.stdout();
    let parse = |line: &str| serde_json::from_str(line).expect("an event a line");
    lines.lines().map(parse).collect()
}

fn actions(events: &[Value]) -> Vec<String> {
    let action = |event: &Value| event["action"].as_str().expect("an action").to_owned();
    events.iter().map(action).collect()
}

#[test]
fn the_life_of_a_container_is_told_in_its_order() {
    let sandbox = Sandbox::new("events");
    sandbox.import_tiny();
    let mybox = |words: &[&str]| drop(sandbox.mybox(words).run().ok());
    let run = ["run", "-d", "--network", "none", "--label", "a=b", "--name"];
    let made = sandbox
        .mybox(run)
        .args(["old", "tiny", "probe", "trap", "TERM"])
        .run();
    let id = made.ok().line();
    mybox(&["pause", "old"]);
    mybox(&["unpause", "old"]);
    mybox(&["exec", "old", "probe", "true"]);
    mybox(&["rename", "old", "new"]);
    mybox(&["update", "--pids-limit", "50", "new"]);
    mybox(&["stop", "new"]);
    mybox(&["start", "new"]);
    mybox(&["kill", "new"]);
    mybox(&["rm", "new"]);
    let told = events(&sandbox, &[&format!("container={id}")]);
    let expected = [
        "create",
        "start",
        "pause",
        "unpause",
        "exec_create",
        "exec_die",
        "rename",
        "update",
        "kill",
        "die",
        "stop",
        "start",
        "kill",
        "die",
        "destroy",
    ];
    assert_eq!(actions(&told), expected);
    assert!(
        told.iter()
            .all(|event| event["type"] == "container" && event["id"] == id)
    );
    assert!(told.iter().all(|event| event["attributes"]["a"] == "b"));
    assert_eq!(told[0]["attributes"]["name"], "old");
    assert_eq!(told[6]["attributes"]["oldName"], "old");
    assert_eq!(told[8]["attributes"]["signal"], "15");
    assert_eq!(told[13]["attributes"]["exitCode"], "137");
    let dies = events(&sandbox, &["event=die", "label=a=b", "image=tiny"]);
    assert_eq!(actions(&dies), ["die", "die"]);
    assert!(events(&sandbox, &["label=a=c"]).is_empty());
}

#[test]
fn a_run_tells_its_exit_code_and_a_want_of_memory() {
    let sandbox = Sandbox::new("die");
    sandbox.import_tiny();
    drop(sandbox.run(["tiny", "probe", "exit", "3"]).run().code(3));
    let told = events(&sandbox, &["type=container"]);
    assert_eq!(actions(&told), ["create", "start", "die", "destroy"]);
    assert_eq!(told[2]["attributes"]["exitCode"], "3");
    let hungry = ["-m", "16m", "tiny", "probe", "eat-memory", "64"];
    drop(sandbox.run(hungry).run().code(137));
    assert_eq!(actions(&events(&sandbox, &["event=oom"])), ["oom"]);
    drop(sandbox.run(["-d"]).args(hungry).run().ok());
    let over = || actions(&events(&sandbox, &["event=destroy"])).len() == 3;
    until("its end", over);
    assert_eq!(actions(&events(&sandbox, &["event=oom"])), ["oom", "oom"]);
}

/// Who sees it can do something about it; the container may run on for months.
#[test]
fn each_want_of_memory_is_told_when_it_is_there() {
    let sandbox = Sandbox::new("oom-live");
    sandbox.import_tiny();
    let told = |name: &str| {
        let container = format!("container={name}");
        actions(&events(&sandbox, &["event=oom", "event=die", &container]))
    };
    let hungry = ["probe", "eat-memory", "64"];
    let words = ["-m", "16m", "tiny", "probe", "trap", "TERM"];
    let run = sandbox.mybox(["run", "-d", "--network", "none", "--name", "behind"]);
    drop(run.args(words).run().ok());
    let run = sandbox.mybox(["run", "--network", "none", "--name", "before"]);
    let before = run.args(words).spawn();
    before.wait_for("ready");
    for name in ["behind", "before"] {
        for count in 1..=2 {
            drop(sandbox.mybox(["exec", name]).args(hungry).run().code(137));
            until("the event", || told(name).len() >= count);
            assert_eq!(told(name), vec!["oom"; count], "{name}");
        }
        drop(sandbox.mybox(["stop", name]).run().ok());
        assert_eq!(told(name), ["oom", "oom", "die"], "{name}");
        drop(sandbox.mybox(["rm", name]).run().ok());
    }
    drop(before.wait());
}

#[test]
fn what_could_not_be_executed_dies_without_a_start() {
    let sandbox = Sandbox::new("never");
    sandbox.import_tiny();
    drop(sandbox.run(["tiny", "no-such"]).run().code(127));
    let background = sandbox.run(["-d", "tiny", "no-such"]).run();
    drop(background.code(127));
    let told = events(&sandbox, &["type=container"]);
    let once = ["create", "die", "destroy"];
    assert_eq!(actions(&told), [once, once].concat());
    assert_eq!(told[1]["attributes"]["exitCode"], "127");
    let create = ["create", "--network", "none", "--name", "kept", "tiny", "x"];
    drop(sandbox.mybox(create).run().ok());
    drop(sandbox.mybox(["start", "kept"]).run().code(1));
    let kept = sandbox.mybox(["ps", "-a", "--json"]).run().ok();
    assert_eq!(kept.stdout_json()[0]["ending"]["code"], 127);
    drop(sandbox.mybox(["rm", "kept"]).run().ok());
}

#[test]
fn images_come_and_go() {
    let sandbox = Sandbox::new("images");
    sandbox.import_tiny();
    sandbox.mybox(["tag", "tiny", "other:2"]).run().ok();
    sandbox.mybox(["rmi", "other:2"]).run().ok();
    sandbox.mybox(["rmi", "tiny"]).run().ok();
    let told = events(&sandbox, &["type=image"]);
    assert_eq!(
        actions(&told),
        ["import", "tag", "untag", "untag", "delete"]
    );
    assert_eq!(told[2]["attributes"]["name"], "other:2");
    let refused = sandbox.mybox(["events", "-f", "network=x"]).run().code(2);
    drop(refused.says("type=, event=, container=, image=, volume= or label="));
}

#[test]
fn events_are_followed_while_they_happen() {
    let sandbox = Sandbox::new("follow");
    let follower = sandbox.mybox(["events", "--since", "0"]).spawn();
    sandbox.import_tiny();
    follower.wait_for(" image import sha256:");
    drop(sandbox.run(["--name", "one", "tiny", "true"]).run().ok());
    follower.wait_for("name=one)");
    follower.wait_for(" container destroy ");
    follower.signal(rustix::process::Signal::INT);
    drop(follower.wait());
}

#[test]
fn a_log_that_cannot_be_written_stops_nobody() {
    let sandbox = Sandbox::new("unwritable");
    sandbox.import_tiny();
    let log = sandbox.run_root().join("events.json");
    std::fs::remove_file(&log).expect("the log");
    std::os::unix::fs::symlink("/dev/full", &log).expect("a full disk");
    drop(sandbox.run(["tiny", "true"]).run().ok());
    std::fs::remove_file(&log).expect("the link");
}

#[test]
fn images_that_go_with_prune_and_gc_are_told_as_with_rmi() {
    let sandbox = Sandbox::new("events-gone");
    let ids = |sandbox: &Sandbox| {
        let list = sandbox.mybox(["images", "-q", "--no-trunc"]).run().ok();
        list.line()
    };
    for words in [
        &["prune", "--all", "--force"][..],
        &["gc", "--unused-for", "0s"],
        &["rmi", "tiny"],
    ] {
        sandbox.import_tiny();
        let id = ids(&sandbox);
        let before = events(&sandbox, &["type=image"]).len();
        drop(sandbox.mybox(words).run().ok());
        let told = events(&sandbox, &["type=image"]).split_off(before);
        assert_eq!(actions(&told), ["untag", "delete"], "{words:?}");
        assert_eq!(
            (&told[0]["id"], &told[1]["id"]),
            (&"tiny:latest".into(), &id.into())
        );
    }
}
