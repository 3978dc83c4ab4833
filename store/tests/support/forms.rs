//! Every archive that a test imports is imported a second time, as an index: what the kernel shows of it
//! must be what unpacking has made.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mybox_store::{Indexed, LayerForm, Lower};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::Scratch;

/// Compared up to here: below, the kernel has no path that leads there.
const LONGEST_PATH: usize = 3000;
/// Of larger files only what is no hole is compared, and something around it.
const LARGE: u64 = 16 << 20;

/// Asserts that a tar shows the same tree as an index.
pub(crate) fn compare(tar: &[u8], unpacked: &Path) {
    let scratch = Scratch::new();
    let store = scratch.store.clone().with_layer_form(LayerForm::Indexed);
    let image = super::import(&store, tar, &Default::default());
    let image = image.unwrap_or_else(|error| panic!("as an index: {}", super::chain(&error)));
    let stack = store.stack(&image).expect("a stack");
    let [Lower::Indexed(layer)] = stack.layers() else {
        panic!("an index: {stack:?}");
    };
    let mount = mount(layer);
    let mounted = PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd()));
    let (shown, expected) = (described(&mounted), described(unpacked));
    let paths = |tree: &BTreeMap<PathBuf, String>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(&shown), paths(&expected), "mounted on the left");
    for (path, expected) in expected {
        assert_eq!(
            shown[&path],
            expected,
            "{}: mounted on the left",
            path.display()
        );
        let (shown, there) = (mounted.join(&path), unpacked.join(&path));
        if there.symlink_metadata().expect("it is there").is_file() {
            compare_content(&shown, &there);
        }
    }
}

/// A detached mount: it ends with its descriptor.
fn mount(layer: &Indexed) -> OwnedFd {
    use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen};
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).expect("EROFS");
    fsconfig_set_string(&context, "source", &layer.index.path).expect("a source");
    for device in &layer.devices {
        fsconfig_set_string(&context, "device", &device.path).expect("a device");
    }
    fsconfig_create(&context).expect("an EROFS image");
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).expect("a mount")
}

/// Everything there is in a tree but the contents of files, as text, by path.
fn described(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut first = HashMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let at = root.join(&path);
        let meta = at.symlink_metadata().expect("it is there");
        if meta.is_dir() && path.as_os_str().len() < LONGEST_PATH {
            let entries = std::fs::read_dir(&at).expect("a listing");
            todo.extend(entries.map(|entry| path.join(entry.expect("an entry").file_name())));
        }
        first
            .entry(meta.ino())
            .and_modify(|first: &mut PathBuf| *first = path.clone().min(first.clone()))
            .or_insert_with(|| path.clone());
        all.insert(path, (meta, at));
    }
    let describe = |(path, (meta, at)): (PathBuf, (std::fs::Metadata, PathBuf))| {
        let first = &first[&meta.ino()];
        let text = description(&meta, &at);
        (path, format!("{text} {}", first.display()))
    };
    all.into_iter().map(describe).collect()
}

fn description(meta: &std::fs::Metadata, at: &Path) -> String {
    let is_whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
    // An unpacked whiteout is of the time it was unpacked.
    let time = if is_whiteout {
        (0, 0)
    } else {
        (meta.mtime(), meta.mtime_nsec())
    };
    // What a directory's size and links are, its file system decides.
    let (size, links) = if meta.is_dir() {
        (0, 0)
    } else {
        (meta.size(), meta.nlink())
    };
    let target = if meta.is_symlink() {
        std::fs::read_link(at).ok()
    } else {
        None
    };
    format!(
        "{:o} {}:{} {time:?} size {size} links {links} device {:x} to {target:?} {:?}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.rdev(),
        xattrs(at),
    )
}

fn xattrs(at: &Path) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(at, &mut names[..]).expect("a list");
    names.truncate(length);
    let names = names
        .split(|byte| *byte == 0)
        // Only in trees the kernel has to be told that there are whiteouts.
        .filter(|name| !name.is_empty() && *name != b"trusted.overlay.origin");
    names
        .map(|name| {
            let value = super::xattr(at, std::ffi::OsStr::from_bytes(name).to_str().unwrap());
            (name.to_vec(), value)
        })
        .collect()
}

fn compare_content(shown: &Path, expected: &Path) {
    // Opening must not change when the file was read, and so its time.
    let open = |path: &Path| {
        let mut options = std::fs::OpenOptions::new();
        let flags = rustix::fs::OFlags::NOATIME.bits();
        options.read(true).custom_flags(flags.cast_signed());
        options.open(path).expect("a file")
    };
    let (mut shown, mut expected) = (open(shown), open(expected));
    let size = expected.metadata().expect("a size").len();
    let mut position = 0;
    while position < size {
        let (start, end) = if size <= LARGE {
            (0, size)
        } else {
            let Ok(start) = rustix::fs::seek(&expected, rustix::fs::SeekFrom::Data(position))
            else {
                break;
            };
            let end = rustix::fs::seek(&expected, rustix::fs::SeekFrom::Hole(start));
            let end = end.expect("a hole at the end").min(start + LARGE);
            (start.saturating_sub(5000), (end + 5000).min(size))
        };
        let length = usize::try_from(end - start).expect("bounded");
        let read = |file: &mut std::fs::File| {
            let mut bytes = vec![0; length];
            file.seek(SeekFrom::Start(start)).expect("a place");
            file.read_exact(&mut bytes).expect("its content");
            bytes
        };
        assert!(
            read(&mut shown) == read(&mut expected),
            "content at {start}"
        );
        position = end;
    }
}
