//! Push: an image goes from the store to a registry.
//!
//! ```text
//! outgoing    name -> manifests and blobs, held
//! blobs       each distinct one, several at a time: there already, mounted from another repository
//!             of the registry, or sent
//! manifests   byte for byte as they are in the store, each after those it names; the tag last.
//!             Of an index of which one image alone is here that image's
//! ```
//! What is on the registry when a push ends early is found there by the next one.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use mybox_store::{Digest, Outgoing, OutgoingBlob, Reference, Store, WantedBlob};

use super::pull;
use crate::registry::{Client, Content, Mounted, Options, Source, Upload, Which};

/// How many blobs at a time, unless the user says otherwise.
pub const JOBS: usize = 3;

/// What is to be pushed, and where to.
pub struct PushRequest {
    /// What the image is called here.
    pub name: String,
    /// What it is to be called there: where, in which repository, under which tag.
    pub destination: Reference,
    /// How many blobs at a time.
    pub jobs: usize,
    /// How to talk to registries.
    pub registry: Options,
}

/// What a push did.
#[derive(Debug)]
pub struct Pushed {
    /// The digest of what the tag now names.
    pub digest: Digest,
    /// How many bytes that has.
    pub size: u64,
}

/// How far a push is. Told often, from several threads.
#[derive(Clone, Debug)]
pub enum PushEvent {
    /// A blob that was dropped here is fetched again from where it came.
    BringingBack {
        /// Which.
        digest: Digest,
    },
    /// The name is that of an index of which one image alone is here: that goes without it.
    OneImage {
        /// What else the index names: platforms, or digests.
        left_out: Vec<String>,
    },
    /// It is known what is to be on the registry in the end.
    Began {
        /// The blobs with their sizes.
        blobs: Vec<(Digest, u64)>,
    },
    /// Something happens to one of these blobs.
    Blob {
        /// Which, by its place in the list.
        number: usize,
        /// What.
        step: PushStep,
    },
}

/// What happens to a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushStep {
    /// The registry has it already.
    There,
    /// The registry took it from another of its repositories.
    Mounted {
        /// Which.
        from: String,
    },
    /// It is being sent.
    Sending {
        /// How many bytes are on their way or have arrived.
        bytes: u64,
    },
    /// It has arrived.
    Sent,
}

/// Who is told of a push's progress.
pub type PushWatch = Arc<dyn Fn(PushEvent) + Send + Sync>;

/// Pushes an image.
pub fn push(store: &Store, request: &PushRequest, watch: PushWatch) -> Result<Pushed> {
    let destination = &request.destination;
    let (Some(tag), None) = (destination.tag(), destination.digest()) else {
        bail!(
            "cannot push to {}: a digest is what comes of a push",
            destination.familiar()
        );
    };
    let tell = |wanted: &WantedBlob| {
        watch(PushEvent::BringingBack {
            digest: wanted.digest,
        });
    };
    pull::bring_back(store, &request.name, &request.registry, &tell)?;
    let outgoing = store.outgoing(&request.name)?;
    let client = Client::new(&request.registry)?;
    let target = client.destination(destination)?;
    let what = || format!("push {}", destination.familiar());
    if !outgoing.left_out.is_empty() {
        let left_out = outgoing.left_out.clone();
        watch(PushEvent::OneImage { left_out });
    }
    watch(PushEvent::Began {
        blobs: sizes(&outgoing),
    });
    let origins = origins(&outgoing, destination);
    let sender = Sender {
        client: &client,
        target: &target,
        origins: &origins,
        watch,
    };
    let (blobs, documents) = (outgoing.blobs, outgoing.documents);
    sender.send_all(blobs, request.jobs).with_context(what)?;
    let last = documents.len() - 1;
    for (number, document) in documents.iter().enumerate() {
        let which = match number {
            number if number == last => Which::Tag(tag),
            _ => Which::Digest(document.descriptor.digest),
        };
        let media_type = &document.descriptor.media_type;
        client
            .put_manifest(&target, &which, media_type, &document.bytes)
            .with_context(what)?;
    }
    Ok(Pushed {
        digest: documents[last].descriptor.digest,
        size: documents[last].bytes.len() as u64,
    })
}

fn sizes(outgoing: &Outgoing) -> Vec<(Digest, u64)> {
    let blobs = outgoing.blobs.iter();
    blobs
        .map(|blob| (blob.descriptor.digest, blob.descriptor.size))
        .collect()
}

/// The other repositories of the registry that have the image, by its names here.
fn origins(outgoing: &Outgoing, destination: &Reference) -> Vec<String> {
    let mut origins: Vec<String> = outgoing
        .references
        .iter()
        .filter(|name| name.registry() == destination.registry())
        .map(|name| name.repository().to_owned())
        .filter(|repository| repository != destination.repository())
        .collect();
    origins.dedup();
    origins
}

/// What all uploads of a push share.
struct Sender<'a> {
    client: &'a Client,
    target: &'a Source,
    origins: &'a [String],
    watch: PushWatch,
}

impl Sender<'_> {
    /// The first failure ends the others, each after the blob it is at.
    fn send_all(&self, blobs: Vec<OutgoingBlob>, jobs: usize) -> Result<()> {
        let blobs: Vec<Arc<OutgoingBlob>> = blobs.into_iter().map(Arc::new).collect();
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failure = Mutex::new(None);
        let work = || {
            while !failed.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(blob) = blobs.get(number) else {
                    return;
                };
                if let Err(error) = self.send(number, blob) {
                    failed.store(true, Ordering::Relaxed);
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    failure.get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, blobs.len().max(1)) {
                scope.spawn(work);
            }
        });
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        failure.map_or(Ok(()), Err)
    }

    fn send(&self, number: usize, blob: &Arc<OutgoingBlob>) -> Result<()> {
        let tell = |step| (self.watch)(PushEvent::Blob { number, step });
        let (digest, size) = (blob.descriptor.digest, blob.descriptor.size);
        if self.client.has_blob(self.target, digest)? {
            tell(PushStep::There);
            return Ok(());
        }
        for origin in self.origins {
            if self.client.mount_blob(self.target, digest, origin)? == Mounted::Yes {
                let from = origin.clone();
                tell(PushStep::Mounted { from });
                return Ok(());
            }
        }
        let content = Told {
            blob: Arc::clone(blob),
            number,
            watch: Arc::clone(&self.watch),
        };
        let upload = Upload {
            digest,
            size,
            content: Arc::new(content),
        };
        self.client.upload_blob(self.target, &upload)?;
        tell(PushStep::Sent);
        Ok(())
    }
}

/// A blob that tells how much of it was read.
struct Told {
    blob: Arc<OutgoingBlob>,
    number: usize,
    watch: PushWatch,
}

impl Content for Told {
    fn read_from(&self, from: u64) -> io::Result<Box<dyn Read + Send>> {
        let reader = self.blob.read_from(from)?;
        let (number, watch) = (self.number, Arc::clone(&self.watch));
        Ok(Box::new(Counted {
            reader,
            bytes: from,
            tell: move |bytes| {
                let step = PushStep::Sending { bytes };
                watch(PushEvent::Blob { number, step });
            },
        }))
    }
}

struct Counted<R, F> {
    reader: R,
    bytes: u64,
    tell: F,
}

impl<R: Read, F: FnMut(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.bytes += read as u64;
        (self.tell)(self.bytes);
        Ok(read)
    }
}
