//! Looking at parts: two threads, each with one part at a time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::needs::Needs;
use super::{Flaw, Part, in_words, indexed, tree};
use crate::digest::{DiffId, Digest};
use crate::dir;
use crate::error::{Context, Error, Result};
use crate::layer::indexed::hash;
use crate::layer::listing::{LISTING, Listing};
use crate::layer::record::{Laid, RECORD};
use crate::layer::unpacked::TREE;
use crate::layout::Store;

const THREADS: usize = 2;
/// Findings that wait to be told.
const WAITING: usize = 64;
/// Paths that are named of one layer; what is beyond is counted.
const MOST_PATHS: u64 = 10_000;

/// What an part was made of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// What a thread says.
enum Message {
    Flaw {
        part: Part,
        path: Option<String>,
        problem: String,
    },
    Missing(Part),
    Done(Part, Size),
    Failed(Error),
}

/// Receives what is wrong: a path in the layer, if it is about one, and the problem.
pub(super) type Found<'a> = &'a mut dyn FnMut(Option<String>, String);

/// All blobs and layers there are.
pub(super) fn everything(store: &Store) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let path = || store.root().display().to_string();
    dir::each_name(store.blobs(), |name, _| {
        let digest = name.to_str().ok().and_then(Digest::from_hex);
        parts.extend(digest.map(Part::Blob));
        Ok(())
    })
    .on("list the blobs in", path)?;
    dir::each_name(store.layers(), |name, _| {
        let digest = name.to_str().ok().and_then(Digest::from_hex);
        parts.extend(digest.map(|digest| Part::Layer(digest.into())));
        Ok(())
    })
    .on("list the layers in", path)?;
    Ok(parts)
}

/// Looks at these parts. The answer is what was there to be looked at.
pub(super) fn check(
    store: &Store,
    needs: &Needs,
    parts: &BTreeSet<Part>,
    damaged: &mut dyn FnMut(Flaw),
) -> Result<Vec<(Part, Size)>> {
    let queue = Mutex::new(parts.iter());
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let sender = sender.clone();
            scope.spawn(|| work(store, needs, &queue, sender));
        }
        drop(sender);
        let mut done = Vec::new();
        for message in receiver {
            let (part, path, problem) = match message {
                Message::Done(part, size) => {
                    done.push((part, size));
                    continue;
                }
                Message::Failed(error) => return Err(error),
                Message::Missing(part) if !still_needed(store, part)? => continue,
                Message::Missing(part) => (part, None, "it is missing".to_owned()),
                Message::Flaw {
                    part,
                    path,
                    problem,
                } => (part, path, problem),
            };
            damaged(Flaw {
                part,
                path,
                problem,
                images: needs.images_of(part),
            });
        }
        Ok(done)
    })
}

/// Whether an part that is missing was not removed together with its image meanwhile.
fn still_needed(store: &Store, part: Part) -> Result<bool> {
    let needs = Needs::of(store, &[])?;
    Ok(!needs.complete || needs.parts().contains(&part))
}

/// Looks at one part after the other, until there are none or nobody listens.
fn work<'a>(
    store: &Store,
    needs: &Needs,
    queue: &Mutex<impl Iterator<Item = &'a Part>>,
    sender: SyncSender<Message>,
) {
    let next = || queue.lock().ok()?.next().copied();
    while let Some(part) = next() {
        let mut found = |path, problem| {
            // Whoever listened has failed: the next send tells.
            let _ = sender.send(Message::Flaw {
                part,
                path,
                problem,
            });
        };
        let size = match part {
            Part::Index => Ok(Some(Size::default())),
            Part::Blob(digest) => blob(store, digest, needs, &mut found),
            Part::Layer(id) => layer(store, id, &mut found),
            Part::Merged(chain) => merged(store, chain, needs, &mut found).map(Some),
        };
        let message = match size {
            Ok(Some(size)) => Message::Done(part, size),
            Ok(None) => Message::Missing(part),
            Err(error) => Message::Failed(error),
        };
        let absent_layer = matches!(message, Message::Missing(Part::Layer(_)));
        // A layer that is not laid down is laid down when somebody wants it.
        if !absent_layer && sender.send(message).is_err() {
            return;
        }
    }
}

