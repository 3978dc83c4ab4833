//! `mybox why`.

use std::time::SystemTime;

use clap::Args;
use mybox_store::{GcOptions, Object, Reason, Reference, Role, Store, Why, rfc3339};
use serde::Serialize;

use super::output;
use crate::container::{Places, Record};
use crate::error::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
--json prints a list of {kind, digest, bytes, lastUsed, neededBy, held, gc}, since one digest may be
that of a blob and of a layer. kind is blob, layer or partial. Each of neededBy is {entry, names,
role, number, of, pinned, containers}, role being index, manifest, config, layer or part. held says
whether a process has it in use; gc is true if `mybox gc` would remove it now.")]
pub(super) struct Arguments {
    /// The digest of a blob or a layer, or its beginning; or the name of an image
    digest: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(flatten)]
    object: Object,
    bytes: u64,
    last_used: Option<String>,
    needed_by: Vec<Needed>,
    held: bool,
    gc: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Needed {
    entry: String,
    names: Vec<String>,
    role: &'static str,
    number: Option<usize>,
    of: Option<usize>,
    pinned: bool,
    containers: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let options = GcOptions::at(SystemTime::now());
    let uses = || Record::uses(places);
    let answers = store.why(&arguments.digest, &uses, &options)?;
    if arguments.json {
        output::json(&answers.iter().map(document).collect::<Vec<_>>())?;
        return Ok(0);
    }
    for answer in &answers {
        for line in text(answer, options.now) {
            output::line(&line)?;
        }
    }
    Ok(0)
}

fn document(why: &Why) -> Document {
    let needed = |reason: &Reason| {
        let (role, number, of) = match reason.role {
            Role::Index => ("index", None, None),
            Role::Manifest => ("manifest", None, None),
            Role::Config => ("config", None, None),
            Role::Layer { number, of } => ("layer", Some(number), Some(of)),
            Role::Merged => ("merged", None, None),
            Role::Part => ("part", None, None),
        };
        Needed {
            entry: reason.entry.to_string(),
            names: reason.names.clone(),
            role,
            number,
            of,
            pinned: reason.pinned,
            containers: reason.containers.iter().cloned().collect(),
        }
    };
    Document {
        object: why.object,
        bytes: why.measured.map_or(0, |measured| measured.whole()),
        last_used: why.measured.map(|measured| rfc3339(measured.used)),
        needed_by: why.reasons.iter().map(needed).collect(),
        held: why.held,
        gc: why.doomed.is_some(),
    }
}

fn text(why: &Why, now: SystemTime) -> Vec<String> {
    let facts = match why.measured {
        Some(measured) => {
            let age = now.duration_since(measured.used).unwrap_or_default();
            let size = output::decimal_size(measured.whole());
            let what = if let Object::Layer(_) = why.object {
                "last used"
            } else {
                "touched"
            };
            format!("{size}, {what} {}", output::ago(age.as_secs()))
        }
        None => "needed, but not here".to_owned(),
    };
    let mut lines = vec![format!("{} ({facts})", why.object)];
    for reason in &why.reasons {
        lines.push(format!("  {}", sentence(reason)));
        let containers = reason.containers.iter();
        lines.extend(containers.map(|name| format!("    which container {name} has")));
        if reason.pinned {
            lines.push("    which is pinned".to_owned());
        }
    }
    if why.held {
        lines.push("  in use by a process now: a pull, a save, or a container".to_owned());
    }
    lines.push(match (&why.doomed, why.measured.is_some()) {
        (Some(reason), _) => format!("  `mybox gc` removes it: {reason}"),
        (None, true) if why.reasons.is_empty() && !why.held => {
            "  nothing needs it, but gc leaves it for now".to_owned()
        }
        (None, _) => "  gc keeps it".to_owned(),
    });
    lines
}

/// `layer 2/3 of app:1, app:2`.
fn sentence(reason: &Reason) -> String {
    let names: Vec<String> = reason
        .names
        .iter()
        .map(|name| match name.parse::<Reference>() {
            Ok(reference) => reference.familiar(),
            Err(_) => name.clone(),
        })
        .collect();
    let image = if names.is_empty() {
        format!("manifest {}, which has no name", reason.entry.short())
    } else {
        names.join(", ")
    };
    match reason.role {
        Role::Index => format!("index of {image}"),
        Role::Manifest => format!("manifest of {image}"),
        Role::Config => format!("config of {image}"),
        Role::Layer { number, of } => format!("layer {number}/{of} of {image}"),
        Role::Merged => format!("merged index of the layers of {image}"),
        Role::Part => format!("part of {image}"),
    }
}
