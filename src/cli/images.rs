//! `mybox images`.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::Args;
use mybox_store::{Catalog, Image, Platform, Reference, Shares, Store, Survey};
use serde::Serialize;
use serde_json::{Value, json};

use super::format::{self, Format, Heading};
use super::output;
use crate::container::{Places, Record};
use crate::error::Failure;
use crate::life;

mod filter;

use filter::Filter;

#[derive(Debug, Args)]
#[command(after_help = "\
SIZE is what the image's layers take on the disk; layers that images share count for each of them
here, and once in `mybox df` and `mybox layers`.

Filters (all of several must fit; of one kind, any):
  reference=PATTERN    names, with * ? [] as in a shell: reference='*/app:1.*'
  dangling=true|false  images without a name, or only those with one
  label=KEY[=VALUE]    what the image's config says
  before=IMAGE         created before that one
  since=IMAGE          created after that one

--json prints a list of {repository, tag, id, digest, indexes, platform, size, ownSize, created,
lastUsed, pinned, containers}: size in bytes on the disk, ownSize the part of it that no other image
has, digest that of the manifest, indexes those of the indexes it came from, containers the names of
those made of it. --format has Docker's fields: {{.Repository}} {{.Tag}} {{.Digest}} {{.ID}}
{{.CreatedAt}} {{.CreatedSince}} {{.Size}}, and {{.Platform}} {{.Containers}}.")]
pub(super) struct Arguments {
    /// For every platform of a name, not only this machine's
    #[arg(short, long)]
    all: bool,
    /// Ids alone
    #[arg(short, long)]
    quiet: bool,
    /// With the digest that the registry knows each by
    #[arg(long)]
    digests: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Only those that fit: reference=, dangling=, label=, before=, since=
    #[arg(short, long = "filter", value_name = "FILTER")]
    filters: Vec<Filter>,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Each as a template says: '{{.Repository}}:{{.Tag}}', 'table {{.ID}}\t{{.Size}}', json
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "json"])]
    format: Option<Format>,
    /// Only this name, with all its tags if none is given; the same as reference=
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

/// What `--format` can ask for.
const HEADINGS: [Heading; 9] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("Platform", "PLATFORM"),
    ("Containers", "CONTAINERS"),
];

/// One name of one image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    repository: Option<String>,
    tag: Option<String>,
    id: String,
    digest: String,
    indexes: Vec<String>,
    platform: String,
    size: u64,
    own_size: u64,
    created: Option<String>,
    last_used: Option<String>,
    pinned: bool,
    containers: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let survey = store.survey(&|| Record::uses(places))?;
    let code = report_damage(&survey.catalog);
    let name = arguments.name.iter().cloned().map(Filter::Reference);
    let filters: Vec<Filter> = arguments.filters.iter().cloned().chain(name).collect();
    let wanted = filter::resolve(&store, &filters).context("--filter")?;
    let shares = survey.shares();
    let mut named: Vec<(&Image, Option<&Reference>)> = survey
        .catalog
        .images
        .iter()
        .filter(|image| wanted.image(image))
        .flat_map(names)
        .filter(|(_, reference)| wanted.name(*reference))
        .collect();
    if !arguments.all {
        retain_this_machines(&mut named);
    }
    if arguments.quiet {
        for id in ids(&named, arguments.no_trunc) {
            output::line(&id)?;
        }
        return Ok(code);
    }
    let share = |image: &Image| shares.get(&image.manifest).copied().unwrap_or_default();
    let rows: Vec<Row> = named
        .iter()
        .map(|(image, reference)| row(&survey, image, *reference, share(image)))
        .collect();
    if arguments.json {
        output::json(&rows)?;
    } else {
        show(&rows, arguments)?;
    }
    Ok(code)
}

