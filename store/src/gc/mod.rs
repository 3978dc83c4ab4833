//! Garbage collection: plan, then apply.
//!
//! ```text
//! survey -> plan: images that go, then every object that nothing needs without them
//! apply:    index lock > exclusive lock on each object > index.json > the objects
//! ```
//! A plan is data. It can be kept (`ingest/plan-<id>.json`, for a day) and applied later: exactly
//! as it is, or not at all if any of its objects was used or has become needed since.
//!
//! What goes: blobs and layers that no image needs; images that have no name; downloads nobody has
//! touched for a day; on request images that were not used for some time, and as many more, oldest
//! use first, as it takes to keep to a size. What stays: what containers are made of; what is
//! pinned; what any process holds (a pull, a save, a run that is beginning), and an image if any of
//! what only it needs is held; and while some entry of the index cannot be read, everything that it
//! may need.

mod apply;
mod planner;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::ingest::{self, Temporary};
use crate::layout::Store;
use crate::object::Object;
use crate::survey::{Survey, Uses};
use planner::Planner;

pub use apply::Collected;

/// How long a download that was broken off is left to be gone on with.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
const VERSION: u32 = 1;
/// Hex digits of a plan's id.
const ID_LENGTH: usize = 16;

/// What to collect beyond what nobody needs.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// Images whose last use is longer ago.
    pub unused_for: Option<Duration>,
    /// As many images as it takes for the store to have no more bytes on the disk.
    pub keep_bytes: Option<u64>,
    /// Compressed blobs of layers that are laid down, of images that can be fetched again.
    pub compressed: bool,
    /// Of the images only these, by the digests of their entries; `None` is all.
    pub only: Option<BTreeSet<Digest>>,
    /// Of the images only those that were not used since.
    pub used_before: Option<SystemTime>,
    /// What belongs to no image stays: blobs, layers, downloads.
    pub images_alone: bool,
    /// What time it is.
    pub now: SystemTime,
}

impl GcOptions {
    /// Only what nobody needs.
    pub fn at(now: SystemTime) -> Self {
        Self {
            unused_for: None,
            keep_bytes: None,
            compressed: false,
            only: None,
            used_before: None,
            images_alone: false,
            now,
        }
    }
}

/// What a collection removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GcPlan {
    version: u32,
    /// The images that go out of the index; what they take with them is among the objects.
    pub images: Vec<DoomedImage>,
    /// Entries of the index that stay and lose the compressed blobs of their layers.
    #[serde(default)]
    pub lean: BTreeSet<Digest>,
    /// Everything that is removed.
    pub objects: Vec<DoomedObject>,
    /// Bytes the store has on the disk before.
    pub store_bytes: u64,
    /// The most it shall have, if that was asked for.
    pub keep_bytes: Option<u64>,
}

/// An entry of the index that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DoomedImage {
    /// The digest of its manifest, or of an index.
    pub digest: Digest,
    /// The ids of its images: one, or several of an index.
    pub ids: Vec<Digest>,
    /// Its names, canonical.
    pub names: Vec<String>,
    /// Its last use.
    pub used: SystemTime,
    /// Why it goes.
    pub why: WhyGone,
}

/// A blob, layer or download that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DoomedObject {
    /// What it is.
    #[serde(flatten)]
    pub object: Object,
    /// Bytes that gives back.
    pub bytes: u64,
    /// Its last use.
    pub used: SystemTime,
    /// Why it goes.
    pub why: WhyGone,
}

/// Why something goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "reason", content = "image")]
pub enum WhyGone {
    /// No image needs it.
    Unneeded,
    /// Only this image needed it (the digest of its entry), which goes.
    OfImage(Digest),
    /// It has no name, and no container is made of it.
    Untagged,
    /// It was not used for as long as was asked for.
    Unused,
    /// Of what is left it is what was used the longest ago, and the store is too large.
    OverLimit,
    /// The layer that was made of it is here, and it can be fetched again.
    Compressed,
    /// A download nobody goes on with.
    BrokenOff,
}

