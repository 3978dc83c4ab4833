//! `registries.conf` of the containers tools, version 2: which registry a name means, and who else
//! has its images (containers-registries.conf(5)).
//!
//! Names are read as Docker reads them: `ubuntu` is Docker Hub's, unless an alias or
//! `unqualified-search-registries` says otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mybox_store::Reference;
use serde::Deserialize;

use super::endpoint::{DOCKER_HUB, Endpoint};
use super::environment::{Environment, RegistriesFile};
use super::error::{Error, Result};

/// What all files say together.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Registries {
    search: Vec<String>,
    helpers: Vec<String>,
    registries: Vec<Registry>,
    aliases: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ConfigFile {
    unqualified_search_registries: Option<Vec<String>>,
    credential_helpers: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<Registry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", default)]
struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", default)]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: PullFrom,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum PullFrom {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

/// A place to look for an image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) endpoint: Endpoint,
    pub(super) repository: String,
    pub(super) is_mirror: bool,
}

impl Registries {
    /// Reads all the files that there are.
    pub(super) fn read(environment: &Environment) -> Result<Self> {
        let mut registries = Self::default();
        for place in environment.registries_files() {
            let paths = match place {
                RegistriesFile::One(path) => vec![path],
                RegistriesFile::Directory(directory) => drop_ins(&directory)?,
            };
            for path in paths {
                registries.add_file(&path)?;
            }
        }
        Ok(registries)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        self.add(&text).map_err(|reason| Error::BadConfig {
            path: path.to_owned(),
            reason,
        })
    }

    /// Adds what a file says; where it speaks of the same as one before it, it counts.
    fn add(&mut self, text: &str) -> Result<(), String> {
        let file: ConfigFile = toml::from_str(text).map_err(|error| error.to_string())?;
        self.search = file
            .unqualified_search_registries
            .unwrap_or(std::mem::take(&mut self.search));
        self.helpers = file
            .credential_helpers
            .unwrap_or(std::mem::take(&mut self.helpers));
        self.aliases.extend(file.aliases);
        for mut registry in file.registry {
            registry.complete()?;
            self.registries
                .retain(|known| known.prefix != registry.prefix);
            self.registries.push(registry);
        }
        Ok(())
    }

    /// Credential helpers beside the files.
    pub(super) fn helpers(&self) -> Vec<String> {
        let is_files = |name: &&String| *name == "containers-auth.json";
        self.helpers
            .iter()
            .filter(|name| !is_files(name))
            .cloned()
            .collect()
    }

    /// The names that `name` may stand for, in the order in which they are tried.
    pub(super) fn meanings(&self, name: &str) -> Result<Vec<Reference>> {
        let reference: Reference = name.parse()?;
        if !is_short(name, &reference) {
            return Ok(vec![reference]);
        }
        let end = name.find(['@', ':']).unwrap_or(name.len());
        let (bare, rest) = name.split_at(end);
        if let Some(target) = self.aliases.get(bare).filter(|target| !target.is_empty()) {
            return Ok(vec![format!("{target}{rest}").parse()?]);
        }
        if self.search.is_empty() {
            return Ok(vec![reference]);
        }
        let named = |registry: &String| Ok(format!("{registry}/{name}").parse()?);
        self.search.iter().map(named).collect()
    }

    /// The places that have an image: mirrors first, the registry itself last.
    pub(super) fn places(&self, reference: &Reference) -> Result<Vec<Place>> {
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let own = || Place {
            endpoint: Endpoint {
                host: reference.registry().to_owned(),
                insecure: false,
            },
            repository: reference.repository().to_owned(),
            is_mirror: false,
        };
        let Some((registry, matched)) = self.registry_of(reference, &name) else {
            return Ok(vec![own()]);
        };
        if registry.blocked {
            return Err(Error::Blocked {
                name: reference.familiar(),
                prefix: registry.prefix.clone(),
            });
        }
        let rest = &name[matched.min(name.len())..];
        let moved =
            |location: &str, insecure, is_mirror| place(location, rest, insecure, is_mirror);
        let by_digest = reference.digest().is_some();
        let mut places = Vec::new();
        for mirror in &registry.mirror {
            let wanted = match mirror.pull_from_mirror {
                PullFrom::All => by_digest || !registry.mirror_by_digest_only,
                PullFrom::DigestOnly => by_digest,
                PullFrom::TagOnly => !by_digest,
            };
            if wanted {
                places.push(moved(&mirror.location, mirror.insecure, true)?);
            }
        }
        places.push(match registry.location.as_str() {
            "" => Place {
                endpoint: Endpoint {
                    insecure: registry.insecure,
                    ..own().endpoint
                },
                ..own()
            },
            location => moved(location, registry.insecure, false)?,
        });
        Ok(places)
    }

