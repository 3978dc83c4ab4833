//! What an inode holds: blocks and a tail of a directory or symlink, chunks of a file, a device's number.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Parsed, Reader};
use crate::layer::index::format::{
    self, BLOCK, CHUNK, DataLayout, FileType, Inode, LONGEST_SYMLINK, NO_BLOCK,
};
use crate::layer::index::tree::{Extent, FileData, Kind};

const NOT_AS_WRITTEN: &str = "it is not as an index has it";

/// Where in the index a directory or symlink lies; both parts are within it.
pub(super) struct Place {
    blocks: Range<usize>,
    tail: Range<usize>,
}

impl Place {
    pub(super) fn blocks<'a>(&self, index: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let whole = index[self.blocks.clone()].chunks(BLOCK as usize);
        let tail = Some(&index[self.tail.clone()]).filter(|tail| !tail.is_empty());
        whole.chain(tail)
    }
}

impl Reader<'_> {
    /// What an inode is, with what lies behind it; of a directory where its entries lie.
    pub(super) fn content(
        &mut self,
        inode: &Inode,
        behind: usize,
    ) -> Parsed<(Kind, Option<Place>)> {
        let kind = FileType::of_mode(inode.mode).ok_or("it is of no known type")?;
        let kind = match (kind, inode.layout) {
            (FileType::Directory, _) => {
                let place = self.place(inode, behind)?;
                return Ok((Kind::Directory(BTreeMap::new()), Some(place)));
            }
            (FileType::Symlink, _) => self.symlink(inode, behind)?,
            (FileType::File, DataLayout::Chunks { bits }) => self.file(inode, bits, behind)?,
            (FileType::File, DataLayout::Plain(0)) if inode.size == 0 => {
                Kind::File(FileData::default())
            }
            (FileType::CharacterDevice, DataLayout::Plain(number)) if inode.size == 0 => {
                let (major, minor) = device_numbers(number);
                Kind::CharacterDevice { major, minor }
            }
            (FileType::BlockDevice, DataLayout::Plain(number)) if inode.size == 0 => {
                let (major, minor) = device_numbers(number);
                Kind::BlockDevice { major, minor }
            }
            (FileType::Fifo, DataLayout::Plain(0)) if inode.size == 0 => Kind::Fifo,
            (FileType::Socket, DataLayout::Plain(0)) if inode.size == 0 => Kind::Socket,
            _ => return Err(NOT_AS_WRITTEN.to_owned()),
        };
        Ok((kind, None))
    }

    /// Where the blocks and the tail are.
    fn place(&mut self, inode: &Inode, behind: usize) -> Parsed<Place> {
        let size = usize::try_from(inode.size).ok().filter(|size| *size > 0);
        let size = size.ok_or(NOT_AS_WRITTEN)?;
        self.claim(size)?;
        let (start, tail) = match inode.layout {
            DataLayout::Plain(start) => (start, 0),
            DataLayout::Inline(start) => (start, (size - 1) % BLOCK as usize + 1),
            DataLayout::Chunks { .. } => return Err(NOT_AS_WRITTEN.to_owned()),
        };
        let start = u64::from(start) * BLOCK;
        let start = usize::try_from(start).map_err(|_| NOT_AS_WRITTEN)?;
        let place = Place {
            blocks: start..start + (size - tail),
            tail: behind..behind + tail,
        };
        let is_within = |range: &Range<usize>| range.end <= self.index.len();
        if !is_within(&place.blocks) || !is_within(&place.tail) {
            return Err("what it holds lies beyond the end".to_owned());
        }
        Ok(place)
    }

    fn symlink(&mut self, inode: &Inode, behind: usize) -> Parsed<Kind> {
        if inode.size > LONGEST_SYMLINK {
            return Err("a symlink is too long".to_owned());
        }
        let place = self.place(inode, behind)?;
        let target: Vec<u8> = place.blocks(self.index).flatten().copied().collect();
        if target.contains(&0) {
            return Err("a symlink has a zero in it".to_owned());
        }
        Ok(Kind::Symlink(target))
    }

    fn file(&mut self, inode: &Inode, bits: u32, behind: usize) -> Parsed<Kind> {
        if inode.size == 0 || i64::try_from(inode.size).is_err() {
            return Err(NOT_AS_WRITTEN.to_owned());
        }
        let start = behind.next_multiple_of(CHUNK as usize);
        let count = inode.size.div_ceil(1 << bits);
        let length = usize::try_from(count.saturating_mul(CHUNK)).unwrap_or(usize::MAX);
        self.claim(length)?;
        let chunks = self.index.get(start..start + length);
        let chunks = chunks.ok_or("its chunks lie beyond the end")?;
        let mut extents: Vec<Extent> = Vec::new();
        for (number, chunk) in chunks.chunks_exact(CHUNK as usize).enumerate() {
            let offset = (number as u64) << bits;
            let length = (inode.size - offset).min(1 << bits);
            let Some(extent) = self.chunk(chunk, offset, length)? else {
                continue;
            };
            match extents.last_mut() {
                Some(last) if continues(last, &extent) => last.length += extent.length,
                _ => extents.push(extent),
            }
        }
        Ok(Kind::File(FileData {
            size: inode.size,
            extents,
        }))
    }

    /// A chunk of a file; `None` is a hole.
    fn chunk(&self, chunk: &[u8], offset: u64, length: u64) -> Parsed<Option<Extent>> {
        let (device, block) = format::read_chunk(chunk);
        if format::chunk(device, block) != chunk {
            return Err(NOT_AS_WRITTEN.to_owned());
        }
        if block == NO_BLOCK {
            return if device == 0 {
                Ok(None)
            } else {
                Err(NOT_AS_WRITTEN.to_owned())
            };
        }
        let extent = Extent {
            offset,
            length,
            device,
            at: u64::from(block) * BLOCK,
        };
        let (start, end) = match usize::from(device).checked_sub(1) {
            None => (
                u64::from(self.data.start) * BLOCK,
                u64::from(self.data.end) * BLOCK,
            ),
            Some(number) => {
                let device = self.tree.devices.get(number);
                (0, device.ok_or("its data lies in no device")?.length)
            }
        };
        // The kernel reads whole blocks.
        if extent.at < start || extent.at + length.next_multiple_of(BLOCK) > end {
            return Err("its data lies beyond the device".to_owned());
        }
        Ok(Some(extent))
    }
}

fn continues(last: &Extent, next: &Extent) -> bool {
    last.device == next.device
        && last.offset + last.length == next.offset
        && last.at + last.length == next.at
}

/// The inverse of what the writer does (`new_decode_dev`).
fn device_numbers(number: u32) -> (u32, u32) {
    (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xf_ff00)
}
