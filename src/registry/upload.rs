//! Writing to registries: blobs that are not there yet, then the manifests that name them.
//!
//! ```text
//! HEAD blobs/DIGEST                          200: it is there
//! POST blobs/uploads/?mount=DIGEST&from=R    201: now it is; 202: no, but here is an upload
//! PATCH location   Content-Range: 0-..       202: and on, chunk by chunk, if it is large
//! PUT location?digest=DIGEST                 201: whole, with all of it or with the last of it
//! ```
//! An upload that breaks goes on from where the registry says that it is, a few times.

use std::sync::Arc;

use mybox_store::Digest;
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};

use super::auth::Access;
use super::client::{Client, Source, Which, announced_digest, response_or_error};
use super::error::{Error, Result};
use super::patience::{TRIES, in_words, is_worth_a_retry, pause};
use super::transport::{Body, Content, Request};

/// Blobs up to this size go in one request; larger ones in chunks of it, each of which is lost alone
/// if the connection is.
const CHUNK: u64 = 64 << 20;

/// The least chunk a registry can ask for that is still granted.
const LARGEST_CHUNK: u64 = 5 << 30;

/// A blob to be sent.
#[derive(Clone)]
pub struct Upload {
    /// What it is called.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// The bytes.
    pub content: Arc<dyn Content>,
}

/// What came of asking for another repository's blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// It is there.
    Yes,
    /// It has to be sent.
    No,
}

/// An upload in progress, as the registry sees it.
struct Session {
    location: Url,
    /// How many bytes have arrived.
    offset: u64,
    chunk: u64,
}

impl Session {
    fn is_whole(&self, upload: &Upload) -> bool {
        self.chunk >= upload.size && self.offset == 0
    }
}

impl Client {
    /// Whether a repository has a blob.
    pub fn has_blob(&self, source: &Source, digest: Digest) -> Result<bool> {
        let request = self.request(source, Method::HEAD, &format!("blobs/{digest}"))?;
        let object = object(source, digest);
        let response = self.send(source, Access::Push, &object, &request)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        response_or_error(source, &object, &request, response).map(|_| true)
    }

