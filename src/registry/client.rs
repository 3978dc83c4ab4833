//! Reading from registries: manifests whole, blobs as streams that begin where one wants.

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;

use mybox_store::{Digest, Reference};
use reqwest::blocking::Response;
use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::answer;
use super::auth::{Access, Authenticator, Proof, Scope};
use super::credentials::Keyring;
use super::endpoint::Endpoint;
use super::environment::Environment;
use super::error::{Error, Result};
use super::patience::{Notice, asked_wait};
use super::registries::{Place, Registries};
use super::transport::{Request, Transport, as_io, joined};

/// Largest manifest that is read: the distribution spec's own limit.
const LARGEST_MANIFEST: u64 = 4 << 20;

/// What manifests may be. Schema 1 is asked for only to be able to say that it is one.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1";

const CONTENT_DIGEST: &str = "docker-content-digest";

/// What the user asks of all registries.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Plain HTTP and unverified certificates are good enough.
    pub insecure: bool,
    /// Files with certificate authorities to believe, beside the system's.
    pub tls_ca: Vec<PathBuf>,
    /// Whom to tell when a registry has to be waited for.
    pub notice: Notice,
}

/// A client of all registries.
pub struct Client {
    insecure: bool,
    registries: Registries,
    pub(super) transport: Transport,
    pub(super) auth: Authenticator,
}

/// One place that has an image, and the name under which it is known here.
#[derive(Clone, Debug)]
pub struct Source {
    reference: Reference,
    place: Place,
}

impl Source {
    /// The image's full name, whichever mirror it is read from.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Host and port, as users write them.
    pub fn registry(&self) -> &str {
        &self.place.endpoint.host
    }

    /// The repository in it.
    pub fn repository(&self) -> &str {
        &self.place.repository
    }

    /// The manifest that the name is for: a digest, if it has one, before a tag.
    pub fn wanted(&self) -> Which<'_> {
        match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => Which::Digest(digest),
            (None, tag) => Which::Tag(tag.unwrap_or("latest")),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.place.endpoint
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry(), self.repository())
    }
}

/// Which manifest of a repository.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// The one that the tag names now.
    Tag(&'a str),
    /// This one.
    Digest(Digest),
}

impl fmt::Display for Which<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => formatter.write_str(tag),
            Self::Digest(digest) => digest.fmt(formatter),
        }
    }
}

/// A manifest as it came.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The very bytes.
    pub bytes: Vec<u8>,
    /// `Content-Type`, without parameters; empty if there was none.
    pub media_type: String,
    /// The digest of the bytes. It is the one that was asked for, or that the registry announced.
    pub digest: Digest,
}

/// The bytes of a blob, as they come. Nobody has checked them.
pub struct BlobStream {
    response: Response,
    offset: u64,
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BlobStream")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl BlobStream {
    /// Where in the blob it begins: where it was asked to, or at 0 if the server does not do that.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

/// An end before the announced one is an error, and so is a minute without a byte
/// (`io::ErrorKind::TimedOut`).
impl Read for BlobStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.response.read(buffer).map_err(|error| as_io(&error))
    }
}

impl Client {
    /// A client with the configuration of Docker and Podman that is found on this machine.
    pub fn new(options: &Options) -> Result<Self> {
        let environment = Environment::current();
        let registries = Registries::read(&environment)?;
        let keyring = Keyring::new(&environment, registries.helpers());
        Ok(Self {
            insecure: options.insecure,
            registries,
            transport: Transport::new(environment, options.tls_ca.clone(), options.notice.clone()),
            auth: Authenticator::new(keyring),
        })
    }

