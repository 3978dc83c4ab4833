//! `mybox gc`: plans what goes, shows it, and lets it go.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use clap::Args;
use mybox_store::{
    Collected, Digest, DoomedImage, DoomedObject, GcOptions, GcPlan, Object, Reference, Store,
    WhyGone, rfc3339,
};
use serde::Serialize;

use super::{output, values};
use crate::container::{Places, Record};
use crate::error::Failure;
use crate::kernel::process;
use crate::life::images;

#[derive(Debug, Args)]
#[command(after_help = "\
Removes blobs and layers that no image needs, images without a name that no container is made of,
and downloads that nobody has gone on with for a day. Containers and volumes are never touched, nor
is anything that is pinned, that a container is made of, or that any process has in use: gc can run
beside everything.

An image is used when it is pulled, imported, loaded, tagged or run. Sizes are what the files have
allocated on the disk: what the filesystem gets back. --keep-bytes counts the images, layers and
downloads, not containers and volumes; where it cannot be reached the exit code is 1.

--json prints {plan, dryRun, images, objects, left, bytes, storeBytes, keepBytes, beyondLimit}.
Each of images is {digest, ids, names, lastUsed, why}; each of objects is {kind, digest, bytes,
lastUsed, why, image}, kind being blob, layer, merged or partial. why is one of unneeded, ofImage
(then image is the digest of that image), untagged, unused, overLimit, compressed, brokenOff. left
are objects that came into use before they could go.

Examples:
  mybox gc --dry-run
  mybox gc --unused-for 30d
  mybox gc --keep-bytes 20GB --dry-run
  mybox gc --compressed --dry-run")]
