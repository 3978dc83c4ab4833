//! Waiting for the end of a container that somebody else supervises.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::target::Target;
use crate::container::events::Reader;
use crate::container::find::{self, Container, State};
use crate::container::{ContainerId, Places};

/// While a monitor is about to start it again.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Waits until the container has ended for good, and answers with its exit code.
pub fn wait(places: &Places, container: Container) -> Result<u8> {
    let (id, name) = (container.record.id.clone(), container.record.name.clone());
    let mut now = Some(container);
    while let Some(container) = now {
        match (container.state, container.record.ending) {
            (State::Running, _) => {
                // It may have ended since it was looked at.
                if let Some(target) = Target::held(container)? {
                    target.wait_ended(places)?;
                }
            }
            (State::Restarting | State::Changing, _) => std::thread::sleep(BETWEEN_LOOKS),
            (State::Exited, Some(ending)) => return Ok(ending.code),
            // It does not run, which is what is waited for; Docker's answer, too.
            (State::Exited | State::Created, _) => return Ok(0),
        }
        now = find::again(places, &id)?;
    }
    told_of(places, &id, &name)
}

/// The same for a container that may have gone already.
pub(super) fn wait_for(places: &Places, id: &ContainerId) -> Result<u8> {
    match find::again(places, id)? {
        Some(container) => wait(places, container),
        None => told_of(places, id, id.short()),
    }
}

fn told_of(places: &Places, id: &ContainerId, name: &str) -> Result<u8> {
    match told(places, id)? {
        Some(code) => Ok(code),
        None => bail!("container {name} was removed, and nothing tells its exit code"),
    }
}

/// The exit code that the log of events tells of a container that has gone with its record (--rm).
fn told(places: &Places, id: &ContainerId) -> Result<Option<u8>> {
    let log = || format!("read {}", places.events().display());
    let mut reader = Reader::open(places).with_context(log)?;
    let mut code = None;
    while let Some(event) = reader.next().with_context(log)? {
        if event.action == "die" && event.id == id.as_str() {
            code = event
                .attributes
                .get("exitCode")
                .and_then(|it| it.parse().ok());
        }
    }
    Ok(code)
}
