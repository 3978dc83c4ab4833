//! From a stream in whatever compression to the uncompressed tar.
//!
//! Memory: a decoder needs its window, and says so in its header before it has proved anything. The
//! limits keep the whole process under 64 MiB whatever the input.

mod sniff;

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::read::fill;
use sniff::Format;

/// zstd: 32 MiB, what levels up to 19 (8 MiB) and --ultra -20 (32 MiB) use.
const ZSTD_WINDOW_LOG: u32 = 25;
/// xz: the decoder of level 8 (a dictionary of 32 MiB) needs 33 MiB, that of level 9 65 MiB.
const XZ_MEMORY: u64 = 48 << 20;
const MIB: u64 = 1 << 20;
const READ_BUFFER: usize = 256 << 10;

/// The uncompressed tar in an input that is plain or compressed with gzip, zstd, xz or bzip2.
pub(crate) struct Decompressor<'a> {
    name: &'a str,
    format: Format,
    start: Vec<u8>,
    decoder: Box<dyn Read + 'a>,
    count: Rc<Cell<u64>>,
    first: bool,
}

impl<'a> Decompressor<'a> {
    /// Looks at the input's beginning. `name` is what errors call it.
    pub(crate) fn new(reader: &'a mut dyn Read, name: &'a str) -> Result<Self> {
        let count = Rc::new(Cell::new(0));
        let counting = Counting {
            reader,
            count: Rc::clone(&count),
        };
        let input = Peeked::new(BufReader::with_capacity(READ_BUFFER, counting))
            .map_err(|source| decompress_error(name, Format::Tar, source))?;
        let start = input.start.clone();
        let Some(format) = sniff::sniff(&start) else {
            return Err(refused(
                name,
                &format!("it holds {}", sniff::describe(&start)),
            ));
        };
        let decoder =
            decoder(input, format).map_err(|source| decompress_error(name, format, source))?;
        Ok(Self {
            name,
            format,
            start,
            decoder,
            count,
            first: true,
        })
    }

    /// Fills the buffer; less than that only at the end.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let filled = fill(&mut *self.decoder, buffer)
            .map_err(|source| decoder_error(self.name, self.format, &self.start, source))?;
        if self.first && sniff::sniff(&buffer[..filled]) != Some(Format::Tar) {
            let inside = sniff::describe(&buffer[..filled]);
            return Err(refused(
                self.name,
                &format!("{} data that holds {inside}", self.format.name()),
            ));
        }
        self.first = false;
        Ok(filled)
    }

    /// How many bytes of the input have been read.
    pub(crate) fn consumed(&self) -> u64 {
        self.count.get()
    }
}

fn refused(name: &str, what: &str) -> Error {
    let reason =
        format!("not a tar archive, plain or compressed with gzip, zstd, xz or bzip2: {what}");
    Error::BadInput {
        name: name.to_owned(),
        reason,
    }
}

fn decoder<'a, R: BufRead + 'a>(input: R, format: Format) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match format {
        Format::Tar => Box::new(input),
        Format::Gzip => Box::new(Gzip::new(input)),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Format::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
    })
}

/// gzip members one after the other. Zeros after the last are padding, as tapes have it; anything
/// else there is an error, where a decoder that stops would lose data unnoticed.
struct Gzip<R> {
    member: Option<flate2::bufread::GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    fn new(input: R) -> Self {
        Self {
            member: Some(flate2::bufread::GzDecoder::new(input)),
        }
    }

    /// Whether another member follows.
    fn another(input: &mut R) -> io::Result<bool> {
        loop {
            let rest = input.fill_buf()?;
            match rest.first() {
                None => return Ok(false),
                Some(0x1f) => return Ok(true),
                Some(0) => {
                    let zeros = rest.iter().take_while(|byte| **byte == 0).count();
                    input.consume(zeros);
                }
                Some(_) => {
                    let message = "something other than gzip follows the gzip data";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            }
        }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let mut input = self.member.take().expect("there is a member").into_inner();
            if Self::another(&mut input)? {
                self.member = Some(flate2::bufread::GzDecoder::new(input));
            }
        }
        Ok(0)
    }
}

