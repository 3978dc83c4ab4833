//! `rmi`: takes names away, and with the last one the image, its blobs and the layers nobody else
//! needs.
//!
//! The index lock is held from the decision until everything is gone: nobody can name an object
//! again in between. Whoever is about to name one (an import) holds a shared lock on it, and what is
//! held stays. Whoever runs an image holds its manifest: then the image stays.

use std::collections::HashSet;

use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::{Catalog, Image, Meant};
use crate::index::LockedIndex;
use crate::layout::Store;
use crate::needs::Root;
use crate::object::{Condemned, Object, Verdict};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::survey::{self, Uses};

/// What [`Store::remove`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The names taken away.
    pub untagged: Vec<Reference>,
    /// The ids of the images that went altogether; several if an index went.
    pub deleted_images: Vec<Digest>,
    /// The layers that went with it.
    pub deleted_layers: Vec<DiffId>,
    /// Bytes that were allocated to the blobs and layers that went.
    pub freed_bytes: u64,
}

/// What a removal takes out of the index.
struct Target {
    /// Entries' digests with the names they lose.
    untag: Vec<(Digest, Vec<String>)>,
    /// The entries that lose all their names, or have none.
    going: HashSet<Digest>,
    /// What to call it in errors.
    image: Digest,
}

impl Store {
    /// Removes a name, and with its last name an image. Named by id or digest, an image goes with
    /// its only name; with several that takes `force`, as does a name that means other platforms'
    /// images. An image that containers use stays:
    /// refused, or with `force` only untagged.
    pub fn remove(&self, name: &str, force: bool, uses: Uses<'_>) -> Result<Removed> {
        let mut locked = self.lock_index()?;
        let mut meant = self.meant(&locked.index, name)?;
        if !force && let Some(damage) = meant.root.damage.pop() {
            return Err(damage);
        }
        let catalog = self.catalog_of(&locked.index)?;
        let target = target(&catalog, &meant, name, force)?;
        let (going, staying): (Vec<&Root>, Vec<&Root>) = catalog
            .roots
            .iter()
            .partition(|root| target.going.contains(&root.digest()));
        let losing = manifests_only_in(&going, &staying);
        let mut condemned = Vec::new();
        let mut users = Vec::new();
        for (manifest, _) in &losing {
            match self.condemn(Object::Blob(*manifest))? {
                Verdict::Condemned(one) => condemned.push(one),
                Verdict::Held => users.push("another process".to_owned()),
                Verdict::Gone => {}
            }
        }
        // Asked last: with the manifests locked no container can begin any more.
        let containers = survey::ask(uses)?
            .into_iter()
            .filter(|one| losing.iter().any(|(manifest, _)| *manifest == one.manifest))
            .map(|one| one.what);
        let containers: Vec<String> = containers.collect();
        if !containers.is_empty() {
            users = containers;
        }
        if !users.is_empty() && !force {
            return Err(Error::InUse {
                image: target.image,
                containers: users,
            });
        }
        let mut removed = Removed::default();
        for (digest, names) in &target.untag {
            let parsed = names.iter().filter_map(|name| name.parse().ok());
            removed.untagged.extend(parsed);
            names
                .iter()
                .for_each(|name| locked.index.untag(*digest, name));
        }
        if users.is_empty() {
            going
                .iter()
                .for_each(|root| locked.index.remove(root.digest()));
            removed.deleted_images = losing.iter().map(|(_, id)| *id).collect();
        }
        locked.save()?;
        if users.is_empty() {
            self.delete_with(&locked, condemned, &going, &catalog, &mut removed)?;
        }
        Ok(removed)
    }

    /// Deletes what only the roots that have gone needed, beginning with what is condemned already.
    fn delete_with(
        &self,
        locked: &LockedIndex<'_>,
        condemned: Vec<Condemned>,
        gone: &[&Root],
        before: &Catalog,
        removed: &mut Removed,
    ) -> Result<()> {
        if !self.catalog_of(&locked.index)?.damage.is_empty() {
            return Ok(());
        }
        removed.freed_bytes += self.carry_out(condemned)?;
        let blobs = gone.iter().flat_map(|root| &root.blobs);
        let manifests: HashSet<Digest> = gone
            .iter()
            .flat_map(|root| root.manifests.iter())
            .map(|found| found.descriptor.digest)
            .collect();
        let images = before.images.iter();
        let laid_down = images
            .filter(|image| manifests.contains(&image.manifest))
            .flat_map(Image::laid_down);
        let objects = blobs.map(|digest| Object::Blob(*digest)).chain(laid_down);
        self.delete_unneeded(locked, objects, removed)
    }

