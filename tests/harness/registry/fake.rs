//! A registry that does what the test says: serves what it was given, and fails as it was told to.
//! It records all requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::http::{Reply, Seen, Server};
use super::image::{Content, TestImage};

/// A way to fail. It is applied to the requests whose line, as `GET /v2/x/blobs/sha256:..`, contains
/// a pattern.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Answers with this status and these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// Hangs up without an answer.
    HangUp,
    /// Hangs up after so many bytes of the body.
    Cut(usize),
    /// Sends so many bytes of the body, and the rest when [`FakeRegistry::release`] is called.
    Hold(usize),
    /// Sends everything whatever the Range.
    NoRange,
    /// Sends to the same path on another server: `http://127.0.0.1:1`.
    Redirect(String),
    /// Sends other bytes.
    Bytes(Vec<u8>),
    /// Says that it is of another type.
    MediaType(&'static str),
    /// Says that it has another digest.
    DigestHeader(String),
    /// Takes so many bytes of what is sent, and hangs up.
    Take(usize),
    /// Does not fail.
    Pass,
}

/// A decision about who may come in: none to let in, or what to answer.
type Guard = Box<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct Contents {
    /// Blobs and manifests by digest.
    by_digest: BTreeMap<String, Content>,
    /// `repository:tag` to digest.
    tags: BTreeMap<String, String>,
    faults: Vec<(String, usize, Fault)>,
    /// Bytes of uploads, by their number.
    uploads: Vec<Vec<u8>>,
    smallest_chunk: Option<usize>,
    /// Where uploads go on.
    uploads_at: String,
    guard: Option<Guard>,
}

/// The registry, for as long as this lives.
pub(crate) struct FakeRegistry {
    server: Server,
    contents: Arc<Mutex<Contents>>,
}

impl FakeRegistry {
    /// An empty one.
    pub(crate) fn start() -> Self {
        let contents = Arc::new(Mutex::new(Contents::default()));
        let shared = Arc::clone(&contents);
        let server = Server::start(move |seen| shared.lock().expect("no panic").answer(seen));
        Self { server, contents }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.server.address()
    }

    /// The full name of an image in it.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address())
    }

    /// Its requests: [`Server::requests`], [`Server::wait_for`].
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The requests whose line contains `pattern`.
    pub(crate) fn requests(&self, pattern: &str) -> Vec<Seen> {
        self.server.requests(pattern)
    }

    /// Lets all bodies go on that are held.
    pub(crate) fn release(&self) {
        self.server.release();
    }

    /// Has an image, as `repository:tag`. The repository does not matter for blobs.
    pub(crate) fn add(&self, name: &str, image: &TestImage) {
        image.blobs().for_each(|blob| self.add_content(blob));
        self.add_manifest(Some(name), &image.manifest);
    }

    /// Has a blob, or a manifest without a tag.
    pub(crate) fn add_content(&self, content: &Content) {
        self.contents()
            .by_digest
            .insert(content.digest(), content.clone());
    }

    /// Has a manifest or an index.
    pub(crate) fn add_manifest(&self, name: Option<&str>, manifest: &Content) {
        self.add_content(manifest);
        if let Some(name) = name {
            self.contents()
                .tags
                .insert(name.to_owned(), manifest.digest());
        }
    }

    /// Fails, the next `times` times that a request's line contains `pattern`. What was said first
    /// counts first.
    pub(crate) fn fail(&self, pattern: impl Into<String>, times: usize, fault: Fault) {
        self.contents().faults.push((pattern.into(), times, fault));
    }

    /// Fails whenever a request's line contains `pattern`.
    pub(crate) fn always(&self, pattern: impl Into<String>, fault: Fault) {
        self.fail(pattern, usize::MAX, fault);
    }

    /// Works from now on.
    pub(crate) fn mend(&self) {
        self.contents().faults.clear();
    }

    /// Lets in only those requests to which `guard` has no answer of its own.
    pub(crate) fn guard(&self, guard: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) {
        self.contents().guard = Some(Box::new(guard));
    }

    /// Asks for chunks of this size at least.
    pub(crate) fn smallest_chunk(&self, bytes: usize) {
        self.contents().smallest_chunk = Some(bytes);
    }

    /// Has uploads go on at another server, which has `count` of them begun.
    pub(crate) fn upload_to(&self, other: &Self, count: usize) {
        self.contents().uploads_at = format!("http://{}", other.address());
        other.contents().uploads = vec![Vec::new(); count];
    }

    /// A blob that it has.
    pub(crate) fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        let contents = self.contents();
        contents
            .by_digest
            .get(digest)
            .map(|content| content.bytes.clone())
    }

    /// Whether something has this name.
    pub(crate) fn has_tag(&self, name: &str) -> bool {
        self.contents().tags.contains_key(name)
    }

    fn contents(&self) -> std::sync::MutexGuard<'_, Contents> {
        self.contents.lock().expect("no holder panics")
    }
}

impl Contents {
    fn answer(&mut self, seen: &Seen) -> Reply {
        if let Some(reply) = self.guard.as_ref().and_then(|guard| guard(seen)) {
            return reply;
        }
        let fault = self.next_fault(seen);
        match fault {
            Some(Fault::Status(status, headers)) => {
                let reply = Reply::status(status);
                return headers
                    .into_iter()
                    .fold(reply, |reply, (name, value)| reply.header(name, value));
            }
            Some(Fault::HangUp) => return Reply::hang_up(),
            Some(Fault::Redirect(base)) => {
                return Reply::status(307).header("Location", format!("{base}{}", seen.target));
            }
            _ => {}
        }
        let path = seen.path();
        if path == "/v2/" {
            return Reply::ok("application/json", "{}");
        }
        if let Some((_, upload)) = path.split_once("/blobs/uploads/") {
            return self.upload(seen, upload, fault);
        }
        if seen.method == "PUT" {
            return self.take_manifest(seen);
        }
        let Some(content) = self.find(path) else {
            let code = if path.contains("/manifests/") {
                "MANIFEST_UNKNOWN"
            } else {
                "BLOB_UNKNOWN"
            };
            let errors = json!({ "errors": [{ "code": code, "message": "not here" }] });
            let body = errors.to_string();
            return Reply {
                status: 404,
                ..Reply::ok("application/json", body)
            };
        };
        serve(seen, content, fault)
    }

