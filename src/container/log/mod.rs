//! What a container without a terminal of the caller's has written: stdout and stderr apart, in the
//! order in which they came, byte for byte.
//!
//! ```text
//! <root>/containers/<id>/logs/<number>   the highest is written to, the lowest goes first
//!
//! frame:  length  u32   of the bytes
//!         stream  u8    1 stdout, 2 stderr, 3 a word of mybox's own
//!         zero    3 bytes
//!         time    u64   nanoseconds since the epoch
//!         bytes
//!         length  u32   once more: logs are read from their end too
//! ```
//! Numbers are little-endian. A frame is what one read gave, not a line: writing costs the same
//! whatever the lines are. A frame that is not whole is one that is being written, or that a killed
//! monitor has left: the next one cuts it off.

mod read;
mod write;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::kernel::file::existing;

pub use read::{Frame, Reader};
pub use write::{Rotation, Writer};

const HEADER: usize = 16;
const TRAILER: usize = 4;
/// No read is longer.
pub const LONGEST: usize = 64 << 10;

/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The container's standard output, or its terminal.
    Stdout,
    /// Its standard error.
    Stderr,
    /// mybox itself, which lost something.
    Note,
}

impl Stream {
    fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Note => 3,
        }
    }

    fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::Note),
            _ => None,
        }
    }
}

/// The parts of a header that vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    length: u32,
    stream: Stream,
    time: u64,
}

impl Header {
    fn bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4] = self.stream.number();
        bytes[8..].copy_from_slice(&self.time.to_le_bytes());
        bytes
    }

    /// `None` if these bytes are no header.
    fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (stream, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        let sane = length as usize <= LONGEST && stream[1..] == [0; 3];
        Some(Self {
            length,
            stream: Stream::of(stream[0]).filter(|_| sane)?,
            time: u64::from_le_bytes(*rest.first_chunk()?),
        })
    }

    /// Bytes of the whole frame.
    fn frame(self) -> u64 {
        u64::from(self.length) + (HEADER + TRAILER) as u64
    }
}

/// The numbers of the files in a log's directory, in order.
fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in existing(fs::read_dir(directory))?.into_iter().flatten() {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The header of the frame at this place, if all of the frame is there.
fn whole_frame_at(file: &File, at: u64) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER];
    match file.read_exact_at(&mut bytes, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let end = file.metadata()?.len();
    Ok(Header::parse(&bytes).filter(|header| at + header.frame() <= end))
}

/// How many bytes from the beginning are whole frames.
fn whole_frames(file: &File) -> io::Result<u64> {
    let mut at = 0;
    while let Some(header) = whole_frame_at(file, at)? {
        at += header.frame();
    }
    Ok(at)
}

fn file_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("mybox-log-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const LARGE: Rotation = Rotation {
        max_size: 1 << 20,
        max_files: 3,
    };

    fn text(reader: &mut Reader) -> Vec<(Stream, String)> {
        let mut all = Vec::new();
        while let Some(frame) = reader.next().unwrap() {
            let text = String::from_utf8(frame.bytes.to_vec()).unwrap();
            all.push((frame.stream, text));
        }
        all
    }

    #[test]
    fn what_was_written_is_read_in_its_order_with_its_stream() {
        let dir = Directory::new("order");
        let mut writer = Writer::open(&dir.0, LARGE).unwrap();
        writer.write(Stream::Stdout, b"one\n", 1);
        writer.write(Stream::Stderr, b"two\n", 2);
        drop(writer);
        let mut writer = Writer::open(&dir.0, LARGE).unwrap();
        writer.write(Stream::Stdout, b"three", 3);
        let mut reader = Reader::open(&dir.0).unwrap();
        let expected = [
            (Stream::Stdout, "one\n".to_owned()),
            (Stream::Stderr, "two\n".to_owned()),
            (Stream::Stdout, "three".to_owned()),
        ];
        assert_eq!(text(&mut reader), expected);
        writer.write(Stream::Stdout, b"four", 4);
        assert_eq!(text(&mut reader), [(Stream::Stdout, "four".to_owned())]);
    }

    #[test]
    fn a_frame_that_is_not_whole_is_cut_off_by_the_next_writer() {
        let dir = Directory::new("cut");
        let mut writer = Writer::open(&dir.0, LARGE).unwrap();
        writer.write(Stream::Stdout, b"whole", 1);
        writer.write(Stream::Stdout, b"half", 2);
        drop(writer);
        let path = file_of(&dir.0, 1);
        let length = fs::metadata(&path).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length - 5).unwrap();
        let mut reader = Reader::open(&dir.0).unwrap();
        assert_eq!(text(&mut reader).len(), 1);
        let mut writer = Writer::open(&dir.0, LARGE).unwrap();
        writer.write(Stream::Stdout, b"next", 3);
        assert_eq!(text(&mut reader), [(Stream::Stdout, "next".to_owned())]);
    }

    #[test]
    fn rotation_keeps_the_last_files_and_readers_go_on_across_it() {
        let dir = Directory::new("rotate");
        let small = Rotation {
            max_size: 100,
            max_files: 2,
        };
        let mut writer = Writer::open(&dir.0, small).unwrap();
        let mut reader = Reader::open(&dir.0).unwrap();
        let mut seen = Vec::new();
        for number in 0..50 {
            writer.write(
                Stream::Stdout,
                format!("line {number}\n").as_bytes(),
                number,
            );
            seen.extend(text(&mut reader));
        }
        assert_eq!(seen.len(), 50, "{seen:?}");
        assert_eq!(reader.lost_files(), 0);
        let numbers = numbers(&dir.0).unwrap();
        assert_eq!(numbers.len(), 2);
        assert!(numbers[0] > 1);
        let size = |number: &u64| fs::metadata(file_of(&dir.0, *number)).unwrap().len();
        assert!(numbers.iter().all(|number| size(number) <= 100));
    }

    #[test]
    fn a_read_that_is_larger_than_a_file_is_cut() {
        let dir = Directory::new("small");
        let small = Rotation {
            max_size: 100,
            max_files: 9,
        };
        let mut writer = Writer::open(&dir.0, small).unwrap();
        let long: String = ('a'..='z').cycle().take(300).collect();
        writer.write(Stream::Stdout, long.as_bytes(), 1);
        let mut reader = Reader::open(&dir.0).unwrap();
        let shown: String = text(&mut reader)
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(shown, long);
        let size = |number: u64| fs::metadata(file_of(&dir.0, number)).unwrap().len();
        let numbers = numbers(&dir.0).unwrap();
        assert!(numbers.len() > 1 && numbers.into_iter().all(|number| size(number) <= 100));
    }

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let dir = Directory::new("tail");
        let small = Rotation {
            max_size: 60,
            max_files: 9,
        };
        let mut writer = Writer::open(&dir.0, small).unwrap();
        for bytes in ["a\nb\n", "c", "\nd\ne\nf"] {
            writer.write(Stream::Stdout, bytes.as_bytes(), 1);
        }
        for (lines, expected) in [
            (0, ""),
            (1, "f"),
            (2, "e\nf"),
            (3, "d\ne\nf"),
            (4, "c\nd\ne\nf"),
            (9, "a\nb\nc\nd\ne\nf"),
        ] {
            let mut reader = Reader::open(&dir.0).unwrap();
            reader.skip_to_last(lines).unwrap();
            let shown: String = text(&mut reader)
                .into_iter()
                .map(|(_, text)| text)
                .collect();
            assert_eq!(shown, expected, "{lines}");
        }
    }
}
