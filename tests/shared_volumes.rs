//! What one container has of another, and of other images: `--volumes-from`, `--mount type=image`.

use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::harness::registry::{FakeRegistry, TestImage};
use crate::harness::{Rootfs, Sandbox};

/// An image with a shell, with something at /data, that asks for a volume at /own.
fn with_volume(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    let rootfs = Rootfs::tiny()
        .busybox()
        .file("data/file", "content\n")
        .file("own/file", "own\n");
    sandbox.import_with("box", rootfs, &["VOLUME /own"]);
    sandbox.import("plain", Rootfs::tiny().busybox());
    sandbox
}

#[track_caller]
fn mybox(sandbox: &Sandbox, words: &[&str]) -> String {
    sandbox.mybox(words).run().ok().stdout()
}

/// A container that stays, and has ended.
#[track_caller]
fn kept(sandbox: &Sandbox, name: &str, flags: &[&str], command: &[&str]) {
    let run = ["run", "--network", "none", "--name", name];
    let run = sandbox.mybox(run).args(flags);
    drop(run.args(command).run().ok());
}

/// What a shell says in a container of the plain image.
#[track_caller]
fn shell(sandbox: &Sandbox, flags: &[&str], script: &str) -> String {
    let command = ["plain", "sh", "-c", script];
    let words = flags.iter().chain(&command);
    sandbox.run(words).run().ok().stdout()
}

#[track_caller]
fn volumes(sandbox: &Sandbox) -> usize {
    mybox(sandbox, &["volume", "ls", "-q"]).lines().count()
}

#[test]
fn all_that_another_has_is_mounted_in_the_same_places() {
    let sandbox = with_volume("from");
    let host = sandbox.scratch().join("host");
    std::fs::create_dir(&host).expect("a directory");
    std::fs::write(host.join("file"), "host\n").expect("a file");
    let bind = format!("{}:/host:ro", host.display());
    let flags = ["-v", "store:/data", "-v", &bind, "-v", "/anonymous"];
    let script = "echo there > /anonymous/file";
    kept(&sandbox, "web", &flags, &["box", "sh", "-c", script]);
    let cat = "cat /data/file /host/file /anonymous/file /own/file";
    let seen = shell(&sandbox, &["--volumes-from", "web"], cat);
    assert_eq!(seen, "content\nhost\nthere\nown\n");
    // Nothing that was for reading only can be written now, and nothing at all with `ro`.
    let write = "for dir in data host anonymous own; do
        (echo > /$dir/new) 2> /dev/null && echo $dir; done; true";
    let written = shell(&sandbox, &["--volumes-from", "web:rw"], write);
    assert_eq!(written, "data\nanonymous\nown\n");
    assert_eq!(shell(&sandbox, &["--volumes-from", "web:ro"], write), "");
    mybox(&sandbox, &["rm", "-v", "web"]);
    mybox(&sandbox, &["volume", "rm", "store"]);
}

#[test]
fn what_is_ones_own_comes_first_and_of_several_containers_the_last() {
    let sandbox = with_volume("fromfirst");
    let one = ["-v", "aa:/x", "-v", "aa:/y", "-v", "aa:/z"];
    kept(
        &sandbox,
        "one",
        &one,
        &["plain", "sh", "-c", "echo a > /x/is"],
    );
    let two = ["-v", "bb:/y"];
    kept(
        &sandbox,
        "two",
        &two,
        &["plain", "sh", "-c", "echo b > /y/is"],
    );
    let flags = [
        "--volumes-from",
        "one",
        "--volumes-from",
        "two",
        "--tmpfs",
        "/z",
    ];
    let seen = shell(&sandbox, &flags, "cat /x/is /y/is; ls /z");
    assert_eq!(seen, "a\nb\n");
    let own = ["--volumes-from", "one", "-v", "bb:/x"];
    assert_eq!(shell(&sandbox, &own, "cat /x/is /y/is"), "b\na\n");
    // Of the image's own VOLUME too, and nothing is copied into what was another's.
    kept(
        &sandbox,
        "empty",
        &["-v", "cc:/own:nocopy"],
        &["plain", "true"],
    );
    let run = sandbox.run(["--volumes-from", "empty", "box", "ls", "/own"]);
    assert_eq!(run.run().ok().stdout(), "");
    mybox(&sandbox, &["rm", "one", "two", "empty"]);
}

