//! Flags and values that all verbs share which talk to registries.

use std::path::PathBuf;

use clap::Args;
use mybox_store::Reference;

use crate::registry::{Notice, Options};

/// How much a registry must prove.
#[derive(Clone, Debug, Args)]
pub(super) struct Trust {
    /// Believe certificates that nobody vouches for, and speak plain HTTP where that is all there is
    #[arg(long)]
    insecure: bool,
    /// Believe the certificate authorities in this PEM file, too (can be given several times)
    #[arg(long, value_name = "FILE")]
    tls_ca: Vec<PathBuf>,
}

impl Trust {
    /// As the registry client takes it. `notice` is told when a registry has to be waited for.
    pub(super) fn options(&self, notice: impl Fn(&str) + Send + Sync + 'static) -> Options {
        Options {
            insecure: self.insecure,
            tls_ca: self.tls_ca.clone(),
            notice: Notice::new(notice),
        }
    }
}

/// A registry's host and port. A URL is taken, too, as `docker login` does.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bare = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let host = bare.unwrap_or(text).split('/').next().unwrap_or_default();
    let wrong = || format!("`{text}` is no registry such as quay.io or localhost:5000");
    let is_url_or_host = bare.is_some() || !text.trim_end_matches('/').contains('/');
    if !is_url_or_host {
        return Err(wrong());
    }
    let name: Reference = format!("{host}/x").parse().map_err(|_| wrong())?;
    let is_host = name.registry() == host || host == "index.docker.io";
    // A lone word would have been taken for a namespace of Docker Hub.
    if is_host || host == "registry-1.docker.io" {
        Ok(normal(name.registry()))
    } else {
        Err(wrong())
    }
}

fn normal(host: &str) -> String {
    match host {
        "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_as_docker_login_takes_them() {
        for (text, name) in [
            ("docker.io", Some("docker.io")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("index.docker.io", Some("docker.io")),
            ("registry-1.docker.io", Some("docker.io")),
            ("https://quay.io", Some("quay.io")),
            ("localhost:5000", Some("localhost:5000")),
            ("localhost:5000/", Some("localhost:5000")),
            ("localhost", Some("localhost")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("quay.io/team", None),
            ("quay", None),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(host(text).ok().as_deref(), name, "{text}");
        }
    }
}
