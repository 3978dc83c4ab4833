//! What a container finds under `/`: the stacked layers, its own writable layer, volumes, /proc,
//! /sys, /dev and /etc; and that none of it touches the host or the image.

use std::path::Path;

use mybox_probe::{Mount, Report};
use rustix::process::Signal;
use serde_json::Value;
use tar::EntryType;

use crate::harness::registry::{FakeRegistry, TestImage};
use crate::harness::{Cmd, Rootfs, Sandbox, probe};

/// What a command says in a container of `tiny` with these flags.
#[track_caller]
fn say(sandbox: &Sandbox, flags: &[&str], command: &[&str]) -> String {
    let run = sandbox.run(flags).arg("tiny").args(command);
    run.run().ok().line()
}

/// What `lstat` says of each path, in a container with these flags.
#[track_caller]
fn stat(sandbox: &Sandbox, flags: &[&str], paths: &[&str]) -> Value {
    let run = sandbox.run(flags).args(["tiny", "probe", "stat"]);
    run.args(paths).run().ok().stdout_json()
}

/// The topmost mount on `target`.
#[track_caller]
fn mount<'a>(report: &'a Report, target: &str) -> &'a Mount {
    let mut mounts = report.mounts.iter().rev();
    let found = mounts.find(|mount| mount.target == target);
    found.unwrap_or_else(|| panic!("nothing is mounted on {target}: {:?}", report.mounts))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the harness's names are plain")
}

#[test]
fn an_image_without_layers_is_an_empty_directory_to_begin_with() {
    let sandbox = Sandbox::new("scratch");
    let (layout, archive) = (
        sandbox.scratch().join("layout"),
        sandbox.scratch().join("tar"),
    );
    TestImage::new([]).write_layout(&layout, "scratch");
    let tar = Cmd::new("tar").arg("-C").arg(&layout).arg("-cf");
    drop(tar.arg(&archive).arg(".").run().ok());
    drop(sandbox.mybox(["load", "-i"]).arg(&archive).run().ok());
    let program = sandbox.scratch().join("program");
    std::fs::copy(probe(), &program).expect("the probe");
    let create = ["create", "--network", "none", "--name", "box"];
    let create = sandbox
        .mybox(create)
        .args(["scratch", "/probe", "exit", "3"]);
    drop(create.run().ok());
    drop(
        sandbox
            .mybox(["cp", text(&program), "box:/probe"])
            .run()
            .ok(),
    );
    drop(sandbox.mybox(["start", "-a", "box"]).run().code(3));
    assert_eq!(
        sandbox.mybox(["diff", "box"]).run().ok().stdout(),
        "A /probe\n"
    );
    let volume = format!("{}:/bin/probe:ro", text(&program));
    let run = sandbox.run(["-v", &volume, "scratch", "/bin/probe", "exit", "4"]);
    drop(run.run().code(4));
    drop(sandbox.mybox(["rm", "box"]).run().ok());
}

#[test]
fn layers_stack_in_the_images_order_and_take_away_what_they_say() {
    let sandbox = Sandbox::new("order").with_layer_form("unpacked");
    let base = Rootfs::tiny()
        .file("same", "base")
        .file("base-only", "base")
        .file("removed", "base")
        .dir("merged", 0o755)
        .file("merged/base", "")
        .dir("replaced", 0o755)
        .file("replaced/base", "")
        .file("becomes-dir", "");
    let middle = Rootfs::empty()
        .file("same", "middle")
        .file("merged/middle", "")
        .file(".wh.removed", "")
        .file("replaced/.wh..wh..opq", "")
        .file("replaced/middle", "")
        .dir("becomes-dir", 0o700);
    let top = Rootfs::empty()
        .file("same", "top")
        .file("merged/top", "")
        .file("merged/.wh.base", "");
    sandbox.add_layers("tiny", [base, middle, top]);
    assert_eq!(say(&sandbox, &[], &["cat", "/same"]), "top");
    assert_eq!(say(&sandbox, &[], &["cat", "/base-only"]), "base");
    assert_eq!(say(&sandbox, &[], &["ls", "/merged"]), "middle\ntop");
    assert_eq!(say(&sandbox, &[], &["ls", "/replaced"]), "middle");
    let stat = stat(&sandbox, &[], &["/removed", "/becomes-dir"]);
    assert_eq!(stat["/removed"], "ENOENT");
    assert_eq!(
        (&stat["/becomes-dir"]["kind"], &stat["/becomes-dir"]["mode"]),
        (&"dir".into(), &0o700.into())
    );
    // The lower directories are the image's layers, the topmost first.
    let report = sandbox.report(&[]);
    let inspected = sandbox.mybox(["inspect", "tiny"]).run().ok().stdout_json();
    let layers = inspected[0]["layers"].as_array().expect("layers");
    let order: Vec<usize> = layers
        .iter()
        .map(|layer| {
            let hex = &layer.as_str().expect("a diff id")["sha256:".len()..];
            let options = mount(&report, "/").super_options.join(",");
            options
                .find(hex)
                .unwrap_or_else(|| panic!("no {hex} in {options}"))
        })
        .collect();
    assert!(order[0] > order[1] && order[1] > order[2], "{order:?}");
}