    /// Deletes those of these objects that no image of the index needs and nobody holds.
    /// While some image cannot be read, nobody knows what it needs: then everything stays.
    pub(crate) fn delete_unneeded(
        &self,
        locked: &LockedIndex<'_>,
        objects: impl IntoIterator<Item = Object>,
        removed: &mut Removed,
    ) -> Result<()> {
        let catalog = self.catalog_of(&locked.index)?;
        if !catalog.damage.is_empty() {
            return Ok(());
        }
        let needed = catalog.needed();
        let mut seen = HashSet::new();
        let mut condemned = Vec::new();
        for object in objects {
            if needed.contains(&object) || !seen.insert(object) {
                continue;
            }
            if let Verdict::Condemned(one) = self.condemn(object)? {
                condemned.push(one);
                if let Object::Layer(layer) = object {
                    removed.deleted_layers.push(layer);
                }
            }
        }
        removed.freed_bytes += self.carry_out(condemned)?;
        Ok(())
    }
}

/// Blobs and layers as objects.
pub(crate) fn parts(blobs: &[Digest], layers: &[DiffId]) -> impl Iterator<Item = Object> {
    let blobs = blobs.iter().map(|digest| Object::Blob(*digest));
    blobs.chain(layers.iter().map(|layer| Object::Layer(*layer)))
}

/// What is taken away: the name that was given, or all names of all entries that lead to the image
/// where the image itself was named.
fn target(catalog: &Catalog, meant: &Meant, name: &str, force: bool) -> Result<Target> {
    let root = &meant.root;
    let image = match (meant.manifest, &*root.manifests) {
        (Some(manifest), _) => root.id_of(manifest),
        (None, [only]) => only.manifest.config.digest,
        (None, _) => root.digest(),
    };
    if let Some(canonical) = own_name(root, name) {
        let last = root.names.len() == 1;
        return Ok(Target {
            untag: vec![(root.digest(), vec![canonical])],
            going: last.then_some(root.digest()).into_iter().collect(),
            image,
        });
    }
    let leads_there = |one: &&Root| {
        let of = |manifest| one.manifests().any(|found| found == manifest);
        one.digest() == root.digest() || meant.manifest.is_some_and(of)
    };
    let losing: Vec<&Root> = catalog.roots.iter().filter(leads_there).collect();
    let untag: Vec<(Digest, Vec<String>)> = losing
        .iter()
        .map(|one| (one.digest(), one.names.clone()))
        .collect();
    let references: Vec<String> = untag.iter().flat_map(|(_, names)| names.clone()).collect();
    if references.len() > 1 && !force {
        return Err(Error::SeveralTags { image, references });
    }
    if let (Some(manifest), [reference], false) = (meant.manifest, &*references, force)
        && losing
            .iter()
            .any(|one| means_another(one, manifest, catalog))
    {
        let reference = reference.clone();
        return Err(Error::OnePlatform { image, reference });
    }
    Ok(Target {
        going: untag.iter().map(|(digest, _)| *digest).collect(),
        untag,
        image,
    })
}

/// Whether a root's names mean other images than this one of it: those are not to go with it unasked.
/// That which the names mean on this machine stands for all.
fn means_another(root: &Root, manifest: Digest, catalog: &Catalog) -> bool {
    if root.names.is_empty() || root.manifests.len() < 2 {
        return false;
    }
    let of = |manifest| catalog.images.iter().find(|one| one.manifest == manifest);
    let images: Vec<&Image> = root.manifests().filter_map(of).collect();
    let chosen = Platform::host().choose(images.iter().map(|image| &image.platform));
    chosen.is_none_or(|chosen| images[chosen].manifest != manifest)
}

/// One of the root's names that this is, as it is written there: with a digest that is without the tag.
fn own_name(root: &Root, name: &str) -> Option<String> {
    let name: Reference = name.parse().ok()?;
    let ways = [name.to_string(), name.without_redundant_tag().to_string()];
    ways.into_iter().find(|way| root.names.contains(way))
}

/// Manifests, with their image ids, that are in some root that goes and in none that stays.
fn manifests_only_in(going: &[&Root], staying: &[&Root]) -> Vec<(Digest, Digest)> {
    let kept: HashSet<Digest> = staying
        .iter()
        .flat_map(|root| root.manifests.iter())
        .map(|found| found.descriptor.digest)
        .collect();
    let mut seen = HashSet::new();
    let manifests = |root: &&Root| -> Vec<(Digest, Digest)> {
        if root.manifests.is_empty() {
            // Nobody can read what it is: at most an image, called by its manifest.
            return vec![(root.digest(), root.digest())];
        }
        let found = root.manifests.iter();
        found
            .map(|found| (found.descriptor.digest, found.manifest.config.digest))
            .collect()
    };
    going
        .iter()
        .flat_map(manifests)
        .filter(|(manifest, _)| !kept.contains(manifest) && seen.insert(*manifest))
        .collect()
}
