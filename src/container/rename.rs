//! Another name for a container.
//!
//! The new name is claimed, then the record says it, then the old one is given back. Whoever dies in
//! between leaves the container with two names of which the record says one; both go when the
//! container goes, and the same rename can be done again.

use anyhow::{Context, Result, bail};

use super::events::{self, Event};
use super::{Places, Record, names};

/// Names the container.
pub fn rename(places: &Places, record: Record, name: &str) -> Result<()> {
    // As Docker's own names begin.
    let name = name.strip_prefix('/').unwrap_or(name);
    if record.name == name {
        bail!("container {name} has that name already");
    }
    // A rename that was cut short has it already.
    if names::owner_of(places, name).as_ref() != Some(&record.id) {
        names::claim(places, name, &record.id)?;
    }
    let dir = places.container(&record.id);
    let renamed = Record::change(&dir, |now| Record {
        name: name.to_owned(),
        ..now
    });
    let renamed = match renamed {
        Ok(Some(renamed)) => renamed,
        failed => {
            names::release(places, name, &record.id).context("release the name")?;
            failed.context("write the container's record")?;
            bail!("no such container: {}", record.name);
        }
    };
    let event = Event::of_container("rename", &renamed);
    events::tell(places, &event.with("oldName", &record.name));
    names::release(places, &record.name, &record.id).context("release the old name")
}
