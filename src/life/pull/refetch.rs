//! A blob of an image once more, from where the image was pulled, or wherever one of its names leads.

use anyhow::{Context, Result, anyhow, bail};
use mybox_store::{Arrival, Reference, Store, WantedBlob};

use super::download::{Download, Downloaded};
use crate::registry::{Client, Options, Source, Which};

/// Fetches the blobs again that `gc --compressed` has dropped from an image: whoever sends it on needs
/// them. `tell` is told of each before it comes.
pub fn bring_back(
    store: &Store,
    name: &str,
    registry: &Options,
    tell: &dyn Fn(&WantedBlob),
) -> Result<()> {
    for wanted in store.dropped_blobs(name)? {
        tell(&wanted);
        let digest = wanted.digest;
        let what =
            || format!("bring back blob {digest}, which `mybox gc --compressed` has dropped");
        refetch(store, registry, &wanted).with_context(what)?;
    }
    Ok(())
}

/// Puts a blob into the store again. The images' names are tried in turn.
pub fn refetch(store: &Store, registry: &Options, wanted: &WantedBlob) -> Result<()> {
    let client = Client::new(registry)?;
    let mut failed = None;
    for reference in &wanted.references {
        match from_name(store, &client, reference, wanted) {
            Ok(()) => return Ok(()),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| anyhow!("no image with a name needs it")))
}

fn from_name(
    store: &Store,
    client: &Client,
    reference: &Reference,
    wanted: &WantedBlob,
) -> Result<()> {
    let mut failed = None;
    for source in client.candidates(&reference.to_string())? {
        match from_source(store, client, &source, wanted) {
            Ok(()) => return Ok(()),
            Err(error) => failed = Some(error),
        }
    }
    let failed = failed.unwrap_or_else(|| anyhow!("no registry is configured for it"));
    Err(failed.context(format!("fetch it from {}", reference.familiar())))
}

fn from_source(store: &Store, client: &Client, source: &Source, wanted: &WantedBlob) -> Result<()> {
    let digest = wanted.digest;
    if wanted.is_document {
        let document = client.manifest(source, &Which::Digest(digest))?;
        drop(store.put_document(&document.bytes)?);
        return Ok(());
    }
    let size = wanted.size.context("nobody knows how long it is")?;
    // What an earlier process left of it may be damaged as well: then once more.
    for _ in 0..2 {
        let waited = store.expect_blob(digest, size, |_| Ok::<(), anyhow::Error>(()))?;
        let partial = match waited {
            Arrival::There(_) => return Ok(()),
            Arrival::Missing(partial) => *partial,
        };
        let resumed = partial.resumed() > 0;
        let download = Download {
            client,
            source,
            digest,
            stop: &|| false,
            tell: &|_| {},
        };
        match download.finish(partial)? {
            Downloaded::Whole { .. } => return Ok(()),
            Downloaded::Wrong(_) if resumed => {}
            Downloaded::Wrong(error) => return Err(error.into()),
            Downloaded::Stopped => unreachable!("nobody stops it"),
        }
    }
    bail!("what came has another digest, twice")
}