#[test]
fn a_volume_goes_with_the_last_of_those_who_have_it() {
    let sandbox = with_volume("fromlast");
    kept(
        &sandbox,
        "web",
        &[],
        &["box", "sh", "-c", "echo new > /own/new"],
    );
    let create = ["create", "--name", "heir", "--volumes-from", "web"];
    let create = sandbox.mybox(create).args(["--network", "none"]);
    drop(create.args(["plain", "cat", "/own/new"]).run().ok());
    mybox(&sandbox, &["rm", "-v", "web"]);
    assert_eq!(volumes(&sandbox), 1);
    mybox(&sandbox, &["volume", "prune", "-f"]);
    let started = sandbox.mybox(["start", "-a", "heir"]).run().ok();
    assert_eq!(started.stdout(), "new\n");
    let inspect = sandbox.mybox(["inspect", "heir"]).run().ok();
    let mounts: Value = inspect.stdout_json()[0]["mounts"].clone();
    assert_eq!(mounts[0]["destination"], "/own");
    assert_eq!(mounts.as_array().map(Vec::len), Some(1));
    // From one to the next.
    let next = ["--volumes-from", "heir"];
    assert_eq!(shell(&sandbox, &next, "cat /own/new"), "new\n");
    assert_eq!(volumes(&sandbox), 1, "that one had --rm, and heir has it");
    mybox(&sandbox, &["rm", "-v", "heir"]);
    assert_eq!(volumes(&sandbox), 0);
}

#[test]
fn those_of_a_container_that_runs_are_shared_with_it() {
    let sandbox = with_volume("fromlive");
    let run = ["run", "-d", "--rm", "--network", "none", "--name", "web"];
    let run = sandbox.mybox(run).args(["box", "sleep", "600"]);
    drop(run.run().ok());
    let script = "echo back > /own/back; cat /own/file";
    assert_eq!(shell(&sandbox, &["--volumes-from", "web"], script), "own\n");
    let seen = sandbox
        .mybox(["exec", "web", "cat", "/own/back"])
        .run()
        .ok();
    assert_eq!(seen.stdout(), "back\n");
    let dry = sandbox.run(["--dry-run", "--volumes-from", "web", "plain"]);
    let script = dry.args(["true"]).run().ok().stdout();
    assert!(
        script.contains("\"$R\"/own") || script.contains("/own"),
        "{script}"
    );
    mybox(&sandbox, &["kill", "web"]);
    drop(sandbox.mybox(["wait", "web"]).run());
}

#[test]
fn who_is_not_there_has_no_volumes() {
    let sandbox = with_volume("fromnone");
    let run = sandbox.run(["--volumes-from", "nosuch", "plain", "true"]);
    drop(run.run().code(125).says("--volumes-from nosuch"));
    let run = sandbox.run(["--volumes-from", "nosuch:x", "plain", "true"]);
    drop(run.run().code(125).says("neither ro nor rw"));
    // However far apart they are named.
    let twice = ["-v", "one:/x", "-v", "two:/y", "-v", "three:/x"];
    let twice = sandbox.run(twice).args(["plain", "true"]).run();
    drop(twice.code(125).says("more than one mount on /x"));
    assert_eq!(volumes(&sandbox), 0);
}

#[test]
fn a_volume_that_its_container_has_emptied_stays_empty() {
    let sandbox = with_volume("emptied");
    let create = ["create", "--network", "none", "--name", "web"];
    let create = sandbox.mybox(create).args(["-v", "store:/data"]);
    let script = "ls /data /own; rm /data/* /own/*";
    drop(create.args(["box", "sh", "-c", script]).run().ok());
    let first = mybox(&sandbox, &["start", "-a", "web"]);
    assert_eq!(first, "/data:\nfile\n\n/own:\nfile\n");
    let again = sandbox.mybox(["start", "-a", "web"]).run().code(1);
    assert_eq!(again.stdout(), "/data:\n\n/own:\n");
    // Another one that gets it empty has it filled.
    let run = sandbox.run(["-v", "store:/data", "box", "ls", "/data"]);
    assert_eq!(run.run().ok().stdout(), "file\n");
    mybox(&sandbox, &["rm", "-v", "web"]);
}

#[test]
fn links_stay_links_and_holes_stay_holes_in_a_volume_that_is_filled() {
    for form in ["indexed", "unpacked"] {
        let sandbox = Sandbox::new("faithful").with_layer_form(form);
        let rootfs = Rootfs::tiny()
            .busybox()
            .file("data/sub/one", "linked")
            .hardlink("data/two", "data/sub/one")
            .hardlink("data/sub/three", "data/sub/one");
        sandbox.import("plain", rootfs);
        let script = "truncate -s 64M /data/hollow; echo end >> /data/hollow";
        let run = ["run", "--network", "none", "--name", "make", "plain", "sh"];
        drop(sandbox.mybox(run).args(["-c", script]).run().ok());
        mybox(&sandbox, &["commit", "make", "box"]);
        mybox(&sandbox, &["rm", "make"]);
        let run = sandbox.run([
            "-v",
            "store:/data",
            "box",
            "busybox",
            "tail",
            "-c",
            "4",
            "/data/hollow",
        ]);
        assert_eq!(run.run().ok().stdout(), "end\n");
        let data = sandbox.root().join("volumes/store/data");
        let stat = |name: &str| data.join(name).metadata().expect(name);
        let one = stat("sub/one");
        assert_eq!((one.nlink(), one.len()), (3, 6), "{form}");
        assert_eq!(stat("two").ino(), one.ino());
        assert_eq!(stat("sub/three").ino(), one.ino());
        let hollow = stat("hollow");
        assert_eq!(hollow.len(), (64 << 20) + 4);
        assert!(hollow.blocks() < 2048, "{form}: {} blocks", hollow.blocks());
    }
}

