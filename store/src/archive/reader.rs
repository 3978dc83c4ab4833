//! Reads a tar entry by entry: headers, the long names and records before them, sparse maps.
//!
//! What headers ask for is bounded before anything is allocated: [`LONGEST_RECORDS`] of PAX
//! records, [`LONGEST_LONG_NAME`] of a GNU name, [`sparse::MOST_SEGMENTS`] of a sparse map.

use std::io::BufRead;

use super::header::BadNumber;
use super::pax::Pax;
use super::sparse::{self, MapText, Segment, SparseMap};
use super::{BLOCK, Header, LONGEST_NAME};
use crate::error::{Error, Result};
use crate::read;
use crate::time::Time;

const LONGEST_RECORDS: u64 = 1 << 20;
const LONGEST_LONG_NAME: u64 = 64 << 10;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    Fifo,
    CharacterDevice,
    BlockDevice,
}

/// One entry, all its headers taken together.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As in the archive: not cleaned, not checked, but without NUL.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// The twelve permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// Target of a symlink or hardlink.
    pub(crate) link: Vec<u8>,
    /// Major and minor of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<SparseMap>,
    /// Bytes of data in the archive.
    pub(crate) stored: u64,
}

impl Entry {
    /// The file's size: its data, with the holes.
    pub(crate) fn size(&self) -> u64 {
        self.sparse
            .as_ref()
            .map_or(self.stored, |map| map.real_size)
    }
}

