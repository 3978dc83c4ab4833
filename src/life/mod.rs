//! The life of a container, in order.
//!
//! ```text
//! pull        the image, if it is not there
//! recover     what supervisors that died left behind
//! prepare     claim, name, lease: what only one container can have
//! plan        (crate::plan) everything decided, nothing done
//! record      what will be made, written before it is made
//! mounts      layers that are not unpacked: mounted, or the mount shared with who has it
//! stack       the container's own directories
//! cgroup      limits
//! launch      clone, network, the word to go on
//! supervise   signals, terminal, the end
//! teardown    everything above undone, from the record
//! ```
//! A failure at any stage, a signal, or the death of this process leads to the same teardown:
//! here, or in the next mybox command.

mod apart;
pub mod attach;
pub mod changes;
pub mod commit;
pub mod copy;
pub mod create;
pub mod detach;
pub mod exec;
pub mod foreground;
pub mod info;
pub mod layer_form;
pub mod logs;
pub mod monitor;
pub mod observe;
pub mod prepare;
pub mod prune;
pub mod pull;
pub mod push;
pub mod recover;
pub mod target;
pub mod stop;
pub mod teardown;
pub mod tree;
pub mod update;
pub mod verify;
pub mod volumes_from;
pub mod wait;

mod filter;
mod forms;
mod health;
pub mod images;
mod joined;
mod launch;
mod mounts;
mod network;
mod oom;
mod rights;
pub mod sizes;
mod stack;
mod stdio;
mod supervise;
mod volumes;

use anyhow::Context;
use mybox_store::{Image, Stack, Store};

use crate::container::events::{self, Event};
use crate::container::health::Health;
use crate::container::{Claim, ContainerId, Ending, Places, Record, names};
use crate::kernel::process::{self, SingleThreaded};
use crate::net::ports::Held;
use crate::plan::ports::Ports;
use crate::plan::{self, RunPlan, RunRequest};
use health::Checker;
use launch::Running;
use mounts::Mounts;
use oom::Oom;
use prepare::{Prepared, Who};
use stdio::Stdio;
use supervise::Life;
use teardown::Seen;

pub use network::{NetworkRow, list_networks, remove_network, restore as restore_network};

/// Why a run failed before or beside its command.
#[derive(Debug)]
pub struct RunFailed {
    /// 125 for mybox's own failure, 126 or 127 for a command that cannot be executed.
    pub code: u8,
    /// What went wrong.
    pub error: anyhow::Error,
}

impl<E: Into<anyhow::Error>> From<E> for RunFailed {
    fn from(error: E) -> Self {
        Self {
            code: 125,
            error: error.into(),
        }
    }
}

/// A container whose process has been told to go on.
struct Up {
    claim: Claim,
    plan: RunPlan,
    record: Record,
    layers: Vec<Stack>,
    mounts: Mounts,
    running: Running,
    held: Held,
}

/// What a container is made of.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Where everything is.
    pub places: &'a Places,
    /// Where its layers are.
    pub store: &'a Store,
    /// Its image.
    pub image: &'a Image,
    /// What the user asked for.
    pub request: &'a RunRequest,
}

/// Runs a container in the foreground, from the image to the last trace removed. `note` is told
/// what the user should know before the command starts, `begun` of the container when its process is there.
pub fn run(
    asked: Asked<'_>,
    note: &mut dyn FnMut(&str),
    begun: &mut dyn FnMut(&ContainerId) -> anyhow::Result<()>,
) -> Result<Ending, RunFailed> {
    let places = asked.places;
    let mut stdio = Stdio::in_foreground(asked.request)?;
    let Up {
        claim,
        plan,
        record,
        layers: _layers,
        mounts,
        mut running,
        held,
    } = bring_up(asked, Who::New, &mut stdio, note)?;
    if let Err(error) = begun(&plan.id) {
        drop((running, mounts));
        return Err(undo_start(places, claim, error.into()));
    }
    // The second of two signals would come when the container has ended, and end this process before it has
    // taken anything down.
    running.signals.stay_blocked_to_the_end();
    let mut executed = || {
        events::tell(places, &Event::of_container("start", &record));
        Checker::of(places, &plan.id).unwrap_or_else(|error| {
            note(&format!("its health will not be checked: {error:#}"));
            None
        })
    };
    let oom = Oom::of(places, &plan.id, &plan.cgroup.paths());
    let end = supervise::until_the_end(running, &plan, oom, &mut executed);
    // While the claim is there: who finds that without us looks for what we share, too.
    drop(mounts);
    // Whoever starts when this container is down finds its ports free.
    drop(held);
    match end {
        Ok(Life::Lived(ending)) => {
            teardown::teardown(places, claim, Seen::Ended(ending))?;
            Ok(ending)
        }
        Ok(Life::NeverStarted(failed)) => Err(undo_start(places, claim, failed)),
        Err(error) => {
            teardown::teardown(places, claim, Seen::Nothing)?;
            Err(error.into())
        }
    }
}

