//! Other limits and another restart policy for a container, now if it runs, and from its next start
//! on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::create::{read_request, save_request};
use crate::container::events::{self, Event};
use crate::container::find::Container;
use crate::container::{Places, Record, RestartPolicy};
use crate::kernel::cgroup::block_io::BlockIo;
use crate::kernel::cgroup::update::update as update_groups;
use crate::kernel::cgroup::{Controller, CpuQuota, Host, Limits, Swap, cpuset};
use crate::plan::RunRequest;

/// What is to change.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Limits that are `Some` are set.
    pub limits: Limits,
    /// Limits that are no more.
    pub lifted: Lifted,
    /// When it is started again.
    pub restart: Option<RestartPolicy>,
}

/// Limits that go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lifted {
    /// That of tasks.
    pub pids: bool,
    /// That of processor time; the period stays.
    pub cpu: bool,
}

impl Change {
    /// Whether nothing is to change.
    pub fn is_nothing(&self) -> bool {
        self.limits == Limits::default()
            && self.lifted == Lifted::default()
            && self.restart.is_none()
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
    let change = with_cpu(change, &request.limits);
    let after = merged(&request.limits, &change);
    let wanted = RunRequest {
        limits: after.clone(),
        restart: change.restart.unwrap_or(request.restart),
        ..request
    };
    wanted.check()?;
    if container.running {
        let parent = wanted.cgroup_parent.as_deref();
        let groups = groups(places, record, &change.limits, parent)?;
        update_groups(&groups, &change.limits, change.lifted.pids)?;
        cpuset::gather(&groups)?;
    }
    save_request(&dir, &wanted)?;
    keep(places, record, &change, &after)?;
    events::tell(places, &Event::of_container("update", record));
    Ok(())
}

/// Its groups; what `limits` need beside those that it was started with is made.
fn groups(
    places: &Places,
    record: &Record,
    limits: &Limits,
    parent: Option<&Path>,
) -> Result<Vec<PathBuf>> {
    let is_needed = limits.required().contains(&Controller::Cpuset);
    if !is_needed || cpuset::is_among(&record.cgroups) {
        return Ok(record.cgroups.clone());
    }
    let group = Host::detect()?.cpuset(record.id.as_str(), limits, parent)?;
    // On record before it is there, for whoever takes it down.
    let changed = Record::change(&places.container(&record.id), |mut now| {
        for path in group.paths() {
            if !now.cgroups.contains(&path) {
                now.cgroups.push(path);
            }
        }
        now
    });
    let changed = changed.context("write the container's record")?;
    let cgroups = changed.context("the container has been removed")?.cgroups;
    group.make_the_missing()?;
    Ok(cgroups)
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

/// Quota and period are written together: what is not asked for stays as it is.
fn with_cpu(mut change: Change, before: &Limits) -> Change {
    if change.limits.cpu.is_none() && !change.lifted.cpu {
        return change;
    }
    let (new, old) = (
        change.limits.cpu.unwrap_or_default(),
        before.cpu.unwrap_or_default(),
    );
    change.limits.cpu = Some(CpuQuota {
        quota: match change.lifted.cpu {
            true => None,
            false => new.quota.or(old.quota),
        },
        period: new.period.or(old.period),
    });
    change
}

fn merged(before: &Limits, change: &Change) -> Limits {
    let new = change.limits.clone();
    Limits {
        memory: new.memory.or(before.memory),
        swap: new.swap.or(before.swap),
        swap_is_explicit: new.swap_is_explicit || (new.swap.is_none() && before.swap_is_explicit),
        memory_reservation: new.memory_reservation.or(before.memory_reservation),
        cpu: new
            .cpu
            .or(before.cpu)
            .filter(|cpu| *cpu != CpuQuota::default()),
        cpu_shares: new.cpu_shares.or(before.cpu_shares),
        cpuset_cpus: new.cpuset_cpus.or_else(|| before.cpuset_cpus.clone()),
        cpuset_mems: new.cpuset_mems.or_else(|| before.cpuset_mems.clone()),
        pids: match change.lifted.pids {
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
            lifted: Lifted {
                pids: true,
                cpu: false,
            },
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

    #[test]
    fn of_quota_and_period_what_is_not_asked_for_stays() {
        let cpu = |quota, period| Some(CpuQuota { quota, period });
        let before = Limits {
            cpu: cpu(Some(20_000), Some(50_000)),
            ..Limits::default()
        };
        let changed = |asked, lifts| {
            let mut change = Change::default();
            change.limits.cpu = asked;
            change.lifted.cpu = lifts;
            with_cpu(change, &before).limits.cpu
        };
        assert_eq!(
            changed(cpu(Some(30_000), None), false),
            cpu(Some(30_000), Some(50_000))
        );
        assert_eq!(
            changed(cpu(None, Some(80_000)), false),
            cpu(Some(20_000), Some(80_000))
        );
        assert_eq!(changed(None, true), cpu(None, Some(50_000)));
        assert_eq!(changed(None, false), None);
    }
}
