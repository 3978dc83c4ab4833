//! The files of an image as its layers give them, found by their paths and written as a tar: read from the
//! layers themselves, so that nothing is mounted and no right to mount is needed.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use rustix::fs::{OFlags, ResolveFlags};

use super::content::{FileContent, Lying, Unpacked};
use super::{Merged, Node, below};
use crate::archive::sparse::{MOST_SEGMENTS, Segment, SparseMap};
use crate::archive::{Entry, Kind as EntryKind, writer};
use crate::error::{Context, Error, Result, show};
use crate::image::Image;
use crate::import::Warning;
use crate::layer::listing::entry::Kind;
use crate::layout::Store;
use crate::pack::{self, Files, Tar};

/// As many links as the kernel itself follows (path_resolution(7)).
const MOST_LINKS: usize = 40;
const ROOT: &[u8] = b".";

/// The tree of an image. Its layers are held as long as this is there.
pub struct ImageFiles(Merged);

/// Something in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    /// From the root, without a slash at its beginning, no name on the way a symlink; `.` for the root.
    pub path: Vec<u8>,
    /// Whether it is a directory.
    pub is_directory: bool,
}

impl Store {
    /// The files of an image.
    ///
    /// # Errors
    ///
    /// That a layer is not laid down, or that its index or listing is damaged.
    pub fn image_files(&self, image: &Image) -> Result<ImageFiles> {
        self.merged(image).map(ImageFiles)
    }
}

impl ImageFiles {
    /// What there is at a path, `None` if nothing is. Symlinks on the way lead to somewhere in the image;
    /// the last name, if it is one, does with `follow`.
    ///
    /// # Errors
    ///
    /// That there are too many symlinks.
    pub fn find(&self, path: &[u8], follow: bool) -> Result<Option<FoundFile>> {
        let mut left: VecDeque<Vec<u8>> = names(path).map(<[u8]>::to_vec).collect();
        let mut here: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    here.pop();
                    continue;
                }
                _ => here.push(name),
            }
            let is_last = left.iter().all(|name| matches!(&name[..], b"" | b"."));
            let Some(node) = self.0.0.get(&here.join(&b'/')) else {
                return Ok(None);
            };
            match &node.inode.kind {
                Kind::Symlink(target) if follow || !is_last => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Error::bad_entry(path, "too many symlinks"));
                    }
                    match target.first() {
                        Some(b'/') => here.clear(),
                        _ => drop(here.pop()),
                    }
                    let leads_over: Vec<Vec<u8>> = names(target).map(<[u8]>::to_vec).collect();
                    for name in leads_over.into_iter().rev() {
                        left.push_front(name);
                    }
                }
                Kind::Directory => {}
                _ if is_last => {}
                _ => return Ok(None),
            }
        }
        let path = match here.is_empty() {
            true => ROOT.to_vec(),
            false => here.join(&b'/'),
        };
        let is_directory = match self.0.0.get(&path) {
            Some(node) => node.inode.kind == Kind::Directory,
            // An image without a layer is an empty directory.
            None => true,
        };
        Ok(Some(FoundFile { path, is_directory }))
    }

    /// Writes what was found as a tar: under this name, or a directory's content as that of `./`. Sockets
    /// are left out with a warning.
    ///
    /// # Errors
    ///
    /// That a layer cannot be read, or `out` not be written.
    pub fn pack(
        &self,
        found: &FoundFile,
        as_name: Option<&[u8]>,
        out: &mut dyn Write,
        warn: &mut dyn FnMut(Warning),
    ) -> Result<()> {
        pack::write_tar(Files::Stay, out, warn, |tar| {
            let mut packing = Packing {
                tar,
                names: HashMap::new(),
            };
            let prefix = below(&found.path);
            let top = self.0.0.get(&found.path);
            if let Some(node) = top {
                packing.one(as_name.unwrap_or(b".").to_vec(), node)?;
            }
            if !found.is_directory {
                return Ok(());
            }
            let mut inside: Vec<(&Vec<u8>, &Node)> = self.0.inside(&found.path).collect();
            // A directory is directly before all that is in it: else tar(1) would set its time too early.
            inside.sort_by(|(one, _), (other, _)| names(one).cmp(names(other)));
            for (path, node) in inside {
                let name = &path[prefix.len()..];
                let name = match as_name {
                    Some(top) => [top, name].join(&b'/'),
                    None => name.to_vec(),
                };
                packing.one(name, node)?;
            }
            Ok(())
        })
    }
}

/// The names that a path is made of.
fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

