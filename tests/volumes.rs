//! Volumes: what outlives a container, what goes with it, and what happens when several want the same.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Rootfs, Sandbox};

/// An image with a shell, and with something at /data.
fn with_data(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    let rootfs = Rootfs::tiny()
        .busybox()
        .file_with("data/", &[], |header| {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o2750);
            header.set_uid(1000);
            header.set_gid(50);
        })
        .file_with("data/file", b"content", |header| {
            header.set_mode(0o4711);
            header.set_uid(1000);
            header.set_mtime(1_234_567);
        })
        .dir("data/sub", 0o700)
        .file("data/sub/deep", "deep");
    sandbox.import("box", rootfs);
    sandbox
}

/// What a shell in a container with these flags says.
#[track_caller]
fn shell(sandbox: &Sandbox, flags: &[&str], script: &str) -> String {
    let command = ["box", "sh", "-c", script];
    let words = flags.iter().chain(&command);
    sandbox.run(words).run().ok().stdout()
}

#[track_caller]
fn volume(sandbox: &Sandbox, words: &[&str]) -> String {
    let command = sandbox.mybox(["volume"]).args(words);
    command.run().ok().stdout()
}

#[track_caller]
fn refused(sandbox: &Sandbox, code: i32, words: &[&str], says: &str) {
    drop(sandbox.mybox(words).run().code(code).says(says));
}

fn names(sandbox: &Sandbox, flags: &[&str]) -> Vec<String> {
    let words: Vec<&str> = ["ls", "-q"].iter().chain(flags).copied().collect();
    let listed = volume(sandbox, &words);
    listed.lines().map(ToOwned::to_owned).collect()
}

fn data(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.root().join("volumes").join(name).join("data")
}

/// A container that stays, and has ended.
#[track_caller]
fn kept(sandbox: &Sandbox, name: &str, flags: &[&str], script: &str) {
    let run = ["run", "--network", "none", "--name", name];
    let run = sandbox.mybox(run).args(flags);
    drop(run.args(["box", "sh", "-c", script]).run().ok());
}

fn inspected(sandbox: &Sandbox, name: &str) -> Value {
    let inspect = sandbox.mybox(["inspect", name]).run().ok();
    inspect.stdout_json()[0].clone()
}

#[test]
fn a_volume_outlives_its_containers_and_starts_as_what_the_image_has() {
    let sandbox = with_data("persist");
    let script =
        "stat -c '%a %u %g' /data /data/file /data/sub; cat /data/sub/deep; echo more > /data/new";
    let first = shell(&sandbox, &["-v", "store:/data"], script);
    assert_eq!(first, "2750 1000 50\n4711 1000 0\n700 0 0\ndeep");
    // In another place.
    let list = shell(&sandbox, &["-v", "store:/srv"], "ls /srv; cat /srv/new");
    assert_eq!(list, "file\nnew\nsub\nmore\n");
    let dir = sandbox.root().join("volumes/store");
    let left: Vec<_> = std::fs::read_dir(&dir)
        .expect("the volume")
        .flatten()
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(names(&sandbox, &[]), ["store"]);
    assert_eq!(volume(&sandbox, &["rm", "store"]), "store\n");
    assert!(!dir.exists());
}

#[test]
fn only_an_empty_volume_is_filled_and_only_if_that_is_wanted() {
    let sandbox = with_data("fill");
    let list = |flag: &str| shell(&sandbox, &["-v", flag], "ls /data");
    assert_eq!(list("plain:/data:nocopy"), "");
    let mount = "type=volume,src=plain,dst=/data,volume-nocopy";
    let mounted = shell(&sandbox, &["--mount", mount], "ls /data; stat -c %a /data");
    assert_eq!(mounted, "755\n");
    // It is empty still.
    assert_eq!(list("plain:/data:ro"), "file\nsub\n");
    assert_eq!(volume(&sandbox, &["create", "made"]), "made\n");
    assert_eq!(list("made:/data"), "file\nsub\n");
    std::fs::create_dir_all(data(&sandbox, "own")).expect("a volume made by hand");
    std::fs::write(data(&sandbox, "own").join("mine"), "").expect("a file");
    assert_eq!(list("own:/data"), "mine\n");
    // What somebody has chosen for an empty volume stays.
    volume(&sandbox, &["create", "chosen"]);
    let chosen = data(&sandbox, "chosen");
    std::os::unix::fs::chown(&chosen, Some(7), Some(8)).expect("chown");
    let owner = shell(&sandbox, &["-v", "chosen:/data"], "stat -c '%u %g' /data");
    assert_eq!(owner, "7 8\n");
}

