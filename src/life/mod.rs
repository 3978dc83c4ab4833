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

pub mod layer_form;
pub mod prepare;
pub mod pull;
pub mod push;
pub mod recover;
pub mod teardown;
pub mod verify;

mod filter;
mod forms;
mod launch;
mod mounts;
mod network;
mod stack;
mod supervise;

use mybox_store::{Image, Store};

use crate::container::{Claim, Ending, Places, Record};
use crate::kernel::process::{self, SingleThreaded};
use crate::plan::{self, RunPlan, RunRequest};
use launch::Running;
use mounts::Mounts;
use prepare::Prepared;
use supervise::Life;
use teardown::Seen;

pub use network::{list_networks, remove_network};

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

/// Runs a container in the foreground, from the image to the last trace removed. `note` is told
/// what the user should know before the command starts.
pub fn run(
    places: &Places,
    store: &Store,
    image: &Image,
    request: &RunRequest,
    note: &mut dyn FnMut(&str),
) -> Result<Ending, RunFailed> {
    let proof = SingleThreaded::check()?;
    // An image of 500 layers takes more than the usual 1024.
    let open_files = process::allow_many_descriptors()?;
    // Held until the end: nobody removes a layer that is in use.
    let layers = store.stack(image)?;
    let Prepared {
        claim,
        given,
        bridge,
    } = prepare::claim(places, request, &layers, note)?;
    let start = || -> Result<(RunPlan, Mounts, Running), RunFailed> {
        let plan = plan::plan(request, &image.config, given)?;
        record(places, &plan, image)?;
        let mounts = Mounts::of(places, &layers)?;
        let running = launch::launch(
            places,
            &proof,
            &claim,
            &plan,
            mounts.lower(),
            open_files,
            bridge,
        )?;
        Ok((plan, mounts, running))
    };
    let (plan, mounts, running) = match start() {
        Ok(started) => started,
        Err(failed) => return Err(undo_start(places, claim, failed)),
    };
    let end = supervise::until_the_end(running, &plan);
    // While the claim is there: who finds that without us looks for what we share, too.
    drop(mounts);
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

/// Takes down what a failed start has made. Its reason is what the user wants to read; what could
/// not be undone is added to it, and tried again by the next command.
fn undo_start(places: &Places, claim: Claim, failed: RunFailed) -> RunFailed {
    match teardown::teardown(places, claim, Seen::NeverStarted) {
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
    let given = prepare::peek(places, request, &layers)?;
    Ok(plan::plan(request, &image.config, given)?)
}

fn record(places: &Places, plan: &RunPlan, image: &Image) -> anyhow::Result<()> {
    use anyhow::Context;
    let dir = plan.files.dir();
    std::fs::create_dir_all(places.containers())
        .and_then(|()| std::fs::create_dir(dir))
        .with_context(|| format!("make {}", dir.display()))?;
    let record = Record {
        version: Record::version(),
        id: plan.id.clone(),
        name: plan.name.clone(),
        image: plan.image.clone(),
        manifest: image.manifest,
        command: plan.command().to_vec(),
        created: now(),
        boot: process::boot_id(),
        remove: plan.remove,
        memory_limit: plan.limits.memory,
        cgroups: plan.cgroup.paths(),
        veth: plan.bridged.as_ref().map(|bridged| bridged.veth.clone()),
        address: plan.bridged.as_ref().map(|bridged| bridged.address),
        ending: None,
    };
    record
        .write(dir)
        .with_context(|| format!("write the record in {}", dir.display()))
}

/// Seconds since the epoch.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
