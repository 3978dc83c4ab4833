//! `mybox exec`: one more command in a container that runs.

use std::path::Path;

use mybox_probe::Report;
use rustix::process::Signal;

use crate::detached::until;
use crate::harness::{Cmd, Running, Sandbox, Terminal};

/// A container that runs until it gets SIGTERM.
struct Ground {
    running: Option<Running>,
    sandbox: Sandbox,
}

impl Ground {
    #[track_caller]
    fn new(name: &str, flags: &[&str]) -> Self {
        let sandbox = Sandbox::new(name);
        sandbox.import_tiny();
        let run = sandbox.run(["--name", "web"]).args(flags).arg("tiny");
        let running = run.args(["probe", "trap", "TERM"]).spawn();
        running.wait_for("ready");
        Self {
            running: Some(running),
            sandbox,
        }
    }

    /// `mybox exec FLAGS web WORDS`.
    fn exec(&self, flags: &[&str], words: &[&str]) -> Cmd {
        let exec = self.sandbox.mybox(["exec"]).args(flags);
        exec.arg("web").args(words)
    }

    fn report(&self, flags: &[&str]) -> Report {
        self.exec(flags, &["probe", "report"]).run().ok().report()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(Signal::TERM);
            if !std::thread::panicking() {
                drop(running.wait());
            }
        }
    }
}

#[test]
fn it_joins_every_namespace_and_cgroup() {
    let ground = Ground::new("exec", &["--hostname", "inside", "-m", "64m"]);
    let report = ground.report(&[]);
    let pid = ground.sandbox.container_pid();
    for (kind, link) in &report.namespaces {
        let of_first = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        assert_eq!(of_first.to_string_lossy(), *link, "{kind}");
    }
    assert_eq!(report.hostname, "inside");
    assert_eq!(report.identity.ppid, 0, "its parent is outside");
    assert!(report.identity.pid > 1);
    let of_first = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroups");
    assert!(of_first.contains("mybox"), "{of_first}");
    for line in &report.cgroup.membership {
        let controllers = line.split(':').nth(1).unwrap_or_default();
        let is_ours = of_first
            .lines()
            .any(|line| line.split(':').nth(1) == Some(controllers) && line.contains("/mybox/"));
        assert!(!is_ours || line.ends_with(":/"), "{line} in {of_first}");
    }
    let processes = report.processes.iter().map(|process| process.pid);
    assert_eq!(
        processes.filter(|pid| *pid == 1).count(),
        1,
        "it sees the container's"
    );
}

#[test]
fn its_privileges_are_the_containers() {
    for flags in [
        &[][..],
        &["--security-opt", "no-new-privileges"],
        &["-u", "1234:99"],
    ] {
        let ground = Ground::new("execprivs", flags);
        let first = ground.sandbox.container_pid();
        let status = std::fs::read_to_string(format!("/proc/{first}/status")).expect("status");
        let of_first = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.expect("a field").trim().to_owned()
        };
        let report = ground.report(&[]);
        let privileges = &report.privileges;
        assert_eq!(privileges.effective, of_first("CapEff:"), "{flags:?}");
        assert_eq!(privileges.permitted, of_first("CapPrm:"), "{flags:?}");
        assert_eq!(privileges.bounding, of_first("CapBnd:"), "{flags:?}");
        assert_eq!(privileges.seccomp_mode.to_string(), of_first("Seccomp:"));
        assert_eq!(
            u8::from(privileges.no_new_privs).to_string(),
            of_first("NoNewPrivs:")
        );
        let uid = of_first("Uid:").split('\t').next().map(str::to_owned);
        assert_eq!(Some(report.identity.uids[0].to_string()), uid);
        let all = ground.report(&["--privileged", "-u", "0"]).privileges;
        assert_eq!(all.seccomp_mode, 0);
        assert!(!all.no_new_privs);
        let own = std::fs::read_to_string("/proc/self/status").expect("status");
        assert!(
            own.contains(&format!("CapPrm:\t{}", all.permitted)),
            "{own}"
        );
    }
}

