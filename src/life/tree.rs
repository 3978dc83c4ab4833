//! A container's files, whether it runs or not, for commands that read or change them.
//!
//! Of one that runs they are what its first process sees, volumes and all. One that does not run is
//! claimed, so that nobody starts it meanwhile, and mounted with its volumes and images in a mount namespace of
//! this process alone: it goes with the process, and the host's mounts stay what they are. Where it will have a
//! tmpfs there is an empty one that cannot be written: what lies beneath is nothing that anybody sees later.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mybox_store::Store;
use nix::errno::Errno;
use oci_spec::runtime::{Mount, Spec};
use rustix::fs::OFlags;

use super::mounts::Mounts;
use super::{images, stack, teardown};
use crate::container::find::Container;
use crate::container::{Files, Places, Record};
use crate::init;
use crate::kernel::mount::{self, Bind};
use crate::kernel::overlay::{Changes, Overlay};
use crate::kernel::root::{MakeAs, Root};
use crate::kernel::{self, namespace, process};
use crate::plan;

/// How long a process may take to die that has let go of its files.
const DYING: Duration = Duration::from_millis(500);

/// Does something with a path below a container's root, volumes and all. Of one that does not run nothing is
/// to be had that lies in a tmpfs.
pub fn with_root<T>(
    places: &Places,
    store: &Store,
    container: &Container,
    path: &Path,
    act: impl FnOnce(&Root) -> Result<T>,
) -> Result<T> {
    let root = in_process(container, |_, pid| {
        Ok(Root::open(Path::new(&format!("/proc/{pid}/root")))?)
    })?;
    match root {
        Some(root) => act(&root),
        None => with_mounted(places, store, &container.record, |root, files| {
            let spec = stack::read_config(files)?;
            let images = images::hold(store, container.record.images.iter().cloned())?;
            stack::make_image_places(files, images.len())?;
            let mounts = Mounts::of_images(places, &images, &files.empty_layer())?;
            let images = init::mount_images(mounts.images(), |number| files.image_place(number))?
                .into_iter()
                .collect();
            let absent = mount_what_it_has(root, &spec, &images)?;
            must_be_present(root, path, &absent, &container.record.name)?;
            if spec
                .root()
                .as_ref()
                .is_some_and(|root| root.readonly() == Some(true))
            {
                mount::make_read_only(root.as_fd(), Path::new("/"))?;
            }
            act(root)
        }),
    }
}

/// Does something with the files of a container that are its own and its image's: nothing is mounted on them.
pub fn with_own_files<T>(
    places: &Places,
    store: &Store,
    container: &Container,
    act: impl FnOnce(&Root) -> Result<T>,
) -> Result<T> {
    let root = in_process(container, |process, _| {
        let clone = || mount::clone_of(Path::new("/"), Bind::Single, 0);
        Ok(Root::from_fd(namespace::among_mounts_of(process, clone)?))
    })?;
    match root {
        Some(root) => act(&root),
        None => with_mounted(places, store, &container.record, |root, _| act(root)),
    }
}

