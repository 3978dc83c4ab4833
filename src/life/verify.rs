//! Whether containers' records are what they should be. There is no copy of them: damage is told,
//! not repaired.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use oci_spec::runtime::Spec;

use crate::container::{ContainerId, Files, Places, Record, claim, names};

/// A container whose records are damaged.
#[derive(Debug)]
pub struct DamagedContainer {
    /// Which.
    pub id: ContainerId,
    /// What is wrong.
    pub problem: String,
}

/// Looks at the records of all containers; how many there are, and what is wrong.
pub fn containers(places: &Places) -> Result<(u64, Vec<DamagedContainer>)> {
    let directory = places.containers();
    let ids = claim::ids_in(&directory).with_context(|| format!("list {}", directory.display()))?;
    let mut damaged = Vec::new();
    for id in &ids {
        let problems = problems(places, id)?;
        // It may have been removed meanwhile.
        if !problems.is_empty() && places.container(id).join("record.json").exists() {
            damaged.push(DamagedContainer {
                id: id.clone(),
                problem: problems.join("; "),
            });
        }
    }
    Ok((ids.len() as u64, damaged))
}

fn problems(places: &Places, id: &ContainerId) -> Result<Vec<String>> {
    let dir = places.container(id);
    let record = match Record::read(&dir) {
        Ok(Some(record)) => record,
        Ok(None) if dir.join("record.json").exists() && !being_made(places, id) => {
            return Ok(vec!["record.json: it is empty".to_owned()]);
        }
        // It is being made, or removed.
        Ok(None) => return Ok(Vec::new()),
        Err(error) if is_about_content(&error) => {
            return Ok(vec![format!("record.json: {error}")]);
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", dir.display())),
    };
    let mut problems = Vec::new();
    if record.version != Record::version() {
        problems.push(format!("record.json: version {}", record.version));
    }
    if record.id != *id {
        problems.push(format!("record.json: it is that of {}", record.id.short()));
    }
    if !being_made(places, id) {
        problems.extend(config_problem(&Files::of(dir).config())?);
        if names::owner_of(places, &record.name).as_ref() != Some(id) {
            problems.push(format!("its name {} leads elsewhere", record.name));
        }
    }
    Ok(problems)
}

/// Somebody has it under control: what is not there may be about to come, or to go.
fn being_made(places: &Places, id: &ContainerId) -> bool {
    places.live_container(id).exists()
}

fn config_problem(path: &Path) -> Result<Option<String>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_about_content(&error) => {
            return Ok(Some(format!("config.json: {error}")));
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let spec: Result<Spec, _> = serde_json::from_slice(&bytes);
    Ok(spec.err().map(|error| format!("config.json: {error}")))
}

/// Whether the error says that the file is damaged, not that it may not be read.
fn is_about_content(error: &io::Error) -> bool {
    let damaged = [libc::EIO, libc::EUCLEAN, libc::EBADMSG];
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    ) || error
        .raw_os_error()
        .is_some_and(|errno| damaged.contains(&errno))
}
