//! `verify`: whether everything in the store is what it was when it was put there, and what to do
//! about what is not.
//!
//! ```text
//! index.json -> manifests, configs -> blobs     by size and digest
//!                                  -> layers    unpacked: by their listing, path by path
//!                                               indexed: by the tar's digest, and an index made anew
//!                                  -> merged indexes  by one made anew
//! ```
//! A round looks at every part once, two at a time. To repair is to heal what a round has found,
//! and to look again: at what was healed, and at what only a healed manifest names.
//!
//! What is damaged stays until its replacement is there: a blob with a wrong bit may be the last
//! copy of a lot of right ones.

mod check;
mod heal;
mod indexed;
mod needs;
mod tree;

use std::collections::{BTreeSet, HashSet};
use std::error::Error as StdError;
use std::fmt;

use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::layout::Store;
use crate::reference::Reference;
use heal::{Healer, Outcome};
use needs::Needs;

/// What is looked at. Blobs come before layers, which are made from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `index.json`.
    Index,
    /// A manifest, a config or a layer's blob.
    Blob(Digest),
    /// A layer.
    Layer(DiffId),
    /// The merged index of an image's layers, by their chain id.
    Merged(Digest),
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index => write!(formatter, "index.json"),
            Self::Blob(digest) => write!(formatter, "blob {digest}"),
            Self::Layer(layer) => write!(formatter, "layer {layer}"),
            Self::Merged(chain) => write!(formatter, "merged index {chain}"),
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Where.
    pub part: Part,
    /// Where in the layer, escaped for display.
    pub path: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// The images that need the part: references, or digests of manifests without one.
    pub images: Vec<String>,
}

/// What happens while the store is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyEvent {
    /// Something is wrong. An part can have several such things.
    Damaged(Flaw),
    /// An part is as it was again; it is looked at once more.
    Repaired {
        /// Which.
        part: Part,
        /// How.
        how: &'static str,
    },
    /// An part cannot be repaired.
    Lost {
        /// Which.
        part: Part,
        /// Why not.
        reason: String,
        /// The images that need it.
        images: Vec<String>,
    },
}

/// A blob that has to come from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBlob {
    /// Which.
    pub digest: Digest,
    /// How long it is, if anything says so.
    pub size: Option<u64>,
    /// Whether it is a manifest or an index, which registries keep apart from other blobs.
    pub is_document: bool,
    /// The names of the images that need it.
    pub references: Vec<Reference>,
}

/// Puts a blob into the store again, from wherever the images came.
pub type Refetch<'a> =
    &'a dyn Fn(&WantedBlob) -> std::result::Result<(), Box<dyn StdError + Send + Sync>>;

/// What is verified, and what is done about damage.
#[derive(Clone, Copy, Default)]
pub struct VerifyOptions<'a> {
    /// The images; everything in the store if there are none.
    pub images: &'a [String],
    /// Whether to repair.
    pub repair: bool,
    /// Where blobs come from that the store itself cannot replace.
    pub refetch: Option<Refetch<'a>>,
}

/// What was looked at, and the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Images, by their entries in the index.
    pub images: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Names in them.
    pub entries: u64,
    /// Parts with damage.
    pub damaged: u64,
    /// Of these: healed.
    pub repaired: u64,
    /// Of these: tried to heal, in vain.
    pub lost: u64,
}

impl Store {
    /// Looks at everything in the store, or at all that some images need; with `repair`, heals
    /// what can be healed. Told is each damage, and what became of it.
    ///
    /// An error is a failure to look. Flaw is no error.
    pub fn verify(
        &self,
        options: &VerifyOptions<'_>,
        report: &mut dyn FnMut(VerifyEvent),
    ) -> Result<Verified> {
        if options.repair {
            heal::return_set_aside(self)?;
        }
        let mut rounds = Rounds::default();
        while rounds.round(self, options, report)? {}
        Ok(rounds.verified)
    }
}

/// What is known from the rounds so far.
#[derive(Default)]
struct Rounds {
    good: HashSet<Part>,
    damaged: HashSet<Part>,
    healed: HashSet<Part>,
    lost: HashSet<Part>,
    verified: Verified,
}

