//! Containers as they are now, by name, by id, or by the beginning of an id.

use anyhow::{Result, bail};
use serde::Serialize;

use super::health::{Health, Status};
use super::port::Published;
use super::{ContainerId, Files, Places, Record, claim};
use crate::kernel::cgroup::freeze;
use crate::kernel::process;

/// A container and what it is doing.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// What is on record.
    #[serde(flatten)]
    pub record: Record,
    /// What it is doing.
    pub state: State,
    /// Whether its first process lives.
    pub running: bool,
    /// Whether its processes are frozen.
    pub paused: bool,
    /// What its health checks say, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Status>,
    /// Its first process: pid and start time.
    #[serde(skip)]
    pub process: Option<(i32, u64)>,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It was never started.
    Created,
    /// Its first process lives.
    Running,
    /// It is being started, or taken down.
    Changing,
    /// It ended, and its monitor will start it again.
    Restarting,
    /// It ended.
    Exited,
}

impl Container {
    fn of(places: &Places, record: Record) -> Self {
        let process = live_process(places, &record.id);
        let state = match (process, &record.ending) {
            (Some(_), _) => State::Running,
            (None, _) if record.restarting => State::Restarting,
            (None, None) if record.started.is_some() => State::Changing,
            (None, None) => State::Created,
            (None, Some(_)) => State::Exited,
        };
        Self {
            state,
            running: process.is_some(),
            health: health(places, &record.id, process.is_some()),
            paused: process.is_some() && freeze::is_frozen(&record.cgroups),
            record,
            process,
        }
    }

    /// What it is doing, as users know it.
    pub fn state_word(&self) -> &'static str {
        match self.state {
            State::Created => "created",
            State::Running if self.paused => "paused",
            State::Running => "running",
            State::Changing => "changing",
            State::Restarting => "restarting",
            State::Exited => "exited",
        }
    }

    /// Ports of the host that lead to it now.
    pub fn published(&self) -> &[Published] {
        if self.running {
            &self.record.ports
        } else {
            &[]
        }
    }

    /// Its first process, or what a user is told who wants something of a container that runs.
    pub fn running_process(&self) -> Result<(i32, u64)> {
        match self.process {
            Some(process) => Ok(process),
            None => bail!("container {} is not running", self.record.name),
        }
    }
}

/// Who does not run is not healthy: Docker's users know it so.
fn health(places: &Places, id: &ContainerId, runs: bool) -> Option<Status> {
    let health = Health::read(&Files::of(places.container(id)))
        .ok()
        .flatten()?;
    Some(if runs {
        health.status
    } else {
        Status::Unhealthy
    })
}

fn live_process(places: &Places, id: &ContainerId) -> Option<(i32, u64)> {
    let recorded = claim::read_process(&places.live_container(id));
    recorded.filter(|(pid, started)| process::is_alive(*pid, *started))
}

/// Every container of this root, the newest first.
pub fn all(places: &Places) -> Result<Vec<Container>> {
    let records = Record::all(places)?.into_iter();
    let containers = records.map(|record| Container::of(places, record));
    Ok(containers.collect())
}

/// The container as it is at this moment; `None` if it has gone.
pub fn again(places: &Places, id: &ContainerId) -> Result<Option<Container>> {
    let record = Record::read(&places.container(id))?;
    Ok(record.map(|record| Container::of(places, record)))
}

/// The one container that a name, an id or the beginning of an id means.
pub fn one(places: &Places, word: &str) -> Result<Container> {
    match one_or_none(places, word)? {
        Some(container) => Ok(container),
        None => bail!("no such container: {word}"),
    }
}

/// The same; `None` if it fits none. What fits several is an error.
pub fn one_or_none(places: &Places, word: &str) -> Result<Option<Container>> {
    let mut containers = all(places)?;
    if let Some(at) = containers.iter().position(|one| one.record.name == word) {
        return Ok(Some(containers.swap_remove(at)));
    }
    containers.retain(|one| !word.is_empty() && one.record.id.as_str().starts_with(word));
    match containers.len() {
        0 => Ok(None),
        1 => Ok(Some(containers.swap_remove(0))),
        _ => {
            let ids: Vec<&str> = containers.iter().map(|one| one.record.id.short()).collect();
            bail!(
                "{word} is ambiguous: it fits the containers {}",
                ids.join(", ")
            )
        }
    }
}
