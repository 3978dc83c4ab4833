//! The containers whose namespaces another one joins, found before it is planned.

use anyhow::{Context, Result, bail};

use super::create;
use super::stack::read_config;
use crate::container::{Files, Places, find};
use crate::plan::{IpcMode, Joined, Neighbour, NetworkMode, PidMode, RunRequest, UtsMode};

/// Those that the request names. They must be running.
pub(super) fn find(places: &Places, request: &RunRequest) -> Result<Joined> {
    let mut joined = Joined::default();
    if let PidMode::Container(word) = &request.pid {
        let context = || format!("--pid container:{word}");
        joined.pid = Some(neighbour(places, word).with_context(context)?);
    }
    if let NetworkMode::Container(word) = &request.network {
        let context = || format!("--network container:{word}");
        joined.network = Some(neighbour(places, word).with_context(context)?);
    }
    if let IpcMode::Container(word) = &request.ipc {
        let context = || format!("--ipc container:{word}");
        let other = neighbour(places, word).with_context(context)?;
        is_shareable(&other).with_context(context)?;
        joined.ipc = Some(other);
    }
    if let UtsMode::Container(word) = &request.uts {
        let context = || format!("--uts container:{word}");
        joined.uts = Some(neighbour(places, word).with_context(context)?);
    }
    Ok(joined)
}

/// Docker's rule: nobody's memory is another's unless that was said when it was run.
fn is_shareable(other: &Neighbour) -> Result<()> {
    match create::read_request(other.files.dir())?.ipc {
        IpcMode::Shareable | IpcMode::Host | IpcMode::Container(_) => Ok(()),
        IpcMode::Own | IpcMode::None => bail!(
            "the memory of container {} is its own; it can be joined if it is run with --ipc shareable",
            other.name
        ),
    }
}

fn neighbour(places: &Places, word: &str) -> Result<Neighbour> {
    let container = find::one(places, word)?;
    let process = container.running_process()?;
    let record = container.record;
    let files = Files::of(places.container(&record.id));
    let spec = read_config(&files)?;
    Ok(Neighbour {
        hostname: spec.hostname().clone().unwrap_or_default(),
        id: record.id,
        name: record.name,
        process,
        files,
    })
}
