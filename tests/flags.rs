//! Flags of `run` that say what a container may do to the host, seen from inside.

use mybox_probe::Report;

use crate::harness::Sandbox;

/// Fails unless each of these is refused with 125 and these words.
#[track_caller]
fn refused(sandbox: &Sandbox, cases: &[(&[&str], &str)]) {
    for (flags, words) in cases {
        let run = sandbox.run(*flags).args(["tiny", "true"]);
        drop(run.run().code(125).says(words));
        sandbox.assert_nothing_runs();
    }
}

/// The effective capabilities as a number.
fn effective(report: &Report) -> u64 {
    let set = &report.privileges.effective;
    assert_eq!(set, &report.privileges.bounding);
    assert_eq!(set, &report.privileges.permitted);
    u64::from_str_radix(set, 16).expect("a hexadecimal number")
}

/// linux/capability.h.
const CHOWN: u64 = 1;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;

#[test]
fn capabilities_are_added_and_dropped() {
    let sandbox = Sandbox::tiny("caps");
    let default = effective(&sandbox.report(&[]));
    let of = |flags: &[&str]| effective(&sandbox.report(flags));
    let changed = of(&[
        "--cap-add",
        "net_admin",
        "--cap-add",
        "CAP_NET_RAW",
        "--cap-drop=CHOWN",
    ]);
    assert_eq!(changed, (default | NET_ADMIN | NET_RAW) & !CHOWN);
    assert_eq!(of(&["--cap-drop", "all"]), 0);
    assert_eq!(of(&["--cap-drop", "ALL", "--cap-add", "CHOWN"]), CHOWN);
    let all = of(&["--cap-add", "ALL"]);
    assert_eq!(all & (default | NET_ADMIN), default | NET_ADMIN);
    assert_eq!(of(&["--cap-add=ALL", "--cap-drop=NET_RAW"]), all & !NET_RAW);
    refused(
        &sandbox,
        &[(&["--cap-add", "FLY"], "`FLY` is no capability")],
    );
}

/// A capability is worth nothing while the calls that it is for are refused.
#[test]
fn the_filter_of_system_calls_follows_the_capabilities() {
    let sandbox = Sandbox::new("cap-calls");
    sandbox.import("shell", crate::harness::Rootfs::tiny().busybox());
    let run = |flags: &[&str]| {
        let run = sandbox
            .run(flags)
            .args(["shell", "busybox", "hostname", "other"]);
        run.run().exit_code()
    };
    assert_eq!(run(&["--cap-add", "SYS_ADMIN"]), Some(0));
    assert_eq!(run(&[]), Some(1));
}

#[test]
fn a_privileged_container_has_what_the_host_has() {
    let sandbox = Sandbox::tiny("privileged");
    let it = sandbox.report(&["--privileged"]);
    assert_eq!(
        effective(&it),
        effective(&sandbox.report(&["--cap-add", "ALL"]))
    );
    assert_eq!(it.privileges.seccomp_mode, 0);
    let own = |target: &str| it.mounts.iter().find(|mount| mount.target == target);
    assert_eq!(own("/proc/sys"), None, "nothing is read-only");
    assert_eq!(own("/proc/kcore"), None, "nothing is hidden");
    assert!(!own("/sys").expect("sysfs").has("ro"));
    assert!(it.cgroup.mounts.values().all(|writable| *writable));
    for name in ["/dev/kmsg", "/dev/loop-control"] {
        let on_host = std::path::Path::new(name).exists();
        assert_eq!(it.dev.contains_key(name), on_host, "{name}");
    }
    let plain = sandbox.report(&[]);
    assert_eq!(plain.privileges.seccomp_mode, 2);
    assert!(!plain.dev.contains_key("/dev/kmsg"));
}

#[test]
fn without_a_filter_everything_else_stays() {
    let sandbox = Sandbox::tiny("unconfined");
    let it = sandbox.report(&["--security-opt", "seccomp=unconfined"]);
    assert_eq!(it.privileges.seccomp_mode, 0);
    assert_eq!(effective(&it), effective(&sandbox.report(&[])));
    refused(
        &sandbox,
        &[
            (&["--security-opt", "seccomp=/x.json"], "not built yet"),
            (&["--security-opt", "apparmor=x"], "not built yet"),
        ],
    );
}

