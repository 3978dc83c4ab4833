//! Files that several processes share: each may come, go or be replaced while another one looks.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `None` instead of an error for what does not exist.
pub fn existing<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}

/// What is not there need not be removed.
pub fn gone(removed: io::Result<()>) -> io::Result<()> {
    existing(removed).map(drop)
}

/// Whether something failed for want of room on the disk.
pub fn is_full(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether the path still names the file that is open.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    let named = existing(fs::metadata(path))?;
    Ok(named.is_some_and(|named| (open.dev(), open.ino()) == (named.dev(), named.ino())))
}

/// Whether what is written has to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// It is flushed, and its directory too.
    Yes,
    /// It is flushed; its directory will be, with another file.
    Content,
    /// It is made anew, or does without.
    No,
}

/// Gives a file new content in one step: whoever reads it finds the old or the new one, whole.
pub fn replace(path: &Path, content: &[u8], lasting: Lasting) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        if lasting != Lasting::No {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    };
    if let Err(error) = write() {
        gone(fs::remove_file(&temporary))?;
        return Err(error);
    }
    match (lasting, path.parent()) {
        (Lasting::Yes, Some(dir)) => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

/// Removes a symbolic link if it leads to `owner`; the last component of its target counts.
pub fn remove_link_to(link: &Path, owner: &str) -> io::Result<()> {
    match existing(fs::read_link(link))? {
        Some(target) if target.file_name() == Some(owner.as_ref()) => gone(fs::remove_file(link)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let dir = std::env::temp_dir().join(format!("mybox-file-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.json");
        replace(&path, b"old", Lasting::No).unwrap();
        let old = File::open(&path).unwrap();
        assert!(is_at(&old, &path).unwrap());
        replace(&path, b"new", Lasting::Yes).unwrap();
        assert!(!is_at(&old, &path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // A directory is in the way: the rename fails.
        fs::create_dir(dir.join("b")).unwrap();
        replace(&dir.join("b"), b"", Lasting::No).unwrap_err();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(&dir).unwrap();
        assert!(!is_at(&old, &path).unwrap());
    }

    #[test]
    fn a_link_goes_if_it_is_the_owners() {
        let link = std::env::temp_dir().join(format!("mybox-link-{}", std::process::id()));
        std::os::unix::fs::symlink("../one", &link).unwrap();
        remove_link_to(&link, "two").unwrap();
        assert!(link.is_symlink());
        remove_link_to(&link, "one").unwrap();
        assert!(!link.is_symlink());
        remove_link_to(&link, "one").unwrap();
    }
}
