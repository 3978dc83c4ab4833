//! The reader against damaged archives: errors or other archives, never a panic.

use super::sparse::{Segment, SparseMap};
use super::{BLOCK, Entry, Header, Kind, LONGEST_NAME, Reader, writer};
use crate::error::Result;
use crate::time::Time;

fn entry(name: &str, kind: Kind, stored: u64) -> Entry {
    Entry {
        name: name.into(),
        kind,
        mode: 0o644,
        uid: 3_000_000,
        gid: 0,
        mtime: Time {
            seconds: 5,
            nanos: 7,
        },
        link: Vec::new(),
        device: (0, 0),
        xattrs: vec![(b"user.a".to_vec(), b"value".to_vec())],
        sparse: None,
        stored,
    }
}

/// An archive with one of everything.
fn sample() -> Vec<u8> {
    let segments = vec![
        Segment {
            offset: 0,
            length: 10,
        },
        Segment {
            offset: 4096,
            length: 90,
        },
    ];
    let map = SparseMap {
        segments,
        real_size: 5000,
    };
    let mut bytes = Vec::new();
    for entry in [
        entry("file", Kind::File, 100),
        Entry {
            sparse: Some(map),
            ..entry("sparse", Kind::File, 100)
        },
        Entry {
            link: b"file".to_vec(),
            ..entry(&"long/".repeat(60), Kind::Hardlink, 0)
        },
        Entry {
            device: (1, 3),
            ..entry("null", Kind::CharacterDevice, 0)
        },
    ] {
        bytes.extend(writer::headers(&entry));
        bytes.resize(bytes.len() + usize::try_from(entry.stored).unwrap(), b'd');
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.extend(writer::END);
    bytes
}

/// Reads everything; how many entries there were, or the error.
fn read(bytes: &[u8]) -> Result<usize> {
    let mut reader = Reader::new(bytes);
    let (mut count, mut buffer) = (0, [0; 64]);
    while let Some(entry) = reader.next_entry()? {
        assert!(entry.name.len() <= LONGEST_NAME && !entry.name.contains(&0));
        let mut stored = 0;
        loop {
            match reader.read_data(&mut buffer)? {
                0 => break,
                read => stored += read as u64,
            }
        }
        assert_eq!(stored, entry.stored);
        count += 1;
    }
    Ok(count)
}

/// Makes every header's checksum right again, so that damage gets past it.
fn mend(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK) {
        let mut header = Header(block.try_into().unwrap());
        if header.0[257..262] == *b"ustar" {
            header.set_checksum();
            block.copy_from_slice(&header.0);
        }
    }
}

/// Damaged archives are errors or other archives, and never a panic: 30,000 of them, the same
/// ones each time.
#[test]
fn no_damage_makes_the_reader_panic() {
    let whole = sample();
    assert_eq!(read(&whole).unwrap(), 4);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for _ in 0..30_000 {
        let mut bytes = whole.clone();
        for _ in 0..=random(6) {
            let at = random(bytes.len());
            bytes[at] = match random(3) {
                0 => b"0123456789\n=, \x80\xff\0"[random(17)],
                _ => u8::try_from(random(256)).unwrap(),
            };
        }
        if random(4) == 0 {
            bytes.truncate(random(whole.len()));
        }
        if random(4) != 0 {
            mend(&mut bytes);
        }
        let _ = read(&bytes);
    }
}
