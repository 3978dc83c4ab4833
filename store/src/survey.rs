//! All that is in the store at one time, with what it takes on the disk: what gc plans from and the
//! views of the cache show. No blob is read but manifests and configs, and no tree is walked: the
//! record of a layer says what was allocated for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::time::SystemTime;

use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Context, Error, Result};
use crate::image::{Catalog, Image};
use crate::layout::Store;
use crate::needs::Root;
use crate::object::{self, Measured, Object};
use crate::oci::index::Index;
use crate::oci::manifest::{Descriptor, MANIFEST};
use crate::reserve;

/// Somebody who needs an image beside the names it has: a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// What to call it.
    pub what: String,
    /// The image's manifest.
    pub manifest: Digest,
}

/// Lists the containers, whenever it is asked to: while images are being removed that is more than
/// once, since a container may come in between.
pub type Uses<'a> = &'a dyn Fn() -> io::Result<Vec<Use>>;

/// Of a store without containers.
pub fn no_uses() -> io::Result<Vec<Use>> {
    Ok(Vec::new())
}

pub(crate) fn ask(uses: Uses<'_>) -> Result<Vec<Use>> {
    uses().on("read", || "the records of the containers".to_owned())
}

/// The store at one time.
#[derive(Debug)]
pub struct Survey {
    /// The images.
    pub catalog: Catalog,
    /// Every blob, layer, merged index and partial download, whether anybody needs it or not.
    pub objects: BTreeMap<Object, Measured>,
    /// Images that containers are made of and that `index.json` does not name any more.
    pub unlisted: Vec<Image>,
    /// Bytes of the layout itself: its directories and `index.json`.
    pub overhead: u64,
    pub(crate) uses: Vec<Use>,
}

impl Store {
    /// Looks at everything.
    pub fn survey(&self, uses: Uses<'_>) -> Result<Survey> {
        self.survey_of(&self.index()?, uses)
    }

    pub(crate) fn survey_of(&self, index: &Index, uses: Uses<'_>) -> Result<Survey> {
        // The objects first: what is published later than this is in no plan.
        let mut objects = BTreeMap::new();
        for object in self.objects()? {
            match self.measure(object) {
                Ok(Some(measured)) => drop(objects.insert(object, measured)),
                // Removed since it was listed.
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        let uses = ask(uses)?;
        let mut catalog = self.catalog_of(index)?;
        let unlisted = self.unlisted(&mut catalog, index, &uses)?;
        Ok(Survey {
            catalog,
            objects,
            unlisted,
            overhead: self.overhead()?,
            uses,
        })
    }

    /// Containers' images that the index has lost, as far as they are there. They become roots.
    fn unlisted(&self, catalog: &mut Catalog, index: &Index, uses: &[Use]) -> Result<Vec<Image>> {
        let listed: HashSet<Digest> = catalog
            .roots
            .iter()
            .flat_map(|root| root.manifests())
            .collect();
        let mut unlisted: Vec<Image> = Vec::new();
        for one in uses {
            let known = unlisted.iter().any(|image| image.manifest == one.manifest);
            if known || listed.contains(&one.manifest) {
                continue;
            }
            let Some(size) = self.blob_size(one.manifest)? else {
                continue;
            };
            let entry = Descriptor::new(MANIFEST, one.manifest, size);
            unlisted.extend(catalog.add(self, self.root_of(index, &entry)));
        }
        Ok(unlisted)
    }

    fn blob_size(&self, digest: Digest) -> Result<Option<u64>> {
        let stat = object::stat(self.blobs(), digest.hex());
        let stat = stat.on("stat", || self.blob_path(digest))?;
        Ok(stat.map(|stat| u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// What an empty store would take as well.
    fn overhead(&self) -> Result<u64> {
        const PARTS: [&str; 10] = [
            ".",
            reserve::NAME,
            "oci-layout",
            "index.json",
            "mybox.json",
            "blobs",
            "blobs/sha256",
            "layers",
            "ingest",
            "images",
        ];
        let bytes = |part: &&str| -> Result<u64, Errno> {
            let stat = object::stat(self.root_fd(), *part)?;
            Ok(stat.map_or(0, |stat| object::allocated(&stat)))
        };
        let bytes = PARTS.iter().map(bytes).sum::<Result<u64, Errno>>();
        bytes.map_err(|errno| Error::io("measure", self.root().display(), errno))
    }
}

impl Survey {
    /// Bytes the store takes on the disk, without containers and volumes.
    pub fn total(&self) -> u64 {
        let objects = self.objects.values().map(|measured| measured.bytes);
        self.overhead + objects.sum::<u64>()
    }

    /// Bytes an object takes on the disk, those too that it has in common with another; none if it is
    /// not there.
    pub fn bytes(&self, object: Object) -> u64 {
        self.objects.get(&object).map_or(0, Measured::whole)
    }

    /// The images by their manifests, those too that only containers know.
    pub(crate) fn by_manifest(&self) -> HashMap<Digest, &Image> {
        let images = self.all_images();
        images.map(|image| (image.manifest, image)).collect()
    }

    /// When the entry's images were last used.
    pub(crate) fn last_use(&self, root: &Root) -> SystemTime {
        let manifests = root.manifests().map(Object::Blob);
        let used = manifests.filter_map(|manifest| self.objects.get(&manifest));
        let last = used.map(|measured| measured.used).max();
        last.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Who needs this manifest beside its names.
    pub fn users(&self, manifest: Digest) -> impl Iterator<Item = &str> {
        let uses = self.uses.iter();
        uses.filter(move |one| one.manifest == manifest)
            .map(|one| &*one.what)
    }
}
