//! HTTP: one request, sent until it is answered. Owns the connections, the redirects and the
//! certificates; knows nothing of accounts or of what registries serve.
//!
//! What it promises:
//! - `Authorization` goes to the host, port and scheme it was made for and to no other: redirects
//!   are followed here, not by the HTTP library.
//! - Nothing goes over plain HTTP but to this machine itself, unless `--insecure` or
//!   `registries.conf` says so.
//! - Every wait ends: 30 seconds for a connection, 60 without a byte.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use rustls::CertificateError;

use super::endpoint::{Endpoint, authority_of, is_loopback, shown};
use super::environment::Environment;
use super::error::{Error, Result};
use super::patience::{Notice, patiently};
use super::tls::Certificates;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an answer, or the next bytes of one, may take.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

const MOST_REDIRECTS: usize = 10;

/// Longest body of an error or a token.
pub(super) const SMALL_BODY: u64 = 1 << 20;

/// A request, without its way.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Goes to the host of `url` alone.
    pub(super) authorization: Option<HeaderValue>,
    pub(super) body: Body,
}

/// What a request brings.
#[derive(Clone)]
pub(super) enum Body {
    /// Nothing.
    None,
    /// Bytes for the host of the URL alone.
    Secret(Vec<u8>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A part of something larger, read while it is sent, again each time that it is sent.
    Part {
        /// What it is a part of.
        content: Arc<dyn Content>,
        /// The part's first byte.
        from: u64,
        /// How many bytes it has.
        length: u64,
    },
}

/// Bytes that can be read as often as they have to be sent.
pub trait Content: Send + Sync {
    /// The bytes from `from` on.
    fn read_from(&self, from: u64) -> io::Result<Box<dyn Read + Send>>;
}

impl Request {
    /// A request for this URL with nothing else in it.
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            body: Body::None,
        }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// `GET https://host/path`, for errors.
    pub(super) fn shown(&self) -> String {
        format!("{} {}", self.method, shown(&self.url))
    }
}

/// Connections to registries and to where they send.
pub(super) struct Transport {
    environment: Environment,
    tls_ca: Vec<PathBuf>,
    notice: Notice,
    clients: Mutex<HashMap<(Endpoint, String), Client>>,
    bases: Mutex<HashMap<Endpoint, Url>>,
}

impl Transport {
    pub(super) fn new(environment: Environment, tls_ca: Vec<PathBuf>, notice: Notice) -> Self {
        Self {
            environment,
            tls_ca,
            notice,
            clients: Mutex::default(),
            bases: Mutex::default(),
        }
    }

    /// Whom to tell of waits.
    pub(super) fn notice(&self) -> &Notice {
        &self.notice
    }

    /// `https://host/`, or `http://host/` where that is what the registry speaks and what it may.
    pub(super) fn base(&self, endpoint: &Endpoint) -> Result<Url> {
        if let Some(base) = locked(&self.bases).get(endpoint) {
            return Ok(base.clone());
        }
        let secure = self.url(endpoint, "https")?;
        let base = if endpoint.may_be_plain() {
            self.spoken(endpoint, secure)?
        } else {
            secure
        };
        locked(&self.bases).insert(endpoint.clone(), base.clone());
        Ok(base)
    }

    fn url(&self, endpoint: &Endpoint, scheme: &str) -> Result<Url> {
        let text = format!("{scheme}://{}/", endpoint.authority());
        Url::parse(&text).map_err(|error| Error::BadAnswer {
            registry: endpoint.host.clone(),
            request: text,
            reason: error.to_string(),
        })
    }

    /// Finds out by asking. A certificate that is not trusted is not answered with plain HTTP.
    fn spoken(&self, endpoint: &Endpoint, secure: Url) -> Result<Url> {
        let probe = |base: &Url| {
            let ping = Request::new(Method::GET, joined(base, "v2/"));
            self.once(endpoint, &ping, &ping.url, None)
        };
        let plain = self.url(endpoint, "http")?;
        let mut answered = &secure;
        patiently(&endpoint.host, &self.notice, || match probe(&secure) {
            Err(Error::Unreachable { .. } | Error::NotTls { .. }) => {
                answered = &plain;
                probe(&plain)
            }
            answer => {
                answered = &secure;
                answer
            }
        })?;
        Ok(answered.clone())
    }

    /// Sends a request until it is answered, following redirects. A part of an upload is sent once:
    /// how much of it arrived is for the caller to ask before it is sent again.
    pub(super) fn send(&self, endpoint: &Endpoint, request: &Request) -> Result<Response> {
        if matches!(request.body, Body::Part { .. }) {
            return self.follow(endpoint, request);
        }
        patiently(&endpoint.host, &self.notice, || {
            self.follow(endpoint, request)
        })
    }

    fn follow(&self, endpoint: &Endpoint, request: &Request) -> Result<Response> {
        let mut url = request.url.clone();
        let mut authorization = request.authorization.as_ref();
        for _ in 0..MOST_REDIRECTS {
            let response = self.once(endpoint, request, &url, authorization)?;
            let Some(target) = redirect(request, &response) else {
                return Ok(response);
            };
            let bad = |target: String, reason| Error::BadRedirect {
                registry: authority_of(&url),
                target,
                reason,
            };
            let next = url
                .join(&target)
                .map_err(|_| bad(target, "that is no URL"))?;
            if !endpoint.may_go_to(&next) {
                return Err(bad(shown(&next), "that is not encrypted"));
            }
            // Once it has left its host it does not come back: who sent it there may know the way.
            if !same_origin(&url, &next) {
                authorization = None;
                if matches!(request.body, Body::Secret(_)) {
                    return Err(bad(shown(&next), "a secret is not sent on to another host"));
                }
            }
            tracing::debug!("{} redirects to {}", shown(&url), shown(&next));
            url = next;
        }
        Err(Error::BadRedirect {
            registry: endpoint.host.clone(),
            target: shown(&url),
            reason: "too many redirects",
        })
    }

