//! What nobody uses, found and removed: containers that have ended or were never started, then what
//! their images leave to gc, then volumes that nobody gave a name.
//!
//! A plan first, which changes nothing; only what is in it is removed, and only what is not in use by
//! then. No volume with a name is ever in it, and no container that runs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use mybox_store::{Collected, Damage, Digest, GcOptions, GcPlan, Image, Store, allocated};

use super::images;
use super::teardown::{self, Volumes};
use crate::container::events::{self, Event};
use crate::container::find::{self, State};
use crate::container::volume::{self, Removal, Volume};
use crate::container::{ContainerId, Places, Record};

/// How long all the containers together that another mybox has are waited for: the monitor of one that
/// has just ended gives it back in a moment, whoever starts one does not.
const PATIENCE: Duration = Duration::from_millis(300);

/// What is to go.
pub struct Wanted<'a> {
    /// Images that no container is made of, too, not only those without a name.
    pub all: bool,
    /// Volumes without a name, too.
    pub volumes: bool,
    /// Nothing else than these.
    pub only: Option<Only>,
    /// Which of all that.
    pub choice: &'a dyn Choice,
}

/// One kind of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// Containers.
    Containers,
    /// Images, with the blobs and layers that no image needs.
    Images,
}

/// Which containers, images and volumes are meant.
pub trait Choice {
    /// Whether that is all of them: then what belongs to no image goes, too.
    fn is_everything(&self) -> bool;
    /// Only images that were not used since.
    fn images_used_before(&self) -> Option<SystemTime>;
    /// Whether this container.
    fn container(&self, record: &Record) -> bool;
    /// Whether this image.
    fn image(&self, image: &Image) -> bool;
    /// Whether this volume.
    fn volume(&self, volume: &Volume) -> bool;
}

/// What would go.
pub struct Plan {
    /// Containers.
    pub containers: Vec<DoomedContainer>,
    /// Images, layers and blobs.
    pub store: GcPlan,
    /// Volumes.
    pub volumes: Vec<DoomedVolume>,
    /// Images that cannot be read.
    pub damage: Vec<Damage>,
    options: GcOptions,
}

/// A container that goes.
#[derive(Debug, Clone)]
pub struct DoomedContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// What it has on the disk.
    pub bytes: u64,
}

/// A volume that goes.
#[derive(Debug, Clone)]
pub struct DoomedVolume {
    /// Its name, which was made up.
    pub name: String,
    /// What it has on the disk.
    pub bytes: u64,
}

impl Plan {
    /// Whether nothing would.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.store.is_empty() && self.volumes.is_empty()
    }

    /// Bytes that would be given back.
    pub fn bytes(&self) -> u64 {
        let containers = self.containers.iter().map(|one| one.bytes);
        let volumes = self.volumes.iter().map(|one| one.bytes);
        containers.chain(volumes).sum::<u64>() + self.store.frees()
    }
}

/// What came of a plan.
#[derive(Default)]
pub struct Done {
    /// Containers that have gone.
    pub containers: Vec<DoomedContainer>,
    /// What has gone of the store; `None` if that failed.
    pub store: Option<Collected>,
    /// Volumes that have gone.
    pub volumes: Vec<DoomedVolume>,
    /// What was left because somebody has come to use it, and what that is.
    pub left: Vec<String>,
    /// What could not be removed, and why.
    pub failures: Vec<(String, anyhow::Error)>,
}

impl Done {
    /// Bytes that were given back.
    pub fn bytes(&self) -> u64 {
        let containers = self.containers.iter().map(|one| one.bytes);
        let volumes = self.volumes.iter().map(|one| one.bytes);
        let store = self.store.iter().map(|one| one.freed_bytes);
        containers.chain(volumes).chain(store).sum()
    }
}

/// Looks for what would go.
pub fn plan(places: &Places, store: &Store, wanted: &Wanted<'_>) -> Result<Plan> {
    let containers = match wanted.only {
        Some(Only::Images) => Vec::new(),
        Some(Only::Containers) | None => ended(places, wanted.choice)?,
    };
    let no_images = wanted.only == Some(Only::Containers);
    let only = match no_images {
        true => Some(BTreeSet::new()),
        false => chosen(store, wanted.choice)?,
    };
    let ids: Vec<ContainerId> = containers.iter().map(|one| one.id.clone()).collect();
    let uses = || Record::uses_but(places, &ids);
    let options = GcOptions {
        unused_for: wanted.all.then_some(Duration::ZERO),
        only,
        used_before: wanted.choice.images_used_before(),
        images_alone: no_images || !wanted.choice.is_everything(),
        ..GcOptions::at(SystemTime::now())
    };
    let (plan, survey) = store.gc_plan(&uses, &options)?;
    let volumes = if wanted.volumes {
        unused_volumes(places, &containers, wanted.choice)?
    } else {
        Vec::new()
    };
    let images = plan.images.iter().map(|image| image.digest);
    Ok(Plan {
        options: GcOptions {
            only: Some(images.collect()),
            ..options
        },
        containers,
        store: plan,
        volumes,
        damage: survey.catalog.damage,
    })
}