fn decompress_error(name: &str, format: Format, source: io::Error) -> Error {
    Error::Decompress {
        name: name.to_owned(),
        format: format.name(),
        source,
    }
}

/// A decoder's error; where it wants too much memory, with the way out.
fn decoder_error(name: &str, format: Format, start: &[u8], source: io::Error) -> Error {
    let message = source.to_string();
    let too_much = |needed: String, limit_mib, advice| Error::DecoderMemory {
        name: name.to_owned(),
        format: format.name(),
        needed,
        limit_mib,
        advice,
    };
    match format {
        Format::Zstd if message.contains("too much memory") => {
            let needed = zstd_window(start).map_or("a larger window".to_owned(), |bytes| {
                format!("a window of {} MiB", bytes.div_ceil(MIB))
            });
            let advice = "compress it without --long, at level 20 or below";
            too_much(needed, (1 << ZSTD_WINDOW_LOG) / MIB, advice)
        }
        Format::Xz if is_memory_limit(&source) => {
            let advice = "compress it with xz -8 or below (xz -9 needs 65 MiB)";
            too_much("more memory".to_owned(), XZ_MEMORY / MIB, advice)
        }
        _ => decompress_error(name, format, source),
    }
}

fn is_memory_limit(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
    matches!(inner, Some(liblzma::stream::Error::MemLimit))
}

/// The window the first zstd frame asks for (RFC 8878, 3.1.1.1).
fn zstd_window(start: &[u8]) -> Option<u64> {
    let descriptor = *start.get(4)?;
    let single_segment = descriptor & 0x20 != 0;
    if start[..4] != [0x28, 0xb5, 0x2f, 0xfd] {
        return None;
    }
    if !single_segment {
        let window = *start.get(5)?;
        let base = 1_u64 << (10 + u32::from(window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment's window is the content, whose size follows the dictionary's id.
    let at = 5 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let field = start.get(at..at + length)?;
    Some(
        field
            .iter()
            .rev()
            .fold(0, |size, byte| size << 8 | u64::from(*byte)),
    )
}

/// Counts what has been read of the input.
struct Counting<'a> {
    reader: &'a mut dyn Read,
    count: Rc<Cell<u64>>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// An input whose beginning has been looked at. A pipe gives it in pieces.
struct Peeked<R> {
    start: Vec<u8>,
    given: usize,
    rest: R,
}

impl<R: BufRead> Peeked<R> {
    fn new(mut rest: R) -> io::Result<Self> {
        let mut start = vec![0; sniff::ENOUGH];
        let filled = fill(&mut rest, &mut start)?;
        start.truncate(filled);
        Ok(Self {
            start,
            given: 0,
            rest,
        })
    }
}

impl<R: BufRead> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.start.len() {
            return self.rest.read(buffer);
        }
        let read = (&self.start[self.given..]).read(buffer)?;
        self.given += read;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Peeked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.given == self.start.len() {
            return self.rest.fill_buf();
        }
        Ok(&self.start[self.given..])
    }

    fn consume(&mut self, amount: usize) {
        if self.given == self.start.len() {
            self.rest.consume(amount);
        } else {
            self.given += amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_of_a_zstd_frame_is_read_from_its_header() {
        let magic = [0x28, 0xb5, 0x2f, 0xfd];
        let window = |rest: &[u8]| zstd_window(&[&magic[..], rest].concat());
        assert_eq!(window(&[0x00, 0x88]), Some(128 << 20));
        assert_eq!(window(&[0x00, 0x01]), Some(1024 + 128));
        assert_eq!(window(&[0xa0, 0, 0, 0, 4]), Some(64 << 20));
        assert_eq!(window(&[0x00]), None);
    }
}