#[test]
fn groups_are_added_by_the_images_names_and_by_number() {
    let sandbox = Sandbox::tiny("groups");
    let groups = |flags: &[&str]| sandbox.report(flags).identity.groups;
    let added = ["--group-add", "staff", "--group-add", "4242"];
    assert_eq!(groups(&added), [50, 4242]);
    assert_eq!(
        groups(&[&added[..], &["-u", "1000:1000"]].concat()),
        [50, 4242]
    );
    refused(
        &sandbox,
        &[(&["--group-add", "crew"], "look up group crew")],
    );
}

#[test]
fn a_device_of_the_host_is_in_dev_and_can_be_opened() {
    let sandbox = Sandbox::tiny("device");
    let flags = [
        "--device",
        "/dev/zero:/dev/mine/zero",
        "--device",
        "/dev/full:rwm",
    ];
    let it = sandbox.report(&flags);
    let node = &it.dev["/dev/mine/zero"];
    assert_eq!((node.kind.as_str(), node.device), ("char", Some((1, 5))));
    assert_eq!(it.dev["/dev/full"].device, Some((1, 7)));
    let write = sandbox
        .run(flags)
        .args(["tiny", "probe", "try-write", "/dev/mine/zero"]);
    assert_eq!(write.run().ok().line(), "ok");
    refused(
        &sandbox,
        &[
            (&["--device", "/dev/nothere"], "--device /dev/nothere"),
            (&["--device", "/etc/passwd:/dev/x"], "it is not a device"),
            (&["--device", "/dev/zero:/srv/x"], "below /dev"),
        ],
    );
}

#[test]
fn limits_of_processes_are_set_for_every_user_and_below_a_reaper() {
    let sandbox = Sandbox::tiny("ulimit");
    let ours = [
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0",
        "--ulimit",
        "stack=1048576",
    ];
    for more in [&[][..], &["--init"], &["-u", "alice"]] {
        let limits = sandbox.report(&[&ours[..], more].concat()).rlimits;
        let of = |name: &str| (limits[name].0.as_str(), limits[name].1.as_str());
        assert_eq!(of("Max open files"), ("100", "200"), "{more:?}");
        assert_eq!(of("Max core file size"), ("0", "0"));
        assert_eq!(of("Max stack size"), ("1048576", "1048576"));
    }
    refused(
        &sandbox,
        &[(&["--ulimit", "files=1"], "`files=1` is no limit")],
    );
}

#[test]
fn settings_of_the_kernel_are_the_containers_own() {
    let sandbox = Sandbox::tiny("sysctl");
    let read = |flag: &str, path: &str| {
        let run = sandbox.run(["--sysctl", flag, "tiny", "probe", "read", path]);
        run.run().ok().line()
    };
    let path = "/proc/sys/net/ipv4/ip_default_ttl";
    let before = crate::harness::Host::REAL.read(path);
    assert_eq!(read("net.ipv4.ip_default_ttl=77", path), "77");
    assert_eq!(crate::harness::Host::REAL.read(path), before);
    assert_eq!(read("kernel.shmmni=99", "/proc/sys/kernel/shmmni"), "99");
    assert_eq!(
        read("fs.mqueue.msg_max=9", "/proc/sys/fs/mqueue/msg_max"),
        "9"
    );
    refused(
        &sandbox,
        &[
            (
                &["--sysctl", "vm.swappiness=1"],
                "a setting of the whole host",
            ),
            (
                &["--sysctl", "net.core.nothere=1"],
                "/proc/sys/net/core/nothere",
            ),
            (
                &["--network", "host", "--sysctl", "net.core.somaxconn=1"],
                "would change more than the container",
            ),
        ],
    );
}

#[test]
fn shared_memory_has_the_size_that_is_asked_for() {
    let sandbox = Sandbox::tiny("shm");
    for (asked, size) in [("1m", "size=1024k"), ("0", "size=65536k")] {
        let it = sandbox.report(&["--shm-size", asked]);
        let shm = it.mounts.iter().find(|mount| mount.target == "/dev/shm");
        assert!(shm.expect("/dev/shm").has(size), "{asked}: {shm:?}");
    }
}

#[test]
fn the_kernels_choice_for_want_of_memory_is_adjusted() {
    let sandbox = Sandbox::tiny("oom-score");
    assert_eq!(
        sandbox.report(&["--oom-score-adj", "500"]).oom_score_adj,
        "500"
    );
    refused(
        &sandbox,
        &[(&["--oom-score-adj", "2000"], "--oom-score-adj")],
    );
}

