//! The harness tried on itself: what it promises to the tests must hold, above all that its checks
//! can fail.

use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::private_host::{ADDRESS, ANSWER, OUTSIDE};
use super::{
    Cmd, Host, HostState, PrivateHost, Rootfs, Sandbox, Terminal, debian, probe, requirements,
};
use crate::detached::until;

/// What `action` panics with.
#[track_caller]
fn failure_of(action: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(action)).expect_err("this must fail");
    panic
        .downcast_ref::<String>()
        .expect("a panic with a message")
        .clone()
}

#[test]
fn the_machine_has_what_the_tests_need() {
    requirements();
}

#[test]
fn a_command_gets_input_and_gives_output_and_code() {
    let output = Cmd::new("sh")
        .args(["-c", "cat; echo $A >&2; exit 3"])
        .env("A", "word")
        .stdin("text")
        .run();
    let output = output.code(3).says("word");
    assert_eq!(output.line(), "text");
    assert!(failure_of(|| drop(output.ok())).contains("expected exit code 0"));
}

#[test]
fn a_command_that_hangs_is_killed_and_its_output_shown() {
    let start = Instant::now();
    let hanging = Cmd::new("sh").args(["-c", "echo before; sleep 50; echo after"]);
    let message = failure_of(|| drop(hanging.timeout(Duration::from_millis(300)).run()));
    assert!(
        message.contains("before") && !message.contains("after\n"),
        "{message}"
    );
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_process_left_behind_with_the_output_open_is_found() {
    let leaving = Cmd::new("sh").args(["-c", "sleep 8 & echo gone"]);
    assert!(failure_of(|| drop(leaving.run())).contains("still holds its output open"));
}

#[test]
fn a_running_program_can_be_waited_for_and_signalled() {
    let trap = Cmd::new(probe()).args(["trap", "USR1", "TERM"]).spawn();
    trap.wait_for("ready");
    trap.signal(Signal::USR1);
    trap.wait_for("SIGUSR1");
    trap.signal(Signal::TERM);
    assert_eq!(trap.wait().ok().stdout(), "ready\nSIGUSR1\nSIGTERM\n");
}

#[test]
fn the_probe_reports_what_it_sees() {
    let probe = Cmd::new("unshare")
        .args(["--net", "--uts", "--pid", "--fork", "--mount-proc"])
        .arg(probe());
    let report = probe.arg("report").env("A", "b").run().ok().report();
    assert_eq!(report.identity.pid, 1);
    assert_eq!(report.processes.len(), 1);
    assert_eq!(report.env["A"], "b");
    assert_eq!(report.links.keys().collect::<Vec<_>>(), ["lo"]);
    assert!(report.routes.is_empty());
    assert!(
        [0, 1, 2].iter().all(|fd| report.fds.contains_key(fd)),
        "{:?}",
        report.fds
    );
    assert!(report.rlimits.contains_key("Max open files"));
    assert_eq!(report.dev["/dev/null"].device, Some((1, 3)));
    let own = std::fs::read_link("/proc/self/ns/net").expect("own namespace");
    assert_ne!(report.namespaces["net"], own.to_string_lossy());
}

#[test]
fn a_terminal_carries_input_output_sizes_and_signals() {
    let terminal = Terminal::new(24, 80);
    let before = terminal.settings();
    let mut session = terminal.spawn(Cmd::new(probe()).arg("winsize-watch"));
    session.read_until("24x80");
    session.terminal().resize(30, 100);
    session.read_until("30x100");
    session.send("\x03");
    let (code, _, terminal) = session.wait();
    assert_eq!((code, terminal.settings()), (0, before));

    let (code, screen, terminal) = terminal
        .spawn(Cmd::new("sh").args(["-c", "stty raw; kill -9 $$"]))
        .wait();
    assert_eq!((code, screen.as_str()), (137, screen.as_str()));
    assert_ne!(terminal.settings(), Terminal::new(24, 80).settings());
}

#[test]
fn a_terminal_is_the_controlling_one() {
    let (code, screen, _) = Terminal::new(20, 70)
        .spawn(Cmd::new(probe()).arg("report"))
        .wait();
    assert_eq!(code, 0);
    let report: mybox_probe::Report = serde_json::from_str(&screen).expect("a report");
    assert_eq!(report.tty.is_terminal, [true; 3]);
    assert!(report.tty.controlling);
    assert_eq!(report.tty.size, Some((20, 70)));
    assert_eq!(report.tty.foreground, Some(report.identity.pid));
}

#[test]
fn an_empty_sandbox_leaves_nothing() {
    let sandbox = Sandbox::new("empty");
    assert!(sandbox.bridge().len() <= 15);
    let directory = sandbox.scratch();
    sandbox.finish();
    assert!(!directory.exists());
}

#[test]
fn a_sandbox_finds_each_kind_of_leftover() {
    let sandbox = Sandbox::new("leftover");
    let id = format!("fade{:08x}beef", std::process::id());
    let container = sandbox.root().join("containers").join(&id);
    std::fs::create_dir_all(&container).expect("container's directory");
    std::fs::create_dir_all(sandbox.run_root()).expect("run root");
    std::fs::create_dir_all(sandbox.run_root().join("containers/x")).expect("volatile directory");
    std::fs::create_dir_all(sandbox.run_root().join("leases/br")).expect("leases");
    symlink(&id, sandbox.run_root().join("leases/br/10.0.0.1")).expect("a lease");
    std::fs::write(sandbox.run_root().join("net.lock"), "").expect("a lock");
    assert_eq!(sandbox.containers(), std::slice::from_ref(&id));
    let cgroup = format!("/sys/fs/cgroup/pids/mybox-{id}");
    let cgroup = if std::fs::create_dir(&cgroup).is_ok() {
        cgroup
    } else {
        format!("/sys/fs/cgroup/mybox-{id}")
    };
    std::fs::create_dir_all(&cgroup).expect("a cgroup");
    let mount = sandbox.scratch();
    Cmd::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(&mount)
        .run()
        .ok();
    let holder = Cmd::new("sleep")
        .arg("50")
        .env("MYBOX_ROOT", sandbox.root())
        .spawn();
    // It shares a mount namespace and an open file with the sandbox, but was not started for it.
    let bystander = Cmd::new("sleep").arg("50").dir(&mount).spawn();
    let link = format!("v{}", &id[..8]);
    Cmd::new("ip")
        .args(["link", "add", "name", &link, "type", "bridge"])
        .run()
        .ok();

    let running = sandbox.running().join("\n");
    assert!(
        running.contains("Process {") && running.contains("br/10.0.0.1"),
        "{running}"
    );
    assert!(
        !running.contains(&format!("root/containers/{id}\n")),
        "{running}"
    );
    let message = failure_of(|| sandbox.finish());
    for kind in [
        "Link(",
        "Mount(",
        "Cgroup(",
        "Process {",
        "run/lease",
        &format!("containers/{id}"),
    ] {
        assert!(message.contains(kind), "no {kind} in {message}");
    }
    assert!(
        !message.contains("net.lock") && !message.contains("leases/br\n"),
        "{message}"
    );
    assert_eq!(holder.wait().signal(), Some(9), "the sweep killed it");
    bystander.signal(Signal::TERM);
    assert_eq!(
        bystander.wait().signal(),
        Some(15),
        "the sweep left it alone"
    );
    assert!(
        !std::path::Path::new(&cgroup).exists(),
        "the sweep removed the group"
    );
    Cmd::new("ip").args(["link", "show", &link]).run().code(1);
}

#[test]
fn a_sandbox_ends_a_container_that_a_failed_test_has_left_paused() {
    let sandbox = Sandbox::tiny("leftover-paused");
    let run = ["run", "-d", "--network", "none", "--name", "still", "tiny"];
    drop(
        sandbox
            .mybox(run)
            .args(["probe", "sleep", "600"])
            .run()
            .ok(),
    );
    drop(sandbox.mybox(["pause", "still"]).run().ok());
    let process = format!("/proc/{}", sandbox.container_pid());
    let message = failure_of(|| sandbox.finish());
    assert!(message.contains("Cgroup("), "{message}");
    let process = std::path::Path::new(&process);
    until("its end", || !process.exists());
}

#[test]
fn a_private_host_shows_each_kind_of_change() {
    let private = PrivateHost::new();
    let host = private.host();
    let before = HostState::of(host);
    HostState::of(host).assert_same_as(&before);
    for (change, undo, kind) in [
        (
            "ip link add name d0 type bridge",
            "ip link delete d0",
            "link: ",
        ),
        (
            "ip address add 10.9.8.7/32 dev lo",
            "ip address delete 10.9.8.7/32 dev lo",
            "address: ",
        ),
        (
            "ip route add 10.9.9.0/24 dev lo",
            "ip route delete 10.9.9.0/24 dev lo",
            "route: ",
        ),
        (
            "nft add table inet t",
            "nft delete table inet t",
            "firewall: ",
        ),
        (
            "echo 1 >/proc/sys/net/ipv4/ip_forward",
            "echo 0 >/proc/sys/net/ipv4/ip_forward",
            "sysctl: /proc/sys/net/ipv4/ip_forward",
        ),
        ("mount -t tmpfs tmpfs /mnt", "umount /mnt", "mount: "),
    ] {
        host.command("sh").args(["-c", change]).run().ok();
        let message = failure_of(|| HostState::of(host).assert_same_as(&before));
        assert!(
            message.contains(&format!("+ {kind}")),
            "{change}: {message}"
        );
        host.command("sh").args(["-c", undo]).run().ok();
        HostState::of(host).assert_same_as(&before);
    }
    assert!(!Host::REAL.read("/proc/self/mountinfo").contains(" /mnt "));
}

#[test]
fn a_private_host_has_its_own_sysfs_and_the_machines_cgroups() {
    let private = PrivateHost::new();
    let list = |host: Host, path| host.command("ls").arg(path).run().ok().stdout();
    assert_eq!(list(private.host(), "/sys/class/net"), "lo\n");
    assert_eq!(
        list(private.host(), "/sys/fs/cgroup"),
        list(Host::REAL, "/sys/fs/cgroup")
    );
}

#[test]
fn a_private_host_reaches_its_outside() {
    let private = PrivateHost::with_outside();
    private.replace_file("/etc/resolv.conf", &format!("nameserver {OUTSIDE}\n"));
    let ask = |words: &[&str]| {
        private
            .host()
            .command(probe())
            .args(words)
            .run()
            .ok()
            .line()
    };
    assert!(ask(&["ping", OUTSIDE]).starts_with("echo from"));
    assert_eq!(
        ask(&["udp-send", &format!("{OUTSIDE}:7"), "hello"]),
        "hello"
    );
    assert_eq!(
        ask(&["tcp-get", &format!("{OUTSIDE}:80")]),
        format!("outside\n{ADDRESS}")
    );
    assert_eq!(ask(&["resolve", "any.name"]), ANSWER);
    assert!(private.outside_log().contains(&format!("from {ADDRESS}:")));
    private
        .outside("ip")
        .args(["route", "get", "10.10.0.1"])
        .run()
        .code(2);
}

#[test]
fn the_debian_tree_is_whole_and_made_once() {
    let tree = debian();
    assert_eq!(debian(), tree);
    let said = Cmd::new("chroot")
        .arg(&tree)
        .args(["ip", "-V"])
        .run()
        .ok()
        .stdout();
    assert!(said.starts_with("ip utility"), "{said}");
    assert!(
        !Host::REAL
            .read("/proc/self/mountinfo")
            .contains(&*tree.to_string_lossy())
    );
}

#[test]
fn a_tiny_root_filesystem_runs_by_hand() {
    let directory = tempfile::tempdir().expect("directory");
    let root = directory.path();
    Cmd::new("tar")
        .args(["-x", "-C"])
        .arg(root)
        .stdin(Rootfs::tiny().tar())
        .run()
        .ok();
    let said = Cmd::new("chroot")
        .arg(root)
        .args(["/bin/echo", "hello", "there"])
        .run()
        .ok();
    assert_eq!(said.line(), "hello there");
    Cmd::new("chroot").arg(root).arg("/bin/false").run().code(1);
}
