//! Files copied into a container and out of it, with Docker's rules of what ends up where.
//!
//! ```text
//! source --pack--> tar --pipe--> unpack --> destination
//! ```
//! What is a directory of the container is only ever reached through its root ([`super::tree`]): no link
//! in it leads to the host, and none that it makes while it is being copied.

use std::ffi::OsStr;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use mybox_store::{FoundFile, ImageFiles, Onto, Warning, pack_named, pack_tree, unpack_onto};
use rustix::fs::{FileType, Mode, OFlags, readlinkat};

use crate::kernel::root::Root;

/// As many links as the kernel itself follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// What is copied.
pub enum Source {
    /// A file, or a directory with what is in it.
    Named(Named),
    /// What is in a directory.
    Content(OwnedFd, PathBuf),
    /// Something of an image.
    OfImage(OfImage),
}

/// What is copied of an image, out of its layers.
pub struct OfImage {
    files: ImageFiles,
    found: FoundFile,
    /// What it is called where it is copied to; `None` for what is in the directory.
    called: Option<Vec<u8>>,
    path: PathBuf,
}

/// A name in a directory.
#[derive(Debug)]
pub struct Named {
    parent: OwnedFd,
    name: Vec<u8>,
    is_directory: bool,
    /// What it is called where it is copied to, unless that says otherwise.
    called: Vec<u8>,
    path: PathBuf,
}

/// Where a copy goes: a directory from the root, and the name in it if that is not the source's.
#[derive(Debug, PartialEq, Eq)]
struct Landing {
    directory: PathBuf,
    name: Option<Vec<u8>>,
}

/// A path as it was typed: cleaned, and whether it said that it is a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Typed {
    path: PathBuf,
    /// It ends with a slash.
    is_directory: bool,
    /// It ends with `/.`: what is in the directory.
    is_content: bool,
}