#[test]
fn search_domains_and_options_are_the_resolvers() {
    let sandbox = Sandbox::tiny("dns-search");
    let flags = [
        "--dns",
        "9.9.9.9",
        "--dns-search",
        "a.org",
        "--dns-search",
        "b.org",
    ];
    let flags = [&flags[..], &["--dns-option", "ndots:3"]].concat();
    let etc = sandbox.report(&flags).etc;
    let lines: Vec<&str> = etc["/etc/resolv.conf"].lines().collect();
    for line in [
        "nameserver 9.9.9.9",
        "search a.org b.org",
        "options ndots:3",
    ] {
        assert!(lines.contains(&line), "{line} is missing in {lines:?}");
    }
    let none = sandbox.report(&["--dns-search", "."]).etc;
    assert!(!none["/etc/resolv.conf"].contains("search"));
    refused(&sandbox, &[(&["--dns-search", "a b"], "is not one word")]);
}

#[test]
fn the_hardware_address_is_the_one_asked_for_and_the_network_works_with_it() {
    let sandbox = Sandbox::tiny("mac");
    let run = sandbox.mybox(["run", "--rm", "--mac-address", "0a:11:22:33:44:55", "tiny"]);
    let it = run.args(["probe", "report"]).run().ok().report();
    assert_eq!(it.links["eth0"].mac.as_deref(), Some("0a:11:22:33:44:55"));
    let run = sandbox.mybox(["run", "--rm", "--mac-address", "0a:11:22:33:44:55", "tiny"]);
    let gateway = it.routes.iter().find_map(|route| route.gateway.clone());
    drop(
        run.args(["probe", "ping", &gateway.expect("a gateway")])
            .run()
            .ok(),
    );
    let bridge = "--mac-address needs --network bridge";
    refused(
        &sandbox,
        &[(&["--mac-address", "0a:11:22:33:44:55"], bridge)],
    );
}

#[test]
fn annotations_and_labels_are_on_record() {
    let sandbox = Sandbox::tiny("annotation");
    let file = sandbox.scratch().join("labels");
    std::fs::write(&file, "# none\na=1\n\nb=2\n").expect("write the labels");
    let file = file.to_str().expect("a plain path");
    let flags = [
        "--annotation",
        "org.x=y z",
        "--label-file",
        file,
        "--label",
        "b=3",
    ];
    let made = sandbox.mybox(["create", "--network", "none"]).args(flags);
    let id = made.args(["tiny", "true"]).run().ok().line();
    let read = |name: &str| -> serde_json::Value {
        let file = sandbox.root().join("containers").join(&id).join(name);
        let text = std::fs::read_to_string(&file).expect("a file of the container");
        serde_json::from_str(&text).expect("JSON")
    };
    assert_eq!(read("config.json")["annotations"]["org.x"], "y z");
    let labels = serde_json::json!({ "a": "1", "b": "3" });
    assert_eq!(read("record.json")["labels"], labels);
    drop(sandbox.mybox(["rm", &id]).run().ok());
    refused(
        &sandbox,
        &[(&["--label-file", "/nothere"], "read /nothere")],
    );
}

/// The host's namespace of this kind.
fn of_host(kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
    link.to_string_lossy().into_owned()
}

#[test]
fn namespaces_of_the_host_are_shared_one_by_one() {
    let sandbox = Sandbox::tiny("share-host");
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts")] {
        let it = sandbox.report(&[flag, "host"]);
        for other in ["pid", "ipc", "uts", "mnt", "net", "cgroup"] {
            let shared = it.namespaces[other] == of_host(other);
            assert_eq!(shared, other == kind, "{other} with {flag} host");
        }
    }
    let name = rustix::system::uname();
    let it = sandbox.report(&["--uts", "host"]);
    assert_eq!(it.hostname, name.nodename().to_string_lossy());
    let it = sandbox.report(&["--pid", "host"]);
    assert!(it.processes.iter().any(|process| process.pid == 1));
    assert_ne!(it.identity.pid, 1);
    refused(
        &sandbox,
        &[
            (&["--uts", "host", "--hostname", "x"], "--hostname"),
            (&["--pid", "host", "--init"], "--init"),
            (&["--ipc", "host", "--shm-size", "1m"], "--shm-size"),
            (&["--ipc", "host", "--sysctl", "kernel.sem=1"], "--ipc"),
            (&["--ipc", "none", "--shm-size", "1m"], "no /dev/shm"),
            (&["--ipc", "other"], "none of private, shareable"),
            (&["--uts", "container:x"], "no such container: x"),
            (
                &["--userns", "keep-id"],
                "user namespaces are not built yet",
            ),
            (&["--pid", "mine"], "neither host nor container:NAME"),
        ],
    );
}