#[test]
fn flags_change_what_the_containers_process_has() {
    let ground = Ground::new("execflags", &["-e", "A=1", "-e", "B=2", "-w", "/srv"]);
    let report = ground.report(&[]);
    assert_eq!(
        (report.env["A"].as_str(), report.cwd.as_str()),
        ("1", "/srv")
    );
    assert!(!report.env.contains_key("TERM"));
    let report = ground.report(&["-e", "A=3", "-e", "C=4", "-w", "/", "-u", "65534:7"]);
    assert_eq!(
        ["A", "B", "C"].map(|name| report.env[name].as_str()),
        ["3", "2", "4"]
    );
    assert_eq!(report.cwd, "/");
    assert_eq!(
        (report.identity.uids[0], report.identity.gids[0]),
        (65534, 7)
    );
    assert_eq!(report.privileges.effective, "0000000000000000");
}

#[test]
fn nothing_of_the_host_comes_along() {
    let ground = Ground::new("execfds", &[]);
    let report = ground.report(&[]);
    let descriptors: Vec<u32> = report.fds.keys().copied().collect();
    assert_eq!(descriptors, [0, 1, 2]);
    assert_eq!(report.fds[&0], "/dev/null", "without -i");
    assert_eq!(report.exe, "/bin/probe");
    assert_eq!(report.signals.blocked, "0000000000000000");
    assert_eq!(report.identity.sid, report.identity.pid);
    assert_eq!(report.identity.umask, 0o022);
}

#[test]
fn exit_codes_are_the_commands_or_say_why_there_was_none() {
    let ground = Ground::new("execcodes", &[]);
    for (flags, words, code) in [
        (&[][..], &["probe", "exit", "3"][..], 3),
        (&[], &["probe", "signal-self", "TERM"], 143),
        (&[], &["nope"], 127),
        (&[], &["/etc"], 126),
        (&["-w", "/nope"], &["true"], 126),
        (&["-u", "mallory"], &["true"], 126),
        (&["-d"], &["nope"], 127),
        (&["-d"], &["probe", "exit", "3"], 0),
        (&["-dit"], &["probe", "exit", "3"], 0),
        (&["-dt"], &["nope"], 127),
    ] {
        let run = ground.exec(flags, words).run();
        drop(run.code(code));
    }
    // Also what fails in the background is told.
    for (flags, word, said) in [
        (&["-d"][..], "nope", "nope"),
        (&["-d", "-w", "/nope"], "true", "/nope"),
        (&["-d", "-u", "mallory"], "true", "mallory"),
        (&["-dt"], "nope", "nope"),
    ] {
        let run = ground.exec(flags, &[word]).run();
        assert!(run.stderr().contains(said), "{flags:?}: {}", run.stderr());
    }
    let absent = ground.sandbox.mybox(["exec", "nobody", "true"]);
    drop(absent.run().code(1).says("no such container: nobody"));
}

#[test]
fn what_follows_the_container_is_the_commands_even_if_it_looks_like_a_flag() {
    let ground = Ground::new("execwords", &[]);
    let said = ground.exec(&[], &["echo", "-d", "-e", "X=1", "--", "-u"]);
    assert_eq!(said.run().ok().line(), "-d -e X=1 -- -u");
}

#[test]
fn input_goes_in_with_i_alone() {
    let ground = Ground::new("execinput", &[]);
    let with = ground.exec(&["-i"], &["cat"]).stdin("typed").run().ok();
    assert_eq!(with.stdout(), "typed");
    let without = ground.exec(&[], &["cat"]).stdin("typed").run().ok();
    assert_eq!(without.stdout(), "");
    let stderr = ground.exec(&[], &["probe", "stderr", "oops"]).run().ok();
    assert_eq!(
        (stderr.stdout().as_str(), stderr.stderr().as_str()),
        ("", "oops\n")
    );
}

#[test]
fn its_terminal_is_the_containers_and_follows_the_callers() {
    let ground = Ground::new("exectty", &[]);
    for flags in [&["-it"][..], &["-it", "-u", "1234:99"]] {
        let terminal = Terminal::new(24, 80);
        let (code, screen, _) = terminal
            .spawn(ground.exec(flags, &["probe", "report"]))
            .wait();
        assert_eq!(code, 0, "{screen}");
        let json = screen.lines().find(|line| line.starts_with('{'));
        let report: Report = serde_json::from_str(json.expect("a report")).expect("a report");
        assert_eq!(report.tty.is_terminal, [true; 3]);
        assert!(report.tty.controlling);
        assert_eq!(report.env["TERM"], "xterm");
        let name = report.tty.name.expect("the terminal's name");
        assert!(name.starts_with("/dev/pts/"), "{name}");
        assert_eq!(report.dev[&name].uid, report.identity.uids[0]);
    }
    let watch = ground.exec(&["-it"], &["probe", "winsize-watch"]);
    let mut session = Terminal::new(24, 80).spawn(watch);
    session.read_until("24x80");
    session.terminal().resize(50, 132);
    session.read_until("50x132");
    session.send("\x03");
    let (code, screen, terminal) = session.wait();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(terminal.settings(), Terminal::new(24, 80).settings());
}

