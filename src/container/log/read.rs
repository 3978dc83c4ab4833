//! The reading end: frame by frame, across files, while the log is being written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::kernel::file::existing;

use super::{
    HEADER, Header, LONGEST, Stream, TRAILER, file_of, numbers, whole_frame_at, whole_frames,
};

/// What one read of the monitor gave.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Where it came from.
    pub stream: Stream,
    /// When, in nanoseconds since the epoch.
    pub time: u64,
    /// What it was.
    pub bytes: &'a [u8],
}

/// Reads a log from the oldest file on.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    /// The file that is being read.
    current: Option<(u64, File)>,
    at: u64,
    /// Bytes of the next frame that are not wanted.
    skip: usize,
    buffer: Vec<u8>,
    lost_files: u64,
}

impl Reader {
    /// Of the log in this directory, which may not be there yet.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut reader = Self {
            directory: directory.to_owned(),
            current: None,
            at: 0,
            skip: 0,
            buffer: vec![0; LONGEST + TRAILER],
            lost_files: 0,
        };
        reader.begin()?;
        Ok(reader)
    }

    /// How many files were rotated away before they were read.
    pub fn lost_files(&self) -> u64 {
        self.lost_files
    }

    /// The next frame; `None` where there is none yet.
    pub fn next(&mut self) -> io::Result<Option<Frame<'_>>> {
        let Some(header) = self.next_header()? else {
            return Ok(None);
        };
        let (_, file) = self.current.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let length = header.length as usize;
        let part = &mut self.buffer[..length];
        file.read_exact_at(part, self.at + HEADER as u64)?;
        self.at += header.frame();
        let skip = std::mem::take(&mut self.skip).min(length);
        Ok(Some(Frame {
            stream: header.stream,
            time: header.time,
            bytes: &self.buffer[skip..length],
        }))
    }

    /// Leaves out all but so many lines at the end. What follows the last line break is a line, too.
    pub fn skip_to_last(&mut self, lines: u64) -> io::Result<()> {
        let mut wanted = lines;
        let mut last = true;
        for number in numbers(&self.directory)?.into_iter().rev() {
            let file = File::open(file_of(&self.directory, number))?;
            let mut end = whole_end(&file)?;
            if lines == 0 {
                self.current = Some((number, file));
                self.at = end;
                return Ok(());
            }
            while end > 0 {
                let (at, header) = frame_before(&file, end)?;
                let bytes = &mut self.buffer[..header.length as usize];
                file.read_exact_at(bytes, at + HEADER as u64)?;
                // The break that ends the last line begins no other.
                let ended = std::mem::take(&mut last) && bytes.last() == Some(&b'\n');
                let text = &bytes[..bytes.len() - usize::from(ended)];
                for (position, _) in breaks_from_the_end(text) {
                    wanted = wanted.saturating_sub(1);
                    if wanted == 0 {
                        self.current = Some((number, file));
                        (self.at, self.skip) = (at, position + 1);
                        return Ok(());
                    }
                }
                end = at;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        if let Some(number) = numbers(&self.directory)?.first() {
            self.enter(*number)?;
        }
        Ok(())
    }

    fn enter(&mut self, number: u64) -> io::Result<()> {
        // Rotated away between the look and the opening: the next look finds the next one.
        if let Some(file) = existing(File::open(file_of(&self.directory, number)))? {
            self.current = Some((number, file));
            self.at = 0;
        }
        Ok(())
    }

    fn next_header(&mut self) -> io::Result<Option<Header>> {
        loop {
            let Some((number, file)) = &self.current else {
                self.begin()?;
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let number = *number;
            if let Some(header) = whole_frame_at(file, self.at)? {
                return Ok(Some(header));
            }
            let later = numbers(&self.directory)?;
            let Some(next) = later.into_iter().find(|later| *later > number) else {
                return Ok(None);
            };
            // The writer was done with this file before it began the next one.
            if let Some(header) = whole_frame_at(file, self.at)? {
                return Ok(Some(header));
            }
            self.lost_files += next - number - 1;
            self.enter(next)?;
        }
    }
}

/// Where the last whole frame of a file ends.
fn whole_end(file: &File) -> io::Result<u64> {
    let end = file.metadata()?.len();
    if end == 0 || frame_before(file, end).is_ok() {
        return Ok(end);
    }
    whole_frames(file)
}

/// Where the frame begins that ends here.
fn frame_before(file: &File, end: u64) -> io::Result<(u64, Header)> {
    let damaged = || io::Error::other("the log is damaged");
    let mut length = [0; TRAILER];
    let trailer = end.checked_sub(TRAILER as u64).ok_or_else(damaged)?;
    file.read_exact_at(&mut length, trailer)?;
    let frame = u64::from(u32::from_le_bytes(length)) + (HEADER + TRAILER) as u64;
    let at = end.checked_sub(frame).ok_or_else(damaged)?;
    let header = whole_frame_at(file, at)?.ok_or_else(damaged)?;
    if header.frame() == frame {
        Ok((at, header))
    } else {
        Err(damaged())
    }
}

fn breaks_from_the_end(text: &[u8]) -> impl Iterator<Item = (usize, &u8)> {
    text.iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n')
}