/// All stages up to the running process. A failure leaves nothing of them.
fn bring_up(
    asked: Asked<'_>,
    who: Who,
    stdio: &mut Stdio,
    note: &mut dyn FnMut(&str),
) -> Result<Up, RunFailed> {
    let Asked {
        places,
        store,
        image,
        request,
    } = asked;
    let proof = SingleThreaded::check()?;
    // An image of 500 layers takes more than the usual 1024.
    let open_files = process::allow_many_descriptors()?;
    let is_restart = matches!(who, Who::Claimed(..));
    let is_new = matches!(who, Who::New);
    // Held until the end: nobody removes a layer that is in use.
    let layers = store.stack(image)?;
    let images = images::hold(store, images::mounted(request))?;
    let ports = plan::ports::wanted(request, &image.config)?;
    let Prepared {
        claim,
        given,
        bridge,
        held,
    } = prepare::claim(places, request, who, &ports, &layers, note)?;
    let start = || -> Result<(RunPlan, Record, Mounts, Running), RunFailed> {
        let plan = plan::plan(request, &image.config, given)?;
        let before = if is_new {
            None
        } else {
            record_before(&plan, is_restart)?
        };
        let volumes = volumes::hold(places, &plan)?;
        let record = record(places, &plan, image, request, &ports, before)?;
        // From here on the record keeps them.
        drop(volumes);
        let mut mounts = Mounts::of(places, &layers, &plan.files)?;
        mounts.add_images(places, &images, &plan.files.empty_layer())?;
        let ground = launch::Ground {
            lower: mounts.lower(),
            images: mounts.images(),
            open_files,
            bridge,
            stdio: stdio.take_inside(),
        };
        let running = launch::launch(places, &proof, &claim, &plan, ground)?;
        Ok((plan, record, mounts, running))
    };
    match start() {
        Ok((plan, record, mounts, running)) => {
            volumes::tell(places, &record, "mount");
            Ok(Up {
                claim,
                plan,
                record,
                layers: images::stacks(images, layers),
                mounts,
                running,
                held,
            })
        }
        Err(failed) => Err(undo_start(places, claim, failed)),
    }
}

/// The record of a container that is there, to be started. Restarts count since somebody started it.
fn record_before(plan: &RunPlan, is_restart: bool) -> anyhow::Result<Option<Record>> {
    let dir = plan.files.dir();
    let before =
        Record::read(dir).with_context(|| format!("read the record in {}", dir.display()))?;
    Ok(before.map(|before| Record {
        restart_count: if is_restart { before.restart_count } else { 0 },
        ..before
    }))
}

/// Takes down what a failed start has made. Its reason is what the user wants to read; what could
/// not be undone is added to it, and tried again by the next command.
fn undo_start(places: &Places, claim: Claim, failed: RunFailed) -> RunFailed {
    match teardown::teardown(places, claim, Seen::NeverStarted(failed.code)) {
        Ok(()) => failed,
        Err(undo) => {
            let error = failed
                .error
                .context(format!("{undo:#}; this after the start had failed"));
            RunFailed {
                code: failed.code,
                error,
            }
        }
    }
}

/// The plan of a run, with nothing made, claimed or changed.
pub fn dry_run(
    places: &Places,
    store: &Store,
    image: &Image,
    request: &RunRequest,
) -> anyhow::Result<RunPlan> {
    let layers = store.stack(image)?;
    let id = ContainerId::random().context("make a container id")?;
    let name = request.name.clone().unwrap_or_else(|| "dry_run".to_owned());
    names::check(&name)?;
    let ports = plan::ports::wanted(request, &image.config)?;
    let given = prepare::peek(places, request, &ports, &layers, (id, name))?;
    Ok(plan::plan(request, &image.config, given)?)
}

/// Puts on record what is about to be made. `before` is the record of a container that is there.
fn record(
    places: &Places,
    plan: &RunPlan,
    image: &Image,
    request: &RunRequest,
    ports: &Ports,
    before: Option<Record>,
) -> anyhow::Result<Record> {
    let dir = plan.files.dir();
    let is_new = before.is_none();
    let about = || format!("write the record in {}", dir.display());
    let record = match before {
        Some(Record {
            restart_count,
            name,
            ..
        }) => {
            let changed = Record::change(dir, |before| Record {
                boot: process::boot_id(),
                cgroups: plan.cgroup.paths(),
                veth: plan.bridged.as_ref().map(|bridged| bridged.veth.clone()),
                address: plan.bridged.as_ref().map(|bridged| bridged.address),
                ports: create::published(plan),
                memory_limit: plan.limits.memory,
                command: plan.command().to_vec(),
                ending: None,
                started: Some(now()),
                restart_count,
                restarting: false,
                stopped: false,
                kept: true,
                ..before
            });
            changed
                .with_context(about)?
                .with_context(|| format!("container {name} has been removed"))?
        }
        None => {
            create::directory(places, dir, request)?;
            let record = Record {
                started: Some(now()),
                ..create::record(plan, image, request, ports)
            };
            record.write(dir).with_context(about)?;
            record
        }
    };
    Health::begin(&plan.files, plan.health.as_ref())
        .with_context(|| format!("write {}", plan.files.health().display()))?;
    if is_new {
        events::tell(places, &Event::of_container("create", &record));
    }
    Ok(record)
}

/// Seconds since the epoch.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