#[test]
fn a_container_joins_the_memory_and_the_name_of_another() {
    let sandbox = Sandbox::tiny("join-ipc");
    let run = |name: &str, flags: &[&str]| {
        let run = sandbox.run(["--name", name]).args(flags);
        let running = run.args(["tiny", "probe", "trap", "TERM"]).spawn();
        running.wait_for("ready");
        running
    };
    let ends = |running: crate::harness::Running| {
        running.signal(rustix::process::Signal::TERM);
        drop(running.wait().ok());
    };
    let own = run("own", &[]);
    let refusal = "it can be joined if it is run with --ipc shareable";
    let joins_own = sandbox.run(["--ipc", "container:own", "tiny", "true"]);
    drop(joins_own.run().code(125).says(refusal));
    ends(own);
    let donor = run("donor", &["--ipc", "shareable", "--hostname", "given"]);
    let write = sandbox.mybox(["exec", "donor", "probe", "write", "/dev/shm/x", "shared"]);
    drop(write.run().ok());
    let link = |kind: &str| {
        let path = format!("/proc/{}/ns/{kind}", sandbox.container_pid());
        let link = std::fs::read_link(path).expect("a namespace");
        link.to_string_lossy().into_owned()
    };
    let (ipc, uts) = (link("ipc"), link("uts"));
    let joins = ["--ipc", "container:donor", "--uts", "container:donor"];
    let it = sandbox.report(&joins);
    assert_eq!((&it.namespaces["ipc"], &it.namespaces["uts"]), (&ipc, &uts));
    assert_eq!(it.hostname, "given");
    assert_ne!(it.namespaces["mnt"], link("mnt"));
    let read = sandbox
        .run(joins)
        .args(["tiny", "probe", "read", "/dev/shm/x"]);
    assert_eq!(read.run().ok().stdout(), "shared");
    let shown = sandbox
        .run(["--dry-run"])
        .args(joins)
        .args(["tiny", "true"]);
    assert!(
        shown
            .run()
            .ok()
            .stdout()
            .contains("/dev/shm of container donor")
    );
    let renames = [
        "--uts",
        "container:donor",
        "--hostname",
        "x",
        "tiny",
        "true",
    ];
    drop(sandbox.run(renames).run().code(125).says("--hostname"));
    ends(donor);
    let none = sandbox.run(["--ipc", "none", "tiny", "probe", "ls", "/dev"]);
    assert!(!none.run().ok().stdout().contains("shm"));
}

#[test]
fn a_container_joins_the_processes_of_another_and_goes_with_them() {
    let sandbox = Sandbox::tiny("join-pid");
    let run = sandbox.run(["--name", "first", "tiny", "probe", "trap", "TERM"]);
    let first = run.spawn();
    first.wait_for("ready");
    let it = sandbox.report(&["--pid", "container:first"]);
    let seen = it.processes.iter().find(|process| process.pid == 1);
    assert_eq!(
        seen.expect("the other's").cmdline,
        ["probe", "trap", "TERM"]
    );
    assert_ne!(it.identity.pid, 1);
    assert_ne!(it.namespaces["net"], of_host("net"));
    let joined = sandbox.run([
        "--pid",
        "container:first",
        "tiny",
        "probe",
        "sleep",
        "infinity",
    ]);
    let joined = joined.spawn();
    while sandbox.containers().len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    first.signal(rustix::process::Signal::TERM);
    drop(first.wait().ok());
    drop(joined.wait());
    refused(
        &sandbox,
        &[(&["--pid", "container:first"], "no such container: first")],
    );
}

