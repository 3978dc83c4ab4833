//! The writing end, which the monitor has. It never gives up: what cannot be written, on a full disk,
//! is lost and counted, and the log says so as soon as there is room again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{HEADER, Header, LONGEST, Stream, TRAILER, file_of, numbers, whole_frames};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotation {
    /// Bytes of one file at most.
    pub max_size: u64,
    /// Files at most.
    pub max_files: u32,
}

impl Rotation {
    /// Bytes that a file may have at least: below, it would be mostly what stands around the bytes.
    pub const SMALLEST: u64 = 1000;

    /// What `attach` is shown passes through the log even of a container that keeps none.
    pub const IN_PASSING: Self = Self {
        max_size: 1_000_000,
        max_files: 2,
    };

    /// Bytes that a frame may have for its file not to become larger.
    fn piece(self) -> usize {
        let room = self.max_size.saturating_sub((HEADER + TRAILER) as u64);
        usize::try_from(room).map_or(LONGEST, |room| room.clamp(1, LONGEST))
    }
}

impl Default for Rotation {
    /// 10 MB three times.
    fn default() -> Self {
        Self {
            max_size: 10_000_000,
            max_files: 3,
        }
    }
}

/// Writes frames, one file after the other.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    rotation: Rotation,
    number: u64,
    file: File,
    /// Bytes of the file, all of them in whole frames.
    length: u64,
    /// Bytes that could not be written.
    lost: u64,
}

impl Writer {
    /// Goes on with the last file of a log, or begins a log.
    pub fn open(directory: &Path, rotation: Rotation) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let number = numbers(directory)?.last().copied().unwrap_or(1);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(file_of(directory, number))?;
        let length = whole_frames(&file)?;
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        Ok(Self {
            directory: directory.to_owned(),
            rotation,
            number,
            file,
            length,
            lost: 0,
        })
    }

    /// Adds what one read gave.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], time: u64) {
        for piece in bytes.chunks(self.rotation.piece()) {
            if self.lost > 0 {
                let note = format!("mybox: {} bytes of output were lost here\n", self.lost);
                if self.frame(Stream::Note, note.as_bytes(), time).is_ok() {
                    self.lost = 0;
                }
            }
            if self.lost > 0 || self.frame(stream, piece, time).is_err() {
                self.lost += piece.len() as u64;
            }
        }
    }

    fn frame(&mut self, stream: Stream, bytes: &[u8], time: u64) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let header = Header {
            length,
            stream,
            time,
        };
        if self.length > 0 && self.length + header.frame() > self.rotation.max_size {
            self.rotate()?;
        }
        let written = write_all(
            &mut self.file,
            &[&header.bytes(), bytes, &length.to_le_bytes()],
        );
        if let Err(error) = written {
            // Half a frame would make the ones after it unreadable.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += header.frame();
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = self.number + 1;
        self.file = File::create_new(file_of(&self.directory, next))?;
        (self.number, self.length) = (next, 0);
        let kept = u64::from(self.rotation.max_files.max(1));
        for old in numbers(&self.directory)? {
            if old + kept <= next {
                fs::remove_file(file_of(&self.directory, old))?;
            }
        }
        Ok(())
    }
}

fn write_all(file: &mut File, parts: &[&[u8]; 3]) -> io::Result<()> {
    let mut slices = parts.map(IoSlice::new);
    let mut left = &mut slices[..];
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