#[test]
fn an_image_of_300_layers_runs() {
    let sandbox = Sandbox::new("many");
    let layer = |number: usize| {
        Rootfs::empty()
            .file(&format!("n/{number:03}"), "")
            .file("last", &number.to_string())
    };
    let layers = std::iter::once(Rootfs::tiny()).chain((1..300).map(layer));
    sandbox.add_layers("tiny", layers);
    let names = say(&sandbox, &[], &["ls", "/n"]);
    let expected: Vec<String> = (1..300).map(|number| format!("{number:03}")).collect();
    assert_eq!(names, expected.join("\n"));
    assert_eq!(say(&sandbox, &[], &["cat", "/last"]), "299");
}

#[test]
fn writes_land_in_the_upper_directory_and_never_in_the_image() {
    let sandbox = Sandbox::new("upper");
    let rootfs = Rootfs::tiny().file("file", "the image's").dir("dir", 0o755);
    sandbox.import("tiny", rootfs);
    let layers = sandbox.root().join("layers");
    let listing = || {
        let find = Cmd::new("find")
            .arg(&layers)
            .args(["-printf", "%P %y %m %U:%G %n %s %T@ %l\n"]);
        // The record's time is that of the last use.
        let listing = find.run().ok().stdout();
        let lines = listing.lines().filter(|line| !line.contains("layer.json"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let before = listing();
    let run = |command: &[&str]| {
        let run = sandbox.mybox(["run", "--network", "none", "--name", "kept", "tiny"]);
        run.args(command).run().ok();
        let inspected = sandbox.mybox(["inspect", "kept"]).run().ok().stdout_json();
        let id = inspected[0]["id"].as_str().expect("an id").to_owned();
        sandbox.root().join("containers").join(id).join("upper")
    };
    let upper = run(&["probe", "write", "/file", "changed"]);
    assert_eq!(
        std::fs::read_to_string(upper.join("file")).expect("copied up"),
        "changed"
    );
    assert!(!upper.join("dir").exists());
    sandbox.mybox(["rm", "kept"]).run().ok();
    let upper = run(&["probe", "write", "/dir/new", "new"]);
    assert_eq!(
        std::fs::read_to_string(upper.join("dir/new")).expect("made"),
        "new"
    );
    sandbox.mybox(["rm", "kept"]).run().ok();
    assert_eq!(say(&sandbox, &[], &["cat", "/file"]), "the image's");
    assert_eq!(say(&sandbox, &[], &["ls", "/dir"]), "");
    assert_eq!(listing(), before, "the layers are as they were");
}

#[test]
fn only_what_is_thrown_away_anyway_is_not_flushed() {
    let sandbox = Sandbox::tiny("volatile");
    // Linux 6.13 and later write it in the second way.
    let is_volatile = |report: &Report| {
        let root = mount(report, "/");
        root.has("volatile") || root.has("fsync=volatile")
    };
    assert!(is_volatile(&sandbox.report(&[])));
    let run = [
        "run",
        "--network",
        "none",
        "--name",
        "kept",
        "tiny",
        "probe",
        "report",
    ];
    let kept = sandbox.mybox(run).run().ok().report();
    assert!(!is_volatile(&kept));
    sandbox.mybox(["rm", "kept"]).run().ok();
}

#[test]
fn a_volume_shows_a_directory_of_the_host_for_reading_and_writing() {
    let sandbox = Sandbox::tiny("volume");
    let source = sandbox.scratch();
    std::fs::write(source.join("from-host"), "hello").expect("a file");
    let volume = format!("{}:/not/there/yet", text(&source));
    assert_eq!(
        say(
            &sandbox,
            &["-v", &volume],
            &["cat", "/not/there/yet/from-host"]
        ),
        "hello"
    );
    say(
        &sandbox,
        &["-v", &volume],
        &["probe", "write", "/not/there/yet/back", "again"],
    );
    assert_eq!(
        std::fs::read_to_string(source.join("back")).expect("written"),
        "again"
    );
    // A source may be relative to the caller's directory.
    let run = sandbox
        .run(["-v", "./:/data", "tiny", "cat", "/data/back"])
        .dir(&source);
    assert_eq!(run.run().ok().line(), "again");
}

#[test]
fn a_read_only_volume_is_read_only_with_all_that_is_mounted_in_it() {
    let sandbox = Sandbox::tiny("rovolume");
    let source = sandbox.scratch();
    std::fs::create_dir(source.join("sub")).expect("a directory");
    let script =
        "mount -t tmpfs tmpfs \"$1/sub\" && echo deep >\"$1/sub/file\" && shift && exec \"$@\"";
    let run = |volume: &str, command: &[&str]| {
        let unshare = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ];
        let run = sandbox.run(["-v", volume, "tiny"]).args(command);
        let run = run.through([&unshare[..], &[text(&source)]].concat());
        run.run().ok().line()
    };
    let read_only = format!("{}:/data:ro", text(&source));
    assert_eq!(run(&read_only, &["cat", "/data/sub/file"]), "deep");
    assert_eq!(
        run(&read_only, &["probe", "try-write", "/data/file"]),
        "EROFS"
    );
    assert_eq!(
        run(&read_only, &["probe", "try-write", "/data/sub/file"]),
        "EROFS"
    );
    let writable = format!("{}:/data:rw", text(&source));
    assert_eq!(
        run(&writable, &["probe", "try-write", "/data/sub/file"]),
        "ok"
    );
    assert_eq!(run(&writable, &["probe", "try-write", "/data/file"]), "ok");
}

#[test]
fn a_single_file_can_be_a_volume() {
    let sandbox = Sandbox::tiny("filevolume");
    let source = sandbox.scratch().join("settings");
    std::fs::write(&source, "mine\n").expect("a file");
    for target in ["/etc/passwd", "/new/settings", "/etc/resolv.conf"] {
        let volume = format!("{}:{target}:ro", text(&source));
        let flags = ["-v", &volume, "-u", "0"];
        assert_eq!(say(&sandbox, &flags, &["cat", target]), "mine", "{target}");
        assert_eq!(
            say(&sandbox, &flags, &["probe", "try-write", target]),
            "EROFS"
        );
    }
}

#[test]
fn a_volume_that_cannot_be_mounted_is_named() {
    let sandbox = Sandbox::tiny("badvolume");
    let source = sandbox.scratch();
    std::fs::write(source.join("file"), "").expect("a file");
    let missing = format!("{}/missing:/data", text(&source));
    let output = sandbox
        .run(["-v", &missing, "tiny", "true"])
        .run()
        .code(125);
    let _ = output
        .says(&missing.replace(":/data", ""))
        .says("hint: a volume's source must exist");
    assert!(!source.join("missing").exists());
    let onto_directory = format!("{}/file:/tmp", text(&source));
    let output = sandbox.run(["-v", &onto_directory, "tiny", "true"]).run();
    let _ = output.code(125).says("mount on /tmp");
    let onto_file = format!("{}:/etc/passwd", text(&source));
    let output = sandbox.run(["-v", &onto_file, "tiny", "true"]).run();
    let _ = output.code(125).says("mount on /etc/passwd");
    let twice = format!("{}:/data", text(&source));
    let output = sandbox
        .run(["-v", &twice, "--tmpfs", "/data", "tiny", "true"])
        .run();
    let _ = output.code(125).says("more than one mount on /data");
    sandbox.assert_nothing_runs();
}

#[test]
fn volumes_in_volumes_are_mounted_outside_in_whatever_their_order() {
    let sandbox = Sandbox::tiny("nested");
    let source = sandbox.scratch();
    std::fs::create_dir_all(source.join("outer/inner")).expect("directories");
    std::fs::write(source.join("outer/file"), "outer").expect("a file");
    let outer = format!("{}/outer:/data", text(&source));
    let flags = [
        "--tmpfs",
        "/data/inner/most",
        "-v",
        &outer,
        "--tmpfs",
        "/data/inner",
    ];
    let report = sandbox.report(&flags);
    assert_eq!(mount(&report, "/data/inner").fstype, "tmpfs");
    assert_eq!(mount(&report, "/data/inner/most").fstype, "tmpfs");
    assert_eq!(say(&sandbox, &flags, &["ls", "/data"]), "file\ninner");
}

#[test]
fn a_tmpfs_is_empty_private_and_limited_as_asked() {
    let sandbox = Sandbox::new("tmpfs");
    sandbox.import(
        "tiny",
        Rootfs::tiny().dir("cache", 0o755).file("cache/file", ""),
    );
    assert_eq!(say(&sandbox, &["--tmpfs", "/cache"], &["ls", "/cache"]), "");
    let report = sandbox.report(&[
        "--tmpfs",
        "/cache",
        "--tmpfs",
        "/b:size=64k,mode=700,exec,suid,dev,uid=1000",
    ]);
    let plain = mount(&report, "/cache");
    for option in ["rw", "nosuid", "nodev", "noexec"] {
        assert!(plain.has(option), "{option}: {plain:?}");
    }
    assert_eq!((plain.fstype.as_str(), plain.root.as_str()), ("tmpfs", "/"));
    let own = mount(&report, "/b");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(!own.has(option), "{option}: {own:?}");
    }
    assert!(
        own.has("size=64k") && own.has("mode=700") && own.has("uid=1000"),
        "{own:?}"
    );
    let stat = stat(&sandbox, &["--tmpfs", "/cache"], &["/cache"]);
    assert_eq!(stat["/cache"]["mode"], 0o1777);
    let read_only = ["--tmpfs", "/cache:ro"];
    assert_eq!(
        say(&sandbox, &read_only, &["probe", "try-write", "/cache/x"]),
        "EROFS"
    );
    let output = sandbox
        .run(["--tmpfs", "/cache:nonsense=1", "tiny", "true"])
        .run();
    let _ = output.code(125).says("nonsense=1");
    let output = sandbox.run(["--tmpfs", "cache", "tiny", "true"]).run();
    let _ = output.code(125).says("`cache` is not an absolute path");
}

#[test]
fn a_read_only_root_can_be_written_nowhere_but_on_mounts_of_the_users() {
    let sandbox = Sandbox::tiny("readonly");
    let source = sandbox.scratch();
    let volume = format!("{}:/data", text(&source));
    let flags = ["--read-only", "--tmpfs", "/tmp", "-v", &volume];
    for (path, answer) in [
        ("/new", "EROFS"),
        ("/root/new", "EROFS"),
        ("/etc/passwd", "EROFS"),
        ("/etc/hosts", "EROFS"),
        ("/etc/resolv.conf", "EROFS"),
        ("/etc/hostname", "EROFS"),
        ("/tmp/new", "ok"),
        ("/data/new", "ok"),
        ("/dev/shm/new", "ok"),
        ("/dev/null", "ok"),
    ] {
        assert_eq!(
            say(&sandbox, &flags, &["probe", "try-write", path]),
            answer,
            "{path}"
        );
    }
    assert_eq!(
        say(&sandbox, &[], &["probe", "try-write", "/etc/hosts"]),
        "ok"
    );
    assert!(mount(&sandbox.report(&flags), "/").has("ro"));
    // What the image lacks is made before the root closes.
    let made = say(&sandbox, &["--read-only", "-w", "/not/there"], &["ls"]);
    assert_eq!(made, "");
}

#[test]
fn what_tells_of_the_host_is_hidden_and_what_changes_it_is_read_only() {
    let sandbox = Sandbox::tiny("masked");
    let hidden_files = [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/interrupts",
        "/proc/sched_debug",
    ];
    let hidden_directories = [
        "/proc/acpi",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ];
    let paths = [&hidden_files[..], &hidden_directories].concat();
    let stat = stat(&sandbox, &[], &paths);
    let is_there = |path: &&&str| Path::new(path).exists();
    for path in hidden_files.iter().filter(is_there) {
        assert_eq!(
            stat[*path]["device"],
            serde_json::json!([1, 3]),
            "{path} is the null device"
        );
    }
    for path in hidden_directories.iter().filter(is_there) {
        assert_eq!(say(&sandbox, &[], &["ls", path]), "", "{path} is empty");
        assert_eq!(
            say(&sandbox, &[], &["probe", "try-write", &format!("{path}/x")]),
            "EROFS"
        );
    }
    // At least these are on any kernel.
    for path in ["/proc/keys", "/proc/interrupts"] {
        assert!(Path::new(path).exists(), "the host has no {path} to hide");
    }
    for path in [
        "/proc/sys/kernel/domainname",
        "/proc/sys/vm/swappiness",
        "/proc/irq/default_smp_affinity",
    ] {
        let answer = say(&sandbox, &[], &["probe", "try-write", path]);
        assert_eq!(answer, "EROFS", "{path}");
    }
    let report = sandbox.report(&[]);
    for path in [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ] {
        if Path::new(path).exists() {
            assert!(mount(&report, path).has("ro"), "{path}");
        }
    }
    let proc = report
        .mounts
        .iter()
        .find(|mount| mount.target == "/proc")
        .expect("/proc");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(
            proc.has(option) && proc.fstype == "proc",
            "{option}: {proc:?}"
        );
    }
}