    fn once(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response> {
        let client = self.client(endpoint, url)?;
        let mut builder = client
            .request(request.method.clone(), url.clone())
            .headers(request.headers.clone());
        if let Some(authorization) = authorization {
            let mut secret = authorization.clone();
            secret.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, secret);
        }
        builder = with_body(builder, &request.body)?;
        tracing::debug!("{} {}", request.method, shown(url));
        builder.send().map_err(|error| failure(url, error))
    }

    /// The client with the certificates for this URL, which the registry sent us to.
    fn client(&self, endpoint: &Endpoint, url: &Url) -> Result<Client> {
        let authority = authority_of(url);
        let key = (endpoint.clone(), authority.clone());
        if let Some(client) = locked(&self.clients).get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(endpoint, url, &authority)?;
        Ok(locked(&self.clients).entry(key).or_insert(client).clone())
    }

    fn build(&self, endpoint: &Endpoint, url: &Url, authority: &str) -> Result<Client> {
        let mut certificates = Certificates::default();
        for directory in self.environment.certificate_directories(&endpoint.host) {
            certificates.add_directory(&directory)?;
        }
        if authority != endpoint.authority() {
            certificates = certificates.for_another_host();
            for directory in self.environment.certificate_directories(authority) {
                certificates.add_directory(&directory)?;
            }
        }
        for file in &self.tls_ca {
            certificates.add_file(file)?;
        }
        let bad = |reason| Error::Untrusted {
            registry: authority.to_owned(),
            reason,
            unknown_ca: false,
        };
        let tls = certificates.configure(endpoint.insecure).map_err(bad)?;
        let mut builder = Client::builder()
            .user_agent(concat!("mybox/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(STALL_TIMEOUT)
            .tcp_user_timeout(STALL_TIMEOUT)
            .tls_backend_preconfigured(tls);
        // As everybody does: what is on this machine is not asked for elsewhere.
        if url.host_str().is_some_and(is_loopback) {
            builder = builder.no_proxy();
        }
        builder.build().map_err(|error| failure(url, error))
    }
}

/// A lock whose data is whole whenever nobody holds it.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A path below a base URL.
pub(super) fn joined(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    url
}

fn with_body(builder: RequestBuilder, body: &Body) -> Result<RequestBuilder> {
    let (body, length) = match body {
        Body::None => return Ok(builder),
        Body::Secret(bytes) | Body::Bytes(bytes) => (bytes.clone().into(), bytes.len() as u64),
        Body::Part {
            content,
            from,
            length,
        } => {
            let reader = content.read_from(*from).map_err(Error::Content)?;
            let part = reader.take(*length);
            (reqwest::blocking::Body::sized(part, *length), *length)
        }
    };
    // A body may take the time that a line of 16 kB a second needs; one that stands still is
    // noticed by the kernel (TCP_USER_TIMEOUT).
    let time = STALL_TIMEOUT + Duration::from_secs(length >> 14);
    Ok(builder.body(body).timeout(time))
}

/// Where the response sends to, if this request may go there by itself.
fn redirect(request: &Request, response: &Response) -> Option<String> {
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    let goes_on = match response.status() {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => is_read,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        _ => false,
    };
    let location = response.headers().get(LOCATION).filter(|_| goes_on)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Reads a whole body that has no business being longer than `limit`.
pub(super) fn read_body(response: Response, limit: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    response.take(limit + 1).read_to_end(&mut body)?;
    if body.len() as u64 > limit {
        let reason = format!("it is longer than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(body)
}

/// What kind of failure the HTTP library's error is.
fn failure(url: &Url, error: reqwest::Error) -> Error {
    let registry = authority_of(url);
    for cause in causes(&error) {
        match cause.downcast_ref::<rustls::Error>() {
            // What does not speak TLS answers with something else, or hangs up.
            Some(rustls::Error::InvalidMessage(_)) => return Error::NotTls { registry },
            Some(rustls::Error::InvalidCertificate(reason)) => {
                return Error::Untrusted {
                    registry,
                    reason: match reason {
                        CertificateError::UnknownIssuer => {
                            "no authority that is known here has signed it".to_owned()
                        }
                        other => other.to_string(),
                    },
                    unknown_ca: *reason == CertificateError::UnknownIssuer,
                };
            }
            _ => {}
        }
    }
    Error::Unreachable {
        registry,
        connecting: error.is_connect(),
        source: as_io(&error),
    }
}

/// An error, its sources, and what `io::Error`s carry, which is not among their sources.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |cause| {
        let carried = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        carried
            .map(|carried| carried as &(dyn std::error::Error + 'static))
            .or_else(|| cause.source())
    })
}

/// The library's error in few words: its last cause says what happened, those above it only that
/// something did, and where.
pub(super) fn as_io(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let timed_out = causes(error).any(|cause| {
        cause
            .downcast_ref::<reqwest::Error>()
            .is_some_and(reqwest::Error::is_timeout)
            || cause
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    });
    if timed_out {
        return io::Error::new(io::ErrorKind::TimedOut, "nothing came for too long");
    }
    let last = causes(error).last().unwrap_or(error);
    match last.downcast_ref::<io::Error>() {
        Some(io) => match io.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(io.kind(), io.to_string()),
        },
        None => io::Error::other(last.to_string()),
    }
}
