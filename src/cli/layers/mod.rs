//! `mybox layers`: what lies on the disk, and whose it is.

mod changes;
mod convert;
mod form;
mod tree;

use std::collections::BTreeSet;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use mybox_store::{Image, LayerForm, SharedLayer, Store, rfc3339};
use serde::Serialize;

use super::{images, output};
use crate::container::{Places, Record};
use crate::error::Failure;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Without IMAGE: every layer, the largest first. FORM is how it lies there: indexed, as its tar with
an index over it, or unpacked, as files. ON DISK is what it has allocated, COMPRESSED the size of
the blob it comes in. --tree draws the images as branches over the layers they share, indexed ones
as diamonds. With IMAGE: what each of its layers adds (A), changes (C) and deletes (D), with the
bytes that are allocated to it.

--json prints a list of {diffId, form, bytes, sharesBlob, blob, compressedBytes, images, containers,
lastUsed}: form, bytes and lastUsed are null for a layer that is not there, sharesBlob says that
most of it is one file with its blob, images are {id, names}. With IMAGE a list of {diffId,
changes}, each change {path, change, type, bytesBefore, bytesAfter}, change being added, changed or
deleted; `layers diff` prints such a list of changes."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// What the layers of this image do: a name, an id, a digest, or the beginning of one
    image: Option<String>,
    /// Draw the images as branches over the layers
    #[arg(long, conflicts_with_all = ["image", "json", "quiet"])]
    tree: bool,
    /// With IMAGE: the sums alone
    #[arg(long, requires = "image", conflicts_with = "json")]
    summary: bool,
    /// Diff ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show how the trees of two images differ
    Diff(changes::Arguments),
    /// Give layers that are there another form
    Convert(convert::Arguments),
    /// Show or choose the form that layers get
    Form(form::Arguments),
}

/// A layer, as `--json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    diff_id: String,
    form: Option<LayerForm>,
    bytes: Option<u64>,
    shares_blob: bool,
    blob: Option<String>,
    compressed_bytes: Option<u64>,
    images: Vec<ImageName>,
    containers: Vec<String>,
    last_used: Option<String>,
}

#[derive(Debug, Serialize)]
struct ImageName {
    id: String,
    names: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    match &arguments.verb {
        Some(Verb::Diff(arguments)) => return changes::between(&store, arguments),
        Some(Verb::Convert(arguments)) => return convert::run(places, &store, arguments),
        Some(Verb::Form(arguments)) => return form::run(places, &store, arguments),
        None => {}
    }
    if let Some(image) = &arguments.image {
        return changes::of_layers(&store, image, arguments.summary, arguments.json);
    }
    let survey = store.survey(&|| Record::uses(places))?;
    let code = images::report_damage(&survey.catalog);
    if arguments.tree {
        for line in tree::draw(&survey, output::width()) {
            output::line(&line)?;
        }
        return Ok(code);
    }
    let mut layers = survey.layers();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.measured.map(|one| one.whole())));
    if arguments.json {
        output::json(&layers.iter().map(row).collect::<Vec<_>>())?;
    } else if arguments.quiet {
        for layer in &layers {
            output::line(&output::id(&layer.diff_id.to_string(), arguments.no_trunc))?;
        }
    } else {
        let header = [
            "LAYER",
            "FORM",
            "ON DISK",
            "COMPRESSED",
            "LAST USED",
            "CONTAINERS",
            "IMAGES",
        ];
        let rows: Vec<Vec<String>> = layers
            .iter()
            .map(|layer| cells(layer, arguments.no_trunc))
            .collect();
        output::table(&header, &rows)?;
    }
    Ok(code)
}

fn row(layer: &SharedLayer<'_>) -> Row {
    let image = |image: &&Image| ImageName {
        id: image.id.to_string(),
        names: image.references.iter().map(ToString::to_string).collect(),
    };
    Row {
        diff_id: layer.diff_id.to_string(),
        form: layer.measured.and_then(|measured| measured.form),
        bytes: layer.measured.map(|measured| measured.whole()),
        shares_blob: layer
            .measured
            .is_some_and(|measured| measured.in_common > 0),
        blob: layer.blob.map(|(digest, _)| digest.to_string()),
        compressed_bytes: layer.blob.map(|(_, size)| size),
        images: layer.images.iter().map(image).collect(),
        containers: layer
            .containers
            .iter()
            .map(|&name| name.to_owned())
            .collect(),
        last_used: layer.measured.map(|measured| rfc3339(measured.used)),
    }
}

fn cells(layer: &SharedLayer<'_>, whole: bool) -> Vec<String> {
    let none = || "-".to_owned();
    let size = |bytes: Option<u64>| bytes.map_or_else(none, output::decimal_size);
    let age = layer.measured.map(|measured| {
        let age = SystemTime::now().duration_since(measured.used);
        output::ago(age.unwrap_or_default().as_secs())
    });
    let form = layer.measured.and_then(|measured| measured.form);
    let names: BTreeSet<String> = layer.images.iter().map(|image| name(image)).collect();
    let names: Vec<String> = names.into_iter().collect();
    vec![
        output::id(&layer.diff_id.to_string(), whole),
        form.map_or_else(none, |form| form.to_string()),
        size(layer.measured.map(|measured| measured.whole())),
        size(layer.blob.map(|(_, size)| size)),
        age.unwrap_or_else(|| "not laid down".to_owned()),
        layer.containers.len().to_string(),
        few(&names),
    ]
}

/// What to call an image in a few words.
fn name(image: &Image) -> String {
    let reference = image.references.first();
    reference.map_or_else(|| image.id.short(), |reference| reference.familiar())
}

/// The first few of many names.
fn few(names: &[String]) -> String {
    const FEW: usize = 3;
    match names {
        [] => "none: gc removes it".to_owned(),
        [first @ .., _] if first.len() >= FEW => {
            format!(
                "{}, and {} more",
                names[..FEW].join(", "),
                names.len() - FEW
            )
        }
        names => names.join(", "),
    }
}
