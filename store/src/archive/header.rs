//! One 512-byte header block: POSIX.1-1988 ustar, GNU and V7 (pax(1), GNU tar manual "Basic Tar
//! Format").
//!
//! ```text
//! 0 name 100 | mode 8 | uid 8 | gid 8 | size 12 | mtime 12 | chksum 8 | type 1 | link 100
//! 257 magic 6 version 2 | uname 32 | gname 32 | major 8 | minor 8 | prefix 155 | 12 unused
//! GNU: 345 atime 12 ctime 12 offset 12 longnames 4 pad 1 | 386 sparse 4*24 | 482 extended 1
//!      483 realsize 12
//! ```

use std::ops::Range;

/// The unit of everything in a tar.
pub(crate) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
const GNU_SPARSE: Range<usize> = 386..482;
const GNU_EXTENDED: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;

const USTAR: &[u8; 8] = b"ustar\x0000";
const GNU: &[u8; 8] = b"ustar  \0";

/// Offsets and lengths as they are in a header: not checked.
pub(crate) type RawSegments = Vec<(i64, i64)>;

/// A header block as it is in the archive.
#[derive(Clone)]
pub(crate) struct Header(pub(crate) [u8; BLOCK]);

impl Header {
    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Whether the checksum is right, counted in unsigned bytes or, as some old tars did, signed.
    pub(crate) fn checksum_fits(&self) -> bool {
        let Ok(recorded) = number(&self.0[CHECKSUM]) else {
            return false;
        };
        let (unsigned, signed) = self.sums();
        recorded == unsigned || recorded == signed
    }

    fn sums(&self) -> (i64, i64) {
        let mut sums = (0, 0);
        for (place, byte) in self.0.iter().enumerate() {
            let byte = if CHECKSUM.contains(&place) {
                b' '
            } else {
                *byte
            };
            sums.0 += i64::from(byte);
            sums.1 += i64::from(byte.cast_signed());
        }
        sums
    }

    fn is_ustar(&self) -> bool {
        self.0[MAGIC].starts_with(b"ustar\0")
    }

    pub(crate) fn is_gnu(&self) -> bool {
        &self.0[MAGIC] == GNU
    }

    pub(crate) fn type_flag(&self) -> u8 {
        self.0[TYPE]
    }

    /// The name, with the prefix ustar keeps apart.
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[NAME]);
        let prefix = text(&self.0[PREFIX]);
        if !self.is_ustar() || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(crate) fn link(&self) -> &[u8] {
        text(&self.0[LINK])
    }

    pub(crate) fn mode(&self) -> Result<i64, BadNumber> {
        number(&self.0[MODE])
    }

    pub(crate) fn uid(&self) -> Result<i64, BadNumber> {
        number(&self.0[UID])
    }

    pub(crate) fn gid(&self) -> Result<i64, BadNumber> {
        number(&self.0[GID])
    }

    pub(crate) fn size(&self) -> Result<i64, BadNumber> {
        number(&self.0[SIZE])
    }

    pub(crate) fn mtime(&self) -> Result<i64, BadNumber> {
        number(&self.0[MTIME])
    }

    pub(crate) fn device(&self) -> Result<(i64, i64), BadNumber> {
        Ok((number(&self.0[MAJOR])?, number(&self.0[MINOR])?))
    }

    /// GNU's sparse map: up to four segments, whether blocks of more follow, and the real size.
    pub(crate) fn gnu_sparse(&self) -> Result<(RawSegments, bool, i64), BadNumber> {
        let segments = segments(&self.0[GNU_SPARSE])?;
        Ok((
            segments,
            self.0[GNU_EXTENDED] != 0,
            number(&self.0[GNU_REAL_SIZE])?,
        ))
    }

    /// A block of more GNU sparse segments: up to 21, and whether another block follows.
    pub(crate) fn gnu_more_sparse(&self) -> Result<(RawSegments, bool), BadNumber> {
        Ok((segments(&self.0[..504])?, self.0[504] != 0))
    }

    /// A ustar header with everything zero but the magic and the type.
    pub(crate) fn ustar(type_flag: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[MAGIC].copy_from_slice(USTAR);
        header.0[TYPE] = type_flag;
        header
    }

    /// Sets name and prefix; false if ustar has no room for it.
    pub(crate) fn set_name(&mut self, name: &[u8]) -> bool {
        if name.len() <= NAME.len() {
            self.0[NAME][..name.len()].copy_from_slice(name);
            return true;
        }
        // The slash between prefix and name is not stored. A name ends in one for directories.
        let fits = |at: &usize| {
            name[*at] == b'/'
                && *at <= PREFIX.len()
                && (1..=NAME.len()).contains(&(name.len() - at - 1))
        };
        let Some(at) = (1..name.len() - 1).find(fits) else {
            return false;
        };
        self.0[PREFIX][..at].copy_from_slice(&name[..at]);
        let rest = &name[at + 1..];
        self.0[NAME][..rest.len()].copy_from_slice(rest);
        true
    }

    /// Sets the link target; false if ustar has no room for it.
    pub(crate) fn set_link(&mut self, target: &[u8]) -> bool {
        if target.len() > LINK.len() {
            return false;
        }
        self.0[LINK][..target.len()].copy_from_slice(target);
        true
    }

    pub(crate) fn set_mode(&mut self, mode: u32) {
        octal(&mut self.0[MODE], u64::from(mode & 0o7777));
    }

    pub(crate) fn set_uid(&mut self, uid: u64) -> bool {
        octal(&mut self.0[UID], uid)
    }

    pub(crate) fn set_gid(&mut self, gid: u64) -> bool {
        octal(&mut self.0[GID], gid)
    }

    pub(crate) fn set_size(&mut self, size: u64) -> bool {
        octal(&mut self.0[SIZE], size)
    }

    pub(crate) fn set_mtime(&mut self, mtime: u64) -> bool {
        octal(&mut self.0[MTIME], mtime)
    }

    pub(crate) fn set_device(&mut self, major: u64, minor: u64) -> bool {
        octal(&mut self.0[MAJOR], major) && octal(&mut self.0[MINOR], minor)
    }

    pub(crate) fn set_checksum(&mut self) {
        let sum = u64::try_from(self.sums().0).expect("a sum of bytes is not negative");
        octal(&mut self.0[CHECKSUM][..7], sum);
        self.0[CHECKSUM.end - 1] = b' ';
    }
}

