//! The compiled filter of system calls. Compiling takes longer than all else of a start, so a
//! program is kept in `<run root>/seccomp/<digest of the profile>.bpf`, for containers with the same
//! profile until the machine is started again.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use mybox_store::Digest;

use crate::container::Places;
use crate::kernel::seccomp;
use crate::plan::RunPlan;

/// The plan's profile, compiled; empty if it has none.
pub(super) fn compiled(places: &Places, plan: &RunPlan) -> Result<Vec<u8>> {
    let linux = plan.spec.linux().as_ref();
    let Some(profile) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(Vec::new());
    };
    let digest = Digest::of(&serde_json::to_vec(profile)?);
    let dir = places.run_root.join("seccomp");
    let file = dir.join(format!("{}.bpf", digest.hex()));
    match fs::read(&file) {
        Ok(program) => return Ok(program),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
    }
    let program = seccomp::compile(profile)?;
    keep(&dir, &file, &program).with_context(|| format!("write {}", file.display()))?;
    Ok(program)
}

/// In one step: whoever reads finds a whole program or none.
fn keep(dir: &Path, file: &Path, program: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let temporary = file.with_extension(std::process::id().to_string());
    fs::write(&temporary, program)?;
    fs::rename(temporary, file)
}
