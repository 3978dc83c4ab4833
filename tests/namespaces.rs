//! What separates a container from the host: its namespaces, its session, its keyring.

use std::os::unix::fs::MetadataExt;

use mybox_probe::Report;
use rustix::process::Signal;

use crate::harness::{Cmd, Sandbox};

/// The host's namespace of this kind, as the test is in it.
fn of_host(kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
    link.to_string_lossy().into_owned()
}

#[test]
fn every_namespace_is_the_containers_own() {
    let sandbox = Sandbox::tiny("namespaces");
    let run = |flags: &[&str]| {
        let run = sandbox.mybox(["run", "--rm"]).args(flags);
        let run = run.args(["tiny", "probe", "report"]);
        run.run().ok().report().namespaces
    };
    for flags in [&[][..], &["--network", "none"], &["--init"]] {
        let namespaces = run(flags);
        for kind in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
            assert_ne!(namespaces[kind], of_host(kind), "{kind} with {flags:?}");
        }
    }
}

#[test]
fn network_host_shares_the_network_and_nothing_else() {
    let sandbox = Sandbox::tiny("nethost");
    let report = sandbox.report(&["--network", "host"]);
    assert_eq!(report.namespaces["net"], of_host("net"));
    for kind in ["pid", "mnt", "uts", "ipc", "cgroup"] {
        assert_ne!(report.namespaces[kind], of_host(kind), "{kind}");
    }
    let names = std::fs::read_dir("/sys/class/net").expect("links");
    for name in names.flatten().map(|entry| entry.file_name()) {
        let name = name.to_string_lossy().into_owned();
        // Those of other tests come and go.
        if ["lo", "eth0"].contains(&name.as_str()) {
            assert!(report.links.contains_key(&name), "{name}");
        }
    }
    let write = ["--network", "host", "tiny", "probe", "try-write", "/sys/x"];
    assert_eq!(sandbox.run(write).run().ok().line(), "EROFS");
}

#[test]
fn network_none_has_loopback_and_nothing_else() {
    let sandbox = Sandbox::tiny("netnone");
    let report = sandbox.report(&[]);
    let links: Vec<&String> = report.links.keys().collect();
    assert_eq!(links, ["lo"]);
    assert!(report.links["lo"].flags.iter().any(|flag| flag == "UP"));
    assert!(
        report.links["lo"]
            .addresses
            .iter()
            .any(|address| address == "127.0.0.1/8")
    );
    assert!(report.routes.is_empty());
}

#[test]
fn the_command_is_pid_1_of_a_session_of_its_own_and_sees_no_other_process() {
    let sandbox = Sandbox::tiny("pid1");
    let report = sandbox.report(&[]);
    let it = &report.identity;
    assert_eq!((it.pid, it.ppid, it.pgid, it.sid), (1, 0, 1, 1));
    assert_eq!(report.processes.len(), 1, "{:?}", report.processes);
    assert_eq!(report.processes[0].cmdline, ["probe", "report"]);
    assert_eq!(report.argv, ["probe", "report"]);
    assert_eq!(report.exe, "/bin/probe");
    assert!(
        !report.tty.controlling,
        "the caller's terminal is out of reach"
    );
}

#[test]
fn the_hosts_name_stays_when_the_container_has_one() {
    let sandbox = Sandbox::tiny("uts");
    let before = rustix::system::uname().nodename().to_owned();
    assert_eq!(sandbox.report(&["--hostname", "other"]).hostname, "other");
    assert_eq!(rustix::system::uname().nodename(), &*before);
}

#[test]
fn the_container_stands_at_the_top_of_its_cgroup_namespace() {
    let sandbox = Sandbox::tiny("cgroupns");
    let running = sandbox
        .run(["--memory", "64m", "tiny", "probe", "trap", "TERM"])
        .spawn();
    running.wait_for("ready");
    let id = sandbox.containers().pop().expect("a container");
    let host = std::fs::read_to_string(format!("/proc/{}/cgroup", sandbox.container_pid()));
    assert!(
        host.expect("cgroups").contains(&id),
        "the host sees the container's own group"
    );
    running.signal(Signal::TERM);
    let _ = running.wait();
    let inside = sandbox.report(&["--memory", "64m"]);
    let memory = |line: &&String| line.contains("memory") || line.starts_with("0::");
    let lines: Vec<&String> = inside.cgroup.membership.iter().filter(memory).collect();
    assert!(!lines.is_empty());
    let tops: Vec<&&String> = lines.iter().filter(|line| line.ends_with(":/")).collect();
    assert!(!tops.is_empty(), "{lines:?}");
}