/// Containers of which nothing runs. Those that are being started or taken down are none of them.
fn ended(places: &Places, choice: &dyn Choice) -> Result<Vec<DoomedContainer>> {
    let mut ended = Vec::new();
    for container in find::all(places)? {
        let is_ended = matches!(container.state, State::Created | State::Exited);
        let record = container.record;
        if is_ended && choice.container(&record) {
            ended.extend(measured(places, record.id, record.name)?);
        }
    }
    Ok(ended)
}

/// `None` if it has gone meanwhile.
fn measured(places: &Places, id: ContainerId, name: String) -> Result<Option<DoomedContainer>> {
    let bytes = bytes_of(&places.container(&id))?;
    Ok(bytes.map(|bytes| DoomedContainer { id, name, bytes }))
}

fn bytes_of(dir: &Path) -> Result<Option<u64>> {
    match allocated(dir) {
        Ok(bytes) => Ok(dir.exists().then_some(bytes)),
        Err(error) => Err(error).with_context(|| format!("measure {}", dir.display())),
    }
}

/// The entries of the index all of whose images are meant; `None` if that is every one.
fn chosen(store: &Store, choice: &dyn Choice) -> Result<Option<BTreeSet<Digest>>> {
    if choice.is_everything() {
        return Ok(None);
    }
    let mut entries: HashMap<Digest, bool> = HashMap::new();
    for image in store.catalog()?.images {
        let fits = entries.entry(image.entry()).or_insert(true);
        *fits &= choice.image(&image);
    }
    let fitting = entries.into_iter().filter(|(_, fits)| *fits);
    Ok(Some(fitting.map(|(entry, _)| entry).collect()))
}

/// Volumes without a name that no container has but those that go.
fn unused_volumes(
    places: &Places,
    going: &[DoomedContainer],
    choice: &dyn Choice,
) -> Result<Vec<DoomedVolume>> {
    volume::sweep(places)?;
    let used = used_volumes(places, going)?;
    let mut unused = Vec::new();
    for volume in volume::all(places)? {
        let goes = volume.anonymous && !used.contains(&volume.name) && choice.volume(&volume);
        let bytes = goes.then(|| bytes_of(&places.volume(&volume.name)));
        let bytes = bytes.transpose()?.flatten();
        unused.extend(bytes.map(|bytes| DoomedVolume {
            name: volume.name,
            bytes,
        }));
    }
    Ok(unused)
}

fn used_volumes(places: &Places, going: &[DoomedContainer]) -> Result<HashSet<String>> {
    let goes = |record: &Record| going.iter().any(|one| one.id == record.id);
    let records = Record::all(places).context("read the records of the containers")?;
    let staying = records.into_iter().filter(|record| !goes(record));
    let volumes = staying.flat_map(|record| record.volumes);
    Ok(volumes.map(|mounted| mounted.name).collect())
}

/// Removes what is in the plan. What cannot be removed keeps nothing else from it.
pub fn carry_out(places: &Places, store: &Store, plan: &Plan) -> Done {
    let mut done = Done::default();
    let deadline = Instant::now() + PATIENCE;
    for container in &plan.containers {
        match remove(places, container, deadline) {
            Ok(Gone::Now(container)) => done.containers.push(container),
            Ok(Gone::Before) => {}
            Ok(Gone::Not) => done.left.push(format!("container {}", container.name)),
            Err(error) => {
                let what = format!("container {}", container.name);
                done.failures.push((what, error));
            }
        }
    }
    // An image goes only if all of its containers went.
    match store.gc(&|| Record::uses(places), &plan.options) {
        Ok(collected) => {
            images::tell_gone(places, &collected);
            done.store = Some(collected);
        }
        Err(error) => done.failures.push(("images".to_owned(), error.into())),
    }
    remove_volumes(places, &plan.volumes, &mut done);
    done
}

enum Gone {
    Now(DoomedContainer),
    Before,
    /// Another mybox has it.
    Not,
}

fn remove(places: &Places, planned: &DoomedContainer, deadline: Instant) -> Result<Gone> {
    let id = planned.id.clone();
    let Some(container) = measured(places, id, planned.name.clone())? else {
        return Ok(Gone::Before);
    };
    // Its volumes are looked at by themselves.
    match teardown::remove_by(places, &planned.id, Volumes::Stay, deadline) {
        Ok(true) => Ok(Gone::Now(container)),
        Ok(false) => Ok(Gone::Not),
        // Somebody else was faster.
        Err(_) if find::again(places, &planned.id)?.is_none() => Ok(Gone::Before),
        Err(error) => Err(error),
    }
}

fn remove_volumes(places: &Places, volumes: &[DoomedVolume], done: &mut Done) {
    for planned in volumes {
        let name = &planned.name;
        match volume::remove(places, name, None) {
            Ok(Removal::Done(bytes)) => done.volumes.push(DoomedVolume {
                name: name.clone(),
                bytes,
            }),
            Ok(Removal::Missing) => {}
            Ok(Removal::Mounted(point)) => {
                let error = anyhow!("{} is mounted in it", point.display());
                done.failures.push((format!("volume {name}"), error));
            }
            Ok(Removal::InUse(_) | Removal::Busy) => done.left.push(format!("volume {name}")),
            Err(error) => done.failures.push((format!("volume {name}"), error)),
        }
    }
    if !done.volumes.is_empty() {
        let bytes: u64 = done.volumes.iter().map(|one| one.bytes).sum();
        let event = Event::of_volume("prune", "").with("reclaimed", bytes);
        events::tell(places, &event);
    }
}
