//! Runs programs that cannot hang a test: each has a time limit, after which it is killed by its
//! process id and the test fails with all it said until then.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mybox_probe::Report;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use serde::de::DeserializeOwned;

/// How long a program may run unless it is given another limit.
const LIMIT: Duration = Duration::from_secs(60);

/// How long its output may stay open after a program has ended.
const LINGER: Duration = Duration::from_secs(5);

/// Variables of the test's environment that would change what programs say.
const UNWANTED: &[&str] = &["NO_COLOR", "RUST_BACKTRACE", "RUST_LOG"];

/// A program to run, with its arguments, environment, input and time limit.
#[must_use]
pub(crate) struct Cmd {
    argv: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    dir: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

impl Cmd {
    /// `program` without arguments, with an empty standard input, for 60 seconds at most.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let argv = vec![program.as_ref().to_owned()];
        Self {
            argv,
            env: BTreeMap::new(),
            dir: None,
            stdin: None,
            limit: LIMIT,
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.argv.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<T: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Makes this command the last arguments of another one: `setsid --ctty`, `nsenter -t 1`.
    pub(crate) fn through<T: AsRef<OsStr>>(mut self, wrapper: impl IntoIterator<Item = T>) -> Self {
        let wrapper = wrapper.into_iter().map(|word| word.as_ref().to_owned());
        self.argv = wrapper.chain(self.argv).collect();
        self
    }

    /// Sets a variable in its environment, which is otherwise the test's own, less `MYBOX_*` and
    /// [`UNWANTED`].
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets its working directory.
    pub(crate) fn dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.dir = Some(directory.into());
        self
    }

    /// What it reads from standard input.
    pub(crate) fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(input.into());
        self
    }

    /// How long it may run.
    pub(crate) fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    #[must_use = "whether it succeeded is not checked"]
    #[track_caller]
    pub(crate) fn run(mut self) -> Output {
        let input = self.stdin.take().unwrap_or_default();
        let mut running = self.spawn();
        running.send_and_close(input);
        running.wait()
    }

    /// Starts it, with a standard input that stays open until [`Running::close_stdin`].
    #[track_caller]
    pub(crate) fn spawn(self) -> Running {
        let mut command = self.build();
        // A group of its own: what it starts can be killed with it, and the test's terminal does
        // not reach it.
        command.process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let shown = self.shown();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
        Running {
            stdin: child.stdin.take(),
            stdout: Stream::follow(child.stdout.take().expect("stdout is a pipe")),
            stderr: Stream::follow(child.stderr.take().expect("stderr is a pipe")),
            process: Process::new(child, shown, self.limit),
        }
    }

    /// The command for `std`, without its standard streams.
    pub(crate) fn build(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("MYBOX_") || UNWANTED.contains(&name.as_str()) {
                command.env_remove(name);
            }
        }
        command.envs(&self.env);
        if let Some(directory) = &self.dir {
            command.current_dir(directory);
        }
        command
    }

    /// The command as one would type it.
    pub(crate) fn shown(&self) -> String {
        let variables = self
            .env
            .iter()
            .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
        let words = self
            .argv
            .iter()
            .map(|word| word.to_string_lossy().into_owned());
        variables.chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Its time limit.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }
}

/// A child that is waited for within its limit, and killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    shown: String,
    deadline: Instant,
    limit: Duration,
}

impl Process {
    pub(crate) fn new(child: Child, shown: String, limit: Duration) -> Self {
        Self {
            child,
            shown,
            deadline: Instant::now() + limit,
            limit,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Not yet waited for, so the id is still its own.
        kill_process(self.pid(), signal)
            .unwrap_or_else(|errno| panic!("signal {}: {errno}", self.shown));
    }

    /// Its status; none if it had to be killed.
    pub(crate) fn wait(&mut self) -> Option<ExitStatus> {
        let ended = self.ends_by(self.deadline);
        if !ended {
            self.kill();
        }
        let status = self.child.wait().expect("wait for a child");
        ended.then_some(status)
    }

    pub(crate) fn ends_by(&self, deadline: Instant) -> bool {
        let handle = pidfd_open(self.pid(), PidfdFlags::empty()).expect("pidfd of a child");
        readable_by(&handle, deadline)
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    fn kill(&mut self) {
        // The leader was not waited for, so that the group's id is still its own; it may have no
        // group of its own yet.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until `fd` can be read or is at its end; false if the deadline came first.
pub(crate) fn readable_by(fd: &impl std::os::fd::AsFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("a time limit of minutes");
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

/// A program that goes on while the test looks at it. Dropped before its end, it is killed.
pub(crate) struct Running {
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: Stream,
    stderr: Stream,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid().as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Writes to its standard input.
    #[track_caller]
    pub(crate) fn send(&mut self, input: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input was closed");
        stdin.write_all(input).expect("write to standard input");
    }

    /// Closes its standard input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Writes all of `input` from a thread, as the program may write before it reads, or end
    /// without reading.
    fn send_and_close(&mut self, input: Vec<u8>) {
        if let Some(mut stdin) = self.stdin.take() {
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
    }

    /// Waits until its standard output contains `text`.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let found = self
            .stdout
            .wait_until(self.process.deadline, |seen| contains(&seen.bytes, text));
        assert!(
            found,
            "{} never said {text:?}:\n{}",
            self.process.shown,
            self.transcript()
        );
    }

    /// Waits until its standard error contains `text`.
    #[track_caller]
    pub(crate) fn wait_for_stderr(&self, text: &str) {
        let found = self
            .stderr
            .wait_until(self.process.deadline, |seen| contains(&seen.bytes, text));
        assert!(
            found,
            "{} never said {text:?}:\n{}",
            self.process.shown,
            self.transcript()
        );
    }

    /// Whether it has ended by now.
    pub(crate) fn has_ended(&self) -> bool {
        self.process.ends_by(Instant::now())
    }

    /// Its standard output until now.
    pub(crate) fn stdout_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stdout.bytes()).into_owned()
    }

    /// Its standard error until now.
    pub(crate) fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes()).into_owned()
    }

    /// Ends what runs by SIGTERM; its exit code must say so.
    #[track_caller]
    pub(crate) fn end(self) {
        self.signal(Signal::TERM);
        drop(self.wait().code(143));
    }

    /// Waits for its end, and for the end of its output: nobody else may still hold that open.
    #[must_use = "whether it succeeded is not checked"]
    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        self.close_stdin();
        let status = self.process.wait();
        let closed = Instant::now() + LINGER;
        let stdout_ended = self.stdout.wait_until(closed, |seen| seen.ended);
        let stderr_ended = self.stderr.wait_until(closed, |seen| seen.ended);
        let Some(status) = status else {
            let limit = self.process.limit;
            panic!(
                "{} ran for {limit:?} and was killed:\n{}",
                self.process.shown,
                self.transcript()
            );
        };
        assert!(
            stdout_ended && stderr_ended,
            "{} ended, but another process still holds its output open:\n{}",
            self.process.shown,
            self.transcript(),
        );
        Output {
            command: self.process.shown.clone(),
            status,
            stdout_bytes: self.stdout.bytes(),
            stderr_bytes: self.stderr.bytes(),
        }
    }

