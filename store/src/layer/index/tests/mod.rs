//! Indexes written, read, damaged, mounted by the kernel and checked by erofs-utils.

#[path = "../../../../tests/support/archive.rs"]
#[allow(dead_code, reason = "shared with the store's other tests")]
mod archive;
mod hostile;
mod kernel;
mod merged;
mod round_trip;
mod tars;
mod tools;
mod trees;