#[test]
fn dev_holds_the_harmless_devices_and_the_usual_links_and_nothing_else() {
    let sandbox = Sandbox::new("dev");
    let rootfs = Rootfs::tiny()
        .dir("dev", 0o755)
        .file("dev/of-the-image", "");
    sandbox.import("tiny", rootfs);
    let dev = sandbox.report(&[]).dev;
    let devices = [
        ("/dev/full", (1, 7)),
        ("/dev/null", (1, 3)),
        ("/dev/pts/ptmx", (5, 2)),
        ("/dev/random", (1, 8)),
        ("/dev/tty", (5, 0)),
        ("/dev/urandom", (1, 9)),
        ("/dev/zero", (1, 5)),
    ];
    let links = [
        ("/dev/core", "/proc/kcore"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
    ];
    let directories = ["/dev/mqueue", "/dev/pts", "/dev/shm"];
    for (path, numbers) in devices {
        let node = &dev[path];
        let found = (
            node.kind.as_str(),
            node.device,
            node.mode,
            node.uid,
            node.gid,
        );
        assert_eq!(found, ("char", Some(numbers), 0o666, 0, 0), "{path}");
    }
    for (path, target) in links {
        assert_eq!(dev[path].target.as_deref(), Some(target), "{path}");
    }
    for path in directories {
        assert_eq!(dev[path].kind, "dir", "{path}");
    }
    assert_eq!(dev["/dev/shm"].mode, 0o1777);
    let count = devices.len() + links.len() + directories.len();
    assert_eq!(dev.len(), count, "{:?}", dev.keys());
    assert!(sandbox.report(&["-t"]).dev.contains_key("/dev/console"));
    for user in ["root", "alice"] {
        for path in ["/dev/null", "/dev/zero", "/dev/shm/x", "/dev/full"] {
            let expected = if path == "/dev/full" { "ENOSPC" } else { "ok" };
            assert_eq!(
                say(&sandbox, &["-u", user], &["probe", "try-write", path]),
                expected
            );
        }
    }
    let report = sandbox.report(&[]);
    for (path, fstype) in [
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
    ] {
        let mount = mount(&report, path);
        assert_eq!(mount.fstype, fstype);
        assert!(mount.has("nosuid") && mount.has("noexec"), "{mount:?}");
    }
}

#[test]
fn sys_is_read_only_and_shows_the_containers_own_network_and_cgroup() {
    let sandbox = Sandbox::tiny("sys");
    let report = sandbox.report(&[]);
    let sys = mount(&report, "/sys");
    assert_eq!(sys.fstype, "sysfs");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(sys.has(option), "{option}: {sys:?}");
    }
    assert_eq!(say(&sandbox, &[], &["ls", "/sys/class/net"]), "lo");
    let write = say(
        &sandbox,
        &[],
        &["probe", "try-write", "/sys/kernel/uevent_helper"],
    );
    assert!(["EROFS", "ENOENT"].contains(&write.as_str()), "{write}");
    let create = say(&sandbox, &[], &["probe", "try-write", "/sys/fs/cgroup/x"]);
    assert_eq!(create, "EROFS");
    assert!(!report.cgroup.mounts.is_empty(), "cgroups are shown");
    for (path, writable) in &report.cgroup.mounts {
        assert!(!writable, "{path} is writable");
    }
    for line in &report.cgroup.membership {
        let path = line.rsplit(':').next().unwrap_or_default();
        // A hierarchy mybox makes no group in shows where its caller is.
        let hidden =
            path == "/" || path.starts_with("/..") || !path.contains(&sandbox.containers()[0]);
        assert!(hidden, "{line}");
    }
}

