//! The mounts of layers that are not unpacked, one for all containers that have the same files.
//!
//! Each mount of EROFS has a page cache of its own, so containers of one image share the mount. It is
//! attached nowhere: every supervisor has its descriptor for as long as its container lives, and the
//! kernel lets go of it with the last of them. So nothing shows in the host's mount table, and
//! nothing is left by whatever death. Who comes next takes a copy of the descriptor from any that has
//! it (`pidfd_getfd(2)`), and finds them here:
//!
//! ```text
//! <run root>/mounts/<files>     a line for each: pid, its start time, descriptor, st_dev, st_ino
//! ```
//! `<files>` stands for the inodes of the index and its devices; while somebody has them mounted no
//! other files can have these inodes. All reading and writing is under an flock on the file, which
//! goes with its last line: undone by the supervisor, or by the next command that finds it dead.
//!
//! What a container reads is in the mount's page cache for as long as the mount is there, and in the
//! tar's as long as there is memory. That is twice while it is used, but a mount ends with its last
//! container, and the next one begins with an empty cache: with `directio`, which leaves the tar's
//! out, one run after the other read everything from the disk again.
//!
//! Linux before 6.15 takes no layer that is attached nowhere. There each container has a mount of its
//! own, and attaches it in its own mount namespace.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mybox_store::{Digest, Indexed, Stack};
use rustix::fs::FlockOperation;

use super::forms::Forms;
use super::images::HeldImage;
use super::stack::make_empty_layer;
use crate::container::{Files, Places};
use crate::init::ImageTree;
use crate::kernel::erofs::{self, Identity};
use crate::kernel::file::existing;
use crate::kernel::overlay::Lower;
use crate::kernel::process;

/// A container's layers, those that are mounts mounted.
#[derive(Debug)]
pub(super) struct Mounts {
    // Before the mounts themselves: what is listed is there.
    _entries: Vec<Entry>,
    lower: Vec<Lower>,
    images: Vec<ImageTree>,
}

impl Mounts {
    /// Mounts what is to be mounted, unless somebody has it already. What lies below a layer whose
    /// root is opaque is left out. An overlay is of one layer at least: an image without any has an empty
    /// directory of the container's for it.
    pub(super) fn of(places: &Places, stack: &Stack, files: &Files) -> Result<Self> {
        let mut mounts = Self {
            _entries: Vec::new(),
            lower: Vec::new(),
            images: Vec::new(),
        };
        mounts.lower = mounts.mounted(places, stack)?;
        if mounts.lower.is_empty() {
            make_empty_layer(files)?;
            mounts.lower.push(Lower::Directory(files.empty_layer()));
        }
        Ok(mounts)
    }

    /// Of images alone.
    pub(super) fn of_images(places: &Places, images: &[HeldImage], empty: &Path) -> Result<Self> {
        let mut mounts = Self {
            _entries: Vec::new(),
            lower: Vec::new(),
            images: Vec::new(),
        };
        mounts.add_images(places, images, empty)?;
        Ok(mounts)
    }

    /// The same for the images that the container can read beside its own. A read-only overlay is of two
    /// layers at least: there is an empty one below.
    pub(super) fn add_images(
        &mut self,
        places: &Places,
        images: &[HeldImage],
        empty: &Path,
    ) -> Result<()> {
        for image in images {
            let mut lower = vec![Lower::Directory(empty.to_owned())];
            lower.extend(self.mounted(places, &image.stack)?);
            self.images.push(ImageTree {
                destination: image.destination.clone(),
                lower,
            });
        }
        Ok(())
    }

    fn mounted(&mut self, places: &Places, stack: &Stack) -> Result<Vec<Lower>> {
        let mut mounted = Vec::new();
        let mut forms = None;
        for (below, layer) in stack.layers().iter().enumerate().rev() {
            let lower = match layer {
                mybox_store::Lower::Tree(tree) => Lower::Directory(tree.path.clone()),
                mybox_store::Lower::Indexed(indexed) => {
                    let forms = forms.get_or_insert_with(|| Forms::of_this_kernel(places));
                    self.take(places, indexed, forms)?
                }
            };
            let hides_the_rest = below > 0 && lower.is_opaque()?;
            mounted.push(lower);
            if hides_the_rest {
                break;
            }
        }
        mounted.reverse();
        Ok(mounted)
    }

