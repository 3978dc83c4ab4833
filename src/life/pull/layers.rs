//! The blobs of an image, several at a time: each is there, or is fetched and unpacked while it
//! arrives. The first failure ends the others.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use anyhow::{Context, Result, bail};
use mybox_store::{
    Arrival, Descriptor, DiffId, Digest, Held, HeldLayer, LayerStep, Partial, Store,
};

use super::download::{Download, Downloaded, Flag};
use super::resolve::Resolved;
use super::{Event, Kept, LayerEvent, Watch};
use crate::kernel::process::step_back;
use crate::registry::{self, Client, Source};

/// A blob that is wanted, and the layer that is to be made of it.
pub(super) struct Task {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) layer: Option<DiffId>,
    /// Of a layer that registries need not have: where else it is said to be.
    elsewhere: Option<String>,
}

/// The distinct blobs, in the order of the images' layers.
pub(super) fn tasks(resolved: &Resolved) -> Result<Vec<Task>> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut known: HashMap<Digest, usize> = HashMap::new();
    let mut add = |blob: &Descriptor, layer| -> Result<()> {
        let (digest, size) = (blob.digest, blob.size);
        let Some(&number) = known.get(&digest) else {
            known.insert(digest, tasks.len());
            tasks.push(Task {
                digest,
                size,
                layer,
                elsewhere: elsewhere(blob),
            });
            return Ok(());
        };
        let same = &mut tasks[number];
        let contradicts = |one: Option<DiffId>, other: Option<DiffId>| {
            one.zip(other).is_some_and(|(one, other)| one != other)
        };
        if same.size != size || contradicts(same.layer, layer) {
            bail!("the image says contradictory things of its layer {digest}");
        }
        same.layer = same.layer.or(layer);
        Ok(())
    };
    for image in &resolved.images {
        for (blob, layer) in image
            .manifest
            .layers
            .iter()
            .zip(&image.config.rootfs.diff_ids)
        {
            add(blob, Some(*layer))?;
        }
    }
    for manifest in &resolved.attachments {
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            add(blob, None)?;
        }
    }
    Ok(tasks)
}

fn elsewhere(blob: &Descriptor) -> Option<String> {
    blob.need_not_be_distributed()
        .then(|| match blob.urls().join(", ") {
            none if none.is_empty() => "and it names no other place".to_owned(),
            places => format!("only {places}"),
        })
}

/// The numbers of the tasks, the largest first: else a large one that comes late is waited for by itself.
fn in_order(tasks: &[Task]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_by_key(|&number| std::cmp::Reverse(tasks[number].size));
    order
}

/// What all downloads of a pull share.
pub(super) struct Fetcher<'a> {
    pub(super) store: &'a Store,
    pub(super) client: &'a Client,
    pub(super) source: &'a Source,
    pub(super) watch: Watch<'a>,
    /// Blobs that nobody needs, since their layers are there.
    pub(super) dispensable: HashSet<Digest>,
}

/// One task in progress.
struct Work<'a> {
    fetcher: &'a Fetcher<'a>,
    number: usize,
    task: &'a Task,
    /// Up when another task has failed.
    stop: &'a Flag,
}

/// A blob that is there, its layer if it has one, and what came over the network for it.
struct Arrived {
    /// None where the layer alone will do.
    blob: Option<Held>,
    layer: Option<HeldLayer>,
    fetched: u64,
}

/// How fetching and unpacking a blob ended, when nothing else failed.
enum Fetched {
    Whole(Box<Arrived>),
    /// It has another digest.
    Wrong(mybox_store::Error),
}

impl Fetcher<'_> {
    pub(super) fn fetch_all(&self, tasks: &[Task], jobs: usize) -> Result<Kept> {
        let order = in_order(tasks);
        let next = AtomicUsize::new(0);
        let stop = Flag::default();
        let outcome: Mutex<Result<Kept>> = Mutex::new(Ok(Kept::default()));
        let lock = || outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let work = || {
            let mut steps_back = false;
            while !stop.is_up() {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(&number) = order.get(place) else {
                    return;
                };
                // In the end it is the largest that is waited for: the others take the time it leaves.
                if place > 0 && !steps_back {
                    step_back();
                    steps_back = true;
                }
                let task = &tasks[number];
                let work = Work {
                    fetcher: self,
                    number,
                    task,
                    stop: &stop,
                };
                let arrived = work.run().map_err(|error| work.explained(error));
                let mut outcome = lock();
                match (arrived, &mut *outcome) {
                    (Ok(arrived), Ok(kept)) => kept.add(arrived),
                    (Err(error), Ok(_)) => {
                        stop.raise();
                        *outcome = Err(error);
                    }
                    // The first failure is the one that is reported.
                    (_, Err(_)) => {}
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, tasks.len().max(1)) {
                scope.spawn(work);
            }
        });
        outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, arrived: Arrived) {
        self.blobs.extend(arrived.blob);
        self.layers.extend(arrived.layer);
        self.fetched += arrived.fetched;
    }
}