#[test]
fn etc_has_the_containers_own_hostname_hosts_and_resolv_conf() {
    let sandbox = Sandbox::new("etc");
    let rootfs = Rootfs::tiny()
        .file("etc/hosts", "the image's\n")
        .file("etc/resolv.conf", "the image's\n");
    sandbox.import("tiny", rootfs);
    let flags = [
        "--hostname",
        "box",
        "--add-host",
        "db:10.9.8.7",
        "--dns",
        "9.9.9.9",
    ];
    let etc = sandbox.report(&flags).etc;
    assert_eq!(etc["/etc/hostname"], "box\n");
    let hosts = &etc["/etc/hosts"];
    for (address, name) in [("127.0.0.1", "localhost"), ("10.9.8.7", "db")] {
        let is_it = |line: &str| {
            line.starts_with(address) && line.split_whitespace().any(|word| word == name)
        };
        assert!(hosts.lines().any(is_it), "{name} in {hosts}");
    }
    assert!(etc["/etc/resolv.conf"].contains("nameserver 9.9.9.9"));
    assert!(!hosts.contains("the image's") && !etc["/etc/resolv.conf"].contains("the image's"));
    // Its own to write, and gone with it.
    assert_eq!(
        say(&sandbox, &[], &["probe", "try-write", "/etc/hosts"]),
        "ok"
    );
}

