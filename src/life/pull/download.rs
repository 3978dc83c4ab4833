//! One blob over the network: from where it stopped, again after each interruption.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use mybox_store::{Descriptor, Digest, Held, Partial};

use super::LayerEvent;
use crate::registry::{Client, Source};

const BUFFER: usize = 128 << 10;
/// Connections in a row that bring nothing before the download is given up.
const FRUITLESS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A blob to be fetched.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) source: &'a Source,
    pub(super) digest: Digest,
    /// Whether it is to end early.
    pub(super) stop: &'a dyn Fn() -> bool,
    pub(super) tell: &'a dyn Fn(LayerEvent),
}

/// Why one connection's stretch came to an end.
enum Ended {
    /// The network: worth another connection.
    Cut(anyhow::Error),
    /// Something else: no connection will mend it.
    Other(anyhow::Error),
}

/// How a download ended, when nothing else failed.
pub(super) enum Downloaded {
    Whole {
        blob: Held,
        fetched: u64,
    },
    /// It has another digest.
    Wrong(mybox_store::Error),
    /// It was ended early.
    Stopped,
}

impl Download<'_> {
    /// Fetches what is missing, and publishes the blob. Consumes the partial download: what becomes
    /// of it, those who read along are told by that.
    pub(super) fn finish(&self, mut partial: Partial) -> Result<Downloaded> {
        let Some(fetched) = self.complete(&mut partial)? else {
            return Ok(Downloaded::Stopped);
        };
        match partial.finish() {
            Ok(blob) => Ok(Downloaded::Whole { blob, fetched }),
            Err(error @ mybox_store::Error::Mismatch { .. }) => Ok(Downloaded::Wrong(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Fetches what is missing; how many bytes came, or `None` if it was ended early.
    fn complete(&self, partial: &mut Partial) -> Result<Option<u64>> {
        let first = partial.have();
        let mut fruitless = 0;
        while partial.have() < partial.size() {
            let before = partial.have();
            let ended = self.stretch(partial);
            if partial.have() == partial.size() {
                break;
            }
            if (self.stop)() {
                return Ok(None);
            }
            let error = match ended {
                // Not the connection's fault: the bytes do not fit, or the disk is full.
                Err(Ended::Other(error)) => return Err(error),
                Err(Ended::Cut(error)) => error,
                Ok(()) => anyhow!("the connection ended early"),
            };
            let brought_nothing = partial.have() == before;
            fruitless = if brought_nothing { fruitless + 1 } else { 0 };
            if fruitless == FRUITLESS {
                return Err(error.context(self.so_far(partial)));
            }
            let reason = format!("{error:#}");
            (self.tell)(LayerEvent::Retrying { reason });
            pause(fruitless, self.stop);
        }
        Ok(Some(partial.size() - first))
    }

    /// Reads from one connection as much as it gives.
    fn stretch(&self, partial: &mut Partial) -> Result<(), Ended> {
        let (digest, have) = (self.digest, partial.have());
        // The client has tried more than once already.
        let mut stream = self
            .client
            .blob(self.source, digest, have)
            .map_err(|error| Ended::Other(error.into()))?;
        let begins = stream.offset();
        // A server may begin before the place it was asked for, mostly at the beginning.
        let Some(mut skip) = have.checked_sub(begins) else {
            return Err(Ended::Other(anyhow!(
                "blob {digest}: the registry begins at byte {begins} where {have} was asked for"
            )));
        };
        let mut buffer = vec![0; BUFFER];
        while !(self.stop)() {
            let read = match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let error = anyhow::Error::from(error).context(format!("read blob {digest}"));
                    return Err(Ended::Cut(error));
                }
            };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(read);
            skip -= known as u64;
            if known < read {
                let new = partial.write(&buffer[known..read]);
                new.map_err(|error| Ended::Other(error.into()))?;
                let bytes = partial.have();
                (self.tell)(LayerEvent::Downloading { bytes });
            }
        }
        Ok(())
    }

    fn so_far(&self, partial: &Partial) -> String {
        let (digest, have, size) = (self.digest, partial.have(), partial.size());
        format!("fetch blob {digest}: {have} of {size} bytes came; the next pull goes on there")
    }
}

/// Waits a little longer each time, and not at all once it is to stop.
fn pause(fruitless: u32, stop: &dyn Fn() -> bool) {
    const SLICE: Duration = Duration::from_millis(50);
    let mut left = FIRST_PAUSE * 2_u32.pow(fruitless.min(FRUITLESS));
    while !left.is_zero() && !stop() {
        std::thread::sleep(SLICE.min(left));
        left = left.saturating_sub(SLICE);
    }
}

/// Fetches a blob that is small into memory; its reader checks it.
pub(super) fn small(
    client: &Client,
    source: &Source,
    descriptor: &Descriptor,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    let digest = descriptor.digest;
    for attempt in 0.. {
        bytes.clear();
        let stream = client.blob(source, digest, 0)?;
        // One byte more than announced tells that there is too much.
        match stream.take(descriptor.size + 1).read_to_end(bytes) {
            Ok(_) if bytes.len() as u64 >= descriptor.size => break,
            Ok(_) if attempt == FRUITLESS => {
                bail!(
                    "blob {digest}: {} of {} bytes came",
                    bytes.len(),
                    descriptor.size
                )
            }
            Err(error) if attempt == FRUITLESS => {
                return Err(error).with_context(|| format!("read blob {digest}"));
            }
            _ => pause(attempt, &|| false),
        }
    }
    Ok(())
}

/// A flag that several threads may raise.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
