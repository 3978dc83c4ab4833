//! Commit: what a container has changed becomes one more layer of its image.
//!
//! ```text
//! upper directory -> pack -> ingest/tmp (the tar, hashed) -> layer -> blobs -> index.json
//! ```
//! The tar is made once: it is the layer's blob, and its digest the diff id.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::blob::Held;
use crate::change::Change;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::import::{Progress, TakenIn};
use crate::layout::Store;
use crate::oci::config::{Config, History};
use crate::oci::manifest::{CONFIG, Descriptor, LAYER_TAR, MANIFEST, Manifest};
use crate::reference::Reference;

/// What an image's config has from the time before OCI, or of the base alone.
const NOT_INHERITED: [&str; 5] = [
    "container",
    "container_config",
    "docker_version",
    "id",
    "parent",
];

/// How a container is committed.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The name the image gets; without one it is known by its digests.
    pub reference: Option<Reference>,
    /// What the image is to be run with: the container's own.
    pub config: Config,
    /// Changes to that, in order.
    pub changes: Vec<Change>,
    /// Who made it.
    pub author: Option<String>,
    /// The comment in the image's history.
    pub message: Option<String>,
    /// The container's command, for the history.
    pub command: String,
    /// When: RFC 3339.
    pub created: String,
    /// Paths of the upper directory that are no part of the layer.
    pub leave_out: BTreeSet<Vec<u8>>,
}

/// A document that stays while it is held.
type Stored = (Descriptor, Held);

impl Store {
    /// Makes an image of another one and an overlay's upper directory, which must stay as it is
    /// meanwhile. The caller holds the base. Nothing stays if it fails.
    pub fn commit(
        &self,
        base: &Image,
        upper: &Path,
        options: &CommitOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image> {
        if let Some(reference) = options.reference.as_ref()
            && reference.digest().is_some()
        {
            return Err(Error::BadReference {
                text: reference.to_string(),
                reason: "an image cannot be committed under a digest",
            });
        }
        let tar = self.take_in_upper(upper, options.leave_out.clone(), progress)?;
        let layer = self.lay_down(&tar, progress)?;
        let digest = tar.digest;
        let mut published = vec![digest];
        let image = self.publish_committed(base, tar, options, &mut published);
        drop(layer);
        if image.is_err() {
            self.take_back(&published, &[digest.into()]);
        }
        image
    }

    /// Blobs first, the index last.
    fn publish_committed(
        &self,
        base: &Image,
        tar: TakenIn,
        options: &CommitOptions,
        published: &mut Vec<Digest>,
    ) -> Result<Image> {
        let (digest, size) = (tar.digest, tar.size);
        let _blob = self.publish_taken_in(tar)?;
        let config = config(base, digest.into(), options)?;
        let (config, _config): Stored = self.put_json(CONFIG, &config)?;
        published.push(config.digest);
        let mut layers = base.blobs.clone();
        layers.push(Descriptor::new(LAYER_TAR, digest, size));
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            config,
            layers: layers.into_iter().map(Descriptor::in_oci_words).collect(),
        };
        let (manifest, _manifest): Stored = self.put_json(MANIFEST, &manifest)?;
        let manifest_digest = manifest.digest;
        published.push(manifest_digest);
        let mut locked = self.lock_index()?;
        let name = options.reference.as_ref().map(ToString::to_string);
        let manifest = locked.index.inheriting(base.named().digest, manifest);
        locked.index.add(manifest, name.as_deref());
        locked.save()?;
        let image = self.image_entered(&locked.index, manifest_digest)?;
        self.used(&image)?;
        Ok(image)
    }
}

/// The base's config, with all that this mybox knows nothing of, and one step more.
fn config(base: &Image, layer: DiffId, options: &CommitOptions) -> Result<Value> {
    let object = || format!("the config of {}", base.id);
    let json = |error| Error::json(object(), error);
    let mut document: Map<String, Value> =
        serde_json::from_slice(base.config_bytes()).map_err(json)?;
    document.retain(|name, _| !NOT_INHERITED.contains(&name.as_str()));
    let mut run = options.config.clone();
    for change in &options.changes {
        change.apply(&mut run)?;
    }
    let mut parts = base.config.clone();
    parts.rootfs.diff_ids.push(layer);
    parts.history.push(History {
        created: Some(options.created.clone()),
        created_by: Some(options.command.clone()),
        author: options.author.clone(),
        comment: options.message.clone(),
        empty_layer: false,
    });
    let mut set = |name: &str, value: Value| document.insert(name.to_owned(), value);
    let value = |part| serde_json::to_value(part).map_err(json);
    set("created", options.created.clone().into());
    if let Some(author) = &options.author {
        set("author", author.clone().into());
    }
    set("rootfs", serde_json::to_value(&parts.rootfs).map_err(json)?);
    set("history", value(&parts.history)?);
    let known = document.remove("config");
    let known = known.and_then(|known| known.as_object().cloned());
    let run = run_config(known.unwrap_or_default(), &run).map_err(json)?;
    document.insert("config".to_owned(), run.into());
    Ok(document.into())
}

/// The config to run with: what is known of it from the container, and what only the image knew.
fn run_config(
    mut known: Map<String, Value>,
    run: &Config,
) -> serde_json::Result<Map<String, Value>> {
    // Triggers of the base are for what is built on it, and were not run.
    let of_this_crate = [
        "User",
        "ExposedPorts",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Labels",
        "StopSignal",
        "OnBuild",
    ];
    for name in of_this_crate {
        known.remove(name);
    }
    if let Value::Object(own) = serde_json::to_value(run)? {
        known.extend(own);
    }
    Ok(known)
}
