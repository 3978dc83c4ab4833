//! Which devices a container may open, whatever nodes it makes: the device cgroup.

use crate::harness::{Cmd, Rootfs, Sandbox};

/// /dev/kmsg: on every host; opened for writing without any capability, for reading with SYSLOG.
const OPEN: &str = "[ -e /dev/kmsg ] || mknod /dev/kmsg c 1 11 || exit 1
    (: < /dev/kmsg) && echo read; (: >> /dev/kmsg) && echo written; true";

fn sandbox(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    sandbox.import("shell", Rootfs::tiny().busybox());
    sandbox
}

/// What could be opened, and what was said of the rest.
fn opened(command: Cmd) -> (String, String) {
    let output = command.args(["busybox", "sh", "-c", OPEN]).run().ok();
    (output.stdout().replace('\n', " "), output.stderr())
}

fn opened_with(sandbox: &Sandbox, flags: &[&str]) -> (String, String) {
    let flags = [&["--cap-add", "SYSLOG"], flags].concat();
    opened(sandbox.run(flags).arg("shell"))
}

#[test]
fn a_node_that_was_made_opens_nothing_that_was_not_given() {
    let sandbox = sandbox("dev-made");
    for flag in [["--cap-add", "MKNOD"], ["--cap-add", "ALL"]] {
        let (out, err) = opened_with(&sandbox, &flag);
        assert_eq!(out, "", "{flag:?}");
        assert_eq!(err.matches("Operation not permitted").count(), 2, "{err}");
        assert!(!err.contains("every device of the host"), "{err}");
    }
    // A block device; disks the machine itself may refuse.
    let script = "mknod /dev/disk b 7 0 && : < /dev/disk";
    let run = |flags: &[&str]| {
        let run = sandbox.run(["--cap-add", "MKNOD"]).args(flags);
        run.args(["shell", "busybox", "sh", "-c", script]).run()
    };
    drop(run(&["--device-cgroup-rule", "b 7:* r"]).ok());
    let refused = run(&[]);
    assert_ne!(refused.exit_code(), Some(0));
    drop(refused.says("Operation not permitted"));
}

#[test]
fn a_device_may_be_used_as_it_was_given() {
    let sandbox = sandbox("dev-given");
    for (flags, expected) in [
        (&["--device", "/dev/kmsg"][..], "read written "),
        (&["--device", "/dev/kmsg:r"], "read "),
        (&["--device", "/dev/kmsg:w"], "written "),
        (&["--device", "/dev/kmsg:/dev/kmsg:wr"], "read written "),
        (&["--privileged"], "read written "),
        (
            &["--cap-add=MKNOD", "--device-cgroup-rule", "c 1:11 r"],
            "read ",
        ),
        (
            &["--cap-add=MKNOD", "--device-cgroup-rule", "a 1:* rw"],
            "read written ",
        ),
        (&["--cap-add=MKNOD", "--device-cgroup-rule", "b *:* rw"], ""),
    ] {
        let (out, err) = opened_with(&sandbox, flags);
        assert_eq!(out, expected, "{flags:?}: {err}");
    }
}

#[test]
fn devices_that_harm_nobody_work() {
    let sandbox = sandbox("dev-default");
    let script = "for it in null zero full random urandom; do
        busybox dd if=/dev/$it of=/dev/null bs=1 count=1 2> /dev/null || exit 1; done
        : > /dev/tty && : > /dev/console && : < /dev/ptmx && echo all";
    let run = sandbox.run(["-t", "shell", "busybox", "sh", "-c", script]);
    assert!(run.run().ok().stdout().contains("all"));
}

#[test]
fn exec_is_restricted_too_and_a_restart_restricts_again() {
    let sandbox = sandbox("dev-exec");
    let start = ["--cap-add=MKNOD", "--cap-add=SYSLOG", "--name=web"];
    let rule = ["--device-cgroup-rule", "c 1:11 r", "shell"];
    let mybox = |words: &[&str]| sandbox.mybox(words.iter().copied());
    let run = mybox(&["run", "-d", "--network", "none"]).args(start);
    drop(run.args(rule).args(["probe", "trap", "TERM"]).run().ok());
    for again in [false, true] {
        if again {
            drop(mybox(&["restart", "web"]).run().ok());
        }
        let (out, err) = opened(mybox(&["exec", "web"]));
        assert_eq!(out, "read ", "{err}");
        drop(mybox(&["update", "--pids-limit", "50", "web"]).run().ok());
        assert_eq!(opened(mybox(&["exec", "web"])).0, "read ");
    }
    drop(mybox(&["rm", "-f", "web"]).run().ok());
}

#[test]
fn rules_that_mean_nothing_are_refused_by_name() {
    let sandbox = sandbox("dev-bad");
    for (flags, word) in [
        (["--device-cgroup-rule", "x 1:3 r"], "`x`"),
        (["--device-cgroup-rule", "c 1:3 rwx"], "`rwx`"),
        (["--device-cgroup-rule", "c 1 r"], "`1`"),
        (["--device", "/dev/zero:/dev/x:rwx"], "/dev/zero:/dev/x:rwx"),
    ] {
        drop(sandbox.run(flags).args(["shell", "true"]).run().says(word));
        sandbox.assert_nothing_runs();
    }
}

#[test]
fn the_script_sets_the_rules_last() {
    let sandbox = sandbox("dev-shown");
    let flags = ["--dry-run", "--device-cgroup-rule", "b 8:* r", "shell"];
    let script = sandbox.run(flags).arg("true").run().ok().stdout();
    let place = |words: &str| {
        script
            .find(words)
            .unwrap_or_else(|| panic!("{words}: {script}"))
    };
    let order = [
        place("/devices.deny"),
        place("'b 8:* r' > "),
        place("mount --move"),
    ];
    assert!(order.is_sorted(), "{order:?}");
}
