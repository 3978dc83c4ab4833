//! Extended attributes, behind an inode or shared by several.

use super::{u16_at, u32_at};

/// Before an inode's attributes: a filter of names (not used), how many are shared, zeros; then the
/// shared ones' places, then the inode's own.
pub(in super::super) const BODY_HEADER: usize = 12;
/// An attribute, before its name and value.
const HEADER: usize = 4;
/// What an attribute takes that is shared, at most: so an index cannot say much more than it is long.
pub(in super::super) const LONGEST_SHARED: usize = 256;

/// What names begin with, and the number for it (`EROFS_XATTR_INDEX_`); the ACLs are whole names.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

fn is_whole_name(prefix: &[u8]) -> bool {
    !prefix.ends_with(b".")
}

/// An attribute as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Attribute<'a> {
    prefix: u8,
    suffix: &'a [u8],
    value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// # Errors
    ///
    /// In words, why an index cannot hold it.
    pub(in super::super) fn new(name: &'a [u8], value: &'a [u8]) -> Result<Self, &'static str> {
        let (prefix, suffix) = PREFIXES
            .iter()
            .find_map(|(prefix, number)| Some((*number, fitting(name, prefix)?)))
            .ok_or("an index has no attributes of this kind")?;
        if u8::try_from(suffix.len()).is_err() || suffix.contains(&0) {
            return Err("the name is none that Linux has");
        }
        if u16::try_from(value.len()).is_err() {
            return Err("the value is longer than 65535 bytes");
        }
        Ok(Self {
            prefix,
            suffix,
            value,
        })
    }

    /// How many bytes it takes.
    pub(in super::super) fn length(&self) -> usize {
        (HEADER + self.suffix.len() + self.value.len()).next_multiple_of(4)
    }

    pub(in super::super) fn encode(&self, bytes: &mut Vec<u8>) {
        let end = bytes.len() + self.length();
        bytes.push(u8::try_from(self.suffix.len()).expect("checked when made"));
        bytes.push(self.prefix);
        let value = u16::try_from(self.value.len()).expect("checked when made");
        bytes.extend(value.to_le_bytes());
        bytes.extend(self.suffix);
        bytes.extend(self.value);
        bytes.resize(end, 0);
    }

    /// The attribute at the beginning of `bytes`.
    pub(in super::super) fn decode(bytes: &'a [u8]) -> Result<Self, String> {
        let short = || "an extended attribute lies beyond its place".to_owned();
        let header = bytes.get(..HEADER).ok_or_else(short)?;
        let (name, value) = (usize::from(header[0]), usize::from(u16_at(header, 2)));
        let rest = &bytes[HEADER..];
        let attribute = Self {
            prefix: header[1],
            suffix: rest.get(..name).ok_or_else(short)?,
            value: rest.get(name..name + value).ok_or_else(short)?,
        };
        let known = PREFIXES.iter().any(|(prefix, number)| {
            *number == attribute.prefix && is_whole_name(prefix) == attribute.suffix.is_empty()
        });
        if !known || attribute.suffix.contains(&0) || bytes.len() < attribute.length() {
            return Err("an extended attribute has no name that Linux has".to_owned());
        }
        Ok(attribute)
    }

    /// Its whole name and its value.
    pub(in super::super) fn to_pair(self) -> (Vec<u8>, Vec<u8>) {
        let mut prefixes = PREFIXES.iter();
        let prefix = prefixes.find(|(_, number)| *number == self.prefix);
        let (prefix, _) = prefix.expect("checked when made");
        ([prefix, self.suffix].concat(), self.value.to_vec())
    }
}

/// What is behind a prefix, if the name has it.
fn fitting<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let suffix = name.strip_prefix(prefix)?;
    (suffix.is_empty() == is_whole_name(prefix)).then_some(suffix)
}

/// The header of an inode's attributes, with the places of those that are shared, and how long it is:
/// what follows are its own.
pub(in super::super) fn shared_body(body: &[u8]) -> Result<(Vec<u32>, usize), String> {
    let count = usize::from(*body.get(4).ok_or("extended attributes lack their header")?);
    let end = BODY_HEADER + count * 4;
    let places = body
        .get(BODY_HEADER..end)
        .ok_or("more extended attributes are shared than there are")?;
    let places = places.chunks_exact(4).map(|place| u32_at(place, 0));
    Ok((places.collect(), end))
}

#[cfg(test)]
mod tests {
    use super::Attribute;

    #[test]
    fn attributes_come_back_as_they_were() {
        for (name, value) in [
            (&b"user.a"[..], &b""[..]),
            (b"user.mime_type", b"text/plain"),
            (b"trusted.overlay.opaque", b"y"),
            (b"security.capability", b"\x01\0\0\x02\0\0"),
            (b"system.posix_acl_access", b"\x02\0\0\0"),
            (b"system.posix_acl_default", b"\x02\0\0\0"),
        ] {
            let attribute = Attribute::new(name, value).unwrap();
            let mut bytes = Vec::new();
            attribute.encode(&mut bytes);
            assert_eq!(bytes.len(), attribute.length());
            assert_eq!(Attribute::decode(&bytes).unwrap(), attribute);
            assert_eq!(attribute.to_pair(), (name.to_vec(), value.to_vec()));
            assert!(Attribute::decode(&bytes[..bytes.len() - 1]).is_err());
        }
    }

    #[test]
    fn attributes_that_an_index_cannot_hold_are_refused() {
        let long = [&b"user."[..], &[b'x'; 256]].concat();
        for name in [
            &b"user."[..],
            b"user",
            b"",
            b"system.posix_acl_access.x",
            b"system.nfs4_acl",
            b"btrfs.compression",
            b"user.a\0b",
            &long,
        ] {
            assert!(Attribute::new(name, b"").is_err());
        }
        assert!(Attribute::new(b"user.a", &[0; 65_535]).is_ok());
        assert!(Attribute::new(b"user.a", &[0; 65_536]).is_err());
    }
}
