//! Sparse files: where the data of an entry goes in the file (GNU tar manual, "Storing Sparse
//! Files"). Four ways to say the same: GNU's `S` header, and PAX 0.0, 0.1 and 1.0.

/// The most segments a file may have: 16 bytes each.
pub(crate) const MOST_SEGMENTS: usize = 512 << 10;

/// Some bytes of data at an offset of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A checked map: segments in order, apart, inside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SparseMap {
    pub(crate) segments: Vec<Segment>,
    pub(crate) real_size: u64,
}

impl SparseMap {
    /// Checks the segments against the file's size and against the bytes of data there are.
    pub(crate) fn checked(
        segments: Vec<Segment>,
        real_size: u64,
        stored: u64,
    ) -> Result<Self, String> {
        if i64::try_from(real_size).is_err() {
            return Err(format!(
                "a sparse file of {real_size} bytes, more than a file can have"
            ));
        }
        let (mut end, mut sum) = (0_u64, 0_u64);
        for segment in &segments {
            if segment.offset < end {
                return Err("a sparse map whose segments overlap or are out of order".to_owned());
            }
            end = segment.offset.saturating_add(segment.length);
            if end > real_size {
                return Err("a sparse map with data beyond the file's end".to_owned());
            }
            sum += segment.length;
        }
        if sum != stored {
            return Err(format!(
                "a sparse map of {sum} bytes over {stored} bytes of data"
            ));
        }
        Ok(Self {
            segments,
            real_size,
        })
    }
}

/// What PAX records say about sparseness, before it is known which way they mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct SparseHints {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    /// PAX 0.1, and 0.0 once finished.
    pub(crate) map: Option<Vec<Segment>>,
    /// PAX 0.0: offsets and lengths come as records of their own, in turns.
    pairs: Vec<Segment>,
    open: Option<u64>,
}

impl SparseHints {
    pub(crate) fn offset(&mut self, offset: u64) -> Result<(), String> {
        if self.open.replace(offset).is_some() {
            return Err("a sparse offset without its length".to_owned());
        }
        Ok(())
    }

    pub(crate) fn length(&mut self, length: u64) -> Result<(), String> {
        let offset = self
            .open
            .take()
            .ok_or("a sparse length without its offset")?;
        self.pairs.push(Segment { offset, length });
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if self.open.is_some() {
            return Err("a sparse offset without its length".to_owned());
        }
        if self.map.is_none() && !self.pairs.is_empty() {
            self.map = Some(std::mem::take(&mut self.pairs));
        }
        Ok(())
    }

    /// Whether the map stands before the data (PAX 1.0).
    pub(crate) fn map_is_in_data(&self) -> bool {
        self.major == Some(1) && self.minor == Some(0)
    }
}

/// Reads the numbers of a PAX 1.0 map from the blocks before the data.
#[derive(Default)]
pub(crate) struct MapText {
    number: Option<u64>,
    numbers: Vec<u64>,
}

impl MapText {
    /// Takes one block; true when the map is complete, and the rest of the block is padding.
    pub(crate) fn block(&mut self, block: &[u8]) -> Result<bool, String> {
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let number = self.number.unwrap_or(0).checked_mul(10);
                    let number = number.and_then(|number| number.checked_add(digit));
                    self.number = Some(number.ok_or("a sparse map with a number beyond 64 bits")?);
                }
                b'\n' => {
                    let number = self
                        .number
                        .take()
                        .ok_or("a sparse map with an empty line")?;
                    self.numbers.push(number);
                    if self.is_complete()? {
                        return Ok(true);
                    }
                }
                _ => return Err("a sparse map that is not made of numbers".to_owned()),
            }
        }
        Ok(false)
    }

    fn is_complete(&self) -> Result<bool, String> {
        let count = self.numbers[0];
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= MOST_SEGMENTS);
        let count = count.ok_or(format!(
            "a sparse map of more than {MOST_SEGMENTS} segments"
        ))?;
        Ok(self.numbers.len() == 1 + 2 * count)
    }

    pub(crate) fn segments(self) -> Vec<Segment> {
        self.numbers[1..]
            .chunks_exact(2)
            .map(|pair| Segment {
                offset: pair[0],
                length: pair[1],
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_lie_are_refused() {
        let segment = |offset, length| Segment { offset, length };
        assert!(SparseMap::checked(vec![segment(0, 4), segment(8, 4)], 20, 8).is_ok());
        assert!(SparseMap::checked(vec![segment(20, 0)], 20, 0).is_ok());
        for (segments, real, stored) in [
            (vec![segment(8, 4), segment(0, 4)], 20, 8),
            (vec![segment(0, 4), segment(3, 4)], 20, 8),
            (vec![segment(18, 4)], 20, 4),
            (vec![segment(0, 4)], 20, 5),
            (vec![segment(u64::MAX, 4)], u64::MAX >> 1, 4),
            (vec![], u64::MAX, 0),
        ] {
            assert!(SparseMap::checked(segments, real, stored).is_err());
        }
    }

    #[test]
    fn a_map_in_the_data_is_read_across_blocks() {
        let mut map = MapText::default();
        assert!(!map.block(b"2\n0\n51").unwrap());
        assert!(map.block(b"2\n4096\n7\n\0\0\0").unwrap());
        let expected = [
            Segment {
                offset: 0,
                length: 512,
            },
            Segment {
                offset: 4096,
                length: 7,
            },
        ];
        assert_eq!(map.segments(), expected);
        for bad in [
            &b"99999999999\n"[..],
            b"x",
            b"\n",
            b"99999999999999999999999\n",
        ] {
            assert!(MapText::default().block(bad).is_err());
        }
        assert!(MapText::default().block(b"0\n").unwrap());
    }
}