impl Work<'_> {
    fn tell(&self, step: LayerEvent) {
        (self.fetcher.watch)(Event::Layer {
            number: self.number,
            step,
        });
    }

    /// Why the registry has no such blob, if that is to be expected.
    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let (digest, cause) = (self.task.digest, error.downcast_ref());
        match (&self.task.elsewhere, cause) {
            (Some(places), Some(registry::Error::NotFound { .. })) => error.context(format!(
                "its layer {digest} is non-distributable: registries need not have it, {places}"
            )),
            _ => error,
        }
    }

    fn run(&self) -> Result<Arrived> {
        if let Some(arrived) = self.dispensed()? {
            return Ok(arrived);
        }
        let mut is_second_try = false;
        loop {
            let partial = match self.expect()? {
                Arrival::There(blob) => return self.unpack_stored(blob),
                Arrival::Missing(partial) => *partial,
            };
            // What an earlier process left may have suffered, as from a power cut: then once more,
            // from the beginning.
            let worth_another = partial.resumed() > 0 && !is_second_try;
            match self.fetch(partial)? {
                Fetched::Whole(arrived) => return Ok(*arrived),
                Fetched::Wrong(error) if worth_another => {
                    is_second_try = true;
                    let reason = error.to_string();
                    self.tell(LayerEvent::Retrying { reason });
                }
                Fetched::Wrong(error) => return Err(error.into()),
            }
        }
    }

    /// The layer alone, if it will do.
    fn dispensed(&self) -> Result<Option<Arrived>> {
        let dispensable = &self.fetcher.dispensable;
        let layer = self
            .task
            .layer
            .filter(|_| dispensable.contains(&self.task.digest));
        let Some(layer) = layer else {
            return Ok(None);
        };
        let held = self.fetcher.store.hold_laid_down(layer)?;
        Ok(held.map(|held| {
            self.tell(LayerEvent::There);
            Arrived {
                blob: None,
                layer: Some(held),
                fetched: 0,
            }
        }))
    }

    /// Finds the blob, or takes on to fetch it; waits for whoever fetches it now.
    fn expect(&self) -> Result<Arrival> {
        let Task { digest, size, .. } = *self.task;
        self.fetcher.store.expect_blob(digest, size, |bytes| {
            if self.stop.is_up() {
                bail!("given up");
            }
            self.tell(LayerEvent::FetchedElsewhere { bytes });
            Ok(())
        })
    }

    /// The blob is in the store; the tree may be.
    fn unpack_stored(&self, blob: Held) -> Result<Arrived> {
        let mut made = false;
        let layer = self.task.layer.map(|layer| {
            if let Some(held) = self.fetcher.store.hold_laid_down(layer)? {
                return Ok(held);
            }
            made = true;
            self.unpack(layer, &mut blob.reader()?)
        });
        let layer = layer.transpose()?;
        self.tell(if made {
            LayerEvent::Done
        } else {
            LayerEvent::There
        });
        Ok(Arrived {
            blob: Some(blob),
            layer,
            fetched: 0,
        })
    }

    /// Downloads in this thread and unpacks in another, which reads what is there.
    fn fetch(&self, partial: Partial) -> Result<Fetched> {
        if partial.resumed() > 0 {
            let from = partial.resumed();
            self.tell(LayerEvent::Resumed { from });
        }
        let unpack_failed = Flag::default();
        std::thread::scope(|scope| {
            let unpacking = self.task.layer.map(|layer| {
                let mut follower = partial.follow();
                let unpack_failed = &unpack_failed;
                scope.spawn(move || {
                    self.unpack(layer, &mut follower)
                        .inspect_err(|_| unpack_failed.raise())
                })
            });
            let download = Download {
                client: self.fetcher.client,
                source: self.fetcher.source,
                digest: self.task.digest,
                stop: &|| self.stop.is_up() || unpack_failed.is_up(),
                tell: &|step| self.tell(step),
            };
            let blob = download.finish(partial);
            let unpacked = unpacking.map(join);
            match blob? {
                Downloaded::Whole { blob, fetched } => {
                    let layer = unpacked.transpose()?;
                    self.tell(LayerEvent::Done);
                    Ok(Fetched::Whole(Box::new(Arrived {
                        blob: Some(blob),
                        layer,
                        fetched,
                    })))
                }
                Downloaded::Wrong(error) => Ok(Fetched::Wrong(error)),
                Downloaded::Stopped => match unpacked {
                    Some(Err(cause)) if unpack_failed.is_up() => Err(cause),
                    _ => bail!("given up"),
                },
            }
        })
    }

    fn unpack(&self, layer: DiffId, source: &mut (dyn Read + Send)) -> Result<HeldLayer> {
        let digest = self.task.digest;
        let mut told = Told {
            inner: source,
            bytes: 0,
            tell: &|bytes| self.tell(LayerEvent::Unpacking { bytes }),
        };
        let progress = &mut |step| match step {
            LayerStep::Waiting => self.tell(LayerEvent::UnpackedElsewhere),
            LayerStep::Flushing => self.tell(LayerEvent::Flushing),
            // The blob's own bytes say it better.
            _ => {}
        };
        self.fetcher
            .store
            .receive_layer(layer, digest, &mut told, progress)
            .with_context(|| format!("unpack layer {digest}"))
    }
}

/// What a thread came to.
pub(super) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A reader that tells how far it is.
struct Told<'a> {
    inner: &'a mut (dyn Read + Send),
    bytes: u64,
    tell: &'a (dyn Fn(u64) + Sync),
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        (self.tell)(self.bytes);
        Ok(read)
    }
}
