//! Healing one part, from what the store has or from where the image came.
//!
//! ```text
//! blob    inflated from another blob of the same layer    ) only the uncompressed tar of a layer,
//!         the tar of the indexed layer                    ) and only if the digest comes out right
//!         packed from the tree of the unpacked one        )
//!         fetched again
//! layer   listed again, if only the listing of its tree is damaged
//!         laid down anew and exchanged with the damaged one in one step: from its own tar if that is
//!         good, else from a good blob
//! ```
//! A layer that containers have mounted is exchanged as well: they keep the old tree, which goes
//! with the next sweep after they have ended (crate::ingest).
//!
//! `ingest/<hex>.damaged` is a blob that was moved out of the way while it is fetched again. It goes
//! when the new one is there, and back if that does not come.

use std::collections::HashSet;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::needs::Needs;
use super::{Part, Refetch, WantedBlob, check, in_words};
use crate::blob::Held;
use crate::digest::{DiffId, Digest};
use crate::dir;
use crate::error::{Context, Error, Result};
use crate::ingest::{self, Temporary};
use crate::layer::form::LayerForm;
use crate::layer::indexed::{self, TAR};
use crate::layer::inflate;
use crate::layer::listing::{LISTING, Listing};
use crate::layer::record::Laid;
use crate::layer::source::{Place, Source};
use crate::layer::unpacked::TREE;
use crate::layout::Store;
use crate::object::{Object, Verdict, merged_name};

const DAMAGED: &str = ".damaged";

pub(super) enum Outcome {
    Healed(&'static str),
    Lost(String),
    /// No image is known to need it, but not all that is needed is known.
    Unknown,
}

pub(super) struct Healer<'a> {
    pub(super) store: &'a Store,
    pub(super) needs: &'a Needs,
    pub(super) good: &'a HashSet<Part>,
    pub(super) refetch: Option<Refetch<'a>>,
}