#[test]
fn what_the_host_has_mounted_in_a_volume_is_never_removed_with_it() {
    let sandbox = with_volume("hostmount");
    let flags = ["-v", "store:/data", "-v", "/anonymous"];
    kept(
        &sandbox,
        "web",
        &flags,
        &["plain", "mkdir", "/data/in it", "/anonymous/in"],
    );
    let foreign = sandbox.scratch().join("foreign");
    std::fs::create_dir(&foreign).expect("a directory");
    std::fs::write(foreign.join("file"), "").expect("a file");
    let listed = mybox(&sandbox, &["volume", "ls", "-q"]);
    let anonymous = listed.lines().find(|name| name.len() == 64);
    let anonymous = anonymous.expect("an anonymous volume");
    let dir = |name: &str, inside: &str| {
        let data = sandbox.root().join("volumes").join(name).join("data");
        data.join(inside).display().to_string()
    };
    let points = [dir("store", "in it"), dir(anonymous, "in")];
    let host = sandbox.host();
    for point in &points {
        let from = foreign.to_str().expect("UTF-8");
        drop(
            host.command("mount")
                .args(["--bind", from, point])
                .run()
                .ok(),
        );
    }
    let removed = sandbox.mybox(["rm", "-v", "web"]).run();
    let refused = sandbox.mybox(["volume", "rm", "store"]).run();
    let pruned = sandbox.mybox(["prune", "-f", "--volumes"]).run();
    let all = sandbox.mybox(["volume", "prune", "-fa"]).run();
    for point in &points {
        drop(host.command("umount").args([point]).run().ok());
    }
    assert!(foreign.join("file").exists());
    drop(removed.ok());
    drop(
        refused
            .code(1)
            .says(&format!("unmount {} first", points[0])),
    );
    drop(pruned.code(1).says("is mounted in it"));
    drop(all.ok());
    assert_eq!(volumes(&sandbox), 2);
    assert_eq!(
        mybox(&sandbox, &["volume", "prune", "-fa"]).lines().count(),
        5
    );
}

/// An image of one layer and one of two, the second of which takes away and replaces.
fn with_tools(name: &str, form: &str) -> Sandbox {
    let sandbox = Sandbox::new(name).with_layer_form(form);
    sandbox.import("plain", Rootfs::tiny().busybox());
    let rootfs = Rootfs::empty()
        .file("bin/tool", "tool")
        .file("old/file", "old")
        .file("gone", "gone");
    sandbox.import("tools", rootfs);
    let run = ["run", "--network", "none", "--name", "make"];
    let flags = [
        "--mount",
        "type=image,src=tools,dst=/t",
        "plain",
        "sh",
        "-c",
    ];
    let copy = "cp -r /t/* /; rm -r /lib* 2> /dev/null; true";
    drop(sandbox.mybox(run).args(flags).arg(copy).run().ok());
    mybox(&sandbox, &["commit", "make", "base"]);
    mybox(&sandbox, &["rm", "make"]);
    let run = ["run", "--network", "none", "--name", "make", "base", "sh"];
    let change = "rm /gone; rm -r /old; mkdir /old; echo new > /old/new";
    drop(sandbox.mybox(run).args(["-c", change]).run().ok());
    mybox(&sandbox, &["commit", "make", "layered"]);
    mybox(&sandbox, &["rm", "make"]);
    sandbox
}

