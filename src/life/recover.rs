//! What supervisors that died left behind: found by the next mybox command, whatever it is.
//!
//! The usual case is that nothing is there: one directory to list, and one flock for every
//! container that runs.

use std::fs;
use std::io;

use anyhow::{Context, Result, ensure};

use super::mounts;
use super::teardown::{self, Seen};
use crate::container::{Claim, ContainerId, Places, Record, claim, names};
use crate::kernel::process;

/// Takes down every container whose supervisor is dead.
pub fn leftovers(places: &Places) -> Result<()> {
    if !places.live().exists() {
        return after_boot(places);
    }
    let live = claim::live(places).with_context(|| format!("list {}", places.live().display()))?;
    // One that cannot be taken down keeps nobody from the others.
    let failures: Vec<String> = live
        .iter()
        .filter_map(|id| take_down(places, id).err())
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

fn take_down(places: &Places, id: &ContainerId) -> Result<()> {
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
            teardown::teardown(places, claim, Seen::Nothing)
        }
        None => Ok(()),
    }
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
            Some(record) if record.ending.is_none() => end_with_the_machine(record, &dir)?,
            Some(_) => {}
            None => remove_unrecorded(places, &id)?,
        }
    }
    fs::create_dir_all(places.live()).with_context(|| format!("make {}", places.live().display()))
}

fn end_with_the_machine(record: Record, dir: &std::path::Path) -> Result<()> {
    let ending = Some(teardown::killed());
    let record = Record { ending, ..record };
    record
        .write(dir)
        .with_context(|| format!("write the record in {}", dir.display()))
}

/// Only its name may be known of it.
fn remove_unrecorded(places: &Places, id: &ContainerId) -> Result<()> {
    names::release_all(places, id).context("release the name")?;
    let dir = places.container(id);
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
