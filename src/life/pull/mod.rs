//! Pull: an image comes from a registry into the store.
//!
//! ```text
//! resolve     name -> registry or mirror, manifest, the platform's own if it is an index
//! layers      each distinct blob, several at a time: fetched, or gone on with, or there already;
//!             unpacked while it arrives
//! publish     documents into the store, the name into index.json
//! ```
//! A pull that ends early, however it does, leaves partial downloads in `ingest/` for the next one,
//! and nothing else.

mod download;
mod layers;
mod refetch;
mod resolve;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;

use anyhow::{Context, Result};
use mybox_store::{DiffId, Digest, Held, HeldLayer, Image, Platform, Reference, Store};

use crate::registry::{self, Client, Options};
use layers::join;
use resolve::Resolved;

pub use refetch::{bring_back, refetch};

/// How many layers at a time, unless the user says otherwise; as Docker has it.
pub const JOBS: usize = 3;

/// What is to be pulled, and how.
pub struct PullRequest {
    /// A reference, or a short name that registries.conf knows.
    pub name: String,
    /// Which platforms of an index.
    pub platforms: Platforms,
    /// How many layers at a time.
    pub jobs: usize,
    /// How to talk to registries.
    pub registry: Options,
}

/// Which images of an index are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platforms {
    /// The one that suits this machine best; an image of one platform alone, whatever that is.
    Own,
    /// The one that suits this platform best.
    One(Platform),
    /// Every one, and the index itself.
    All,
}

/// What a pull brought.
pub struct Pulled {
    /// The image; of several platforms, the one for this machine, if there is one.
    pub image: Option<Image>,
    /// Its name.
    pub reference: Reference,
    /// What the registry calls it: the digest of the index or manifest that the name led to.
    pub digest: Digest,
    /// Whether the name led to something else before, or to nothing.
    pub is_news: bool,
    /// Bytes that came over the network.
    pub fetched: u64,
}

/// How far a pull is. Told often, from several threads.
#[derive(Clone, Debug)]
pub enum Event {
    /// One place to pull from did not work; the next one is tried.
    SourceFailed {
        /// Which one and why, on one line.
        reason: String,
    },
    /// It is known what the image consists of.
    Resolved {
        /// The image's name.
        reference: Reference,
        /// The distinct blobs of its layers, base first, with their sizes.
        layers: Vec<(Digest, u64)>,
    },
    /// Something happens to one of these layers.
    Layer {
        /// Which, by its place in the list.
        number: usize,
        /// What.
        step: LayerEvent,
    },
}

/// What happens to a layer. Bytes are those of its blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerEvent {
    /// Blob and tree are there already.
    There,
    /// Another process fetches it.
    FetchedElsewhere {
        /// How many bytes it has.
        bytes: u64,
    },
    /// An interrupted download goes on.
    Resumed {
        /// From where.
        from: u64,
    },
    /// It comes over the network.
    Downloading {
        /// How many bytes there are.
        bytes: u64,
    },
    /// The connection was lost, and is made again.
    Retrying {
        /// Why, on one line.
        reason: String,
    },
    /// It is being unpacked; while it arrives this is told too.
    Unpacking {
        /// How much of the blob is unpacked.
        bytes: u64,
    },
    /// Another process unpacks it.
    UnpackedElsewhere,
    /// It is being written to the disk.
    Flushing,
    /// Blob and tree are there.
    Done,
}

/// Who is told of a pull's progress.
pub type Watch<'a> = &'a (dyn Fn(Event) + Sync);

/// What keeps the parts of an image in the store until it is named.
#[derive(Default)]
struct Kept {
    blobs: Vec<Held>,
    layers: Vec<HeldLayer>,
    fetched: u64,
}

impl Kept {
    /// From now on the layers' blobs are read for a push only.
    fn leave_cache(&self) -> Result<()> {
        let leave = |blob: &Held| blob.leave_cache();
        let left = self.blobs.iter().try_for_each(leave);
        left.context("give up the cache of the layers' blobs")
    }
}

/// When `run` pulls its image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Whatever is there.
    Always,
    /// When there is none of this name, or none for the platform.
    #[default]
    Missing,
    /// Not at all.
    Never,
}

/// The image that a container is to be made of.
pub struct Brought {
    /// It is in the store.
    pub image: Image,
    /// Its name there: the one that was given, or what registries.conf makes of it.
    pub name: String,
    /// What was pulled for it.
    pub pulled: Option<Pulled>,
}