/// What the headers before an entry say about it.
#[derive(Default)]
struct Before {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Reads entries from an uncompressed tar.
pub(crate) struct Reader<R> {
    source: R,
    position: u64,
    /// Data of the current entry not yet read, and its padding.
    data: u64,
    padding: u64,
    entry: Vec<u8>,
    global: Pax,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            position: 0,
            data: 0,
            padding: 0,
            entry: Vec::new(),
            global: Pax::default(),
        }
    }

    /// Bytes of the archive read so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next entry; what is left of the current one's data is skipped. `None` at the end
    /// marker, or where the archive stops after a whole entry, as GNU tar has it.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_entry()?;
        let mut before = Before::default();
        while let Some(header) = self.header()? {
            match header.type_flag() {
                b'x' | b'X' => {
                    let mut pax = Pax::default();
                    self.records(&header, &mut pax)?;
                    before.pax = Some(pax);
                }
                b'g' => {
                    let mut global = std::mem::take(&mut self.global);
                    self.records(&header, &mut global)?;
                    self.global = global;
                    if self
                        .global
                        .xattrs
                        .iter()
                        .map(|(_, value)| value.len())
                        .sum::<usize>()
                        > LONGEST_RECORDS as usize
                    {
                        return Err(self.bad("global PAX headers with too many xattrs"));
                    }
                }
                b'L' => before.name = Some(self.long_name(&header)?),
                b'K' => before.link = Some(self.long_name(&header)?),
                b'V' => self.begin_data(self.size(&header)?)?, // a volume's label
                _ => return self.entry(&header, before).map(Some),
            }
            self.skip_entry()?;
        }
        if before.pax.is_some() || before.name.is_some() || before.link.is_some() {
            return Err(self.bad("an extended header without its entry"));
        }
        Ok(None)
    }

    /// Reads data of the current entry; 0 at its end.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = buffer
            .len()
            .min(usize::try_from(self.data).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(self.truncated());
        }
        self.data -= read as u64;
        Ok(read)
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header([0; BLOCK]);
        let start = self.position;
        match self.fill(&mut header.0)? {
            0 if start == 0 => return Err(self.bad("there is nothing in it")),
            0 => return Ok(None),
            BLOCK => {}
            _ => return Err(self.bad("it stops in the middle of a header")),
        }
        if header.is_zero() {
            return Ok(None);
        }
        if !header.checksum_fits() {
            let reason = "a header whose checksum is wrong".to_owned();
            return Err(Error::BadArchive {
                offset: start,
                reason,
            });
        }
        Ok(Some(header))
    }

    /// Reads PAX records of an `x` or `g` header.
    fn records(&mut self, header: &Header, pax: &mut Pax) -> Result<()> {
        let size = self.size(header)?;
        if size > LONGEST_RECORDS {
            let most = LONGEST_RECORDS >> 20;
            return Err(self.bad(format!("PAX records of {size} bytes, more than {most} MiB")));
        }
        let records = self.whole_data(size)?;
        pax.read(&records).map_err(|reason| self.bad(reason))
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = self.size(header)?;
        if size > LONGEST_LONG_NAME {
            return Err(self.bad(format!("a name of {size} bytes")));
        }
        let mut name = self.whole_data(size)?;
        name.truncate(
            name.iter()
                .position(|byte| *byte == 0)
                .unwrap_or(name.len()),
        );
        Ok(name)
    }

    /// Puts header, GNU names and PAX records together.
    fn entry(&mut self, header: &Header, before: Before) -> Result<Entry> {
        let pax = before.pax.unwrap_or_default().over(&self.global);
        let name = pax.sparse.name.as_ref().or(pax.path.as_ref()).cloned();
        let name = name.or(before.name).unwrap_or_else(|| header.name());
        self.entry.clone_from(&name);
        let kind = self.kind(header, &name)?;
        let link = pax
            .link
            .clone()
            .or(before.link)
            .unwrap_or_else(|| header.link().to_vec());
        for text in [&name, &link] {
            if text.contains(&0) || text.len() > LONGEST_NAME {
                return Err(self.bad_entry(format!(
                    "a name of {} bytes with or without NULs; names have no NUL and up to {LONGEST_NAME}",
                    text.len()
                )));
            }
        }
        let number = |what: &str, value: Result<i64, BadNumber>| {
            value.map_err(|BadNumber| self.bad_entry(format!("its {what} is not a number")))
        };
        let mode = number("mode", header.mode())? & 0o7777;
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => Time::from_seconds(number("mtime", header.mtime())?),
        };
        let device = match kind {
            Kind::CharacterDevice | Kind::BlockDevice => self.device(header)?,
            _ => (0, 0),
        };
        let mut entry = Entry {
            kind,
            mode: u32::try_from(mode).expect("twelve bits"),
            uid: self.id("uid", pax.uid, header.uid())?,
            gid: self.id("gid", pax.gid, header.gid())?,
            mtime,
            link,
            device,
            xattrs: Vec::new(),
            sparse: None,
            stored: 0,
            name,
        };
        if kind == Kind::File || header.type_flag() == b'D' {
            let stored = match pax.size {
                Some(size) => size,
                None => self.size(header)?,
            };
            self.begin_data(stored)?;
        }
        if kind == Kind::File {
            entry.sparse = self.sparse(header, &pax)?;
            entry.stored = self.data;
        }
        entry.xattrs = pax.xattrs;
        Ok(entry)
    }

    fn kind(&self, header: &Header, name: &[u8]) -> Result<Kind> {
        Ok(match header.type_flag() {
            // Before POSIX a directory was a file whose name ends in a slash.
            b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'S' if header.is_gnu() => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let other = char::from(other).escape_default();
                return Err(self.bad_entry(format!("a type of entry that is not known: '{other}'")));
            }
        })
    }

    fn id(&self, what: &str, pax: Option<u64>, header: Result<i64, BadNumber>) -> Result<u32> {
        let value = match pax {
            Some(value) => Some(value),
            None => header.ok().and_then(|value| u64::try_from(value).ok()),
        };
        // The last one means "leave it as it is" to chown.
        value
            .and_then(|value| u32::try_from(value).ok())
            .filter(|value| *value != u32::MAX)
            .ok_or_else(|| self.bad_entry(format!("its {what} is no user or group id")))
    }

    fn device(&self, header: &Header) -> Result<(u32, u32)> {
        const MAJORS: u32 = 1 << 12;
        const MINORS: u32 = 1 << 20;
        header
            .device()
            .ok()
            .and_then(|(major, minor)| Some((major.try_into().ok()?, minor.try_into().ok()?)))
            .filter(|(major, minor)| *major < MAJORS && *minor < MINORS)
            .ok_or_else(|| self.bad_entry("its device number is none that Linux has"))
    }

    fn size(&self, header: &Header) -> Result<u64> {
        header
            .size()
            .ok()
            .and_then(|size| u64::try_from(size).ok())
            .ok_or_else(|| self.bad("a header whose size is no number"))
    }

    /// The map of a sparse file; what stands before the data of it is read.
    fn sparse(&mut self, header: &Header, pax: &Pax) -> Result<Option<SparseMap>> {
        if header.type_flag() == b'S' {
            let (segments, real_size) = self.gnu_sparse(header)?;
            return self.checked_map(segments, real_size).map(Some);
        }
        let hints = &pax.sparse;
        let segments = if hints.map_is_in_data() {
            self.map_in_data()?
        } else if let Some(map) = &hints.map {
            map.clone()
        } else {
            return Ok(None);
        };
        let Some(real_size) = hints.real_size else {
            return Err(self.bad_entry("a sparse file without its real size"));
        };
        self.checked_map(segments, real_size).map(Some)
    }

    fn checked_map(&self, segments: Vec<Segment>, real_size: u64) -> Result<SparseMap> {
        SparseMap::checked(segments, real_size, self.data).map_err(|reason| self.bad_entry(reason))
    }

    /// GNU's `S` header: four segments in it, the rest in blocks that follow it.
    fn gnu_sparse(&mut self, header: &Header) -> Result<(Vec<Segment>, u64)> {
        let not_numbers = |reader: &Self| reader.bad_entry("a sparse map that is not numbers");
        let (mut raw, mut more, real) = header.gnu_sparse().map_err(|_| not_numbers(self))?;
        while more {
            let mut block = Header([0; BLOCK]);
            if self.fill(&mut block.0)? != BLOCK {
                return Err(self.truncated());
            }
            let (segments, again) = block.gnu_more_sparse().map_err(|_| not_numbers(self))?;
            raw.extend(segments);
            more = again;
            if raw.len() > sparse::MOST_SEGMENTS {
                return Err(self.too_many_segments());
            }
        }
        let number = |value: i64| u64::try_from(value).map_err(|_| not_numbers(self));
        let mut segments = Vec::with_capacity(raw.len());
        for (offset, length) in raw {
            segments.push(Segment {
                offset: number(offset)?,
                length: number(length)?,
            });
        }
        Ok((segments, number(real)?))
    }

    fn map_in_data(&mut self) -> Result<Vec<Segment>> {
        let mut map = MapText::default();
        let mut block = [0; BLOCK];
        loop {
            if self.data < BLOCK as u64 {
                return Err(self.bad_entry("a sparse map that does not end"));
            }
            if self.fill(&mut block)? != BLOCK {
                return Err(self.truncated());
            }
            self.data -= BLOCK as u64;
            if map.block(&block).map_err(|reason| self.bad_entry(reason))? {
                return Ok(map.segments());
            }
        }
    }

    fn begin_data(&mut self, size: u64) -> Result<()> {
        if size > i64::MAX as u64 {
            return Err(self.bad_entry(format!("a size of {size} bytes")));
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// Data that is small enough to be read at once; the caller has checked.
    fn whole_data(&mut self, size: u64) -> Result<Vec<u8>> {
        self.begin_data(size)?;
        let mut data = vec![0; usize::try_from(size).expect("bounded by the caller")];
        if self.fill(&mut data)? != data.len() {
            return Err(self.truncated());
        }
        self.data = 0;
        Ok(data)
    }

    /// Skips to the next header. Padding may be missing at the end of the archive.
    fn skip_entry(&mut self) -> Result<()> {
        let data = std::mem::take(&mut self.data);
        if self.skip(data)? < data {
            return Err(self.truncated());
        }
        let padding = std::mem::take(&mut self.padding);
        self.skip(padding)?;
        self.entry.clear();
        Ok(())
    }

    /// Reads until the buffer is full or the archive ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let filled = read::fill(&mut self.source, buffer)
            .map_err(|error| Error::io("read", "the archive", error))?;
        self.position += filled as u64;
        Ok(filled)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.source.read(buffer) {
                Ok(read) => {
                    self.position += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", "the archive", error)),
            }
        }
    }

    /// Passes over bytes that nobody looks at, without copying them; how many there were.
    fn skip(&mut self, length: u64) -> Result<u64> {
        let mut left = length;
        while left > 0 {
            let piece = match self.source.fill_buf() {
                Ok(piece) => piece.len(),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("read", "the archive", error)),
            };
            if piece == 0 {
                break;
            }
            let skipped = usize::try_from(left).map_or(piece, |left| left.min(piece));
            self.source.consume(skipped);
            self.position += skipped as u64;
            left -= skipped as u64;
        }
        Ok(length - left)
    }

    fn truncated(&self) -> Error {
        if self.entry.is_empty() {
            return self.bad("it stops in the middle of a header");
        }
        self.bad_entry("the archive stops in the middle of its data")
    }

    fn too_many_segments(&self) -> Error {
        self.bad_entry(format!(
            "a sparse map of more than {} segments",
            sparse::MOST_SEGMENTS
        ))
    }

    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::BadArchive {
            offset: self.position,
            reason: reason.into(),
        }
    }

    fn bad_entry(&self, reason: impl Into<String>) -> Error {
        Error::bad_entry(&self.entry, reason)
    }
}
