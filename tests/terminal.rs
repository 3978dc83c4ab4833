//! `mybox run -t`: the container's terminal and the caller's.

use std::time::{Duration, Instant};

use mybox_probe::Report;
use rustix::process::Signal;

use crate::harness::{Rootfs, Sandbox, Session, Terminal};

/// Starts a container with these flags and this command on a terminal of 24 rows and 80 columns.
#[track_caller]
fn on_terminal(sandbox: &Sandbox, flags: &[&str], command: &[&str]) -> Session {
    Terminal::new(24, 80).spawn(sandbox.run(flags).arg("tiny").args(command))
}

/// Until then the caller's terminal itself echoes what is typed.
#[track_caller]
fn wait_for_raw_mode(session: &Session) {
    let untouched = Terminal::new(24, 80).settings();
    let deadline = Instant::now() + Duration::from_secs(30);
    while session.terminal().settings() == untouched {
        assert!(
            Instant::now() < deadline,
            "the terminal never came into raw mode"
        );
        std::thread::yield_now();
    }
}

/// The report among what a terminal has shown.
#[track_caller]
fn report_in(screen: &str) -> Report {
    let json = screen.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(json.unwrap_or_else(|| panic!("no report: {screen}"))).expect("a report")
}

#[test]
fn the_terminal_is_real_and_controlling() {
    let sandbox = Sandbox::tiny("tty");
    for flags in [&["-it"][..], &["-t"], &["-it", "--init"]] {
        let (code, screen, _) = on_terminal(&sandbox, flags, &["probe", "report"]).wait();
        assert_eq!(code, 0, "{screen}");
        let report = report_in(&screen);
        let tty = &report.tty;
        assert_eq!(tty.is_terminal, [true; 3], "{flags:?}");
        assert_eq!(tty.size, Some((24, 80)), "{flags:?}");
        assert_eq!(
            tty.name.as_deref(),
            Some("/dev/pts/0"),
            "the container's own devpts"
        );
        assert!(report.dev.contains_key("/dev/pts/0") && !report.dev.contains_key("/dev/pts/1"));
        let console = &report.dev["/dev/console"];
        assert_eq!(console.device, report.dev["/dev/pts/0"].device);
        assert_eq!(report.env["TERM"], "xterm");
        assert!(tty.controlling, "{flags:?}");
        assert_eq!(tty.foreground, Some(report.identity.pgid), "{flags:?}");
        assert_eq!(report.identity.sid, 1);
    }
}

#[test]
fn what_is_typed_goes_in_and_what_is_shown_comes_out() {
    let sandbox = Sandbox::tiny("typing");
    let mut session = on_terminal(&sandbox, &["-it"], &["cat"]);
    wait_for_raw_mode(&session);
    session.send("hello\r");
    // Once from the container's echo and once from cat: the caller's terminal adds nothing.
    session.read_until("hello\r\nhello\r\n");
    session.send("\x04");
    let (code, screen, _) = session.wait();
    assert_eq!((code, screen.as_str()), (0, "hello\r\nhello\r\n"));
}

#[test]
fn ctrl_c_goes_to_the_container_as_a_key() {
    let sandbox = Sandbox::tiny("ctrlc");
    let mut session = on_terminal(&sandbox, &["-it"], &["probe", "trap", "QUIT", "INT"]);
    session.read_until("ready");
    session.send("\x1c");
    session.read_until("SIGQUIT");
    session.send("\x03");
    let (code, screen, _) = session.wait();
    assert_eq!(code, 0, "{screen}");
    // Under the reaper a command without a handler ends of it.
    let mut session = on_terminal(&sandbox, &["-it", "--init"], &["cat"]);
    session.send("up\r");
    session.read_until("up\r\nup");
    session.send("\x03");
    let (code, screen, _) = session.wait();
    assert_eq!(code, 130, "{screen}");
}

#[test]
fn the_container_follows_the_size_of_the_callers_terminal() {
    let sandbox = Sandbox::tiny("resize");
    for flags in [&["-it"][..], &["-it", "--init"]] {
        let mut session = on_terminal(&sandbox, flags, &["probe", "winsize-watch"]);
        session.read_until("24x80");
        session.terminal().resize(50, 132);
        session.read_until("50x132");
        session.terminal().resize(1, 1);
        session.read_until("1x1");
        session.send("\x03");
        let (code, screen, _) = session.wait();
        assert_eq!(code, 0, "{screen}");
    }
}

#[test]
fn raw_mode_is_given_back_however_the_run_ends() {
    let sandbox = Sandbox::tiny("raw");
    let untouched = Terminal::new(24, 80).settings();
    let cases: [(&[&str], &[&str], i32); 5] = [
        (&["-it"], &["true"], 0),
        (&["-it"], &["probe", "exit", "3"], 3),
        (&["-it"], &["nope"], 127),
        (&["-it"], &["/etc"], 126),
        (&["-it", "-u", "mallory"], &["true"], 125),
    ];
    for (flags, command, expected) in cases {
        let (code, screen, terminal) = on_terminal(&sandbox, flags, command).wait();
        assert_eq!(code, expected, "{screen}");
        assert_eq!(terminal.settings(), untouched, "after {command:?}");
    }
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut session = on_terminal(&sandbox, &["-it"], &["cat"]);
        session.send("up\r");
        session.read_until("up\r\nup");
        assert_ne!(
            session.terminal().settings(),
            untouched,
            "raw while it runs"
        );
        session.signal(signal);
        let (code, screen, terminal) = session.wait();
        assert_eq!(code, 128 + signal.as_raw(), "{screen}");
        assert_eq!(terminal.settings(), untouched, "after {signal:?}");
    }
}

