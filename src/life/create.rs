//! A container that is made and not started: its name, its record, what was asked for.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use mybox_store::{Image, Store};

use super::teardown::{self, Seen};
use super::{images, prepare, stack, volumes};
use crate::container::events::{self, Event};
use crate::container::port::Published;
use crate::container::{Claim, ContainerId, Files, Places, Record, ending, names};
use crate::kernel::file::{Lasting, existing, replace};
use crate::kernel::process;
use crate::plan::ports::Ports;
use crate::plan::{self, RunPlan, RunRequest};

/// Makes a container. Everything that can be wrong with the request is found here, not by its start.
pub fn create(
    places: &Places,
    store: &Store,
    image: &Image,
    request: &RunRequest,
) -> Result<ContainerId> {
    let layers = store.stack(image)?;
    let _images = images::hold(store, images::mounted(request))?;
    let id = ContainerId::random().context("make a container id")?;
    let claim = Claim::new(places, &id)
        .with_context(|| format!("claim {}", places.live_container(&id).display()))?;
    let make = || -> Result<Record> {
        let name = names::claim_or_invent(places, request.name.as_deref(), &id)?;
        let ports = plan::ports::wanted(request, &image.config)?;
        // Whether the host's ports are free is the start's to ask.
        let no_ports = Ports::default();
        let given = prepare::peek(places, request, &no_ports, &layers, (id.clone(), name))?;
        let plan = plan::plan(request, &image.config, given)?;
        let dir = plan.files.dir();
        directory(places, dir, request)?;
        let _volumes = volumes::hold(places, &plan)?;
        let record = Record {
            // It has none of them until it is started.
            cgroups: Vec::new(),
            veth: None,
            address: None,
            ports: Vec::new(),
            kept: true,
            ..record(&plan, image, request, &ports)
        };
        // What it has changed, which is nothing, can be asked for before it is started.
        stack::make_overlay(&plan.files)?;
        stack::write_config(&plan)?;
        record
            .write(dir)
            .with_context(|| format!("write the record in {}", dir.display()))?;
        Ok(record)
    };
    match make() {
        Ok(record) => {
            events::tell(places, &Event::of_container("create", &record));
            claim.release().context("release the container's claim")?;
            Ok(id)
        }
        Err(error) => {
            if let Err(undo) = teardown::teardown(places, claim, Seen::NeverStarted(125)) {
                tracing::debug!("after a failed creation: {undo:#}");
            }
            Err(error)
        }
    }
}

/// The directory of a new container, with what was asked for in it.
pub(super) fn directory(places: &Places, dir: &Path, request: &RunRequest) -> Result<()> {
    fs::create_dir_all(places.containers())
        .and_then(|()| fs::create_dir(dir))
        .and_then(|()| ending::make(dir))
        .with_context(|| format!("make {}", dir.display()))?;
    save_request(dir, request)
}

/// Keeps what was asked for; each start goes by it. Whoever reads it sees the old or the new one.
pub fn save_request(dir: &Path, request: &RunRequest) -> Result<()> {
    let path = Files::of(dir.to_owned()).request();
    // The record is written after it.
    let lasting = if request.remove {
        Lasting::No
    } else {
        Lasting::Content
    };
    let content = serde_json::to_vec_pretty(request)?;
    replace(&path, &content, lasting).with_context(|| format!("write {}", path.display()))
}

/// What was asked for when the container in `dir` was made.
pub fn read_request(dir: &Path) -> Result<RunRequest> {
    let path = Files::of(dir.to_owned()).request();
    let about = || format!("read {}", path.display());
    let bytes = existing(fs::read(&path)).with_context(about)?;
    let bytes = bytes.context("the container has been removed")?;
    serde_json::from_slice(&bytes).with_context(about)
}

/// The record of a new container that has not been started.
pub(super) fn record(plan: &RunPlan, image: &Image, request: &RunRequest, ports: &Ports) -> Record {
    let created = SystemTime::now().duration_since(UNIX_EPOCH);
    let created = created.unwrap_or_default();
    Record {
        version: Record::version(),
        id: plan.id.clone(),
        name: plan.name.clone(),
        image: plan.image.clone(),
        manifest: image.manifest,
        command: plan.command().to_vec(),
        created: created.as_secs(),
        created_nanoseconds: created.subsec_nanos(),
        boot: process::boot_id(),
        remove: plan.remove,
        memory_limit: plan.limits.memory,
        cgroups: plan.cgroup.paths(),
        veth: plan.bridged.as_ref().map(|bridged| bridged.veth.clone()),
        address: plan.bridged.as_ref().map(|bridged| bridged.address),
        ports: published(plan),
        exposed: ports.exposed.clone(),
        ending: None,
        started: None,
        restart: request.restart,
        restart_count: 0,
        restarting: false,
        stopped: false,
        stop_signal: Some(plan.stop_signal.clone()),
        stop_timeout: request.stop_timeout,
        kept: false,
        labels: request.labels.clone(),
        volumes: volumes::mounted(plan),
        images: images::mounted(request).collect(),
        remove_volumes: plan.remove,
    }
}

/// The ports of the host that lead to it.
pub(super) fn published(plan: &RunPlan) -> Vec<Published> {
    let bridged = plan.bridged.iter();
    bridged.flat_map(|it| it.ports.clone()).collect()
}
