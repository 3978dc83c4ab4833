//! Why something is in the store: who needs a blob or a layer, or that nobody does.

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::gc::{GcOptions, WhyGone};
use crate::image::Image;
use crate::layout::Store;
use crate::merged;
use crate::needs::Root;
use crate::object::{Measured, Object};
use crate::survey::{Survey, Uses};

/// All that keeps an object.
#[derive(Debug)]
pub struct Why {
    /// What was asked about.
    pub object: Object,
    /// What it is on the disk; `None` where it is needed and not there.
    pub measured: Option<Measured>,
    /// The entries of the index that lead to it.
    pub reasons: Vec<Reason>,
    /// Whether a process has it in use: a pull, a save, a container that runs.
    pub held: bool,
    /// Why a collection would remove it now, if it would.
    pub doomed: Option<WhyGone>,
}

/// An entry of the index that leads to an object.
#[derive(Debug)]
pub struct Reason {
    /// The digest of the entry.
    pub entry: Digest,
    /// Its names, as they are written.
    pub names: Vec<String>,
    /// What the object is to it.
    pub role: Role,
    /// Whether one of its names is pinned.
    pub pinned: bool,
    /// Containers made of the images in it that have the object.
    pub containers: BTreeSet<String>,
}

/// What an object is to an entry of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The index, or an index within it.
    Index,
    /// An image's manifest.
    Manifest,
    /// An image's config.
    Config,
    /// A layer, as a blob or unpacked.
    Layer {
        /// Which, counted from 1 at the base.
        number: usize,
        /// Of how many.
        of: usize,
    },
    /// The merged index of its layers.
    Merged,
    /// A part of something that is no image.
    Part,
}

impl Store {
    /// What keeps the blob, layer or download with this digest, or whose digest begins like this,
    /// with or without `sha256:`. The name of an image means its manifest. One digest may be that of
    /// a blob and of a layer: then both are told.
    pub fn why(&self, name: &str, uses: Uses<'_>, options: &GcOptions) -> Result<Vec<Why>> {
        let (plan, survey) = self.gc_plan(uses, options)?;
        let digest = match survey.digest_of(name)? {
            Some(digest) => digest,
            None => match self.find(name) {
                Ok(image) => image.manifest,
                Err(Error::NoSuchImage { name }) => return Err(Error::NoSuchObject { name }),
                Err(error) => return Err(error),
            },
        };
        // Probing locks is for whoever has this one.
        let _locked = self.lock_index()?;
        let candidates = [
            Object::Blob(digest),
            Object::Layer(digest.into()),
            Object::Merged(digest),
            Object::Partial(digest),
        ];
        let mut answers = Vec::new();
        for object in candidates {
            let measured = survey.objects.get(&object).copied();
            let reasons = survey.reasons(object);
            let needed =
                !reasons.is_empty() && matches!(object, Object::Blob(_) | Object::Layer(_));
            if measured.is_none() && !needed {
                continue;
            }
            let mut doomed = plan.objects.iter();
            answers.push(Why {
                object,
                measured,
                reasons,
                held: self.is_held(object)?,
                doomed: doomed
                    .find(|one| one.object == object)
                    .map(|one| one.why.clone()),
            });
        }
        Ok(answers)
    }
}

impl Survey {
    /// The one digest of a blob, layer or download that begins so.
    fn digest_of(&self, name: &str) -> Result<Option<Digest>> {
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        if prefix.is_empty() {
            return Ok(None);
        }
        let needed = self.catalog.needed();
        let known = self.objects.keys().chain(&needed).map(Object::digest);
        let found: BTreeSet<Digest> = known
            .filter(|digest| digest.hex().starts_with(prefix))
            .collect();
        if found.len() > 1 {
            return Err(Error::Ambiguous {
                prefix: name.to_owned(),
                matches: found.into_iter().collect(),
            });
        }
        Ok(found.into_iter().next())
    }

    fn reasons(&self, object: Object) -> Vec<Reason> {
        let roots = self.catalog.roots.iter();
        roots.filter_map(|root| self.reason(root, object)).collect()
    }

    fn reason(&self, root: &Root, object: Object) -> Option<Reason> {
        let images = self.all_images();
        let images = images.filter(|image| root.manifests().any(|one| one == image.manifest));
        let (mut role, mut containers) = (None, BTreeSet::new());
        for image in images {
            if let Some(found) = image.role_of(object) {
                role.get_or_insert(found);
                containers.extend(self.users(image.manifest).map(str::to_owned));
            }
        }
        let role = role.or_else(|| root.role_of(object))?;
        Some(Reason {
            entry: root.digest(),
            names: root.names.clone(),
            role,
            pinned: root.pinned,
            containers,
        })
    }
}

impl Root {
    /// What a blob is to an entry, where it is part of no image that can be read.
    fn role_of(&self, object: Object) -> Option<Role> {
        let Object::Blob(digest) = object else {
            return None;
        };
        if !self.blobs.contains(&digest) {
            return None;
        }
        let is_index = self.entry.is_index() && self.aliases.contains(&digest);
        Some(if is_index { Role::Index } else { Role::Part })
    }
}

impl Image {
    fn role_of(&self, object: Object) -> Option<Role> {
        let of = self.layers.len();
        let layer = |number: usize| Role::Layer {
            number: number + 1,
            of,
        };
        match object {
            Object::Blob(digest) if digest == self.manifest => Some(Role::Manifest),
            Object::Blob(digest) if digest == self.id => Some(Role::Config),
            // A download is the blob that it will be.
            Object::Blob(digest) | Object::Partial(digest) => {
                let mut blobs = self.blobs.iter();
                blobs.position(|blob| blob.digest == digest).map(layer)
            }
            Object::Merged(chain) => {
                (merged::merged_of(&self.layers) == Some(chain)).then_some(Role::Merged)
            }
            Object::Layer(diff_id) => {
                let mut layers = self.layers.iter();
                layers.position(|one| *one == diff_id).map(layer)
            }
        }
    }
}
