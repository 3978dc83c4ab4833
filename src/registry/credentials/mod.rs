//! Who the user is to a registry: found in the files of Docker and Podman and in credential helpers,
//! stored by `mybox login`, removed by `mybox logout`.
//!
//! A registry's credentials are those of the first file that has any for it. Within a file Docker's
//! order holds: the helper for this registry, the helper for all, the file itself.

mod file;
mod helper;
mod store;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use self::file::AuthFile;
use super::endpoint::DOCKER_HUB;
use super::environment::Environment;
use super::error::{Account, Result};
use super::transport::locked;

/// What Docker calls Docker Hub in its files, since its first days.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What a registry can be shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Password {
        /// The user's name.
        user: String,
        /// The password, or a personal access token.
        password: String,
    },
    /// An identity token: the token server makes access tokens of it.
    Identity {
        /// The user's name, where it is known.
        user: Option<String>,
        /// The token.
        token: String,
    },
    /// A token that goes to the registry as it is.
    Bearer {
        /// The token.
        token: String,
    },
}

impl Credential {
    /// The user's name, where it is known.
    pub(super) fn user(&self) -> Option<String> {
        match self {
            Self::Password { user, .. } => Some(user.clone()),
            Self::Identity { user, .. } => user.clone(),
            Self::Bearer { .. } => None,
        }
    }

    /// In whose name.
    pub(super) fn account(&self) -> Account {
        self.user().map_or(Account::Token, Account::User)
    }
}

/// Without the secret.
impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Credential({})", self.account())
    }
}

/// Where credentials lie.
pub(super) struct Keyring {
    files: Vec<PathBuf>,
    /// Where `login` writes to.
    docker: Option<PathBuf>,
    /// Further helpers, of `registries.conf`.
    helpers: Vec<String>,
    found: Mutex<HashMap<(String, String), Option<Credential>>>,
}

impl Keyring {
    pub(super) fn new(environment: &Environment, helpers: Vec<String>) -> Self {
        Self {
            files: environment.auth_files(),
            docker: environment.docker_config_file(),
            helpers,
            found: Mutex::default(),
        }
    }

    /// The credentials for a repository of a registry. Files are read and helpers run once each,
    /// however many threads ask.
    pub(super) fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>> {
        let mut found = locked(&self.found);
        let key = (registry.to_owned(), repository.to_owned());
        if let Some(known) = found.get(&key) {
            return Ok(known.clone());
        }
        let credential = self.look_for(registry, repository)?;
        found.insert(key, credential.clone());
        Ok(credential)
    }

    fn look_for(&self, registry: &str, repository: &str) -> Result<Option<Credential>> {
        for path in &self.files {
            let found = of_file(path, registry, repository)?;
            if found.is_some() {
                tracing::info!("credentials for {registry} are from {}", path.display());
                return Ok(found);
            }
        }
        for program in &self.helpers {
            if let Some(found) = helper::get(program, server(registry))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Stores credentials where Docker would; where that is.
    pub(super) fn store(&self, registry: &str, credential: &Credential) -> Result<PathBuf> {
        let path = self.docker_file()?;
        store::add(path, registry, credential)?;
        Ok(path.to_owned())
    }

    /// Removes a registry's credentials from Docker's file and helpers; whether there were any.
    pub(super) fn remove(&self, registry: &str) -> Result<bool> {
        store::remove(self.docker_file()?, registry)
    }

    /// The file that still has credentials for the registry.
    pub(super) fn remaining(&self, registry: &str) -> Result<Option<PathBuf>> {
        for path in &self.files {
            if of_file(path, registry, "")?.is_some() {
                return Ok(Some(path.clone()));
            }
        }
        Ok(None)
    }

    fn docker_file(&self) -> Result<&Path> {
        self.docker
            .as_deref()
            .ok_or_else(|| super::Error::BadConfig {
                path: "~/.docker/config.json".into(),
                reason: "HOME is not set; DOCKER_CONFIG can name the directory".to_owned(),
            })
    }
}

fn of_file(path: &Path, registry: &str, repository: &str) -> Result<Option<Credential>> {
    let Some(file) = AuthFile::read(path)? else {
        return Ok(None);
    };
    if let Some(program) = file.helper(registry)
        && let Some(found) = helper::get(program, server(registry))?
    {
        return Ok(Some(found));
    }
    file.entry(path, registry, repository)
}

/// What helpers and Docker's file call a registry.
fn server(registry: &str) -> &str {
    if registry == DOCKER_HUB {
        DOCKER_HUB_KEY
    } else {
        registry
    }
}