pub(super) struct Arguments {
    /// Change nothing: print what would go, and keep it as a plan for a day
    #[arg(long)]
    dry_run: bool,
    /// Do exactly what a dry run has planned, or nothing if any of it was used since
    #[arg(long, value_name = "ID", conflicts_with_all = ["dry_run", "unused_for", "keep_bytes", "compressed"])]
    plan: Option<String>,
    /// Images too that were not used for so long: 30d, 12h, 2w, 90m
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    unused_for: Option<Duration>,
    /// As many images, the longest unused first, as it takes to keep to this size: 20GB
    #[arg(long, value_name = "SIZE", value_parser = values::disk_bytes)]
    keep_bytes: Option<u64>,
    /// Compressed blobs too whose layers are here and that can be fetched again from where they were
    /// pulled; push and save then do that
    #[arg(long)]
    compressed: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    /// The id to carry it out by; null if it was not kept, or has been carried out.
    plan: Option<&'a str>,
    dry_run: bool,
    images: Vec<ImageView<'a>>,
    objects: Vec<ObjectView>,
    left: Vec<Object>,
    /// Bytes that are or were given back.
    bytes: u64,
    store_bytes: u64,
    keep_bytes: Option<u64>,
    /// Bytes by which the limit is missed.
    beyond_limit: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageView<'a> {
    digest: Digest,
    ids: &'a [Digest],
    names: &'a [String],
    last_used: String,
    why: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectView {
    #[serde(flatten)]
    object: Object,
    bytes: u64,
    last_used: String,
    why: &'static str,
    /// The image whose it was, by the digest of its entry.
    image: Option<Digest>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let uses = || Record::uses(places);
    let options = GcOptions {
        unused_for: arguments.unused_for,
        keep_bytes: arguments.keep_bytes,
        compressed: arguments.compressed,
        ..GcOptions::at(SystemTime::now())
    };
    let (plan, done) = if arguments.dry_run {
        let (plan, survey) = store.gc_plan(&uses, &options)?;
        unreadable(&survey.catalog.damage);
        (plan, None)
    } else {
        // All of a plan that was kept is locked at once, each object by a descriptor of its own.
        process::allow_many_descriptors().context("allow many open files")?;
        let done = match &arguments.plan {
            Some(id) => store.gc_apply(&uses, id)?,
            None => store.gc(&uses, &options)?,
        };
        images::tell_gone(places, &done);
        (done.plan.clone(), Some(done))
    };
    let id = kept(&store, &plan, done.is_none());
    if arguments.json {
        output::json(&document(&plan, id.as_deref(), done.as_ref()))?;
    } else {
        show(&plan, id.as_deref(), done.as_ref(), &options)?;
    }
    match plan.beyond_limit() {
        0 => Ok(0),
        beyond => Err(anyhow!(
            "cannot keep to {}: {} more is in use, pinned, or the store's own",
            output::decimal_size(plan.keep_bytes.unwrap_or(0)),
            output::decimal_size(beyond)
        )
        .into()),
    }
}

/// Says which images cannot be read: while there are any, nothing that they may need goes.
pub(super) fn unreadable(damage: &[mybox_store::Damage]) {
    for one in damage {
        let name = one.names.first().cloned();
        let name = name.unwrap_or_else(|| one.digest.to_string());
        output::note(&format!(
            "{name} cannot be read ({}): nobody knows what it needs, so blobs and layers stay",
            one.error
        ));
    }
}

/// Keeps a plan for later; its id.
fn kept(store: &Store, plan: &GcPlan, dry_run: bool) -> Option<String> {
    if !dry_run || plan.is_empty() {
        return None;
    }
    match store.keep_plan(plan) {
        Ok(()) => Some(plan.id()),
        Err(error) => {
            output::note(&format!("the plan cannot be kept: {:#}", anyhow!(error)));
            None
        }
    }
}

fn document<'a>(
    plan: &'a GcPlan,
    id: Option<&'a str>,
    done: Option<&'a Collected>,
) -> Document<'a> {
    let image = |image: &'a DoomedImage| ImageView {
        digest: image.digest,
        ids: &image.ids,
        names: &image.names,
        last_used: rfc3339(image.used),
        why: word(&image.why),
    };
    let object = |doomed: &DoomedObject| ObjectView {
        object: doomed.object,
        bytes: doomed.bytes,
        last_used: rfc3339(doomed.used),
        why: word(&doomed.why),
        image: match doomed.why {
            WhyGone::OfImage(image) => Some(image),
            _ => None,
        },
    };
    Document {
        plan: id,
        dry_run: done.is_none(),
        images: plan.images.iter().map(image).collect(),
        objects: plan.objects.iter().map(object).collect(),
        left: done.map(|done| done.left.clone()).unwrap_or_default(),
        bytes: done.map_or_else(|| plan.frees(), |done| done.freed_bytes),
        store_bytes: plan.store_bytes,
        keep_bytes: plan.keep_bytes,
        beyond_limit: plan.beyond_limit(),
    }
}

fn word(why: &WhyGone) -> &'static str {
    match why {
        WhyGone::Unneeded => "unneeded",
        WhyGone::OfImage(_) => "ofImage",
        WhyGone::Untagged => "untagged",
        WhyGone::Unused => "unused",
        WhyGone::OverLimit => "overLimit",
        WhyGone::Compressed => "compressed",
        WhyGone::BrokenOff => "brokenOff",
    }
}

fn show(
    plan: &GcPlan,
    id: Option<&str>,
    done: Option<&Collected>,
    options: &GcOptions,
) -> anyhow::Result<()> {
    if plan.is_empty() {
        return output::line("Nothing to collect");
    }
    let header = ["OBJECT", "DIGEST", "SIZE", "LAST USED", "WHY"];
    output::table(&header, &rows(plan, options))?;
    let total = |bytes: u64| format!("{} ({bytes} bytes)", output::decimal_size(bytes));
    output::line("")?;
    if let Some(done) = done {
        for object in &done.left {
            output::note(&format!("{object} is in use or gone by now, and was left"));
        }
        return output::line(&format!("Freed {}", total(done.freed_bytes)));
    }
    output::line(&format!("Would free {}", total(plan.frees())))?;
    match id {
        Some(id) => output::line(&format!(
            "Plan {id}: `mybox gc --plan {id}` does exactly this"
        )),
        None => Ok(()),
    }
}

