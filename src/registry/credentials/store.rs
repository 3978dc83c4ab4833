//! Writing Docker's `config.json`: what is in it and is not about this registry stays as it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::file::{AuthFile, bad, encode, normal};
use super::{Credential, helper, server};
use crate::registry::error::{Error, Result};

/// Stores credentials: in the helper in charge, or else in the file.
pub(super) fn add(path: &Path, registry: &str, credential: &Credential) -> Result<()> {
    let helper = AuthFile::read(path)?.and_then(|file| file.helper(registry).map(str::to_owned));
    let entry = match helper {
        Some(program) => {
            helper::store(&program, server(registry), credential)?;
            json!({})
        }
        None => entry(credential),
    };
    change(path, |config| {
        let auths = auths(config);
        auths.retain(|key, _| normal(key) != registry);
        auths.insert(server(registry).to_owned(), entry);
        true
    })?;
    Ok(())
}

/// Removes a registry's credentials; whether there were any.
pub(super) fn remove(path: &Path, registry: &str) -> Result<bool> {
    let Some(file) = AuthFile::read(path)? else {
        return Ok(false);
    };
    let from_helper = match file.helper(registry) {
        Some(program) => helper::erase(program, server(registry))?,
        None => false,
    };
    let from_file = change(path, |config| {
        let auths = auths(config);
        let before = auths.len();
        auths.retain(|key, _| normal(key) != registry);
        auths.len() < before
    })?;
    Ok(from_helper || from_file)
}

fn entry(credential: &Credential) -> Value {
    match credential {
        Credential::Password { user, password } => json!({ "auth": encode(user, password) }),
        Credential::Identity { user, token } => json!({
            "auth": encode(user.as_deref().unwrap_or_default(), ""),
            "identitytoken": token,
        }),
        Credential::Bearer { token } => json!({ "registrytoken": token }),
    }
}

/// The object `auths`, made if it is not there.
fn auths(config: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    if !auths.is_object() {
        *auths = json!({});
    }
    auths.as_object_mut().expect("was made an object")
}

/// Rewrites the file if `edit` says that it changed; two who do so at once do it one after the
/// other.
fn change(path: &Path, edit: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool> {
    // A link is to stay one: what it points to is what is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(directory)
        .map_err(Error::file("create", directory))?;
    let lock = File::open(directory).map_err(Error::file("open", directory))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|errno| Error::file("lock", directory)(errno.into()))?;
    let mut config = read(path)?;
    if !edit(&mut config) {
        return Ok(false);
    }
    let mut text =
        serde_json::to_vec_pretty(&config).map_err(|error| bad(path, error.to_string()))?;
    text.push(b'\n');
    write(path, &text).map_err(Error::file("write", path))?;
    Ok(true)
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    if text.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(&text).map_err(|error| bad(path, error.to_string()))
}

/// Replaces the file: whole or not at all, and for its owner alone.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| fs::rename(&temporary, path));
    if placed.is_err() {
        // What matters is the first error.
        let _ = fs::remove_file(&temporary);
    }
    placed
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}