#[test]
fn a_read_only_volume_is_written_by_nobody_who_has_it_so() {
    let sandbox = with_data("readonly");
    let mount = "type=volume,source=store,target=/data,readonly";
    for flags in [["-v", "store:/data:ro"], ["--mount", mount]] {
        let words = flags.iter().chain(&["box", "sh", "-c", "echo > /data/x"]);
        let write = sandbox.run(words).run().code(1);
        drop(write.says("Read-only file system"));
    }
    let both = ["-v", "store:/data:ro", "-v", "store:/again"];
    let script = "echo seen > /again/x; cat /data/x";
    assert_eq!(shell(&sandbox, &both, script), "seen\n");
}

#[test]
fn who_has_a_volume_keeps_it_and_is_named() {
    let sandbox = with_data("inuse");
    kept(&sandbox, "web", &["-v", "store:/data"], "true");
    let created = ["create", "--name", "other", "-v", "store:/x", "box", "true"];
    sandbox.mybox(created).run().ok();
    let in_use = "volume store is in use by containers";
    refused(&sandbox, 1, &["volume", "rm", "store"], in_use);
    refused(&sandbox, 1, &["volume", "rm", "-f", "store"], in_use);
    let inspect = volume(&sandbox, &["inspect", "store"]);
    let inspect: Value = serde_json::from_str(&inspect).expect("JSON");
    let mut containers: Vec<_> = inspect[0]["containers"].as_array().expect("a list").clone();
    containers.sort_by_key(ToString::to_string);
    assert_eq!(containers, ["other", "web"]);
    assert_eq!(
        inspect[0]["mountpoint"],
        data(&sandbox, "store").to_str().expect("UTF-8")
    );
    let mounts = &inspected(&sandbox, "web")["mounts"];
    assert_eq!(mounts[0]["name"], "store");
    assert_eq!(
        (&mounts[0]["type"], &mounts[0]["rw"]),
        (&"volume".into(), &true.into())
    );
    assert_eq!(names(&sandbox, &["-f", "dangling=true"]), [""; 0]);
    sandbox.mybox(["rm", "-f", "-v", "web"]).run().ok();
    refused(
        &sandbox,
        1,
        &["volume", "rm", "store"],
        "in use by container other; remove it first",
    );
    sandbox.mybox(["rm", "-f", "-v", "other"]).run().ok();
    assert_eq!(names(&sandbox, &["-f", "dangling=true"]), ["store"]);
    assert!(data(&sandbox, "store").join("file").exists());
    refused(
        &sandbox,
        1,
        &["volume", "rm", "nosuch"],
        "no such volume: nosuch",
    );
    assert_eq!(
        volume(&sandbox, &["rm", "-f", "nosuch", "store"]),
        "nosuch\nstore\n"
    );
}

#[test]
fn a_volume_without_a_name_goes_with_its_container_only_if_that_is_said() {
    let sandbox = with_data("anonymous");
    let shown = shell(&sandbox, &["-v", "/data", "-v", "named:/n"], "ls /data");
    assert_eq!(shown, "file\nsub\n");
    assert_eq!(names(&sandbox, &[]), ["named"], "--rm");
    kept(
        &sandbox,
        "web",
        &["-v", "/data", "-v", "named:/n"],
        "echo kept > /data/file",
    );
    let own = names(&sandbox, &["-f", "name=a"]);
    let own = own
        .iter()
        .find(|name| *name != "named")
        .expect("a volume")
        .clone();
    assert_eq!(own.len(), 64);
    // The same one after a start.
    sandbox.mybox(["start", "-a", "web"]).run().ok();
    assert_eq!(names(&sandbox, &[]).len(), 2);
    sandbox.mybox(["rm", "web"]).run().ok();
    assert_eq!(names(&sandbox, &[]).len(), 2, "rm");
    let file = data(&sandbox, &own).join("file");
    assert_eq!(std::fs::read_to_string(file).expect("the file"), "kept\n");
    refused(&sandbox, 1, &["volume", "prune"], "--force");
    let pruned = volume(&sandbox, &["prune", "-f"]);
    assert!(
        pruned.starts_with(&format!(
            "Deleted Volumes:\n{own}\n\nTotal reclaimed space: "
        )),
        "{pruned}"
    );
    kept(&sandbox, "web", &["-v", "/data", "-v", "named:/n"], "true");
    sandbox.mybox(["rm", "-v", "web"]).run().ok();
    assert_eq!(names(&sandbox, &[]), ["named"], "rm -v");
    // A command that cannot be executed leaves none either.
    let failed = ["run", "--network", "none", "-v", "/data", "box", "/nothing"];
    drop(sandbox.mybox(failed).run().code(127));
    assert_eq!(names(&sandbox, &[]), ["named"]);
}

