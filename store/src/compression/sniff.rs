//! What some bytes are, by their beginning.

use crate::archive::{BLOCK, Header};

/// How many bytes [`sniff`] and [`describe`] want to see.
pub(super) const ENOUGH: usize = 2 * BLOCK;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Tar,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// The formats an import takes.
pub(super) fn sniff(start: &[u8]) -> Option<Format> {
    match start {
        [0x1f, 0x8b, 8, ..] => Some(Format::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Format::Zstd),
        // A skippable frame (RFC 8878, 3.1.2): pzstd begins with one.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Format::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Format::Xz),
        [
            b'B',
            b'Z',
            b'h',
            b'1'..=b'9',
            0x31,
            0x41,
            0x59,
            0x26,
            0x53,
            0x59,
            ..,
        ] => Some(Format::Bzip2),
        // An empty bzip2 stream has no block, only the end.
        [
            b'B',
            b'Z',
            b'h',
            b'1'..=b'9',
            0x17,
            0x72,
            0x45,
            0x38,
            0x50,
            0x90,
            ..,
        ] => Some(Format::Bzip2),
        _ if is_tar(start) => Some(Format::Tar),
        _ => None,
    }
}

fn is_tar(start: &[u8]) -> bool {
    let Some(block) = start.first_chunk::<BLOCK>() else {
        return false;
    };
    let header = Header(*block);
    header.is_zero() || header.checksum_fits()
}

/// What the bytes look like, where they are none of the formats.
pub(super) fn describe(start: &[u8]) -> &'static str {
    const KNOWN: [(usize, &[u8], &str); 22] = [
        (0, b"PK\x03\x04", "a zip archive"),
        (0, b"PK\x05\x06", "an empty zip archive"),
        (0, b"hsqs", "a squashfs image"),
        (0, b"070701", "a cpio archive"),
        (0, b"070702", "a cpio archive"),
        (0, b"070707", "a cpio archive"),
        (0, b"\xc7\x71", "a cpio archive"),
        (0, b"!<arch>\n", "an ar archive or Debian package"),
        (0, b"\xed\xab\xee\xdb", "an rpm package"),
        (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (0, b"Rar!", "a rar archive"),
        (0, b"\x04\x22\x4d\x18", "lz4 data"),
        (0, b"LZIP", "lzip data"),
        (0, b"\x1f\x9d", "compress (.Z) data"),
        (0, b"\x5d\0\0", "lzma data"),
        (0, b"QFI\xfb", "a qcow2 disk image"),
        (0, b"\x7fELF", "an ELF program"),
        (0, b"#!", "a script"),
        (0, b"<", "HTML or XML"),
        (0, b"{", "JSON"),
        (257, b"ustar", "a tar archive with a damaged first header"),
        (510, b"\x55\xaa", "a disk image"),
    ];
    if start.is_empty() {
        return "nothing at all";
    }
    let fits = |(at, magic, _): &&(usize, &[u8], &str)| {
        start.get(*at..).is_some_and(|rest| rest.starts_with(magic))
    };
    if let Some((_, _, what)) = KNOWN.iter().find(fits) {
        return what;
    }
    let printable = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let is_text = start.iter().all(printable);
    if is_text {
        "text"
    } else {
        "data of no known kind"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_content() {
        for (start, format) in [
            (&b"\x1f\x8b\x08\0"[..], Some(Format::Gzip)),
            (b"\x28\xb5\x2f\xfd\0", Some(Format::Zstd)),
            (b"\x5e\x2a\x4d\x18\0", Some(Format::Zstd)),
            (b"\xfd7zXZ\0\0", Some(Format::Xz)),
            (b"BZh91AY&SY\0", Some(Format::Bzip2)),
            (&[0; 512], Some(Format::Tar)),
            (&[0; 511], None),
            (b"BZhello", None),
            (b"", None),
        ] {
            assert_eq!(sniff(start), format);
        }
    }

    #[test]
    fn what_is_not_accepted_is_named() {
        assert_eq!(describe(b"PK\x03\x04rest"), "a zip archive");
        assert_eq!(describe(b"hello\n"), "text");
        assert_eq!(describe(b""), "nothing at all");
        assert_eq!(describe(b"\x01\x02\x03"), "data of no known kind");
    }
}