    /// The registry with the longest prefix of the name, and how much of the name that is.
    fn registry_of(&self, reference: &Reference, name: &str) -> Option<(&Registry, usize)> {
        let tag = reference.tag().map(|tag| format!("{name}:{tag}"));
        let digest = reference.digest().map(|digest| format!("{name}@{digest}"));
        let full = [Some(name.to_owned()), tag, digest];
        let matching = self.registries.iter().filter_map(|registry| {
            let matched = |name| matched(&registry.prefix, name);
            let longest = full.iter().flatten().filter_map(|name| matched(name)).max();
            longest.map(|length| (registry, length))
        });
        matching.max_by_key(|(registry, _)| registry.prefix.len())
    }
}

impl Registry {
    /// A registry without a prefix is what its location names.
    fn complete(&mut self) -> Result<(), String> {
        if self.prefix.is_empty() {
            self.prefix.clone_from(&self.location);
        }
        let trimmed = self.prefix.trim_end_matches('/').to_owned();
        self.prefix = trimmed;
        if self.prefix.is_empty() {
            return Err("a [[registry]] has neither prefix nor location".to_owned());
        }
        if self.location.is_empty() && !self.prefix.starts_with("*.") {
            self.location.clone_from(&self.prefix);
        }
        if self.mirror.iter().any(|mirror| mirror.location.is_empty()) {
            return Err(format!("a mirror of {} has no location", self.prefix));
        }
        Ok(())
    }
}

/// How much of `name` the prefix covers, if it ends where a part of the name does. A prefix
/// `*.example.com` is that of all hosts below it.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    let length = match prefix.strip_prefix('*') {
        Some(domain) => name.find(domain).map(|at| at + domain.len())?,
        None => name.starts_with(prefix).then_some(prefix.len())?,
    };
    let in_host = !prefix.starts_with('*') || !name[..length].contains('/');
    let at_end = name[length..].is_empty() || name[length..].starts_with(['/', ':', '@']);
    (in_host && at_end).then_some(length)
}

fn place(location: &str, rest: &str, insecure: bool, is_mirror: bool) -> Result<Place> {
    let moved = format!("{}{rest}", location.trim_end_matches('/'));
    let (host, repository) = moved.split_once('/').unwrap_or((&moved, ""));
    // A location can name an image: then a tag may stand in it, which is not the repository's.
    let repository = repository.split(['@', ':']).next().unwrap_or(repository);
    // Only what is a name may become part of a URL.
    if host != DOCKER_HUB {
        let checked = if host.contains(['.', ':']) {
            host
        } else {
            "localhost"
        };
        format!("{checked}/{repository}").parse::<Reference>()?;
    }
    Ok(Place {
        endpoint: Endpoint {
            host: host.to_owned(),
            insecure,
        },
        repository: repository.to_owned(),
        is_mirror,
    })
}