#[test]
fn prune_takes_what_fits_and_nothing_with_a_name_unless_it_is_told_to() {
    let sandbox = with_data("prune");
    let anonymous = volume(&sandbox, &["create", "--label", "job=1"]);
    let anonymous = anonymous.trim();
    volume(&sandbox, &["create", "--label", "job=1", "one"]);
    volume(&sandbox, &["create", "--label", "job=2", "two"]);
    kept(&sandbox, "web", &["-v", "used:/data"], "true");
    assert_eq!(names(&sandbox, &["-f", "label=job=1"]).len(), 2);
    assert_eq!(
        names(&sandbox, &["-f", "name=o", "-f", "label=job"]),
        ["one", "two"]
    );
    volume(&sandbox, &["prune", "-f", "--filter", "label=job=2"]);
    assert_eq!(names(&sandbox, &[]).len(), 4);
    let pruned = volume(&sandbox, &["prune", "-f"]);
    assert!(pruned.contains(anonymous), "{pruned}");
    assert_eq!(names(&sandbox, &[]), ["one", "two", "used"]);
    volume(&sandbox, &["prune", "-f", "-a", "--filter", "label!=job=1"]);
    assert_eq!(names(&sandbox, &[]), ["one", "used"]);
    std::fs::write(data(&sandbox, "one").join("large"), vec![1; 3 << 20]).expect("a file");
    let pruned = volume(&sandbox, &["prune", "-fa"]);
    assert!(
        pruned.starts_with("Deleted Volumes:\none\n\nTotal reclaimed space: 3.1"),
        "{pruned}"
    );
    refused(
        &sandbox,
        2,
        &["volume", "prune", "-f", "--filter", "name=x"],
        "label=",
    );
    sandbox.mybox(["rm", "web"]).run().ok();
}

