//! What a layer is laid down from: its tar, or a blob that has it, which may still be arriving.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::fd::BorrowedFd;

use super::inflate::{self, HashedBy};
use crate::digest::{DiffId, Digest};
use crate::error::{Context, Result};

const READ_BUFFER: usize = 256 << 10;

/// A file of the store, by its name in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: String,
}

/// Where a layer's tar comes from.
pub(crate) struct Source<'a> {
    bytes: Bytes<'a>,
    /// The file that is the tar as it is, if there is one: a second name of it is as good as a copy.
    pub(super) tar: Option<Place<'a>>,
}

enum Bytes<'a> {
    /// The tar, whose digest is known to be right.
    Checked(&'a mut File),
    /// A blob, plain or compressed, with what errors call it.
    Blob(&'a mut (dyn Read + Send), String),
}

impl<'a> Source<'a> {
    /// An uncompressed tar whose digest is known to be right.
    pub(crate) fn of_tar(file: &'a mut File, place: Option<Place<'a>>) -> Self {
        Self {
            bytes: Bytes::Checked(file),
            tar: place,
        }
    }

    /// A blob, plain or compressed.
    pub(crate) fn of_blob(blob: Digest, reader: &'a mut (dyn Read + Send)) -> Self {
        Self::named(format!("layer {blob}"), reader)
    }

    /// Something with a layer's tar in it, and what errors call that.
    pub(crate) fn named(name: String, reader: &'a mut (dyn Read + Send)) -> Self {
        Self {
            bytes: Bytes::Blob(reader, name),
            tar: None,
        }
    }

    /// Says where the blob's file lies, which is the tar itself if the blob has the layer's digest.
    pub(crate) fn lying_at(mut self, blob: Digest, layer: DiffId, place: Place<'a>) -> Self {
        self.tar = (layer.digest() == blob).then_some(place);
        self
    }

    /// Gives the tar to `take`. What that leaves of it is read as well.
    ///
    /// # Errors
    ///
    /// That of `take`; that the tar is another layer's, or cannot be read.
    pub(super) fn read<T>(
        self,
        layer: DiffId,
        hashed_by: HashedBy,
        take: impl FnOnce(&mut dyn BufRead) -> Result<T>,
    ) -> Result<T> {
        match self.bytes {
            Bytes::Checked(file) => {
                file.rewind().on("rewind", || "the archive".to_owned())?;
                take(&mut BufReader::with_capacity(READ_BUFFER, file))
            }
            Bytes::Blob(reader, name) => inflate::inflated(reader, &name, layer, hashed_by, take),
        }
    }
}
