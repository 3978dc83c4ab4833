//! `rmi`: takes names away, and with the last one the image, its blobs and the layers nobody else
//! needs.
//!
//! The index lock is held from the decision until everything is gone: nobody can name an object
//! again in between. Whoever is about to name one (an import) holds a shared lock on it, and what is
//! held stays.

use std::collections::HashSet;

use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::{self, Image};
use crate::index::LockedIndex;
use crate::layout::Store;
use crate::reference::Reference;

/// What [`Store::remove`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The names taken away.
    pub untagged: Vec<Reference>,
    /// The id of the image, if it went altogether.
    pub deleted_image: Option<Digest>,
    /// The layers that went with it.
    pub deleted_layers: Vec<DiffId>,
    /// Bytes of blobs and of file data in layers.
    pub freed_bytes: u64,
}

impl Store {
    /// Removes a name, and with its last name an image. Named by id or digest, an image goes with
    /// its only name; with several that takes `force`. An image that containers use stays:
    /// refused, or with `force` only untagged. `used_by` lists the containers made from the image
    /// with this manifest.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        used_by: &dyn Fn(&Digest) -> Vec<String>,
    ) -> Result<Removed> {
        let mut locked = self.lock_index()?;
        let image = match self.find_in(&locked.index, name) {
            Ok(image) => image,
            Err(error @ (Error::NoSuchImage { .. } | Error::Ambiguous { .. })) => {
                return Err(error);
            }
            Err(_) if force => return forget_damaged(&mut locked, name, used_by),
            Err(error) => return Err(error),
        };
        let names: Vec<String> = locked
            .index
            .names(image.manifest)
            .map(str::to_owned)
            .collect();
        let untag = names_to_take(&locked, name, &image, &names, force)?;
        let last = untag.len() == names.len();
        let containers = if last {
            used_by(&image.manifest)
        } else {
            Vec::new()
        };
        if !containers.is_empty() && !force {
            return Err(Error::InUse {
                image: image.id,
                containers,
            });
        }
        let mut removed = Removed {
            untagged: untag.iter().filter_map(|name| name.parse().ok()).collect(),
            ..Removed::default()
        };
        for name in &untag {
            locked.index.untag(image.manifest, name);
        }
        if last && containers.is_empty() {
            locked.index.remove(image.manifest);
            removed.deleted_image = Some(image.id);
        }
        locked.save()?;
        if removed.deleted_image.is_some() {
            let mut blobs = vec![image.manifest, image.id];
            blobs.extend(image.blobs());
            self.delete_unneeded(&locked, &blobs, &image.layers, &mut removed)?;
        }
        Ok(removed)
    }

    /// Deletes those of these blobs and layers that no image of the index needs and nobody holds.
    /// While some image cannot be read, nobody knows what it needs: then everything stays.
    pub(crate) fn delete_unneeded(
        &self,
        locked: &LockedIndex<'_>,
        blobs: &[Digest],
        layers: &[DiffId],
        removed: &mut Removed,
    ) -> Result<()> {
        let mut needed = HashSet::new();
        let mut needed_layers = HashSet::new();
        for digest in image::manifests(&locked.index) {
            let Ok(other) = self.image(&locked.index, digest) else {
                return Ok(());
            };
            needed.extend([other.manifest, other.id]);
            needed.extend(other.blobs());
            needed_layers.extend(other.layers.iter().copied());
        }
        for blob in blobs.iter().filter(|blob| !needed.contains(blob)) {
            removed.freed_bytes += self.remove_blob(*blob)?.unwrap_or(0);
        }
        for layer in layers.iter().filter(|layer| !needed_layers.contains(layer)) {
            if let Some(size) = self.remove_layer(*layer)? {
                removed.deleted_layers.push(*layer);
                removed.freed_bytes += size;
            }
        }
        Ok(())
    }
}

/// Takes an image that cannot be read out of the index, named by reference or by its manifest's
/// digest. Nobody knows what it needed: its objects stay.
fn forget_damaged(
    locked: &mut LockedIndex<'_>,
    name: &str,
    used_by: &dyn Fn(&Digest) -> Vec<String>,
) -> Result<Removed> {
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    let by_digest = || {
        image::manifests(&locked.index)
            .into_iter()
            .find(|one| one.hex().starts_with(prefix))
    };
    let digest = image::by_reference(&locked.index, name)
        .or_else(by_digest)
        .ok_or_else(|| Error::NoSuchImage {
            name: name.to_owned(),
        })?;
    let containers = used_by(&digest);
    if !containers.is_empty() {
        return Err(Error::InUse {
            image: digest,
            containers,
        });
    }
    let untagged = locked
        .index
        .names(digest)
        .filter_map(|name| name.parse().ok())
        .collect();
    locked.index.remove(digest);
    locked.save()?;
    Ok(Removed {
        untagged,
        deleted_image: Some(digest),
        ..Removed::default()
    })
}

/// Which names go: the one that was given, or all where the image itself was named.
fn names_to_take(
    locked: &LockedIndex<'_>,
    name: &str,
    image: &Image,
    names: &[String],
    force: bool,
) -> Result<Vec<String>> {
    if image::by_reference(&locked.index, name).is_some()
        && let Ok(reference) = name.parse::<Reference>()
    {
        let canonical = reference.to_string();
        if names.contains(&canonical) {
            return Ok(vec![canonical]);
        }
    }
    if names.len() > 1 && !force {
        return Err(Error::SeveralTags {
            image: image.id,
            references: names.to_vec(),
        });
    }
    Ok(names.to_vec())
}