    /// Has a registry take a blob from another of its repositories.
    pub fn mount_blob(&self, source: &Source, digest: Digest, from: &str) -> Result<Mounted> {
        let mut request = self.post(source)?;
        request
            .url
            .query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from);
        let object = object(source, digest);
        let access = Access::PushFrom(from.to_owned());
        let response = match self.send(source, access, &object, &request) {
            Ok(response) => response,
            // Who may not read the other repository sends the bytes.
            Err(Error::Denied { .. }) => return Ok(Mounted::No),
            Err(error) => return Err(error),
        };
        match response.status() {
            StatusCode::CREATED => Ok(Mounted::Yes),
            StatusCode::ACCEPTED => {
                self.cancel(source, &session(source, &request, &response)?);
                Ok(Mounted::No)
            }
            _ => Ok(Mounted::No),
        }
    }

    /// Sends a blob.
    pub fn upload_blob(&self, source: &Source, upload: &Upload) -> Result<()> {
        let mut session = self.begin(source, upload)?;
        let (mut tries, mut furthest) = (0, 0);
        loop {
            tries += 1;
            let error = match self.go_on(source, upload, &mut session) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let is_refusal = is_refusal(&error) && !session.is_whole(upload);
            // What gets on may break as often as it likes.
            if session.offset > furthest {
                (tries, furthest) = (1, session.offset);
            }
            if tries >= TRIES || (!is_refusal && !may_pass(&error, tries)) {
                return Err(error);
            }
            let asked = match &error {
                Error::Status { retry_after, .. } => *retry_after,
                _ => None,
            };
            let notice = self.transport.notice();
            pause(source.registry(), notice, tries, asked, &in_words(&error))?;
            session = match self.position(source, upload, &session)? {
                // It is not where it was thought to be, or nothing was wrong with the request.
                Some(known) if known.offset != session.offset || !is_refusal => known,
                // What is refused in parts may be taken whole.
                _ if is_refusal => Session {
                    chunk: upload.size,
                    ..self.begin(source, upload)?
                },
                _ => self.begin(source, upload)?,
            };
        }
    }

    /// Puts a manifest under a tag or its digest; its bytes are kept as they are.
    pub fn put_manifest(
        &self,
        source: &Source,
        which: &Which<'_>,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<()> {
        let object = format!("{}, manifest {which}", source.repository());
        let media_type = HeaderValue::from_str(media_type).map_err(|_| Error::BadAnswer {
            registry: source.registry().to_owned(),
            request: object.clone(),
            reason: "its media type holds control characters".to_owned(),
        })?;
        let mut request = self
            .request(source, Method::PUT, &format!("manifests/{which}"))?
            .header(CONTENT_TYPE, media_type);
        request.body = Body::Bytes(bytes.to_vec());
        let response = self.send(source, Access::Push, &object, &request)?;
        let response = response_or_error(source, &object, &request, response)?;
        let (expected, announced) = (Digest::of(bytes), announced_digest(response.headers()));
        match announced.filter(|announced| *announced != expected) {
            Some(actual) => Err(Error::WrongDigest {
                registry: source.registry().to_owned(),
                object,
                expected,
                actual,
            }),
            None => Ok(()),
        }
    }

    fn post(&self, source: &Source) -> Result<Request> {
        let request = self.request(source, Method::POST, "blobs/uploads/")?;
        Ok(request.header(CONTENT_LENGTH, HeaderValue::from_static("0")))
    }

    fn begin(&self, source: &Source, upload: &Upload) -> Result<Session> {
        let request = self.post(source)?;
        let object = object(source, upload.digest);
        let response = self.send(source, Access::Push, &object, &request)?;
        let response = response_or_error(source, &object, &request, response)?;
        session(source, &request, &response)
    }

    /// Sends what is left: the whole at once if it is small, else chunks.
    fn go_on(&self, source: &Source, upload: &Upload, session: &mut Session) -> Result<()> {
        while upload.size - session.offset > session.chunk {
            let length = session.chunk;
            self.send_chunk(source, upload, session, length)?;
        }
        self.finish(source, upload, session)
    }

    fn send_chunk(
        &self,
        source: &Source,
        upload: &Upload,
        session: &mut Session,
        length: u64,
    ) -> Result<()> {
        let (from, last) = (session.offset, session.offset + length - 1);
        let range = HeaderValue::from_str(&format!("{from}-{last}")).expect("digits are visible");
        let mut request = Request::new(Method::PATCH, session.location.clone())
            .header(CONTENT_RANGE, range)
            .header(CONTENT_TYPE, octets());
        request.body = part(upload, from, length);
        let object = object(source, upload.digest);
        let response = self.send(source, Access::Push, &object, &request)?;
        let response = response_or_error(source, &object, &request, response)?;
        session.location = location(source, &request, &response)?;
        session.offset = arrived(&response).unwrap_or(from + length);
        // One that says it has less, or more, than was sent would be asked for ever.
        if session.offset <= from || session.offset > upload.size {
            return Err(bad(source, &request, "the chunk did not arrive"));
        }
        Ok(())
    }

    /// Sends the last part, or all of it, and with it the digest.
    fn finish(&self, source: &Source, upload: &Upload, session: &Session) -> Result<()> {
        let mut url = session.location.clone();
        url.query_pairs_mut()
            .append_pair("digest", &upload.digest.to_string());
        let (from, length) = (session.offset, upload.size - session.offset);
        let mut request = Request::new(Method::PUT, url).header(CONTENT_TYPE, octets());
        if from > 0 && length > 0 {
            let range = format!("{from}-{}", upload.size - 1);
            let range = HeaderValue::from_str(&range).expect("digits are visible");
            request = request.header(CONTENT_RANGE, range);
        }
        request.body = part(upload, from, length);
        let object = object(source, upload.digest);
        let response = self.send(source, Access::Push, &object, &request)?;
        response_or_error(source, &object, &request, response).map(|_| ())
    }

    /// The upload as the registry sees it now; none if it does not know it any more.
    fn position(
        &self,
        source: &Source,
        upload: &Upload,
        session: &Session,
    ) -> Result<Option<Session>> {
        let request = Request::new(Method::GET, session.location.clone());
        let object = object(source, upload.digest);
        let response = self.send(source, Access::Push, &object, &request)?;
        let offset = arrived(&response).filter(|offset| *offset <= upload.size);
        let Some(offset) = offset.filter(|_| response.status().is_success()) else {
            return Ok(None);
        };
        Ok(Some(Session {
            // Where there is no other, it is the same.
            location: location(source, &request, &response)
                .unwrap_or_else(|_| session.location.clone()),
            offset,
            chunk: session.chunk,
        }))
    }

    /// Tells a registry that an upload will not come. It would find out by itself, in a week.
    fn cancel(&self, source: &Source, session: &Session) {
        let request = Request::new(Method::DELETE, session.location.clone());
        let _ = self.send(source, Access::Push, "an upload", &request);
    }
}

