//! One blob over the network: from where it stopped, again after each interruption.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mybox_store::{Descriptor, Digest, Partial};

use super::LayerEvent;
use crate::registry::{Client, Source};

const BUFFER: usize = 128 << 10;
/// Connections in a row that bring nothing before the download is given up.
const FRUITLESS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Fetches what is missing of a blob; how many bytes came, or `None` if `stop` ended it early.
pub(super) fn download(
    client: &Client,
    source: &Source,
    digest: Digest,
    partial: &mut Partial,
    stop: &dyn Fn() -> bool,
    tell: &dyn Fn(LayerEvent),
) -> Result<Option<u64>> {
    let first = partial.have();
    let mut fruitless = 0;
    while partial.have() < partial.size() {
        let before = partial.have();
        match stretch(client, source, digest, partial, stop, tell) {
            Ok(()) if partial.have() == partial.size() => break,
            ended => {
                if stop() {
                    return Ok(None);
                }
                let error = match ended {
                    // Not the connection's fault: the bytes do not fit, or the disk is full.
                    Err(Ended::Other(error)) => return Err(error),
                    Err(Ended::Cut(error)) => error,
                    Ok(()) => anyhow::anyhow!("the connection ended early"),
                };
                fruitless = if partial.have() > before {
                    0
                } else {
                    fruitless + 1
                };
                if fruitless == FRUITLESS {
                    return Err(error).with_context(|| {
                        format!(
                            "fetch blob {digest}: {} of {} bytes came; the next pull goes on there",
                            partial.have(),
                            partial.size()
                        )
                    });
                }
                tell(LayerEvent::Retrying {
                    reason: format!("{error:#}"),
                });
                pause(fruitless, stop);
            }
        }
    }
    Ok(Some(partial.size() - first))
}

/// Why one connection's stretch came to an end.
enum Ended {
    /// The network: worth another connection.
    Cut(anyhow::Error),
    /// Something else: no connection will mend it.
    Other(anyhow::Error),
}

/// Reads from one connection as much as it gives.
fn stretch(
    client: &Client,
    source: &Source,
    digest: Digest,
    partial: &mut Partial,
    stop: &dyn Fn() -> bool,
    tell: &dyn Fn(LayerEvent),
) -> Result<(), Ended> {
    // The client has tried more than once already.
    let mut stream = client
        .blob(source, digest, partial.have())
        .map_err(|error| Ended::Other(error.into()))?;
    let mut buffer = vec![0; BUFFER];
    // A server may begin before the place it was asked for, mostly at the beginning.
    let mut skip = partial.have().saturating_sub(stream.offset());
    if stream.offset() > partial.have() {
        return Err(Ended::Other(anyhow::anyhow!(
            "blob {digest}: the registry begins at byte {} where {} was asked for",
            stream.offset(),
            partial.have()
        )));
    }
    while !stop() {
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let error = anyhow::Error::from(error).context(format!("read blob {digest}"));
                return Err(Ended::Cut(error));
            }
        };
        let known = usize::try_from(skip).unwrap_or(usize::MAX).min(read);
        skip -= known as u64;
        if known < read {
            partial
                .write(&buffer[known..read])
                .map_err(|error| Ended::Other(error.into()))?;
            tell(LayerEvent::Downloading {
                bytes: partial.have(),
            });
        }
    }
    Ok(())
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
