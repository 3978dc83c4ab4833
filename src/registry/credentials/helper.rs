//! Credential helpers: programs `docker-credential-NAME`, each with the actions get, store and
//! erase; words and JSON on standard input and output (docker-credential-helpers' protocol).

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Credential;
use crate::registry::error::{Error, Result};

/// How long a helper may take: it may ask the user for a passphrase.
const TIME: Duration = Duration::from_secs(120);

/// How much it may say.
const MOST_OUTPUT: u64 = 1 << 20;

/// In place of a user's name: the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    #[serde(rename = "ServerURL", default, skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    username: String,
    secret: String,
}

/// The credentials that a helper has for a server.
pub(super) fn get(program: &str, server: &str) -> Result<Option<Credential>> {
    let call = Call {
        program,
        action: "get",
        server,
    };
    let output = call.run(server.as_bytes())?;
    if !output.success {
        if is_not_found(&output.text) {
            return Ok(None);
        }
        return Err(call.error(output.text));
    }
    let secret: Secret = serde_json::from_str(&output.text)
        .map_err(|error| call.error(format!("it did not answer in JSON: {error}")))?;
    if secret.secret.is_empty() {
        return Ok(None);
    }
    let (user, secret) = (secret.username, secret.secret);
    Ok(Some(match user.as_str() {
        TOKEN_USER => Credential::Identity {
            user: None,
            token: secret,
        },
        _ => Credential::Password {
            user,
            password: secret,
        },
    }))
}

/// Gives a helper credentials to keep.
pub(super) fn store(program: &str, server: &str, credential: &Credential) -> Result<()> {
    let call = Call {
        program,
        action: "store",
        server,
    };
    let (username, secret) = match credential {
        Credential::Password { user, password } => (user.clone(), password.clone()),
        Credential::Identity { token, .. } | Credential::Bearer { token } => {
            (TOKEN_USER.to_owned(), token.clone())
        }
    };
    let secret = Secret {
        server: Some(server.to_owned()),
        username,
        secret,
    };
    let input = serde_json::to_vec(&secret).map_err(|error| call.error(error.to_string()))?;
    let output = call.run(&input)?;
    if output.success {
        Ok(())
    } else {
        Err(call.error(output.text))
    }
}

/// Has a helper forget a server; whether it knew it.
pub(super) fn erase(program: &str, server: &str) -> Result<bool> {
    if get(program, server)?.is_none() {
        return Ok(false);
    }
    let call = Call {
        program,
        action: "erase",
        server,
    };
    let output = call.run(server.as_bytes())?;
    if output.success {
        Ok(true)
    } else {
        Err(call.error(output.text))
    }
}

/// The words that say it, by the protocol.
fn is_not_found(text: &str) -> bool {
    text.trim()
        .ends_with("credentials not found in native keychain")
}

/// What a helper is called for.
struct Call<'a> {
    program: &'a str,
    action: &'static str,
    server: &'a str,
}

struct Output {
    success: bool,
    text: String,
}

impl Call<'_> {
    fn error(&self, reason: impl Into<String>) -> Error {
        Error::Helper {
            program: self.program.to_owned(),
            action: self.action,
            registry: super::file::normal(self.server),
            reason: reason.into().trim().to_owned(),
        }
    }

    fn run(&self, input: &[u8]) -> Result<Output> {
        // The name is a word of a file: it must not become a path.
        if Path::new(self.program).components().count() != 1 || self.program.contains('/') {
            return Err(self.error("the helper's name is a path"));
        }
        let mut child = Command::new(format!("docker-credential-{}", self.program))
            .arg(self.action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| self.error(format!("cannot start it: {error}")))?;
        let answer = converse(&mut child, input);
        if answer.is_err() {
            // It has ended already, or shall.
            let _ = child.kill();
        }
        let status = child
            .wait()
            .map_err(|error| self.error(error.to_string()))?;
        let text = answer.map_err(|error| self.error(error.to_string()))?;
        Ok(Output {
            success: status.success(),
            text,
        })
    }
}

/// Says `input`, and listens until the helper has ended.
fn converse(child: &mut Child, input: &[u8]) -> io::Result<String> {
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (send, answer) = std::sync::mpsc::channel();
    let deadline = Instant::now() + TIME;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A helper that ends without listening says why in its answer.
            let _ = stdin.as_mut().map(|stdin| stdin.write_all(input));
            drop(stdin.take());
        });
        // Not scoped: it ends with the helper's output, which a stray child of the helper may hold
        // open for longer than anybody waits.
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = stdout.map(|stdout| stdout.take(MOST_OUTPUT).read_to_string(&mut text));
            // Nobody listens any more if it was too late.
            let _ = send.send(read.transpose().map(|_| text));
        });
        let left = deadline.saturating_duration_since(Instant::now());
        let heard = answer.recv_timeout(left);
        if heard.is_err() {
            // Ends the writer, too.
            child.kill()?;
        }
        heard.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time"))?
    })
}
