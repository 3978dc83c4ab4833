//! `config.json` and `auth.json`: the same form, but for the keys. Docker's are servers, as
//! `https://index.docker.io/v1/` or `quay.io`; Podman's can go on with a namespace or a repository,
//! and the longest one that fits counts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Credential;
use crate::registry::endpoint::DOCKER_HUB;
use crate::registry::error::{Error, Result};

/// What is of interest in the file.
#[derive(Debug, Default, Deserialize)]
pub(super) struct AuthFile {
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    helper_for_all: Option<String>,
}

/// All fields can be missing, or empty.
#[derive(Default, Deserialize)]
struct Entry {
    /// base64 of `user:password`.
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Without the secrets.
impl std::fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Entry")
    }
}

impl AuthFile {
    /// The file, if there is one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        let parsed = serde_json::from_slice(&text);
        parsed
            .map(Some)
            .map_err(|error| bad(path, error.to_string()))
    }

    /// The helper in charge of a registry.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let own = self
            .helpers
            .iter()
            .flatten()
            .find(|(key, _)| normal(key) == registry);
        let own = own.map(|(_, program)| program.as_str());
        let program = own.or(self.helper_for_all.as_deref());
        program.filter(|program| !program.is_empty())
    }

    /// The credentials that the file itself holds for a repository.
    pub(super) fn entry(
        &self,
        path: &Path,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>> {
        let name = format!("{registry}/{repository}");
        let fits = |key: &str| {
            let rest = name.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let fitting = self.auths.iter().flatten().filter_map(|(key, entry)| {
            let key = normal(key);
            fits(&key).then_some((key.len(), entry))
        });
        let Some((_, entry)) = fitting.max_by_key(|(length, _)| *length) else {
            return Ok(None);
        };
        let unreadable = |reason| bad(path, format!("auths of {registry}: {reason}"));
        entry.credential().map_err(unreadable)
    }
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        let (mut user, mut password) = (given(&self.username), given(&self.password));
        if let Some(auth) = given(&self.auth) {
            let (decoded_user, decoded_password) = decode(&auth)?;
            (user, password) = (Some(decoded_user), Some(decoded_password));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credential::Bearer { token }));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credential::Identity { user, token }));
        }
        let password = password.filter(|password| !password.is_empty());
        let both = user.zip(password);
        Ok(both.map(|(user, password)| Credential::Password { user, password }))
    }
}

fn decode(auth: &str) -> Result<(String, String), &'static str> {
    let bytes = STANDARD
        .decode(auth.trim())
        .map_err(|_| "auth is no base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "auth is no UTF-8")?;
    let (user, password) = text.split_once(':').ok_or("auth has no colon")?;
    // Some old versions padded with zero bytes.
    Ok((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// The field `auth` of an entry.
pub(super) fn encode(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

/// A key as `host[:port][/path]`: a URL is the host it names, and Docker Hub has one name.
pub(super) fn normal(key: &str) -> String {
    let url = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let name = match url {
        Some(url) => url.split('/').next().unwrap_or(url),
        None => key.trim_end_matches('/'),
    };
    let (host, path) = name.split_once('/').unwrap_or((name, ""));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    };
    match path {
        "" | "v1" | "v2" => host.to_owned(),
        path => format!("{host}/{path}"),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

pub(super) fn bad(path: &Path, reason: String) -> Error {
    Error::BadConfig {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> AuthFile {
        serde_json::from_str(text).unwrap()
    }

    fn user(file: &AuthFile, registry: &str, repository: &str) -> Option<String> {
        let found = file.entry(Path::new("f"), registry, repository).unwrap();
        found.map(|credential| credential.account().to_string())
    }

    #[test]
    fn keys_name_registries_in_every_way_there_ever_was() {
        for (key, name) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("docker.io/me", "docker.io/me"),
            ("https://registry-1.docker.io/v2/", "docker.io"),
            ("http://localhost:5000", "localhost:5000"),
            ("https://quay.io/v1/", "quay.io"),
            ("quay.io/v2/", "quay.io"),
            ("quay.io/team/app", "quay.io/team/app"),
        ] {
            assert_eq!(normal(key), name, "{key}");
        }
    }

    #[test]
    fn the_longest_key_that_fits_counts() {
        let auth = |user: &str| format!("{{\"auth\":\"{}\"}}", encode(user, "pw"));
        let file = parse(&format!(
            r#"{{"auths":{{"quay.io":{},"quay.io/team":{},"quay.io/team/app":{},"https://index.docker.io/v1/":{},"e.com":{{}}}}}}"#,
            auth("all"),
            auth("team"),
            auth("app"),
            auth("hub"),
        ));
        for (registry, repository, name) in [
            ("quay.io", "other/x", Some("as all")),
            ("quay.io", "team/x", Some("as team")),
            ("quay.io", "team/app", Some("as app")),
            ("quay.io", "team/app2", Some("as team")),
            ("quay.io", "teams/x", Some("as all")),
            ("docker.io", "library/ubuntu", Some("as hub")),
            ("e.com", "x", None),
            ("quay.io:444", "team/x", None),
        ] {
            assert_eq!(
                user(&file, registry, repository).as_deref(),
                name,
                "{registry}/{repository}"
            );
        }
    }

    #[test]
    fn entries_hold_passwords_identities_or_tokens() {
        let user = || "me".to_owned();
        for (entry, expected) in [
            (r#"{}"#, Ok(None)),
            (r#"{"auth":""}"#, Ok(None)),
            (
                r#"{"auth":"bWU6cHc="}"#,
                Ok(Some(Credential::Password {
                    user: user(),
                    password: "pw".into(),
                })),
            ),
            (
                r#"{"username":"me","password":"p:w"}"#,
                Ok(Some(Credential::Password {
                    user: user(),
                    password: "p:w".into(),
                })),
            ),
            (
                r#"{"auth":"bWU6","identitytoken":"t"}"#,
                Ok(Some(Credential::Identity {
                    user: Some(user()),
                    token: "t".into(),
                })),
            ),
            (
                r#"{"identitytoken":"t"}"#,
                Ok(Some(Credential::Identity {
                    user: None,
                    token: "t".into(),
                })),
            ),
            (
                r#"{"registrytoken":"t"}"#,
                Ok(Some(Credential::Bearer { token: "t".into() })),
            ),
            (r#"{"auth":"%"}"#, Err("auth is no base64")),
            (r#"{"auth":"bWU="}"#, Err("auth has no colon")),
        ] {
            let parsed: Entry = serde_json::from_str(entry).unwrap();
            assert_eq!(parsed.credential(), expected, "{entry}");
        }
    }

    #[test]
    fn the_helper_of_one_registry_comes_before_the_one_for_all() {
        let file = parse(
            r#"{"credHelpers":{"gcr.io":"gcr","https://index.docker.io/v1/":"hub","none.io":""},"credsStore":"all"}"#,
        );
        for (registry, program) in [
            ("gcr.io", Some("gcr")),
            ("docker.io", Some("hub")),
            ("quay.io", Some("all")),
            ("none.io", None),
        ] {
            assert_eq!(file.helper(registry), program, "{registry}");
        }
        assert_eq!(parse("{}").helper("gcr.io"), None);
    }
}
