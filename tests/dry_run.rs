//! `--dry-run`: the script it prints makes what `mybox run` makes, and printing it makes nothing.

use std::collections::{BTreeMap, BTreeSet};

use mybox_probe::{Mount, Report};

use crate::harness::{HostState, PrivateHost, Rootfs, Sandbox};

/// Runs the script that a dry run prints, then the run itself; what each sees from inside.
fn by_hand_and_by_mybox(sandbox: &Sandbox, flags: &[&str]) -> (Report, Report) {
    let words = |first: &[&'static str]| -> Vec<String> {
        let first = first.iter().map(|word| (*word).to_owned());
        let flags = flags.iter().map(|word| (*word).to_owned());
        first
            .chain(flags)
            .chain(["img", "/bin/probe", "report"].map(Into::into))
            .collect()
    };
    let script = sandbox
        .mybox(words(&["run", "--rm", "--dry-run"]))
        .run()
        .ok()
        .stdout();
    let file = sandbox.scratch().join("script.sh");
    std::fs::write(&file, script).expect("write the script");
    let by_hand = sandbox.host().command("sh").arg(&file).run().ok().report();
    let by_mybox = sandbox.mybox(words(&["run", "--rm"])).run().ok().report();
    (by_hand, by_mybox)
}

fn image() -> Rootfs {
    Rootfs::tiny()
        .file(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n",
        )
        .file("etc/group", "root:x:0:\nweb:x:34:\n")
}

/// A mount without what differs by nature: numbers, the container's own directory, and options
/// that the kernel shows of the file system rather than of the mount.
fn shape(mount: &Mount) -> (String, String, Vec<String>, Vec<String>) {
    let own = [
        "lowerdir",
        "lowerdir+",
        "upperdir",
        "workdir",
        "size",
        "ro",
        "rw",
    ];
    let is_own = |option: &&String| {
        own.iter()
            .any(|name| option.split('=').next() == Some(name))
    };
    let super_options = mount
        .super_options
        .iter()
        .filter(|it| !is_own(it))
        .cloned()
        .collect();
    let mut options = mount.options.clone();
    options.sort();
    (
        mount.target.clone(),
        mount.fstype.clone(),
        options,
        super_options,
    )
}

/// Whether each namespace is another one than the caller's.
fn separate(report: &Report) -> BTreeMap<String, bool> {
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).ok();
    let differs = |(kind, id): (&String, &String)| {
        let differs = own(kind).is_none_or(|own| own.to_string_lossy() != *id);
        (kind.clone(), differs)
    };
    report.namespaces.iter().map(differs).collect()
}

/// Flags, addresses and MTU.
type Interface = (BTreeSet<String>, Vec<String>, Option<u32>);

/// Link-local addresses come with time, and so does RUNNING: the kernel hears of the other end of a
/// veth pair in its own good time.
fn links(report: &Report) -> BTreeMap<String, Interface> {
    let of = |(name, link): (&String, &mybox_probe::Link)| {
        let lasting = |flag: &&String| *flag != "RUNNING";
        let flags = link.flags.iter().filter(lasting).cloned().collect();
        let local = |address: &&String| !address.starts_with("fe80");
        let addresses = link.addresses.iter().filter(local).cloned().collect();
        (name.clone(), (flags, addresses, link.mtu))
    };
    report.links.iter().map(of).collect()
}

/// What is in /dev, without times and inode numbers.
fn devices(report: &Report) -> BTreeMap<String, String> {
    let shown = |(path, node): (&String, &mybox_probe::Node)| {
        let (mode, owner) = (node.mode, (node.uid, node.gid));
        let text = format!(
            "{} {mode:o} {owner:?} {:?} {:?}",
            node.kind, node.device, node.target
        );
        (path.clone(), text)
    };
    report.dev.iter().map(shown).collect()
}