#[test]
fn a_container_joins_the_network_of_another_with_its_names() {
    let sandbox = Sandbox::tiny("join-net");
    let run = sandbox.mybox([
        "run",
        "--rm",
        "--name",
        "first",
        "--hostname",
        "one",
        "tiny",
    ]);
    let first = run.args(["probe", "trap", "TERM"]).spawn();
    first.wait_for("ready");
    let join = |flags: &[&str]| {
        let run = sandbox.mybox(["run", "--rm", "--network", "container:first"]);
        run.args(flags).args(["tiny", "probe", "report"]).run()
    };
    let it = join(&[]).ok().report();
    let own = sandbox
        .mybox(["exec", "first", "probe", "report"])
        .run()
        .ok()
        .report();
    assert_eq!(it.namespaces["net"], own.namespaces["net"]);
    assert_eq!(it.links["eth0"].addresses, own.links["eth0"].addresses);
    assert_eq!((it.hostname.as_str(), &it.etc), ("one", &own.etc));
    for flag in [
        ["--hostname", "x"],
        ["-p", "80"],
        ["--dns", "1.1.1.1"],
        ["--ip", "1.2.3.4"],
    ] {
        drop(join(&flag).code(125).says(flag[0].trim_start_matches('-')));
    }
    // It outlives the other one, whose address is free for others: nothing leads to it any more.
    let run = sandbox.mybox(["run", "--rm", "--network", "container:first", "tiny"]);
    let second = run.args(["probe", "trap", "TERM"]).spawn();
    second.wait_for("ready");
    first.signal(rustix::process::Signal::TERM);
    drop(first.wait().ok());
    let bridge = sandbox.bridge();
    let links = crate::harness::Cmd::new("ip").args(["link", "show", "master", bridge]);
    assert_eq!(links.run().ok().stdout(), "");
    second.signal(rustix::process::Signal::TERM);
    drop(second.wait().ok());
}

#[test]
fn mounts_are_made_as_their_words_say() {
    let sandbox = Sandbox::tiny("mount");
    let dir = sandbox.scratch().join("dir");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::write(dir.join("file"), "here").expect("a file");
    let dir = dir.to_str().expect("a plain path");
    let bind = format!("type=bind,source={dir},target=/data,readonly");
    let memory = "type=tmpfs,target=/memory,tmpfs-size=1m,tmpfs-mode=700";
    let it = sandbox.report(&["--mount", &bind, "--mount", memory]);
    let at = |target: &str| it.mounts.iter().find(|mount| mount.target == target);
    assert!(at("/data").expect("the directory").has("ro"));
    let memory = at("/memory").expect("the tmpfs");
    assert!(
        memory.has("size=1024k") && memory.has("mode=700"),
        "{memory:?}"
    );
    let read = sandbox.run(["--mount", &bind, "tiny", "cat", "/data/file"]);
    assert_eq!(read.run().ok().stdout(), "here");
    let volume = format!("{dir}:/data:ro,z");
    let noted = sandbox
        .run(["-v", &volume, "tiny", "cat", "/data/file"])
        .run()
        .ok();
    assert!(noted.stderr().contains("SELinux"), "{}", noted.stderr());
    let shared = format!("{dir}:/data:shared");
    refused(
        &sandbox,
        &[
            (&["--mount", "type=bind,src=/nothere,dst=/x"], "/nothere"),
            (&["--mount", "type=npipe,src=x,dst=/x"], "not built yet"),
            (&["-v", &shared], "`shared` is not built yet"),
            (
                &["--mount", "type=tmpfs,dst=/memory", "--tmpfs", "/memory"],
                "more than one mount",
            ),
        ],
    );
}

/// Each start goes by what was asked for when the container was made.
#[test]
fn flags_hold_when_a_container_is_started_again() {
    let sandbox = Sandbox::tiny("again");
    let flags = [
        "--network",
        "none",
        "--cap-drop",
        "ALL",
        "--device",
        "/dev/zero:/dev/mine",
    ];
    let made = sandbox.mybox(["create", "--name", "again"]).args(flags);
    let words = [
        "--group-add",
        "staff",
        "--ulimit",
        "nofile=99",
        "tiny",
        "probe",
        "trap",
        "TERM",
    ];
    drop(made.args(words).run().ok());
    for _ in 0..2 {
        drop(sandbox.mybox(["start", "again"]).run().ok());
        let it = sandbox
            .mybox(["exec", "again", "probe", "report"])
            .run()
            .ok()
            .report();
        assert_eq!(effective(&it), 0);
        assert!(it.dev.contains_key("/dev/mine"));
        assert_eq!(it.identity.groups, [50]);
        assert_eq!(it.rlimits["Max open files"].0, "99");
        drop(sandbox.mybox(["stop", "-t", "5", "again"]).run().ok());
    }
    drop(sandbox.mybox(["rm", "again"]).run().ok());
}

