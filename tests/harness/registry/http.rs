//! A small HTTP/1.1 server for tests: a thread a connection, a function that answers, a record of
//! all that was asked.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a test waits for a request at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a body is held at most: for longer than anybody waits for it.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `GET`.
    pub(crate) method: String,
    /// As it was asked for, with the query: `/v2/x/blobs/sha256:..`. A whole URL for a proxy.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// `GET /v2/`: what patterns are matched against.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The path without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The parameters of a query, or of a form.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let form = String::from_utf8_lossy(&self.body);
        let text = if query.is_empty() { &*form } else { query };
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect()
    }

    /// The value of the first parameter of this name.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let found = self
            .parameters()
            .into_iter()
            .find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut letters = text.bytes();
    while let Some(letter) = letters.next() {
        bytes.push(match letter {
            b'+' => b' ',
            b'%' => {
                let digits = [letters.next(), letters.next()].map(Option::unwrap_or_default);
                let digits = String::from_utf8_lossy(&digits).into_owned();
                u8::from_str_radix(&digits, 16).expect("two hex digits")
            }
            letter => letter,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Hangs up after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Sends so many bytes of the body, then nothing until [`Server::release`].
    pub(crate) hold: Option<usize>,
}

impl Reply {
    /// A status without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            hold: None,
        }
    }

    /// 200 with a body of this type.
    pub(crate) fn ok(media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::status(200).header("Content-Type", media_type)
        }
    }

    /// No answer: the connection ends.
    pub(crate) fn hang_up() -> Self {
        Self::status(0)
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A server that lives as long as this.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    stopping: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    released: bool,
    connections: Vec<TcpStream>,
}

impl Shared {
    /// Remembers a request.
    pub(super) fn record(&self, seen: &Seen) {
        self.state().seen.push(seen.clone());
        self.changed.notify_all();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Waits until `ready`, the end of the server or of `limit`; whether it is.
    fn wait_until(&self, limit: Duration, ready: impl Fn(&State) -> bool) -> bool {
        let waiting = |state: &mut State| !ready(state) && !self.stopping.load(Ordering::Relaxed);
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), limit, waiting)
            .expect("no holder panics");
        ready(&state)
    }
}

impl Server {
    /// Serves with `answer` on a free port of 127.0.0.1.
    pub(crate) fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_raw(move |stream, shared| converse(stream, shared, &answer))
    }

    /// Serves connections as `serve` likes.
    pub(super) fn start_raw(serve: impl Fn(&TcpStream, &Shared) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (all, serve) = (Arc::clone(&shared), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if all.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let copy = stream.try_clone().expect("duplicate a socket");
                all.state().connections.push(copy);
                let (shared, serve) = (Arc::clone(&all), Arc::clone(&serve));
                std::thread::spawn(move || {
                    serve(&stream, &shared);
                    // The other side may have hung up first.
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, shared }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Everything that was asked until now.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// The requests whose line contains `pattern`.
    pub(crate) fn requests(&self, pattern: &str) -> Vec<Seen> {
        let matching = |seen: &Seen| seen.line().contains(pattern);
        self.seen().into_iter().filter(matching).collect()
    }

    /// Waits for `count` requests whose line contains `pattern`.
    #[track_caller]
    pub(crate) fn wait_for(&self, pattern: &str, count: usize) {
        let matching = |seen: &&Seen| seen.line().contains(pattern);
        let enough = |state: &State| state.seen.iter().filter(matching).count() >= count;
        assert!(
            self.shared.wait_until(PATIENCE, enough),
            "fewer than {count} requests {pattern:?} came: {:#?}",
            self.seen().iter().map(Seen::line).collect::<Vec<_>>(),
        );
    }

    /// Lets all bodies go on that are held.
    pub(crate) fn release(&self) {
        self.shared.state().released = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        for connection in &self.shared.state().connections {
            // Most have ended by themselves.
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the listener up, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers the requests of a connection, until it ends or is not HTTP.
fn converse(stream: &TcpStream, shared: &Shared, answer: &impl Fn(&Seen) -> Reply) {
    let mut reader = BufReader::new(stream);
    // The first byte of TLS. Servers tend to answer it in their own language.
    if reader
        .fill_buf()
        .is_ok_and(|bytes| bytes.first() == Some(&22))
    {
        let mut stream = stream;
        // Who spoke TLS may have seen enough.
        let _ = stream.write_all(b"HTTP/1.0 400 This is HTTP\r\n\r\n");
        return;
    }
    while let Some(seen) = read_request(&mut reader) {
        shared.record(&seen);
        let is_last = seen.header("connection") == Some("close");
        let reply = answer(&seen);
        let reply = if is_last {
            reply.header("Connection", "close")
        } else {
            reply
        };
        if write_reply(stream, shared, &seen, reply).is_err() || is_last {
            return;
        }
    }
}

/// The next request; none at the end, or if what comes is something else, such as TLS.
pub(super) fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let line = read_line(reader)?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if !version.starts_with("HTTP/1.") {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let body = read_body(reader, &headers)?;
    Some(Seen {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body,
    })
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let read = reader.take(64 << 10).read_until(b'\n', &mut line).ok()?;
    let text = String::from_utf8(line).ok()?;
    (read > 0).then(|| text.trim_end().to_owned())
}

fn read_body(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    if headers
        .get("transfer-encoding")
        .is_some_and(|coding| coding.contains("chunked"))
    {
        return read_chunks(reader);
    }
    let length: usize = headers
        .get("content-length")
        .map_or(Some(0), |text| text.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(&read_line(reader)?, 16).ok()?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        read_line(reader)?;
        if size == 0 {
            return Some(body);
        }
    }
}

fn write_reply(
    mut stream: &TcpStream,
    shared: &Shared,
    seen: &Seen,
    reply: Reply,
) -> io::Result<()> {
    if reply.status == 0 {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let has_length = reply
        .headers
        .iter()
        .any(|(name, _)| name == "Content-Length");
    if !has_length && reply.status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if seen.method == "HEAD" {
        return Ok(());
    }
    let body = &reply.body;
    if let Some(at) = reply.hold.filter(|at| *at < body.len()) {
        stream.write_all(&body[..at])?;
        if !shared.wait_until(LONGEST_HOLD, |state| state.released) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        return stream.write_all(&body[at..]);
    }
    if let Some(at) = reply.cut.filter(|at| *at < body.len()) {
        stream.write_all(&body[..at])?;
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    stream.write_all(body)
}