/// The command lines that run in the container, and their processes.
fn running(ground: &Ground) -> Vec<(String, i32)> {
    let top = ground.sandbox.mybox(["top", "web", "-o", "pid,args"]).run();
    let rows = top.ok().stdout();
    let row = |line: &str| {
        let (pid, command) = line.trim().split_once(' ')?;
        Some((command.trim().to_owned(), pid.parse().ok()?))
    };
    rows.lines().skip(1).filter_map(row).collect()
}

#[test]
fn the_detach_keys_leave_the_command_and_it_runs_on() {
    let ground = Ground::new("execleave", &[]);
    for (flags, keys) in [
        (&["-it"][..], "\x10\x11"),
        (&["-it", "--detach-keys", "ctrl-a,q"], "\x01q"),
    ] {
        let mut session = Terminal::new(24, 80).spawn(ground.exec(flags, &["cat"]));
        session.send("up\r");
        session.read_until("up\r\nup");
        let caller = session.pid();
        session.send(keys);
        let (code, screen, terminal) = session.wait();
        assert_eq!(code, 0, "{screen}");
        assert_eq!(terminal.settings(), Terminal::new(24, 80).settings());
        let left = running(&ground);
        let cat = left.iter().find(|(command, _)| command == "cat");
        let &(_, pid) = cat.unwrap_or_else(|| panic!("it is gone: {left:?}"));
        let keeper = parent(pid);
        assert_ne!(keeper.cast_unsigned(), caller);
        let at = std::fs::read_link(format!("/proc/{keeper}/cwd")).expect("its directory");
        assert_eq!(at, Path::new("/"), "no file system of the caller's is kept");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
        until("its end", || {
            let events = ground
                .sandbox
                .mybox(["events", "--since", "1m", "--until", "0s"]);
            let ended = events.run().ok().stdout();
            ended.matches("exec_die").count() > usize::from(flags.len() > 1)
        });
        until("the end of its keeper", || {
            !Path::new(&format!("/proc/{keeper}")).exists()
        });
    }
}

#[test]
fn a_command_in_the_background_may_have_a_terminal_that_nobody_sees() {
    let ground = Ground::new("execdt", &[]);
    drop(ground.exec(&["-dit"], &["cat"]).stdin("typed").run().ok());
    let left = running(&ground);
    let cat = left.iter().find(|(command, _)| command == "cat");
    let &(_, pid) = cat.unwrap_or_else(|| panic!("it is gone: {left:?}"));
    let stdin = std::fs::read_link(format!("/proc/{pid}/fd/0")).expect("its input");
    assert!(stdin.starts_with("/dev/pts"), "{}", stdin.display());
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let parent = line.and_then(|line| line.trim().parse().ok());
    parent.expect("a parent")
}

#[test]
fn a_command_on_a_terminal_ends_with_whoever_dies_at_it() {
    let ground = Ground::new("execdies", &[]);
    for killed_one in ["caller", "keeper"] {
        let mut session = Terminal::new(24, 80).spawn(ground.exec(&["-it"], &["cat"]));
        session.send("up\r");
        session.read_until("up\r\nup");
        if killed_one == "caller" {
            session.signal(Signal::KILL);
            drop(session.wait());
        } else {
            let (_, cat) = running(&ground).pop().expect("the command");
            let keeper = rustix::process::Pid::from_raw(parent(cat)).expect("a pid");
            rustix::process::kill_process(keeper, Signal::KILL).expect("it runs");
            let (code, screen, terminal) = session.wait();
            assert_eq!(code, 137, "{screen}");
            assert!(screen.contains("was killed"), "{screen}");
            assert_eq!(terminal.settings(), Terminal::new(24, 80).settings());
        }
        until("the end of the command", || {
            running(&ground).iter().all(|(command, _)| command != "cat")
        });
    }
}