    fn transcript(&self) -> String {
        transcript(&self.stdout.bytes(), &self.stderr.bytes())
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}

fn transcript(stdout: &[u8], stderr: &[u8]) -> String {
    format!(
        "--- stdout ---\n{}\n--- stderr ---\n{}",
        String::from_utf8_lossy(stdout),
        String::from_utf8_lossy(stderr),
    )
}

/// What a pipe has carried until now, filled by a thread.
struct Stream(Arc<(Mutex<Seen>, Condvar)>);

#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    fn follow(mut pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let stream = Self(Arc::clone(&shared));
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            loop {
                let read = pipe.read(&mut buffer).unwrap_or(0);
                let mut seen = shared.0.lock().expect("no reader panics");
                seen.bytes.extend_from_slice(&buffer[..read]);
                seen.ended = read == 0;
                shared.1.notify_all();
                if seen.ended {
                    return;
                }
            }
        });
        stream
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().expect("no reader panics").bytes.clone()
    }

    /// Waits until `enough`, the stream's end or the deadline; whether it is `enough`.
    fn wait_until(&self, deadline: Instant, enough: impl Fn(&Seen) -> bool) -> bool {
        let (seen, changed) = &*self.0;
        let seen = seen.lock().expect("no reader panics");
        let left = deadline.saturating_duration_since(Instant::now());
        let waiting = |seen: &mut Seen| !enough(seen) && !seen.ended;
        let (seen, _) = changed
            .wait_timeout_while(seen, left, waiting)
            .expect("no reader panics");
        enough(&seen)
    }
}

/// What a program left behind: its status and what it said.
pub(crate) struct Output {
    command: String,
    status: ExitStatus,
    /// Standard output as it came.
    pub(crate) stdout_bytes: Vec<u8>,
    /// Standard error as it came.
    pub(crate) stderr_bytes: Vec<u8>,
}

impl Output {
    /// Its exit code; none if a signal ended it.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The number of the signal that ended it.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Asserts that it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    /// Asserts its exit code.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert!(
            self.status.code() == Some(expected),
            "expected exit code {expected}, got {} from {}:\n{}",
            self.status,
            self.command,
            transcript(&self.stdout_bytes, &self.stderr_bytes),
        );
        self
    }

    /// Asserts that its standard error contains `text`.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.stderr().contains(text),
            "expected {text:?} on the standard error of {}:\n{}",
            self.command,
            transcript(&self.stdout_bytes, &self.stderr_bytes),
        );
        self
    }

    /// Standard output.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout_bytes).into_owned()
    }

    /// Standard output without white space at its end.
    pub(crate) fn line(&self) -> String {
        self.stdout().trim_end().to_owned()
    }

    /// Standard error.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr_bytes).into_owned()
    }

    /// Standard output, which must be one JSON document.
    #[track_caller]
    pub(crate) fn stdout_json(&self) -> serde_json::Value {
        self.parsed()
    }

    /// What `probe report` said.
    #[track_caller]
    pub(crate) fn report(&self) -> Report {
        self.parsed()
    }

    #[track_caller]
    fn parsed<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.stdout_bytes).unwrap_or_else(|error| {
            let said = transcript(&self.stdout_bytes, &self.stderr_bytes);
            panic!(
                "{} did not print the JSON expected: {error}:\n{said}",
                self.command
            )
        })
    }
}