#[test]
fn later_mounts_are_seen_where_it_was_asked_for() {
    let sandbox = Sandbox::tiny("propagation");
    let dir = sandbox.scratch().join("shared");
    std::fs::create_dir(&dir).expect("a directory");
    let dir = dir.to_str().expect("a plain path").to_owned();
    let linked = format!("{dir}:/data:rslave");
    refused(&sandbox, &[(&["-v", &linked], "on no shared mount")]);
    let host = |words: &[&str]| {
        let command = crate::harness::Cmd::new(words[0]).args(&words[1..]);
        drop(command.run().ok());
    };
    host(&["mount", "-t", "tmpfs", "tmpfs", &dir]);
    host(&["mount", "--make-shared", &dir]);
    let below = format!("{dir}/below");
    std::fs::create_dir(&below).expect("a directory");
    let private = format!("{dir}:/private");
    let made = sandbox.mybox(["run", "-d", "--rm", "--network", "none", "--name", "sees"]);
    let made = made.args([
        "-v", &linked, "-v", &private, "tiny", "probe", "trap", "TERM",
    ]);
    drop(made.run().ok());
    host(&["mount", "-t", "tmpfs", "tmpfs", &below]);
    let it = sandbox.mybox(["exec", "sees", "probe", "report"]).run();
    let stopped = sandbox.mybox(["stop", "-t", "5", "sees"]).run();
    host(&["umount", &below]);
    host(&["umount", &dir]);
    drop(stopped.ok());
    let mounts = it.ok().report().mounts;
    let is_there = |target: &str| mounts.iter().any(|mount| mount.target == target);
    assert!(
        is_there("/data/below") && !is_there("/private/below"),
        "{mounts:?}"
    );
}

#[test]
fn mounts_of_a_container_are_seen_on_the_host_where_the_volume_is_shared() {
    let sandbox = Sandbox::new("rshared");
    sandbox.import("shell", crate::harness::Rootfs::tiny().busybox());
    let dir = sandbox.scratch().join("shared");
    std::fs::create_dir(&dir).expect("a directory");
    let dir = dir.to_str().expect("a plain path").to_owned();
    let host = |words: &[&str]| crate::harness::Cmd::new(words[0]).args(&words[1..]).run();
    drop(host(&["mount", "-t", "tmpfs", "tmpfs", &dir]).ok());
    drop(host(&["mount", "--make-shared", &dir]).ok());
    let below = format!("{dir}/below");
    std::fs::create_dir(&below).expect("a directory");
    let linked = format!("type=bind,src={dir},dst=/data,bind-propagation=rshared");
    let run = sandbox.run(["--cap-add", "SYS_ADMIN", "--mount", &linked, "shell"]);
    let ran = run
        .args(["busybox", "mount", "-t", "tmpfs", "tmpfs", "/data/below"])
        .run();
    // But not what mybox mounts by itself: this could be the host's /etc.
    let on_etc = linked.replace("/data", "/etc");
    let beneath = sandbox.run(["--mount", &on_etc, "shell", "true"]).run();
    let of_host = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let seen = host(&["umount", &below]);
    drop(host(&["umount", &dir]).ok());
    drop(ran.ok());
    drop(seen.ok());
    drop(beneath.ok());
    assert!(!of_host.contains(&format!("{dir}/hosts")), "{of_host}");
}

#[test]
fn a_domain_name_is_the_uts_namespaces_and_in_hosts() {
    let sandbox = Sandbox::tiny("domainname");
    let flags = ["--hostname", "web", "--domainname", "example.org"];
    let report = sandbox.report(&flags);
    let names = (report.hostname.as_str(), report.domainname.as_str());
    assert_eq!(names, ("web", "example.org"));
    let hosts = sandbox
        .run(flags)
        .args(["tiny", "probe", "read", "/etc/hosts"]);
    let hosts = hosts.run().ok().stdout();
    assert!(hosts.contains("\tweb.example.org web\n"), "{hosts}");
    let refused = sandbox.run(["--uts", "host", "--domainname", "x", "tiny", "true"]);
    drop(
        refused
            .run()
            .code(125)
            .says("--domainname does not go with --uts host"),
    );
}
