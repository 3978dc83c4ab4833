//! `mybox prune`.

mod filter;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use mybox_store::{DoomedImage, Object, Store};
use serde::Serialize;

use filter::{Filter, Filters};

use super::{confirm, gc, output};
use crate::container::{ContainerId, Places};
use crate::error::Failure;
use crate::kernel::process;
use crate::life::prune::{self, Done, Only, Plan, Wanted};

#[derive(Debug, Args)]
#[command(after_help = "\
Removes containers that have ended or were never started, images without a name that no container
is made of then, and blobs and layers that no image needs. With --all every image goes that no
container is made of, pinned ones excepted; with --volumes every volume too that nobody gave a name
and no container has. A volume with a name is never removed, nor a container that runs or is
paused; what another command has at this moment is left. Anonymous volumes of the containers stay
without --volumes.

Filters: label=KEY[=VALUE], label!=KEY[=VALUE], and until=TIME for containers that were made and
images that were last used before: 24h, 2026-11-25T12:00:00Z or seconds since the epoch. What goes
fits all of them; with one, blobs and layers that belong to no image stay. until does not go with
--volumes. What will go is listed before it is asked for. The exit code is 1 if something could not
be removed.

--json prints {containers, images, objects, volumes, left, failures, freedBytes}: of containers
{id, name, bytes}, of images {digest, ids, names}, of objects {kind, digest}, of volumes {name,
bytes}, left being what somebody uses by now, and of failures {what, error}.

Examples:
  mybox prune
  mybox prune --all --volumes --force
  mybox prune --filter until=24h --filter 'label!=keep'")]
pub(super) struct Arguments {
    /// Every image that no container is made of, too
    #[arg(short, long)]
    all: bool,
    /// Volumes too that nobody gave a name and no container has
    #[arg(long)]
    volumes: bool,
    /// Nothing but containers, or nothing but images and what belongs to none
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "volumes")]
    only: Option<Kind>,
    /// Only what fits: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Containers,
    Images,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    containers: Vec<ContainerView>,
    images: Vec<ImageView>,
    objects: Vec<Object>,
    volumes: Vec<VolumeView>,
    left: Vec<String>,
    failures: Vec<FailureView>,
    freed_bytes: u64,
}

#[derive(Debug, Serialize)]
struct ContainerView {
    id: ContainerId,
    name: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct ImageView {
    digest: mybox_store::Digest,
    ids: Vec<mybox_store::Digest>,
    names: Vec<String>,
}

#[derive(Debug, Serialize)]
struct VolumeView {
    name: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct FailureView {
    what: String,
    error: String,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let choice = Filters(&arguments.filter);
    if arguments.volumes && choice.until().is_some() {
        let error = anyhow!(
            "--filter until= does not go with --volumes: nobody knows when one was used last"
        );
        return Err(Failure::with_code(2, error));
    }
    confirm::can_be_asked(&question(arguments), arguments.force)?;
    let store = Store::open(&places.root)?;
    process::allow_many_descriptors().context("allow many open files")?;
    let wanted = Wanted {
        all: arguments.all,
        volumes: arguments.volumes,
        only: arguments.only.map(|kind| match kind {
            Kind::Containers => Only::Containers,
            Kind::Images => Only::Images,
        }),
        choice: &choice,
    };
    let plan = prune::plan(places, &store, &wanted)?;
    gc::unreadable(&plan.damage);
    if !arguments.force && !plan.is_empty() {
        output::ask(&listing(&plan))?;
        if !confirm::asked(&question(arguments), false)? {
            return Ok(0);
        }
    }
    let done = prune::carry_out(places, &store, &plan);
    if arguments.json {
        output::json(&document(&done))?;
    } else {
        show(&done)?;
    }
    Ok(report(done))
}

fn question(arguments: &Arguments) -> String {
    let images = if arguments.all {
        "images that no container is made of"
    } else {
        "images without a name"
    };
    let volumes = if arguments.volumes {
        ", and volumes without a name that no container has"
    } else {
        ""
    };
    match arguments.only {
        Some(Kind::Containers) => "This removes containers that have ended.".to_owned(),
        Some(Kind::Images) => format!("This removes {images}."),
        None => format!("This removes containers that have ended, {images}{volumes}."),
    }
}

/// What would go, as it is shown before the question.
fn listing(plan: &Plan) -> String {
    let images: Vec<String> = plan.store.images.iter().flat_map(gc::names_of).collect();
    let containers = plan.containers.iter().map(|one| one.name.clone()).collect();
    let volumes = plan.volumes.iter().map(|one| one.name.clone()).collect();
    let mut text = String::new();
    for (title, names) in [
        ("Containers", containers),
        ("Images", images),
        ("Volumes", volumes),
    ] {
        if !names.is_empty() {
            text += &format!("{title}: {}\n", output::visible(&names.join(", ")));
        }
    }
    let objects = plan.store.objects.len();
    if objects > 0 {
        text += &format!("Blobs and layers: {objects}\n");
    }
    text += &format!("Together {}\n", output::decimal_size(plan.bytes()));
    text
}

fn show(done: &Done) -> anyhow::Result<()> {
    let images = done.store.iter().flat_map(|store| &store.plan.images);
    let containers = done.containers.iter().map(|one| one.name.clone());
    let volumes = done.volumes.iter().map(|one| one.name.clone());
    list("Containers", containers.collect())?;
    list("Images", images.flat_map(gc::names_of).collect())?;
    list("Volumes", volumes.collect())?;
    output::line(&format!("Freed: {}", output::decimal_size(done.bytes())))
}

fn list(title: &str, names: Vec<String>) -> anyhow::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    output::line(&format!("Deleted {title}:"))?;
    let mut names = names.iter();
    names.try_for_each(|name| output::line(&output::visible(name)))?;
    output::line("")
}

/// Says what was left and what failed; the exit code.
fn report(done: Done) -> u8 {
    for what in &done.left {
        output::note(&format!("{what} is in use by now, and was left"));
    }
    let code = u8::from(!done.failures.is_empty());
    for (what, error) in done.failures {
        Failure::from(error.context(format!("{what} was not removed"))).show();
    }
    code
}

fn document(done: &Done) -> Document {
    let store = done.store.as_ref();
    let image = |image: &DoomedImage| ImageView {
        digest: image.digest,
        ids: image.ids.clone(),
        names: image.names.clone(),
    };
    let images = store.iter().flat_map(|it| &it.plan.images);
    let objects = store.iter().flat_map(|it| {
        let went = it.plan.objects.iter().map(|doomed| doomed.object);
        went.filter(|object| !it.left.contains(object))
    });
    let containers = done.containers.iter().map(|one| ContainerView {
        id: one.id.clone(),
        name: one.name.clone(),
        bytes: one.bytes,
    });
    let volumes = done.volumes.iter().map(|one| VolumeView {
        name: one.name.clone(),
        bytes: one.bytes,
    });
    let failures = done.failures.iter().map(|(what, error)| FailureView {
        what: what.clone(),
        error: format!("{error:#}"),
    });
    Document {
        containers: containers.collect(),
        images: images.map(image).collect(),
        objects: objects.collect(),
        volumes: volumes.collect(),
        left: done.left.clone(),
        failures: failures.collect(),
        freed_bytes: done.bytes(),
    }
}
