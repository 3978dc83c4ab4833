//! Entries and their data, written one after the other.

use std::fs::File;
use std::io::{Read, Write};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::changed;
use crate::archive::sparse::{MOST_SEGMENTS, Segment, SparseMap};
use crate::archive::{Entry, writer};
use crate::error::{Context, Error, Result};
use crate::import::{Progress, Warning};
use crate::read::fill;

/// Zeros count as a hole from here on, in files at least this long.
const HOLE: usize = 64 << 10;
const SPARSE_FROM: u64 = 1 << 20;
static ZEROS: [u8; HOLE] = [0; HOLE];
const COPY_BUFFER: usize = 256 << 10;

/// Where the tar goes.
pub(crate) type Out<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// A tar that is being written.
pub(crate) struct Tar<'a> {
    out: Out<'a>,
    progress: &'a mut dyn FnMut(Progress),
    files: Files,
    /// Bytes of tar so far.
    size: u64,
    entries: u64,
    buffer: Vec<u8>,
}

/// What may become of files while they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// Nothing: what changes is an error. Long runs of zeros become holes.
    Stay,
    /// Anything: what a file has no more is zeros.
    Change,
}

/// Writes what `pack` writes to a tar of its own, and the end of the archive.
pub(crate) fn write_tar(
    files: Files,
    out: &mut dyn Write,
    warn: &mut dyn FnMut(Warning),
    pack: impl FnOnce(&mut Tar<'_>) -> Result<()>,
) -> Result<()> {
    let mut out = |bytes: &[u8]| {
        let written = out.write_all(bytes);
        written.on("write", || "the archive".to_owned())
    };
    let mut progress = |progress| {
        if let Progress::Warning(warning) = progress {
            warn(warning);
        }
    };
    let mut tar = Tar::new(files, &mut out, &mut progress);
    pack(&mut tar)?;
    tar.end()
}

impl<'a> Tar<'a> {
    pub(super) fn new(files: Files, out: Out<'a>, progress: &'a mut dyn FnMut(Progress)) -> Self {
        Self {
            out,
            progress,
            files,
            size: 0,
            entries: 0,
            buffer: vec![0; COPY_BUFFER],
        }
    }

    /// An entry without data.
    pub(crate) fn emit(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        self.write(&writer::headers(entry))?;
        let (entries, bytes) = (self.entries, self.size);
        (self.progress)(Progress::Packing { entries, bytes });
        Ok(())
    }

    pub(crate) fn warn(&mut self, warning: Warning) {
        (self.progress)(Progress::Warning(warning));
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        (self.out)(bytes)
    }

    /// The end of the archive.
    pub(super) fn end(&mut self) -> Result<()> {
        self.write(&writer::END)
    }

    /// A file's entry and its data, `stored` being its size. Long runs of zeros become holes.
    pub(crate) fn data(&mut self, file: &mut File, mut entry: Entry) -> Result<()> {
        let path = entry.name.clone();
        entry.sparse = self.holes(file, entry.stored, &path)?;
        let whole = [Segment {
            offset: 0,
            length: entry.stored,
        }];
        if let Some(map) = &entry.sparse {
            entry.stored = map.segments.iter().map(|segment| segment.length).sum();
        }
        self.emit(&entry)?;
        let segments = entry
            .sparse
            .as_ref()
            .map_or(&whole[..], |map| &map.segments);
        for segment in segments {
            self.copy(file, *segment, &path)?;
        }
        self.write(&ZEROS[..writer::padding(entry.stored)])
    }

    fn copy(&mut self, file: &mut File, segment: Segment, path: &[u8]) -> Result<()> {
        rustix::fs::seek(&*file, SeekFrom::Start(segment.offset)).on_entry("seek in", path)?;
        let mut left = segment.length;
        while left > 0 {
            let wanted = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = file
                .read(&mut self.buffer[..wanted])
                .on_entry("read", path)?;
            if read == 0 && self.files == Files::Change {
                return self.zeros(left);
            }
            if read == 0 {
                return Err(changed(path));
            }
            self.size += read as u64;
            (self.out)(&self.buffer[..read])?;
            left -= read as u64;
        }
        Ok(())
    }

    /// In the place of what a file has no more.
    pub(crate) fn zeros(&mut self, mut left: u64) -> Result<()> {
        while left > 0 {
            let length = left.min(HOLE as u64);
            self.write(&ZEROS[..usize::try_from(length).expect("a block")])?;
            left -= length;
        }
        Ok(())
    }

    /// Where a long file has data. Holes are what is zero in blocks of [`HOLE`], not what the
    /// filesystem has not allocated: a copy may have other holes, and must pack the same.
    fn holes(&mut self, file: &mut File, size: u64, path: &[u8]) -> Result<Option<SparseMap>> {
        if size < SPARSE_FROM || self.files == Files::Change {
            return Ok(None);
        }
        let mut segments: Vec<Segment> = Vec::new();
        let mut at = 0;
        while at < size {
            // Real holes are skipped unread: a sparse file may be larger than any disk.
            at = match rustix::fs::seek(&*file, SeekFrom::Data(at)) {
                Ok(data) => data - data % HOLE as u64,
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL) => at,
                Err(errno) => return Err(Error::entry_io(path, "seek in", errno)),
            };
            rustix::fs::seek(&*file, SeekFrom::Start(at)).on_entry("seek in", path)?;
            let read = fill(file, &mut self.buffer).on_entry("read", path)?;
            if read == 0 {
                return Err(changed(path));
            }
            for block in self.buffer[..read].chunks(HOLE) {
                let length = block.len() as u64;
                if block != &ZEROS[..block.len()] {
                    match segments.last_mut() {
                        Some(last) if last.offset + last.length == at => last.length += length,
                        _ => segments.push(Segment { offset: at, length }),
                    }
                }
                at += length;
            }
            if segments.len() > MOST_SEGMENTS {
                return Ok(None);
            }
        }
        let data: u64 = segments.iter().map(|segment| segment.length).sum();
        // One that grows while it is read is found out after it is packed.
        let worth_it = data < size && data <= size - size.min(SPARSE_FROM / 2);
        if !worth_it {
            return Ok(None);
        }
        // GNU tar ends the map where the file ends, with an empty segment.
        if segments
            .last()
            .is_none_or(|last| last.offset + last.length < size)
        {
            segments.push(Segment {
                offset: size,
                length: 0,
            });
        }
        Ok(Some(SparseMap {
            segments,
            real_size: size,
        }))
    }
}
