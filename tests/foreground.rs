//! Containers in the foreground that can be left: by keys on a terminal, by a signal that is not for the
//! container, when all input is given. And what becomes of them when somebody dies instead.

use rustix::process::{Signal, kill_process};

use crate::detached::{known, monitor, remove, until};
use crate::harness::{Cmd, Sandbox, Session, Terminal};

const LEAVE: &str = "\x10\x11";

/// A container that stays when it has ended.
fn run(sandbox: &Sandbox, name: &str, flags: &[&str], command: &[&str]) -> Cmd {
    let run = sandbox.mybox(["run", "--network", "none", "--name", name]);
    run.args(flags).arg("tiny").args(command)
}

#[track_caller]
fn on_terminal(command: Cmd) -> Session {
    Terminal::new(24, 80).spawn(command)
}

/// cat on a terminal, which answers.
#[track_caller]
fn cat_on_terminal(sandbox: &Sandbox, name: &str, flags: &[&str]) -> Session {
    let mut session = on_terminal(run(sandbox, name, flags, &["cat"]));
    session.send("up\r");
    session.read_until("up\r\nup");
    session
}

#[track_caller]
fn state(sandbox: &Sandbox, name: &str) -> String {
    let row = known(sandbox, name).expect("a row");
    row["state"].as_str().expect("a word").to_owned()
}

#[track_caller]
fn exit_code(sandbox: &Sandbox, name: &str) -> i64 {
    let row = known(sandbox, name).expect("a row");
    assert_eq!(row["state"], "exited", "{row}");
    row["ending"]["code"].as_i64().expect("a code")
}

#[track_caller]
fn log(sandbox: &Sandbox, name: &str) -> String {
    sandbox.mybox(["logs", name]).run().ok().stdout()
}

#[test]
fn the_detach_keys_leave_it_and_it_can_be_attached_to_again() {
    let sandbox = Sandbox::tiny("leave");
    for flags in [&["-it"][..], &["-it", "--rm"]] {
        let untouched = Terminal::new(24, 80).settings();
        let mut session = on_terminal(run(&sandbox, "shell", flags, &["cat"]));
        session.send("first\r");
        session.read_until("first\r\nfirst");
        session.send(LEAVE);
        let (code, screen, terminal) = session.wait();
        assert_eq!((code, terminal.settings()), (0, untouched), "{screen}");
        assert_eq!(state(&sandbox, "shell"), "running");
        let mut session = on_terminal(sandbox.mybox(["attach", "shell"]));
        until("the attached terminal is raw", || {
            session.terminal().settings() != Terminal::new(24, 80).settings()
        });
        session.send("second\r");
        session.read_until("second\r\nsecond");
        assert_eq!(
            log(&sandbox, "shell").replace('\r', ""),
            "first\nfirst\nsecond\nsecond\n",
            "all of both stays is in the log"
        );
        session.send("\x04");
        let (code, screen, _) = session.wait();
        assert_eq!(code, 0, "{screen}");
        if flags.contains(&"--rm") {
            until("it is gone", || known(&sandbox, "shell").is_none());
        } else {
            assert_eq!(exit_code(&sandbox, "shell"), 0);
            remove(&sandbox, "shell");
        }
    }
    sandbox.assert_nothing_runs();
}

#[test]
fn the_keys_are_those_asked_for() {
    let sandbox = Sandbox::tiny("keys");
    let flags = ["-it", "--detach-keys", "ctrl-a,x"];
    let mut session = cat_on_terminal(&sandbox, "shell", &flags);
    // Those of Docker's are the container's then.
    session.send(LEAVE);
    session.send("\r");
    session.read_until("^P");
    session.send("\x01x");
    assert_eq!(session.wait().0, 0);
    assert_eq!(state(&sandbox, "shell"), "running");
    drop(sandbox.mybox(["kill", "shell"]).run().ok());
    let start = sandbox.mybox(["start", "-ai", "--detach-keys", "q", "shell"]);
    let mut session = on_terminal(start);
    until("the terminal is raw", || {
        session.terminal().settings() != Terminal::new(24, 80).settings()
    });
    session.send("q");
    assert_eq!(session.wait().0, 0);
    assert_eq!(state(&sandbox, "shell"), "running");
    remove(&sandbox, "shell");
}

#[test]
fn a_signal_that_is_not_for_the_container_leaves_it() {
    let sandbox = Sandbox::tiny("noproxy");
    let command = ["probe", "say", "out:up", "err:too", "sleep:600"];
    let running = run(&sandbox, "web", &["--sig-proxy=false"], &command).spawn();
    running.wait_for("up");
    running.wait_for_stderr("too");
    running.signal(Signal::TERM);
    drop(running.wait().code(143));
    assert_eq!(state(&sandbox, "web"), "running");
    assert_eq!(log(&sandbox, "web"), "up\n");
    remove(&sandbox, "web");
    // With the container's own end it ends as ever.
    let ended = run(
        &sandbox,
        "web",
        &["--sig-proxy=false"],
        &["probe", "exit", "7"],
    );
    drop(ended.run().code(7));
    remove(&sandbox, "web");
}

