//! The kernel mounts an index over its tar and shows the tree that unpacking the tar makes.
//!
//! They need root and Linux 6.12. The mounts are detached ones: they end with their descriptor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::tars;
use super::trees::{random, written};
use crate::dir;
use crate::error::Result;
use crate::layer::content::Contents;
use crate::layer::index::build::build;
use crate::layer::index::read::read_file;
use crate::layer::index::write::{Tar, write};
use crate::layer::listing::entry::{Entry, Kind, What};
use crate::layer::listing::walk::Walk;
use crate::layer::unpack::unpack;
use crate::time::Time;

const WHITEOUT: Kind = Kind::CharacterDevice { major: 0, minor: 0 };

/// A tar on disk, its index and its unpacked tree.
pub(super) struct Layer {
    directory: tempfile::TempDir,
}

impl Layer {
    /// Of a tar that is neither indexed nor unpacked yet.
    pub(super) fn new(tar: &[u8]) -> Self {
        let layer = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::write(layer.tar(), tar).unwrap();
        layer
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    pub(super) fn tar(&self) -> PathBuf {
        self.directory().join("layer.tar")
    }

    pub(super) fn erofs(&self) -> PathBuf {
        self.directory().join("layer.erofs")
    }

    pub(super) fn unpacked(&self) -> PathBuf {
        self.directory().join("fs")
    }

    pub(super) fn index(&self) -> Result<()> {
        let tar = File::open(self.tar()).unwrap();
        let mut tree = build(BufReader::new(&tar), &mut |_, _| ())?.tree;
        tree.devices[0].length = tar.metadata().unwrap().len();
        let mut index = File::create(self.erofs()).unwrap();
        write(&tree, &Tar(&tar), &mut index)
    }

    pub(super) fn unpack(&self) -> Result<()> {
        std::fs::create_dir(self.unpacked()).unwrap();
        let tar = File::open(self.tar()).unwrap();
        unpack(BufReader::new(tar), self.root(), &mut |_, _| ()).map(drop)
    }

    fn root(&self) -> OwnedFd {
        File::open(self.unpacked()).unwrap().into()
    }

    /// Compares what the kernel shows with what was unpacked.
    pub(super) fn compare(&self, what: &str) {
        let mount = mount(&self.erofs(), &[&self.tar()]);
        let mounted = compare(&mount, &self.root(), what);
        compare_links(&mounted, &mount, &self.root(), what);
        assert!(read_file(&File::open(self.erofs()).unwrap(), &self.erofs()).is_ok());
    }
}

/// Compares two trees; what is in them.
pub(super) fn compare(mounted: &OwnedFd, expected: &OwnedFd, what: &str) -> Vec<Entry> {
    let (mounted, expected) = (listing(mounted), listing(expected));
    for (mounted, expected) in mounted.iter().zip(&expected) {
        assert_eq!(line(mounted), line(expected), "{what}: mounted on the left");
    }
    assert_eq!(mounted.len(), expected.len(), "{what}");
    mounted
}

/// Mounts an index with its devices.
pub(super) fn mount(index: &Path, devices: &[&Path]) -> OwnedFd {
    use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen};
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_string(&context, "source", index).unwrap();
    fsconfig_set_flag(&context, "ro").unwrap();
    for device in devices {
        fsconfig_set_string(&context, "device", *device).unwrap();
    }
    fsconfig_create(&context).unwrap();
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
    .unwrap();
    // The mount's own descriptor only names it.
    dir::open(&mount, ".").unwrap()
}

fn listing(root: &OwnedFd) -> Vec<Entry> {
    let mut walk = Walk::new(root.try_clone().unwrap(), Contents::default());
    let mut entries = Vec::new();
    while let Some(mut entry) = walk.next().unwrap() {
        if let What::Inode(inode) = &mut entry.what {
            // Only in trees the kernel has to be told that there are whiteouts.
            let is_told = |name: &[u8]| name == b"trusted.overlay.origin";
            inode.xattrs.retain(|(name, _)| !is_told(name));
            if inode.kind == WHITEOUT {
                // An unpacked one is of the time it was unpacked, and of its directory's group if that
                // has the setgid bit.
                (inode.mtime, inode.gid) = (Time::default(), 0);
            }
        }
        entries.push(entry);
    }
    entries
}

fn line(entry: &Entry) -> String {
    let mut line = String::new();
    entry.write(&mut line);
    line
}

/// Of files what the unpacked tree has; of directories two and those in it, which not every file
/// system counts.
fn compare_links(entries: &[Entry], mount: &OwnedFd, unpacked: &OwnedFd, what: &str) {
    let mut directories: BTreeMap<&[u8], u64> = BTreeMap::new();
    let links = |root: &OwnedFd, path: &[u8]| {
        let root = format!("/proc/self/fd/{}", root.as_raw_fd());
        let path = Path::new(&root).join(std::ffi::OsStr::from_bytes(path));
        path.symlink_metadata().unwrap().nlink()
    };
    for entry in entries {
        let path = &entry.path[..];
        if !is_directory(entry) {
            assert_eq!(
                links(mount, path),
                links(unpacked, path),
                "{what}: {path:?}"
            );
            continue;
        }
        directories.insert(path, 2);
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let parent = slash.map_or(&b"."[..], |slash| &path[..slash]);
        if path != b"." {
            *directories.get_mut(parent).unwrap() += 1;
        }
    }
    for (path, expected) in directories {
        assert_eq!(links(mount, path), expected, "{what}: {path:?}");
    }
}

fn is_directory(entry: &Entry) -> bool {
    matches!(&entry.what, What::Inode(inode) if inode.kind == Kind::Directory)
}

#[test]
fn random_tars_mounted_are_as_they_are_unpacked() {
    for seed in 0..60 {
        let tar = tars::random(seed, |tar| {
            let layer = Layer::new(tar);
            let indexed = layer.index();
            if let Err(error) = &indexed {
                assert!(
                    layer.unpack().is_err(),
                    "seed {seed}: only unpacked: {error}"
                );
            }
            indexed.is_ok()
        });
        let layer = Layer::new(&tar);
        layer.index().unwrap();
        layer.unpack().unwrap();
        layer.compare(&format!("seed {seed}"));
    }
}

/// Trees that no tar makes: several devices, any extents.
#[test]
fn random_trees_mounted_are_what_was_written() {
    for seed in 0..60 {
        let (tree, memory) = random(seed);
        let directory = tempfile::tempdir().unwrap();
        let path = |number: usize| directory.path().join(format!("{number}"));
        std::fs::write(path(0), written(&tree, &memory)).unwrap();
        for (number, bytes) in memory.0.iter().enumerate().skip(1) {
            std::fs::write(path(number), bytes).unwrap();
        }
        let devices: Vec<PathBuf> = (1..memory.0.len()).map(path).collect();
        let devices: Vec<&Path> = devices.iter().map(PathBuf::as_path).collect();
        let mount = mount(&path(0), &devices);
        super::trees::compare_with_mount(&tree, &memory, &mount);
    }
}
