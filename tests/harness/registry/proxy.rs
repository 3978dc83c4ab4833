//! A forward proxy, as companies have one: plain requests with whole URLs, and CONNECT. Whatever
//! host is asked for, it sends to one address, so that tests can use names that do not exist.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpStream};

use super::http::{Seen, Server, read_request};

/// The proxy, for as long as this lives.
pub(crate) struct Proxy(Server);

impl Proxy {
    /// A proxy that sends everything to `upstream`.
    pub(crate) fn to(upstream: &str) -> Self {
        let upstream = upstream.to_owned();
        Self(Server::start_raw(move |stream, shared| {
            // Whoever hangs up first ends it.
            let _ = forward(stream, &upstream, |seen| shared.record(seen));
        }))
    }

    /// Its URL, for `HTTPS_PROXY`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address())
    }

    /// What it was asked for.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen()
    }
}

fn forward(client: &TcpStream, upstream: &str, record: impl Fn(&Seen)) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let Some(seen) = read_request(&mut reader) else {
        return Ok(());
    };
    record(&seen);
    let server = TcpStream::connect(upstream)?;
    if seen.method == "CONNECT" {
        (&mut &*client).write_all(b"HTTP/1.1 200 Established\r\n\r\n")?;
    } else {
        (&mut &server).write_all(in_origin_form(&seen).as_bytes())?;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut reader, &mut &server);
            let _ = server.shutdown(Shutdown::Write);
        });
        let copied = io::copy(&mut &server, &mut &*client);
        client.shutdown(Shutdown::Both)?;
        copied.map(|_| ())
    })
}

/// The request as the server behind the proxy expects it, without its body, of which reads have
/// none. One a connection: the next one could be for another host.
fn in_origin_form(seen: &Seen) -> String {
    let after_scheme = seen.target.split_once("://").map_or("", |(_, rest)| rest);
    let path = after_scheme.find('/').map_or("/", |at| &after_scheme[at..]);
    let mut text = format!("{} {path} HTTP/1.1\r\n", seen.method);
    for (name, value) in seen
        .headers
        .iter()
        .filter(|(name, _)| *name != "connection")
    {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "connection: close\r\n\r\n"
}
