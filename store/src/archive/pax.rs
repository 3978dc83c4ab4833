//! PAX extended header records (pax(1), "pax Extended Header"): `<length> <key>=<value>\n`.
//!
//! The records are parsed as they come, without a map of everything: only what a layer can hold is
//! kept, and the caller has bounded the bytes.

use super::acl;
use super::sparse::{Segment, SparseHints};
use crate::time::Time;

/// What the records of one header say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    /// Name and value, in the order they came.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: SparseHints,
}

/// Why the records do not parse.
pub(crate) type Problem = String;

impl Pax {
    /// Reads the records of a header on top of what is already here.
    pub(crate) fn read(&mut self, mut records: &[u8]) -> Result<(), Problem> {
        // Some writers pad with NULs to the end of the block.
        while !records.iter().all(|byte| *byte == 0) {
            let (key, value, rest) = split_record(records)?;
            self.set(key, value)?;
            records = rest;
        }
        self.sparse.finish()
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        match key {
            b"path" => self.path = some(value),
            b"linkpath" => self.link = some(value),
            b"size" => self.size = decimal(key, value)?,
            b"uid" => self.uid = decimal(key, value)?,
            b"gid" => self.gid = decimal(key, value)?,
            b"mtime" => self.mtime = time(value)?,
            b"GNU.sparse.major" => self.sparse.major = decimal(key, value)?,
            b"GNU.sparse.minor" => self.sparse.minor = decimal(key, value)?,
            b"GNU.sparse.name" => self.sparse.name = some(value),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.real_size = decimal(key, value)?;
            }
            b"GNU.sparse.offset" => self.sparse.offset(required(key, value)?)?,
            b"GNU.sparse.numbytes" => self.sparse.length(required(key, value)?)?,
            b"GNU.sparse.map" => self.sparse.map = Some(map(value)?),
            b"SCHILY.acl.access" => self.set_acl(b"system.posix_acl_access", value)?,
            b"SCHILY.acl.default" => self.set_acl(b"system.posix_acl_default", value)?,
            _ => self.set_xattr(key, value)?,
        }
        Ok(())
    }

    fn set_acl(&mut self, name: &[u8], text: &[u8]) -> Result<(), Problem> {
        let value = acl::from_text(text)?;
        self.add_xattr(name.to_vec(), value)
    }

    fn set_xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.add_xattr(name.to_vec(), value.to_vec());
        }
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let value = base64(value).ok_or("an xattr value that is not base64")?;
            return self.add_xattr(url_decoded(name), value);
        }
        Ok(()) // names of users, comments, access times: nothing a layer holds
    }

    fn add_xattr(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), Problem> {
        if name.is_empty() || name.contains(&0) {
            return Err("an xattr with an empty name or a NUL in it".to_owned());
        }
        // bsdtar writes each xattr in both spellings.
        match self.xattrs.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => self.xattrs.push((name, value)),
        }
        Ok(())
    }

    /// These records where there are any, else those of the global header.
    pub(crate) fn over(self, global: &Self) -> Self {
        let mut xattrs = global.xattrs.clone();
        xattrs.retain(|(name, _)| !self.xattrs.iter().any(|(own, _)| own == name));
        xattrs.extend(self.xattrs);
        Self {
            path: self.path.or_else(|| global.path.clone()),
            link: self.link.or_else(|| global.link.clone()),
            size: self.size.or(global.size),
            uid: self.uid.or(global.uid),
            gid: self.gid.or(global.gid),
            mtime: self.mtime.or(global.mtime),
            xattrs,
            sparse: self.sparse,
        }
    }
}