/// Says which images cannot be read; the exit code of whoever lists the others.
pub(super) fn report_damage(catalog: &Catalog) -> u8 {
    for damage in &catalog.damage {
        let name = damage.names.first().cloned();
        let name = name.unwrap_or_else(|| damage.digest.to_string());
        output::note(&format!(
            "{name} cannot be read: {}; `mybox verify` says more",
            damage.error
        ));
    }
    u8::from(!catalog.damage.is_empty())
}

/// An image under each of its names, or once without any.
fn names(image: &Image) -> Vec<(&Image, Option<&Reference>)> {
    if image.references.is_empty() {
        return vec![(image, None)];
    }
    let references = image.references.iter();
    references
        .map(|reference| (image, Some(reference)))
        .collect()
}

/// Of a name that stands for several platforms leaves the one that `run` would take.
fn retain_this_machines(named: &mut Vec<(&Image, Option<&Reference>)>) {
    let mut offers: BTreeMap<Reference, Vec<&Image>> = BTreeMap::new();
    for (image, reference) in &*named {
        if let Some(reference) = reference {
            offers.entry((*reference).clone()).or_default().push(image);
        }
    }
    let host = Platform::host();
    named.retain(|(image, reference)| {
        let Some(offered) = reference.and_then(|reference| offers.get(reference)) else {
            return true;
        };
        match host.choose(offered.iter().map(|one| &one.platform)) {
            Some(chosen) => offered[chosen].manifest == image.manifest,
            // None for this machine: all of them.
            None => true,
        }
    });
}

fn ids(named: &[(&Image, Option<&Reference>)], whole: bool) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for (image, _) in named {
        let id = if whole {
            image.id.to_string()
        } else {
            image.id.short()
        };
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

fn row(survey: &Survey, image: &Image, reference: Option<&Reference>, shares: Shares) -> Row {
    let manifest = mybox_store::Object::Blob(image.manifest);
    let used = survey.objects.get(&manifest);
    Row {
        repository: reference.map(Reference::familiar_repository),
        tag: reference.and_then(|reference| reference.tag().map(ToOwned::to_owned)),
        id: image.id.to_string(),
        digest: image.manifest.to_string(),
        indexes: image.indexes.iter().map(ToString::to_string).collect(),
        platform: image.platform.to_string(),
        size: shares.total(),
        own_size: shares.own,
        created: image.created.clone(),
        last_used: used.map(|measured| mybox_store::rfc3339(measured.used)),
        pinned: image.pinned,
        containers: survey.users(image.manifest).map(str::to_owned).collect(),
    }
}

fn show(rows: &[Row], arguments: &Arguments) -> anyhow::Result<()> {
    let mut columns = vec!["Repository", "Tag"];
    if arguments.digests {
        columns.push("Digest");
    }
    columns.extend(["ID", "CreatedSince", "Size"]);
    if arguments.all {
        columns.push("Platform");
    }
    let rows = rows.iter().map(|row| fields(row, arguments.no_trunc));
    let format = arguments.format.as_ref();
    format::print(format, &HEADINGS, &columns, rows.collect())
}

/// A row as templates know it, with Docker's names.
fn fields(row: &Row, whole: bool) -> Value {
    const NONE: &str = "<none>";
    let created = row.created.as_deref().and_then(output::epoch_seconds);
    let age = created.map(|then| output::ago(life::now().saturating_sub(then)));
    json!({
        "Repository": row.repository.as_deref().unwrap_or(NONE),
        "Tag": row.tag.as_deref().unwrap_or(NONE),
        // What a registry knows it by is the index, where there is one.
        "Digest": row.indexes.first().unwrap_or(&row.digest),
        "ID": output::id(&row.id, whole),
        "CreatedAt": row.created.as_deref().unwrap_or("N/A"),
        "CreatedSince": age.unwrap_or_else(|| "N/A".to_owned()),
        "Size": output::decimal_size(row.size),
        "Platform": row.platform,
        "Containers": row.containers.len().to_string(),
    })
}
