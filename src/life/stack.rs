//! The container's own directories, beside the image's layers which are not touched.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use oci_spec::runtime::Spec;

use crate::container::Files;
use crate::kernel::file::{Lasting, existing, gone, replace};
use crate::plan::RunPlan;

/// Makes upper, work and rootfs, the files for /etc, and writes the spec.
pub(super) fn make_directories(plan: &RunPlan) -> Result<()> {
    let files = &plan.files;
    make_overlay(files)?;
    make_image_places(files, plan.images.len())?;
    for (name, text) in &plan.etc {
        let path = files.etc(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
            .with_context(|| format!("write {}", path.display()))?;
    }
    write_config(plan)
}

/// Makes what its overlay is mounted with and on, where that is missing.
pub(super) fn make_overlay(files: &Files) -> Result<()> {
    // The upper directory's mode is the mode of the container's `/`.
    make(&files.upper(), 0o755)?;
    make(&files.work(), 0o700)?;
    // What overlayfs leaves of a mount that never waited for the disk, lest it be mounted after a crash. Of a
    // crash nothing is kept that was mounted so.
    let mark = files.work().join("work/incompat/volatile");
    gone(fs::remove_dir_all(&mark)).with_context(|| format!("remove {}", mark.display()))?;
    make(&files.rootfs(), 0o700)
}

/// The same for so many images.
pub(super) fn make_image_places(files: &Files, count: usize) -> Result<()> {
    if count > 0 {
        make_empty_layer(files)?;
    }
    (0..count).try_for_each(|number| make(&files.image_place(number), 0o700))
}

/// Makes the layer in which nothing is.
pub(super) fn make_empty_layer(files: &Files) -> Result<()> {
    make(&files.empty_layer(), 0o755)
}

/// The spec it is launched from, for whoever wants to see it: whole, also while it is started anew.
pub(super) fn write_config(plan: &RunPlan) -> Result<()> {
    let config = plan.files.config();
    replace(
        &config,
        &serde_json::to_vec_pretty(&plan.spec)?,
        Lasting::No,
    )
    .with_context(|| format!("write {}", config.display()))
}

/// What a container was last started from.
pub(super) fn read_config(files: &Files) -> Result<Spec> {
    let config = files.config();
    let about = || format!("read {}", config.display());
    let bytes = existing(fs::read(&config)).with_context(about)?;
    let bytes = bytes.context("the container has been removed")?;
    serde_json::from_slice(&bytes).with_context(about)
}

fn make(path: &Path, mode: u32) -> Result<()> {
    private_dir(path, mode).with_context(|| format!("make {}", path.display()))
}

/// A directory of exactly this mode, whatever the caller's umask.
fn private_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}
