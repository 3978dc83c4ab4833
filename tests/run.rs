//! `mybox run`: exit codes, what of the image config counts, process flags, streams, signals, names
//! and what stays of a container.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use tar::EntryType;

use crate::detached::until;
use crate::harness::{Cmd, Rootfs, Sandbox};

#[test]
fn what_follows_the_image_is_the_commands_even_if_it_looks_like_a_flag() {
    let sandbox = Sandbox::tiny("words");
    let words = ["-d", "--name", "zz", "--", "-e", "X=1"];
    for (flags, before) in [(&[][..], &["echo"][..]), (&["--entrypoint", "echo"], &[])] {
        let run = sandbox.run(flags).arg("tiny");
        let said = run.args(before).args(words).run().ok();
        assert_eq!(said.line(), words.join(" "));
    }
    let unknown = sandbox.run(["--memroy", "1g", "tiny", "true"]).run();
    drop(unknown.code(125).says("--memory"));
}

#[test]
fn the_exit_code_is_the_commands() {
    let sandbox = Sandbox::tiny("code");
    for code in ["0", "1", "7", "125", "126", "127", "255"] {
        let expected = code.parse().expect("a number");
        for init in [&[][..], &["--init"]] {
            let command = sandbox.run(init).args(["tiny", "probe", "exit", code]);
            let output = command.run().code(expected);
            assert_eq!(output.stderr(), "", "mybox has nothing to add");
        }
    }
}

#[test]
fn a_command_that_a_signal_ends_gives_128_and_its_number() {
    let sandbox = Sandbox::tiny("signalled");
    // A pid 1 is not ended by its own signals: that takes the reaper, or the host.
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("USR1", 138)] {
        sandbox
            .run(["--init", "tiny", "probe", "signal-self", signal])
            .run()
            .code(code);
    }
    let running = sandbox.run(["tiny", "probe", "trap", "TERM"]).spawn();
    running.wait_for("ready");
    let pid = i32::try_from(sandbox.container_pid()).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, Signal::KILL).expect("kill the container");
    let _ = running.wait().code(137);
}

#[test]
fn failures_of_myboxs_own_give_125_and_say_what_failed() {
    let sandbox = Sandbox::tiny("own");
    let cases: &[(&[&str], &str)] = &[
        (&["--pull", "never", "nothere"], "no such image: nothere"),
        (&["--nosuchflag", "tiny"], "--nosuchflag"),
        (&["--memory", "much", "tiny"], "`much` is no size"),
        (&["tiny"], "no command"),
        (&["--entrypoint", "", "tiny"], "no command"),
        (&["-w", "relative", "tiny", "true"], "`relative`"),
        (&["-u", "mallory", "tiny", "true"], "look up user mallory"),
        (&["-u", "alice:crew", "tiny", "true"], "look up group crew"),
        (&["--name", "a/b", "tiny", "true"], "`a/b`"),
        (
            &["--env-file", "/nonexistent", "tiny", "true"],
            "/nonexistent",
        ),
        (&["--security-opt", "label=x", "tiny", "true"], "label=x"),
    ];
    for (words, text) in cases {
        let _ = sandbox.run(*words).run().code(125).says(text);
        sandbox.assert_nothing_runs();
    }
}

#[test]
fn a_command_that_is_nowhere_gives_127_and_names_it() {
    let sandbox = Sandbox::new("missing");
    let script = |rootfs: Rootfs| {
        rootfs.file_with("bin/script", b"#!/bin/nope\n", |header| {
            header.set_mode(0o755);
        })
    };
    sandbox.import("tiny", script(Rootfs::tiny()));
    for (command, text) in [
        ("nope", "$PATH"),
        ("/bin/nope", "/bin/nope"),
        ("./nope", "./nope"),
        ("script", "interpreter"),
        ("", "execute \"\": it is nowhere in the container's $PATH"),
    ] {
        let output = sandbox.run(["tiny", command]).run().code(127);
        let _ = output.says(command).says(text);
        let reaped = sandbox.run(["--init", "tiny", command]).run();
        let _ = reaped.code(127).says(command);
    }
}

