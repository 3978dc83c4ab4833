//! The form "unpacked": the tree, and its listing beside it.

use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::Step;
use super::inflate::HashedBy;
use super::listing::Listing;
use super::record::{Counts, Laid};
use super::source::Source;
use super::unpack;
use crate::digest::DiffId;
use crate::dir;
use crate::error::{Context, Result};

/// The tree's name in the layer's directory.
pub(crate) const TREE: &str = "fs";

/// Unpacks a layer into its empty directory, and flushes all of it.
pub(super) fn lay_down(
    directory: &OwnedFd,
    layer: DiffId,
    source: Source<'_>,
    progress: &mut dyn FnMut(Step),
) -> Result<(Laid, Counts)> {
    let path = || format!("the tree of layer {layer}");
    let root = make_tree(directory).on("create", path)?;
    let summary = source.read(layer, HashedBy::TheInflater, |tar| {
        unpack::unpack(tar, root, &mut |entries, bytes| {
            progress(Step::Unpacking { entries, bytes });
        })
    })?;
    progress(Step::Flushing);
    // One flush for the whole filesystem rather than one for each of the layer's files.
    rustix::fs::syncfs(directory).on("flush", path)?;
    let root = dir::open(directory, TREE).on("open", path)?;
    let listed = Listing::write(directory, root, summary.contents)?;
    let laid = Laid::Unpacked {
        tree: listed.tree,
        allocated: listed.allocated,
    };
    let counts = Counts {
        entries: summary.entries,
        size: summary.size,
        newest: summary.newest,
    };
    Ok((laid, counts))
}

fn make_tree(directory: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(directory, TREE, Mode::from_raw_mode(0o755))?;
    dir::open(directory, TREE)
}
