//! Lays the entries of a tar down as a tree for overlayfs.
//!
//! The archive is hostile until proven otherwise. What keeps it inside its tree:
//! - names are cleaned ([`super::name`]): no `..`, no leading slash, nothing empty;
//! - parents are opened with openat2(RESOLVE_IN_ROOT) ([`tree`]): symlinks in them lead nowhere but
//!   into the tree. They are followed, since merged-/usr images hold `lib/x` below `lib -> usr/lib`;
//! - the last component is only ever made anew, with O_EXCL or a call that fails if there is
//!   something: nothing that an archive has put there is opened, followed or written through;
//! - memory is bounded: directories in use by a small cache, links that wait for their target and
//!   default ACLs by [`LATE_BYTES`].
//!
//! Whiteouts become overlayfs's (OCI image-spec, layer.md "Whiteouts"; kernel,
//! filesystems/overlayfs.rst).

mod metadata;
mod node;
mod tree;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::fd::OwnedFd;

use crate::archive::{Entry, Kind, Reader};
use crate::error::{Error, Result, show};
use crate::layer::content::Contents;
use crate::layer::name::{self, Place};
use crate::time::Time;
use tree::{Ground, Identity, Tree};

/// What may be kept for the end: names of links and values of ACLs.
const LATE_BYTES: usize = 8 << 20;
const COPY_BUFFER: usize = 256 << 10;
/// Progress is told after so many bytes of the archive.
const PROGRESS_STEP: u64 = 1 << 20;

/// What was laid down.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) entries: u64,
    pub(crate) size: u64,
    pub(crate) newest: Time,
    /// What was written to files, so that nobody has to read it again.
    pub(crate) contents: Contents,
}

/// Unpacks an uncompressed tar into an empty directory. `progress` gets entries and bytes of the
/// archive so far.
pub(crate) fn unpack(
    source: impl BufRead,
    root: OwnedFd,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    let mut unpacker = Unpacker::new(source, Tree::new(root)?);
    let mut summary = Summary::default();
    let (mut newest, mut told) = (None, 0);
    while let Some(entry) = unpacker.reader.next_entry()? {
        unpacker
            .lay_down(&entry)
            .map_err(|error| about(&entry, error))?;
        summary.entries += 1;
        if entry.kind == Kind::File {
            summary.size = summary.size.saturating_add(entry.size());
        }
        newest = newest.max(Some(entry.mtime));
        if unpacker.reader.position() - told >= PROGRESS_STEP {
            told = unpacker.reader.position();
            progress(summary.entries, told);
        }
    }
    unpacker.finish()?;
    progress(summary.entries, unpacker.reader.position());
    summary.newest = newest.unwrap_or_default();
    summary.contents = unpacker.contents;
    Ok(summary)
}

/// How an archive is laid down in a tree that is there.
#[derive(Debug)]
pub struct Onto<'a> {
    /// The directory that its names are relative to, from the tree's root; made where it is missing.
    pub directory: &'a [u8],
    /// Whose everything becomes: user and group. `None` is whose it is in the archive.
    pub owner: Option<(u32, u32)>,
}

/// Unpacks an uncompressed tar into a tree that is there, and that others may be using and changing: nothing
/// leads out of `root`, whatever they do. What has the name of a file is replaced; directories stay with
/// what is in them, and get mode, owner, time and attributes of the archive, but for the one it is unpacked
/// in. A name with `.wh.` is a name.
pub fn unpack_onto(source: impl BufRead, root: OwnedFd, onto: &Onto<'_>) -> Result<()> {
    let mut unpacker = Unpacker::new(source, Tree::used(root));
    // It may have `..`: the kernel knows where that leads.
    let mut below = name::components(onto.directory);
    below.reverse();
    unpacker.below = below.join(&b'/');
    while let Some(mut entry) = unpacker.reader.next_entry()? {
        if let Some((user, group)) = onto.owner {
            (entry.uid, entry.gid) = (user, group);
        }
        unpacker
            .lay_down(&entry)
            .map_err(|error| about(&entry, error))?;
    }
    unpacker.finish()
}

/// Makes sure that an error names the entry as the archive does, not only the directory it is about.
fn about(entry: &Entry, error: Error) -> Error {
    let name = show(&entry.name);
    match error {
        Error::EntryIo {
            entry: at,
            operation,
            source,
        } if !at.starts_with(&name) => Error::EntryIo {
            entry: format!("{name} (at {at})"),
            operation,
            source,
        },
        other => other,
    }
}