    /// `POST`, then `PATCH`, `GET` and `PUT` of what its Location says.
    fn upload(&mut self, seen: &Seen, name: &str, fault: Option<Fault>) -> Reply {
        if seen.method == "POST" {
            self.uploads.push(Vec::new());
            let number = self.uploads.len() - 1;
            let mut reply = Reply::status(202).header(
                "Location",
                format!("{}{}{number}", self.uploads_at, seen.path()),
            );
            if let Some(bytes) = self.smallest_chunk {
                reply = reply.header("OCI-Chunk-Min-Length", bytes.to_string());
            }
            return reply;
        }
        let number = name
            .parse()
            .ok()
            .filter(|number| *number < self.uploads.len());
        let Some(upload) = number.map(|number: usize| &mut self.uploads[number]) else {
            return Reply::status(404);
        };
        let from = seen
            .header("content-range")
            .and_then(|range| range.split('-').next());
        if from.is_some_and(|from| from != upload.len().to_string()) {
            return Reply::status(416).header("Range", format!("0-{}", upload.len().max(1) - 1));
        }
        if let Some(Fault::Take(bytes)) = fault {
            upload.extend_from_slice(&seen.body[..bytes]);
            return Reply::hang_up();
        }
        upload.extend_from_slice(&seen.body);
        let range = format!("0-{}", upload.len().max(1) - 1);
        let reply = |status| {
            Reply::status(status)
                .header("Location", seen.path())
                .header("Range", range)
        };
        match seen.method.as_str() {
            "PATCH" => reply(202),
            "GET" => reply(204),
            "PUT" => {
                let content = Content::new("", std::mem::take(upload));
                if seen.parameter("digest") != Some(content.digest()) {
                    return Reply::status(400);
                }
                self.by_digest.insert(content.digest(), content);
                reply(201)
            }
            _ => Reply::status(405),
        }
    }

    fn take_manifest(&mut self, seen: &Seen) -> Reply {
        let Some((repository, reference)) = seen.path()["/v2/".len()..].split_once("/manifests/")
        else {
            return Reply::status(405);
        };
        let media_type = seen.header("content-type").unwrap_or_default();
        let content = Content::new(media_type, seen.body.clone());
        let digest = content.digest();
        if !reference.contains(':') {
            self.tags
                .insert(format!("{repository}:{reference}"), digest.clone());
        }
        self.by_digest.insert(digest.clone(), content);
        Reply::status(201).header("Docker-Content-Digest", digest)
    }

    fn next_fault(&mut self, seen: &Seen) -> Option<Fault> {
        let line = seen.line();
        let due = |(pattern, times, _): &&mut (String, usize, Fault)| {
            *times > 0 && line.contains(pattern.as_str())
        };
        let (_, times, fault) = self.faults.iter_mut().find(due)?;
        *times -= 1;
        Some(fault.clone())
    }

    fn find(&self, path: &str) -> Option<Content> {
        let rest = path.strip_prefix("/v2/")?;
        if let Some((_, digest)) = rest.split_once("/blobs/") {
            return self.by_digest.get(digest).cloned();
        }
        let (repository, reference) = rest.split_once("/manifests/")?;
        let digest = self.tags.get(&format!("{repository}:{reference}"));
        let digest = digest.map_or(reference, String::as_str);
        self.by_digest.get(digest).cloned()
    }
}

fn serve(seen: &Seen, content: Content, fault: Option<Fault>) -> Reply {
    let mut digest = content.digest();
    let Content {
        mut media_type,
        mut bytes,
    } = content;
    if seen.path().contains("/blobs/") {
        media_type = "application/octet-stream".to_owned();
    }
    let (mut cut, mut hold, mut ranges) = (None, None, true);
    match fault {
        Some(Fault::Cut(at)) => cut = Some(at),
        Some(Fault::Hold(at)) => hold = Some(at),
        Some(Fault::NoRange) => ranges = false,
        Some(Fault::Bytes(other)) => bytes = other,
        Some(Fault::MediaType(other)) => media_type = other.to_owned(),
        Some(Fault::DigestHeader(other)) => digest = other,
        Some(
            Fault::Status(..) | Fault::Redirect(_) | Fault::HangUp | Fault::Take(_) | Fault::Pass,
        )
        | None => {}
    }
    let total = bytes.len();
    let from = seen.header("range").filter(|_| ranges).and_then(first_byte);
    let reply = match from {
        Some(from) if from >= total => {
            return Reply::status(416).header("Content-Range", format!("bytes */{total}"));
        }
        Some(from) => {
            let range = format!("bytes {from}-{}/{total}", total - 1);
            let rest = bytes.split_off(from);
            Reply {
                status: 206,
                ..Reply::ok(&media_type, rest).header("Content-Range", range)
            }
        }
        None => Reply::ok(&media_type, bytes),
    };
    let reply = reply.header("Docker-Content-Digest", digest);
    Reply { cut, hold, ..reply }
}

/// The start of `bytes=N-`.
fn first_byte(range: &str) -> Option<usize> {
    range
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}
