//! A builder of archives that can also write what no packer would.

/// A tar being written by hand: every field as the test wants it.
#[derive(Clone, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
}

/// A header's fields, raw.
#[derive(Clone)]
pub(crate) struct Raw<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size: u64,
    pub(crate) mtime: u64,
    pub(crate) kind: u8,
    pub(crate) link: &'a [u8],
    pub(crate) device: (u32, u32),
}

impl Default for Raw<'_> {
    fn default() -> Self {
        Self {
            name: b"file",
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 1_000_000_000,
            kind: b'0',
            link: b"",
            device: (0, 0),
        }
    }
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }

    /// Without the end marker.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.data(
            &Raw {
                name: name.as_bytes(),
                ..Raw::default()
            },
            content,
        )
    }

    pub(crate) fn directory(self, name: &str, mode: u32) -> Self {
        self.raw(&Raw {
            name: name.as_bytes(),
            kind: b'5',
            mode,
            ..Raw::default()
        })
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        let (name, link) = (name.as_bytes(), target.as_bytes());
        self.raw(&Raw {
            name,
            link,
            kind: b'2',
            mode: 0o777,
            ..Raw::default()
        })
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.raw(&Raw {
            name: name.as_bytes(),
            link: target.as_bytes(),
            kind: b'1',
            ..Raw::default()
        })
    }

    /// A header and its data, padded; the size is that of the data.
    pub(crate) fn data(mut self, raw: &Raw<'_>, content: &[u8]) -> Self {
        self = self.raw(&Raw {
            size: content.len() as u64,
            ..raw.clone()
        });
        self.bytes(content)
    }

    /// Data, padded to a block.
    pub(crate) fn bytes(mut self, content: &[u8]) -> Self {
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// PAX records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let records: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect();
        self.data(
            &Raw {
                name: b"pax",
                kind: b'x',
                ..Raw::default()
            },
            &records,
        )
    }

    /// A header only.
    pub(crate) fn raw(mut self, raw: &Raw<'_>) -> Self {
        let mut block = [0_u8; 512];
        let put = |block: &mut [u8], at: usize, bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(&mut block, 0, &raw.name[..raw.name.len().min(100)]);
        put(&mut block, 100, &number(raw.mode.into(), 8));
        put(&mut block, 108, &number(raw.uid, 8));
        put(&mut block, 116, &number(raw.gid, 8));
        put(&mut block, 124, &number(raw.size, 12));
        put(&mut block, 136, &number(raw.mtime, 12));
        block[156] = raw.kind;
        put(&mut block, 157, &raw.link[..raw.link.len().min(100)]);
        put(&mut block, 257, b"ustar  \0");
        put(&mut block, 329, &number(raw.device.0.into(), 8));
        put(&mut block, 337, &number(raw.device.1.into(), 8));
        self.bytes.extend(checked(block));
        self
    }

    /// A block as it is, with its checksum made right.
    pub(crate) fn block(mut self, block: [u8; 512]) -> Self {
        self.bytes.extend(checked(block));
        self
    }
}

/// A header block with its checksum.
pub(crate) fn checked(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A numeric field: octal, or base-256 where that does not fit.
pub(crate) fn number(value: u64, width: usize) -> Vec<u8> {
    let text = format!("{value:0digits$o}\0", digits = width - 1);
    if text.len() == width {
        return text.into_bytes();
    }
    let mut field = vec![0; width];
    field[width - 8..].copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
    field
}

/// One PAX record.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    length = rest + length.to_string().len();
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}