/// Makes sure that there is an image before a container is made of it. Without a platform, an image
/// of whatever platform will do if it is there.
pub fn pull_for_run(
    store: &Store,
    name: &str,
    platform: Option<Platform>,
    policy: PullPolicy,
    registry: Options,
    watch: Watch<'_>,
) -> Result<Brought> {
    // An id names nothing that a registry has.
    let can_be_pulled = policy != PullPolicy::Never && name.parse::<Reference>().is_ok();
    if policy != PullPolicy::Always || !can_be_pulled {
        match find_here(store, name, platform.as_ref()) {
            Err(error) if is_missing(&error) && can_be_pulled => {}
            found => return found,
        }
    }
    let request = PullRequest {
        name: name.to_owned(),
        platforms: platform.clone().map_or(Platforms::Own, Platforms::One),
        jobs: JOBS,
        registry,
    };
    let pulled = pull(store, &request, watch)?;
    let is_another = name.parse::<Reference>()? != pulled.reference;
    let name = if is_another {
        pulled.reference.to_string()
    } else {
        name.to_owned()
    };
    Ok(Brought {
        image: store.find_for(&name, platform.as_ref())?,
        name,
        pulled: Some(pulled),
    })
}

/// The image of this name, or of what registries.conf makes of a short one, if the store has it. The
/// error of one that is not there, or not for the platform, is that of the name itself.
pub fn find_here(store: &Store, name: &str, platform: Option<&Platform>) -> Result<Brought> {
    let find = |name: &str| -> Result<Brought> {
        Ok(Brought {
            image: store.find_for(name, platform)?,
            name: name.to_owned(),
            pulled: None,
        })
    };
    let missing = match find(name) {
        Err(error) if is_missing(&error) => error,
        found => return found,
    };
    if name.parse::<Reference>().is_err() {
        return Err(missing);
    }
    for meaning in registry::meanings(name)? {
        match find(&meaning.to_string()) {
            Err(error) if is_missing(&error) => {}
            found => return found,
        }
    }
    Err(missing)
}

fn is_missing(error: &anyhow::Error) -> bool {
    use mybox_store::Error::{NoSuchImage, NoSuchPlatform};
    let error = error.downcast_ref();
    matches!(error, Some(NoSuchImage { .. } | NoSuchPlatform { .. }))
}

/// Pulls an image.
pub fn pull(store: &Store, request: &PullRequest, watch: Watch<'_>) -> Result<Pulled> {
    let client = Client::new(&request.registry)?;
    let resolved = resolve::resolve(store, &client, request, watch)?;
    let what = format!("pull {}", resolved.reference.familiar());
    bring(store, &client, resolved, request.jobs, watch).context(what)
}

/// Fetches what the name has led to, and names it.
fn bring(
    store: &Store,
    client: &Client,
    resolved: Resolved,
    jobs: usize,
    watch: Watch<'_>,
) -> Result<Pulled> {
    let tasks = layers::tasks(&resolved)?;
    watch(Event::Resolved {
        reference: resolved.reference.clone(),
        layers: tasks.iter().map(|task| (task.digest, task.size)).collect(),
    });
    let laid_down = tasks.iter();
    let laid_down = laid_down.filter_map(|task| Some((task.layer?, task.digest)));
    let fetcher = layers::Fetcher {
        store,
        client,
        source: &resolved.source,
        watch,
        dispensable: store.dispensable(laid_down)?,
    };
    let kept = fetcher
        .fetch_all(&tasks, jobs)
        .inspect_err(|error| make_room_again(store, &tasks, error))?;
    publish(store, resolved, &kept)
}

/// What came of an image is kept for the next pull to go on with, but not on a disk that is full.
fn make_room_again(store: &Store, tasks: &[layers::Task], error: &anyhow::Error) {
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::StorageFull)
    };
    if !error.chain().any(is_full) {
        return;
    }
    let blobs: Vec<Digest> = tasks.iter().map(|task| task.digest).collect();
    let layers: Vec<DiffId> = tasks.iter().filter_map(|task| task.layer).collect();
    // What the user wants to read is that the disk is full. `mybox gc` finds what stays here.
    if let Err(error) = store.give_back(&blobs, &layers) {
        tracing::debug!("after a failed pull: {error:#}");
    }
}

/// So that the first run finds it. It can do without.
fn merge(store: &Store, image: &Image) {
    if let Err(error) = store.merge(image) {
        tracing::debug!("merge the layers of {}: {error:#}", image.id);
    }
}

fn publish(store: &Store, resolved: Resolved, kept: &Kept) -> Result<Pulled> {
    let mut stored = HashMap::new();
    for document in &resolved.documents {
        if let Entry::Vacant(place) = stored.entry(Digest::of(document)) {
            place.insert(store.put_document(document)?);
        }
    }
    let reference = resolved.reference.without_redundant_tag();
    let name = reference.to_string();
    let before = store.find(&name).ok().map(|image| image.manifest);
    store.name_image(resolved.root, resolved.chosen_from, Some(&reference))?;
    let image = match store.find(&name) {
        Ok(image) => Some(image),
        // Of all platforms, none may be this machine's.
        Err(mybox_store::Error::NoSuchImage { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    std::thread::scope(|scope| {
        let leaving = scope.spawn(|| kept.leave_cache());
        if let Some(image) = &image {
            merge(store, image);
        }
        join(leaving)
    })?;
    let after = image.as_ref().map(|image| image.manifest);
    Ok(Pulled {
        is_news: before.is_none() || before != after,
        image,
        reference,
        digest: resolved.digest,
        fetched: kept.fetched + resolved.fetched,
    })
}