/// Each image with its objects below it, then what belongs to none.
fn rows(plan: &GcPlan, options: &GcOptions) -> Vec<Vec<String>> {
    let mut of_images: HashMap<Digest, Vec<&DoomedObject>> = HashMap::new();
    let mut others = Vec::new();
    for object in &plan.objects {
        match object.why {
            WhyGone::OfImage(image) => of_images.entry(image).or_default().push(object),
            _ => others.push(object),
        }
    }
    let mut rows = Vec::new();
    for image in &plan.images {
        let name = name_of(image);
        let own = of_images.remove(&image.digest).unwrap_or_default();
        let bytes = own.iter().map(|object| object.bytes).sum();
        let why = match (&image.why, options.unused_for) {
            (WhyGone::Unused, Some(limit)) => format!("not used for {}", length(limit)),
            (why, _) => why.to_string(),
        };
        rows.push(row("image", &name, bytes, image.used, options, &why));
        for object in own {
            let (kind, digest) = kind_of(object.object);
            let why = format!("only {name} needed it");
            rows.push(row(
                &format!("  {kind}"),
                &digest,
                object.bytes,
                object.used,
                options,
                &why,
            ));
        }
    }
    for object in others {
        let (kind, digest) = kind_of(object.object);
        let why = object.why.to_string();
        rows.push(row(kind, &digest, object.bytes, object.used, options, &why));
    }
    rows
}

fn row(
    kind: &str,
    digest: &str,
    bytes: u64,
    used: SystemTime,
    options: &GcOptions,
    why: &str,
) -> Vec<String> {
    let age = options.now.duration_since(used).unwrap_or_default();
    // The time of a blob says only when it came.
    let age = if kind.ends_with("blob") {
        String::new()
    } else {
        output::ago(age.as_secs())
    };
    vec![
        kind.to_owned(),
        digest.to_owned(),
        output::decimal_size(bytes),
        age,
        why.to_owned(),
    ]
}

fn kind_of(object: Object) -> (&'static str, String) {
    match object {
        Object::Blob(digest) => ("blob", digest.short()),
        Object::Layer(layer) => ("layer", layer.digest().short()),
        Object::Merged(chain) => ("merged", chain.short()),
        Object::Partial(digest) => ("partial", digest.short()),
    }
}

fn name_of(image: &DoomedImage) -> String {
    names_of(image).swap_remove(0)
}

/// Its names as people write them, its id if it has none.
pub(super) fn names_of(image: &DoomedImage) -> Vec<String> {
    let familiar = |name: &String| {
        let reference: Option<Reference> = name.parse().ok();
        reference.map_or_else(|| name.clone(), |reference| reference.familiar())
    };
    let mut names: Vec<String> = image.names.iter().map(familiar).collect();
    if names.is_empty() {
        names.push(image.ids.first().unwrap_or(&image.digest).short());
    }
    names
}

/// `30 days`, in the largest unit that leaves nothing over.
fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("day", 86_400), ("hour", 3600), ("minute", 60)];
    let fits = |(_, length): &(&str, u64)| seconds > 0 && seconds.is_multiple_of(*length);
    let (unit, length) = units.into_iter().find(fits).unwrap_or(("second", 1));
    let count = seconds / length;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_said_as_they_were_asked_for() {
        let cases = [
            (30 * 86_400, "30 days"),
            (86_400, "1 day"),
            (36 * 3600, "36 hours"),
            (90 * 60, "90 minutes"),
            (61, "61 seconds"),
            (0, "0 seconds"),
        ];
        for (seconds, text) in cases {
            assert_eq!(length(Duration::from_secs(seconds)), text);
        }
    }
}
