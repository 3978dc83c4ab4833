//! Inodes: compact ones of 32 bytes where everything fits, else extended ones of 64.

use super::{u16_at, u32_at, u64_at};
use crate::layer::index::tree::Kind;
use crate::time::Time;

const COMPACT: usize = 32;
const EXTENDED: usize = 64;
/// In the format: an extended inode.
const EXTENDED_BIT: u16 = 1;
/// In what a chunked file has instead of a block: entries of 8 bytes.
const CHUNK_INDEXES: u32 = 0x20;

/// What is in an inode, as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Inode {
    pub(in super::super) layout: DataLayout,
    /// The bytes of its extended attributes, behind it.
    pub(in super::super) xattrs: usize,
    /// With the type.
    pub(in super::super) mode: u16,
    pub(in super::super) links: u32,
    pub(in super::super) size: u64,
    /// A running number, for programs whose inode numbers have 32 bits.
    pub(in super::super) number: u32,
    pub(in super::super) uid: u32,
    pub(in super::super) gid: u32,
    pub(in super::super) mtime: Time,
}

/// How an inode's data lies, and the one number that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum DataLayout {
    /// Blocks from this one on (0 if there are none), or a device's number.
    Plain(u32),
    /// Blocks from this one on, but the rest that fills none lies behind the inode.
    Inline(u32),
    /// Chunks of two to the power of this many bytes, listed behind the inode.
    Chunks { bits: u32 },
}

/// What the extended attributes' size is in a count, and back.
fn xattr_count(size: usize) -> u16 {
    let words = size.saturating_sub(super::BODY_HEADER) / 4;
    let count = if size == 0 { 0 } else { words + 1 };
    u16::try_from(count).expect("bounded when the attributes were laid out")
}

fn xattr_size(count: u16) -> usize {
    match usize::from(count) {
        0 => 0,
        count => super::BODY_HEADER + (count - 1) * 4,
    }
}

impl Inode {
    /// Whether 32 bytes are enough where compact inodes are of `epoch`.
    pub(in super::super) fn is_compact(&self, epoch: Time) -> bool {
        self.mtime == epoch
            && u16::try_from(self.links).is_ok()
            && u32::try_from(self.size).is_ok()
            && u16::try_from(self.uid).is_ok()
            && u16::try_from(self.gid).is_ok()
    }

    /// How many bytes it takes.
    pub(in super::super) fn length(&self, epoch: Time) -> usize {
        if self.is_compact(epoch) {
            COMPACT
        } else {
            EXTENDED
        }
    }

    pub(in super::super) fn encode(&self, epoch: Time, bytes: &mut Vec<u8>) {
        let compact = self.is_compact(epoch);
        let (layout, data) = self.layout.numbers();
        let format = layout << 1 | if compact { 0 } else { EXTENDED_BIT };
        bytes.extend(format.to_le_bytes());
        bytes.extend(xattr_count(self.xattrs).to_le_bytes());
        bytes.extend(self.mode.to_le_bytes());
        if compact {
            bytes.extend(low(self.links));
            let size = u32::try_from(self.size).expect("compact");
            bytes.extend(size.to_le_bytes());
            bytes.extend(0_u32.to_le_bytes()); // seconds after the epoch
            bytes.extend(data.to_le_bytes());
            bytes.extend(self.number.to_le_bytes());
            bytes.extend(low(self.uid));
            bytes.extend(low(self.gid));
            bytes.extend([0; 4]);
        } else {
            bytes.extend([0; 2]);
            bytes.extend(self.size.to_le_bytes());
            bytes.extend(data.to_le_bytes());
            bytes.extend(self.number.to_le_bytes());
            bytes.extend(self.uid.to_le_bytes());
            bytes.extend(self.gid.to_le_bytes());
            bytes.extend(self.mtime.seconds.to_le_bytes());
            bytes.extend(self.mtime.nanos.to_le_bytes());
            bytes.extend(self.links.to_le_bytes());
            bytes.extend([0; 16]);
        }
    }

    /// The inode at the beginning of `bytes`, and its length.
    pub(in super::super) fn decode(bytes: &[u8], epoch: Time) -> Result<(Self, usize), String> {
        let short = || "an inode lies beyond the end".to_owned();
        let format = u16_at(bytes.get(..COMPACT).ok_or_else(short)?, 0);
        let compact = format & EXTENDED_BIT == 0;
        let length = if compact { COMPACT } else { EXTENDED };
        let bytes = bytes.get(..length).ok_or_else(short)?;
        let layout = DataLayout::of(format >> 1, u32_at(bytes, 16))
            .ok_or_else(|| format!("an inode has the unknown format {format:#x}"))?;
        let inode = if compact {
            Self {
                layout,
                xattrs: xattr_size(u16_at(bytes, 2)),
                mode: u16_at(bytes, 4),
                links: u16_at(bytes, 6).into(),
                size: u32_at(bytes, 8).into(),
                number: u32_at(bytes, 20),
                uid: u16_at(bytes, 24).into(),
                gid: u16_at(bytes, 26).into(),
                mtime: epoch,
            }
        } else {
            Self {
                layout,
                xattrs: xattr_size(u16_at(bytes, 2)),
                mode: u16_at(bytes, 4),
                size: u64_at(bytes, 8),
                number: u32_at(bytes, 20),
                uid: u32_at(bytes, 24),
                gid: u32_at(bytes, 28),
                mtime: Time {
                    seconds: i64::from_le_bytes(super::array(bytes, 32)),
                    nanos: u32_at(bytes, 40),
                },
                links: u32_at(bytes, 44),
            }
        };
        let mut again = Vec::with_capacity(length);
        inode.encode(epoch, &mut again);
        if again != bytes {
            return Err("an inode is not as an index has it".to_owned());
        }
        if inode.mtime.nanos >= 1_000_000_000 {
            return Err("an inode has a time that is none".to_owned());
        }
        Ok((inode, length))
    }
}