fn assert_same(by_hand: &Report, by_mybox: &Report) {
    let mounts = |report: &Report| -> Vec<_> { report.mounts.iter().map(shape).collect() };
    assert_eq!(mounts(by_hand), mounts(by_mybox), "mounts");
    assert_eq!(separate(by_hand), separate(by_mybox), "namespaces");
    assert_eq!(links(by_hand), links(by_mybox), "links and addresses");
    let routes = |report: &Report| format!("{:?}", report.routes);
    assert_eq!(routes(by_hand), routes(by_mybox), "routes");
    assert_eq!(by_hand.sysctls, by_mybox.sysctls, "sysctls");
    assert!(
        !by_mybox.cgroup.limits.is_empty(),
        "no limits are seen from inside"
    );
    assert_eq!(by_hand.cgroup.limits, by_mybox.cgroup.limits, "limits");
    assert_eq!(by_hand.argv, by_mybox.argv);
    assert_eq!(by_hand.env, by_mybox.env);
    assert_eq!(by_hand.cwd, by_mybox.cwd);
    assert_eq!(by_hand.hostname, by_mybox.hostname);
    assert_eq!(by_hand.etc, by_mybox.etc);
    let who = |report: &Report| {
        let it = &report.identity;
        (
            it.pid,
            it.ppid,
            it.uids.clone(),
            it.gids.clone(),
            it.groups.clone(),
            it.umask,
        )
    };
    assert_eq!(who(by_hand), who(by_mybox), "user and groups");
    // The filter of system calls is the one thing that a shell has no tool for.
    let (mut own, mut mine) = (by_hand.privileges.clone(), by_mybox.privileges.clone());
    for privileges in [&mut own, &mut mine] {
        (privileges.seccomp_mode, privileges.seccomp_filters) = (0, 0);
    }
    assert_eq!(format!("{own:?}"), format!("{mine:?}"), "privileges");
    assert_eq!(devices(by_hand), devices(by_mybox), "/dev");
}

#[test]
fn the_script_makes_the_same_container_with_network_limits_and_volumes() {
    let private = PrivateHost::new();
    let sandbox = Sandbox::on(private.host(), "dry");
    sandbox.import("img", image());
    let data = sandbox.scratch().join("data");
    std::fs::create_dir(&data).unwrap();
    let volume = format!("{}:/data/deep:ro", data.display());
    let flags = [
        "--hostname",
        "web",
        "--ip",
        "10.10.0.77",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--pids-limit",
        "50",
        "-v",
        &volume,
        "--tmpfs",
        "/scratch:size=1m",
        "-w",
        "/new/dir",
        "-e",
        "GREETING=it's \"me\" $HOME",
        "-u",
        "web",
        "--add-host",
        "db:10.1.2.3",
    ];
    let (by_hand, by_mybox) = by_hand_and_by_mybox(&sandbox, &flags);
    assert_same(&by_hand, &by_mybox);
    assert_eq!(by_hand.links["eth0"].addresses[0], "10.10.0.77/16");
}

#[test]
fn the_script_makes_the_same_container_without_network_and_read_only() {
    let sandbox = Sandbox::new("drynone");
    sandbox.import("img", image());
    let flags = [
        "--network",
        "none",
        "--hostname",
        "closed",
        "--read-only",
        "--security-opt",
        "no-new-privileges",
        "-m",
        "32m",
    ];
    let (by_hand, by_mybox) = by_hand_and_by_mybox(&sandbox, &flags);
    assert_same(&by_hand, &by_mybox);
    assert!(by_hand.privileges.no_new_privs);
}

#[test]
fn the_script_mounts_indexed_layers_and_leaves_no_loop_device() {
    let sandbox = Sandbox::new("dryindex").with_layer_form("indexed");
    let more = || Rootfs::empty().file("more", "of a second layer");
    sandbox.add_layers("img", [image(), more()]);
    drop(sandbox.run(["img", "true"]).run().ok());
    let flags = ["--network", "none", "--hostname", "indexed"];
    let (by_hand, by_mybox) = by_hand_and_by_mybox(&sandbox, &flags);
    assert_same(&by_hand, &by_mybox);
    let loops = sandbox.host().command("losetup").arg("--all").run().ok();
    let root = sandbox.root().display().to_string();
    assert!(!loops.stdout().contains(&root), "{}", loops.stdout());
}

#[test]
fn the_script_ends_with_the_commands_code_and_leaves_nothing() {
    let sandbox = Sandbox::new("drycode");
    sandbox.import("img", image());
    let words = [
        "run",
        "--rm",
        "--dry-run",
        "--network",
        "none",
        "img",
        "/bin/probe",
        "exit",
        "7",
    ];
    let script = sandbox.mybox(words).run().ok().stdout();
    let file = sandbox.scratch().join("script.sh");
    std::fs::write(&file, script).unwrap();
    sandbox.host().command("sh").arg(&file).run().code(7);
    // The sandbox looks for what is left when it is dropped.
}

#[test]
fn a_dry_run_changes_nothing() {
    let private = PrivateHost::new();
    let sandbox = Sandbox::on(private.host(), "drynothing");
    sandbox.import("img", image());
    let before = HostState::of(private.host());
    let script = sandbox
        .mybox(["run", "--dry-run", "-m", "64m", "img", "true"])
        .run()
        .ok();
    assert!(script.stdout().starts_with("#!/bin/sh\n"));
    HostState::of(private.host()).assert_same_as(&before);
    let containers = sandbox.root().join("containers");
    assert_eq!(std::fs::read_dir(containers).unwrap().count(), 0);
    assert!(!sandbox.root().join("networks").exists());
    assert!(!sandbox.run_root().join("leases").exists());
}
