//! The last steps: privileges down to what the command gets, then exec.

use std::convert::Infallible;
use std::ffi::CString;
use std::path::Path;

use nix::errno::Errno;
use oci_spec::runtime::{Capabilities, Process};
use rustix::fs::OFlags;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;

use super::identity::Identity;
use super::protocol::{self, Failed, FromChild, Stage};
use super::{Task, plain_signals, reaper};
use crate::kernel::root::{MakeAs, Root};
use crate::kernel::{Context, Error, Result, caps, process, raw, rlimit, seccomp};

/// The first descriptor that is not one of the three standard ones.
const FIRST_OWN_FD: u32 = 3;

/// Makes the working directory if the image does not have it: while the root can be written.
pub(super) fn make_working_directory(process: &Process) -> Result<()> {
    Root::open(Path::new("/"))?.open_or_make(process.cwd(), MakeAs::Directory)?;
    Ok(())
}

/// Goes there, when everything is hidden that shall be: what a mount covers cannot be entered.
pub(super) fn enter_working_directory(process: &Process) -> Result<()> {
    let cwd = process.cwd();
    let fd = Root::open(Path::new("/"))?.open_in(cwd, OFlags::PATH)?;
    rustix::process::fchdir(&fd).on_path("enter working directory", cwd)
}

/// Becomes the command, or its reaper.
pub(super) fn execute(
    task: &Task<'_>,
    identity: &Identity,
    below_reaper: bool,
) -> Result<Infallible, Failed> {
    let command = || become_command(task, identity, || Ok(()));
    if below_reaper {
        reaper::run(&task.channel, command)
    } else {
        command()
    }
}

/// Becomes the command. `unprivileged` is what is still to be done as the command's own user, with
/// no more rights than the command has.
pub(super) fn become_command(
    task: &Task<'_>,
    identity: &Identity,
    unprivileged: impl FnOnce() -> Result<(), Failed>,
) -> Result<Infallible, Failed> {
    let environment = environment(task.process, identity);
    let line = task.process.args().as_deref().unwrap_or_default();
    let command = Command::prepare(line, &environment)?;
    limit(task).map_err(Failed::at(Stage::Identity))?;
    drop_privileges(task, identity).map_err(Failed::at(Stage::Identity))?;
    unprivileged()?;
    raw::close_on_exec_from(FIRST_OWN_FD)
        .on("close", "inherited descriptors")
        .map_err(Failed::at(Stage::Execute))?;
    protocol::send(&task.channel, &FromChild::Executing, None)
        .map_err(Failed::at(Stage::Execute))?;
    // Not before: a signal from here on ends the command, and no longer its start.
    plain_signals(&task.mask).map_err(Failed::at(Stage::Execute))?;
    Err(command.execute())
}

/// The caller's limits, and those that were asked for in their place: while they may still be raised.
fn limit(task: &Task<'_>) -> Result<()> {
    task.open_files.set()?;
    for limit in task.process.rlimits().iter().flatten() {
        rlimit::set(&limit.typ().to_string(), limit.soft(), limit.hard())?;
    }
    Ok(())
}