#[test]
fn a_command_that_cannot_be_executed_gives_126_and_the_reason() {
    let sandbox = Sandbox::new("refused");
    let rootfs = Rootfs::tiny().file_with("bin/noise", b"no program\n", |header| {
        header.set_mode(0o755);
    });
    sandbox.import("tiny", rootfs);
    for (command, text) in [
        ("/etc/passwd", "EACCES"),
        ("/etc", "EACCES"),
        (
            "noise",
            "neither a program for this machine nor a #! script",
        ),
    ] {
        let output = sandbox.run(["tiny", command]).run().code(126);
        let _ = output.says(command).says(text);
    }
    let init = sandbox.run(["--init", "tiny", "/etc"]).run().code(126);
    let _ = init.says("EACCES");
}

#[test]
fn entrypoint_and_cmd_of_the_image_combine_with_the_command_line() {
    let sandbox = Sandbox::new("entrypoint");
    let changes = [
        r#"ENTRYPOINT ["/bin/probe", "echo", "entry"]"#,
        r#"CMD ["cmd", "two words"]"#,
    ];
    sandbox.import_with("both", Rootfs::tiny(), &changes);
    sandbox.import_with("cmd", Rootfs::tiny(), &[r#"CMD ["echo", "from cmd"]"#]);
    let cases: &[(&[&str], &str)] = &[
        (&["both"], "entry cmd two words"),
        (&["both", "a", "-b", "--rm"], "entry a -b --rm"),
        (&["--entrypoint", "echo", "both", "c"], "c"),
        (&["--entrypoint", "echo", "both"], ""),
        (&["--entrypoint", "", "both", "echo", "d"], "d"),
        (&["cmd"], "from cmd"),
        (&["cmd", "echo", "instead"], "instead"),
    ];
    for (words, said) in cases {
        assert_eq!(sandbox.run(*words).run().ok().line(), *said, "{words:?}");
    }
}

#[test]
fn the_environment_has_defaults_and_no_variable_of_the_caller() {
    let sandbox = Sandbox::tiny("env");
    let run = |flags: &[&str]| {
        let words = flags.iter().chain(&["tiny", "probe", "report"]);
        let cmd = sandbox.run(words).env("SECRET", "of the caller");
        cmd.run().ok().report().env
    };
    let env = run(&["--hostname", "box"]);
    let names: Vec<&str> = env.keys().map(String::as_str).collect();
    assert_eq!(names, ["HOME", "HOSTNAME", "PATH"]);
    assert_eq!(env["HOME"], "/root");
    assert_eq!(env["HOSTNAME"], "box");
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(env["PATH"], path);
    assert_eq!(run(&["-u", "alice"])["HOME"], "/home/alice");
    assert_eq!(run(&["-u", "4321"])["HOME"], "/");
    assert_eq!(run(&["-t"])["TERM"], "xterm");
    let own = run(&["-t", "-e", "TERM=dumb", "-e", "HOME=/tmp"]);
    assert_eq!((&*own["TERM"], &*own["HOME"]), ("dumb", "/tmp"));
}

#[test]
fn variables_come_from_the_image_the_files_and_the_flags_and_the_later_wins() {
    let sandbox = Sandbox::new("envs");
    let changes = [r#"ENV A=image B=image C=image PATH=/bin E="two words""#];
    sandbox.import_with("tiny", Rootfs::tiny(), &changes);
    let file = sandbox.scratch().join("env");
    let text = "# a comment\n\nB=file\nC=file\nF= spaced \nG=a=b\nFROM_CALLER\nNOT_SET\n";
    std::fs::write(&file, text).expect("an env file");
    let env = sandbox
        .run(["--env-file", file.to_str().expect("a plain path")])
        .args([
            "-e", "C=flag", "-e", "D=first", "-e", "D=last", "-e", "EMPTY=",
        ])
        .args(["-e", "PASSED", "-e", "UNSET"])
        .args(["tiny", "probe", "report"])
        .env("FROM_CALLER", "called")
        .env("PASSED", "on")
        .run()
        .ok()
        .report()
        .env;
    let expected = [
        ("A", "image"),
        ("B", "file"),
        ("C", "flag"),
        ("D", "last"),
        ("E", "two words"),
        ("EMPTY", ""),
        ("F", " spaced "),
        ("FROM_CALLER", "called"),
        ("G", "a=b"),
        ("PASSED", "on"),
        ("PATH", "/bin"),
    ];
    for (name, value) in expected {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!env.contains_key("UNSET") && !env.contains_key("NOT_SET"));
}

#[test]
fn an_env_file_that_makes_no_sense_is_refused_with_its_line() {
    let sandbox = Sandbox::tiny("envfile");
    let file = sandbox.scratch().join("env");
    for (text, place) in [("A=1\n=2\n", "line 2"), ("A=1\n\nB C=2\n", "line 3")] {
        std::fs::write(&file, text).expect("an env file");
        let flag = ["--env-file", file.to_str().expect("a plain path")];
        let output = sandbox.run(flag).args(["tiny", "true"]).run();
        let _ = output.code(125).says(place);
    }
}

#[test]
fn the_working_directory_is_the_images_or_the_flags_and_made_if_missing() {
    let sandbox = Sandbox::new("workdir");
    sandbox.import_with("tiny", Rootfs::tiny(), &["WORKDIR /srv/app"]);
    sandbox.import("plain", Rootfs::tiny());
    let cwd = |words: &[&str]| {
        let words = words.iter().chain(&["probe", "report"]);
        sandbox.run(words).run().ok().report().cwd
    };
    assert_eq!(cwd(&["tiny"]), "/srv/app");
    assert_eq!(cwd(&["-w", "/tmp", "tiny"]), "/tmp");
    assert_eq!(
        cwd(&["-w", "/new/deep/", "-u", "alice", "tiny"]),
        "/new/deep"
    );
    assert_eq!(cwd(&["plain"]), "/");
    let made = sandbox.run(["tiny", "probe", "stat", "/srv/app"]);
    let made = made.run().ok().stdout_json();
    assert_eq!(made["/srv/app"]["mode"], 0o755);
    assert_eq!(made["/srv/app"]["uid"], 0);
    // A relative program is looked for from there.
    let relative = sandbox.run(["-w", "/bin", "plain", "./probe", "echo", "here"]);
    assert_eq!(relative.run().ok().line(), "here");
    let output = sandbox.run(["-w", "/etc/passwd", "plain", "true"]).run();
    let _ = output.code(125).says("/etc/passwd");
}

#[test]
fn users_are_found_in_the_images_own_files() {
    let sandbox = Sandbox::new("user");
    sandbox.import("tiny", Rootfs::tiny());
    sandbox.import_with("alices", Rootfs::tiny(), &["USER alice"]);
    let who = |words: &[&str]| {
        let words = words.iter().chain(&["probe", "report"]);
        let it = sandbox.run(words).run().ok().report().identity;
        (it.uids, it.gids, it.groups)
    };
    let same = |uid: u32, gid: u32, groups: &[u32]| (vec![uid; 4], vec![gid; 4], groups.to_vec());
    assert_eq!(who(&["tiny"]), same(0, 0, &[]));
    assert_eq!(who(&["-u", "alice", "tiny"]), same(1000, 1000, &[50]));
    assert_eq!(who(&["-u", "1000", "tiny"]), same(1000, 1000, &[50]));
    assert_eq!(who(&["-u", "alice:staff", "tiny"]), same(1000, 50, &[]));
    assert_eq!(who(&["-u", "alice:7", "tiny"]), same(1000, 7, &[]));
    assert_eq!(who(&["-u", "12345:54321", "tiny"]), same(12345, 54321, &[]));
    assert_eq!(who(&["alices"]), same(1000, 1000, &[50]));
    assert_eq!(who(&["-u", "root", "alices"]), same(0, 0, &[]));
}

#[test]
fn volumes_of_the_image_start_with_its_content_and_go_with_the_container() {
    let sandbox = Sandbox::new("volumes");
    let rootfs = Rootfs::tiny()
        .file_with("data/", &[], |header| {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o2750);
            header.set_uid(1000);
            header.set_gid(50);
            header.set_mtime(1_000_000);
        })
        .file_with("data/file", b"content", |header| {
            header.set_mode(0o4711);
            header.set_uid(1000);
            header.set_mtime(1_234_567);
        })
        .symlink("data/link", "file")
        .dir("data/sub", 0o700)
        .file("data/sub/deep", "deep");
    let changes = [r#"VOLUME ["/data", "/fresh/volume"]"#];
    sandbox.import_with("tiny", rootfs, &changes);
    let paths = [
        "/data",
        "/data/file",
        "/data/link",
        "/data/sub",
        "/fresh/volume",
    ];
    let stat = sandbox.run(["tiny", "probe", "stat"]).args(paths);
    let stat = stat.run().ok().stdout_json();
    let field = |path: &str, field: &str| stat[path][field].clone();
    assert_eq!(
        (field("/data", "mode"), field("/data", "uid")),
        (0o2750.into(), 1000.into())
    );
    assert_eq!(
        (field("/data", "gid"), field("/data", "mtime")[0].clone()),
        (50.into(), 1_000_000.into())
    );
    assert_eq!(
        (field("/data/file", "mode"), field("/data/file", "uid")),
        (0o4711.into(), 1000.into())
    );
    assert_eq!(field("/data/file", "mtime")[0], 1_234_567);
    assert_eq!(field("/data/link", "target"), "file");
    assert_eq!(field("/data/sub", "mode"), 0o700);
    assert_eq!(field("/fresh/volume", "kind"), "dir");

    let keep = |words: &[&str]| sandbox.mybox(["run", "--network", "none"]).args(words);
    let write = [
        "--name",
        "kept",
        "tiny",
        "probe",
        "write",
        "/data/new",
        "written",
    ];
    keep(&write).run().ok();
    let id = sandbox.mybox(["inspect", "kept"]).run().ok().stdout_json();
    let directory = sandbox
        .root()
        .join("containers")
        .join(id[0]["id"].as_str().expect("an id"));
    let name = id[0]["volumes"][0]["name"].as_str().expect("a name");
    assert_eq!(id[0]["volumes"][0]["destination"], "/data");
    let volume = sandbox.root().join("volumes").join(name).join("data");
    assert_eq!(
        std::fs::read_to_string(volume.join("new")).expect("the file"),
        "written"
    );
    assert_eq!(
        std::fs::read_to_string(volume.join("sub/deep")).expect("the copy"),
        "deep"
    );
    assert!(
        !directory.join("upper/data/new").exists(),
        "a volume is beside the upper directory"
    );
    sandbox.mybox(["rm", "-v", "kept"]).run().ok();
    assert!(!directory.exists() && !volume.exists());
    // A fresh container has a fresh volume.
    let read = sandbox.run(["tiny", "probe", "ls", "/data"]).run().ok();
    assert_eq!(read.stdout(), "file\nlink\nsub\n");
}

#[test]
fn a_flag_in_the_place_of_an_images_volume_replaces_it() {
    let sandbox = Sandbox::new("covered");
    let rootfs = Rootfs::tiny()
        .dir("data", 0o755)
        .file("data/file", "the image's");
    sandbox.import_with("tiny", rootfs, &["VOLUME /data"]);
    let source = sandbox.scratch();
    std::fs::write(source.join("mine"), "").expect("a file");
    let volume = format!("{}:/data", source.display());
    let list = |flags: &[&str]| {
        let words = flags.iter().chain(&["tiny", "probe", "ls", "/data"]);
        sandbox.run(words).run().ok().stdout()
    };
    assert_eq!(list(&["-v", &volume]), "mine\n");
    assert_eq!(list(&["--tmpfs", "/data"]), "");
    assert_eq!(list(&[]), "file\n");
}

#[test]
fn the_stop_signal_of_image_or_flag_is_in_the_containers_spec() {
    let sandbox = Sandbox::new("stopsignal");
    sandbox.import_with("tiny", Rootfs::tiny(), &["STOPSIGNAL QUIT"]);
    sandbox.import("plain", Rootfs::tiny());
    let stop_signal = |name: &str, words: &[&str]| {
        let run = sandbox.mybox(["run", "--network", "none", "--name", name]);
        run.args(words).arg("true").run().ok();
        let inspected = sandbox.mybox(["inspect", name]).run().ok().stdout_json();
        sandbox.mybox(["rm", name]).run().ok();
        inspected[0]["spec"]["annotations"]["org.opencontainers.image.stopSignal"].clone()
    };
    assert_eq!(stop_signal("image", &["tiny"]), "SIGQUIT");
    assert_eq!(
        stop_signal("flag", &["--stop-signal", "int", "tiny"]),
        "SIGINT"
    );
    assert_eq!(
        stop_signal("number", &["--stop-signal", "12", "plain"]),
        "SIGUSR2"
    );
    assert_eq!(stop_signal("default", &["plain"]), "SIGTERM");
    let output = sandbox.run(["--stop-signal", "NOPE", "tiny", "true"]).run();
    let _ = output.code(125).says("`NOPE` is no signal");
}

#[test]
fn of_a_flag_that_is_given_twice_the_last_counts() {
    let sandbox = Sandbox::tiny("twice");
    let flags = [
        "--hostname",
        "one",
        "-w",
        "/etc",
        "--hostname",
        "two",
        "-w",
        "/tmp",
    ];
    let report = sandbox.report(&flags);
    assert_eq!((&*report.hostname, &*report.cwd), ("two", "/tmp"));
}

#[test]
fn the_hostname_is_the_flags_or_the_short_id() {
    let sandbox = Sandbox::tiny("hostname");
    let named = sandbox.report(&["--hostname", "web-1.example"]);
    assert_eq!(named.hostname, "web-1.example");
    assert_eq!(named.etc["/etc/hostname"], "web-1.example\n");
    assert!(named.etc["/etc/hosts"].contains("web-1.example"));
    let plain = sandbox.report(&[]);
    let ids = sandbox.containers();
    assert!(
        ids.iter().any(|id| id[..12] == plain.hostname),
        "{}: {ids:?}",
        plain.hostname
    );
    assert_eq!(plain.env["HOSTNAME"], plain.hostname);
    let output = sandbox.run(["--hostname", "bad!", "tiny", "true"]).run();
    let _ = output.code(125).says("`bad!`");
}

#[test]
fn init_reaps_orphans_and_without_it_the_command_is_pid_1() {
    let sandbox = Sandbox::tiny("init");
    let orphan = |flags: &[&str]| {
        let words = flags.iter().chain(&["tiny", "probe", "orphan"]);
        sandbox.run(words).run().ok().stdout_json()
    };
    let with = orphan(&["--init"]);
    assert_eq!(
        (&with["adopted_by"], &with["reaped"]),
        (&1.into(), &true.into())
    );
    // The probe adopts and does not reap: what --init is for.
    let without = orphan(&[]);
    assert_eq!(
        (&without["adopted_by"], &without["reaped"]),
        (&1.into(), &false.into())
    );
    assert_eq!(sandbox.report(&[]).identity.pid, 1);
    let child = sandbox.report(&["--init"]);
    assert_eq!((child.identity.pid, child.identity.ppid), (2, 1));
    assert_eq!(child.processes.len(), 2);
}

/// A command that says when it is there, stays, and handles no signal.
const WITHOUT_HANDLERS: [&str; 4] = ["probe", "tcp-server", "127.0.0.1:0", "text"];

#[test]
fn init_passes_signals_on_and_ends_with_the_command() {
    let sandbox = Sandbox::tiny("initsig");
    let run = ["--init", "tiny", "probe", "trap", "HUP", "USR1", "TERM"];
    let running = sandbox.run(run).spawn();
    running.wait_for("ready");
    for (signal, name) in [
        (Signal::HUP, "SIGHUP"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::TERM, "SIGTERM"),
    ] {
        running.signal(signal);
        running.wait_for(name);
    }
    let _ = running.wait().ok();
    let running = sandbox
        .run(["--init", "tiny"])
        .args(WITHOUT_HANDLERS)
        .spawn();
    running.wait_for("listening");
    running.signal(Signal::TERM);
    let _ = running.wait().code(143);
}

#[test]
fn no_new_privileges_is_off_unless_asked_for() {
    let sandbox = Sandbox::tiny("nnp");
    let on = |flags: &[&str]| sandbox.report(flags).privileges.no_new_privs;
    assert!(!on(&[]));
    assert!(on(&["--security-opt", "no-new-privileges"]));
    assert!(on(&[
        "--security-opt",
        "no-new-privileges:true",
        "-u",
        "alice"
    ]));
    assert!(!on(&["--security-opt", "no-new-privileges=false"]));
}

/// What Podman gives: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE
/// SYS_CHROOT SETFCAP.
const PODMANS_CAPABILITIES: &str = "00000000800405fb";

#[test]
fn capabilities_are_podmans_and_none_for_other_users() {
    let sandbox = Sandbox::tiny("caps");
    let none = "0000000000000000";
    for init in [&[][..], &["--init"]] {
        let root = sandbox.report(init).privileges;
        for set in [&root.bounding, &root.effective, &root.permitted] {
            assert_eq!(set, PODMANS_CAPABILITIES);
        }
        assert_eq!((&*root.inheritable, &*root.ambient), (none, none));
        let flags: Vec<&str> = init.iter().copied().chain(["-u", "alice"]).collect();
        let alice = sandbox.report(&flags).privileges;
        assert_eq!(alice.bounding, PODMANS_CAPABILITIES);
        for set in [
            &alice.effective,
            &alice.permitted,
            &alice.inheritable,
            &alice.ambient,
        ] {
            assert_eq!(set, none);
        }
    }
}

#[test]
fn the_commands_streams_are_the_callers_own() {
    let sandbox = Sandbox::tiny("streams");
    let mut running = sandbox.run(["tiny", "probe", "trap", "TERM"]).spawn();
    running.wait_for("ready");
    let stream = |pid: u32, fd: u32| {
        let link = format!("/proc/{pid}/fd/{fd}");
        std::fs::read_link(&link).unwrap_or_else(|error| panic!("{link}: {error}"))
    };
    let inside = sandbox.container_pid();
    for fd in 0..3 {
        assert_eq!(
            stream(inside, fd),
            stream(running.pid(), fd),
            "descriptor {fd}"
        );
    }
    running.close_stdin();
    running.signal(Signal::TERM);
    let _ = running.wait().ok();
}

#[test]
fn input_goes_in_and_output_and_errors_come_out_apart_and_unchanged() {
    let sandbox = Sandbox::tiny("pipes");
    let bytes: Vec<u8> = (0..1_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    for flags in [&[][..], &["-i"], &["--init"]] {
        let words = flags.iter().chain(&["tiny", "cat"]);
        let output = sandbox.run(words).stdin(bytes.clone()).run().ok();
        assert!(
            output.stdout_bytes == bytes,
            "the bytes changed with {flags:?}"
        );
    }
    let output = sandbox
        .run(["tiny", "probe", "stderr", "to", "stderr"])
        .run()
        .ok();
    assert_eq!(
        (output.stdout(), output.stderr()),
        (String::new(), "to stderr\n".to_owned())
    );
}

#[test]
fn no_descriptor_of_mybox_or_its_caller_is_inherited() {
    let sandbox = Sandbox::tiny("fds");
    for init in [&[][..], &["--init"], &["-u", "alice"]] {
        let words = init.iter().chain(&["tiny", "probe", "report"]);
        let shell = [
            "sh",
            "-c",
            "exec 5</etc/passwd 7</ 9</etc; exec \"$@\"",
            "sh",
        ];
        let report = sandbox.run(words).through(shell).run().ok().report();
        let numbers: Vec<u32> = report.fds.keys().copied().collect();
        assert_eq!(numbers, [0, 1, 2], "{:?}", report.fds);
    }
}

#[test]
fn the_callers_umask_and_signal_settings_do_not_matter() {
    let sandbox = Sandbox::tiny("umask");
    let shell = [
        "sh",
        "-c",
        "umask 0077; trap '' HUP USR1; exec \"$@\"",
        "sh",
    ];
    let run = |words: &[&str]| sandbox.run(words).through(shell).run().ok();
    let report = run(&["-w", "/made", "tiny", "probe", "report"]).report();
    assert_eq!(report.identity.umask, 0o022);
    assert_eq!(report.signals.blocked, "0000000000000000");
    let ignored = u64::from_str_radix(&report.signals.ignored, 16).expect("a mask");
    // Rust's own start-up ignores SIGPIPE. Above are the two that libc keeps for its threads.
    assert_eq!(ignored & 0x7fff_ffff, 1 << 12);
    assert_eq!(report.dev["/dev/null"].mode, 0o666);
    let paths = [
        "/",
        "/made",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/hostname",
    ];
    let words = [&["-w", "/made", "tiny", "probe", "stat"][..], &paths].concat();
    let stat = run(&words).stdout_json();
    let modes: Vec<u64> = paths
        .iter()
        .filter_map(|path| stat[*path]["mode"].as_u64())
        .collect();
    assert_eq!(modes, [0o755, 0o755, 0o644, 0o644, 0o644]);
}

#[test]
fn signals_are_forwarded_to_a_command_that_handles_them() {
    let sandbox = Sandbox::tiny("forward");
    let names = [
        "HUP", "INT", "QUIT", "USR1", "USR2", "CONT", "WINCH", "TERM",
    ];
    let running = sandbox.run(["tiny", "probe", "trap"]).args(names).spawn();
    running.wait_for("ready");
    for (signal, name) in [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::CONT, "SIGCONT"),
        (Signal::WINCH, "SIGWINCH"),
        (Signal::TERM, "SIGTERM"),
    ] {
        running.signal(signal);
        running.wait_for(name);
    }
    let output = running.wait().ok();
    let lines: Vec<String> = output.stdout().lines().map(str::to_owned).collect();
    let expected: Vec<String> = names.iter().map(|name| format!("SIG{name}")).collect();
    assert_eq!(lines[1..], expected, "each once and in order");
}

#[test]
fn a_command_without_a_handler_ends_as_the_signal_would_have_it() {
    let sandbox = Sandbox::tiny("default");
    for (signal, code) in [
        (Signal::INT, 130),
        (Signal::TERM, 143),
        (Signal::HUP, 129),
        (Signal::USR1, 138),
    ] {
        let running = sandbox.run(["tiny"]).args(WITHOUT_HANDLERS).spawn();
        running.wait_for("listening");
        // What only wakes a process up does not end it.
        running.signal(Signal::WINCH);
        running.signal(Signal::CONT);
        running.signal(signal);
        let _ = running.wait().code(code);
        sandbox.assert_nothing_runs();
    }
}

#[test]
fn a_name_belongs_to_one_container_until_it_is_removed() {
    let sandbox = Sandbox::tiny("names");
    let run = |words: &[&str]| {
        sandbox
            .mybox(["run", "--network", "none"])
            .args(words)
            .run()
    };
    run(&["--name", "web", "tiny", "true"]).ok();
    let taken = run(&["--name", "web", "tiny", "true"]).code(125);
    let _ = taken.says("`web` is taken by container");
    sandbox.mybox(["rm", "web"]).run().ok();
    run(&["--rm", "--name", "web", "tiny", "true"]).ok();
    run(&["--rm", "--name", "web", "tiny", "true"]).ok();
    // A start that failed gives the name back.
    let _ = run(&["--name", "web", "tiny", "nope"]).code(127);
    run(&["--rm", "--name", "web", "tiny", "true"]).ok();
}

#[test]
fn a_container_stays_until_it_is_removed_and_with_rm_it_does_not() {
    let sandbox = Sandbox::tiny("stay");
    let list = |flags: &[&str]| {
        let rows = sandbox
            .mybox(["ps", "--json"])
            .args(flags)
            .run()
            .ok()
            .stdout_json();
        rows.as_array().expect("a list").clone()
    };
    sandbox
        .run(["tiny", "probe", "write", "/gone", "x"])
        .run()
        .ok();
    assert!(list(&["-a"]).is_empty());
    let write = ["--name", "kept", "tiny", "probe", "write", "/stays", "x"];
    sandbox
        .mybox(["run", "--network", "none"])
        .args(write)
        .run()
        .ok();
    sandbox
        .mybox(["run", "--network", "none", "tiny", "probe", "exit", "3"])
        .run()
        .code(3);

    assert!(list(&[]).is_empty(), "nothing runs");
    let rows = list(&["-a"]);
    assert_eq!(rows.len(), 2);
    let kept = rows
        .iter()
        .find(|row| row["name"] == "kept")
        .expect("a row");
    let other = rows
        .iter()
        .find(|row| row["name"] != "kept")
        .expect("a row");
    assert_eq!(
        (&kept["ending"]["code"], &other["ending"]["code"]),
        (&0.into(), &3.into())
    );
    assert_eq!(
        (&kept["image"], &kept["running"]),
        (&"tiny".into(), &false.into())
    );
    let command: Vec<&str> = kept["command"]
        .as_array()
        .expect("words")
        .iter()
        .filter_map(|word| word.as_str())
        .collect();
    assert_eq!(command, ["probe", "write", "/stays", "x"]);
    let id = kept["id"].as_str().expect("an id");
    let directory = sandbox.root().join("containers").join(id);
    assert_eq!(
        std::fs::read(directory.join("upper/stays")).expect("the write"),
        b"x"
    );
    let table = sandbox.mybox(["ps", "-a"]).run().ok().stdout();
    assert!(
        table.starts_with("CONTAINER ID") && table.contains(&id[..12]) && table.contains("kept"),
        "{table}"
    );

    let other = other["id"].as_str().expect("an id");
    sandbox.mybox(["rm", "kept", &other[..6]]).run().ok();
    assert!(list(&["-a"]).is_empty() && !directory.exists());
    let again = sandbox.mybox(["rm", "kept"]).run().code(1);
    let _ = again.says("no such container: kept");
}

#[test]
fn a_container_that_runs_is_listed_and_cannot_be_removed() {
    let sandbox = Sandbox::tiny("running");
    let run = [
        "run",
        "--rm",
        "--network",
        "none",
        "--name",
        "up",
        "tiny",
        "probe",
        "trap",
        "TERM",
    ];
    let running = sandbox.mybox(run).spawn();
    running.wait_for("ready");
    let rows = sandbox.mybox(["ps", "--json"]).run().ok().stdout_json();
    assert_eq!(
        (&rows[0]["name"], &rows[0]["running"]),
        (&"up".into(), &true.into())
    );
    let refused = sandbox.mybox(["rm", "up"]).run().code(1);
    let _ = refused.says("up is running");
    running.signal(Signal::TERM);
    let _ = running.wait().ok();
    let ids = sandbox.mybox(["ps", "--all", "--quiet"]).run().ok();
    assert_eq!(ids.stdout(), "");
}

#[test]
fn the_store_is_closed_to_other_users() {
    let sandbox = Sandbox::tiny("private");
    let mode = sandbox
        .root()
        .join("layers")
        .metadata()
        .expect("layers")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o700);
    let container = sandbox.run(["tiny", "true"]);
    container.run().ok();
    let output = Cmd::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "ls"])
        .arg(sandbox.root().join("layers"));
    assert_ne!(output.run().exit_code(), Some(0));
}

