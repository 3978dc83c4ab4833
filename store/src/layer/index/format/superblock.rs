//! The superblock, the device table behind it, and behind that a record of our own, which EROFS takes
//! for a gap.

use super::{BLOCK, INODE_SLOT, array, blocks, u16_at, u32_at, u64_at};
use crate::time::Time;

const MAGIC: u32 = 0xe0f5_e1e2;
/// `EROFS_SUPER_OFFSET`: room for a boot sector.
const OFFSET: usize = 1024;
const SIZE: usize = 128;
/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE` and `_DEVICE_TABLE`.
const INCOMPATIBLE: u32 = 0x4 | 0x8;
const SLOT: usize = 128;
const TAG: usize = 64;

const OWN: usize = 32;
const OWN_MAGIC: [u8; 8] = *b"mybox ix";
/// The layout that the writer has; another one means that the index has to be made again.
const OWN_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Superblock {
    /// How many inodes there are.
    pub(in super::super) inodes: u64,
    /// When compact inodes were modified.
    pub(in super::super) epoch: Time,
    /// The length of all, in blocks.
    pub(in super::super) blocks: u32,
    /// Where the shared extended attributes begin.
    pub(in super::super) xattrs: u32,
    /// How many devices there are beside the index.
    pub(in super::super) devices: u16,
}

impl Superblock {
    /// How many devices there can be: the root's number has 16 bits.
    pub(in super::super) const MOST_DEVICES: usize = 15_000;

    /// Where the device table begins.
    const SLOTS: usize = OFFSET + SIZE;

    /// Where our own record begins.
    fn own(devices: usize) -> usize {
        Self::SLOTS + devices * SLOT
    }

    /// The number of the root's inode, which has the next block's beginning.
    pub(in super::super) fn root(devices: u16) -> u64 {
        let devices = usize::from(devices);
        let end = (Self::own(devices) + OWN + devices * 8) as u64;
        end.next_multiple_of(BLOCK) / INODE_SLOT
    }

    /// What has to be read to know the number of devices.
    pub(in super::super) const END: u64 = (OFFSET + SIZE) as u64;

    /// What has to be read to know where the metadata ends.
    pub(in super::super) fn end_of_record(devices: u16) -> u64 {
        (Self::own(usize::from(devices)) + OWN) as u64
    }

    fn encode(&self) -> Vec<u8> {
        let root = Self::root(self.devices);
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend(MAGIC.to_le_bytes());
        // No checksum, and no feature that says so: erofs-utils 1.8 crash over it with such blocks.
        bytes.extend([0; 4 + 4]);
        bytes.push(9); // blkszbits
        bytes.push(0); // sb_extslots
        let root = u16::try_from(root).expect("bounded by the number of devices");
        bytes.extend(root.to_le_bytes());
        bytes.extend(self.inodes.to_le_bytes());
        bytes.extend(self.epoch.seconds.to_le_bytes());
        bytes.extend(self.epoch.nanos.to_le_bytes());
        bytes.extend(self.blocks.to_le_bytes());
        bytes.extend(0_u32.to_le_bytes()); // meta_blkaddr: numbers count from the beginning
        bytes.extend(self.xattrs.to_le_bytes());
        bytes.extend([0; 16 + 16]); // uuid and volume_name
        bytes.extend(INCOMPATIBLE.to_le_bytes());
        bytes.extend(0_u16.to_le_bytes()); // available_compr_algs
        bytes.extend(self.devices.to_le_bytes());
        let slots = u16::try_from(Self::SLOTS / SLOT).expect("a small constant");
        bytes.extend(slots.to_le_bytes());
        bytes.resize(SIZE, 0); // dirblkbits 0 and features that are not used
        bytes
    }

    /// Reads the superblock of an index.
    ///
    /// # Errors
    ///
    /// In words, what is not as in an index.
    pub(in super::super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes
            .get(OFFSET..OFFSET + SIZE)
            .ok_or("it is shorter than a superblock")?;
        if u32_at(bytes, 0) != MAGIC {
            return Err("it has no EROFS superblock".to_owned());
        }
        let superblock = Self {
            inodes: u64_at(bytes, 16),
            epoch: Time {
                seconds: i64::from_le_bytes(array(bytes, 24)),
                nanos: u32_at(bytes, 32),
            },
            blocks: u32_at(bytes, 36),
            xattrs: u32_at(bytes, 44),
            devices: u16_at(bytes, 86),
        };
        if usize::from(superblock.devices) > Self::MOST_DEVICES {
            return Err(format!("it has {} devices", superblock.devices));
        }
        if superblock.encode() != bytes {
            return Err("its superblock has features that an index does not have".to_owned());
        }
        Ok(superblock)
    }

    /// Writes everything in front of the root's inode.
    pub(in super::super) fn head(&self, slots: &[Slot<'_>], record: &OwnRecord) -> Vec<u8> {
        let mut bytes = vec![0; OFFSET];
        bytes.extend(self.encode());
        let mut place = u64::from(self.blocks);
        for slot in slots {
            bytes.extend(slot.encode(place));
            place += blocks(slot.length);
        }
        bytes.extend(record.encode());
        for slot in slots {
            bytes.extend(slot.length.to_le_bytes());
        }
        let root = Self::root(self.devices) * INODE_SLOT;
        bytes.resize(usize::try_from(root).expect("16 bits"), 0);
        bytes
    }
}

/// A device, as the table has it. Of its length the table has only the blocks; the bytes stand behind
/// our own record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Slot<'a> {
    pub(in super::super) tag: &'a [u8],
    pub(in super::super) length: u64,
}

impl<'a> Slot<'a> {
    /// `place` is where it would begin if all devices were one, behind the index.
    fn encode(&self, place: u64) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..self.tag.len()].copy_from_slice(self.tag);
        let count = u32::try_from(blocks(self.length)).expect("checked before");
        bytes[TAG..TAG + 4].copy_from_slice(&count.to_le_bytes());
        // 0 is no place: the kernel then knows the device by its number alone, as an index names it.
        let place = u32::try_from(place).unwrap_or(0);
        bytes[TAG + 4..TAG + 8].copy_from_slice(&place.to_le_bytes());
        bytes
    }

    /// Whether a tag fits, and can be told from what fills the field.
    pub(in super::super) fn takes(tag: &[u8]) -> bool {
        tag.len() <= TAG && tag.last() != Some(&0)
    }

    /// The devices of an index that is long enough for them.
    pub(in super::super) fn all(
        index: &'a [u8],
        superblock: &Superblock,
    ) -> Result<Vec<Self>, String> {
        let count = usize::from(superblock.devices);
        if index.len() < Superblock::own(count) + OWN + count * 8 {
            return Err("it ends in its device table".to_owned());
        }
        let mut place = u64::from(superblock.blocks);
        let mut slots = Vec::with_capacity(count);
        for number in 0..count {
            let bytes = &index[Superblock::SLOTS + number * SLOT..][..SLOT];
            let tag = &bytes[..TAG];
            let length = tag
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            let slot = Slot {
                tag: &tag[..length],
                length: u64_at(index, Superblock::own(count) + OWN + number * 8),
            };
            if blocks(slot.length) != u64::from(u32_at(bytes, TAG)) || slot.encode(place) != *bytes
            {
                return Err(format!("its device {} is bad", number + 1));
            }
            place += blocks(slot.length);
            slots.push(slot);
        }
        Ok(slots)
    }
}

/// Our own record: behind the device table, and before the devices' lengths in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct OwnRecord {
    /// How many blocks there are before the data area.
    pub(in super::super) metadata: u32,
}

impl OwnRecord {
    fn encode(&self) -> [u8; OWN] {
        let mut bytes = [0; OWN];
        bytes[..8].copy_from_slice(&OWN_MAGIC);
        bytes[8..12].copy_from_slice(&OWN_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.metadata.to_le_bytes());
        bytes
    }

    pub(in super::super) fn decode(index: &[u8], superblock: &Superblock) -> Result<Self, String> {
        let at = Superblock::own(usize::from(superblock.devices));
        let bytes = index
            .get(at..at + OWN)
            .ok_or("it ends in its device table")?;
        let record = Self {
            metadata: u32_at(bytes, 12),
        };
        if record.encode() != *bytes {
            return Err("it was made by another program or another mybox".to_owned());
        }
        if record.metadata > superblock.blocks {
            return Err("its metadata is longer than it is itself".to_owned());
        }
        Ok(record)
    }
}