    /// The places that may have the image `name`, in the order in which they are to be tried: a
    /// short name can be several registries', and a registry can have mirrors.
    pub fn candidates(&self, name: &str) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for reference in self.registries.meanings(name)? {
            for mut place in self.registries.places(&reference)? {
                place.endpoint.insecure |= self.insecure;
                let reference = reference.clone();
                sources.push(Source { reference, place });
            }
        }
        Ok(sources)
    }

    /// Where an image of this name goes to: never to a mirror.
    pub fn destination(&self, reference: &Reference) -> Result<Source> {
        let mut places = self.registries.places(reference)?.into_iter();
        let itself = places.find(|place| !place.is_mirror);
        let mut place = itself.expect("the registry itself is one of the places");
        place.endpoint.insecure |= self.insecure;
        let reference = reference.clone();
        Ok(Source { reference, place })
    }

    /// The registry called `host`.
    pub(super) fn endpoint(&self, host: &str) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            insecure: self.insecure,
        }
    }

    /// A manifest. Its digest is checked.
    pub fn manifest(&self, source: &Source, which: &Which<'_>) -> Result<Fetched> {
        let request = self
            .request(source, Method::GET, &format!("manifests/{which}"))?
            .header(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES));
        let object = match which {
            Which::Tag(tag) => format!("{}:{tag}", source.repository()),
            Which::Digest(digest) => format!("{}@{digest}", source.repository()),
        };
        let response = self.ask(source, &object, &request)?;
        let headers = response.headers().clone();
        let registry = source.registry();
        let bytes = answer::bounded(registry, &request, response, LARGEST_MANIFEST)?;
        let digest = Digest::of(&bytes);
        let expected = match which {
            Which::Digest(digest) => Some(*digest),
            Which::Tag(_) => announced_digest(&headers),
        };
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(Error::WrongDigest {
                registry: registry.to_owned(),
                object,
                expected,
                actual: digest,
            });
        }
        Ok(Fetched {
            bytes,
            media_type: media_type(&headers),
            digest,
        })
    }

    /// A blob from byte `from` on, if the server does that, or from its beginning.
    pub fn blob(&self, source: &Source, digest: Digest, from: u64) -> Result<BlobStream> {
        let mut request = self.request(source, Method::GET, &format!("blobs/{digest}"))?;
        let object = format!("{}, blob {digest}", source.repository());
        if from > 0 {
            let range =
                HeaderValue::from_str(&format!("bytes={from}-")).expect("digits are visible");
            request.headers.insert(RANGE, range);
            let response = self.send(source, Access::Pull, &object, &request)?;
            if response.status() == StatusCode::PARTIAL_CONTENT {
                return self.partial(source, &request, response);
            }
            if response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
                let response = response_or_error(source, &object, &request, response)?;
                return Ok(whole(response));
            }
            request.headers.remove(RANGE);
        }
        Ok(whole(self.ask(source, &object, &request)?))
    }

    fn partial(
        &self,
        source: &Source,
        request: &Request,
        response: Response,
    ) -> Result<BlobStream> {
        let header = response.headers().get(CONTENT_RANGE);
        let range = header.and_then(|range| content_range(range.to_str().ok()?));
        let Some(offset) = range else {
            return Err(Error::BadAnswer {
                registry: source.registry().to_owned(),
                request: request.shown(),
                reason: "206 without a Content-Range that says which part".to_owned(),
            });
        };
        Ok(BlobStream { response, offset })
    }

    pub(super) fn request(&self, source: &Source, method: Method, path: &str) -> Result<Request> {
        let base = self.transport.base(source.endpoint())?;
        let path = format!("v2/{}/{path}", source.repository());
        Ok(Request::new(method, joined(&base, &path)))
    }

    /// The answer, if it is one that gives what was asked for.
    fn ask(&self, source: &Source, object: &str, request: &Request) -> Result<Response> {
        let response = self.send(source, Access::Pull, object, request)?;
        response_or_error(source, object, request, response)
    }

    /// The answer to a request with the right proof of who asks.
    pub(super) fn send(
        &self,
        source: &Source,
        access: Access,
        object: &str,
        request: &Request,
    ) -> Result<Response> {
        let scope = Scope {
            endpoint: source.endpoint().clone(),
            repository: source.repository().to_owned(),
            access,
        };
        let (response, proof) = self.send_as(&scope, request)?;
        let status = response.status();
        if status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN {
            return Ok(response);
        }
        Err(Error::Denied {
            registry: source.registry().to_owned(),
            object: object.to_owned(),
            account: proof.account,
            said: answer::said(response),
        })
    }

    /// Sends a request with what the registry is known to demand, and once more if it demands
    /// something else.
    pub(super) fn send_as(&self, scope: &Scope, request: &Request) -> Result<(Response, Proof)> {
        // An upload can go on at another host, which is not to learn the token.
        let base = self.transport.base(&scope.endpoint)?;
        let is_own = base.origin() == request.url.origin();
        let with = |proof: &Proof| -> Result<Response> {
            let request = Request {
                authorization: proof.header.clone().filter(|_| is_own),
                ..request.clone()
            };
            self.transport.send(&scope.endpoint, &request)
        };
        let proof = self.auth.proof(&self.transport, scope)?;
        let response = with(&proof)?;
        if response.status() != StatusCode::UNAUTHORIZED || !is_own {
            return Ok((response, proof));
        }
        let another = self
            .auth
            .another_proof(&self.transport, scope, &response, &proof)?;
        if another.header.is_none() {
            return Ok((response, another));
        }
        drop(response);
        Ok((with(&another)?, another))
    }
}

/// A response that is a success, or the error that it is instead.
pub(super) fn response_or_error(
    source: &Source,
    object: &str,
    request: &Request,
    response: Response,
) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let registry = source.registry().to_owned();
    let retry_after = asked_wait(&response);
    let said = answer::said(response);
    Err(match status {
        StatusCode::NOT_FOUND => Error::NotFound {
            registry,
            object: object.to_owned(),
            said,
        },
        _ => Error::Status {
            registry,
            status,
            retry_after,
            request: request.shown(),
            said,
        },
    })
}

fn whole(response: Response) -> BlobStream {
    BlobStream {
        response,
        offset: 0,
    }
}

/// The first byte of `bytes 100-199/1000`; the size of the whole can be `*`.
fn content_range(value: &str) -> Option<u64> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let is_sound = first <= last && total.is_none_or(|total| last < total);
    is_sound.then_some(first)
}

/// What the registry says the digest is. Other algorithms than sha256 cannot be checked here.
pub(super) fn announced_digest(headers: &HeaderMap) -> Option<Digest> {
    headers
        .get(CONTENT_DIGEST)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let bare = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    bare.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_blob_says_which_part_it_is() {
        for (value, expected) in [
            ("bytes 100-199/1000", Some(100)),
            ("bytes 0-0/*", Some(0)),
            ("bytes 5-4/10", None),
            ("bytes 5-10/10", None),
            ("bytes */1000", None),
            ("items 1-2/3", None),
            ("", None),
        ] {
            assert_eq!(content_range(value), expected, "{value}");
        }
    }

    #[test]
    fn clients_and_sources_are_shared_among_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Client>();
        shared::<Source>();
        fn moved<T: Send>() {}
        moved::<BlobStream>();
    }
}