/// Takes something of the container's first process, and makes sure that it was that one's. `None` if it does
/// not run, or no more.
fn in_process<T>(
    container: &Container,
    take: impl FnOnce(BorrowedFd<'_>, i32) -> Result<T>,
) -> Result<Option<T>> {
    let Some((pid, started)) = container.process else {
        return Ok(None);
    };
    let Some(process) = process::hold_running(pid, started)? else {
        return Ok(None);
    };
    let taken = take(process.as_fd(), pid);
    // One that is just dying may have let go of what is taken a moment before it is dead.
    let patience = if taken.is_ok() { Duration::ZERO } else { DYING };
    match process.wait_gone(Some(patience))? {
        true => Ok(None),
        false => taken.map(Some),
    }
}

fn with_mounted<T>(
    places: &Places,
    store: &Store,
    record: &Record,
    act: impl FnOnce(&Root, &Files) -> Result<T>,
) -> Result<T> {
    let claim = teardown::claim_there(places, &record.id, &record.name)?;
    let done = mounted(places, store, record, act);
    let released = claim.release().context("release the container's claim");
    let done = done?;
    released.map(|()| done)
}

fn mounted<T>(
    places: &Places,
    store: &Store,
    record: &Record,
    act: impl FnOnce(&Root, &Files) -> Result<T>,
) -> Result<T> {
    namespace::unshare_mounts()?;
    let image = store.find(&record.manifest.to_string())?;
    let layers = store.stack(&image)?;
    let files = Files::of(places.container(&record.id));
    let mounts = Mounts::of(places, &layers, &files)?;
    stack::make_overlay(&files)?;
    let overlay = Overlay {
        lower: mounts.lower(),
        changes: Some(Changes {
            upper: &files.upper(),
            work: &files.work(),
            volatile: false,
        }),
        attributes: 0,
    };
    let at = files.rootfs();
    let done = overlay.mount_at(&at).map_err(Into::into).and_then(|root| {
        let root = Root::from_fd(root);
        act(&root, &files)
    });
    // Before the claim goes: nobody may mount the same directories twice.
    mount::detach(&at)?;
    done
}

/// A file system that only a container that runs has, and the empty one in its place.
struct Absent {
    destination: PathBuf,
    device: u64,
}

/// Mounts what its spec has beside its own files: volumes, directories and files of the host, images. What
/// the host has no more is left out, as is what only a container that runs has; the answer is what of that
/// is the user's own.
fn mount_what_it_has(
    root: &Root,
    spec: &Spec,
    images: &HashMap<PathBuf, OwnedFd>,
) -> Result<Vec<Absent>> {
    let mut absent = Vec::new();
    for entry in spec.mounts().iter().flatten() {
        let destination = entry.destination();
        if let Some(image) = images.get(destination) {
            attach(root, image.as_fd(), destination, MakeAs::Directory)?;
        } else if entry.typ().as_deref() == Some("tmpfs") && !destination.starts_with("/dev") {
            absent.push(mount_absent(root, destination)?);
        } else {
            mount_bind(root, entry)?;
        }
    }
    Ok(absent)
}

fn attach(
    root: &Root,
    mount: BorrowedFd<'_>,
    destination: &Path,
    make: MakeAs,
) -> kernel::Result<()> {
    let (target, _) = root.open_or_make(destination, make)?;
    mount::attach(mount, target.as_fd(), destination)
}

/// Read-only, so that nothing is copied where it would be lost, or would lie beneath for ever.
fn mount_absent(root: &Root, destination: &Path) -> Result<Absent> {
    let options = mount::Options::parse(["ro", "size=4k"]);
    let empty = mount::detached("tmpfs", "absent", &options)?;
    let stat = rustix::fs::fstat(&empty).context("stat an empty tmpfs")?;
    attach(root, empty.as_fd(), destination, MakeAs::Directory)?;
    Ok(Absent {
        destination: destination.to_owned(),
        device: stat.st_dev,
    })
}

fn mount_bind(root: &Root, bind: &Mount) -> Result<()> {
    let options = bind.options().as_deref().unwrap_or_default();
    let is = |word: &str| options.iter().any(|option| option == word);
    let source = bind.source().as_deref();
    let Some(source) = source.filter(|_| is("bind") || is("rbind")) else {
        return Ok(());
    };
    if source.starts_with("/proc") || source.starts_with("/dev") {
        return Ok(());
    }
    let Ok(found) = fs::metadata(source) else {
        return Ok(());
    };
    let (kind, make) = match (is("rbind"), found.is_dir()) {
        (true, true) => (Bind::Recursive, MakeAs::Directory),
        (false, true) => (Bind::Single, MakeAs::Directory),
        (_, false) => (Bind::Single, MakeAs::File),
    };
    let attributes = if is("ro") { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let clone = mount::clone_of(source, kind, attributes)?;
    match attach(root, clone.as_fd(), bind.destination(), make) {
        // As when it runs; and what it has a tmpfs on is empty here.
        Err(error) if plan::is_own_etc_file(bind) && error.is(Errno::EROFS) => Ok(()),
        attached => Ok(attached?),
    }
}

/// Fails if the path, or what there is of it, lies in such a file system.
fn must_be_present(root: &Root, path: &Path, absent: &[Absent], name: &str) -> Result<()> {
    for part in path.ancestors() {
        // A link itself can be copied, wherever it leads.
        let flags = match part == path {
            true => OFlags::PATH | OFlags::NOFOLLOW,
            false => OFlags::PATH,
        };
        let Some(found) = root.find(part, flags)? else {
            continue;
        };
        let stat = rustix::fs::fstat(&found).with_context(|| format!("stat {}", part.display()))?;
        if let Some(within) = absent.iter().find(|it| it.device == stat.st_dev) {
            bail!(
                "{} lies in the tmpfs {}, which container {name} has only while it runs",
                path.display(),
                within.destination.display()
            );
        }
        return Ok(());
    }
    Ok(())
}
