//! `mybox prune`: what nobody uses goes, what somebody uses or has named stays, and it says which.

use std::fs::File;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::harness::{Rootfs, Sandbox, Terminal};

#[track_caller]
fn mybox(sandbox: &Sandbox, words: &[&str]) -> String {
    sandbox.mybox(words).run().ok().stdout()
}

/// A container of `image` that stays when it has ended.
#[track_caller]
fn kept(sandbox: &Sandbox, name: &str, flags: &[&str], image: &str) {
    let run = ["run", "--network", "none", "--name", name];
    let run = sandbox.mybox(run).args(flags);
    drop(run.args([image, "true"]).run().ok());
}

#[track_caller]
fn sleeper(sandbox: &Sandbox, name: &str, flags: &[&str]) {
    let run = ["run", "-d", "--network", "none", "--name", name];
    let run = sandbox.mybox(run).args(flags);
    drop(run.args(["tiny", "sleep", "600"]).run().ok());
}

#[track_caller]
fn lines(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let listed = mybox(sandbox, words);
    let mut lines: Vec<String> = listed.lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

#[track_caller]
fn containers(sandbox: &Sandbox) -> Vec<String> {
    let listed = sandbox.mybox(["ps", "-a", "--json"]).run().ok();
    let rows = listed.stdout_json();
    let names = rows.as_array().expect("a list").iter();
    let mut names: Vec<String> = names
        .map(|row| row["name"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn images(sandbox: &Sandbox) -> Vec<String> {
    let listed = sandbox.mybox(["images", "--json"]).run().ok();
    let rows = listed.stdout_json();
    let names = rows.as_array().expect("a list").iter();
    let mut names: Vec<String> = names
        .map(|row| row["repository"].as_str().unwrap_or("<none>").to_owned())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn anonymous(sandbox: &Sandbox) -> Vec<String> {
    let mut names = lines(sandbox, &["volume", "ls", "-q"]);
    names.retain(|name| name.len() == 64);
    names
}

/// Imports an image with a file of its own.
#[track_caller]
fn image(sandbox: &Sandbox, name: &str, changes: &[&str]) {
    let rootfs = Rootfs::tiny().file("own", &name.repeat(100));
    sandbox.import_with(name, rootfs, changes);
}

#[test]
fn what_has_ended_goes_and_what_runs_or_has_a_name_stays() {
    let sandbox = Sandbox::tiny("pruneall");
    sleeper(&sandbox, "runs", &["-v", "/held"]);
    sleeper(&sandbox, "paused", &[]);
    mybox(&sandbox, &["pause", "paused"]);
    kept(&sandbox, "ended", &["-v", "/own", "-v", "named:/n"], "tiny");
    let create = ["create", "--name", "made", "-v", "other:/o", "tiny", "true"];
    mybox(&sandbox, &create);
    mybox(&sandbox, &["volume", "create", "unused"]);
    let said = mybox(&sandbox, &["prune", "-f"]);
    let (head, freed) = said.split_once("\n\n").expect("a list, then the sum");
    let mut head: Vec<&str> = head.lines().collect();
    head[1..].sort_unstable();
    assert_eq!(head, ["Deleted Containers:", "ended", "made"], "{said}");
    assert!(
        freed.starts_with("Freed: ") && !freed.contains(" 0B"),
        "{said}"
    );
    assert_eq!(containers(&sandbox), ["paused", "runs"]);
    // Not without --volumes.
    assert_eq!(anonymous(&sandbox).len(), 2);
    let said = mybox(&sandbox, &["prune", "-f", "--volumes"]);
    assert!(said.starts_with("Deleted Volumes:\n"), "{said}");
    assert_eq!(anonymous(&sandbox).len(), 1, "{said}");
    let mut left = lines(&sandbox, &["volume", "ls", "-q"]);
    left.retain(|name| name.len() != 64);
    assert_eq!(left, ["named", "other", "unused"]);
    assert_eq!(
        mybox(&sandbox, &["prune", "-f", "--volumes"]),
        "Freed: 0B\n"
    );
    assert_eq!(images(&sandbox), ["tiny"]);
    mybox(&sandbox, &["unpause", "paused"]);
    mybox(&sandbox, &["rm", "-f", "-v", "runs", "paused"]);
}

#[test]
fn volumes_of_containers_that_go_go_with_them_if_that_is_said() {
    let sandbox = Sandbox::tiny("prunevol");
    kept(&sandbox, "ended", &["-v", "/own", "-v", "named:/n"], "tiny");
    let own = anonymous(&sandbox);
    let done = sandbox.mybox(["prune", "-f", "--volumes", "--json"]).run();
    let done = done.ok().stdout_json();
    assert_eq!(done["containers"][0]["name"], "ended");
    assert_eq!(done["volumes"][0]["name"], own[0].as_str());
    let bytes = |kind: &str| done[kind][0]["bytes"].as_u64().expect("bytes");
    let freed = done["freedBytes"].as_u64().expect("bytes");
    assert_eq!(freed, bytes("containers") + bytes("volumes"));
    for empty in ["images", "objects", "left", "failures"] {
        assert_eq!(done[empty], Value::Array(Vec::new()), "{empty}");
    }
    assert_eq!(lines(&sandbox, &["volume", "ls", "-q"]), ["named"]);
}

#[test]
fn images_go_that_have_no_name_and_with_all_those_that_nobody_uses() {
    let sandbox = Sandbox::tiny("pruneimg");
    for name in ["named", "lost", "pinned", "running"] {
        image(&sandbox, name, &[]);
    }
    // The container goes first, and with it what kept its image.
    kept(&sandbox, "ended", &[], "lost");
    mybox(&sandbox, &["rmi", "-f", "lost"]);
    mybox(&sandbox, &["pin", "pinned"]);
    let run = ["run", "-d", "--network", "none", "--name", "web", "running"];
    drop(sandbox.mybox(run).args(["sleep", "600"]).run().ok());
    let before = mybox(&sandbox, &["gc", "--dry-run"]);
    assert_eq!(before, "Nothing to collect\n");
    let said = mybox(&sandbox, &["prune", "-f"]);
    assert!(said.starts_with("Deleted Containers:\nended\n\n"), "{said}");
    assert_eq!(images(&sandbox), ["named", "pinned", "running", "tiny"]);
    assert_eq!(
        mybox(&sandbox, &["gc", "--dry-run"]),
        "Nothing to collect\n"
    );
    mybox(&sandbox, &["tag", "named", "again"]);
    let said = mybox(&sandbox, &["prune", "-fa"]);
    for name in ["named:latest", "again:latest", "tiny:latest"] {
        assert!(said.lines().any(|line| line == name), "{name}: {said}");
    }
    assert_eq!(images(&sandbox), ["pinned", "running"]);
    mybox(&sandbox, &["verify"]);
    mybox(&sandbox, &["rm", "-f", "web"]);
}

#[test]
fn of_a_management_word_only_its_kind_goes() {
    let sandbox = Sandbox::tiny("prunekind");
    image(&sandbox, "lost", &[]);
    image(&sandbox, "base", &[]);
    kept(&sandbox, "ended", &[], "base");
    mybox(&sandbox, &["rmi", "-f", "base"]);
    let only = |words: &[&str]| {
        mybox(&sandbox, words);
        (containers(&sandbox), images(&sandbox))
    };
    let ended = || vec!["ended".to_owned()];
    assert_eq!(only(&["image", "prune", "-f"]).0, ended());
    let (left, images) = only(&["image", "prune", "-fa"]);
    // That of the container is kept by it.
    assert_eq!((left, images), (ended(), vec!["<none>".to_owned()]));
    let (left, images) = only(&["container", "prune", "-f"]);
    assert_eq!((left, images), (vec![], vec!["<none>".to_owned()]));
    let (_, images) = only(&["system", "prune", "-f"]);
    assert!(images.is_empty(), "{images:?}");
}

#[test]
fn it_asks_first_and_lists_what_would_go() {
    let sandbox = Sandbox::tiny("pruneask");
    kept(&sandbox, "ended", &["-v", "/own"], "tiny");
    let alone = sandbox.mybox(["prune"]).run().code(1);
    drop(alone.says("no terminal to ask at: say --force"));
    assert_eq!(containers(&sandbox), ["ended"]);
    for (answer, code, left) in [("n\r", 0, 1), ("\r", 0, 1), ("y\r", 0, 0)] {
        let prune = sandbox.mybox(["prune", "--volumes"]);
        let mut session = Terminal::new(24, 200).spawn(prune);
        let asked = session.read_until("[y/N] ");
        assert!(asked.contains("Containers: ended\r\n"), "{asked}");
        assert!(asked.contains(&format!("Volumes: {}\r\n", anonymous(&sandbox)[0])));
        session.send(answer);
        let (ended, screen, _) = session.wait();
        assert_eq!(ended, code, "{screen}");
        assert_eq!(containers(&sandbox).len(), left, "{screen}");
        assert_eq!(anonymous(&sandbox).len(), left, "{screen}");
    }
}

#[test]
fn only_what_fits_the_filters_goes() {
    let sandbox = Sandbox::tiny("prunefilter");
    image(&sandbox, "old", &["LABEL job=1"]);
    image(&sandbox, "other", &[]);
    kept(&sandbox, "one", &["--label", "job=1"], "tiny");
    kept(&sandbox, "two", &["--label", "job=2"], "tiny");
    let hour = ["prune", "-fa", "--filter", "until=1h"];
    assert_eq!(mybox(&sandbox, &hour), "Freed: 0B\n");
    let volume = mybox(&sandbox, &["volume", "create", "--label", "job=1"]);
    mybox(&sandbox, &["volume", "create"]);
    let first = ["prune", "-fa", "--volumes", "--filter", "label=job=1"];
    let said = mybox(&sandbox, &first);
    let expected = format!(
        "Deleted Containers:\none\n\nDeleted Images:\nold:latest\n\nDeleted Volumes:\n{volume}\nFreed: "
    );
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(images(&sandbox), ["other", "tiny"]);
    mybox(&sandbox, &["prune", "-f", "--filter", "label!=job"]);
    assert_eq!(containers(&sandbox), ["two"]);
    mybox(&sandbox, &["prune", "-f", "--filter", "until=0s"]);
    assert_eq!(containers(&sandbox), [""; 0]);
    let both = ["prune", "-f", "--volumes", "--filter", "until=1h"];
    drop(sandbox.mybox(both).run().code(2).says("until="));
    let wrong = ["prune", "-f", "--filter", "name=x"];
    drop(sandbox.mybox(wrong).run().code(2).says("label="));
    mybox(&sandbox, &["volume", "prune", "-fa"]);
}

#[test]
fn what_another_mybox_has_is_left_and_not_waited_for() {
    let sandbox = Sandbox::tiny("pruneclaim");
    kept(&sandbox, "one", &[], "tiny");
    kept(&sandbox, "two", &["-v", "/own"], "tiny");
    let id = sandbox.mybox(["inspect", "two"]).run().ok().stdout_json();
    let id = id[0]["id"].as_str().expect("an id").to_owned();
    // As `start` has it, before the record says so.
    let dir = sandbox.run_root().join("containers").join(id);
    std::fs::create_dir(&dir).expect("claim the container");
    let claim = File::open(&dir).expect("the claim");
    flock(&claim, FlockOperation::LockExclusive).expect("lock the claim");
    let prune = sandbox.mybox(["prune", "-f", "--volumes"]);
    // `rm` would wait for 10 s.
    let said = prune.timeout(Duration::from_secs(8)).run().ok();
    assert!(said.stderr().contains("container two is in use by now"));
    assert!(said.stdout().starts_with("Deleted Containers:\none\n\n"));
    assert_eq!(containers(&sandbox), ["two"]);
    assert_eq!(anonymous(&sandbox).len(), 1);
    std::fs::remove_dir(&dir).expect("give the claim back");
    drop(claim);
    mybox(&sandbox, &["prune", "-f", "--volumes"]);
    assert_eq!(containers(&sandbox), [""; 0]);
}

#[test]
fn who_waits_for_a_container_that_is_being_removed_does_not_bring_it_back() {
    let sandbox = Sandbox::tiny("prunestart");
    kept(&sandbox, "one", &[], "tiny");
    let id = sandbox.mybox(["inspect", "one"]).run().ok().stdout_json();
    let id = id[0]["id"].as_str().expect("an id").to_owned();
    let dir = sandbox.run_root().join("containers").join(&id);
    std::fs::create_dir(&dir).expect("claim the container");
    let claim = File::open(&dir).expect("the claim");
    flock(&claim, FlockOperation::LockExclusive).expect("lock the claim");
    let start = sandbox.mybox(["start", "one"]).spawn();
    // Its child knows what it is to start, and waits for the claim.
    let children = format!("/proc/{0}/task/{0}/children", start.pid());
    while std::fs::read_to_string(&children).is_ok_and(|children| children.is_empty()) {
        std::thread::yield_now();
    }
    let containers_dir = sandbox.root().join("containers");
    std::fs::remove_file(containers_dir.join("names/one")).expect("remove its name");
    std::fs::remove_dir_all(containers_dir.join(&id)).expect("remove it");
    std::fs::remove_dir(&dir).expect("give the claim back");
    drop(claim);
    drop(start.wait().code(1).says("container one has been removed"));
    assert_eq!(containers(&sandbox), [""; 0]);
}

#[test]
fn what_cannot_be_removed_is_told_and_keeps_nothing_else() {
    let sandbox = Sandbox::tiny("prunefail");
    for name in ["one", "stuck", "two"] {
        kept(&sandbox, name, &[], "tiny");
    }
    let inspect = sandbox.mybox(["inspect", "stuck"]).run().ok();
    let id = inspect.stdout_json()[0]["id"].clone();
    let dir = sandbox
        .root()
        .join("containers")
        .join(id.as_str().expect("an id"));
    let mount = dir.join("mount");
    std::fs::create_dir(&mount).expect("a directory");
    let path = mount.to_str().expect("UTF-8");
    let host = sandbox.host();
    let tmpfs = ["-t", "tmpfs", "none", path];
    drop(host.command("mount").args(tmpfs).run().ok());
    std::fs::write(mount.join("foreign"), "").expect("a file");
    let said = sandbox.mybox(["prune", "-f"]).run();
    assert!(mount.join("foreign").exists());
    drop(host.command("umount").args([path]).run().ok());
    let said = said.code(1).says("container stuck was not removed");
    let mut gone: Vec<String> = said.stdout().lines().map(ToOwned::to_owned).collect();
    gone.truncate(3);
    gone.sort();
    assert_eq!(gone, ["Deleted Containers:", "one", "two"]);
    // The next command goes on with it.
    assert_eq!(containers(&sandbox), [""; 0]);
}
