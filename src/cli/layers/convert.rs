//! `mybox layers convert`: layers that are there, in another form.

use std::collections::HashSet;

use anyhow::bail;
use clap::Args;
use mybox_store::{Converted, DiffId, LayerForm, SharedLayer, Store, Survey};
use serde::Serialize;

use crate::cli::output;
use crate::container::{Places, Record};
use crate::error::Failure;
use crate::life::layer_form::{self, FormChoice};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox layers convert                       all layers, to the form that new ones get
  mybox layers convert --to unpacked debian  those of an image
  mybox layers convert --to indexed 3f9d     one layer, by the beginning of its diff id

What is indexed is made from the layer's blob, what is unpacked from the layer's own tar; what
takes the layer's place was checked and is on the disk before it does, in one step. Containers
that run keep the old one until they end. Layers that have the form already are left as they are;
one with something in it that no index can hold stays unpacked.

--json prints a list of {diffId, form, converted, bytesBefore, bytesAfter}.
Exit codes: 0 all have the form; 1 some have not.")]
pub(super) struct Arguments {
    /// The form [default: that which new layers get, as `mybox layers form` says]
    #[arg(long, value_name = "indexed|unpacked")]
    to: Option<LayerForm>,
    /// As the verbs have it that lay layers down
    #[arg(long, env = "MYBOX_LAYER_FORM", hide = true)]
    layer_form: Option<FormChoice>,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Images and layers: names, ids, diff ids, or the beginnings of ids [default: every layer]
    #[arg(value_name = "IMAGE|DIFF-ID")]
    names: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    diff_id: String,
    form: LayerForm,
    converted: bool,
    bytes_before: u64,
    bytes_after: u64,
}

pub(super) fn run(places: &Places, store: &Store, arguments: &Arguments) -> Result<u8, Failure> {
    let to = match arguments.to {
        Some(form) => form,
        None => layer_form::choose(places, store, arguments.layer_form)?.0,
    };
    let survey = store.survey(&|| Record::uses(places))?;
    let layers = survey.layers();
    let chosen = chosen(store, &survey, &layers, &arguments.names)?;
    let mut rows = Vec::new();
    let mut code = 0;
    for layer in layers
        .iter()
        .filter(|layer| chosen.contains(&layer.diff_id))
    {
        let blobs: Vec<_> = layer.blob.iter().map(|(digest, _)| *digest).collect();
        match store.convert_layer(layer.diff_id, to, &blobs, &mut |_| {}) {
            // Not there, or removed meanwhile.
            Ok(None) => {}
            Ok(Some(converted)) => {
                code = code.max(u8::from(converted.form != to));
                if !arguments.quiet && !arguments.json {
                    tell(layer, &converted, to)?;
                }
                rows.push(row(layer, &converted));
            }
            Err(error) => {
                let what = format!("layer {} stays as it is", layer.diff_id);
                Failure::from(anyhow::Error::from(error).context(what)).show();
                code = 1;
            }
        }
    }
    if arguments.json {
        output::json(&rows)?;
    }
    Ok(code)
}

/// The layers that names mean, an image's all; every one that is there without names.
fn chosen(
    store: &Store,
    survey: &Survey,
    layers: &[SharedLayer<'_>],
    names: &[String],
) -> anyhow::Result<HashSet<DiffId>> {
    let there = layers.iter().filter(|layer| layer.measured.is_some());
    let there: Vec<DiffId> = there.map(|layer| layer.diff_id).collect();
    if names.is_empty() {
        return Ok(there.into_iter().collect());
    }
    let mut chosen = HashSet::new();
    for name in names {
        match store.find(name) {
            Ok(image) => chosen.extend(image.layers),
            Err(missing) => {
                let digits = name.strip_prefix("sha256:").unwrap_or(name);
                let fits = |layer: &&DiffId| layer.hex().starts_with(digits);
                let found: Vec<&DiffId> = there.iter().filter(fits).collect();
                match found[..] {
                    _ if !is_digits(digits) => return Err(missing.into()),
                    [layer] => drop(chosen.insert(*layer)),
                    [] if survey_has(survey, digits) => {
                        bail!("layer {name} is not laid down: there is nothing to convert")
                    }
                    [] => return Err(missing.into()),
                    _ => bail!("{name} is the beginning of {} layers", found.len()),
                }
            }
        }
    }
    Ok(chosen)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn survey_has(survey: &Survey, digits: &str) -> bool {
    let mut layers = survey.all_images().flat_map(|image| &image.layers);
    layers.any(|layer| layer.hex().starts_with(digits))
}

fn tell(layer: &SharedLayer<'_>, converted: &Converted, to: LayerForm) -> anyhow::Result<()> {
    let id = output::id(&layer.diff_id.to_string(), false);
    let sizes = format!(
        "{} before, {} now",
        output::decimal_size(converted.before),
        output::decimal_size(converted.after)
    );
    output::line(&match converted {
        Converted { had_it: true, .. } => format!("{id} is {to} already"),
        Converted { form, .. } if *form == to => format!("{id} {to}: {sizes}"),
        Converted { form, .. } => {
            format!("{id} stays {form}: there is something in it that no index can hold")
        }
    })
}

fn row(layer: &SharedLayer<'_>, converted: &Converted) -> Row {
    Row {
        diff_id: layer.diff_id.to_string(),
        form: converted.form,
        converted: !converted.had_it,
        bytes_before: converted.before,
        bytes_after: converted.after,
    }
}