/// Whether the name says no registry, so that Docker takes it for Docker Hub's.
fn is_short(name: &str, reference: &Reference) -> bool {
    let first = name.split_once('/').map(|(first, _)| first);
    reference.registry() == DOCKER_HUB && !matches!(first, Some("docker.io" | "index.docker.io"))
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", directory)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::file("read", directory))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(texts: &[&str]) -> Registries {
        let mut registries = Registries::default();
        for text in texts {
            registries.add(text).unwrap();
        }
        registries
    }

    fn meanings(registries: &Registries, name: &str) -> Vec<String> {
        let meanings = registries.meanings(name).unwrap();
        meanings.iter().map(ToString::to_string).collect()
    }

    /// `host/repository`, with `!` before what may be insecure and `~` before mirrors.
    fn places(registries: &Registries, name: &str) -> Vec<String> {
        let places = registries.places(&name.parse().unwrap()).unwrap();
        let shown = |place: &Place| {
            let insecure = if place.endpoint.insecure { "!" } else { "" };
            let mirror = if place.is_mirror { "~" } else { "" };
            format!(
                "{mirror}{insecure}{}/{}",
                place.endpoint.host, place.repository
            )
        };
        places.iter().map(shown).collect()
    }

    #[test]
    fn without_a_file_names_mean_what_docker_means() {
        let none = Registries::default();
        assert_eq!(
            meanings(&none, "ubuntu:jammy"),
            ["docker.io/library/ubuntu:jammy"]
        );
        assert_eq!(meanings(&none, "quay.io/a/b"), ["quay.io/a/b:latest"]);
        assert_eq!(places(&none, "ubuntu"), ["docker.io/library/ubuntu"]);
        assert_eq!(places(&none, "localhost:5000/x"), ["localhost:5000/x"]);
    }

    #[test]
    fn short_names_are_aliases_or_looked_for_in_every_registry() {
        let some = registries(&[
            "unqualified-search-registries = ['overridden']",
            "unqualified-search-registries = ['quay.io', 'docker.io']
             short-name-mode = 'enforcing'
             [aliases]
             fedora = 'registry.fedoraproject.org/fedora'
             'me/app' = 'localhost:5000/app'
             unset = ''",
        ]);
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (name, expected) in [
            (
                "ubuntu",
                vec!["quay.io/ubuntu:latest", "docker.io/library/ubuntu:latest"],
            ),
            ("me/x:1", vec!["quay.io/me/x:1", "docker.io/me/x:1"]),
            ("docker.io/ubuntu", vec!["docker.io/library/ubuntu:latest"]),
            ("localhost/x", vec!["localhost/x:latest"]),
            ("fedora:41", vec!["registry.fedoraproject.org/fedora:41"]),
            (
                "fedora/httpd",
                vec![
                    "quay.io/fedora/httpd:latest",
                    "docker.io/fedora/httpd:latest",
                ],
            ),
            ("me/app", vec!["localhost:5000/app:latest"]),
            (
                "unset",
                vec!["quay.io/unset:latest", "docker.io/library/unset:latest"],
            ),
        ] {
            assert_eq!(meanings(&some, name), expected, "{name}");
        }
        assert_eq!(
            meanings(&some, &format!("fedora@{digest}")),
            [format!("registry.fedoraproject.org/fedora@{digest}")]
        );
        assert!(some.meanings("UPPER").is_err());
    }

    #[test]
    fn mirrors_come_first_and_prefixes_move() {
        let some = registries(&["[[registry]]
             location = 'docker.io'
             [[registry.mirror]]
             location = 'mirror.local:5000'
             insecure = true
             [[registry.mirror]]
             location = 'cache.local/hub'
             pull-from-mirror = 'digest-only'
             [[registry]]
             prefix = 'docker.io/library'
             location = 'internal.local/base'
             [[registry]]
             prefix = '*.example.com'
             insecure = true
             [[registry]]
             prefix = 'old.example.com'
             location = 'new.example.com'
             mirror-by-digest-only = true
             [[registry.mirror]]
             location = 'm.example.com/x'"]);
        let digest = format!("@sha256:{}", "ab".repeat(32));
        for (name, expected) in [
            (
                "docker.io/me/x",
                vec!["~!mirror.local:5000/me/x", "docker.io/me/x"],
            ),
            ("ubuntu:jammy", vec!["internal.local/base/ubuntu"]),
            (
                "docker.io/libraryx/y",
                vec!["~!mirror.local:5000/libraryx/y", "docker.io/libraryx/y"],
            ),
            ("a.example.com/x", vec!["!a.example.com/x"]),
            ("a.b.example.com/x", vec!["!a.b.example.com/x"]),
            ("example.com/x", vec!["example.com/x"]),
            ("quay.io/a.example.com/x", vec!["quay.io/a.example.com/x"]),
            ("old.example.com/a/b:1", vec!["new.example.com/a/b"]),
            ("old.example.com:444/a", vec!["new.example.com:444/a"]),
        ] {
            assert_eq!(places(&some, name), expected, "{name}");
        }
        assert_eq!(
            places(&some, &format!("me/x{digest}")),
            [
                "~!mirror.local:5000/me/x",
                "~cache.local/hub/me/x",
                "docker.io/me/x"
            ]
        );
        assert_eq!(
            places(&some, &format!("old.example.com/a{digest}")),
            ["~m.example.com/x/a", "new.example.com/a"]
        );
    }

    #[test]
    fn what_is_blocked_is_refused_and_a_later_file_counts() {
        let mut some = registries(&["[[registry]]
             prefix = 'quay.io/bad'
             blocked = true"]);
        let name = "quay.io/bad/x".parse().unwrap();
        let error = some.places(&name).unwrap_err().to_string();
        assert_eq!(
            error,
            "quay.io/bad/x:latest: registries.conf blocks quay.io/bad"
        );
        assert_eq!(places(&some, "quay.io/badx"), ["quay.io/badx"]);
        some.add("[[registry]]\nprefix = 'quay.io/bad'\nlocation = 'quay.io/good'")
            .unwrap();
        assert_eq!(places(&some, "quay.io/bad/x"), ["quay.io/good/x"]);
    }

    #[test]
    fn files_that_contradict_themselves_are_refused() {
        for text in [
            "[[registry]]\ninsecure = true",
            "[[registry]]\nlocation = 'a.b'\n[[registry.mirror]]\ninsecure = true",
            "[[registry]]\nlocation = 7",
            "unqualified-search-registries = 'docker.io'",
            "[[registry]",
        ] {
            assert!(Registries::default().add(text).is_err(), "{text}");
        }
        let bad = registries(&["[[registry]]\nprefix = 'a.io'\nlocation = 'b.io/../x'"]);
        assert!(bad.places(&"a.io/x".parse().unwrap()).is_err());
    }
}
