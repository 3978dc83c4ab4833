//! Everything of a container taken down, from its record alone: at a normal end, after a failure at
//! any stage, and for a supervisor that was killed. Each step finds its object or finds it gone,
//! so it may run any number of times. All steps are tried and all failures reported.

use std::fs;
use std::io;

use anyhow::{Context, Result, anyhow, bail};

use super::now;
use crate::container::{Claim, ContainerId, Ending, Places, Record, names};
use crate::kernel::netlink::Netlink;
use crate::kernel::{cgroup, process};
use crate::net::ipam;

/// What is known of how a container came to be taken down.
#[derive(Debug, Clone, Copy)]
pub enum Seen {
    /// Its command never ran: it goes altogether.
    NeverStarted,
    /// It ended like this.
    Ended(Ending),
    /// Nobody saw it: its supervisor died.
    Nothing,
}

/// Takes down what the claim's container has on the host, and all the rest if it was to be
/// removed or never ran.
pub fn teardown(places: &Places, claim: Claim, seen: Seen) -> Result<()> {
    let id = claim.id().clone();
    let dir = places.container(&id);
    let mut failures = Failures::default();
    let record = failures
        .keep(Record::read(&dir).context("read the container's record"))
        .flatten();
    if let Some((pid, started)) = claim.process() {
        failures.keep(process::kill_recorded(pid, started).map_err(Into::into));
    }
    if let Some(record) = &record {
        failures.keep(cgroup::remove(&record.cgroups).map_err(Into::into));
        // A namespace takes its links with it when it dies, in the kernel's own time; asking for
        // it waits for two RCU grace periods, longer than all the rest of a run. Where nobody saw
        // the container end it is asked for all the same.
        if let (Some(veth), Seen::Nothing) = (&record.veth, seen) {
            failures.keep(remove_link(veth));
        }
        if let Some(address) = record.address {
            let released = ipam::release(&places.leases(), address, id.as_str());
            failures.keep(released.context("release the address"));
        }
    } else {
        // Killed before there was a record: at most a lease and a name were taken.
        let released = ipam::release_all(&places.leases(), id.as_str());
        failures.keep(released.context("release the address"));
        failures.keep(names::release_all(places, &id).context("release the name"));
    }
    // What is not undone is tried again by the next command, for which the record must stay.
    failures.into_result()?;
    let had_process = claim.process().is_some();
    finish(places, &id, record, ending(seen, had_process))?;
    claim.release().context("release the container's claim")
}

/// How the container ended; `None` if its command never ran.
fn ending(seen: Seen, had_process: bool) -> Option<Ending> {
    match seen {
        Seen::Ended(ending) => Some(ending),
        // It died with its supervisor, of SIGKILL.
        Seen::Nothing if had_process => Some(killed()),
        Seen::NeverStarted | Seen::Nothing => None,
    }
}

/// The ending of whoever died with mybox or with the machine.
pub(super) fn killed() -> Ending {
    Ending {
        code: 137,
        out_of_memory: false,
        at: now(),
    }
}

/// Removes a container that has ended.
pub fn remove(places: &Places, id: &ContainerId) -> Result<()> {
    let claim = match Claim::new(places, id) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("container {} is being removed already", id.short())
        }
        claim => claim.with_context(|| format!("claim container {}", id.short()))?,
    };
    let dir = places.container(id);
    let doomed = Record::read(&dir).and_then(|record| {
        let record = record.ok_or(io::ErrorKind::NotFound)?;
        // From here on it goes, whatever happens to this process.
        let doomed = Record {
            remove: true,
            ..record
        };
        doomed.write(&dir).map(|()| doomed)
    });
    let removed = doomed
        .with_context(|| format!("mark container {} for removal", id.short()))
        .map(|record| remove_files(places, &record));
    match removed {
        // Half removed, it is left to the next command.
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) => claim.release().context("release the container's claim"),
        Err(error) => {
            claim.release().context("release the container's claim")?;
            Err(error)
        }
    }
}

/// Removes the name and the files of a container that nothing of is on the host any more.
pub(super) fn remove_files(places: &Places, record: &Record) -> Result<()> {
    let dir = places.container(&record.id);
    names::release(places, &record.name, &record.id).context("release the name")?;
    remove_tree(&dir).with_context(|| format!("remove {}", dir.display()))
}

/// Files and record: gone, or the record with the ending in it.
fn finish(
    places: &Places,
    id: &ContainerId,
    record: Option<Record>,
    ending: Option<Ending>,
) -> Result<()> {
    let dir = places.container(id);
    let Some(record) = record else {
        return remove_tree(&dir).with_context(|| format!("remove {}", dir.display()));
    };
    match ending {
        _ if record.remove => remove_files(places, &record),
        // It had ended already; only the last of the teardown was missing.
        _ if record.ending.is_some() => Ok(()),
        None => remove_files(places, &record),
        Some(_) => {
            let record = Record { ending, ..record };
            record.write(&dir).context("write the container's record")
        }
    }
}

fn remove_link(name: &str) -> Result<()> {
    Ok(Netlink::open()?.remove_link(name)?)
}

fn remove_tree(dir: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What went wrong on the way through all steps.
#[derive(Default)]
struct Failures(Vec<anyhow::Error>);

impl Failures {
    fn keep<T>(&mut self, answer: Result<T>) -> Option<T> {
        answer.map_err(|error| self.0.push(error)).ok()
    }

    fn into_result(self) -> Result<()> {
        let texts: Vec<String> = self.0.iter().map(|error| format!("{error:#}")).collect();
        match texts.as_slice() {
            [] => Ok(()),
            texts => Err(anyhow!("{}", texts.join("; ")).context("take the container down")),
        }
    }
}
