//! Which forms of layers this kernel can use, found out by using them: a layer of one file is
//! indexed, mounted, read, and stacked. That takes two milliseconds and leaves nothing, and is
//! remembered in `<run root>/layer-forms/<device>.forms` for this boot and for stores on the same file
//! system, whose files the kernel must be able to mount.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use mybox_store::SampleIndex;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::container::Places;
use crate::kernel::file::{Lasting, replace};
use crate::kernel::overlay::{Lower, Overlay};
use crate::kernel::process::{self, Ended, Side, SingleThreaded};
use crate::kernel::{erofs, mount, raw};

/// What this kernel can do with indexed layers that lie where the store lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forms {
    /// Whether they can be layers of a container, or why not.
    pub indexed: Result<(), String>,
    /// Whether overlayfs takes mounts that are attached nowhere (Linux 6.15).
    pub stacks_detached: bool,
}

/// What is remembered.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    boot: String,
    #[serde(flatten)]
    forms: Forms,
}

impl Forms {
    /// Remembered, or tried. A store that cannot be written to has nothing tried in it.
    pub fn of_this_kernel(places: &Places) -> Self {
        let file = file(places);
        let boot = process::boot_id();
        if let Some(forms) = file.as_deref().and_then(|file| recall(file, &boot)) {
            return forms;
        }
        let tried = try_mounting(&places.root);
        let is_known = tried.as_ref().map_or_else(is_final, |_| true);
        let forms = Self::from(tried);
        tracing::debug!("forms of layers: {forms:?}");
        let remembered = Remembered { boot, forms };
        if let Some(file) = file.filter(|_| is_known)
            && let Err(error) = remember(&file, &remembered)
        {
            // Tried again by the next command.
            tracing::debug!("remember the forms of layers: {error}");
        }
        remembered.forms
    }
}

impl From<Result<bool>> for Forms {
    fn from(tried: Result<bool>) -> Self {
        Self {
            stacks_detached: *tried.as_ref().unwrap_or(&false),
            indexed: tried.map(drop).map_err(|error| format!("{error:#}")),
        }
    }
}

/// Whether it will be the same for every command of this boot. A missing privilege or a full disk
/// will not.
fn is_final(error: &anyhow::Error) -> bool {
    let of_the_kernel = [
        libc::ENOTBLK,
        libc::ENODEV,
        libc::EINVAL,
        libc::EOPNOTSUPP,
        libc::ENOSYS,
    ];
    let errno = |cause: &(dyn std::error::Error + 'static)| {
        let kernel = cause.downcast_ref::<crate::kernel::Error>();
        kernel.map(|error| error.errno)
    };
    let mut errnos = error.chain().filter_map(errno);
    errnos.any(|errno| of_the_kernel.contains(&errno))
}

/// By the file system that the store lies on.
fn file(places: &Places) -> Option<PathBuf> {
    let device = fs::metadata(&places.root).ok()?.dev();
    let dir = places.run_root.join("layer-forms");
    Some(dir.join(format!("{device}.forms")))
}

fn recall(file: &Path, boot: &str) -> Option<Forms> {
    let remembered: Remembered = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (remembered.boot == boot).then_some(remembered.forms)
}

/// In one step: whoever reads finds it whole or not at all.
fn remember(file: &Path, remembered: &Remembered) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    replace(file, &serde_json::to_vec(remembered)?, Lasting::No)
}

/// Whether overlayfs takes the mount without it being attached.
fn try_mounting(root: &Path) -> Result<bool> {
    let sample = mybox_store::sample_index()?;
    let index = nameless(root, &sample.index)?;
    let device = nameless(root, &sample.device)?;
    // An overlay that is not written to is of two layers at least.
    let mut mounts = Vec::new();
    for _ in 0..2 {
        mounts.push(erofs::mount(
            index.as_fd(),
            &[erofs::File::Open(device.as_fd())],
        )?);
    }
    check(mounts[0].as_fd(), &sample).context("read a file of a mounted layer")?;
    let lower: Vec<Lower> = mounts.into_iter().map(Lower::Detached).collect();
    let Ok(overlay) = overlay_of(&lower).mount_detached() else {
        return try_attached(root, lower, &sample).map(|()| false);
    };
    check(overlay.as_fd(), &sample).context("read a file of a stacked layer")?;
    Ok(true)
}

/// In a mount namespace of its own, and so in a process of its own.
fn try_attached(root: &Path, lower: Vec<Lower>, sample: &SampleIndex) -> Result<()> {
    let attachable = |lower| match lower {
        Lower::Detached(mount) => Lower::Attachable(mount),
        other => other,
    };
    let lower: Vec<Lower> = lower.into_iter().map(attachable).collect();
    let proof = SingleThreaded::check()?;
    let namespace = u64::from(libc::CLONE_NEWNS.cast_unsigned());
    match process::clone_child(&proof, namespace, None)? {
        Side::Child => {
            let tried = mount::make_all_private()
                .and_then(|()| overlay_of(&lower).mount_at(root))
                .map_err(anyhow::Error::from)
                .and_then(|overlay| check(overlay.as_fd(), sample));
            raw::exit_now(i32::from(tried.is_err()))
        }
        Side::Parent(child) => match child.wait()? {
            Ended::Exited(0) => Ok(()),
            _ => bail!("overlayfs does not stack mounted layers here"),
        },
    }
}

fn overlay_of(lower: &[Lower]) -> Overlay<'_> {
    Overlay {
        lower,
        changes: None,
        attributes: libc::MOUNT_ATTR_RDONLY,
    }
}

/// Whether the sample's file is in it, whole.
fn check(directory: BorrowedFd<'_>, sample: &SampleIndex) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file: OwnedFd = rustix::fs::openat(directory, sample.name, flags, Mode::empty())?;
    let mut content = Vec::new();
    File::from(file).read_to_end(&mut content)?;
    ensure!(content == sample.content, "it has not what it should have");
    Ok(())
}

/// A file on the store's file system that goes when it is closed, whatever becomes of us.
fn nameless(root: &Path, bytes: &[u8]) -> Result<File> {
    let make = || -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let mut file = options.custom_flags(libc::O_TMPFILE).open(root)?;
        file.write_all(bytes)?;
        Ok(file)
    };
    make().with_context(|| format!("make a file without a name in {}", root.display()))
}
