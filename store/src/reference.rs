//! Image references by Docker's rules (distribution/reference: grammar and normalisation).
//!
//! ```text
//! ubuntu            -> docker.io/library/ubuntu:latest
//! localhost:5000/x  -> localhost:5000/x:latest     the first part is a registry if it has a dot
//! me/x:1            -> docker.io/me/x:1             or a colon, or is localhost
//! ```

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::Error;

const DOCKER_HUB: &str = "docker.io";
const OFFICIAL: &str = "library/";
const LONGEST_REPOSITORY: usize = 255;
const LONGEST_TAG: usize = 128;

/// The full name of an image: registry, repository, and a tag or digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host, with a port if it has one: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in it: `library/ubuntu`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference has one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// As it is remembered: a tag beside a digest says nothing more, the digest decides.
    pub fn without_redundant_tag(&self) -> Self {
        let mut reference = self.clone();
        if reference.digest.is_some() {
            reference.tag = None;
        }
        reference
    }

    /// Registry and repository as listings show them: `ubuntu`, `me/x`, `localhost:5000/x`.
    pub fn familiar_repository(&self) -> String {
        if self.registry != DOCKER_HUB {
            return format!("{}/{}", self.registry, self.repository);
        }
        let official = self
            .repository
            .strip_prefix(OFFICIAL)
            .filter(|name| !name.contains('/'));
        official.unwrap_or(&self.repository).to_owned()
    }

    /// The short form users type: `ubuntu:jammy`.
    pub fn familiar(&self) -> String {
        self.familiar_repository() + &self.suffix()
    }

    fn suffix(&self) -> String {
        let tag = self
            .tag
            .as_ref()
            .map(|tag| format!(":{tag}"))
            .unwrap_or_default();
        let digest = self
            .digest
            .map(|digest| format!("@{digest}"))
            .unwrap_or_default();
        tag + &digest
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}/{}{}",
            self.registry,
            self.repository,
            self.suffix()
        )
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|reason| Error::BadReference {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if Digest::from_hex(text).is_some() {
        return Err("64 hex digits are an image id");
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => {
            let digest = digest
                .parse()
                .map_err(|_| "what follows @ is no sha256 digest")?;
            (name, Some(digest))
        }
        None => (text, None),
    };
    let (registry, rest) = split_registry(name);
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    check_registry(registry)?;
    check_repository(repository)?;
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let repository = if registry == DOCKER_HUB && !repository.contains('/') {
        format!("{OFFICIAL}{repository}")
    } else {
        repository.to_owned()
    };
    if registry.len() + 1 + repository.len() > LONGEST_REPOSITORY {
        return Err("registry and repository have more than 255 characters");
    }
    let latest = if digest.is_none() {
        Some("latest")
    } else {
        None
    };
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag: tag.or(latest).map(str::to_owned),
        digest,
    })
}

fn split_registry(name: &str) -> (&str, &str) {
    let Some((first, rest)) = name.split_once('/') else {
        return (DOCKER_HUB, name);
    };
    let is_host = first.contains(['.', ':']) || first == "localhost" || has_uppercase(first);
    match first {
        "index.docker.io" => (DOCKER_HUB, rest),
        _ if is_host => (first, rest),
        _ => (DOCKER_HUB, name),
    }
}

fn has_uppercase(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    const BAD: &str = "the registry is no host name";
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("the registry's port is no number");
    }
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').ok_or(BAD)?;
        return address
            .parse::<std::net::Ipv6Addr>()
            .map(|_| ())
            .map_err(|_| BAD);
    }
    let label = |label: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        edge(label.bytes().next())
            && edge(label.bytes().last())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if host.split('.').all(label) {
        Ok(())
    } else {
        Err(BAD)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` for each part between slashes.
fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.is_empty() {
        return Err("there is no repository name");
    }
    if has_uppercase(repository) {
        return Err("the repository name must be lowercase");
    }
    if repository.split('/').all(is_path_component) {
        return Ok(());
    }
    Err("the repository name holds something other than a-z 0-9 . _ - between letters or digits")
}

fn is_path_component(component: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let edges = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    edges
        && bytes
            .chunk_by(|one, next| alphanumeric(one) == alphanumeric(next))
            .filter(|run| !alphanumeric(&run[0]))
            .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-'))
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if tag.is_empty() || tag.len() > LONGEST_TAG {
        return Err("a tag has 1 to 128 characters");
    }
    let good = tag
        .bytes()
        .all(|byte| word(byte) || byte == b'.' || byte == b'-');
    if good && tag.bytes().next().is_some_and(word) {
        return Ok(());
    }
    Err("the tag holds something other than letters, digits, _ . - or starts with . or -")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_what_docker_means() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pinned = format!("ubuntu@{digest}");
        let pinned_full = format!("docker.io/library/ubuntu@{digest}");
        for (text, canonical, familiar) in [
            ("ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest"),
            (
                "ubuntu:jammy",
                "docker.io/library/ubuntu:jammy",
                "ubuntu:jammy",
            ),
            ("me/x:1", "docker.io/me/x:1", "me/x:1"),
            (
                "docker.io/ubuntu",
                "docker.io/library/ubuntu:latest",
                "ubuntu:latest",
            ),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            (
                "library/ubuntu",
                "docker.io/library/ubuntu:latest",
                "ubuntu:latest",
            ),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            (
                "localhost:5000/x:y",
                "localhost:5000/x:y",
                "localhost:5000/x:y",
            ),
            (
                "quay.io/a/b/c",
                "quay.io/a/b/c:latest",
                "quay.io/a/b/c:latest",
            ),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            (
                "a__b/c--d/e.f:A.b-C",
                "docker.io/a__b/c--d/e.f:A.b-C",
                "a__b/c--d/e.f:A.b-C",
            ),
            (&pinned, &pinned_full, &pinned),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(canonical.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let long = "a".repeat(256);
        let tag = format!("a:{}", "t".repeat(129));
        let id = "ab".repeat(32);
        for text in [
            "",
            ":",
            "/",
            "a/",
            "/a",
            "a//b",
            "Ubuntu",
            "a:b:c",
            "a:",
            "a:.b",
            "a:-b",
            "a:b/c",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "a b",
            "a@sha256:12",
            "a@",
            "b\u{e9}",
            "../a",
            "host:port/a",
            "exa_mple.com/a",
            "localhost:/a",
            "[::g]/a",
            &long,
            &tag,
            &id,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
