//! Small actions on files, and what `lstat` says of them.

use std::collections::BTreeMap;
use std::io::{Write, copy, stdout};
use std::path::Path;

use anyhow::{Context, Result};
use mybox_probe::Node;
use rustix::fs::{self, AtFlags, CWD, FileType, Mode};
use rustix::io::Errno;

/// Copies `file` to standard output.
pub(crate) fn print(file: &str) -> Result<()> {
    let mut source = std::fs::File::open(file).context(file.to_owned())?;
    copy(&mut source, &mut stdout()).context(file.to_owned())?;
    Ok(())
}

/// Prints the names in `directory`, sorted, one a line.
pub(crate) fn list(directory: &str) -> Result<()> {
    let entries = std::fs::read_dir(directory).context(directory.to_owned())?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    names
        .iter()
        .for_each(|name| println!("{}", name.to_string_lossy()));
    Ok(())
}

/// What each path is: a [`Node`], or the name of the error.
pub(crate) fn stat(paths: &[&str]) -> BTreeMap<String, serde_json::Value> {
    let describe = |path: &str| match node(Path::new(path)) {
        Ok(node) => serde_json::json!(node),
        Err(errno) => serde_json::json!(errno_name(errno)),
    };
    paths
        .iter()
        .map(|path| ((*path).to_owned(), describe(path)))
        .collect()
}

/// Describes `path` itself, without following it if it is a symlink.
pub(crate) fn node(path: &Path) -> rustix::io::Result<Node> {
    let stat = fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let target = fs::readlinkat(CWD, path, Vec::new());
    Ok(Node {
        kind: kind_name(kind).to_owned(),
        mode: Mode::from_raw_mode(stat.st_mode).bits(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        nlink: stat.st_nlink,
        inode: stat.st_ino,
        device: is_device.then(|| (fs::major(stat.st_rdev), fs::minor(stat.st_rdev))),
        target: target
            .ok()
            .map(|target| target.to_string_lossy().into_owned()),
        mtime: (
            stat.st_mtime,
            i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        ),
        xattrs: xattrs(path),
    })
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "dir",
        FileType::Symlink => "symlink",
        FileType::CharacterDevice => "char",
        FileType::BlockDevice => "block",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::Unknown => "unknown",
    }
}

/// The attributes that may be read, values in hexadecimal; none where the filesystem has no
/// attributes.
fn xattrs(path: &Path) -> BTreeMap<String, String> {
    let mut names = vec![0_u8; 65536];
    let length = fs::llistxattr(path, names.as_mut_slice()).unwrap_or_default();
    let names = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .filter_map(|name| {
            let mut value = vec![0_u8; 65536];
            let length = fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
            let hex = value[..length]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            Some((String::from_utf8_lossy(name).into_owned(), hex))
        })
        .collect()
}

/// Opens `file` for writing, makes it if it is not there, writes a byte at its end; `ok` or the
/// name of the error.
pub(crate) fn try_write(file: &str) -> String {
    let opened = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file);
    match opened.and_then(|mut file| file.write_all(b"\n")) {
        Ok(()) => "ok".to_owned(),
        Err(error) => io_error_name(&error),
    }
}

/// Tries to make a device node that would open the kernel's memory, and one that is harmless; then
/// to open each.
pub(crate) fn mknod_test() -> BTreeMap<&'static str, String> {
    let attempt = |name: &str, major, minor| {
        let path = format!("/mybox-probe-{name}");
        let made = fs::mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            Mode::RUSR | Mode::WUSR,
            fs::makedev(major, minor),
        );
        let result = match made {
            Err(errno) => format!("mknod: {}", errno_name(errno)),
            Ok(()) => match std::fs::File::open(&path) {
                Ok(_) => "opened".to_owned(),
                Err(error) => format!("open: {}", io_error_name(&error)),
            },
        };
        // The attempt may have made nothing; there is nothing more to clean up then.
        let _ = std::fs::remove_file(&path);
        result
    };
    BTreeMap::from([
        ("null", attempt("null", 1, 3)),
        ("kmsg", attempt("kmsg", 1, 11)),
    ])
}

/// The name of an error as in errno(3).
pub(crate) fn errno_name(errno: Errno) -> String {
    // nix's Errno carries the names; rustix's prints only numbers.
    format!("{:?}", nix::errno::Errno::from_raw(errno.raw_os_error()))
}

/// The name of an error from the standard library, as in errno(3) where it came from the kernel.
pub(crate) fn io_error_name(error: &std::io::Error) -> String {
    Errno::from_io_error(error).map_or_else(|| error.to_string(), errno_name)
}
