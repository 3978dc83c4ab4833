//! How much a tree takes on the disk, counted file by file: for what has no record that says so, as
//! a container's changes.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::{dir, object};

/// Bytes allocated to a directory and everything in it, each inode once; nothing if it is not
/// there. Symlinks are not followed, and other filesystems mounted in it are left out. What goes
/// away meanwhile, as in a container that runs, is not counted.
pub fn allocated(directory: &Path) -> io::Result<u64> {
    let top = match dir::open_path(directory) {
        Err(Errno::NOENT) => return Ok(0),
        top => top?,
    };
    let stat = rustix::fs::fstat(&top)?;
    let device = stat.st_dev;
    let mut bytes = object::allocated(&stat);
    let mut linked = HashSet::new();
    let top = Arc::new(top);
    let mut rest = subdirectories(&top, device, &mut bytes, &mut linked)?;
    while let Some((parent, name)) = rest.pop() {
        let opened = dir::open(parent.as_fd(), &*name);
        drop(parent);
        let directory = match opened {
            Ok(directory) => Arc::new(directory),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(errno.into()),
        };
        rest.extend(subdirectories(&directory, device, &mut bytes, &mut linked)?);
    }
    Ok(bytes)
}

/// Counts what is in a directory; the directories in it, still to be looked into.
fn subdirectories(
    directory: &Arc<OwnedFd>,
    device: u64,
    bytes: &mut u64,
    linked: &mut HashSet<u64>,
) -> Result<Vec<(Arc<OwnedFd>, CString)>, Errno> {
    let mut found = Vec::new();
    let listed = dir::each_name(directory.as_fd(), |name, _| {
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        if stat.st_dev != device {
            return Ok(());
        }
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_directory && stat.st_nlink > 1 && !linked.insert(stat.st_ino) {
            return Ok(());
        }
        *bytes += object::allocated(&stat);
        if is_directory {
            found.push((Arc::clone(directory), name.to_owned()));
        }
        Ok(())
    });
    match listed {
        // Removed since it was opened: there is nothing left in it.
        Ok(()) | Err(Errno::NOENT) => Ok(found),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_has_just_gone_holds_nothing() {
        let temporary = tempfile::tempdir().unwrap();
        let gone = temporary.path().join("gone");
        std::fs::create_dir(&gone).unwrap();
        let opened = Arc::new(dir::open_path(&gone).unwrap());
        std::fs::remove_dir(&gone).unwrap();
        let (mut bytes, mut linked) = (0, HashSet::new());
        let found = subdirectories(&opened, 0, &mut bytes, &mut linked).unwrap();
        assert_eq!((found.len(), bytes), (0, 0));
    }

    #[test]
    fn each_file_is_counted_once_and_no_symlink_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let top = temporary.path().join("top");
        assert_eq!(allocated(&top).unwrap(), 0);
        std::fs::create_dir_all(top.join("a/b/c")).unwrap();
        let empty = allocated(&top).unwrap();
        let file = top.join("a/b/file");
        std::fs::write(&file, [1; 100_000]).unwrap();
        std::fs::File::open(&file).unwrap().sync_all().unwrap();
        let once = allocated(&top).unwrap();
        assert!(
            (100_000..200_000).contains(&(once - empty)),
            "{once} {empty}"
        );
        std::fs::hard_link(&file, top.join("a/again")).unwrap();
        std::os::unix::fs::symlink("/usr", top.join("a/b/c/link")).unwrap();
        assert!(allocated(&top).unwrap() - once <= 4096);
    }
}