#[test]
fn what_is_mounted_on_etc_does_not_hide_the_containers_own_files_in_it() {
    let sandbox = Sandbox::new("etcvolume");
    let rootfs = Rootfs::tiny().file("etc/issue", "the image's\n");
    let link = "../run/resolve/stub-resolv.conf";
    sandbox.import("tiny", rootfs.symlink("etc/resolv.conf", link));
    let on_host = |name: &str| {
        let dir = sandbox.scratch().join(name);
        std::fs::create_dir(&dir).expect("a directory");
        dir
    };
    let (etc, run, bare) = (on_host("etc"), on_host("run"), on_host("bare"));
    let (on_etc, on_run) = (
        format!("{}:/etc", text(&etc)),
        format!("{}:/run", text(&run)),
    );
    for flags in [
        ["-v", "etcv:/etc"],
        ["-v", &on_etc],
        ["--tmpfs", "/etc"],
        ["--tmpfs", "/run"],
        ["-v", &on_run],
    ] {
        let all = [&flags[..], &["--hostname", "box", "--dns", "9.9.9.9"]].concat();
        let etc = sandbox.report(&all).etc;
        assert_eq!(etc["/etc/hostname"], "box\n", "{flags:?}");
        assert!(etc["/etc/hosts"].contains("box"), "{flags:?}");
        assert!(etc["/etc/resolv.conf"].contains("9.9.9.9"), "{flags:?}");
    }
    let issue = say(&sandbox, &["-v", "etcv:/etc"], &["cat", "/etc/issue"]);
    assert_eq!(issue, "the image's");
    for name in ["hostname", "hosts", "resolv.conf"] {
        let place = std::fs::read_to_string(etc.join(name)).expect("a place to mount on");
        assert_eq!(
            place, "",
            "{name}: what is in the container is none of the host's"
        );
    }
    // One's own file counts more, and a directory that must not be written stays as it is.
    let hosts = etc.join("own");
    std::fs::write(&hosts, "mine\n").expect("a file");
    let on_hosts = format!("{}:/etc/hosts", text(&hosts));
    let flags = ["-v", &on_hosts, "-v", &on_etc];
    assert_eq!(say(&sandbox, &flags, &["cat", "/etc/hosts"]), "mine");
    let read_only = format!("{}:/etc:ro", text(&bare));
    let flags = ["-v", &read_only];
    assert_eq!(say(&sandbox, &flags, &["ls", "/etc"]), "");
    // Nor does any of it keep `cp` from a container that does not run.
    for (name, flags) in [("one", ["--tmpfs", "/etc"]), ("two", ["-v", &read_only])] {
        let run = sandbox.mybox(["run", "--network", "none", "--name", name]);
        run.args(flags).args(["tiny", "true"]).run().ok();
        let copy = sandbox.mybox(["cp", &format!("{name}:/bin/probe"), "-"]);
        copy.run().ok();
        sandbox.mybox(["rm", name]).run().ok();
    }
}

