//! Other limits and another restart policy for a container, now if it runs, and from its next start
//! on.

use anyhow::{Context, Result, bail};

use super::create::{read_request, save_request};
use crate::container::events::{self, Event};
use crate::container::find::Container;
use crate::container::{Places, Record, RestartPolicy};
use crate::kernel::cgroup::block_io::BlockIo;
use crate::kernel::cgroup::update::update as update_groups;
use crate::kernel::cgroup::{Limits, Swap};
use crate::plan::RunRequest;

/// What is to change.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Limits that are `Some` are set.
    pub limits: Limits,
    /// There is no limit of tasks any more.
    pub unlimited_pids: bool,
    /// When it is started again.
    pub restart: Option<RestartPolicy>,
}

impl Change {
    /// Whether nothing is to change.
    pub fn is_nothing(&self) -> bool {
        self.limits == Limits::default() && !self.unlimited_pids && self.restart.is_none()
    }
}

/// Changes it. What the kernel refuses is not kept either.
pub fn update(places: &Places, container: &Container, change: &Change) -> Result<()> {
    let record = &container.record;
    if change.restart.is_some_and(|it| it != RestartPolicy::No) && record.remove {
        let name = &record.name;
        bail!("container {name} is removed when it ends (--rm): it cannot be started again");
    }
    let dir = places.container(&record.id);
    let request = read_request(&dir)?;
    let change = with_swap(change, &request.limits);
    let after = merged(&request.limits, &change);
    let wanted = RunRequest {
        limits: after.clone(),
        restart: change.restart.unwrap_or(request.restart),
        ..request
    };
    wanted.check()?;
    if container.running {
        update_groups(&record.cgroups, &change.limits, change.unlimited_pids)?;
    }
    save_request(&dir, &wanted)?;
    keep(places, record, &change, &after)?;
    events::tell(places, &Event::of_container("update", record));
    Ok(())
}

/// Memory and swap are changed together: each is bounded by the other.
fn with_swap(change: &Change, before: &Limits) -> Change {
    let mut change = change.clone();
    let limits = &mut change.limits;
    if limits.memory.is_none() && limits.swap.is_none() {
        return change;
    }
    limits.memory = limits.memory.or(before.memory);
    if limits.swap.is_none() {
        limits.swap_is_explicit = before.swap_is_explicit;
        limits.swap = if before.swap_is_explicit {
            before.swap
        } else {
            limits.memory.map(Swap::twice)
        };
    }
    change
}

fn merged(before: &Limits, change: &Change) -> Limits {
    let new = change.limits.clone();
    Limits {
        memory: new.memory.or(before.memory),
        swap: new.swap.or(before.swap),
        swap_is_explicit: new.swap_is_explicit || (new.swap.is_none() && before.swap_is_explicit),
        memory_reservation: new.memory_reservation.or(before.memory_reservation),
        cpu: new.cpu.or(before.cpu),
        cpu_shares: new.cpu_shares.or(before.cpu_shares),
        cpuset_cpus: new.cpuset_cpus.or_else(|| before.cpuset_cpus.clone()),
        cpuset_mems: new.cpuset_mems.or_else(|| before.cpuset_mems.clone()),
        pids: match change.unlimited_pids {
            true => None,
            false => new.pids.or(before.pids),
        },
        block_io: BlockIo {
            weight: new.block_io.weight.or(before.block_io.weight),
            devices: before.block_io.devices.clone(),
        },
        swappiness: before.swappiness,
        waits_for_memory: before.waits_for_memory,
    }
}

fn keep(places: &Places, record: &Record, change: &Change, limits: &Limits) -> Result<()> {
    let dir = places.container(&record.id);
    let changed = Record::change(&dir, |now| Record {
        memory_limit: limits.memory,
        restart: change.restart.unwrap_or(now.restart),
        ..now
    });
    changed.context("write the container's record").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_follows_memory_unless_somebody_said_otherwise() {
        let before = Limits {
            memory: Some(100),
            swap: Some(Swap::Total(200)),
            pids: Some(5),
            ..Limits::default()
        };
        let mut change = Change {
            unlimited_pids: true,
            ..Change::default()
        };
        change.limits.memory = Some(300);
        let changed = with_swap(&change, &before);
        assert_eq!(changed.limits.swap, Some(Swap::Total(600)));
        let after = merged(&before, &changed);
        assert_eq!((after.memory, after.pids), (Some(300), None));
        let explicit = Limits {
            swap_is_explicit: true,
            ..before
        };
        let changed = with_swap(&change, &explicit);
        assert_eq!(changed.limits.swap, Some(Swap::Total(200)));
        assert!(merged(&explicit, &changed).swap_is_explicit);
    }
}