/// Groups, user, capabilities, in the order that each step still may.
fn drop_privileges(task: &Task<'_>, identity: &Identity) -> Result<()> {
    let capabilities = task.process.capabilities().as_ref();
    caps::limit_bounding_set(set(capabilities.and_then(|it| it.bounding().as_ref()))?)?;
    if !task.filter.is_empty() {
        // While CAP_SYS_ADMIN is still there, which it takes. All that follows is allowed by it.
        seccomp::install(task.filter)?;
    }
    let (uid, gid) = (identity.uid, identity.gid);
    rustix::thread::set_thread_groups(&identity.groups).on("set", "supplementary groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).on("set group", gid.as_raw())?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).on("set user", uid.as_raw())?;
    // A change from root to another user has cleared the sets; root keeps what the spec names.
    if uid.is_root() {
        let effective = set(capabilities.and_then(|it| it.effective().as_ref()))?;
        let permitted = set(capabilities.and_then(|it| it.permitted().as_ref()))?;
        caps::set(effective, permitted)?;
    } else {
        caps::set(CapabilitySet::empty(), CapabilitySet::empty())?;
    }
    if task.process.no_new_privileges().unwrap_or(false) {
        rustix::thread::set_no_new_privs(true).on("set", "no_new_privs")?;
    }
    // The change of user has cleared it (prctl(2), PR_SET_PDEATHSIG). Under a reaper it is the
    // reaper that this process follows.
    let signal = task.follows_parent.then_some(Signal::KILL);
    rustix::process::set_parent_process_death_signal(signal).on("set", "parent death signal")
}

fn set(names: Option<&Capabilities>) -> Result<CapabilitySet> {
    let mut names = names.into_iter().flatten();
    names.try_fold(CapabilitySet::empty(), |set, name| {
        Ok(set | caps::parse(&name.to_string())?)
    })
}

/// The spec's environment, with HOME of the user's own if nobody has set it.
fn environment(process: &Process, identity: &Identity) -> Vec<String> {
    let mut lines = process.env().clone().unwrap_or_default();
    if !lines.iter().any(|line| line.starts_with("HOME=")) {
        lines.push(format!("HOME={}", identity.home));
    }
    lines
}

/// A command line ready to be executed: nothing more to allocate or look up.
struct Command {
    word: String,
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Command {
    /// A word without a slash is looked for along PATH, as execvp(3) does.
    fn prepare(line: &[String], environment: &[String]) -> Result<Self, Failed> {
        let word = line.first().cloned().unwrap_or_default();
        let paths = if word.is_empty() {
            // It would lead to the directories of PATH.
            Vec::new()
        } else if word.contains('/') {
            vec![word.clone()]
        } else {
            let path = environment
                .iter()
                .find_map(|line| line.strip_prefix("PATH="));
            let of = |dir: &str| format!("{}/{word}", if dir.is_empty() { "." } else { dir });
            path.unwrap_or("").split(':').map(of).collect()
        };
        Ok(Self {
            candidates: c_strings(&paths)?,
            arguments: c_strings(line)?,
            environment: c_strings(environment)?,
            word,
        })
    }

    /// Tries each place in turn. Returns only when none could be executed.
    fn execute(&self) -> Failed {
        let mut answer = Errno::ENOENT;
        for candidate in &self.candidates {
            match process::exec(candidate, &self.arguments, &self.environment) {
                // Not here: what another place said counts more.
                Errno::ENOENT | Errno::ENOTDIR => {}
                // execvp(3): go on looking, and say so in the end.
                Errno::EACCES => answer = Errno::EACCES,
                errno => {
                    answer = errno;
                    break;
                }
            }
        }
        self.explain(answer)
    }

    fn explain(&self, errno: Errno) -> Failed {
        let there = |path: &CString| Path::new(&*path.to_string_lossy()).exists();
        let found = self.candidates.iter().any(there);
        let detail = match errno {
            // The file is there: what is missing is what it names.
            Errno::ENOENT if found => {
                Some("the interpreter it asks for (ELF loader or #! line) is not there")
            }
            Errno::ENOENT if !self.word.contains('/') => {
                Some("it is nowhere in the container's $PATH")
            }
            Errno::EPERM => Some("the file asks for capabilities that the container does not have"),
            Errno::ENOEXEC => Some("it is neither a program for this machine nor a #! script"),
            _ => None,
        };
        let error = Error {
            operation: "execute".into(),
            object: match self.word.as_str() {
                "" => "\"\"".to_owned(),
                word => word.to_owned(),
            },
            errno: errno as i32,
            detail: detail.map(ToOwned::to_owned),
        };
        let code = if errno == Errno::ENOENT { 127 } else { 126 };
        Failed {
            stage: Stage::Execute,
            error,
            code,
        }
    }
}

fn c_strings(words: &[String]) -> Result<Vec<CString>, Failed> {
    let convert = |word: &String| {
        CString::new(word.as_str())
            .map_err(|_| Error::new("pass", format_args!("{word:?}"), "it has a NUL byte"))
    };
    words
        .iter()
        .map(convert)
        .collect::<Result<_>>()
        .map_err(Failed::at(Stage::Execute))
}
