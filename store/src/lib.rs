//! A content-addressed store of OCI images and their layers.
//!
//! The store's root is a valid OCI image layout; beside the blobs it keeps every layer in a form that
//! overlayfs can use as a lower directory:
//!
//! ```text
//! <root>/
//!   oci-layout  index.json   the image layout; tags live in index.json
//!   reserve                  room for one more index.json when the disk is full
//!   mybox.json               {"version":2}: the format of everything below; "layerForm" if chosen
//!   blobs/sha256/<hex>       manifests, configs and layers, by the digest of their bytes
//!   layers/<diff id hex>/    layer.json, and by the layer's form: fs/, the unpacked tree; or
//!                            layer.tar and layer.erofs, the tar as it is and an index over it
//!   images/                  what is made of several layers' indexes
//!   ingest/                  tmp-*: files and trees being made or thrown away; *.lock: single flight;
//!                            <hex>.partial: a download in progress, resumable by any process;
//!                            plan-<id>.json: what gc would do, for a day
//! ```
//!
//! Rules every module keeps:
//! - **Publish order**: a temporary name in `ingest/`, check, flush, rename, flush the directory.
//!   What has its final name is whole and durable.
//! - **Locks are flock**: exclusive on what is being made or deleted, shared on what is in use, and
//!   an exclusive lock on the root directory around each change of `index.json`. A lock dies with
//!   its process, so nothing here ever has to guess whether a lock is stale.
//! - **Objects before names**: `index.json` is written last when an image is added and first when
//!   it is removed, so that it never names something that is not there.

mod error;

mod digest;
mod duration;
mod platform;
mod reference;
mod time;

mod oci;

mod allocated;
mod arrival;
mod blob;
mod dir;
mod index;
mod ingest;
mod layout;
mod lock;
mod object;
mod names;
mod read;

mod archive;
mod compression;
mod layer;
mod xattr;

mod change;
mod commit;
mod convert;
mod import;

mod compressed;
mod differences;
mod gc;
mod image;
mod merged;
mod outgoing;
mod pack;
mod needs;
mod receive;
mod remove;
mod reserve;
mod shares;
mod stack;
mod survey;
mod transfer;
mod verify;
mod why;
mod writeback;

pub use allocated::allocated;
pub use arrival::{Arrival, Follower, Partial};
pub use blob::Held;
pub use change::Change;
pub use commit::CommitOptions;
pub use convert::Converted;
pub use differences::{Changes, Difference, FoundFile, How, ImageFiles, LayerDifferences};
pub use digest::{DiffId, Digest};
pub use duration::{LONGEST as LONGEST_DURATION, parse as parse_duration};
pub use error::{Error, Result};
pub use gc::{Collected, DoomedImage, DoomedObject, GcOptions, GcPlan, WhyGone};
pub use image::{Catalog, Damage, Image};
pub use import::{ImportOptions, ImportSource, Progress, Warning};
pub use layer::HeldLayer;
pub use layer::form::LayerForm;
pub use layer::index::sample::{SampleIndex, sample_index};
pub use layer::unpack::{Onto, unpack_onto};
pub use layout::Store;
pub use object::{Measured, Object};
pub use oci::config::{Config, Healthcheck, History, ImageConfig, RootFs};
pub use oci::document::Document;
pub use oci::manifest::{Descriptor, ImageIndex, Manifest};
pub use oci::manifest::{INDEX as INDEX_MEDIA_TYPE, MANIFEST as MANIFEST_MEDIA_TYPE};
pub use outgoing::{Outgoing, OutgoingBlob, OutgoingDocument};
pub use pack::{pack_named, pack_tree};
pub use platform::Platform;
pub use receive::LayerStep;
pub use reference::Reference;
pub use remove::Removed;
pub use shares::{SharedLayer, Shares};
pub use stack::{DataFile, Indexed, Lower, Stack, StoreFile};
pub use survey::{Survey, Use, Uses, no_uses};
pub use time::rfc3339;
pub use transfer::{ArchiveFormat, Loaded};
pub use verify::{Flaw, Part, Refetch, Verified, VerifyEvent, VerifyOptions, WantedBlob};
pub use why::{Reason, Role, Why};

/// For the fuzzer alone: see `store/fuzz`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_index(bytes: &[u8]) {
    layer::index::fuzz::index(bytes);
}