    /// What to stack, the base first.
    pub(super) fn lower(&self) -> &[Lower] {
        &self.lower
    }

    /// The images to stack beside that.
    pub(super) fn images(&self) -> &[ImageTree] {
        &self.images
    }

    /// The mounts alone. They stay listed as this process's, which is to keep them open under their
    /// numbers until [`strike_own`].
    pub(super) fn into_descriptors(self) -> Vec<OwnedFd> {
        self._entries.into_iter().for_each(std::mem::forget);
        let mount = |lower| match lower {
            Lower::Directory(_) => None,
            Lower::Detached(mount) | Lower::Attachable(mount) => Some(mount),
        };
        let images = self.images.into_iter().flat_map(|image| image.lower);
        let all = self.lower.into_iter().chain(images);
        all.filter_map(mount).collect()
    }

    fn take(&mut self, places: &Places, indexed: &Indexed, forms: &Forms) -> Result<Lower> {
        if !forms.stacks_detached {
            return Ok(Lower::Attachable(mount(indexed)?));
        }
        let path = places.mounts().join(file_name(indexed)?);
        let (mount, entry) = shared(&path, indexed)
            .with_context(|| format!("share a mount by {}", path.display()))?;
        self._entries.push(entry);
        Ok(Lower::Detached(mount))
    }
}

fn mount(indexed: &Indexed) -> Result<OwnedFd> {
    let devices = indexed.devices.iter().map(|device| {
        let (directory, name) = device.place();
        erofs::File::In(directory, name)
    });
    let devices: Vec<erofs::File<'_>> = devices.collect();
    Ok(erofs::mount(indexed.index.fd.as_fd(), &devices)?)
}

/// A name for the files that are mounted.
fn file_name(indexed: &Indexed) -> Result<String> {
    let index = &indexed.index;
    let stat =
        rustix::fs::fstat(&index.fd).with_context(|| format!("stat {}", index.path.display()))?;
    let mut inodes = format!("{}:{} ", stat.st_dev, stat.st_ino);
    for device in &indexed.devices {
        let (device, number) = device.inode;
        let _ = write!(inodes, "{device}:{number} ");
    }
    Ok(Digest::of(inodes.as_bytes()).hex())
}

/// The mount from whoever has it, else a new one; listed as ours too.
fn shared(path: &Path, indexed: &Indexed) -> Result<(OwnedFd, Entry)> {
    let register = Register::open(path)?;
    let mut holders = register.holders()?;
    let mount = match take_from(&mut holders) {
        Some(mount) => mount,
        None => mount(indexed)?,
    };
    let own = Holder::own(&mount)?;
    holders.push(own);
    register.write(&holders)?;
    let path = path.to_owned();
    Ok((mount, Entry { path, own }))
}

/// From the first of them that is there and lets us; those that are dead are struck off.
fn take_from(holders: &mut Vec<Holder>) -> Option<OwnedFd> {
    while let Some(last) = holders.last() {
        if let Some(mount) = last.mount() {
            return Some(mount);
        }
        if last.lives() {
            // It may not be looked into, and so, most likely, none of the others.
            break;
        }
        holders.pop();
    }
    holders.iter().find_map(Holder::mount)
}

/// One who has the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder {
    pid: i32,
    started: u64,
    descriptor: i32,
    identity: Identity,
}

impl Holder {
    fn own(mount: &OwnedFd) -> Result<Self> {
        let pid = std::process::id().cast_signed();
        let identity = erofs::identity(mount.as_fd())?.context("what was mounted is no EROFS")?;
        Ok(Self {
            pid,
            started: process::start_time(pid).context("read our own start time")?,
            descriptor: mount.as_raw_fd(),
            identity,
        })
    }

    /// Whether it will go on having it. Who is on the way out may have let go of its claim already, which is
    /// what brings others here.
    fn lives(&self) -> bool {
        process::is_alive(self.pid, self.started) && !process::is_ending(self.pid)
    }

    /// A copy of its descriptor, if that is what the line says it is.
    fn mount(&self) -> Option<OwnedFd> {
        let mount = process::descriptor_of(self.pid, self.started, self.descriptor)?;
        let found = erofs::identity(mount.as_fd()).ok()?;
        (found == Some(self.identity)).then_some(mount)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let holder = Self {
            pid: words.next()?.parse().ok()?,
            started: words.next()?.parse().ok()?,
            descriptor: words.next()?.parse().ok()?,
            identity: Identity {
                device: words.next()?.parse().ok()?,
                root: words.next()?.parse().ok()?,
            },
        };
        words.next().is_none().then_some(holder)
    }

