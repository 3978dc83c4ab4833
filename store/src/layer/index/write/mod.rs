//! A tree written as an index: first where everything goes, then everything in that order.
//!
//! The metadata is made in memory, where it takes less than the tree does. Data that no device holds as
//! whole blocks is copied behind it, and what is a hole there stays one.

mod census;
mod chunks;
mod directory;
mod layout;
mod xattrs;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::format::{
    self, BLOCK, Dirent, FileType, INODE_SLOT, NO_BLOCK, OwnRecord, Slot, Superblock,
};
use super::tree::{Device, Kind, Tree};
use crate::error::{Context, Error, Result};
use census::Census;
use chunks::{Lies, Run};
use directory::Names;
use layout::Layout;

/// Where data lies that has to be copied.
pub(crate) trait ReadAt {
    /// Fills the buffer from a device, 0 being the index that the tree was read from.
    fn read_exact_at(&self, device: u16, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A layer's own tar, the only device its tree has.
pub(crate) struct Tar<'a>(pub(crate) &'a File);

impl ReadAt for Tar<'_> {
    fn read_exact_at(&self, _device: u16, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

/// For trees that lie in whole blocks, as merged ones do: there is nothing to copy.
pub(crate) struct NothingToCopy;

impl ReadAt for NothingToCopy {
    fn read_exact_at(&self, device: u16, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::Error::other(format!(
            "device {device} has data that would have to be copied"
        )))
    }
}

/// How much is copied at a time.
const COPY_BUFFER: usize = 256 << 10;
const INDEX: &str = "an index";

/// Writes a tree into an empty file. The same tree gives the same bytes.
pub(crate) fn write(
    tree: &Tree,
    data: &dyn ReadAt,
    output: &mut (impl Write + Seek),
) -> Result<()> {
    check_devices(&tree.devices)?;
    let census = Census::take(tree)?;
    let layout = Layout::plan(tree, &census)?;
    let metadata = Metadata {
        tree,
        census: &census,
        layout: &layout,
        bytes: Vec::new(),
    };
    let metadata = metadata.encode();
    output
        .write_all(&metadata)
        .on("write", || INDEX.to_owned())?;
    drop(metadata);
    copy_data(&census, &layout, data, output)?;
    output.flush().on("write", || INDEX.to_owned())
}

fn check_devices(devices: &[Device]) -> Result<()> {
    let check = || {
        if devices.len() > Superblock::MOST_DEVICES {
            return Err("an index refers to 15000 archives at most");
        }
        for device in devices {
            if format::blocks(device.length) >= u64::from(NO_BLOCK) {
                return Err("an index refers to archives of less than 2 TiB");
            }
            if !Slot::takes(&device.tag) {
                return Err("an index has no room for its name");
            }
        }
        Ok(())
    };
    check().map_err(|reason| Error::Unsupported {
        object: "the layer's archive".to_owned(),
        reason: reason.to_owned(),
    })
}

/// Everything before the data area, as it is made.
struct Metadata<'a> {
    tree: &'a Tree,
    census: &'a Census<'a>,
    layout: &'a Layout<'a>,
    bytes: Vec<u8>,
}