/// Key, value, and what follows the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits the first record off.
fn split_record(records: &[u8]) -> Result<Record<'_>, Problem> {
    const LONGEST_LENGTH: usize = 20;
    let bad = || "a PAX record without a length".to_owned();
    let space = records
        .iter()
        .take(LONGEST_LENGTH)
        .position(|byte| *byte == b' ')
        .ok_or_else(bad)?;
    let length = required(b"length", &records[..space]).map_err(|_| bad())?;
    let length = usize::try_from(length).map_err(|_| bad())?;
    if length <= space + 1 || length > records.len() {
        return Err(format!(
            "a PAX record of {length} bytes in a header that is shorter"
        ));
    }
    let (record, rest) = records.split_at(length);
    let body = record[space + 1..]
        .strip_suffix(b"\n")
        .ok_or("a PAX record without its end")?;
    let equals = body
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or("a PAX record without a value")?;
    Ok((&body[..equals], &body[equals + 1..], rest))
}

/// An empty value deletes the keyword.
fn some(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

fn decimal(key: &[u8], value: &[u8]) -> Result<Option<u64>, Problem> {
    if value.is_empty() {
        Ok(None)
    } else {
        required(key, value).map(Some)
    }
}

fn required(key: &[u8], value: &[u8]) -> Result<u64, Problem> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("a PAX {} that is no number", String::from_utf8_lossy(key)))
}

fn time(value: &[u8]) -> Result<Option<Time>, Problem> {
    if value.is_empty() {
        return Ok(None);
    }
    Time::from_decimal(value)
        .map(Some)
        .ok_or_else(|| "a PAX mtime that is no time".to_owned())
}

/// `offset,length,offset,length...`
fn map(value: &[u8]) -> Result<Vec<Segment>, Problem> {
    let mut numbers = value.split(|byte| *byte == b',');
    let mut segments = Vec::new();
    while let Some(offset) = numbers.next() {
        if offset.is_empty() && segments.is_empty() {
            break;
        }
        let length = numbers
            .next()
            .ok_or("a sparse map with an odd count of numbers")?;
        segments.push(Segment {
            offset: required(b"sparse offset", offset)?,
            length: required(b"sparse length", length)?,
        });
    }
    Ok(segments)
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for character in text.iter().filter(|byte| !matches!(byte, b'=' | b'\n')) {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

fn url_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escape = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                decoded.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(records: &[u8]) -> Result<Pax, Problem> {
        let mut pax = Pax::default();
        pax.read(records).map(|()| pax)
    }

    #[test]
    fn records_are_read_by_their_length() {
        let pax =
            parse(b"12 path=a\nb\n20 size=17179869184\n14 uid=3000000\n19 mtime=-1.5\0\0\0\0\0\n");
        assert!(pax.is_err(), "a NUL in an mtime");
        let pax =
            parse(b"12 path=a\nb\n20 size=17179869184\n15 uid=3000000\n14 mtime=-1.5\n").unwrap();
        assert_eq!(pax.path.unwrap(), b"a\nb");
        assert_eq!((pax.size, pax.uid), (Some(16 << 30), Some(3_000_000)));
        assert_eq!(
            pax.mtime,
            Some(Time {
                seconds: -2,
                nanos: 500_000_000
            })
        );
    }

    #[test]
    fn broken_records_are_refused() {
        for records in [
            &b"path=a\n"[..],
            b"999999999999 path=a\n",
            b"99999999999999999999999 path=a\n",
            b"11 path=a\n",
            b"8 path=a\n",
            b"7 path\n",
            b"0 path=a\n",
            b"3 \n",
            b"12 size=abc\n",
            b"11 size=-1\n",
            b"29 size=99999999999999999999\n",
        ] {
            assert!(
                parse(records).is_err(),
                "{}",
                String::from_utf8_lossy(records)
            );
        }
    }

    #[test]
    fn both_spellings_of_xattrs_are_one() {
        let record = |text: &str| {
            let mut length = text.len() + 3;
            while format!("{length} {text}\n").len() != length {
                length += 1;
            }
            format!("{length} {text}\n")
        };
        let both =
            record("SCHILY.xattr.user.a b=v\0w") + &record("LIBARCHIVE.xattr.user.a%20b=dgB3");
        let pax = parse(both.as_bytes()).unwrap();
        assert_eq!(pax.xattrs, [(b"user.a b".to_vec(), b"v\0w".to_vec())]);
    }
}