#[test]
fn a_volume_that_is_made_again_is_the_same() {
    let sandbox = with_data("again");
    volume(&sandbox, &["create", "--label", "a=b", "store"]);
    std::fs::write(data(&sandbox, "store").join("mine"), "").expect("a file");
    assert_eq!(volume(&sandbox, &["create", "store"]), "store\n");
    let listed = volume(&sandbox, &["ls", "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[0]["labels"]["a"], "b");
    assert!(data(&sandbox, "store").join("mine").exists());
    let table = volume(&sandbox, &["ls"]);
    assert_eq!(table, "DRIVER   VOLUME NAME\nlocal    store\n");
}

#[test]
fn wrong_names_and_places_are_refused() {
    let sandbox = with_data("badnames");
    for bad in ["a/b:/x", "x:/x", "_x:/x"] {
        let run = sandbox.run(["-v", bad, "box", "true"]).run().code(125);
        drop(run.says("is no volume name"));
    }
    for bad in ["data:x", "data:/", "data:/x/../y", "data"] {
        drop(sandbox.run(["-v", bad, "box", "true"]).run().code(125));
    }
    refused(
        &sandbox,
        1,
        &["volume", "create", "../x"],
        "`../x` is no volume name",
    );
    refused(
        &sandbox,
        1,
        &["volume", "rm", "../containers"],
        "is no volume name",
    );
    refused(
        &sandbox,
        1,
        &["volume", "inspect", "nosuch"],
        "no such volume: nosuch",
    );
    let twice = sandbox
        .run(["-v", "one:/x", "-v", "two:/x", "box", "true"])
        .run();
    drop(twice.code(125).says("more than one mount on /x"));
    let on_a_file = sandbox.run(["-v", "one:/data/file", "box", "true"]).run();
    drop(on_a_file.code(125).says("/data/file"));
    assert_eq!(names(&sandbox, &[]), ["one"]);
}

#[test]
fn eight_that_make_one_volume_at_once_all_find_it_whole() {
    let sandbox = with_data("parallel");
    let script = "ls /data | tr '\\n' ' '; cat /data/sub/deep";
    let runs: Vec<_> = (0..8)
        .map(|_| {
            sandbox
                .run(["-v", "store:/data", "box", "sh", "-c", script])
                .spawn()
        })
        .collect();
    for run in runs {
        let run = run.wait().ok();
        assert_eq!(run.stdout(), "file sub deep");
    }
    // While somebody takes it away again and again, nobody fails and nobody sees half of it.
    for _ in 0..10 {
        let words = ["-v", "store:/data", "box", "sh", "-c", script];
        let spawn = || {
            let remove = sandbox.mybox(["volume", "rm", "-f", "store"]).spawn();
            (sandbox.run(words).spawn(), remove)
        };
        for (run, remove) in [(); 3].map(|()| spawn()) {
            assert_eq!(run.wait().ok().stdout(), "file sub deep");
            drop(remove.wait());
        }
    }
}

#[test]
fn a_copy_that_was_killed_is_made_anew_and_never_half_of_it_seen() {
    let sandbox = Sandbox::new("killedcopy");
    let rootfs = (0..400).fold(
        Rootfs::tiny().busybox().dir("data", 0o755),
        |rootfs, number| rootfs.file(&format!("data/{number:03}"), &"x".repeat(20_000)),
    );
    sandbox.import("box", rootfs);
    let script = "ls /data | wc -l; cat /data/* | wc -c";
    let mut killed = 0;
    for round in 0..6 {
        let name = format!("store{round}");
        let flag = format!("{name}:/data");
        let run = sandbox
            .run(["-v", &flag, "box", "sh", "-c", script])
            .spawn();
        let fill = sandbox.root().join("volumes").join(&name).join("fill");
        let filled = fill.with_file_name("filled");
        let deadline = Instant::now() + Duration::from_secs(20);
        // In the middle of the copy, or of its way into the volume.
        let there = |path: &PathBuf| path.exists();
        while !there(&fill) && !there(&filled) && Instant::now() < deadline {
            if std::fs::read_dir(data(&sandbox, &name)).is_ok_and(|mut it| it.next().is_some()) {
                break;
            }
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(round * 3));
        run.signal(Signal::KILL);
        drop(run.wait());
        killed += u32::from(there(&fill) || there(&filled));
        // Not by a container that copies nothing either.
        let flag = format!("{name}:/data:nocopy");
        let none = sandbox
            .run(["-v", &flag, "box", "sh", "-c", script])
            .run()
            .ok();
        assert!(
            ["0\n0\n", "400\n8000000\n"].contains(&none.stdout().as_str()),
            "{}",
            none.stdout()
        );
        let flag = format!("{name}:/data");
        let whole = sandbox
            .run(["-v", &flag, "box", "sh", "-c", script])
            .run()
            .ok();
        assert_eq!(whole.stdout(), "400\n8000000\n");
    }
    assert!(killed > 0, "no copy was killed on its way");
}

#[test]
fn a_volume_that_another_container_has_is_filled_under_its_eyes() {
    let sandbox = with_data("shared");
    let run = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "eye",
        "-v",
        "store:/mnt",
    ];
    let run = sandbox.mybox(run).args(["box", "sh", "-c", "sleep 60"]);
    drop(run.run().ok());
    assert_eq!(
        shell(&sandbox, &["-v", "store:/data"], "ls /data"),
        "file\nsub\n"
    );
    let seen = sandbox.mybox(["exec", "eye", "ls", "/mnt"]).run().ok();
    assert_eq!(seen.stdout(), "file\nsub\n");
    refused(
        &sandbox,
        1,
        &["volume", "rm", "store"],
        "in use by container eye",
    );
    sandbox.mybox(["rm", "-f", "eye"]).run().ok();
    assert_eq!(names(&sandbox, &[]), ["store"]);
}

#[test]
fn what_happens_to_volumes_is_told() {
    let sandbox = with_data("told");
    shell(&sandbox, &["-v", "store:/data"], "true");
    volume(&sandbox, &["rm", "store"]);
    let events = [
        "events",
        "--since",
        "0",
        "--until",
        "0s",
        "--json",
        "-f",
        "volume=store",
    ];
    let events = sandbox.mybox(events).run().ok().stdout();
    let actions: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["action"].clone())
        .collect();
    assert_eq!(actions, ["create", "mount", "unmount", "destroy"]);
}
