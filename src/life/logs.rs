//! A container's log while it is being written.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::event::Timespec;
use rustix::fs::inotify;

use super::create::read_request;
use super::stack;
use crate::container::find::{self, State};
use crate::container::{ContainerId, Files, Places, Record};
use crate::kernel::poll;

/// How often it is asked whether the container runs still, when nothing is written.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Waits for a log to grow.
#[derive(Debug)]
pub struct Growth {
    watch: std::os::fd::OwnedFd,
}

impl Growth {
    /// Of the log in this directory.
    pub fn of(directory: &Path) -> Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).context("make an inotify instance")?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
        match inotify::add_watch(&watch, directory, events) {
            Ok(_) => {}
            // Nothing was written yet: then only the clock tells.
            Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => {
                return Err(errno).with_context(|| format!("watch {}", directory.display()));
            }
        }
        Ok(Self { watch })
    }

    /// Waits until something is written, or a moment has gone by.
    pub fn wait(&self) -> Result<()> {
        self.wait_with(&[]).map(drop)
    }

    /// Waits for one of these too; which of them have something.
    pub(super) fn wait_with(&self, others: &[BorrowedFd<'_>]) -> Result<Vec<bool>> {
        let readable = [&[self.watch.as_fd()], others].concat();
        let mut ready = poll::wait(&readable, &[], Some(&LOOK))?;
        self.forget_events()?;
        Ok(ready.split_off(1))
    }

    fn forget_events(&self) -> Result<()> {
        let mut events = [0; 4096];
        loop {
            match rustix::io::read(&self.watch, &mut events) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(io::Error::from(errno)).context("read inotify"),
            }
        }
    }
}

/// Fails for a container that was to have no log.
pub fn must_be_kept(places: &Places, record: &Record) -> Result<()> {
    let request = read_request(&places.container(&record.id))?;
    ensure!(
        !request.no_log,
        "container {} has no log: it was made with --log-driver none",
        record.name
    );
    Ok(())
}

/// Whether there can be nothing: it has ended, and had no monitor to keep what it wrote.
pub fn was_given_to_its_caller(places: &Places, record: &Record) -> bool {
    let logs = Files::of(places.container(&record.id)).logs();
    record.ending.is_some() && !logs.exists()
}

/// The labels and variables of a container that its log is to be shown with, by name. A label comes before a
/// variable of its name.
pub fn details(places: &Places, record: &Record) -> Result<BTreeMap<String, String>> {
    let dir = places.container(&record.id);
    let request = read_request(&dir)?;
    let spec = stack::read_config(&Files::of(dir))?;
    let process = spec.process().as_ref();
    let env = process.and_then(|process| process.env().as_deref());
    let variables = env.unwrap_or_default().iter();
    let variables = variables
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| request.log_variables.iter().any(|it| it == name));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let labels = record.labels.clone().into_iter();
    let labels = labels.filter(|(name, _)| request.log_labels.contains(name));
    Ok(variables.chain(labels).collect())
}

/// Whether more may be written: it runs, or will again.
pub fn goes_on(places: &Places, id: &ContainerId) -> Result<bool> {
    let container = find::again(places, id)?;
    let goes_on = |state| !matches!(state, State::Created | State::Exited);
    // Between two starts nothing runs for a moment; the monitor is there.
    let monitored = || places.live_container(id).exists();
    Ok(container.is_some_and(|container| goes_on(container.state)) || monitored())
}
