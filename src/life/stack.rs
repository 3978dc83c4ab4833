//! The container's own directories, beside the image's layers which are not touched.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

use crate::plan::RunPlan;

/// Makes upper, work and rootfs, the files for /etc, the anonymous volumes, and writes the spec.
pub(super) fn make_directories(plan: &RunPlan) -> Result<()> {
    let files = &plan.files;
    let make = |path: &Path, mode: u32| -> Result<()> {
        private_dir(path, mode).with_context(|| format!("make {}", path.display()))
    };
    // The upper directory's mode is the mode of the container's `/`.
    make(&files.upper(), 0o755)?;
    make(&files.work(), 0o700)?;
    make(&files.rootfs(), 0o700)?;
    for (name, text) in &plan.etc {
        let path = files.etc(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
            .with_context(|| format!("write {}", path.display()))?;
    }
    for volume in &plan.anonymous_volumes {
        make(&volume.source, 0o755)?;
    }
    let config = files.config();
    fs::write(&config, serde_json::to_vec_pretty(&plan.spec)?)
        .with_context(|| format!("write {}", config.display()))
}

/// A directory of exactly this mode, whatever the caller's umask.
fn private_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}
