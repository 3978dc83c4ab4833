//! `mybox inspect`.

mod docker;

use std::collections::BTreeSet;

use anyhow::Context;
use clap::{Args, ValueEnum};
use mybox_store::{Error, Image, Object, Reference, Store, Survey, rfc3339};
use serde_json::{Value, json};

use docker::Known;

use super::format;
use super::output;
use super::template::Template;
use crate::container::find::Container;
use crate::container::health::{Health, Probe, Status};
use crate::container::{Files, Places, Record, find, volume};
use crate::error::{Failure, NoSuchName};
use crate::life::create;
use crate::life::sizes::{Size, sizes};
use crate::plan::RunRequest;

#[derive(Debug, Args)]
#[command(after_help = "\
What it prints has mybox's own fields, which begin with a small letter, and those of Docker under
their names there: `mybox inspect -f '{{.State.Status}} {{.NetworkSettings.IPAddress}}' web`.

--format takes Go's template language, with Docker's functions: json, join, split, upper, lower,
title, pad, truncate. A field that is not there is an error that names those that are; what a
map of names has not, as .Config.Labels, is `<no value>`.")]
pub(super) struct Arguments {
    /// Each as a template says: '{{.State.Pid}}', '{{json .Config}}', json
    #[arg(short, long, value_name = "TEMPLATE", value_parser = format::of_object)]
    format: Option<Template>,
    /// How much containers have written: SizeRw, and that with their image: SizeRootFs, in bytes
    #[arg(short, long)]
    size: bool,
    /// Only what is one of these
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// Images or containers, by name, id, digest, or the beginning of one
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Container,
    Image,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    format::inspect(arguments.format.as_ref(), &arguments.names, |name| {
        document(places, &store, name, arguments)
    })
}

/// A container if one has this name, else an image, as Docker looks.
fn document(
    places: &Places,
    store: &Store,
    name: &str,
    arguments: &Arguments,
) -> anyhow::Result<Value> {
    let row = match arguments.kind {
        Some(Kind::Image) => None,
        Some(Kind::Container) => Some(find::one(places, name)?),
        None => match find::one_or_none(places, name) {
            // The whole name of an image is not ambiguous.
            Err(_) if names_an_image(store, name) => None,
            found => found?,
        },
    };
    if let Some(row) = row {
        let mut document = container_document(places, store, &row)?;
        if arguments.size {
            for Size { written, whole } in sizes(places, [&row])? {
                document["SizeRw"] = written.into();
                document["SizeRootFs"] = whole.into();
            }
        }
        return Ok(document);
    }
    let image = store.find(name);
    let image = image.map_err(|error| not_found(error, arguments.kind))?;
    let survey = store.survey(&|| Record::uses(places))?;
    image_document(&survey, &image)
}

/// Where either was looked for, the store's error tells half of it.
fn not_found(error: Error, kind: Option<Kind>) -> anyhow::Error {
    match error {
        Error::NoSuchImage { name } if kind.is_none() => NoSuchName(name).into(),
        error => error.into(),
    }
}

fn names_an_image(store: &Store, name: &str) -> bool {
    let Ok(image) = store.find(name) else {
        return false;
    };
    let mut names = image.references.iter().map(Reference::familiar);
    names.any(|known| known == name || known.strip_suffix(":latest") == Some(name))
}

fn container_document(places: &Places, store: &Store, row: &Container) -> anyhow::Result<Value> {
    let dir = places.container(&row.record.id);
    let request = create::read_request(&dir)?;
    let config = dir.join("config.json");
    let spec = std::fs::read(&config).with_context(|| format!("read {}", config.display()))?;
    let mut document = serde_json::to_value(row)?;
    document["spec"] = serde_json::from_slice(&spec)?;
    document["mounts"] = mounts(places, &row.record, &request);
    let health = Health::read(&Files::of(dir))?;
    if let (Some(health), Some(status)) = (health, row.health) {
        document["health"] = health_document(&health, status);
    }
    let image = store.find(&row.record.manifest.to_string()).ok();
    let dockers = docker::container(
        places,
        &Known {
            row,
            request: &request,
            spec: &document["spec"],
            mounts: &document["mounts"],
            health: document.get("health").unwrap_or(&Value::Null),
            image: image.as_ref(),
        },
    );
    Ok(format::with(document, dockers))
}

