//! A container's files, whether it runs or not, for commands that read or change them.
//!
//! Of one that runs they are what its first process sees, volumes and all. One that does not run is
//! claimed, so that nobody starts it meanwhile, and mounted with its volumes in a mount namespace of this
//! process alone: it goes with the process, and the host's mounts stay what they are.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use mybox_store::Store;
use oci_spec::runtime::Spec;

use super::mounts::Mounts;
use super::{stack, teardown};
use crate::container::find::Container;
use crate::container::{Files, Places, Record};
use crate::kernel::mount::{self, Bind};
use crate::kernel::overlay::{Changes, Overlay};
use crate::kernel::root::{MakeAs, Root};
use crate::kernel::{namespace, process};

/// Does something with a container's root, volumes and all.
pub fn with_root<T>(
    places: &Places,
    store: &Store,
    container: &Container,
    act: impl FnOnce(&Root) -> Result<T>,
) -> Result<T> {
    match container.process {
        Some((pid, started)) => {
            let root = in_process(&container.record, pid, started, |_| {
                Ok(Root::open(Path::new(&format!("/proc/{pid}/root")))?)
            })?;
            act(&root)
        }
        None => with_mounted(places, store, &container.record, |root, files| {
            let spec = stack::read_config(files)?;
            mount_volumes(root, &spec)?;
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
    match container.process {
        Some((pid, started)) => {
            let root = in_process(&container.record, pid, started, |process| {
                let clone = || mount::clone_of(Path::new("/"), Bind::Single, 0);
                Ok(Root::from_fd(namespace::among_mounts_of(process, clone)?))
            })?;
            act(&root)
        }
        None => with_mounted(places, store, &container.record, |root, _| act(root)),
    }
}

/// Takes something of the container's first process, and makes sure that it was that one's.
fn in_process<T>(
    record: &Record,
    pid: i32,
    started: u64,
    take: impl FnOnce(BorrowedFd<'_>) -> Result<T>,
) -> Result<T> {
    let ended = || anyhow!("container {} has just ended; try again", record.name);
    let process = process::hold_running(pid, started)?.ok_or_else(ended)?;
    let taken = take(process.as_fd());
    match process.is_gone()? {
        true => Err(ended()),
        false => taken,
    }
}

fn with_mounted<T>(
    places: &Places,
    store: &Store,
    record: &Record,
    act: impl FnOnce(&Root, &Files) -> Result<T>,
) -> Result<T> {
    let claim = teardown::claim_ended(places, &record.id)?;
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
    let mounts = Mounts::of(places, &layers)?;
    let files = Files::of(places.container(&record.id));
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

/// Mounts what its spec has from the host: volumes, directories and files. What the host has no more is
/// left out, as is what only a container that runs has.
fn mount_volumes(root: &Root, spec: &Spec) -> Result<()> {
    for bind in spec.mounts().iter().flatten() {
        let options = bind.options().as_deref().unwrap_or_default();
        let is = |word: &str| options.iter().any(|option| option == word);
        let Some(source) = bind
            .source()
            .as_deref()
            .filter(|_| is("bind") || is("rbind"))
        else {
            continue;
        };
        if source.starts_with("/proc") || source.starts_with("/dev") {
            continue;
        }
        let Ok(found) = fs::metadata(source) else {
            continue;
        };
        let (kind, make) = match (is("rbind"), found.is_dir()) {
            (true, true) => (Bind::Recursive, MakeAs::Directory),
            (false, true) => (Bind::Single, MakeAs::Directory),
            (_, false) => (Bind::Single, MakeAs::File),
        };
        let attributes = if is("ro") { libc::MOUNT_ATTR_RDONLY } else { 0 };
        let clone = mount::clone_of(source, kind, attributes)?;
        let (target, _) = root.open_or_make(bind.destination(), make)?;
        mount::attach(clone.as_fd(), target.as_fd(), bind.destination())?;
    }
    Ok(())
}