#[test]
fn errors_on_a_terminal_are_lines_as_elsewhere() {
    let sandbox = Sandbox::tiny("lines");
    let (code, screen, _) = on_terminal(&sandbox, &["-it"], &["nope"]).wait();
    assert_eq!(code, 127);
    assert!(screen.starts_with("error: execute nope"), "{screen:?}");
    assert!(
        screen.ends_with("\r\n") && !screen.replace("\r\n", "").contains('\n'),
        "{screen:?}"
    );
}

#[test]
fn without_t_the_callers_terminal_is_the_commands_own() {
    let sandbox = Sandbox::tiny("notty");
    let session = on_terminal(&sandbox, &[], &["probe", "report"]);
    let settings = session.terminal().settings();
    let (code, screen, terminal) = session.wait();
    assert_eq!(code, 0, "{screen}");
    let report = report_in(&screen);
    assert_eq!(report.tty.is_terminal, [true; 3], "as the caller's are");
    assert!(
        !report.tty.controlling,
        "but it does not control the container"
    );
    assert!(!report.dev.contains_key("/dev/console") && !report.dev.contains_key("/dev/pts/0"));
    assert!(!report.env.contains_key("TERM"));
    assert_eq!(terminal.settings(), settings);
    let piped = sandbox
        .run(["-i", "tiny", "probe", "report"])
        .run()
        .ok()
        .report();
    assert_eq!(piped.tty.is_terminal, [false; 3]);
}

#[test]
fn ctrl_c_without_t_ends_the_command_once() {
    let sandbox = Sandbox::tiny("ctrlcnotty");
    let mut session = on_terminal(&sandbox, &[], &["probe", "trap", "INT", "TERM"]);
    session.read_until("ready");
    session.send("\x03");
    session.read_until("SIGINT");
    session.signal(Signal::TERM);
    let (code, screen, _) = session.wait();
    assert_eq!(code, 0);
    assert_eq!(screen.matches("SIGINT").count(), 1, "{screen}");
    let serve = ["probe", "tcp-server", "127.0.0.1:0", "text"];
    let mut session = on_terminal(&sandbox, &[], &serve);
    session.read_until("listening");
    session.send("\x03");
    let (code, screen, _) = session.wait();
    assert_eq!(code, 130, "{screen}");
}

#[test]
fn a_terminal_for_a_caller_without_one_shows_its_output() {
    let sandbox = Sandbox::tiny("piped");
    // -t alone: the container has a terminal, whose screen is the caller's pipe.
    let output = sandbox.run(["-t", "tiny", "probe", "report"]).run().ok();
    let report = report_in(&output.stdout());
    assert_eq!(report.tty.is_terminal, [true; 3]);
    assert!(report.tty.controlling);
    let output = sandbox
        .run(["-t", "tiny", "probe", "stderr", "both on one screen"])
        .run()
        .ok();
    assert_eq!(
        (output.stdout(), output.stderr()),
        ("both on one screen\r\n".to_owned(), String::new())
    );
}

#[test]
fn t_and_i_together_need_a_terminal() {
    let sandbox = Sandbox::tiny("itpipe");
    let output = sandbox.run(["-it", "tiny", "true"]).run().code(125);
    let _ = output.says("the input device is not a terminal");
    assert!(sandbox.containers().is_empty(), "nothing was started");
}

#[test]
fn the_terminal_belongs_to_the_containers_user() {
    let sandbox = Sandbox::tiny("ttyuser");
    let command = ["probe", "try-write", "/dev/stdout"];
    for flags in [
        &["-it", "-u", "alice"][..],
        &["-it", "--init", "-u", "1000"],
        &["-it"],
    ] {
        let (code, screen, _) = on_terminal(&sandbox, flags, &command).wait();
        assert_eq!(code, 0, "{screen}");
        assert!(screen.ends_with("ok\r\n"), "with {flags:?}: {screen:?}");
    }
    let (_, screen, _) =
        on_terminal(&sandbox, &["-it", "-u", "alice"], &["probe", "report"]).wait();
    let node = &report_in(&screen).dev["/dev/pts/0"];
    assert_eq!((node.uid, node.gid, node.mode), (1000, 5, 0o620));
}

#[test]
fn all_of_a_long_output_is_shown_before_the_end() {
    let sandbox = Sandbox::new("long");
    let line = "0123456789abcdef".repeat(4);
    let text: String = (0..4000)
        .map(|number| format!("{number} {line}\n"))
        .collect();
    sandbox.import("tiny", Rootfs::tiny().file("text", &text));
    let (code, screen, _) = on_terminal(&sandbox, &["-it"], &["cat", "/text"]).wait();
    assert_eq!(code, 0);
    assert!(
        screen.replace("\r\n", "\n") == text,
        "{} of {} bytes",
        screen.len(),
        text.len() + 4000
    );
}