#[test]
fn more_than_fits_on_the_way_goes_through_both_ways() {
    let sandbox = Sandbox::tiny("through");
    let text: String = (0..400_000)
        .map(|number| format!("{number:012}\n"))
        .collect();
    let flags = ["--rm", "-i", "--sig-proxy=false"];
    let output = run(&sandbox, "pipe", &flags, &["cat"])
        .stdin(text.clone())
        .run()
        .ok()
        .stdout();
    assert!(output == text, "{} of {} bytes", output.len(), text.len());
}

#[test]
fn whoever_is_stopped_for_a_while_misses_nothing() {
    let sandbox = Sandbox::tiny("stopped");
    let command = ["probe", "lines", "8000"];
    let mut session = on_terminal(run(&sandbox, "much", &["-it", "--rm"], &command));
    session.read_until("line 000000000000");
    session.signal(Signal::STOP);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(
        state(&sandbox, "much"),
        "running",
        "it waits for whoever looks at it"
    );
    session.signal(Signal::CONT);
    let (code, screen, _) = session.wait();
    assert_eq!(code, 0);
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines.len(), 8000);
    assert!(
        lines[7999].starts_with("line 000000007999"),
        "{}",
        lines[7999]
    );
}

#[test]
fn standard_input_alone_is_given_and_then_it_is_left() {
    let sandbox = Sandbox::tiny("stdin");
    let output = run(&sandbox, "reader", &["-i", "-a", "stdin"], &["cat"])
        .stdin("all of it\n")
        .run()
        .ok();
    let row = known(&sandbox, "reader").expect("a row");
    assert_eq!(row["id"], output.line(), "the id is all that is shown");
    until("it has read all", || {
        log(&sandbox, "reader") == "all of it\n"
    });
    until("its end", || state(&sandbox, "reader") == "exited");
    assert_eq!(exit_code(&sandbox, "reader"), 0);
    remove(&sandbox, "reader");
}

#[test]
fn it_ends_with_a_command_that_is_killed() {
    let sandbox = Sandbox::tiny("killed");
    let session = cat_on_terminal(&sandbox, "shell", &["-it"]);
    session.signal(Signal::KILL);
    drop(session.wait());
    until("its end", || state(&sandbox, "shell") == "exited");
    assert_eq!(exit_code(&sandbox, "shell"), 137);
    remove(&sandbox, "shell");
    sandbox.assert_nothing_runs();
}

#[test]
fn it_ends_with_its_monitor_and_the_command_takes_it_down() {
    let sandbox = Sandbox::tiny("unmonitored");
    for flags in [&["-it"][..], &["-it", "--rm"]] {
        let untouched = Terminal::new(24, 80).settings();
        let session = cat_on_terminal(&sandbox, "shell", flags);
        kill_process(monitor(&sandbox), Signal::KILL).expect("kill the monitor");
        let (code, screen, terminal) = session.wait();
        assert_eq!((code, terminal.settings()), (137, untouched), "{screen}");
        sandbox.assert_nothing_runs();
        if flags.contains(&"--rm") {
            assert_eq!(known(&sandbox, "shell"), None);
        } else {
            assert_eq!(exit_code(&sandbox, "shell"), 137);
            remove(&sandbox, "shell");
        }
    }
}

#[test]
fn what_restarts_is_left_with_its_first_end() {
    let sandbox = Sandbox::tiny("again");
    let always = ["-it", "--restart", "always"];
    let mut session = cat_on_terminal(&sandbox, "shell", &always);
    session.send("\x04");
    let (code, screen, _) = session.wait();
    assert_eq!(code, 0, "{screen}");
    until("it runs again", || state(&sandbox, "shell") == "running");
    remove(&sandbox, "shell");
    // Who asks it to stop means it.
    let session = cat_on_terminal(&sandbox, "shell", &always);
    session.signal(Signal::TERM);
    let (code, screen, _) = session.wait();
    assert_eq!(code, 143, "{screen}");
    assert_eq!(exit_code(&sandbox, "shell"), 143);
    remove(&sandbox, "shell");
}

#[test]
fn flags_for_whoever_stays_are_refused_where_nobody_does() {
    let sandbox = Sandbox::tiny("nobody");
    let keys = ["--detach-keys", "ctrl-a"];
    let refused = run(&sandbox, "web", &["-d", keys[0], keys[1]], &["true"]);
    drop(
        refused
            .run()
            .code(125)
            .says("--detach-keys does not go with --detach"),
    );
    let create = sandbox.mybox(["create", "--sig-proxy=false", "tiny", "true"]);
    drop(create.run().code(2).says("it does not take --sig-proxy"));
    let wrong = run(&sandbox, "web", &["--detach-keys", "ctrl-"], &["true"]);
    drop(wrong.run().code(125).says("`ctrl-` is no key"));
    assert!(sandbox.containers().is_empty(), "nothing was made");
}
