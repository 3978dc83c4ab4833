//! From a layer's blob to its tar, in two threads with a bounded number of buffers between them:
//!
//! ```text
//! blob -> inflate -> [full buffers] -> whoever lays the layer down
//!            ^--------[empty ones]--------'
//! ```
//!
//! The diff id is taken by the one of the two that has less to do ([`HashedBy`]).
//!
//! The digest of the uncompressed bytes is what the layer is called: whatever the blob said it was,
//! a layer that comes out of here is the one that was asked for.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::compression::Decompressor;
use crate::digest::{DiffId, Digest, Hasher};
use crate::error::{Context, Error, Result};

const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 6;

/// The thread that takes the digest of the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashedBy {
    /// Where making files takes longer than inflating.
    TheInflater,
    /// Where the tar is only written.
    TheReceiver,
}

/// The digest of the tar, if this thread is the one that takes it.
struct Hashing(Option<Hasher>);

impl Hashing {
    fn if_so(so: bool) -> Self {
        Self(so.then(Hasher::default))
    }

    fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.0 {
            hasher.update(bytes);
        }
    }

    fn finish(self) -> Option<DiffId> {
        self.0.map(|hasher| hasher.finish().into())
    }
}

/// Gives the tar in a blob, plain or compressed, to `take`. `name` is what errors call the blob.
pub(super) fn inflated<T>(
    blob: &mut (dyn Read + Send),
    name: &str,
    layer: DiffId,
    hashed_by: HashedBy,
    take: impl FnOnce(&mut dyn BufRead) -> Result<T>,
) -> Result<T> {
    let (full, filled) = sync_channel(BUFFERS);
    let (empty, emptied) = channel();
    for _ in 0..BUFFERS {
        // The receiver lives in this function.
        let _ = empty.send(Vec::with_capacity(BUFFER));
    }
    std::thread::scope(|scope| {
        let hashing = Hashing::if_so(hashed_by == HashedBy::TheInflater);
        let inflating = scope.spawn(move || inflate(blob, name, &full, &emptied, hashing));
        let hashing = Hashing::if_so(hashed_by == HashedBy::TheReceiver);
        let mut pieces = Pieces::new(filled, empty, hashing);
        // What follows the end of the archive belongs to the diff id as well.
        let taken = take(&mut pieces).inspect(|_| pieces.drain());
        let received = pieces.finish();
        let inflated = inflating
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let taken = taken?;
        match inflated.and_then(|sent| sent.finish().or(received)) {
            Some(found) if found == layer => Ok(taken),
            Some(found) => Err(Error::Mismatch {
                object: name.to_owned(),
                expected: format!("a layer with diff id {layer}"),
                found: found.to_string(),
            }),
            None => unreachable!("inflating stops early only when laying down has failed"),
        }
    })
}

/// Writes the uncompressed bytes of a blob to a file; their digest.
pub(crate) fn copy(blob: &mut dyn Read, name: &str, output: &mut File) -> Result<Digest> {
    let mut input = Decompressor::new(blob, name)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        let filled = input.fill(&mut buffer)?;
        hasher.update(&buffer[..filled]);
        output
            .write_all(&buffer[..filled])
            .on("write", || format!("the uncompressed copy of {name}"))?;
        if filled < BUFFER {
            return Ok(hasher.finish());
        }
    }
}

/// Sends the uncompressed bytes on; `None` if nobody wants them any more.
fn inflate(
    blob: &mut dyn Read,
    name: &str,
    full: &SyncSender<Vec<u8>>,
    emptied: &Receiver<Vec<u8>>,
    mut hashing: Hashing,
) -> Result<Option<Hashing>> {
    let mut input = Decompressor::new(blob, name)?;
    loop {
        let Ok(mut buffer) = emptied.recv() else {
            return Ok(None);
        };
        buffer.resize(BUFFER, 0);
        let filled = input.fill(&mut buffer)?;
        buffer.truncate(filled);
        hashing.update(&buffer);
        if full.send(buffer).is_err() {
            return Ok(None);
        }
        if filled < BUFFER {
            return Ok(Some(hashing));
        }
    }
}

/// The receiving end as a reader.
struct Pieces {
    filled: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    given: usize,
    hashing: Hashing,
}

impl Pieces {
    fn new(filled: Receiver<Vec<u8>>, empty: Sender<Vec<u8>>, hashing: Hashing) -> Self {
        Self {
            filled,
            empty,
            hashing,
            current: Vec::new(),
            given: 0,
        }
    }

    /// Takes the next buffer; false at the end.
    fn advance(&mut self) -> bool {
        let Ok(next) = self.filled.recv() else {
            return false;
        };
        let done = std::mem::replace(&mut self.current, next);
        self.given = 0;
        self.hashing.update(&self.current);
        // The other side has gone when it has sent its last buffer.
        let _ = self.empty.send(done);
        true
    }

    /// The digest of what came; the other side is told that no more is wanted.
    fn finish(self) -> Option<DiffId> {
        self.hashing.finish()
    }

    fn drain(&mut self) {
        while self.advance() {}
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.given == self.current.len() {
            if !self.advance() {
                return Ok(&[]);
            }
        }
        Ok(&self.current[self.given..])
    }

    fn consume(&mut self, amount: usize) {
        self.given += amount;
    }
}