#[test]
fn an_image_is_mounted_as_its_layers_say_and_can_only_be_read() {
    for form in ["indexed", "unpacked"] {
        let sandbox = with_tools("imgmount", form);
        let one = ["--mount", "type=image,source=tools,target=/a/new/place"];
        let seen = shell(
            &sandbox,
            &one,
            "cd /a/new/place; find . | sort; cat bin/tool",
        );
        assert_eq!(
            seen, ".\n./bin\n./bin/tool\n./gone\n./old\n./old/file\ntool",
            "{form}"
        );
        // Two at once, one of them twice.
        let both = [
            "--mount",
            "type=image,src=layered,dst=/x,rw=false",
            "--mount",
            "type=image,src=tools,dst=/y,ro",
            "--mount",
            "type=image,src=layered,dst=/y/old",
        ];
        let script = "ls -d /x/gone 2> /dev/null; ls /x/old; cat /y/gone; ls /y/old/old";
        assert_eq!(shell(&sandbox, &both, script), "new\ngonenew\n", "{form}");
        let write = "for file in /x/new /x/old/new /y/bin/tool; do
            (echo > $file) 2>&1 | grep -c 'Read-only file system'; done; cat /x/old/new";
        assert_eq!(shell(&sandbox, &both, write), "1\n1\n1\nnew\n", "{form}");
        let base = ["--mount", "type=image,src=base,dst=/x"];
        let seen = shell(&sandbox, &base, "cat /x/gone; ls /x/old");
        assert_eq!(seen, "gonefile\n", "{form}");
        // Its own image, too.
        let own = ["--mount", "type=image,src=plain,dst=/own"];
        assert_eq!(
            shell(&sandbox, &own, "rm -r /etc; ls -d /own/etc"),
            "/own/etc\n"
        );
    }
}

#[test]
fn an_image_that_is_mounted_is_kept() {
    let sandbox = with_tools("imgkept", "auto");
    let mount = ["--mount", "type=image,src=layered,dst=/x"];
    let run = ["run", "-d", "--network", "none", "--name", "web"];
    let run = sandbox.mybox(run).args(mount);
    drop(run.args(["plain", "sleep", "600"]).run().ok());
    let create = ["create", "--network", "none", "--name", "later"];
    let create = sandbox.mybox(create).args(mount);
    drop(create.args(["plain", "cat", "/x/old/new"]).run().ok());
    let refused = sandbox.mybox(["rmi", "layered"]).run().code(1);
    drop(refused.says("web"));
    mybox(&sandbox, &["rmi", "-f", "layered"]);
    mybox(&sandbox, &["gc"]);
    mybox(&sandbox, &["prune", "-fa", "--filter", "label=none"]);
    let seen = sandbox.mybox(["exec", "web", "cat", "/x/old/new"]).run();
    assert_eq!(seen.ok().stdout(), "new\n");
    mybox(&sandbox, &["restart", "-t", "0", "web"]);
    let seen = sandbox.mybox(["exec", "web", "cat", "/x/old/new"]).run();
    assert_eq!(seen.ok().stdout(), "new\n");
    let inspect = sandbox.mybox(["inspect", "web"]).run().ok();
    let mounts = inspect.stdout_json()[0]["mounts"].clone();
    assert_eq!(mounts[0]["type"], "image");
    assert_eq!(mounts[0]["source"], "layered");
    assert_eq!(mounts[0]["rw"], false);
    mybox(&sandbox, &["rm", "-f", "web"]);
    assert_eq!(
        mybox(&sandbox, &["gc", "--dry-run"]),
        "Nothing to collect\n"
    );
    let started = sandbox.mybox(["start", "-a", "later"]).run().ok();
    assert_eq!(started.stdout(), "new\n");
    mybox(&sandbox, &["rm", "later"]);
    let left = mybox(&sandbox, &["gc", "--dry-run"]);
    assert!(left.contains("it has no name and no container"), "{left}");
}

#[test]
fn an_image_to_be_mounted_is_pulled_if_it_is_missing() {
    let sandbox = Sandbox::new("imgpull");
    sandbox.import("plain", Rootfs::tiny().busybox());
    let registry = FakeRegistry::start();
    registry.add(
        "far:1",
        &TestImage::new([Rootfs::empty().file("file", "far\n")]),
    );
    let mount = format!("type=image,src={},dst=/x", registry.reference("far:1"));
    let seen = shell(&sandbox, &["--mount", &mount], "cat /x/file");
    assert_eq!(seen, "far\n");
}

#[test]
fn an_image_that_cannot_be_mounted_is_named() {
    let sandbox = with_tools("imgbad", "auto");
    let run = |mount: &str| {
        let flags = ["--pull", "never", "--mount", mount, "plain", "true"];
        sandbox.run(flags).run().code(125)
    };
    drop(run("type=image,src=nosuch,dst=/x").says("mount the image nosuch"));
    drop(run("type=image,src=tools,dst=/x,rw=true").says("not built yet"));
    drop(run("type=image,src=tools,dst=/bin/busybox").says("/bin/busybox"));
    let two = ["-v", "/x", "--mount", "type=image,src=tools,dst=/x"];
    let two = sandbox.run(two).args(["plain", "true"]).run();
    drop(two.code(125).says("more than one mount on /x"));
    let dry = ["--dry-run", "--mount", "type=image,src=tools,dst=/x"];
    let dry = sandbox.run(dry).args(["plain", "true"]).run().ok();
    assert!(dry.stdout().contains("Left out here: the image tools on"));
}
