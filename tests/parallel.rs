//! Many at once: nothing of a run is anybody else's, and no run waits for all others.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::harness::{HostState, PrivateHost, Running, Sandbox};

const MANY: usize = 50;

#[track_caller]
fn sandbox(name: &str) -> (PrivateHost, Sandbox) {
    let private = PrivateHost::new();
    let sandbox = Sandbox::on(private.host(), name);
    sandbox.import_tiny();
    (private, sandbox)
}

/// Containers on a bridge that none of them has made before, all alive at the same time: each one
/// waits for the end of its input.
#[test]
fn fifty_at_once_all_run_with_addresses_of_their_own_and_leave_nothing() {
    let (private, sandbox) = sandbox("fifty");
    let untouched = HostState::of(private.host());
    let flags = ["run", "--rm", "-i", "-m", "32m", "--pids-limit", "9"];
    let command = ["tiny", "sh", "-c", "probe report; cat"];
    import_shell(&sandbox);
    let start = |_| sandbox.mybox(flags).args(command).spawn();
    let running: Vec<Running> = (0..MANY).map(start).collect();
    for one in &running {
        one.wait_for("\"clocks\"");
    }
    let listed = sandbox.mybox(["ps", "--json"]).run().ok().stdout_json();
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), MANY);
    let distinct = |field: &str| -> BTreeSet<String> {
        listed.iter().map(|row| row[field].to_string()).collect()
    };
    for field in ["id", "name", "address", "veth"] {
        assert_eq!(distinct(field).len(), MANY, "{field}");
    }
    let reports: Vec<mybox_probe::Report> = running
        .into_iter()
        .map(|one| one.wait().ok().report())
        .collect();
    let addresses: BTreeSet<Ipv4Addr> = reports
        .iter()
        .map(|report| {
            let (address, prefix) = report.links["eth0"].addresses[0]
                .split_once('/')
                .expect("/");
            assert_eq!(prefix, "16");
            address.parse().expect("an address")
        })
        .collect();
    assert_eq!(addresses.len(), MANY);
    for kind in ["net", "pid", "mnt", "uts", "ipc"] {
        let namespaces: BTreeSet<&String> = reports.iter().map(|it| &it.namespaces[kind]).collect();
        assert_eq!(namespaces.len(), MANY, "{kind}");
    }
    sandbox.assert_nothing_runs();
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    HostState::of(private.host()).assert_same_as(&untouched);
}

/// Puts a shell into the image `tiny`.
#[track_caller]
fn import_shell(sandbox: &Sandbox) {
    let shell = std::fs::read("/bin/busybox").expect("busybox");
    let rootfs = crate::harness::Rootfs::tiny();
    let rootfs = rootfs.file_with("bin/sh", &shell, |header| header.set_mode(0o755));
    sandbox.import("tiny", rootfs);
}

/// A name and an address go to one of all that ask for them.
#[test]
fn of_many_that_want_one_name_or_address_one_gets_it() {
    let (_private, sandbox) = sandbox("one-name");
    for (flag, value, complaint) in [
        ("--name", "wanted", "the name `wanted` is taken by"),
        ("--ip", "10.10.1.2", "10.10.1.2 is the address of"),
    ] {
        let start = |_| {
            let run = sandbox.mybox(["run", "--rm", "-i", flag, value]);
            run.args(["tiny", "probe", "cat"]).spawn()
        };
        let mut running: Vec<Running> = (0..10).map(start).collect();
        // Those that were refused end by themselves; the winner waits for its input's end, which
        // the waiting itself brings. Which one it is cannot be known before.
        let begin = std::time::Instant::now();
        while running.iter().filter(|one| !one.has_ended()).count() > 1 {
            assert!(begin.elapsed().as_secs() < 50, "more than one has {value}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let (ended, waiting): (Vec<_>, Vec<_>) = running.drain(..).partition(Running::has_ended);
        assert_eq!((ended.len(), waiting.len()), (9, 1));
        for refused in ended {
            drop(refused.wait().code(125).says(complaint));
        }
        for winner in waiting {
            drop(winner.wait().ok());
        }
    }
    assert_eq!(
        sandbox
            .mybox(["ps", "-a", "--json"])
            .run()
            .ok()
            .stdout_json(),
        serde_json::json!([])
    );
}