#[test]
fn no_mount_of_a_container_shows_on_the_host_or_the_other_way_round() {
    let sandbox = Sandbox::tiny("hidden");
    let source = sandbox.scratch();
    let volume = format!("{}:/data", text(&source));
    let command = ["tiny", "probe", "trap", "TERM"];
    let run = sandbox
        .run(["-v", &volume, "--tmpfs", "/cache"])
        .args(command);
    // As systemd has it: what is mounted in a copy of the host's namespace shows on the host.
    let shared = ["unshare", "--mount", "--propagation", "shared"];
    let running = run.through(shared).spawn();
    running.wait_for("ready");
    let mounts = |pid: u32| {
        let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"));
        table.expect("the mounts of a process that runs")
    };
    let host = mounts(running.pid());
    assert!(host.contains(" shared:"), "{host}");
    assert!(!host.contains(text(&sandbox.root())), "{host}");
    // Whatever is mounted on the host from now on stays there.
    let inside = mounts(sandbox.container_pid());
    for line in inside.lines() {
        let mount = Mount::parse(line).expect("a line of mountinfo");
        assert!(mount.propagation.is_empty(), "not private: {line}");
    }
    running.signal(Signal::TERM);
    let _ = running.wait().ok();
}

#[test]
fn a_container_has_no_mounts_but_its_own() {
    let sandbox = Sandbox::tiny("own");
    let mut targets: Vec<String> = sandbox
        .report(&[])
        .mounts
        .into_iter()
        .map(|mount| mount.target)
        .collect();
    targets.retain(|target| {
        let parts = ["/proc/", "/sys/"];
        !parts.iter().any(|part| target.starts_with(part))
    });
    targets.sort();
    let expected = [
        "/",
        "/dev",
        "/dev/mqueue",
        "/dev/pts",
        "/dev/shm",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/proc",
        "/sys",
    ];
    assert_eq!(targets, expected);
}

