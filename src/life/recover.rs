//! What supervisors that died left behind, and who froze a container for a while: found by the next
//! mybox command, whatever it is.
//!
//! The usual case is that nothing is there: one directory to list, and one flock for every
//! container that runs.

use std::fs;
use std::io;

use anyhow::{Context, Error, Result, ensure};

use super::teardown;
use crate::container::stillness::Stillness;
use crate::container::{ContainerId, Places, Record, claim, names};
use crate::kernel::cgroup::freeze;
use crate::kernel::file::{gone, is_full};
use crate::kernel::process;

/// Takes down every container whose supervisor is dead, and lets go on what stands still for a command
/// that is. `note` is told what a full disk keeps from it: the command may be the one that makes room.
pub fn leftovers(places: &Places, note: &mut dyn FnMut(&str)) -> Result<()> {
    if !places.live().exists() {
        return after_boot(places);
    }
    let live = claim::live(places).with_context(|| format!("list {}", places.live().display()))?;
    // One that cannot be taken down keeps nobody from the others.
    let failed = live.iter().filter_map(|id| look_after(places, id).err());
    let (full, failures): (Vec<Error>, Vec<Error>) = failed.partition(is_for_want_of_room);
    full.iter().for_each(|error| note(&format!("{error:#}")));
    let failures: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// Whether something failed since the disk is full.
pub(super) fn is_for_want_of_room(error: &Error) -> bool {
    let mut causes = error.chain().filter_map(|it| it.downcast_ref());
    causes.any(|cause: &io::Error| is_full(cause))
}

fn look_after(places: &Places, id: &ContainerId) -> Result<()> {
    teardown::orphan(places, id)?;
    let about = || format!("let container {} go on", id.short());
    let Some(left) = Stillness::left_behind(places, id).with_context(about)? else {
        return Ok(());
    };
    tracing::info!(
        "container {} stands still for a command that died",
        id.short()
    );
    if let Some(record) = Record::read(&places.container(id)).with_context(about)? {
        freeze::thaw(&record.cgroups).with_context(about)?;
    }
    left.release().with_context(about)
}

/// The run root is new. If that is because the machine was started again, nothing runs of what was
/// started before: containers that were to be removed go now, and the others have ended. Those of
/// this boot have another run root, and supervisors that see to them.
fn after_boot(places: &Places) -> Result<()> {
    let containers = places.containers();
    let boot = process::boot_id();
    for id in
        claim::ids_in(&containers).with_context(|| format!("list {}", containers.display()))?
    {
        let dir = places.container(&id);
        match Record::read(&dir).with_context(|| format!("read the record in {}", dir.display()))? {
            Some(record) if record.boot == boot => {}
            Some(record) if record.remove => teardown::remove_files(places, &record)?,
            Some(record) if did_not_end(&record) => end_with_the_machine(&dir)?,
            Some(_) => {}
            None => remove_unrecorded(places, &id)?,
        }
    }
    fs::create_dir_all(places.live()).with_context(|| format!("make {}", places.live().display()))
}

/// Whether it was running, or about to be started again, as far as its record knows.
fn did_not_end(record: &Record) -> bool {
    let never_started = record.kept && record.started.is_none();
    record.restarting || record.ending.is_none() && !never_started
}

fn end_with_the_machine(dir: &std::path::Path) -> Result<()> {
    let about = || format!("write the record in {}", dir.display());
    Record::end(dir, teardown::killed()).with_context(about)
}

/// Only its name may be known of it.
fn remove_unrecorded(places: &Places, id: &ContainerId) -> Result<()> {
    names::release_all(places, id).context("release the name")?;
    let dir = places.container(id);
    gone(fs::remove_dir_all(&dir)).with_context(|| format!("remove {}", dir.display()))
}
