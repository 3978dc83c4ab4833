//! What of a file is in memory.

use std::os::fd::BorrowedFd;

use super::{Context, Result, raw};

/// So much of a file is looked at in one place: what is counted is pages, and a large file has many.
const WINDOW: u64 = 1 << 20;

/// Whether most of some files is in the page cache, going by a few places in each. Not so where the
/// kernel does not tell (Linux before 6.5).
pub fn has_most_of<'a>(files: impl ExactSizeIterator<Item = BorrowedFd<'a>>) -> bool {
    let windows = (16 / files.len().max(1) as u64).max(1);
    let (mut cached, mut looked_at) = (0, 0);
    for file in files {
        let Ok(seen) = look_at(file, windows) else {
            return false;
        };
        cached += seen.cached;
        looked_at += seen.bytes;
    }
    cached > looked_at / 2
}

/// Of so many bytes so many were in memory.
struct Seen {
    cached: u64,
    bytes: u64,
}

fn look_at(file: BorrowedFd<'_>, windows: u64) -> Result<Seen> {
    let page = rustix::param::page_size() as u64;
    let size = rustix::fs::fstat(file).on("stat", "file")?.st_size;
    let size = size.cast_unsigned();
    let step = (size / windows).max(WINDOW);
    let mut seen = Seen {
        cached: 0,
        bytes: 0,
    };
    let mut offset = 0;
    while offset < size {
        let length = WINDOW.min(size - offset);
        let pages = raw::cached_pages(file, offset, length).on("cachestat", "file")?;
        seen.cached += length.min(pages * page);
        seen.bytes += length;
        offset += step;
    }
    Ok(seen)
}