    fn line(&self) -> String {
        let (pid, started, descriptor) = (self.pid, self.started, self.descriptor);
        let Identity { device, root } = self.identity;
        format!("{pid} {started} {descriptor} {device} {root}\n")
    }
}

/// Our line in a register, there for as long as this is.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    own: Holder,
}

impl Drop for Entry {
    fn drop(&mut self) {
        // A line that stays is struck off by the next who reads it, as that of a dead process.
        let _ = strike_off(&self.path, |holder| *holder != self.own);
    }
}

/// Strikes off all who are dead, in all registers.
pub(super) fn sweep(places: &Places) -> Result<()> {
    strike_off_everywhere(places, Holder::lives)
}

/// Strikes off this process, in all registers.
pub(super) fn strike_own(places: &Places) -> Result<()> {
    let own = std::process::id().cast_signed();
    strike_off_everywhere(places, |holder| holder.pid != own)
}

fn strike_off_everywhere(places: &Places, stays: impl Fn(&Holder) -> bool) -> Result<()> {
    let dir = places.mounts();
    let entries =
        existing(fs::read_dir(&dir)).with_context(|| format!("list {}", dir.display()))?;
    for entry in entries.into_iter().flatten() {
        let path = entry
            .with_context(|| format!("list {}", dir.display()))?
            .path();
        strike_off(&path, &stays).with_context(|| format!("clean {}", path.display()))?;
    }
    Ok(())
}

fn strike_off(path: &Path, stays: impl FnMut(&Holder) -> bool) -> io::Result<()> {
    let Some(register) = Register::open_existing(path)? else {
        return Ok(());
    };
    let mut holders = register.holders()?;
    holders.retain(stays);
    register.write(&holders)
}

/// A register, locked.
struct Register {
    file: File,
    path: PathBuf,
}

impl Register {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        loop {
            if let Some(register) = Self::lock(path, OpenOptions::new().create(true))? {
                return Ok(register);
            }
        }
    }

    fn open_existing(path: &Path) -> io::Result<Option<Self>> {
        Ok(existing(Self::lock(path, &mut OpenOptions::new()))?.flatten())
    }

    /// `None` if the file was removed while we waited for the lock.
    fn lock(path: &Path, options: &mut OpenOptions) -> io::Result<Option<Self>> {
        let file = options.read(true).write(true).open(path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        let removed = file.metadata()?.nlink() == 0;
        let path = path.to_owned();
        Ok((!removed).then_some(Self { file, path }))
    }

    fn holders(&self) -> io::Result<Vec<Holder>> {
        let mut text = String::new();
        let mut file = &self.file;
        file.rewind()?;
        file.read_to_string(&mut text)?;
        // A line that was cut when its writer was killed stands for nobody.
        Ok(text.lines().filter_map(Holder::parse).collect())
    }

    fn write(&self, holders: &[Holder]) -> io::Result<()> {
        if holders.is_empty() {
            return fs::remove_file(&self.path);
        }
        let text: String = holders.iter().map(Holder::line).collect();
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: i32) -> Holder {
        Holder {
            pid,
            started: 7,
            descriptor: 8,
            identity: Identity {
                device: 9,
                root: 36,
            },
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written_and_half_a_line_is_none() {
        let line = holder(5).line();
        assert_eq!(Holder::parse(line.trim_end()), Some(holder(5)));
        for line in ["", "5 7 8 9", "5 7 8 9 36 1", "5 7 x 9 36", "5  7 8 9 36"] {
            assert_eq!(Holder::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_register_goes_with_its_last_line() {
        let dir = std::env::temp_dir().join(format!("mybox-mounts-{}", std::process::id()));
        let path = dir.join("register");
        let register = Register::open(&path).unwrap();
        register.write(&[holder(1), holder(2)]).unwrap();
        drop(register);
        strike_off(&path, |holder| holder.pid != 1).unwrap();
        let register = Register::open_existing(&path).unwrap().expect("a register");
        assert_eq!(register.holders().unwrap(), [holder(2)]);
        drop(register);
        strike_off(&path, |holder| holder.pid != 2).unwrap();
        assert!(Register::open_existing(&path).unwrap().is_none());
        fs::remove_dir_all(&dir).unwrap();
    }
}