fn object(source: &Source, digest: Digest) -> String {
    format!("{}, blob {digest}", source.repository())
}

fn octets() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}

fn part(upload: &Upload, from: u64, length: u64) -> Body {
    Body::Part {
        content: Arc::clone(&upload.content),
        from,
        length,
    }
}

fn session(source: &Source, request: &Request, response: &Response) -> Result<Session> {
    let least = response.headers().get("oci-chunk-min-length");
    let least: Option<u64> = least.and_then(|least| least.to_str().ok()?.parse().ok());
    Ok(Session {
        location: location(source, request, response)?,
        offset: 0,
        chunk: CHUNK.max(least.unwrap_or(0).min(LARGEST_CHUNK)),
    })
}

/// Where an upload goes on: each answer can say another place.
fn location(source: &Source, request: &Request, response: &Response) -> Result<Url> {
    let header = response.headers().get(LOCATION);
    let text = header.and_then(|text| text.to_str().ok());
    let text = text.ok_or_else(|| bad(source, request, "there is no Location in it"))?;
    let url = request
        .url
        .join(text)
        .map_err(|_| bad(source, request, "its Location is no URL"))?;
    if !source.endpoint().may_go_to(&url) {
        return Err(bad(source, request, "its Location is not encrypted"));
    }
    Ok(url)
}

/// How many bytes have arrived, by `Range: 0-1023`.
fn arrived(response: &Response) -> Option<u64> {
    let range = response.headers().get(RANGE)?.to_str().ok()?;
    position_after(range)
}

/// docker-registry says `0-0` for nothing and for one byte alike; nothing is the safe meaning.
fn position_after(range: &str) -> Option<u64> {
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    let is_start = first.trim() == "0";
    is_start.then(|| if last == 0 { 0 } else { last + 1 })
}

/// Whether an upload may fare better after an error; it may also have been forgotten.
fn may_pass(error: &Error, tries: u32) -> bool {
    match error {
        Error::NotFound { .. } => tries < TRIES,
        error => is_worth_a_retry(error, tries),
    }
}

/// Whether the registry understood, and does not want it this way.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Status { status, .. } if status.is_client_error())
}

fn bad(source: &Source, request: &Request, reason: &str) -> Error {
    Error::BadAnswer {
        registry: source.registry().to_owned(),
        request: request.shown(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_say_how_much_of_an_upload_they_have() {
        for (range, expected) in [
            ("0-1023", Some(1024)),
            ("bytes=0-1023", Some(1024)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("0-", None),
            ("", None),
        ] {
            assert_eq!(position_after(range), expected, "{range}");
        }
    }
}
