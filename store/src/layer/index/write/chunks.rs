//! How a file's data becomes chunks. All chunks of a file have one size, a power of two; each is a hole,
//! or lies in a device as whole blocks, or else is copied behind the index.
//!
//! ```text
//! file      |aaaa....|bbbbbbbb|........|cc......|   '.' a hole
//! chunks     copied   device 1  hole     copied
//! ```
//! An ordinary file lies together in the tar and is one chunk.

use crate::layer::index::format::{self, BLOCK, BLOCK_BITS, MOST_CHUNK_BITS, NO_BLOCK};
use crate::layer::index::tree::{Device, Extent, FileData};

/// How many chunks a file may have anyway, and how many more for each block that has data in it. A tar
/// of a few bytes can describe a file of terabytes; what the index takes of it must not grow with that.
const FREE_CHUNKS: u64 = 4096;
const CHUNKS_PER_BLOCK: u64 = 16;

/// Part of a file that is no hole: whole chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) lies: Lies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lies {
    In {
        device: u16,
        block: u32,
    },
    /// In the index itself.
    Copied {
        block: u32,
    },
}

impl Run {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// The binary logarithm of a file's chunk size, and what the chunks hold; where copies go is to be
/// decided.
///
/// # Errors
///
/// In words, why an index cannot hold the file.
pub(super) fn plan(file: &FileData, devices: &[Device]) -> Result<(u32, Vec<Run>), String> {
    check(file, devices)?;
    let budget = FREE_CHUNKS + CHUNKS_PER_BLOCK * blocks_with_data(&file.extents);
    let in_blocks =
        |extent: &Extent| extent.at.is_multiple_of(BLOCK) && !is_cut(extent, file.size, devices);
    let edges = file
        .extents
        .iter()
        .map(|extent| (extent.offset, extent.length));
    let coarsest = coarsest(file.size, edges);
    let fits = file.extents.iter().all(in_blocks)
        && coarsest >= BLOCK_BITS
        && count(file.size, coarsest) <= budget;
    let bits = if fits {
        coarsest
    } else {
        (BLOCK_BITS..=MOST_CHUNK_BITS)
            .find(|bits| count(file.size, *bits) <= budget)
            .ok_or("a file of this size has too many chunks for an index")?
    };
    let runs = runs(file, devices, 1 << bits);
    // With what was copied together now, larger chunks may do.
    let edges = runs.iter().map(|run| (run.offset, run.length));
    Ok((self::coarsest(file.size, edges), runs))
}

/// How many chunks a file has.
pub(super) fn count(size: u64, bits: u32) -> u64 {
    size.div_ceil(1 << bits)
}

/// Writes the list of a file's chunks.
pub(super) fn encode(size: u64, bits: u32, runs: &[Run], bytes: &mut Vec<u8>) {
    let mut runs = runs.iter().peekable();
    for chunk in 0..count(size, bits) {
        let offset = chunk << bits;
        while runs.next_if(|run| run.end() <= offset).is_some() {}
        let (device, first) = match runs.peek().filter(|run| run.offset <= offset) {
            None => {
                bytes.extend(format::chunk(0, NO_BLOCK));
                continue;
            }
            Some(run) => match run.lies {
                Lies::In { device, block } => (device, (run, block)),
                Lies::Copied { block } => (0, (run, block)),
            },
        };
        let (run, block) = first;
        let further = u32::try_from((offset - run.offset) / BLOCK).expect("within the device");
        bytes.extend(format::chunk(device, block + further));
    }
}

/// That the extents are what a tree may have.
fn check(file: &FileData, devices: &[Device]) -> Result<(), String> {
    if i64::try_from(file.size).is_err() {
        return Err("a file cannot be as large as this".to_owned());
    }
    let mut before = 0;
    for extent in &file.extents {
        let end = extent.offset.checked_add(extent.length);
        if extent.length == 0 || extent.offset < before || end.is_none_or(|end| end > file.size) {
            return Err("the parts of its data overlap or lie outside of it".to_owned());
        }
        before = extent.offset + extent.length;
        let end = extent.at.checked_add(extent.length);
        let end = end.ok_or("its data lies nowhere")?;
        let Some(number) = usize::from(extent.device).checked_sub(1) else {
            continue;
        };
        if devices.get(number).is_none_or(|device| end > device.length) {
            return Err("its data lies beyond the end of the archive".to_owned());
        }
    }
    Ok(())
}

/// How many blocks of the file have data in them. What has to be copied is copied with the holes in its
/// chunks, so these do not get fewer when an index is read and written again.
fn blocks_with_data(extents: &[Extent]) -> u64 {
    let mut next = 0;
    let mut count = 0;
    for extent in extents {
        let first = (extent.offset / BLOCK).max(next);
        next = (extent.offset + extent.length).div_ceil(BLOCK);
        count += next.saturating_sub(first);
    }
    count
}

/// The binary logarithm of the largest chunk size whose chunks begin and end with these parts of the
/// file; less than a block's if there is none.
fn coarsest(size: u64, parts: impl Iterator<Item = (u64, u64)>) -> u32 {
    let whole = size.next_power_of_two().trailing_zeros();
    let mut bits = whole.clamp(BLOCK_BITS, MOST_CHUNK_BITS);
    for (offset, length) in parts {
        bits = bits.min(offset.trailing_zeros());
        // The last chunk may be a short one.
        if offset + length != size {
            bits = bits.min((offset + length).trailing_zeros());
        }
    }
    bits
}

/// What of a file is no hole, in whole chunks of this size.
fn runs(file: &FileData, devices: &[Device], chunk: u64) -> Vec<Run> {
    let mut runs = Vec::with_capacity(file.extents.len());
    for extent in &file.extents {
        let end = extent.offset + extent.length;
        let first = extent.offset - extent.offset % chunk;
        let last = end.next_multiple_of(chunk).min(file.size);
        // The chunks that are only this extent.
        let whole_first = extent.offset.next_multiple_of(chunk);
        let whole_last = if end == file.size && !is_cut(extent, file.size, devices) {
            end
        } else {
            end - end % chunk
        };
        match block_of(extent, whole_first) {
            Some(block) if whole_first < whole_last => {
                copy(&mut runs, first, whole_first);
                runs.push(Run {
                    offset: whole_first,
                    length: whole_last - whole_first,
                    lies: Lies::In {
                        device: extent.device,
                        block,
                    },
                });
                copy(&mut runs, whole_last, last);
            }
            _ => copy(&mut runs, first, last),
        }
    }
    runs
}

/// Whether a file ends where its device does, within a block: a tar need not fill its last one. Since
/// 6.18 the kernel takes it for an error when a block cannot be read to its end.
fn is_cut(extent: &Extent, size: u64, devices: &[Device]) -> bool {
    let Some(number) = usize::from(extent.device).checked_sub(1) else {
        return false;
    };
    let end = (extent.at + extent.length).next_multiple_of(BLOCK);
    extent.offset + extent.length == size && end > devices[number].length
}

/// The block of its device in which this place of the file lies, if a block begins there.
fn block_of(extent: &Extent, offset: u64) -> Option<u32> {
    let at = extent.at + (offset - extent.offset);
    let there = extent.device != 0 && at.is_multiple_of(BLOCK);
    there.then(|| u32::try_from(at / BLOCK).ok()).flatten()
}

/// Adds a run to be copied, or to the one before it, which may share its first chunk.
fn copy(runs: &mut Vec<Run>, offset: u64, end: u64) {
    if offset >= end {
        return;
    }
    match runs.last_mut() {
        Some(last) if last.end() >= offset && matches!(last.lies, Lies::Copied { .. }) => {
            last.length = end - last.offset;
        }
        _ => runs.push(Run {
            offset,
            length: end - offset,
            lies: Lies::Copied { block: NO_BLOCK },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Lies, Run, plan};
    use crate::layer::index::format::NO_BLOCK;
    use crate::layer::index::tree::{Device, Extent, FileData};

    const KIB: u64 = 1 << 10;
    const TIB: u64 = 1 << 40;
    const COPIED: Lies = Lies::Copied { block: NO_BLOCK };

    /// Of a file with these extents (offset, length, device, place in it): the chunk size's logarithm,
    /// and the runs.
    fn planned(size: u64, extents: &[(u64, u64, u16, u64)]) -> (u32, Vec<(u64, u64, Lies)>) {
        let (bits, runs) = plan(&file(size, extents), &devices()).unwrap();
        let of = |run: &Run| (run.offset, run.length, run.lies);
        (bits, runs.iter().map(of).collect())
    }

    fn file(size: u64, extents: &[(u64, u64, u16, u64)]) -> FileData {
        let extent = |&(offset, length, device, at): &(u64, u64, u16, u64)| Extent {
            offset,
            length,
            device,
            at,
        };
        FileData {
            size,
            extents: extents.iter().map(extent).collect(),
        }
    }

    fn devices() -> Vec<Device> {
        let device = Device {
            tag: Vec::new(),
            length: 64 * KIB + 100,
        };
        vec![device.clone(), device]
    }

    fn at(block: u32) -> Lies {
        Lies::In { device: 1, block }
    }

    #[test]
    fn a_file_that_lies_together_is_one_chunk() {
        for (size, bits) in [(1, 9), (512, 9), (513, 10), (33_000, 16)] {
            let expected = (bits, vec![(0, size, at(2))]);
            assert_eq!(planned(size, &[(0, size, 1, 1024)]), expected, "{size}");
        }
    }

    #[test]
    fn a_hole_is_few_chunks_whatever_its_size() {
        assert_eq!(planned(1, &[]), (9, vec![]));
        assert_eq!(planned(5 * KIB, &[]), (13, vec![]));
        assert_eq!(planned(4096 * TIB, &[]), (40, vec![]));
        assert!(plan(&file(4097 * TIB, &[]), &devices()).is_err());
    }

    #[test]
    fn a_sparse_file_has_chunks_as_large_as_its_parts_allow() {
        let extents = [(8 * KIB, 4 * KIB, 1, 512), (16 * KIB, 8 * KIB, 1, 4608)];
        let expected = vec![(8 * KIB, 4 * KIB, at(1)), (16 * KIB, 8 * KIB, at(9))];
        assert_eq!(planned(64 * KIB, &extents), (12, expected));
        // The last chunk may be short.
        let extents = [(4 * KIB, 100, 1, 512)];
        assert_eq!(
            planned(4 * KIB + 100, &extents),
            (12, vec![(4 * KIB, 100, at(1))])
        );
    }

    #[test]
    fn what_no_block_of_the_device_holds_is_copied() {
        // Data that begins or ends within a block, beside some that does not.
        assert_eq!(
            planned(4 * KIB, &[(1, 10, 1, 512)]),
            (9, vec![(0, 512, COPIED)])
        );
        let extents = [(0, 1025, 1, 512)];
        let expected = vec![(0, 1024, at(1)), (1024, 512, COPIED)];
        assert_eq!(planned(4 * KIB, &extents), (9, expected));
        // Data that the device has within its blocks.
        assert_eq!(
            planned(4 * KIB, &[(0, 4 * KIB, 1, 700)]).1,
            [(0, 4 * KIB, COPIED)]
        );
        // Data whose last block is not whole in the device.
        let extents = [(0, 1124, 1, 63 * KIB)];
        let expected = vec![(0, KIB, at(126)), (KIB, 100, COPIED)];
        assert_eq!(planned(1124, &extents), (10, expected));
        // Two extents in one block, which is copied once.
        let extents = [(0, 10, 1, 512), (100, 10, 1, 522), (600, 1, 1, 532)];
        assert_eq!(planned(2 * KIB, &extents), (10, vec![(0, KIB, COPIED)]));
        // What was copied into an index is copied out of it.
        assert_eq!(
            planned(KIB, &[(0, KIB, 0, 512)]),
            (10, vec![(0, KIB, COPIED)])
        );
    }

    #[test]
    fn a_large_hole_makes_large_chunks_and_what_is_in_them_is_copied() {
        let (bits, runs) = planned(TIB, &[(TIB / 2 + 512, 512, 1, 512)]);
        assert_eq!((bits, runs), (28, vec![(TIB / 2, 1 << 28, COPIED)]));
    }

    #[test]
    fn data_that_lies_nowhere_is_refused() {
        for extents in [
            &[(0, 0, 1, 0)][..],
            &[(0, 2048, 1, 0)],
            &[(0, 512, 1, 0), (511, 1, 1, 512)],
            &[(0, 512, 3, 0)],
            &[(0, 512, 1, 65 * KIB)],
            &[(0, 512, 1, u64::MAX)],
            &[(u64::MAX, 512, 1, 0)],
        ] {
            assert!(
                plan(&file(KIB, extents), &devices()).is_err(),
                "{extents:?}"
            );
        }
        assert!(plan(&file(1 << 63, &[]), &devices()).is_err());
    }
}
