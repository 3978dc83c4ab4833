//! Writes tar entries in one canonical way: ustar where it can say everything, PAX records only
//! for what it cannot. The same entry is always the same bytes.

use super::sparse::Segment;
use super::{BLOCK, Entry, Header, Kind};

/// Time 0, root, 0644: PAX headers of their own have no metadata worth recording.
const PAX_HEADER_NAME: &[u8] = b"PaxHeaders/entry";

/// The header blocks of an entry, up to where its data begins. For a sparse file that includes the
/// map (PAX 1.0).
pub(crate) fn headers(entry: &Entry) -> Vec<u8> {
    let mut header = Header::ustar(type_flag(entry.kind));
    let mut records = Records::default();
    let map = entry
        .sparse
        .as_ref()
        .map(|sparse| map_blocks(&sparse.segments));
    let map_length = map.as_ref().map_or(0, Vec::len) as u64;
    if let Some(sparse) = &entry.sparse {
        records.add(b"GNU.sparse.major", b"1");
        records.add(b"GNU.sparse.minor", b"0");
        records.add(b"GNU.sparse.name", &entry.name);
        records.add(
            b"GNU.sparse.realsize",
            sparse.real_size.to_string().as_bytes(),
        );
        header.set_name(b"GNUSparseFile/entry");
    } else if needs_pax(&entry.name) || !header.set_name(&entry.name) {
        records.add(b"path", &entry.name);
    }
    if needs_pax(&entry.link) || !header.set_link(&entry.link) {
        records.add(b"linkpath", &entry.link);
    }
    let stored = entry.stored + map_length;
    if !header.set_size(stored) {
        records.add(b"size", stored.to_string().as_bytes());
    }
    if !header.set_uid(entry.uid.into()) {
        records.add(b"uid", entry.uid.to_string().as_bytes());
    }
    if !header.set_gid(entry.gid.into()) {
        records.add(b"gid", entry.gid.to_string().as_bytes());
    }
    let whole = u64::try_from(entry.mtime.seconds)
        .ok()
        .filter(|_| entry.mtime.nanos == 0);
    if !whole.is_some_and(|seconds| header.set_mtime(seconds)) {
        records.add(b"mtime", entry.mtime.decimal().as_bytes());
    }
    for (name, value) in &entry.xattrs {
        records.add(&[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    header.set_mode(entry.mode);
    // Device numbers of Linux (12 and 20 bits) always fit.
    header.set_device(entry.device.0.into(), entry.device.1.into());
    header.set_checksum();
    let mut blocks = records.blocks();
    blocks.extend_from_slice(&header.0);
    blocks.extend(map.unwrap_or_default());
    blocks
}

/// The end of an archive.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// How many zero bytes follow data of this length.
pub(crate) fn padding(length: u64) -> usize {
    usize::try_from(length.next_multiple_of(BLOCK as u64) - length).expect("less than a block")
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::Hardlink => b'1',
        Kind::Symlink => b'2',
        Kind::CharacterDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// ustar says nothing about bytes beyond ASCII; PAX records carry them as they are.
fn needs_pax(name: &[u8]) -> bool {
    !name.is_ascii()
}

/// `count\n`, then `offset\nlength\n` for each, padded to a block.
fn map_blocks(segments: &[Segment]) -> Vec<u8> {
    let mut text = format!("{}\n", segments.len());
    for segment in segments {
        text.push_str(&format!("{}\n{}\n", segment.offset, segment.length));
    }
    let mut blocks = text.into_bytes();
    blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    blocks
}

#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + digits(rest);
        length = rest + digits(length);
        self.0.extend_from_slice(format!("{length} ").as_bytes());
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// A PAX header with these records, or nothing.
    fn blocks(self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut header = Header::ustar(b'x');
        header.set_name(PAX_HEADER_NAME);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(self.0.len() as u64);
        header.set_device(0, 0);
        header.set_checksum();
        let mut blocks = header.0.to_vec();
        blocks.extend_from_slice(&self.0);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        blocks
    }
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Reader;
    use crate::archive::sparse::SparseMap;
    use crate::time::Time;

    fn plain() -> Entry {
        Entry {
            name: b"etc/passwd".to_vec(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::from_seconds(1),
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
            stored: 0,
        }
    }

    fn through(entry: &Entry) -> Entry {
        let blocks = headers(entry);
        Reader::new(&*blocks).next_entry().unwrap().unwrap()
    }

    #[test]
    fn what_ustar_can_say_takes_one_block() {
        assert_eq!(headers(&plain()).len(), BLOCK);
        let device = Entry {
            kind: Kind::BlockDevice,
            device: (4095, 1_048_575),
            ..plain()
        };
        assert_eq!(headers(&device).len(), BLOCK);
        assert_eq!(through(&device).device, device.device);
    }

    #[test]
    fn what_ustar_cannot_say_comes_back_from_pax_records() {
        let long = [&[b'n'; 255][..], b"/", &[b'm'; 255]].concat();
        let map = SparseMap {
            segments: vec![Segment {
                offset: 1 << 40,
                length: 0,
            }],
            real_size: 1 << 40,
        };
        for entry in [
            Entry {
                name: long.clone(),
                ..plain()
            },
            Entry {
                name: b"caf\xe9".to_vec(),
                ..plain()
            },
            Entry {
                kind: Kind::Symlink,
                link: long,
                ..plain()
            },
            Entry {
                uid: 1 << 21,
                gid: u32::MAX - 1,
                ..plain()
            },
            Entry {
                mtime: Time {
                    seconds: -2,
                    nanos: 5,
                },
                ..plain()
            },
            Entry {
                mtime: Time::from_seconds(1 << 34),
                ..plain()
            },
            Entry {
                stored: 9 << 30,
                ..plain()
            },
            Entry {
                xattrs: vec![(b"user.\xff".to_vec(), b"\n\0".to_vec())],
                ..plain()
            },
            Entry {
                sparse: Some(map),
                ..plain()
            },
        ] {
            let read = through(&entry);
            assert_eq!(format!("{read:?}"), format!("{entry:?}"));
            assert!(headers(&entry).len() > BLOCK);
        }
    }

    #[test]
    fn a_records_length_counts_its_own_digits() {
        for length in 0..1100 {
            let mut records = Records::default();
            records.add(b"path", &vec![b'x'; length]);
            let text = String::from_utf8(records.0.clone()).unwrap();
            let (said, _) = text.split_once(' ').unwrap();
            assert_eq!(said.parse::<usize>().unwrap(), text.len());
        }
    }
}