#[test]
fn device_nodes_of_an_image_open_nothing_and_none_can_be_made() {
    let sandbox = Sandbox::new("devices");
    let device = |header: &mut tar::Header| {
        header.set_entry_type(EntryType::Char);
        header.set_mode(0o666);
        header.set_device_major(1).expect("a major number");
        header.set_device_minor(3).expect("a minor number");
    };
    let rootfs = Rootfs::tiny()
        .file_with("null", &[], device)
        .dir("data", 0o755)
        .file_with("data/null", &[], device);
    sandbox.import_with("tiny", rootfs, &["VOLUME /data"]);
    for path in ["/null", "/data/null"] {
        let node = stat(&sandbox, &[], &[path])[path].clone();
        assert_eq!(
            (&node["kind"], &node["device"]),
            (&"char".into(), &serde_json::json!([1, 3])),
            "{path}"
        );
        assert_eq!(
            say(&sandbox, &[], &["probe", "try-write", path]),
            "EACCES",
            "{path}"
        );
    }
    let made = sandbox
        .run(["tiny", "probe", "mknod-test"])
        .run()
        .ok()
        .stdout_json();
    assert_eq!(
        (&made["null"], &made["kmsg"]),
        (&"mknod: EPERM".into(), &"mknod: EPERM".into())
    );
}