#[test]
fn only_the_streams_that_are_attached_are_the_callers() {
    let sandbox = Sandbox::tiny("attach-streams");
    let say = ["tiny", "probe", "say", "out:one", "err:two"];
    for (flags, stdout, stderr) in [
        (&["-a", "stdout"][..], "one\n", ""),
        (&["--attach=STDERR"], "", "two\n"),
        (&["-a", "stdout", "-a", "stderr"], "one\n", "two\n"),
    ] {
        let run = sandbox.run(flags).args(say).run().ok();
        assert_eq!((run.stdout(), run.stderr()), (stdout.into(), stderr.into()));
    }
    let read = |flags: &[&str]| {
        let run = sandbox.run(flags).args(["tiny", "cat"]);
        run.stdin(b"typed".to_vec()).run().ok().stdout()
    };
    assert_eq!(read(&["-a", "stdin", "-a", "stdout", "-i"]), "typed");
    assert_eq!(read(&["-a", "stdout"]), "");
    // With -i it is open, and nobody types.
    let waits = ["-i", "-a", "stdout", "--name", "waits", "tiny", "cat"];
    let waiting = sandbox.run(waits).spawn();
    let kill = || sandbox.mybox(["kill", "waits"]).run().exit_code() == Some(0);
    until("it waits", kill);
    drop(waiting.wait().code(137));
    for (flags, says) in [
        (
            &["-a", "stdout", "-d"][..],
            "--attach does not go with --detach",
        ),
        (&["-t", "-a", "stderr"], "attach that with --tty"),
        (&["-a", "stdlog"], "none of stdin, stdout, stderr"),
    ] {
        drop(
            sandbox
                .run(flags)
                .args(["tiny", "true"])
                .run()
                .code(125)
                .says(says),
        );
    }
}