/// A numeric field that holds no number, or one beyond 63 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadNumber;

/// A numeric field: octal text, or GNU's base-256 where the first bit is set. Empty is 0.
pub(crate) fn number(field: &[u8]) -> Result<i64, BadNumber> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field),
        _ => octal_text(field),
    }
}

fn base_256(field: &[u8]) -> Result<i64, BadNumber> {
    // 0x80 starts a positive number, 0xff a negative one in two's complement.
    let mut value: i128 = if field[0] & 0x40 == 0 { 0 } else { -1 };
    value = value << 6 | i128::from(field[0] & 0x3f);
    for byte in &field[1..] {
        value = value << 8 | i128::from(*byte);
        if i64::try_from(value).is_err() {
            return Err(BadNumber);
        }
    }
    i64::try_from(value).map_err(|_| BadNumber)
}

fn octal_text(field: &[u8]) -> Result<i64, BadNumber> {
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let Some(start) = field.iter().position(|byte| !blank(byte)) else {
        return Ok(0);
    };
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let mut value = 0_i64;
    for byte in &digits[..end] {
        if !(b'0'..=b'7').contains(byte) {
            return Err(BadNumber);
        }
        value = value.checked_mul(8).ok_or(BadNumber)? + i64::from(byte - b'0');
    }
    Ok(value)
}

/// Writes octal digits and a NUL; false if there is no room.
fn octal(field: &mut [u8], value: u64) -> bool {
    let text = format!("{value:0width$o}", width = field.len() - 1);
    if text.len() >= field.len() {
        return false;
    }
    field[..text.len()].copy_from_slice(text.as_bytes());
    true
}

/// A text field: up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    &field[..end]
}

/// GNU sparse segments of 12 + 12 bytes; an empty one ends the list.
fn segments(field: &[u8]) -> Result<RawSegments, BadNumber> {
    let mut found = Vec::new();
    for segment in field.chunks_exact(24) {
        if segment[0] == 0 || segment[12] == 0 {
            break;
        }
        found.push((number(&segment[..12])?, number(&segment[12..])?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"77777777", 0o77_777_777),
            (b"        ", 0),
            (b"\x80\0\0\0\0\x20\0\0", 1 << 21),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", 8 << 30),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", -256),
        ] {
            assert_eq!(number(field), Ok(value), "{field:?}");
        }
        for field in [
            &b"0000648\0"[..],
            b"-1\0\0\0\0\0\0",
            b"12x\0\0\0\0\0",
            b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x80\x80\0\0\0\0\0\0\0\0\0\0",
        ] {
            let result = number(field);
            assert!(
                result.is_err() || field.len() == 12 && result.unwrap() >= 0,
                "{field:?}"
            );
        }
    }

    #[test]
    fn long_names_split_at_a_slash_or_not_at_all() {
        let mut header = Header::ustar(b'0');
        let name = [&[b'a'; 90][..], b"/", &[b'b'; 90]].concat();
        assert!(header.set_name(&name));
        assert_eq!(header.name(), name);
        assert!(!Header::ustar(b'0').set_name(&[b'a'; 101]));
        assert!(!Header::ustar(b'5').set_name(&[&[b'a'; 100][..], b"/"].concat()));
        assert!(!Header::ustar(b'0').set_name(&[&[b'/'][..], &[b'a'; 100]].concat()));
    }

    #[test]
    fn checksums_fit_signed_and_unsigned() {
        let mut header = Header::ustar(b'0');
        header.set_name("\u{e9}t\u{e9}".as_bytes());
        header.set_checksum();
        assert!(header.checksum_fits());
        header.0[0] ^= 1;
        assert!(!header.checksum_fits());
    }
}
