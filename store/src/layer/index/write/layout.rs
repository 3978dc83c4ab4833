//! Where everything in an index goes.

use super::census::{Census, Listed};
use super::chunks::{self, Lies, Run};
use super::directory::Names;
use super::xattrs::Shared;
use crate::error::{Error, Result};
use crate::layer::index::format::{
    self, BLOCK, DataLayout, FileType, INODE_SLOT, Inode, LONGEST_SYMLINK, NO_BLOCK, Superblock,
};
use crate::layer::index::tree::{Kind, Tree};

pub(super) struct Layout<'a> {
    pub(super) shared: Shared<'a>,
    /// For each place in the census, where it goes.
    pub(super) placed: Vec<Placed>,
    /// The block with which the shared attributes begin.
    pub(super) xattrs: u32,
    /// The block with which the data area begins.
    pub(super) metadata: u32,
    /// How many blocks there are.
    pub(super) blocks: u32,
}

/// Where an inode goes, and what is in it.
pub(super) struct Placed {
    pub(super) nid: u64,
    pub(super) inode: Inode,
    /// How many bytes of a directory or symlink lie behind the inode: the last ones.
    pub(super) tail: usize,
    /// Where a file's data lies.
    pub(super) runs: Vec<Run>,
}

impl Placed {
    /// The first block of a directory or symlink that has blocks.
    pub(super) fn start(&self) -> Option<u32> {
        let kind = FileType::of_mode(self.inode.mode);
        match self.inode.layout {
            DataLayout::Plain(block) | DataLayout::Inline(block) => {
                let has_blocks = matches!(kind, Some(FileType::Directory | FileType::Symlink));
                (has_blocks && self.inode.size > self.tail as u64).then_some(block)
            }
            DataLayout::Chunks { .. } => None,
        }
    }
}

impl<'a> Layout<'a> {
    pub(super) fn plan(tree: &'a Tree, census: &Census<'a>) -> Result<Self> {
        let shared = Shared::of(census);
        let mut placed = Vec::with_capacity(census.listed.len());
        let devices = u16::try_from(tree.devices.len()).expect("checked before");
        let mut position = Superblock::root(devices) * INODE_SLOT;
        for (place, listed) in census.listed.iter().enumerate() {
            let mut one = Self::place(tree, &shared, place, listed)
                .map_err(|reason| census.bad(place, reason))?;
            let own = (one.inode.length(census.epoch) + one.inode.xattrs) as u64;
            position = one.settle(position, own);
            placed.push(one);
        }
        let mut layout = Self {
            xattrs: block_number(format::blocks(position))?,
            shared,
            placed,
            metadata: 0,
            blocks: 0,
        };
        layout.place_blocks()?;
        layout.place_copies()?;
        Ok(layout)
    }

    /// Says all of an inode but where things are.
    fn place(
        tree: &Tree,
        shared: &Shared<'_>,
        place: usize,
        listed: &Listed<'_>,
    ) -> Result<Placed, String> {
        let node = listed.node;
        let mut runs = Vec::new();
        let (layout, size) = match &node.kind {
            Kind::Directory(children) => (DataLayout::Plain(0), Names::of(children).size()),
            Kind::Symlink(target) => (DataLayout::Plain(0), symlink_size(target)?),
            Kind::File(file) if file.size == 0 => (DataLayout::Plain(0), 0),
            Kind::File(file) => {
                let bits;
                (bits, runs) = chunks::plan(file, &tree.devices)?;
                (DataLayout::Chunks { bits }, file.size)
            }
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                (DataLayout::Plain(device_number(*major, *minor)?), 0)
            }
            Kind::Fifo | Kind::Socket => (DataLayout::Plain(0), 0),
        };
        let permissions = u16::try_from(node.mode & 0o7777).expect("twelve bits");
        let inode = Inode {
            layout,
            xattrs: shared.length_of(&node.xattrs)?,
            mode: FileType::of(&node.kind).mode() | permissions,
            links: listed.links,
            size,
            number: u32::try_from(place + 1).map_err(|_| "an index has 2^32 files at most")?,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
        };
        Ok(Placed {
            nid: 0,
            inode,
            tail: 0,
            runs,
        })
    }

    /// Gives directories and symlinks their blocks, behind the shared attributes.
    fn place_blocks(&mut self) -> Result<()> {
        let xattrs = format::blocks(self.shared.length() as u64);
        let mut next = u64::from(self.xattrs) + xattrs;
        for placed in &mut self.placed {
            if placed.start().is_none() {
                continue;
            }
            let start = block_number(next)?;
            next += format::blocks(placed.inode.size - placed.tail as u64);
            placed.inode.layout = match placed.inode.layout {
                DataLayout::Inline(_) => DataLayout::Inline(start),
                _ => DataLayout::Plain(start),
            };
        }
        self.metadata = block_number(next)?;
        Ok(())
    }

    /// Gives what has to be copied its blocks, behind everything else.
    fn place_copies(&mut self) -> Result<()> {
        let mut next = u64::from(self.metadata);
        for run in self.placed.iter_mut().flat_map(|placed| &mut placed.runs) {
            if let Lies::Copied { block } = &mut run.lies {
                *block = block_number(next)?;
                next += format::blocks(run.length);
            }
        }
        self.blocks = block_number(next)?;
        Ok(())
    }
}

impl Placed {
    /// Takes the next place, for an inode of `own` bytes with its attributes; where that ends.
    fn settle(&mut self, position: u64, own: u64) -> u64 {
        let mut start = position.next_multiple_of(INODE_SLOT);
        let mut end = start + own;
        let kind = FileType::of_mode(self.inode.mode);
        if let DataLayout::Chunks { bits } = self.inode.layout {
            let chunks = chunks::count(self.inode.size, bits);
            end = end.next_multiple_of(format::CHUNK) + chunks * format::CHUNK;
        } else if matches!(kind, Some(FileType::Directory | FileType::Symlink)) {
            // The kernel wants a tail and its inode in one block.
            let tail = (self.inode.size - 1) % BLOCK + 1;
            if own + tail <= BLOCK {
                if start % BLOCK + own + tail > BLOCK {
                    start = start.next_multiple_of(BLOCK);
                }
                end = start + own + tail;
                self.inode.layout = DataLayout::Inline(0);
                self.tail = usize::try_from(tail).expect("less than a block");
            }
        }
        self.nid = start / INODE_SLOT;
        end
    }
}

fn block_number(block: u64) -> Result<u32> {
    u32::try_from(block)
        .ok()
        .filter(|block| *block != NO_BLOCK)
        .ok_or_else(|| Error::Unsupported {
            object: "the layer's tree".to_owned(),
            reason: "its index would be 2 TiB long, for a file with many small holes; lay it down \
                     with --layer-form unpacked"
                .to_owned(),
        })
}

fn symlink_size(target: &[u8]) -> Result<u64, &'static str> {
    let size = target.len() as u64;
    if size == 0 || size > LONGEST_SYMLINK || target.contains(&0) {
        return Err("a symlink to what no path can be");
    }
    Ok(size)
}

/// As the kernel has it in an inode (`new_encode_dev`).
fn device_number(major: u32, minor: u32) -> Result<u32, &'static str> {
    if major > 0xfff || minor > 0xf_ffff {
        return Err("a device with numbers that Linux does not have");
    }
    Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}