/// Looks at a blob; `None` if it is missing but should be there.
fn blob(store: &Store, digest: Digest, needs: &Needs, found: Found<'_>) -> Result<Option<Size>> {
    let need = needs.blobs.get(&digest);
    let Some(held) = store.hold_blob(digest)? else {
        let required = need.is_some_and(|need| need.required);
        return Ok((!required).then(Size::default));
    };
    let path = || store.blob_path(digest);
    let file = held.reader().on("open", path)?;
    let (hash, bytes) = match hash(&file) {
        Ok(hashed) => hashed,
        Err(error) if tells_of_damage(&error) => {
            found(None, format!("it cannot be read: {error}"));
            return Ok(Some(Size::default()));
        }
        Err(error) => return Err(Error::io("read", path(), error)),
    };
    if hash != digest {
        let expected = need
            .and_then(|need| need.size)
            .filter(|size| *size != bytes);
        found(
            None,
            match expected {
                Some(size) => format!("it has {bytes} bytes instead of {size}, with {hash}"),
                None => format!("its {bytes} bytes have {hash}"),
            },
        );
    } else if let Some(size) = need.and_then(|need| need.size)
        && size != bytes
    {
        found(
            None,
            format!("it has {bytes} bytes where its manifest says {size}"),
        );
    }
    Ok(Some(Size { bytes, entries: 0 }))
}

/// Looks at a layer; `None` if it is not laid down.
fn layer(store: &Store, layer: DiffId, found: Found<'_>) -> Result<Option<Size>> {
    let Some(directory) = store.hold_layer(layer)? else {
        return Ok(None);
    };
    let path = || store.layer_path(layer);
    let nothing = Ok(Some(Size::default()));
    let record = match store.record_of(&directory, layer) {
        Ok(record) if record.diff_id == layer => record,
        Ok(other) => {
            let problem = format!("{RECORD} is that of {}", other.diff_id);
            found(None, problem);
            return nothing;
        }
        Err(error) => {
            found(None, in_words(&error));
            return nothing;
        }
    };
    match record.laid {
        Laid::Unpacked { tree, .. } => unpacked(&directory, tree, &path, found),
        Laid::Indexed { index } => indexed::check(&directory, layer, index, &path, found),
    }
    .map(Some)
}

/// Looks at a merged index, if it is there. One that no image has is for gc.
fn merged(store: &Store, chain: Digest, needs: &Needs, found: Found<'_>) -> Result<Size> {
    let (Some(held), Some(need)) = (store.hold_merged_file(chain)?, needs.merged.get(&chain))
    else {
        return Ok(Size::default());
    };
    let expected = match store.merged_bytes(&need.layers) {
        // Layers of another form by now: nobody uses the index.
        Ok(None) => return Ok(Size::default()),
        Ok(Some(bytes)) => Digest::of(&bytes),
        Err(error) if damages(&error) => {
            found(None, format!("its layers' indexes: {}", in_words(&error)));
            return Ok(Size::default());
        }
        Err(error) => return Err(error),
    };
    match hash(&File::from(held)) {
        Ok((digest, _)) if digest == expected => {}
        Ok(_) => found(
            None,
            "it is not what its layers' indexes give together".to_owned(),
        ),
        Err(error) if tells_of_damage(&error) => found(None, format!("it cannot be read: {error}")),
        Err(error) => return Err(Error::io("read", store.merged_path(chain), error)),
    }
    Ok(Size::default())
}

/// Looks at the tree of an unpacked layer.
fn unpacked(
    directory: &OwnedFd,
    tree: Digest,
    path: &dyn Fn() -> String,
    found: Found<'_>,
) -> Result<Size> {
    let listing = match Listing::open(directory, tree) {
        Ok(listing) => listing,
        Err(error) if damages(&error) => {
            found(None, format!("its listing {LISTING}: {}", in_words(&error)));
            return Ok(Size::default());
        }
        Err(error) => return Err(error),
    };
    let root = match dir::open(directory.as_fd(), TREE) {
        Ok(root) => root,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            found(None, format!("its tree {TREE} is missing"));
            return Ok(Size::default());
        }
        Err(errno) => return Err(Error::io("open the tree of", path(), errno)),
    };
    let mut paths = 0;
    let entries = tree::compare(listing, root, &mut |path, problem| {
        paths += 1;
        if paths <= MOST_PATHS {
            found(path, problem);
        }
    })?;
    if paths > MOST_PATHS {
        found(None, format!("and {} more paths", paths - MOST_PATHS));
    }
    Ok(Size { bytes: 0, entries })
}

/// Whether an error says that data is gone, and not that somebody may not look.
pub(super) fn damages(error: &Error) -> bool {
    match error {
        Error::Damaged { .. } | Error::Json { .. } => true,
        Error::Io { source, .. } | Error::EntryIo { source, .. } => {
            // InvalidData is a record that is longer than any that is written.
            let kinds = [io::ErrorKind::NotFound, io::ErrorKind::InvalidData];
            tells_of_damage(source) || kinds.contains(&source.kind())
        }
        _ => false,
    }
}

/// A disk that cannot read what it wrote (EIO), a filesystem that finds itself damaged (EUCLEAN,
/// EBADMSG), a directory where there was a file.
pub(super) fn tells_of_damage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::IO | Errno::UCLEAN | Errno::BADMSG | Errno::ISDIR)
    )
}
