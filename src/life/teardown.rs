//! Everything of a container taken down, from its record alone: at a normal end, after a failure at
//! any stage, and for a supervisor that was killed. Each step finds its object or finds it gone,
//! so it may run any number of times. All steps are tried and all failures reported.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::{mounts, network, now, volumes};
use crate::container::events::{self, Event};
use crate::container::{Claim, ContainerId, Ending, Places, Record, names, volume};
use crate::kernel::cgroup::{self, freeze};
use crate::kernel::file::{gone, is_full};
use crate::kernel::mount::remove_tree;
use crate::kernel::netlink::Netlink;
use crate::kernel::process;
use crate::net::ipam;

/// How long another mybox may have a container that has ended.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// What is known of how a container came to be taken down.
#[derive(Debug, Clone, Copy)]
pub enum Seen {
    /// Its command did not run, for which this is the code: it goes altogether, unless it was there
    /// before.
    NeverStarted(u8),
    /// It ended like this.
    Ended(Ending),
    /// Nobody saw it: its supervisor died.
    Nothing,
}

/// Takes down what the claim's container has on the host, and all the rest if it was to be
/// removed or never ran.
pub fn teardown(places: &Places, claim: Claim, seen: Seen) -> Result<()> {
    let undone = undo(places, &claim, seen);
    if let (Err(_), Seen::Ended(ending)) = (&undone, seen) {
        keep_ending(places, &claim, ending)?;
    }
    let record = undone?;
    let had_process = claim.process().is_some();
    let otherwise = match seen {
        Seen::NeverStarted(code) => ended_now(code),
        Seen::Ended(_) | Seen::Nothing => killed(),
    };
    let ending = ending(seen, had_process);
    let stays = claim.is_to_stay();
    finish(places, claim.id(), record, ending, otherwise, stays)?;
    claim.release().context("release the container's claim")
}

/// Takes down a container whose supervisor, or whoever else had its claim, has died. One that somebody has is
/// left to them.
pub(super) fn orphan(places: &Places, id: &ContainerId) -> Result<()> {
    let taken = Claim::take_over(places, id)
        .with_context(|| format!("look at {}", places.live_container(id).display()))?;
    match taken {
        Some(claim) => {
            tracing::info!(
                "container {} lost its supervisor; taking it down",
                id.short()
            );
            // First: when the claim is gone nobody looks for it any more.
            mounts::sweep(places)?;
            teardown(places, claim, Seen::Nothing)
        }
        None => Ok(()),
    }
}

/// Takes down what the container has on the host. The answer is its record.
pub(super) fn undo(places: &Places, claim: &Claim, seen: Seen) -> Result<Option<Record>> {
    let id = claim.id();
    let dir = places.container(id);
    let mut failures = Failures::default();
    let record = failures
        .keep(Record::read(&dir).context("read the container's record"))
        .flatten();
    if let Some(record) = &record {
        // Nothing that is frozen dies of a signal on v1.
        failures.keep(freeze::thaw(&record.cgroups).map_err(Into::into));
    }
    if let Some((pid, started)) = claim.process() {
        failures.keep(process::kill_recorded(pid, started).map_err(Into::into));
    }
    // Before the address can have another container.
    let unpublished = network::unpublish(places, id);
    failures.keep(unpublished.context("take the container's ports back"));
    if let Some(record) = &record {
        failures.keep(cgroup::remove(&record.cgroups).map_err(Into::into));
        // A namespace takes its links with it when it dies, in the kernel's own time; asking for
        // it waits for two RCU grace periods, longer than all the rest of a run. Where nobody saw
        // the container end it is asked for all the same.
        // And where another one is on its network the namespace stays: the address must not.
        let asked_for = matches!(seen, Seen::Nothing) || claim.shares_network();
        if let (Some(veth), true) = (&record.veth, asked_for) {
            failures.keep(remove_link(veth));
        }
    } else {
        // Killed before there was a record: at most a lease and a name were taken.
        failures.keep(names::release_all(places, id).context("release the name"));
    }
    let released = release_address(places, id, record.as_ref(), seen);
    failures.keep(released.context("release the address"));
    // What is not undone is tried again by the next command, for which the record must stay.
    failures.into_result()?;
    tell_ending(places, claim, record.as_ref(), seen);
    Ok(record)
}