#[test]
fn on_the_hosts_network_it_has_the_hosts_name_unless_it_has_one_of_its_own() {
    let sandbox = Sandbox::tiny("hostname");
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let on_host = |flags: &[&str]| {
        let run = sandbox
            .mybox(["run", "--rm", "--network", "host"])
            .args(flags);
        run.args(["tiny", "probe", "report"])
            .run()
            .ok()
            .report()
            .hostname
    };
    assert_eq!(on_host(&[]), host);
    assert_eq!(on_host(&["--hostname", "other"]), "other");
}

#[test]
fn with_the_hosts_cgroup_namespace_it_sees_the_hosts_groups() {
    let sandbox = Sandbox::tiny("cgroupns-host");
    let ours = std::fs::read_link("/proc/self/ns/cgroup").expect("our namespace");
    let flags = ["--network", "none", "--cgroupns", "host"];
    let running = sandbox
        .mybox(["run", "--rm"])
        .args(flags)
        .args(["tiny", "probe", "trap", "TERM"])
        .spawn();
    running.wait_for("ready");
    let id = sandbox.containers().pop().expect("a container");
    let its = format!("/proc/{}/ns/cgroup", sandbox.container_pid());
    assert_eq!(std::fs::read_link(its).expect("its namespace"), ours);
    // Nor does a command that joins it see another part.
    let joined = sandbox.mybox(["exec", &id, "probe", "report"]).run().ok();
    let report: Report = serde_json::from_str(&joined.stdout()).expect("a report");
    let membership = &report.cgroup.membership;
    let in_own_group = |line: &String| line.ends_with(&format!("/mybox/{id}"));
    assert!(membership.iter().any(in_own_group), "{membership:?}");
    running.signal(Signal::TERM);
    let _ = running.wait();
    let wrong = sandbox.run(["--cgroupns", "shared", "tiny", "true"]).run();
    drop(wrong.code(125).says("neither private nor host"));
}

/// Prints what a search for a key in the session keyring says: `found` or the error. With `add` as
/// argument it adds the key first and then becomes the rest of its arguments.
const KEYS: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    long session = -3; /* KEY_SPEC_SESSION_KEYRING */
    if (argc > 2 && !strcmp(argv[1], "add")) {
        syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, 0L);
        if (syscall(SYS_add_key, "user", "mybox-test", "secret", 6L, session) < 0) {
            perror("add_key");
            return 1;
        }
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        return 1;
    }
    long key = syscall(SYS_keyctl, 10 /* KEYCTL_SEARCH */, session, "user", "mybox-test", 0L);
    puts(key < 0 ? strerrorname_np(errno) : "found");
    return 0;
}
"#;

#[test]
fn keys_of_the_callers_session_are_not_in_the_container() {
    let sandbox = Sandbox::tiny("keyring");
    let program = sandbox.scratch().join("keys");
    let cc = Cmd::new("cc")
        .args(["-xc", "-static", "-o"])
        .arg(&program)
        .arg("-");
    cc.stdin(KEYS).run().ok();
    let keys = program.to_str().expect("a plain path");
    let on_host = Cmd::new(keys).through([keys, "add"]).run().ok();
    assert_eq!(on_host.line(), "found", "the host has session keyrings");
    let volume = format!("{keys}:/keys:ro");
    let inside = sandbox
        .run(["-v", &volume, "tiny", "/keys"])
        .through([keys, "add"]);
    // EPERM where a filter of system calls is in the way of even looking.
    let answer = inside.run().ok().line();
    assert!(["ENOKEY", "EPERM"].contains(&answer.as_str()), "{answer}");
}

#[test]
fn the_reaper_is_closed_to_root_of_the_container() {
    let sandbox = Sandbox::tiny("reaper");
    let running = sandbox
        .run(["--init", "tiny", "probe", "trap", "TERM"])
        .spawn();
    running.wait_for("ready");
    // It is mybox's own binary with mybox's memory.
    let reaper = sandbox.container_pid();
    let inode = |path: &str| std::fs::metadata(path).expect("the reaper").ino();
    let binary = env!("CARGO_BIN_EXE_mybox");
    assert_eq!(inode(&format!("/proc/{reaper}/exe")), inode(binary));
    let open = std::fs::read_dir(format!("/proc/{reaper}/fd")).expect("descriptors");
    assert_eq!(open.count(), 4, "the standard three and its signals");
    running.signal(Signal::TERM);
    let _ = running.wait().ok();
    for path in [
        "/proc/1/exe",
        "/proc/1/root/etc/passwd",
        "/proc/1/maps",
        "/proc/1/fd/0",
    ] {
        let output = sandbox.run(["--init", "tiny", "cat", path]).run().code(1);
        let _ = output.says("Permission denied");
    }
}
