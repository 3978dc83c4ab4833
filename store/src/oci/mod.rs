//! The JSON documents of the OCI image specification, as far as the store reads and writes them.
//!
//! Types of our own rather than oci-spec's: those keep annotations in hash maps, so that the same
//! document would get other bytes each time, and drop fields they do not know.

pub(crate) mod config;
pub(crate) mod document;
pub(crate) mod index;
pub(crate) mod manifest;