impl Metadata<'_> {
    fn encode(mut self) -> Vec<u8> {
        self.head();
        for place in 0..self.census.listed.len() {
            self.inode(place);
        }
        self.pad_to(u64::from(self.layout.xattrs) * BLOCK);
        self.layout.shared.encode(&mut self.bytes);
        for place in 0..self.census.listed.len() {
            self.blocks(place);
        }
        self.pad_to(u64::from(self.layout.metadata) * BLOCK);
        self.bytes
    }

    fn head(&mut self) {
        let slots: Vec<Slot<'_>> = self
            .tree
            .devices
            .iter()
            .map(|device| Slot {
                tag: &device.tag,
                length: device.length,
            })
            .collect();
        let superblock = Superblock {
            inodes: self.census.listed.len() as u64,
            epoch: self.census.epoch,
            blocks: self.layout.blocks,
            xattrs: self.layout.xattrs,
            devices: u16::try_from(slots.len()).expect("checked before"),
        };
        let record = OwnRecord {
            metadata: self.layout.metadata,
        };
        self.bytes = superblock.head(&slots, &record);
        let length = usize::try_from(u64::from(self.layout.metadata) * BLOCK);
        let length = length.expect("what is made in memory has an address");
        self.bytes.reserve_exact(length - self.bytes.len());
    }

    fn pad_to(&mut self, position: u64) {
        let position = usize::try_from(position).expect("what is made in memory has an address");
        assert!(position >= self.bytes.len(), "laid out with room for all");
        self.bytes.resize(position, 0);
    }

    /// An inode with what lies behind it.
    fn inode(&mut self, place: usize) {
        let placed = &self.layout.placed[place];
        self.pad_to(placed.nid * INODE_SLOT);
        placed.inode.encode(self.census.epoch, &mut self.bytes);
        let attributes = &self.census.listed[place].node.xattrs;
        self.layout.shared.encode_of(attributes, &mut self.bytes);
        if placed.tail > 0 {
            let content = self.content(place);
            self.bytes.extend(&content[content.len() - placed.tail..]);
        }
        if let Some(bits) = placed.inode.layout.chunk_bits() {
            self.pad_to((self.bytes.len() as u64).next_multiple_of(format::CHUNK));
            chunks::encode(placed.inode.size, bits, &placed.runs, &mut self.bytes);
        }
    }

    /// The blocks of a directory or symlink, without what lies behind its inode.
    fn blocks(&mut self, place: usize) {
        let placed = &self.layout.placed[place];
        let Some(start) = placed.start() else {
            return;
        };
        self.pad_to(u64::from(start) * BLOCK);
        let content = self.content(place);
        self.bytes.extend(&content[..content.len() - placed.tail]);
    }

    /// What a directory or symlink holds.
    fn content(&self, place: usize) -> Vec<u8> {
        let listed = &self.census.listed[place];
        match &listed.node.kind {
            Kind::Symlink(target) => target.clone(),
            Kind::Directory(children) => Names::of(children).encode(|entry| {
                let place = match entry {
                    directory::Entry::Itself => place,
                    directory::Entry::Parent => listed.parent,
                    directory::Entry::Child(id) => self.census.place(id),
                };
                Dirent {
                    nid: self.layout.placed[place].nid,
                    name: 0,
                    kind: FileType::of(&self.census.listed[place].node.kind).number(),
                }
            }),
            _ => Vec::new(),
        }
    }
}

/// Fills the data area.
fn copy_data(
    census: &Census<'_>,
    layout: &Layout<'_>,
    data: &dyn ReadAt,
    output: &mut (impl Write + Seek),
) -> Result<()> {
    if layout.blocks == layout.metadata {
        return Ok(());
    }
    let mut copy = Copy {
        data,
        output,
        buffer: vec![0; COPY_BUFFER],
    };
    // The last byte first, so that a hole at the end is there as well.
    let end = u64::from(layout.blocks) * BLOCK;
    copy.put(end - 1, 1).on("write", || INDEX.to_owned())?;
    for (listed, placed) in census.listed.iter().zip(&layout.placed) {
        for run in &placed.runs {
            if let Lies::Copied { block } = run.lies {
                copy.run(listed.node.extents(), run, u64::from(block) * BLOCK)?;
            }
        }
    }
    Ok(())
}

struct Copy<'a, W> {
    data: &'a dyn ReadAt,
    output: &'a mut W,
    buffer: Vec<u8>,
}

impl<W: Write + Seek> Copy<'_, W> {
    /// Writes what there is of a run to where it belongs.
    fn run(&mut self, extents: &[super::tree::Extent], run: &Run, to: u64) -> Result<()> {
        let first = extents.partition_point(|extent| extent.offset + extent.length <= run.offset);
        for extent in &extents[first..] {
            if extent.offset >= run.end() {
                break;
            }
            let start = extent.offset.max(run.offset);
            let end = (extent.offset + extent.length).min(run.end());
            let mut at = start;
            while at < end {
                let length = (end - at).min(COPY_BUFFER as u64);
                let length = usize::try_from(length).expect("at most a buffer's length");
                let from = extent.at + (at - extent.offset);
                self.data
                    .read_exact_at(extent.device, &mut self.buffer[..length], from)
                    .on("read", || "the data of a layer".to_owned())?;
                self.put(to + (at - run.offset), length)
                    .on("write", || INDEX.to_owned())?;
                at += length as u64;
            }
        }
        Ok(())
    }

    fn put(&mut self, position: u64, length: usize) -> io::Result<()> {
        self.output.seek(SeekFrom::Start(position))?;
        self.output.write_all(&self.buffer[..length])
    }
}
