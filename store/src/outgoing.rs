//! Images on their way out, to a registry or an archive: everything that a name leads to, held.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};

use serde::Deserialize;

use crate::blob::Held;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layout::Store;
use crate::oci::index::Index;
use crate::oci::manifest::Descriptor;
use crate::reference::Reference;

/// Indexes within indexes, at most; as many as are found by any other walk.
const DEEPEST: usize = 8;

/// An image, or an index with all its images, that nobody removes while this lives.
pub struct Outgoing {
    /// Manifests and indexes, each after those it names; the last is what the name names.
    pub documents: Vec<OutgoingDocument>,
    /// Configs and layers, each once, in the order of the manifests.
    pub blobs: Vec<OutgoingBlob>,
    /// All names of what the name names.
    pub references: Vec<Reference>,
    /// What an index names that is not here: the platforms, or digests of what is for none. Then its only
    /// image that is here goes without it.
    pub left_out: Vec<String>,
}

/// A manifest or an index.
#[derive(Debug)]
pub struct OutgoingDocument {
    /// What it is called by what names it.
    pub descriptor: Descriptor,
    /// The very bytes.
    pub bytes: Vec<u8>,
}

/// A config or a layer.
pub struct OutgoingBlob {
    /// What it is called by its manifest.
    pub descriptor: Descriptor,
    held: Held,
}

impl OutgoingBlob {
    /// The bytes from `from` on. Nobody has checked them.
    pub fn read_from(&self, from: u64) -> io::Result<impl Read + Send + use<>> {
        let mut file = self.held.reader()?;
        file.seek(SeekFrom::Start(from))?;
        Ok(file)
    }
}

/// As much of a document as says what it leads to. Artifacts that are no images have the same
/// fields.
#[derive(Deserialize)]
struct Leads {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    /// OCI's short-lived artifact manifest.
    #[serde(default)]
    blobs: Vec<Descriptor>,
}

impl Store {
    /// Everything that a name leads to. An index of which one image alone is here, as `load` can bring
    /// it, stays behind. Where several are here and others are not that is an error: nobody has use for half.
    pub fn outgoing(&self, name: &str) -> Result<Outgoing> {
        self.read_along(|index| self.outgoing_of(index, name))
    }

    fn outgoing_of(&self, index: &Index, name: &str) -> Result<Outgoing> {
        let meant = self.meant(index, name)?;
        let mut references: Vec<Reference> = meant
            .root
            .names
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        references.sort();
        let named = match meant.manifest {
            Some(manifest) => {
                let mut images = meant.root.manifests.iter();
                images.find(|found| found.descriptor.digest == manifest)
            }
            None => None,
        };
        let named = named.map_or(&meant.root.entry, |found| &found.descriptor);
        let mut packing = Packing::of(self);
        packing.document(named, 0)?;
        let missing = std::mem::take(&mut packing.missing);
        if !missing.is_empty() {
            let [only] = &*meant.root.manifests else {
                let name = name.to_owned();
                return Err(Error::PartOfIndex { name, missing });
            };
            packing = Packing::of(self);
            packing.document(&only.descriptor, 0)?;
        }
        Ok(Outgoing {
            documents: packing.documents,
            blobs: packing.blobs,
            references,
            left_out: missing,
        })
    }
}

struct Packing<'a> {
    store: &'a Store,
    seen: HashSet<Digest>,
    documents: Vec<OutgoingDocument>,
    blobs: Vec<OutgoingBlob>,
    /// What indexes name that is not here.
    missing: Vec<String>,
}

impl<'a> Packing<'a> {
    fn of(store: &'a Store) -> Self {
        Self {
            store,
            seen: HashSet::new(),
            documents: Vec::new(),
            blobs: Vec::new(),
            missing: Vec::new(),
        }
    }

    fn document(&mut self, descriptor: &Descriptor, depth: usize) -> Result<()> {
        let digest = descriptor.digest;
        if !self.seen.insert(digest) {
            return Ok(());
        }
        if depth > DEEPEST {
            let reason = format!("indexes are nested deeper than {DEEPEST}");
            return Err(Error::damaged(digest, reason));
        }
        let bytes = self.store.read_blob(digest)?;
        let leads: Leads =
            serde_json::from_slice(&bytes).map_err(|error| Error::json(digest, error))?;
        for child in &leads.manifests {
            match self.document(child, depth + 1) {
                Err(error) if error.is_not_found() => self.missing.push(called(child)),
                packed => packed?,
            }
        }
        let blobs = leads.config.iter().chain(&leads.layers).chain(&leads.blobs);
        for blob in blobs {
            self.blob(blob)?;
        }
        self.documents.push(OutgoingDocument {
            descriptor: descriptor.clone(),
            bytes,
        });
        Ok(())
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<()> {
        if !self.seen.insert(descriptor.digest) {
            return Ok(());
        }
        let path = || self.store.blob_path(descriptor.digest);
        let held = self.store.hold_blob(descriptor.digest)?;
        let held = held.ok_or_else(|| Error::damaged(path(), "it is not there"))?;
        self.blobs.push(OutgoingBlob {
            descriptor: descriptor.clone(),
            held,
        });
        Ok(())
    }
}

/// What one of an index's is called: its platform, where it has one.
fn called(child: &Descriptor) -> String {
    match child.platform() {
        Some(platform) if platform.os != "unknown" => platform.to_string(),
        _ => child.digest.to_string(),
    }
}
