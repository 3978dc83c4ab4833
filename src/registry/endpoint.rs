//! Registries by the names that users give them, and what the wire wants to know of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// Docker Hub, as references name it.
pub(super) const DOCKER_HUB: &str = "docker.io";

/// Docker Hub's real host.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// A registry, and how much it must prove.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    /// Host and port as users write them: `docker.io`, `localhost:5000`.
    pub(super) host: String,
    /// Whether unverified certificates and plain HTTP are good enough.
    pub(super) insecure: bool,
}

impl Endpoint {
    /// Host and port to connect to.
    pub(super) fn authority(&self) -> &str {
        match self.host.as_str() {
            DOCKER_HUB => DOCKER_HUB_HOST,
            host => host,
        }
    }

    /// Whether the registry may be spoken to without encryption.
    pub(super) fn may_be_plain(&self) -> bool {
        self.insecure || is_loopback(host_of(&self.host))
    }

    /// Whether this URL may be followed on behalf of the registry. A registry out there has no
    /// business with the services of this machine.
    pub(super) fn may_go_to(&self, url: &Url) -> bool {
        let is_near = url.host_str().is_some_and(is_loopback);
        match url.scheme() {
            "https" => true,
            "http" => self.insecure || (self.may_be_plain() && is_near),
            _ => false,
        }
    }
}

/// The host without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

/// This machine, by its own names: what is sent there crosses no network.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
        || bare
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Host and port of a URL.
pub(super) fn authority_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// A URL without what can be secret in it: user, password and signed queries.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority_of(url), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_and_for_who_asks_for_it() {
        for (host, plain) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("LocalHost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.8.8", true),
            ("[::1]:5000", true),
            ("[::1]", true),
            ("docker.io", false),
            ("10.0.0.1:5000", false),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com", false),
            ("[fe80::1]:5000", false),
        ] {
            let mut endpoint = Endpoint {
                host: host.to_owned(),
                insecure: false,
            };
            assert_eq!(endpoint.may_be_plain(), plain, "{host}");
            endpoint.insecure = true;
            assert!(endpoint.may_be_plain());
        }
    }

    #[test]
    fn from_what_is_encrypted_nothing_leads_to_what_is_not() {
        for (host, insecure, url, may) in [
            ("quay.io", false, "https://cdn.example.com/x", true),
            ("quay.io", false, "http://cdn.example.com/x", false),
            ("quay.io", false, "http://localhost:80/x", false),
            ("quay.io", true, "http://cdn.example.com/x", true),
            ("localhost:5000", false, "http://127.0.0.1:9000/x", true),
            ("localhost:5000", false, "http://cdn.example.com/x", false),
            ("localhost:5000", true, "file:///etc/shadow", false),
        ] {
            let host = host.to_owned();
            let endpoint = Endpoint { host, insecure };
            assert_eq!(endpoint.may_go_to(&Url::parse(url).unwrap()), may, "{url}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_is_not_secret() {
        let url = Url::parse("https://me:pw@cdn.example.com:444/a/b?X-Signature=s#f").unwrap();
        assert_eq!(shown(&url), "https://cdn.example.com:444/a/b");
    }
}
