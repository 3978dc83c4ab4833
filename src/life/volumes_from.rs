//! `--volumes-from`: what other containers have mounted becomes this one's, before it is planned.
//!
//! It is asked for once. From then on this container's own record and request have it, whatever becomes
//! of the others; and while its record is there nobody removes a volume of it.

use std::path::Path;

use anyhow::{Context, Result};

use super::create;
use crate::container::find;
use crate::container::{Places, Record};
use crate::plan::RunRequest;
use crate::plan::request::{NamedVolume, Volume};

/// What another container has mounted.
#[derive(Default)]
struct Borrowed {
    volumes: Vec<NamedVolume>,
    binds: Vec<Volume>,
}

/// Adds to the request what the containers have that it names. What it mounts itself in the same place
/// comes first, and of several containers the last.
pub fn add(places: &Places, request: &mut RunRequest) -> Result<()> {
    let mut all = Borrowed::default();
    for from in &request.volumes_from {
        let about = || format!("--volumes-from {}", from.container);
        let other = find::one(places, &from.container).with_context(about)?;
        let borrowed = of(places, other.record, from.read_only).with_context(about)?;
        all.leave(|place| borrowed.has(place));
        all.volumes.extend(borrowed.volumes);
        all.binds.extend(borrowed.binds);
    }
    all.leave(|place| request.mount_points().any(|own| own == place));
    request.named_volumes.extend(all.volumes);
    request.volumes.extend(all.binds);
    Ok(())
}

fn of(places: &Places, other: Record, read_only: bool) -> Result<Borrowed> {
    let binds = create::read_request(&places.container(&other.id))?.volumes;
    // The record knows those too that its image asked for.
    let volumes = other.volumes.into_iter().map(|mounted| NamedVolume {
        name: Some(mounted.name),
        destination: mounted.destination,
        read_only: mounted.read_only || read_only,
        no_copy: true,
        borrowed: true,
    });
    let binds = binds.into_iter().map(|bind| Volume {
        read_only: bind.read_only || read_only,
        ..bind
    });
    Ok(Borrowed {
        volumes: volumes.collect(),
        binds: binds.collect(),
    })
}

impl Borrowed {
    fn has(&self, place: &Path) -> bool {
        let mut volumes = self.volumes.iter();
        volumes.any(|it| it.destination == place)
            || self.binds.iter().any(|it| it.destination == place)
    }

    /// Leaves out what is in these places.
    fn leave(&mut self, is_taken: impl Fn(&Path) -> bool) {
        self.volumes.retain(|it| !is_taken(&it.destination));
        self.binds.retain(|it| !is_taken(&it.destination));
    }
}
