//! One line of a listing: written, read, and compared with another.

use std::fmt::{Display, Write as _};

use crate::archive::LONGEST_NAME;
use crate::layer::content::Content;
use crate::time::Time;
use crate::xattr::Attributes;

/// Something a layer's tree has under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative to the root, without a slash at its end; `.` for the root itself.
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// One more name of what stands under this earlier one.
    Hardlink(Vec<u8>),
    Inode(Inode),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    /// Permissions with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Attributes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File { size: u64, content: Content },
    Symlink(Vec<u8>),
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
    Socket,
}

impl Kind {
    fn letter(&self) -> char {
        match self {
            Self::Directory => 'd',
            Self::File { .. } => 'f',
            Self::Symlink(_) => 'l',
            Self::CharacterDevice { .. } => 'c',
            Self::BlockDevice { .. } => 'b',
            Self::Fifo => 'p',
            Self::Socket => 's',
        }
    }

    /// As a report calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File { .. } => "file",
            Self::Symlink(_) => "symlink",
            Self::CharacterDevice { major: 0, minor: 0 } => "whiteout",
            Self::CharacterDevice { .. } => "character device",
            Self::BlockDevice { .. } => "block device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }

    /// With its article, and the numbers of a device.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::CharacterDevice { major, minor } | Self::BlockDevice { major, minor }
                if (*major, *minor) != (0, 0) =>
            {
                format!("a {} {major}:{minor}", self.name())
            }
            _ => format!("a {}", self.name()),
        }
    }
}

/// Any byte that is no visible ASCII, and those that mean something here, as `\xHH`.
fn escape(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'\\' | b'=' => put(line, format_args!("\\x{byte:02x}")),
            0x21..=0x7e => line.push(char::from(*byte)),
            _ => put(line, format_args!("\\x{byte:02x}")),
        }
    }
}

fn put(line: &mut String, text: impl Display) {
    // Writing to a string does not fail.
    let _ = write!(line, "{text}");
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.strip_prefix('x')?.split_at_checked(2)?;
        bytes.extend(hex::decode(code).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    (!bytes.is_empty() && bytes.len() <= LONGEST_NAME).then_some(bytes)
}

impl Entry {
    /// Appends the line, with its newline.
    pub(crate) fn write(&self, line: &mut String) {
        escape(line, &self.path);
        let inode = match &self.what {
            What::Hardlink(first) => {
                line.push_str(" h ");
                escape(line, first);
                line.push('\n');
                return;
            }
            What::Inode(inode) => inode,
        };
        put(
            line,
            format_args!(
                " {} {:04o} {} {} {}",
                inode.kind.letter(),
                inode.mode,
                inode.uid,
                inode.gid,
                inode.mtime.decimal()
            ),
        );
        match &inode.kind {
            Kind::File { size, content } => put(line, format_args!(" {size} {content}")),
            Kind::Symlink(target) => {
                line.push(' ');
                escape(line, target);
            }
            Kind::CharacterDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                put(line, format_args!(" {major}:{minor}"));
            }
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
        for (name, value) in &inode.xattrs {
            line.push(' ');
            escape(line, name);
            put(line, format_args!("={}", hex::encode(value)));
        }
        line.push('\n');
    }

    /// Reads a line, without its newline.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let path = unescape(fields.next()?)?;
        let letter = fields.next()?;
        if letter == "h" {
            let first = unescape(fields.next()?)?;
            let what = What::Hardlink(first);
            return fields.next().is_none().then_some(Self { path, what });
        }
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let mtime = Time::from_decimal(fields.next()?.as_bytes())?;
        let kind = kind(letter, &mut fields)?;
        let attribute = |field: &str| {
            let (name, value) = field.split_once('=')?;
            Some((unescape(name)?, hex::decode(value).ok()?))
        };
        let xattrs = fields.map(attribute).collect::<Option<_>>()?;
        let inode = Inode {
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        };
        Some(Self {
            path,
            what: What::Inode(inode),
        })
    }
}

fn kind<'a>(letter: &str, fields: &mut impl Iterator<Item = &'a str>) -> Option<Kind> {
    let mut device = || {
        let (major, minor) = fields.next()?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    Some(match letter {
        "d" => Kind::Directory,
        "p" => Kind::Fifo,
        "s" => Kind::Socket,
        "c" => device().map(|(major, minor)| Kind::CharacterDevice { major, minor })?,
        "b" => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
        "l" => Kind::Symlink(unescape(fields.next()?)?),
        "f" => Kind::File {
            size: fields.next()?.parse().ok()?,
            content: fields.next()?.parse().ok()?,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn entry(path: &[u8], kind: Kind) -> Entry {
        let inode = Inode {
            kind,
            mode: 0o4755,
            uid: 1000,
            gid: 4_000_000_000,
            mtime: Time {
                seconds: -1,
                nanos: 250_000_000,
            },
            xattrs: vec![(b"user.a=b".to_vec(), b"\x00\xff".to_vec())],
        };
        Entry {
            path: path.to_vec(),
            what: What::Inode(inode),
        }
    }

    fn line(entry: &Entry) -> String {
        let mut line = String::new();
        entry.write(&mut line);
        line
    }

    #[test]
    fn every_entry_is_one_line_that_reads_back_as_it_was() {
        let file = Kind::File {
            size: u64::MAX,
            content: Content::Plain(Digest::of(b"")),
        };
        let holes = Kind::File {
            size: 7,
            content: Content::Holes(Digest::of(b"x")),
        };
        let entries = [
            entry(b".", Kind::Directory),
            entry(b"a b\nc\\x41=\xff", file),
            entry(b"h", holes),
            entry("\u{e9}/x".as_bytes(), Kind::Symlink(b"../a b".to_vec())),
            entry(b"dev/null", Kind::CharacterDevice { major: 1, minor: 3 }),
            entry(b"dev/sda", Kind::BlockDevice { major: 8, minor: 0 }),
            entry(b"p", Kind::Fifo),
            entry(b"s", Kind::Socket),
            Entry {
                path: b"z".to_vec(),
                what: What::Hardlink(b"a b".to_vec()),
            },
        ];
        for entry in entries {
            let line = line(&entry);
            let text = line.strip_suffix('\n').unwrap();
            assert!(
                text.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
                "{text}"
            );
            assert_eq!(Entry::parse(text), Some(entry), "{text}");
        }
    }

    #[test]
    fn a_line_looks_as_the_module_says() {
        let device = entry(b"dev/null", Kind::CharacterDevice { major: 1, minor: 3 });
        assert_eq!(
            line(&device),
            "dev/null c 4755 1000 4000000000 -0.75 1:3 user.a\\x3db=00ff\n"
        );
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let good = "a f 0644 0 0 1 2 ";
        for bad in [
            "",
            "a",
            "a f",
            "a d 0755 0 0",
            "a q 0755 0 0 1",
            "a h",
            "a h b c",
            good,
        ] {
            assert_eq!(Entry::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Entry::parse("\\x d 0755 0 0 1"), None);
        assert_eq!(Entry::parse("a d 0755 0 0 1 user.a"), None);
        assert_eq!(Entry::parse("a d 0755 0 0 1 user.a=0"), None);
    }
}
