//! `mybox df`: what takes the room, and what of it could be had back.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;
use mybox_store::{GcOptions, GcPlan, Object, Store, Survey, allocated};
use serde::Serialize;
use serde_json::{Value, json};

use super::format::{self, Format, Heading};
use super::{images, output};
use crate::container::{Places, Record, find, volume};
use crate::error::Failure;
use crate::kernel::process;

#[derive(Debug, Args)]
#[command(after_help = concat!("\
Sizes are bytes allocated on the disk, each counted once: the images' are those of their layers and
blobs together. ACTIVE are images and what belongs to them that some container is made of, volumes
that some container has, and containers that run. SHARED is what several images have. RECLAIMABLE is
what goes if everything does that is neither active, pinned nor in use: `mybox gc --unused-for 0s`,
`mybox rm` for containers that have ended, and `mybox volume prune`, which leaves volumes with a
name. `mybox gc` alone removes less: the last line says how much.

--json prints {images, layers, blobs, containers, volumes, partialDownloads, overhead, total,
reclaimable, gc, compressed}; each of the first six is {total, active, bytes, sharedBytes,
reclaimableBytes}, overhead the bytes of the layout itself, gc the bytes that `mybox gc` would give
back now, compressed what `mybox gc --compressed` would give back beyond that. With --verbose also
objects, a list of {kind, digest, bytes, images}, and containerList, a list of {name,
running, bytes}.

", format::format_help!("{{.Type}} {{.Size}}")))]
pub(super) struct Arguments {
    /// Every object and container by itself, too
    // -v is of the global --verbose only before the verb.
    #[arg(short = 'v', long = "verbose", id = "details")]
    details: bool,
    /// Each kind as a template says: '{{.Type}} {{.Size}}', 'table {{.Type}}\t{{.Reclaimable}}', json
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["details", "json"])]
    format: Option<Format>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What `--format` can ask for: Docker's, and what several images have.
const HEADINGS: [Heading; 6] = [
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Shared", "SHARED"),
    ("Reclaimable", "RECLAIMABLE"),
];

/// One kind of thing.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    total: usize,
    active: usize,
    bytes: u64,
    shared_bytes: u64,
    reclaimable_bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    images: Kind,
    layers: Kind,
    blobs: Kind,
    containers: Kind,
    volumes: Kind,
    partial_downloads: Kind,
    overhead: u64,
    total: u64,
    reclaimable: u64,
    gc: u64,
    /// Bytes that dropping compressed blobs would give back beyond that.
    compressed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<Vec<ObjectRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_list: Option<Vec<ContainerRow>>,
}

