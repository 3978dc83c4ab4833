//! `layers/<hex>/layer.erofs`: an index over a layer's tar, an EROFS image of metadata whose files'
//! data lies in the tar (Linux, Documentation/filesystems/erofs.rst; fs/erofs/erofs_fs.h).
//!
//! ```text
//! tar --build--> Tree --write--> layer.erofs --read--> Tree
//!                                              merge(base, ..., top) --write--> images/<chain id>.erofs
//! ```
//! Pure: bytes in, bytes out, and the same bytes for the same tar, so that an index can be made again
//! and compared.

pub(crate) mod build;
mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod merge;
pub(crate) mod read;
pub(crate) mod sample;
pub(crate) mod tree;
pub(crate) mod write;

#[cfg(test)]
mod tests;