#[test]
fn why_a_command_on_a_terminal_was_not_executed_is_told_there() {
    let ground = Ground::new("execrefused", &[]);
    for (word, expected) in [("/no/such", 127), ("/etc", 126)] {
        let session = Terminal::new(24, 80).spawn(ground.exec(&["-it"], &[word]));
        let (code, screen, terminal) = session.wait();
        assert_eq!(code, expected, "{screen}");
        assert!(screen.contains(word), "{screen}");
        assert_eq!(terminal.settings(), Terminal::new(24, 80).settings());
    }
}

#[test]
fn signals_go_to_the_command() {
    let ground = Ground::new("execsignals", &[]);
    let running = ground.exec(&[], &["probe", "trap", "HUP", "TERM"]).spawn();
    running.wait_for("ready");
    running.signal(Signal::HUP);
    running.wait_for("SIGHUP");
    running.signal(Signal::TERM);
    drop(running.wait().ok());
    let running = ground.exec(&[], &["probe", "tcp-server", "127.0.0.1:0", "x"]);
    let running = running.spawn();
    running.wait_for("listening");
    running.signal(Signal::INT);
    drop(running.wait().code(130));
}

#[test]
fn the_command_ends_with_the_container_and_with_its_caller() {
    let mut ground = Ground::new("execends", &[]);
    let caller = ground.exec(&[], &["probe", "trap", "USR1"]).spawn();
    caller.wait_for("ready");
    caller.signal(Signal::KILL);
    // Its output closes when the command itself is gone.
    drop(caller.wait());
    let with_container = ground.exec(&[], &["probe", "trap", "USR1"]).spawn();
    with_container.wait_for("ready");
    let running = ground.running.take().expect("the container");
    running.signal(Signal::TERM);
    drop(running.wait().ok());
    drop(with_container.wait().code(137));
    ground.sandbox.assert_nothing_runs();
    let late = ground.exec(&[], &["true"]).run().code(1);
    drop(late.says("no such container: web"));
}

#[test]
fn a_paused_container_takes_no_command() {
    let ground = Ground::new("execpaused", &[]);
    drop(ground.sandbox.mybox(["pause", "web"]).run().ok());
    let refused = ground.exec(&[], &["true"]).run().code(1);
    drop(refused.says("container web is paused"));
    drop(ground.sandbox.mybox(["unpause", "web"]).run().ok());
    drop(ground.exec(&[], &["true"]).run().ok());
}

#[test]
fn a_container_that_put_a_trap_at_ptmx_gets_nothing() {
    let ground = Ground::new("execptmx", &[]);
    drop(
        ground
            .exec(
                &[],
                &["probe", "replace-link", "/dev/ptmx", "/proc/self/fd/3"],
            )
            .run()
            .ok(),
    );
    let (code, screen, _) = Terminal::new(24, 80)
        .spawn(ground.exec(&["-it"], &["true"]))
        .wait();
    assert_eq!(code, 126, "{screen}");
}

#[test]
fn a_container_that_watches_sees_nothing_of_the_process_that_joins_it() {
    let sandbox = Sandbox::new("execstalk");
    sandbox.import_tiny();
    // Told to stop from outside: a process in the container could die with it before it has exited.
    let told = sandbox.scratch().join("told");
    std::fs::create_dir(&told).expect("the directory is made");
    let volume = format!("{}:/told", told.display());
    let stalk = ["tiny", "probe", "stalk", "/told/stop"];
    let run = sandbox.run(["--name", "web", "-v", &volume].into_iter().chain(stalk));
    let stalker = run.spawn();
    stalker.wait_for("stalking");
    for _ in 0..40 {
        drop(sandbox.mybox(["exec", "web", "true"]).run().ok());
    }
    drop(sandbox.mybox(["exec", "web", "sleep", "0.1"]).run().ok());
    std::fs::write(told.join("stop"), "").expect("the stalker is told to stop");
    let said = stalker.wait().ok().stdout();
    let seen: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("saw "))
        .collect();
    // The one that takes its time.
    assert!(
        seen.contains(&"/bin/sleep"),
        "it saw commands that run: {said}"
    );
    let harmless = |target: &&str| {
        ["/", "/dev/null"].contains(target)
            || target.starts_with("/bin/")
            || target.starts_with("pipe:")
            || target.starts_with("/proc")
    };
    let other: Vec<&&str> = seen.iter().filter(|target| !harmless(target)).collect();
    assert!(other.is_empty(), "{other:?}");
}
