//! A container's volumes: there before it is on record, and kept by its record from then on.

use anyhow::Result;

use crate::container::events::{self, Event};
use crate::container::volume::{self, Held, IfMissing, Mounted, Wanted};
use crate::container::{Places, Record};
use crate::plan::RunPlan;

/// Makes those that are missing, and keeps all of them until the container is on record.
pub(super) fn hold(places: &Places, plan: &RunPlan) -> Result<Held> {
    let flush = !plan.remove;
    let wanted = plan.volumes.iter().map(|it| Wanted {
        name: &it.name,
        if_missing: match (it.borrowed, it.anonymous) {
            (true, _) => IfMissing::Fail,
            (false, true) => IfMissing::MakeAnonymous,
            (false, false) => IfMissing::Make,
        },
    });
    volume::hold(places, wanted, flush)
}

/// As the record has them.
pub(super) fn mounted(plan: &RunPlan) -> Vec<Mounted> {
    let mounted = plan.volumes.iter().map(|volume| Mounted {
        name: volume.name.clone(),
        destination: volume.destination.clone(),
        read_only: volume.read_only,
    });
    mounted.collect()
}

/// Tells of each that it is mounted, or is not any more.
pub(super) fn tell(places: &Places, record: &Record, action: &str) {
    for mounted in &record.volumes {
        let event = Event::of_volume(action, &mounted.name).with("container", &record.id);
        let event = match action {
            "mount" => event
                .with("destination", mounted.destination.display())
                .with("read/write", !mounted.read_only),
            _ => event,
        };
        events::tell(places, &event);
    }
}