struct Packing<'a, 'b> {
    tar: &'a mut Tar<'b>,
    /// The first name of each inode but a directory's, by where its content is known from.
    names: HashMap<*const (), Vec<u8>>,
}

impl Packing<'_, '_> {
    fn one(&mut self, mut name: Vec<u8>, node: &Node) -> Result<()> {
        let inode = &node.inode;
        let (mut link, mut device) = (Vec::new(), (0, 0));
        let kind = match &inode.kind {
            Kind::Directory => {
                name.push(b'/');
                EntryKind::Directory
            }
            Kind::File { .. } => EntryKind::File,
            Kind::Symlink(target) => {
                link.clone_from(target);
                EntryKind::Symlink
            }
            Kind::CharacterDevice { major, minor } => {
                device = (*major, *minor);
                EntryKind::CharacterDevice
            }
            Kind::BlockDevice { major, minor } => {
                device = (*major, *minor);
                EntryKind::BlockDevice
            }
            Kind::Fifo => EntryKind::Fifo,
            Kind::Socket => {
                let path = show(&name);
                self.tar.warn(Warning::SkippedSocket { path });
                return Ok(());
            }
        };
        let mut entry = Entry {
            xattrs: pack::packed(inode.xattrs.clone(), &name)?,
            name,
            kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            link,
            device,
            sparse: None,
            stored: 0,
        };
        let identity = match &node.content {
            FileContent::None => return self.tar.emit(&entry),
            FileContent::NoFile(inode) => Arc::as_ptr(inode),
            FileContent::Unpacked(file) => Arc::as_ptr(file).cast(),
            FileContent::Lying(file) => Arc::as_ptr(file).cast(),
        };
        if let Some(first) = self.names.get(&identity) {
            entry.kind = EntryKind::Hardlink;
            entry.link.clone_from(first);
            entry.device = (0, 0);
            entry.xattrs.clear();
            return self.tar.emit(&entry);
        }
        self.names.insert(identity, entry.name.clone());
        match &node.content {
            FileContent::Unpacked(file) => self.unpacked(file, entry),
            FileContent::Lying(file) => self.lying(file, entry),
            FileContent::None | FileContent::NoFile(_) => self.tar.emit(&entry),
        }
    }

    fn unpacked(&mut self, file: &Unpacked, mut entry: Entry) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let found = pack::open_here(&file.layer.root, &file.path, flags, ResolveFlags::empty())
            .on_entry("open", &file.path)?;
        let mut opened = File::from(found.expect("nothing is asked about mounts"));
        let stat = rustix::fs::fstat(&opened).on_entry("stat", &file.path)?;
        entry.stored = u64::try_from(stat.st_size).unwrap_or(0);
        self.tar.data(&mut opened, entry)
    }

    /// Out of the tar that it lies in; what that has as holes are holes again.
    fn lying(&mut self, lying: &Lying, mut entry: Entry) -> Result<()> {
        let file = &lying.file;
        let mut segments: Vec<Segment> = Vec::new();
        for extent in &file.extents {
            let (offset, length) = (extent.offset, extent.length);
            match segments.last_mut() {
                Some(last) if last.offset + last.length == offset => last.length += length,
                _ => segments.push(Segment { offset, length }),
            }
        }
        let data: u64 = segments.iter().map(|segment| segment.length).sum();
        let is_sparse = data < file.size && segments.len() < MOST_SEGMENTS;
        entry.stored = file.size;
        if is_sparse {
            // GNU tar ends the map where the file ends, with an empty segment.
            if segments
                .last()
                .is_none_or(|last| last.offset + last.length < file.size)
            {
                segments.push(Segment {
                    offset: file.size,
                    length: 0,
                });
            }
            entry.stored = data;
            entry.sparse = Some(SparseMap {
                segments,
                real_size: file.size,
            });
        }
        self.tar.emit(&entry)?;
        let mut buffer = Vec::new();
        let mut at = 0;
        for extent in &file.extents {
            if !is_sparse {
                self.tar.zeros(extent.offset - at)?;
            }
            at = extent.offset + extent.length;
            let mut written = Ok(());
            let read = lying.layer.each_piece(extent, &mut buffer, |piece| {
                if written.is_ok() {
                    written = self.tar.write(piece);
                }
            });
            read.on("read", || format!("{} in a layer's tar", show(&entry.name)))?;
            written?;
        }
        if !is_sparse {
            self.tar.zeros(file.size - at)?;
        }
        self.tar.zeros(writer::padding(entry.stored) as u64)
    }
}
