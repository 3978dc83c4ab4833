//! Indexes written, read, damaged, mounted by the kernel and checked by erofs-utils.

mod hostile;
mod round_trip;
mod trees;