impl fmt::Display for WhyGone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unneeded => formatter.write_str("no image needs it"),
            Self::OfImage(image) => write!(formatter, "only {} needed it", image.short()),
            Self::Untagged => formatter.write_str("it has no name and no container"),
            Self::Unused => formatter.write_str("unused for too long"),
            Self::OverLimit => formatter.write_str("unused the longest, the store is too large"),
            Self::Compressed => formatter.write_str("its layer is here, a registry has it"),
            Self::BrokenOff => formatter.write_str("broken off, untouched for a day"),
        }
    }
}

impl GcPlan {
    /// What the plan is called: it follows from what is in it.
    pub fn id(&self) -> String {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        id_of(&bytes)
    }

    /// Bytes the filesystem gets back.
    pub fn frees(&self) -> u64 {
        self.objects.iter().map(|object| object.bytes).sum()
    }

    /// Bytes the store still has beyond its limit when the plan is done, because they are in use or
    /// pinned.
    pub fn beyond_limit(&self) -> u64 {
        let left = self.store_bytes.saturating_sub(self.frees());
        self.keep_bytes
            .map_or(0, |limit| left.saturating_sub(limit))
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.objects.is_empty()
    }
}

impl Store {
    /// What a collection would remove now, and what it is planned from. Changes nothing.
    pub fn gc_plan(&self, uses: Uses<'_>, options: &GcOptions) -> Result<(GcPlan, Survey)> {
        let ([plan], survey) = self.gc_plans(uses, [options])?;
        Ok((plan, survey))
    }

    /// As [`Store::gc_plan`], for several sets of options at once.
    pub fn gc_plans<const N: usize>(
        &self,
        uses: Uses<'_>,
        options: [&GcOptions; N],
    ) -> Result<([GcPlan; N], Survey)> {
        let locked = self.lock_index()?;
        let survey = self.survey_of(&locked.index, uses)?;
        let plans =
            options.map(|options| Planner::new(self, &survey, options).plan(&HashSet::new()));
        let mut done = Vec::with_capacity(N);
        for plan in plans {
            done.push(plan?);
        }
        let plans = done.try_into().expect("as many plans as options");
        Ok((plans, survey))
    }

    /// Keeps a plan, so that [`Store::gc_apply`] can be told its id.
    pub fn keep_plan(&self, plan: &GcPlan) -> Result<()> {
        let id = plan.id();
        let path = || self.plan_path(&id);
        let bytes = serde_json::to_vec(plan).map_err(|error| Error::json(path(), error))?;
        let file = Temporary::with_bytes(self.ingest(), &bytes).on("write", path)?;
        file.publish(self.ingest(), &ingest::plan_name(&id))
            .on("write", path)?;
        Ok(())
    }

    fn kept_plan(&self, id: &str) -> Result<GcPlan> {
        let unknown = || Error::NoSuchPlan { id: id.to_owned() };
        if id.len() != ID_LENGTH || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let path = || self.plan_path(id);
        let bytes = match std::fs::read(path()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(unknown()),
            bytes => bytes.on("read", path)?,
        };
        if id_of(&bytes) != id {
            return Err(Error::damaged(path(), "its bytes have another digest"));
        }
        let plan: GcPlan =
            serde_json::from_slice(&bytes).map_err(|error| Error::json(path(), error))?;
        if plan.version != VERSION {
            let reason = format!("version {} is not known", plan.version);
            return Err(Error::damaged(path(), reason));
        }
        Ok(plan)
    }

    fn plan_path(&self, id: &str) -> String {
        let path = self.root().join("ingest").join(ingest::plan_name(id));
        path.display().to_string()
    }
}

fn id_of(bytes: &[u8]) -> String {
    let mut id = Digest::of(bytes).hex();
    id.truncate(ID_LENGTH);
    id
}
