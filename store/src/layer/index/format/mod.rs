//! EROFS on disk, as far as an index uses it (Linux, fs/erofs/erofs_fs.h): each record as a struct that
//! encodes and decodes itself. Everything is little-endian.
//!
//! ```text
//! block 0, 1   zero
//! block 2      superblock, device table, our own record, then the metadata: inodes, each with its
//!              extended attributes and, behind them, a short tail of data or the chunks of a file
//! then         shared extended attributes; blocks of directories and of long symlinks
//! data area    blocks of files that no device holds as a block (device 0); may be sparse
//! ```

mod inode;
mod superblock;
mod xattr;

pub(super) use inode::{DataLayout, FileType, Inode};
pub(super) use superblock::{OwnRecord, Slot, Superblock};
pub(super) use xattr::{Attribute, BODY_HEADER, LONGEST_SHARED, shared_body};

/// Blocks of 512 bytes, as a tar's: so what lies in one can be pointed to.
pub(super) const BLOCK_BITS: u32 = 9;
pub(super) const BLOCK: u64 = 1 << BLOCK_BITS;
/// The block of what is not there: a hole. No block has this number.
pub(super) const NO_BLOCK: u32 = u32::MAX;
/// Inodes begin at multiples of this; a multiple of it is an inode's number (nid).
pub(super) const INODE_SLOT: u64 = 32;
/// How many bits more than a block's a chunk's size has at most.
pub(super) const MOST_CHUNK_BITS: u32 = BLOCK_BITS + 31;
/// A chunk of a file: two bytes of zero, the device's number, the block in it.
pub(super) const CHUNK: u64 = 8;
/// An entry of a directory, before its name: nid, where in the block the name is, its type, zero.
pub(super) const DIRENT: usize = 12;
/// What the kernel reads of a symlink: a page, with the zero at its end.
pub(super) const LONGEST_SYMLINK: u64 = 4095;

/// How many blocks so many bytes take.
pub(super) fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK)
}

/// A chunk that lies in a device.
pub(super) fn chunk(device: u16, block: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[2..4].copy_from_slice(&device.to_le_bytes());
    bytes[4..].copy_from_slice(&block.to_le_bytes());
    bytes
}

/// Reads numbers out of a record whose length is known.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("a slice of this length")
}

/// What a chunk says: its device and its block; a hole if the block is [`NO_BLOCK`].
pub(super) fn read_chunk(bytes: &[u8]) -> (u16, u32) {
    (u16_at(bytes, 2), u32_at(bytes, 4))
}

/// An entry of a directory's block.
pub(super) struct Dirent {
    pub(super) nid: u64,
    /// Where in the block its name begins.
    pub(super) name: u16,
    /// See [`FileType::number`].
    pub(super) kind: u8,
}

impl Dirent {
    pub(super) fn encode(&self) -> [u8; DIRENT] {
        let mut bytes = [0; DIRENT];
        bytes[..8].copy_from_slice(&self.nid.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.name.to_le_bytes());
        bytes[10] = self.kind;
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self {
            nid: u64_at(bytes, 0),
            name: u16_at(bytes, 8),
            kind: bytes[10],
        }
    }
}
