//! `ending`: how a container ended, when there was no room on the disk for a new record.
//!
//! The file is made with the container, of blanks, and written over in place, which takes no room. It
//! counts for as long as the record says that the container may go on; one that is written anew blanks it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Ending;
use crate::kernel::file::existing;

const NAME: &str = "ending";
/// The longest that there is, and one sector at most: it is written whole or not at all.
const SIZE: usize = 128;
const BLANK: [u8; SIZE] = [b' '; SIZE];

/// Makes the file of a new container.
pub fn make(dir: &Path) -> io::Result<()> {
    fs::write(dir.join(NAME), BLANK)
}

/// Keeps it, in the room that is there.
pub fn keep(dir: &Path, ending: Ending) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(&ending)?;
    bytes.resize(SIZE, b' ');
    let file = File::options().write(true).open(dir.join(NAME))?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()
}

/// What was kept. A power cut may leave an empty file, which says nothing.
pub fn read(dir: &Path) -> io::Result<Option<Ending>> {
    let bytes = existing(fs::read(dir.join(NAME)))?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Says nothing any more.
pub fn clear(dir: &Path) -> io::Result<()> {
    if read(dir)?.is_none() {
        return Ok(());
    }
    let file = File::options().write(true).open(dir.join(NAME))?;
    file.write_all_at(&BLANK, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_ending_fits_and_can_be_blanked() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let ending = Ending {
            code: u8::MAX,
            out_of_memory: false,
            at: u64::MAX,
        };
        keep(dir.path(), ending).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(ending));
        assert_eq!(fs::read(dir.path().join(NAME)).unwrap().len(), SIZE);
        clear(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
    }
}