impl Healer<'_> {
    pub(super) fn heal(&self, part: Part) -> Result<Outcome> {
        match part {
            Part::Index => Ok(Outcome::Lost("it has no copy".to_owned())),
            Part::Blob(digest) => self.blob(digest),
            Part::Layer(layer) => self.layer(layer),
            Part::Merged(chain) => self.merged(chain),
        }
    }

    fn blob(&self, digest: Digest) -> Result<Outcome> {
        let Some(need) = self.needs.blobs.get(&digest) else {
            return self.throw_away(Object::Blob(digest));
        };
        if self.inflate(digest)? {
            return Ok(Outcome::Healed("inflated from another blob of the layer"));
        }
        if let Some(how) = self.take_from_layer(digest)? {
            return Ok(Outcome::Healed(how));
        }
        let wanted = WantedBlob {
            digest,
            size: need.size,
            is_document: need.is_document,
            references: self.needs.references_of(digest),
        };
        self.fetch(&wanted)
    }

    /// Who has it mounted keeps it; the next to stack the layers makes it again.
    fn merged(&self, chain: Digest) -> Result<Outcome> {
        let (root, name) = (self.store.root_fd(), merged_name(chain));
        ingest::clear_of_directory(self.store.ingest(), root, &name)
            .on("remove", || self.store.merged_path(chain))?;
        match rustix::fs::unlinkat(root, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {
                Ok(Outcome::Healed("removed, it is made when it is needed"))
            }
            Err(errno) => Err(Error::io("remove", self.store.merged_path(chain), errno)),
        }
    }

    /// What no image needs is not healed but removed: it would only be found in the place of
    /// something good.
    fn throw_away(&self, object: Object) -> Result<Outcome> {
        if !self.needs.complete {
            return Ok(Outcome::Unknown);
        }
        let _locked = self.store.lock_index()?;
        Ok(match self.store.condemn(object)? {
            Verdict::Condemned(condemned) => {
                self.store.carry_out([condemned])?;
                Outcome::Healed("removed, since nothing needs it")
            }
            Verdict::Gone => Outcome::Healed("removed meanwhile"),
            Verdict::Held => Outcome::Lost("somebody has it in use".to_owned()),
        })
    }

    /// Makes the tar of a layer from another, compressed blob of the same layer.
    fn inflate(&self, digest: Digest) -> Result<bool> {
        let Some(layer) = self.needs.layers.get(&DiffId::from(digest)) else {
            return Ok(false);
        };
        for source in layer.blobs.iter().filter(|source| **source != digest) {
            let Some(held) = self.good_blob(*source)? else {
                continue;
            };
            let path = || self.store.blob_path(*source);
            let mut input = held.reader().on("open", path)?;
            let mut file = Temporary::file(self.store.ingest()).on("create", path)?;
            let found = inflate::copy(&mut input, &path(), file.content_mut())?;
            if found == digest {
                self.store.replace_blob(file, digest)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the tar of a layer from the layer: an indexed one has it, and packing the tree of one
    /// that was imported from a directory gives the same bytes again.
    fn take_from_layer(&self, digest: Digest) -> Result<Option<&'static str>> {
        let layer = DiffId::from(digest);
        if !self.good.contains(&Part::Layer(layer)) {
            return Ok(None);
        }
        let Some(directory) = self.store.hold_layer(layer)? else {
            return Ok(None);
        };
        let path = || self.store.blob_path(digest);
        let record = self.store.record_of(&directory, layer)?;
        if let Laid::Indexed { .. } = record.laid {
            let file = Temporary::link(self.store.ingest(), &directory, TAR).on("link", path)?;
            self.store.replace_blob(file, digest)?;
            return Ok(Some("taken from the indexed layer"));
        }
        match self.store.pack_layer(layer) {
            Ok((file, found)) if found == digest => {
                self.store.replace_blob(file, digest)?;
                Ok(Some("packed from the unpacked layer"))
            }
            // Whiteouts cannot be packed: no directory had them.
            Ok(_) | Err(Error::BadEntry { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn fetch(&self, wanted: &WantedBlob) -> Result<Outcome> {
        let Some(refetch) = self.refetch else {
            return Ok(Outcome::Lost("it cannot be fetched again".to_owned()));
        };
        let aside = SetAside::take(self.store, wanted.digest)?;
        let lost = match refetch(wanted) {
            Ok(()) if self.good_blob(wanted.digest)?.is_some() => None,
            Ok(()) => Some("it was fetched again, but is not there".to_owned()),
            Err(error) => Some(in_words(&*error)),
        };
        match lost {
            None => {
                aside.remove()?;
                Ok(Outcome::Healed("fetched again"))
            }
            Some(reason) => {
                aside.put_back()?;
                Ok(Outcome::Lost(reason))
            }
        }
    }

    /// Holds a blob if its bytes are right.
    fn good_blob(&self, digest: Digest) -> Result<Option<Held>> {
        let Some(held) = self.store.hold_blob(digest)? else {
            return Ok(None);
        };
        if self.good.contains(&Part::Blob(digest)) {
            return Ok(Some(held));
        }
        let path = || self.store.blob_path(digest);
        match indexed::hash(&held.reader().on("open", path)?) {
            Ok((found, _)) => Ok((found == digest).then_some(held)),
            Err(error) if check::tells_of_damage(&error) => Ok(None),
            Err(error) => Err(Error::io("read", path(), error)),
        }
    }

    fn layer(&self, layer: DiffId) -> Result<Outcome> {
        if self.list_again(layer)? {
            return Ok(Outcome::Healed("listed again"));
        }
        if self.index_again(layer)? {
            return Ok(Outcome::Healed("laid down again from its own tar"));
        }
        // In the form it has, if it says which.
        let record = self.store.layer_record(layer).ok();
        let form = record.as_ref().map(|record| record.laid.form());
        let form = form.unwrap_or(self.store.layer_form());
        let mut sources = Vec::new();
        if let Some(need) = self.needs.layers.get(&layer) {
            sources.extend(need.blobs.iter().copied());
        }
        sources.extend(record.map(|record| record.blob));
        for source in sources {
            let Some(held) = self.blob_for_layer(source)? else {
                continue;
            };
            let mut file = held.reader().on("open", || self.store.blob_path(source))?;
            let place = self.store.place_of_blob(source);
            let from = Source::of_blob(source, &mut file).lying_at(source, layer, place);
            self.store
                .replace_layer(layer, source, form, from, &mut |_| {})?;
            return Ok(Outcome::Healed(match form {
                LayerForm::Unpacked => "unpacked again",
                LayerForm::Indexed => "laid down again from its blob",
            }));
        }
        if self.needs.layers.contains_key(&layer) {
            return Ok(Outcome::Lost("its blob is lost".to_owned()));
        }
        self.throw_away(Object::Layer(layer))
    }

    /// A good blob to make a layer of, fetched if it was dropped.
    fn blob_for_layer(&self, digest: Digest) -> Result<Option<Held>> {
        if let Some(held) = self.good_blob(digest)? {
            return Ok(Some(held));
        }
        if !self.needs.blobs.contains_key(&digest) {
            return Ok(None);
        }
        match self.blob(digest)? {
            Outcome::Healed(_) => self.good_blob(digest),
            _ => Ok(None),
        }
    }

    /// Lays an indexed layer down anew from its own tar, if that is good.
    fn index_again(&self, layer: DiffId) -> Result<bool> {
        let Some(directory) = self.store.hold_layer(layer)? else {
            return Ok(false);
        };
        let Ok(mut tar) = indexed::open(&directory, TAR) else {
            return Ok(false);
        };
        let path = || format!("{}/{TAR}", self.store.layer_path(layer));
        match indexed::hash(&tar) {
            Ok((found, _)) if found == layer.digest() => {}
            Ok(_) => return Ok(false),
            Err(error) if check::tells_of_damage(&error) => return Ok(false),
            Err(error) => return Err(Error::io("read", path(), error)),
        }
        let blob = match self.store.record_of(&directory, layer) {
            Ok(record) => Some(record.blob),
            Err(_) => self
                .needs
                .layers
                .get(&layer)
                .and_then(|need| need.blobs.first().copied()),
        };
        // Nobody knows where it came from, and nobody needs it.
        let Some(blob) = blob else {
            return Ok(false);
        };
        let place = Place {
            directory: directory.as_fd(),
            name: TAR.to_owned(),
        };
        let from = Source::of_tar(&mut tar, Some(place));
        let form = LayerForm::Indexed;
        self.store
            .replace_layer(layer, blob, form, from, &mut |_| {})?;
        drop(directory);
        // The damaged one goes at once, unless somebody else has it.
        ingest::sweep(self.store.ingest()).on("sweep", path)?;
        Ok(true)
    }

    /// Replaces a damaged listing, if the tree still is what the record says.
    fn list_again(&self, layer: DiffId) -> Result<bool> {
        let Some(directory) = self.store.hold_layer(layer)? else {
            return Ok(false);
        };
        let Ok(record) = self.store.record_of(&directory, layer) else {
            return Ok(false);
        };
        let Laid::Unpacked { tree, .. } = record.laid else {
            return Ok(false);
        };
        if Listing::open(&directory, tree).is_ok() {
            return Ok(false);
        }
        let path = || format!("{}/{LISTING}", self.store.layer_path(layer));
        let Ok(root) = dir::open(directory.as_fd(), TREE) else {
            return Ok(false);
        };
        let temporary = Temporary::directory(self.store.ingest()).on("create", path)?;
        let listed = match Listing::write(temporary.content(), root, Default::default()) {
            Ok(listed) => listed,
            Err(Error::EntryIo { source, .. }) if check::tells_of_damage(&source) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if listed.tree != tree {
            return Ok(false);
        }
        rustix::fs::renameat(temporary.content(), LISTING, &directory, LISTING)
            .and_then(|()| rustix::fs::fsync(&directory))
            .on("replace", path)?;
        Ok(true)
    }
}

/// A blob that was moved out of the way, if there was one.
struct SetAside<'a> {
    store: &'a Store,
    digest: Digest,
    there: bool,
}

impl<'a> SetAside<'a> {
    fn take(store: &'a Store, digest: Digest) -> Result<Self> {
        let name = aside_name(digest);
        let moved = rustix::fs::renameat(store.blobs(), digest.hex(), store.ingest(), &*name);
        let there = match moved {
            Err(Errno::NOENT) => false,
            result => {
                result.on("move aside", || store.blob_path(digest))?;
                true
            }
        };
        Ok(Self {
            store,
            digest,
            there,
        })
    }

    fn remove(self) -> Result<()> {
        if !self.there {
            return Ok(());
        }
        remove_aside(self.store, self.digest)
    }

    fn put_back(self) -> Result<()> {
        match self.there {
            true => put_back(self.store, self.digest),
            false => Ok(()),
        }
    }
}

fn aside_name(digest: Digest) -> String {
    format!("{}{DAMAGED}", digest.hex())
}

/// Gives a blob its place back unless there is a new one.
fn put_back(store: &Store, digest: Digest) -> Result<()> {
    let (name, flags) = (aside_name(digest), RenameFlags::NOREPLACE);
    match rustix::fs::renameat_with(store.ingest(), &*name, store.blobs(), digest.hex(), flags) {
        Err(Errno::EXIST) => remove_aside(store, digest),
        result => result.on("put back", || store.blob_path(digest)),
    }
}

fn remove_aside(store: &Store, digest: Digest) -> Result<()> {
    let name = aside_name(digest);
    let removed = match rustix::fs::unlinkat(store.ingest(), &*name, AtFlags::empty()) {
        Err(Errno::ISDIR) => ingest::clear_of_directory(store.ingest(), store.ingest(), &name),
        removed => removed,
    };
    removed.on("remove the damaged", || store.blob_path(digest))
}

/// Puts back what a repair that was killed had moved aside.
pub(super) fn return_set_aside(store: &Store) -> Result<()> {
    let mut aside = Vec::new();
    dir::each_name(store.ingest(), |name, _| {
        let name = name
            .to_str()
            .ok()
            .and_then(|name| name.strip_suffix(DAMAGED));
        aside.extend(name.and_then(Digest::from_hex));
        Ok(())
    })
    .on("list", || store.root().join("ingest").display().to_string())?;
    aside
        .into_iter()
        .try_for_each(|digest| put_back(store, digest))
}