/// The record of one that has run says which address it is. A start that failed may have got no further than
/// the lease: the record is of the start before then, if there is one at all.
fn release_address(
    places: &Places,
    id: &ContainerId,
    record: Option<&Record>,
    seen: Seen,
) -> io::Result<()> {
    let (leases, owner) = (places.leases(), id.as_str());
    match (seen, record.and_then(|record| record.address)) {
        (Seen::Ended(_), Some(address)) => ipam::release(&leases, address, owner),
        _ => ipam::release_all(&leases, owner),
    }
}

fn tell_ending(places: &Places, claim: &Claim, record: Option<&Record>, seen: Seen) {
    let had_process = claim.process().is_some();
    let ending = match seen {
        // Docker tells the end of what it could not execute, too.
        Seen::NeverStarted(code) => Some(ended_now(code)),
        Seen::Ended(_) | Seen::Nothing => ending(seen, had_process),
    };
    let ending = ending.filter(|_| had_process);
    if let (Some(record), Some(ending)) = (record.filter(|it| it.ending.is_none()), ending) {
        events::died(places, record, ending);
        volumes::tell(places, record, "unmount");
    }
}

/// What could not be undone is left to the next command, which cannot know how the container ended.
fn keep_ending(places: &Places, claim: &Claim, ending: Ending) -> Result<()> {
    let dir = places.container(claim.id());
    let record = Record::read(&dir).context("read the container's record")?;
    let Some(record) = record.filter(|record| record.ending.is_none()) else {
        return Ok(());
    };
    tell_ending(places, claim, Some(&record), Seen::Ended(ending));
    Record::end(&dir, ending).context("write the container's record")
}

/// How the container ended; `None` if its command never ran.
fn ending(seen: Seen, had_process: bool) -> Option<Ending> {
    match seen {
        Seen::Ended(ending) => Some(ending),
        // It died with its supervisor, of SIGKILL.
        Seen::Nothing if had_process => Some(killed()),
        Seen::NeverStarted(_) | Seen::Nothing => None,
    }
}

/// The ending of whoever died with mybox or with the machine.
pub(super) fn killed() -> Ending {
    ended_now(137)
}

fn ended_now(code: u8) -> Ending {
    Ending {
        code,
        out_of_memory: false,
        at: now(),
    }
}

/// What becomes of the volumes of a container that is removed and that nobody gave a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    /// They stay, for `volume prune`.
    Stay,
    /// They go, those that other containers have excepted.
    Go,
}

/// Removes a container that has ended.
pub fn remove(places: &Places, id: &ContainerId, volumes: Volumes) -> Result<()> {
    remove_claimed(places, claim_ended(places, id)?, volumes)
}

/// The same, unless another mybox has it by then: whoever starts a container may have it for as long
/// as that runs. `false` if so.
pub(super) fn remove_by(
    places: &Places,
    id: &ContainerId,
    volumes: Volumes,
    deadline: Instant,
) -> Result<bool> {
    match claim_by(places, id, deadline)? {
        Some(claim) => remove_claimed(places, claim, volumes).map(|()| true),
        None => Ok(false),
    }
}