fn low(number: u32) -> [u8; 2] {
    u16::try_from(number).expect("compact").to_le_bytes()
}

impl DataLayout {
    /// The binary logarithm of the size of chunks, if there are any.
    pub(in super::super) fn chunk_bits(self) -> Option<u32> {
        match self {
            Self::Chunks { bits } => Some(bits),
            Self::Plain(_) | Self::Inline(_) => None,
        }
    }

    fn numbers(self) -> (u16, u32) {
        match self {
            Self::Plain(block) => (0, block),
            Self::Inline(block) => (2, block),
            Self::Chunks { bits } => (4, CHUNK_INDEXES | (bits - super::BLOCK_BITS)),
        }
    }

    fn of(layout: u16, data: u32) -> Option<Self> {
        match layout {
            0 => Some(Self::Plain(data)),
            2 => Some(Self::Inline(data)),
            4 => {
                let bits = data.checked_sub(CHUNK_INDEXES)?;
                let bits = super::BLOCK_BITS.checked_add(bits)?;
                (bits <= super::MOST_CHUNK_BITS).then_some(Self::Chunks { bits })
            }
            _ => None,
        }
    }
}

/// What an inode is, in its mode and in the directories that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum FileType {
    File,
    Directory,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
    Symlink,
}

impl FileType {
    const ALL: [Self; 7] = [
        Self::File,
        Self::Directory,
        Self::CharacterDevice,
        Self::BlockDevice,
        Self::Fifo,
        Self::Socket,
        Self::Symlink,
    ];

    pub(in super::super) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Directory(_) => Self::Directory,
            Kind::File(_) => Self::File,
            Kind::Symlink(_) => Self::Symlink,
            Kind::CharacterDevice { .. } => Self::CharacterDevice,
            Kind::BlockDevice { .. } => Self::BlockDevice,
            Kind::Fifo => Self::Fifo,
            Kind::Socket => Self::Socket,
        }
    }

    /// In a directory's entry (`EROFS_FT_`).
    pub(in super::super) fn number(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::CharacterDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }

    /// In a mode (`S_IFMT`).
    pub(in super::super) fn mode(self) -> u16 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharacterDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::File => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }

    pub(in super::super) fn of_mode(mode: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.mode() == mode & 0o170_000)
    }
}

#[cfg(test)]
mod tests {
    use super::{DataLayout, Inode};
    use crate::time::Time;

    const EPOCH: Time = Time {
        seconds: -5,
        nanos: 7,
    };

    fn inode() -> Inode {
        Inode {
            layout: DataLayout::Plain(0),
            xattrs: 0,
            mode: 0o100_644,
            links: 1,
            size: 0,
            number: 1,
            uid: 0,
            gid: 0,
            mtime: EPOCH,
        }
    }

    #[test]
    fn inodes_are_extended_when_a_number_does_not_fit() {
        let extended = |change: fn(&mut Inode)| {
            let mut inode = inode();
            change(&mut inode);
            let mut bytes = Vec::new();
            inode.encode(EPOCH, &mut bytes);
            assert_eq!(bytes.len(), inode.length(EPOCH));
            let (read, length) = Inode::decode(&bytes, EPOCH).unwrap();
            assert_eq!((read, length), (inode, bytes.len()));
            bytes.len() == 64
        };
        assert!(!extended(|_| ()));
        assert!(!extended(|inode| inode.size = u64::from(u32::MAX)));
        assert!(!extended(|inode| inode.uid = 65_535));
        assert!(!extended(|inode| inode.xattrs = 12 + 65_534 * 4));
        assert!(!extended(
            |inode| inode.layout = DataLayout::Chunks { bits: 40 }
        ));
        assert!(extended(|inode| inode.size = 1 << 32));
        assert!(extended(|inode| inode.uid = 65_536));
        assert!(extended(|inode| inode.gid = u32::MAX));
        assert!(extended(|inode| inode.links = 65_536));
        assert!(extended(|inode| inode.mtime.nanos = 8));
        assert!(extended(|inode| inode.mtime.seconds = 5));
    }

    #[test]
    fn inodes_of_unknown_form_are_refused() {
        let mut bytes = Vec::new();
        inode().encode(EPOCH, &mut bytes);
        for (at, value) in [(0, 2), (0, 6), (0, 10), (0, 16), (1, 1), (12, 1), (31, 1)] {
            let mut bad = bytes.clone();
            bad[at] = value;
            assert!(Inode::decode(&bad, EPOCH).is_err(), "{at}: {value}");
        }
        assert!(Inode::decode(&bytes[..31], EPOCH).is_err());
        let mut chunks = inode();
        chunks.layout = DataLayout::Chunks { bits: 9 };
        let mut bytes = Vec::new();
        chunks.encode(EPOCH, &mut bytes);
        bytes[16] = 0; // 4-byte addresses
        assert!(Inode::decode(&bytes, EPOCH).is_err());
    }
}
