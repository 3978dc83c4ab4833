//! tar, read and written.
//!
//! A reader of our own, as the tar crate's either resolves long names and sparse maps without
//! bounding what the headers ask for, or leaves them to the caller and then loses its place where
//! a PAX record says the size.

mod acl;
#[cfg(test)]
mod damage;
pub(crate) mod header;
pub(crate) mod pax;
pub(crate) mod reader;
pub(crate) mod sparse;
pub(crate) mod writer;

pub(crate) use header::{BLOCK, Header};
pub(crate) use reader::{Entry, Kind, Reader};

/// The longest name or link target: what one system call takes (PATH_MAX, without its NUL).
pub(crate) const LONGEST_NAME: usize = 4095;