#[derive(Debug, Serialize)]
struct ObjectRow {
    #[serde(flatten)]
    object: Object,
    bytes: u64,
    images: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct ContainerRow {
    name: String,
    running: bool,
    bytes: u64,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    // A descriptor for each directory on the way down, and a container's tree may be deep.
    process::allow_many_descriptors().context("allow many open files")?;
    let now = SystemTime::now();
    let uses = || Record::uses(places);
    let everything = GcOptions {
        unused_for: Some(Duration::ZERO),
        ..GcOptions::at(now)
    };
    let at_once = GcOptions::at(now);
    let lean = GcOptions {
        compressed: true,
        ..GcOptions::at(now)
    };
    let (plans, survey) = store.gc_plans(&uses, [&everything, &at_once, &lean])?;
    let [plan, at_once, lean] = plans;
    let code = images::report_damage(&survey.catalog);
    let containers = containers(places)?;
    let mut document = document(&survey, &plan, &containers);
    document.volumes = volumes(places)?;
    document.gc = at_once.frees();
    document.compressed = lean.frees().saturating_sub(document.gc);
    document.total += document.volumes.bytes;
    document.reclaimable += document.volumes.reclaimable_bytes;
    if arguments.details {
        document.objects = Some(objects(&survey));
        document.container_list = Some(containers);
    }
    if arguments.json {
        output::json(&document)?;
    } else if let Some(format) = &arguments.format {
        let rows = kinds(&document).map(|(name, kind, shares)| fields(name.trim(), kind, shares));
        format::print(Some(format), &HEADINGS, &usual(), rows.into())?;
    } else {
        show(&document)?;
    }
    Ok(code)
}

fn containers(places: &Places) -> anyhow::Result<Vec<ContainerRow>> {
    let rows = find::all(places)?;
    rows.into_iter()
        .map(|row| {
            let directory = places.container(&row.record.id);
            let bytes = allocated(&directory)
                .with_context(|| format!("measure {}", directory.display()))?;
            Ok(ContainerRow {
                name: row.record.name,
                running: row.running,
                bytes,
            })
        })
        .collect()
}

fn document(survey: &Survey, plan: &GcPlan, containers: &[ContainerRow]) -> Document {
    let mut active = HashSet::new();
    let mut shared = HashSet::new();
    let mut seen = HashSet::new();
    let mut active_images = 0;
    for image in survey.all_images() {
        let used = survey.users(image.manifest).next().is_some();
        active_images += usize::from(used);
        for object in image.parts() {
            if used {
                active.insert(object);
            }
            if !seen.insert(object) {
                shared.insert(object);
            }
        }
    }
    let doomed: HashSet<Object> = plan.objects.iter().map(|one| one.object).collect();
    let kind = |is: fn(&Object) -> bool| {
        let mut kind = Kind::default();
        for (object, measured) in survey.objects.iter().filter(|(object, _)| is(object)) {
            let bytes = |of: &HashSet<Object>| {
                if of.contains(object) {
                    measured.bytes
                } else {
                    0
                }
            };
            // A merged index is of layers that are counted.
            let counts = !matches!(object, Object::Merged(_));
            kind.total += usize::from(counts);
            kind.active += usize::from(counts && active.contains(object));
            kind.bytes += measured.bytes;
            kind.shared_bytes += bytes(&shared);
            kind.reclaimable_bytes += bytes(&doomed);
        }
        kind
    };
    let layers = kind(|object| matches!(object, Object::Layer(_) | Object::Merged(_)));
    let blobs = kind(|object| matches!(object, Object::Blob(_)));
    let images = Kind {
        total: survey.all_images().count(),
        active: active_images,
        bytes: layers.bytes + blobs.bytes,
        shared_bytes: layers.shared_bytes + blobs.shared_bytes,
        reclaimable_bytes: layers.reclaimable_bytes + blobs.reclaimable_bytes,
    };
    let partial_downloads = kind(|object| matches!(object, Object::Partial(_)));
    let ended = containers.iter().filter(|container| !container.running);
    let of_containers = Kind {
        total: containers.len(),
        active: containers.iter().filter(|one| one.running).count(),
        bytes: containers.iter().map(|one| one.bytes).sum(),
        shared_bytes: 0,
        reclaimable_bytes: ended.map(|one| one.bytes).sum(),
    };
    Document {
        total: survey.total() + of_containers.bytes,
        reclaimable: plan.frees() + of_containers.reclaimable_bytes,
        images,
        layers,
        blobs,
        containers: of_containers,
        volumes: Kind::default(),
        partial_downloads,
        overhead: survey.overhead,
        gc: 0,
        compressed: 0,
        objects: None,
        container_list: None,
    }
}

/// Active are those that some container has; those with a name are not reclaimable.
fn volumes(places: &Places) -> anyhow::Result<Kind> {
    let mut kind = Kind::default();
    let volumes = volume::all(places)?;
    if volumes.is_empty() {
        return Ok(kind);
    }
    let users = volume::users(places)?;
    for volume in volumes {
        let path = places.volume(&volume.name);
        let bytes = allocated(&path).with_context(|| format!("measure {}", path.display()))?;
        let active = users.contains_key(&volume.name);
        kind.total += 1;
        kind.active += usize::from(active);
        kind.bytes += bytes;
        if volume.anonymous && !active {
            kind.reclaimable_bytes += bytes;
        }
    }
    Ok(kind)
}

fn objects(survey: &Survey) -> Vec<ObjectRow> {
    let mut users: std::collections::HashMap<Object, Vec<String>> = Default::default();
    for image in survey.all_images() {
        let name = image.references.first();
        let name = name.map_or_else(|| image.id.short(), |reference| reference.familiar());
        for object in image.parts() {
            users.entry(object).or_default().push(name.clone());
        }
    }
    let mut rows: Vec<ObjectRow> = survey
        .objects
        .iter()
        .map(|(object, measured)| ObjectRow {
            object: *object,
            bytes: measured.bytes,
            images: users.remove(object).unwrap_or_default(),
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
    rows
}

/// Each with its name, and whether images share any of it.
fn kinds(document: &Document) -> [(&'static str, &Kind, bool); 6] {
    [
        ("Images", &document.images, true),
        ("  Layers", &document.layers, true),
        ("  Blobs", &document.blobs, true),
        ("Containers", &document.containers, false),
        ("Volumes", &document.volumes, false),
        ("Partial downloads", &document.partial_downloads, false),
    ]
}

/// A row as templates know it, with Docker's names.
fn fields(name: &str, kind: &Kind, shares: bool) -> Value {
    let shared = if shares {
        output::decimal_size(kind.shared_bytes)
    } else {
        "-".to_owned()
    };
    json!({
        "Type": name,
        "TotalCount": kind.total.to_string(),
        "Active": kind.active.to_string(),
        "Size": output::decimal_size(kind.bytes),
        "Shared": shared,
        "Reclaimable": share(kind.reclaimable_bytes, kind.bytes),
    })
}

fn usual() -> [&'static str; 6] {
    HEADINGS.map(|(name, _)| name)
}

fn show(document: &Document) -> anyhow::Result<()> {
    let rows = kinds(document).map(|(name, kind, shares)| fields(name, kind, shares));
    format::print(None, &HEADINGS, &usual(), rows.into())?;
    output::line("")?;
    output::line(&format!(
        "{} on disk, {} of it the layout itself; {} reclaimable",
        output::decimal_size(document.total),
        output::decimal_size(document.overhead),
        output::decimal_size(document.reclaimable)
    ))?;
    output::line(&format!(
        "`mybox gc` would give back {} now",
        output::decimal_size(document.gc)
    ))?;
    if document.compressed > 0 {
        output::line(&format!(
            "`mybox gc --compressed` would give back {} more: blobs that a registry has as well",
            output::decimal_size(document.compressed)
        ))?;
    }
    details(document)
}

fn share(part: u64, whole: u64) -> String {
    let text = output::decimal_size(part);
    if whole == 0 {
        return text;
    }
    let percent = u128::from(part) * 100 / u128::from(whole);
    format!("{text} ({percent}%)")
}

fn details(document: &Document) -> anyhow::Result<()> {
    if let Some(objects) = &document.objects {
        let rows: Vec<Vec<String>> = objects
            .iter()
            .map(|row| {
                let kind = match row.object {
                    Object::Blob(_) => "blob",
                    Object::Layer(_) => "layer",
                    Object::Merged(_) => "merged",
                    Object::Partial(_) => "partial",
                };
                vec![
                    kind.to_owned(),
                    row.object.digest().short(),
                    output::decimal_size(row.bytes),
                    row.images.join(", "),
                ]
            })
            .collect();
        output::line("")?;
        output::table(&["OBJECT", "DIGEST", "SIZE", "IMAGES"], &rows)?;
    }
    if let Some(containers) = &document.container_list {
        let rows: Vec<Vec<String>> = containers
            .iter()
            .map(|row| {
                let state = if row.running { "running" } else { "ended" };
                vec![
                    row.name.clone(),
                    state.to_owned(),
                    output::decimal_size(row.bytes),
                ]
            })
            .collect();
        output::line("")?;
        output::table(&["CONTAINER", "STATE", "SIZE"], &rows)?;
    }
    Ok(())
}