impl Typed {
    /// Reads a path that is relative to the root, and cleans it of `.` and `..` as Docker does: by its
    /// words, whatever links are on the way.
    pub fn new(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        let mut path = PathBuf::from("/");
        for part in Path::new(text).components() {
            match part {
                Component::Normal(name) => path.push(name),
                Component::ParentDir => drop(path.pop()),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        let is_content = bytes.ends_with(b"/.") || bytes == b"." || path == Path::new("/");
        Self {
            is_directory: is_content || bytes.ends_with(b"/") || bytes.ends_with(b"/.."),
            is_content,
            path,
        }
    }

    /// The path from the root.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Source {
    /// Finds what is copied. With `follow` a link stands for what it leads to.
    pub fn find(root: &Root, typed: &Typed, follow: bool) -> Result<Self> {
        let path = &typed.path;
        if typed.is_content {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let directory = root.open_in(path, flags)?;
            return Ok(Self::Content(directory, path.clone()));
        }
        let called = last(path).to_vec();
        let real = match follow || typed.is_directory {
            true => without_link(root, path)?,
            false => path.clone(),
        };
        let above = real.parent().unwrap_or(Path::new("/"));
        let parent = root.open_in(above, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let name = last(&real).to_vec();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(&parent, &*name, flags, Mode::empty());
        let found = found.with_context(|| format!("find {}", path.display()))?;
        let is_directory = kind(&found)? == FileType::Directory;
        if typed.is_directory && !is_directory {
            bail!("{} is not a directory", path.display());
        }
        Ok(Self::Named(Named {
            parent,
            name,
            is_directory,
            called,
            path: path.clone(),
        }))
    }

    /// Finds it in an image instead.
    pub fn find_in_image(files: ImageFiles, typed: &Typed, follow: bool) -> Result<Self> {
        let path = &typed.path;
        let found = files.find(path.as_os_str().as_bytes(), follow || typed.is_directory)?;
        let Some(found) = found else {
            bail!("{} is not there", path.display());
        };
        if typed.is_directory && !found.is_directory {
            bail!("{} is not a directory", path.display());
        }
        Ok(Self::OfImage(OfImage {
            files,
            found,
            called: (!typed.is_content).then(|| last(path).to_vec()),
            path: path.clone(),
        }))
    }

    fn is_directory(&self) -> bool {
        match self {
            Self::Named(named) => named.is_directory,
            Self::Content(..) => true,
            Self::OfImage(of_image) => of_image.found.is_directory,
        }
    }

    /// Whether it is what is in a directory, and not the directory.
    fn is_content(&self) -> bool {
        match self {
            Self::Named(_) => false,
            Self::Content(..) => true,
            Self::OfImage(of_image) => of_image.called.is_none(),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Named(Named { path, .. })
            | Self::Content(_, path)
            | Self::OfImage(OfImage { path, .. }) => path,
        }
    }

    /// Writes it as a tar, named as it is or as `name`.
    pub fn pack(
        &self,
        name: Option<&[u8]>,
        out: &mut dyn Write,
        warn: &mut dyn FnMut(Warning),
    ) -> Result<()> {
        match self {
            Self::Content(directory, _) => {
                pack_tree(directory.try_clone()?, out, warn)?;
            }
            Self::Named(named) => {
                let called = name.unwrap_or(&named.called);
                pack_named(&named.parent, &named.name, called, out, warn)?;
            }
            Self::OfImage(of_image) => {
                let called = of_image.called.as_deref();
                let called = called.map(|called| name.unwrap_or(called));
                of_image.files.pack(&of_image.found, called, out, warn)?;
            }
        }
        Ok(())
    }
}

/// Docker's rules: into a directory that is there, as a file or a directory that is not there yet, and over a
/// file.
fn landing(root: &Root, source: &Source, typed: &Typed) -> Result<Landing> {
    let path = without_link(root, &typed.path)?;
    let shown = typed.path.display();
    let above = || -> Result<Landing> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let directory = root.open_in(parent, OFlags::PATH | OFlags::DIRECTORY);
        directory.with_context(|| format!("the directory for {shown} is not there"))?;
        Ok(Landing {
            directory: parent.to_owned(),
            name: Some(last(&path).to_vec()),
        })
    };
    match existing(root, &path)? {
        Some(FileType::Directory) => Ok(Landing {
            directory: path,
            name: None,
        }),
        Some(_) if source.is_directory() => {
            let source = source.path().display();
            bail!("{shown} is no directory, and {source} is one: nothing is copied over it")
        }
        Some(_) if typed.is_directory => bail!("{shown} is no directory"),
        None if typed.is_directory && !source.is_directory() => {
            bail!("the directory {shown} is not there")
        }
        // What is in a directory becomes what is in the new one.
        None if source.is_content() => above().map(|_| Landing {
            directory: path.clone(),
            name: None,
        }),
        Some(_) | None => above(),
    }
}

/// The root that paths of this machine begin at.
pub fn this_machine() -> Result<Root> {
    Ok(Root::open(Path::new("/"))?)
}

/// Copies to a path below `root`; everything becomes `owner`'s, if there is one.
pub fn copy(
    source: &Source,
    root: &Root,
    to: &Typed,
    owner: Option<(u32, u32)>,
    warn: &mut (dyn FnMut(Warning) + Send),
) -> Result<()> {
    let landing = landing(root, source, to)?;
    let (reader, mut writer) = std::io::pipe().context("make a pipe")?;
    std::thread::scope(|scope| {
        let name = landing.name.as_deref();
        let packed = scope.spawn(move || source.pack(name, &mut writer, warn));
        let unpacked = unpack(reader, root, &landing.directory, owner);
        let packed = packed.join().expect("packing does not panic");
        // Where one side fails, the other finds the pipe closed: what failed first is what counts.
        match (packed, unpacked) {
            (Ok(()), unpacked) => unpacked,
            (Err(packed), Err(unpacked)) if is_broken_pipe(&packed) => Err(unpacked),
            (Err(packed), _) => Err(packed),
        }
    })
    .with_context(|| format!("copy {}", source.path().display()))
}

/// Unpacks a tar into a directory that is there.
pub fn unpack_into(
    archive: impl Read,
    root: &Root,
    to: &Typed,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let path = without_link(root, &to.path)?;
    if existing(root, &path)? != Some(FileType::Directory) {
        bail!(
            "{} is no directory: an archive is unpacked into one",
            path.display()
        );
    }
    unpack(archive, root, &path, owner).context("unpack the archive on standard input")
}

fn unpack(
    archive: impl Read,
    root: &Root,
    directory: &Path,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let own = root.as_fd().try_clone_to_owned()?;
    let onto = Onto {
        directory: directory.as_os_str().as_bytes(),
        owner,
    };
    Ok(unpack_onto(BufReader::new(archive), own, &onto)?)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

/// What there is; `None` if there is nothing.
fn existing(root: &Root, path: &Path) -> Result<Option<FileType>> {
    match root.find(path, OFlags::PATH)? {
        Some(found) => kind(&found).map(Some),
        None => Ok(None),
    }
}

fn kind(found: &OwnedFd) -> Result<FileType> {
    let stat = rustix::fs::fstat(found).context("stat what is copied")?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// The path with what its last name leads to, if that is a link. Where the link leads to is resolved in
/// the root, whenever it is used.
fn without_link(root: &Root, path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let Some(found) = root.find(&path, flags)? else {
            return Ok(path);
        };
        if kind(&found)? != FileType::Symlink {
            return Ok(path);
        }
        let target = readlinkat(&found, "", Vec::new()).context("read a link")?;
        let target = Path::new(OsStr::from_bytes(target.as_bytes())).to_owned();
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    bail!("{}: too many links", path.display())
}

/// The last name of a path that has one.
fn last(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_by_their_words() {
        let typed = |text: &str| {
            let typed = Typed::new(OsStr::new(text));
            let path = typed.path.to_str().expect("UTF-8").to_owned();
            (path, typed.is_directory, typed.is_content)
        };
        for (text, path, is_directory, is_content) in [
            ("/a/b", "/a/b", false, false),
            ("a/./b", "/a/b", false, false),
            ("/a/b/", "/a/b", true, false),
            ("/a/b/.", "/a/b", true, true),
            ("/a/../../b", "/b", false, false),
            ("/a/b/..", "/a", true, false),
            ("/", "/", true, true),
            (".", "/", true, true),
        ] {
            assert_eq!(
                typed(text),
                (path.to_owned(), is_directory, is_content),
                "{text}"
            );
        }
    }
}