struct Unpacker<R> {
    reader: Reader<R>,
    tree: Tree,
    /// Where in the tree the archive's root is.
    below: Vec<u8>,
    late: Late,
    contents: Contents,
    buffer: Vec<u8>,
}

/// What has to wait until all entries are there.
#[derive(Default)]
struct Late {
    links: Vec<Link>,
    acls: BTreeMap<Identity, DefaultAcl>,
    bytes: usize,
}

/// A hardlink whose target has not come yet; both names are clean.
struct Link {
    path: Vec<u8>,
    target: Vec<u8>,
}

/// A default ACL is set last: what is made in the directory afterwards would inherit it.
struct DefaultAcl {
    path: Vec<u8>,
    value: Vec<u8>,
}

impl Late {
    fn keep(&mut self, entry: &Entry, bytes: usize) -> Result<()> {
        const OVERHEAD: usize = 64;
        self.bytes += bytes + OVERHEAD;
        if self.bytes > LATE_BYTES {
            return Err(Error::bad_entry(
                &entry.name,
                "too many hardlinks that come before their targets, or default ACLs",
            ));
        }
        Ok(())
    }
}

impl<R: BufRead> Unpacker<R> {
    fn new(source: R, tree: Tree) -> Self {
        Self {
            reader: Reader::new(source),
            tree,
            below: Vec::new(),
            late: Late::default(),
            contents: Contents::default(),
            buffer: vec![0; COPY_BUFFER],
        }
    }

    /// Where a name of the archive is in the tree.
    fn place(&self, raw: &[u8]) -> Result<Place> {
        if self.tree.ground() == Ground::New {
            return name::place(raw);
        }
        let path = name::clean(raw)?;
        let path = match path.is_empty() {
            true => self.below.clone(),
            false => name::join(&self.below, &path),
        };
        Ok(Place::At { path })
    }

    fn lay_down(&mut self, entry: &Entry) -> Result<()> {
        match self.place(&entry.name)? {
            Place::Ignored => Ok(()),
            Place::Opaque { directory } => self.tree.mark_opaque(&directory, entry),
            Place::Whiteout { path } => self.tree.white_out(&path, entry),
            Place::At { path } => match entry.kind {
                Kind::Directory => self.directory(&path, entry),
                _ if path.is_empty() => Err(Error::bad_entry(
                    &entry.name,
                    "only a directory can be the root",
                )),
                Kind::Hardlink => self.hardlink(path, entry),
                Kind::File => self.file(&path, entry),
                Kind::Symlink | Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice => {
                    self.tree.node(&path, entry)
                }
            },
        }
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let identity = self.tree.make_directory(path, entry)?;
        // What an earlier entry said of the directory.
        self.late.acls.remove(&identity);
        if let Some((_, value)) = entry
            .xattrs
            .iter()
            .find(|(name, _)| name == metadata::DEFAULT_ACL)
        {
            let path = self.tree.real_path(path)?;
            self.late.keep(entry, path.len() + value.len())?;
            let acl = DefaultAcl {
                path,
                value: value.clone(),
            };
            self.late.acls.insert(identity, acl);
        }
        Ok(())
    }

    fn hardlink(&mut self, path: Vec<u8>, entry: &Entry) -> Result<()> {
        let Place::At { path: target } = self.place(&entry.link)? else {
            return Err(Error::bad_entry(&entry.name, "a hardlink to a whiteout"));
        };
        if self.tree.link(&path, &target, entry)? {
            return Ok(());
        }
        // Whatever had the name before has lost it, even though the link is yet to come.
        self.tree.clear(&path, entry)?;
        self.late.keep(entry, path.len() + target.len())?;
        self.late.links.push(Link { path, target });
        Ok(())
    }

    /// Links to links may come in any order as well: rounds, until one makes no difference.
    fn late_links(&mut self) -> Result<()> {
        let mut links = std::mem::take(&mut self.late.links);
        while !links.is_empty() {
            let before = links.len();
            let mut missing = Vec::new();
            for link in links {
                if !self.tree.link_unless_taken(&link.path, &link.target)? {
                    missing.push(link);
                }
            }
            if missing.len() == before {
                return Err(name::link_to_nothing(&missing[0].path, &missing[0].target));
            }
            links = missing;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.late_links()?;
        for (identity, acl) in std::mem::take(&mut self.late.acls) {
            self.tree.set_default_acl(&acl.path, identity, &acl.value)?;
        }
        self.tree.settle()
    }
}