impl Rounds {
    /// Looks at what is not known yet; whether another round may find more.
    fn round(
        &mut self,
        store: &Store,
        options: &VerifyOptions<'_>,
        report: &mut dyn FnMut(VerifyEvent),
    ) -> Result<bool> {
        let needs = match Needs::of(store, options.images) {
            Ok(needs) => needs,
            Err(error @ Error::Json { .. }) => {
                self.index_is_damaged(&error, options.repair, report);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        self.verified.images = needs.images.len() as u64;
        let known = |part: &Part| self.good.contains(part) || self.lost.contains(part);
        let mut parts: BTreeSet<Part> = needs.parts();
        if options.images.is_empty() {
            parts.extend(check::everything(store)?);
        }
        parts.retain(|part| !known(part));
        let mut damaged = BTreeSet::new();
        for wrong in &needs.wrong {
            if parts.contains(&wrong.part) && damaged.insert(wrong.part) {
                report(VerifyEvent::Damaged(wrong.clone()));
            }
        }
        let looked_at = check::check(store, &needs, &parts, &mut |damage| {
            damaged.insert(damage.part);
            report(VerifyEvent::Damaged(damage));
        })?;
        self.count(&looked_at);
        self.good.extend(parts.difference(&damaged).copied());
        self.damaged.extend(&damaged);
        self.verified.damaged = self.damaged.len() as u64;
        if !options.repair {
            return Ok(false);
        }
        let healer = Healer {
            store,
            needs: &needs,
            good: &self.good,
            refetch: options.refetch,
        };
        let mut outcomes = Vec::new();
        for part in damaged {
            let outcome = if self.healed.contains(&part) {
                Outcome::Lost("it is damaged again".to_owned())
            } else {
                healer.heal(part)?
            };
            outcomes.push((part, outcome));
        }
        Ok(self.conclude(&needs, outcomes, report))
    }

    /// Tells what became of what was damaged; whether anything was healed.
    fn conclude(
        &mut self,
        needs: &Needs,
        outcomes: Vec<(Part, Outcome)>,
        report: &mut dyn FnMut(VerifyEvent),
    ) -> bool {
        let is_healed = |(_, outcome): &(Part, Outcome)| matches!(outcome, Outcome::Healed(_));
        let again = outcomes.iter().any(is_healed);
        for (part, outcome) in outcomes {
            let reason = match outcome {
                Outcome::Healed(how) => {
                    self.healed.insert(part);
                    report(VerifyEvent::Repaired { part, how });
                    continue;
                }
                // The next round may tell who needs it.
                Outcome::Unknown if again => continue,
                Outcome::Unknown => {
                    "as long as an image cannot be read nobody knows who needs it".to_owned()
                }
                Outcome::Lost(reason) => reason,
            };
            self.healed.remove(&part);
            self.lost.insert(part);
            report(VerifyEvent::Lost {
                part,
                reason,
                images: needs.images_of(part),
            });
        }
        self.verified.repaired = self.healed.len() as u64;
        self.verified.lost = self.lost.len() as u64;
        again
    }

    fn count(&mut self, looked_at: &[(Part, check::Size)]) {
        for (part, size) in looked_at {
            if self.damaged.contains(part) {
                continue; // counted in the round that found it damaged
            }
            match part {
                Part::Index | Part::Merged(_) => {}
                Part::Blob(_) => {
                    self.verified.blobs += 1;
                    self.verified.blob_bytes += size.bytes;
                }
                Part::Layer(_) => {
                    self.verified.layers += 1;
                    self.verified.entries += size.entries;
                }
            }
        }
    }

    /// Without the index nobody knows what is needed: nothing else is touched.
    fn index_is_damaged(
        &mut self,
        error: &Error,
        repair: bool,
        report: &mut dyn FnMut(VerifyEvent),
    ) {
        self.verified.damaged = 1;
        report(VerifyEvent::Damaged(Flaw {
            part: Part::Index,
            path: None,
            problem: in_words(error),
            images: Vec::new(),
        }));
        if repair {
            self.verified.lost = 1;
            report(VerifyEvent::Lost {
                part: Part::Index,
                reason: "the names of images are nowhere else".to_owned(),
                images: Vec::new(),
            });
        }
    }
}

/// An error with its causes, on one line.
fn in_words(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