#[test]
fn links_of_the_image_never_lead_a_mount_out_of_its_root() {
    let sandbox = Sandbox::new("links");
    let outside = sandbox.scratch().join("outside");
    std::fs::create_dir(&outside).expect("a directory");
    let climbing = format!("../../../../../../../..{}", text(&outside));
    let rootfs = Rootfs::tiny()
        .symlink("absolute", text(&outside))
        .symlink("climbing", &climbing)
        .symlink("inside", "/srv")
        .dir("srv", 0o755);
    sandbox.import("tiny", rootfs);
    let source = sandbox.scratch().join("source");
    std::fs::create_dir(&source).expect("a directory");
    std::fs::write(source.join("file"), "mounted").expect("a file");
    let volume = |target: &str| format!("{}:{target}", text(&source));
    for link in ["/absolute", "/climbing"] {
        for target in [link.to_owned(), format!("{link}/deep/er")] {
            let flags = [
                "-v",
                &volume(&target),
                "--tmpfs",
                &format!("{target}/file-system"),
            ];
            let file = format!("{target}/file");
            // Inside, the link leads to the same path below the container's root.
            assert_eq!(say(&sandbox, &flags, &["cat", &file]), "mounted");
            let inside = format!("{}/file", target.replace(link, text(&outside)));
            assert_eq!(say(&sandbox, &flags, &["cat", &inside]), "mounted");
        }
        let workdir = format!("{link}/work");
        say(&sandbox, &["-w", &workdir], &["probe", "write", "here", ""]);
    }
    assert_eq!(
        say(
            &sandbox,
            &["-v", &volume("/inside/x")],
            &["cat", "/srv/x/file"]
        ),
        "mounted"
    );
    let left = std::fs::read_dir(&outside).expect("the directory").count();
    assert_eq!(left, 0, "nothing was made on the host");
}

#[test]
fn what_is_deleted_in_a_directory_that_is_new_is_not_listed() {
    for form in ["unpacked", "indexed"] {
        let sandbox = Sandbox::new(&format!("whiteouts-{form}")).with_layer_form(form);
        let above = Rootfs::empty()
            .dir("new", 0o755)
            .file("new/.wh.gone", "")
            .file("new/there", "")
            .file("new/opaque/.wh..wh..opq", "")
            .file("new/opaque/.wh.gone", "");
        let image = TestImage::new([Rootfs::tiny().busybox(), above]);
        let registry = FakeRegistry::start();
        registry.add("app:1", &image);
        let name = registry.reference("app:1");
        let run = ["run", "--rm", "--network", "none", "--quiet"];
        let list = [&*name, "ls", "-R", "/new"];
        let listed = sandbox.mybox(run).args(list).run().ok().stdout();
        assert_eq!(listed, "/new:\nopaque\nthere\n\n/new/opaque:\n", "{form}");
        sandbox.mybox(["verify"]).run().ok();
        let said = sandbox.mybox(["layers", &name]).run().ok().stdout();
        assert!(!said.contains("gone"), "{said}");
    }
}