/// What it has mounted beside its image: volumes, then what its request says of the host's.
fn mounts(places: &Places, record: &Record, request: &RunRequest) -> Value {
    let volumes = record.volumes.iter().map(|mounted| {
        json!({
            "type": "volume",
            "name": mounted.name,
            "source": volume::data(places, &mounted.name),
            "destination": mounted.destination,
            "rw": !mounted.read_only,
        })
    });
    let binds = request.volumes.iter().map(|bind| {
        json!({
            "type": "bind",
            "source": bind.source,
            "destination": bind.destination,
            "rw": !bind.read_only,
        })
    });
    let tmpfs = request.tmpfs.iter().map(|tmpfs| {
        json!({
            "type": "tmpfs",
            "destination": tmpfs.destination,
            "rw": !tmpfs.options.iter().any(|word| word == "ro"),
        })
    });
    let images = record.images.iter().map(|mounted| {
        json!({
            "type": "image",
            "source": mounted.image,
            "digest": mounted.manifest.to_string(),
            "destination": mounted.destination,
            "rw": false,
        })
    });
    volumes.chain(binds).chain(tmpfs).chain(images).collect()
}

/// `status` is the one that counts now.
fn health_document(health: &Health, status: Status) -> Value {
    let probe = |probe: &Probe| {
        json!({
            "start": output::time(probe.start),
            "end": output::time(probe.end),
            "exitCode": probe.exit_code,
            "output": probe.output,
        })
    };
    json!({
        "status": status,
        "failingStreak": health.failing_streak,
        "check": health.check,
        "log": health.log.iter().map(probe).collect::<Vec<_>>(),
    })
}

fn image_document(survey: &Survey, image: &Image) -> anyhow::Result<Value> {
    let references: Vec<String> = image.references.iter().map(ToString::to_string).collect();
    let layers: Vec<String> = image.layers.iter().map(ToString::to_string).collect();
    let used = survey.objects.get(&Object::Blob(image.manifest));
    let shares = survey.shares().get(&image.manifest).copied();
    let shares = shares.unwrap_or_default();
    let config: Value = serde_json::from_slice(image.config_bytes())?;
    let document = json!({
        "id": image.id.to_string(),
        "digest": image.manifest.to_string(),
        "references": references,
        "repoDigests": repo_digests(image),
        "platform": image.platform.to_string(),
        "created": image.created,
        "lastUsed": used.map(|measured| rfc3339(measured.used)),
        "pinned": image.pinned,
        "containers": survey.users(image.manifest).collect::<Vec<_>>(),
        "size": shares.total(),
        "ownSize": shares.own,
        "layers": layers,
        "layerDetails": layer_details(survey, image),
        "config": config,
        "manifest": serde_json::from_slice::<Value>(image.manifest_bytes())?,
    });
    let digests = &document["repoDigests"];
    let tags = image.references.iter();
    let tags = tags.filter(|reference| reference.digest().is_none());
    let tags: Vec<String> = tags.map(Reference::familiar).collect();
    let dockers = docker::image(image, &config, &tags, digests, shares.total());
    Ok(format::with(document, dockers))
}

/// Each repository with each digest it can be asked for by: those of indexes, and the manifest's.
fn repo_digests(image: &Image) -> BTreeSet<String> {
    let repositories = image.references.iter().map(Reference::familiar_repository);
    let repositories: BTreeSet<String> = repositories.collect();
    let digests = image.indexes.iter().chain([&image.manifest]);
    digests
        .flat_map(|digest| {
            repositories
                .iter()
                .map(move |name| format!("{name}@{digest}"))
        })
        .collect()
}

/// Layer by layer, base first. What is not laid down has neither form nor size.
fn layer_details(survey: &Survey, image: &Image) -> Vec<Value> {
    let layers = image.layers.iter().zip(&image.blobs);
    layers
        .map(|(layer, blob)| {
            let measured = survey.objects.get(&Object::Layer(*layer));
            json!({
                "diffId": layer.to_string(),
                "form": measured.and_then(|measured| measured.form),
                "size": measured.map(|measured| measured.whole()),
                "lastUsed": measured.map(|measured| rfc3339(measured.used)),
                "blob": blob.digest.to_string(),
                "compressedSize": blob.size,
                "mediaType": blob.media_type,
            })
        })
        .collect()
}