fn remove_claimed(places: &Places, claim: Claim, volumes: Volumes) -> Result<()> {
    let id = &claim.id().clone();
    let dir = places.container(id);
    // From here on it goes, whatever happens to this process. There is no record if another mybox was first:
    // with --rm, its monitor.
    let doom = |record: Record| Record {
        remove: true,
        remove_volumes: record.remove_volumes || volumes == Volumes::Go,
        ..record
    };
    let doomed = match Record::change(&dir, doom) {
        // What makes room on a full disk does without: killed now, it leaves a container that can be removed
        // once more.
        Err(full) if is_full(&full) => Record::read(&dir).map(|record| record.map(doom)),
        doomed => doomed,
    };
    let removed = doomed
        .with_context(|| format!("mark container {} for removal", id.short()))
        .map(|doomed| doomed.map_or(Ok(()), |record| remove_files(places, &record)));
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

/// The claim of a container that has ended. Its monitor gives it back a moment after that.
pub(super) fn claim_ended(places: &Places, id: &ContainerId) -> Result<Claim> {
    let claim = claim_by(places, id, Instant::now() + PATIENCE)?;
    claim.with_context(|| format!("container {} is in use by another mybox", id.short()))
}

/// The same, of one that must be there still: who had the claim before may have been removing it.
pub(super) fn claim_there(places: &Places, id: &ContainerId, name: &str) -> Result<Claim> {
    let claim = claim_ended(places, id)?;
    let record = Record::read(&places.container(id)).context("read the container's record");
    match record {
        Ok(Some(_)) => Ok(claim),
        gone => {
            claim.release().context("release the container's claim")?;
            gone?;
            bail!("container {name} has been removed")
        }
    }
}

/// The same as [`claim_ended`]; `None` if another mybox still has it at that time.
fn claim_by(places: &Places, id: &ContainerId, deadline: Instant) -> Result<Option<Claim>> {
    loop {
        match Claim::new(places, id) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if Instant::now() > deadline {
                    return Ok(None);
                }
                orphan(places, id)?;
                std::thread::sleep(LOOK);
            }
            claim => {
                let claim = claim.with_context(|| format!("claim container {}", id.short()));
                return claim.map(Some);
            }
        }
    }
}

/// Removes the name and the files of a container that nothing of is on the host any more.
pub(super) fn remove_files(places: &Places, record: &Record) -> Result<()> {
    let dir = places.container(&record.id);
    // Nobody renames it meanwhile, or writes its record anew.
    let _lock = Record::lock(&dir).context("lock the container's record")?;
    // All: a rename that was cut short has left two.
    names::release_all(places, &record.id).context("release the name")?;
    if record.remove_volumes {
        volume::remove_anonymous(places, record)?;
    }
    gone(remove_tree(&dir)).with_context(|| format!("remove {}", dir.display()))?;
    events::tell(places, &Event::of_container("destroy", record));
    Ok(())
}

/// Files and record: gone, unless it `stays`, or the record with the ending in it, `otherwise` if nobody
/// knows one.
fn finish(
    places: &Places,
    id: &ContainerId,
    record: Option<Record>,
    ending: Option<Ending>,
    otherwise: Ending,
    stays: bool,
) -> Result<()> {
    let dir = places.container(id);
    let Some(record) = record else {
        return gone(fs::remove_dir_all(&dir)).with_context(|| format!("remove {}", dir.display()));
    };
    match ending {
        _ if record.remove && !stays => remove_files(places, &record),
        // It had ended already; only the last of the teardown was missing.
        _ if record.ending.is_some() && !record.restarting => Ok(()),
        None if !record.kept && record.ending.is_none() => {
            // Nobody has seen its volumes.
            let record = Record {
                remove_volumes: true,
                ..record
            };
            remove_files(places, &record)
        }
        // Made by `create`, and not started yet.
        None if record.started.is_none() => Ok(()),
        _ => Record::end(&dir, ending.unwrap_or(otherwise)).context("write the container's record"),
    }
}

fn remove_link(name: &str) -> Result<()> {
    Ok(Netlink::open()?.remove_link(name)?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::claim;

    #[test]
    fn what_its_monitor_has_removed_meanwhile_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let places = Places {
            root: root.path().to_owned(),
            run_root: root.path().join("run"),
            bridge: "none".into(),
        };
        let id = ContainerId::random().unwrap();
        remove(&places, &id, Volumes::Stay).unwrap();
        assert_eq!(claim::live(&places).unwrap(), []);
    }
}
