//! The compiled filter of system calls. Compiling takes longer than all else of a start, so a
//! program is kept in `<run root>/seccomp/<digest of the profile>.bpf`, for containers with the same
//! profile until the machine is started again.

use std::fs;

use anyhow::{Context, Result};
use mybox_store::Digest;
use oci_spec::runtime::Spec;

use crate::container::Places;
use crate::kernel::file::{Lasting, existing, replace};
use crate::kernel::seccomp;

/// The spec's profile, compiled; empty if it has none.
pub(super) fn compiled(places: &Places, spec: &Spec) -> Result<Vec<u8>> {
    let linux = spec.linux().as_ref();
    let Some(profile) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(Vec::new());
    };
    let digest = Digest::of(&serde_json::to_vec(profile)?);
    let dir = places.run_root.join("seccomp");
    let file = dir.join(format!("{}.bpf", digest.hex()));
    let kept = existing(fs::read(&file)).with_context(|| format!("read {}", file.display()))?;
    if let Some(program) = kept {
        return Ok(program);
    }
    let program = seccomp::compile(profile)?;
    fs::create_dir_all(&dir)
        .and_then(|()| replace(&file, &program, Lasting::No))
        .with_context(|| format!("write {}", file.display()))?;
    Ok(program)
}
