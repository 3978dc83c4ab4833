//! What can go wrong between here and a registry, as kinds. Each names the registry, and what was
//! asked of it; hints are made of the kinds in `src/error.rs`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use mybox_store::Digest;
use reqwest::StatusCode;

/// The result of everything that asks a registry.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on one of the configuration's files failed.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// A file of the configuration that says something that cannot be.
    #[error("{}: {reason}", path.display())]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// The name of an image that is none.
    #[error(transparent)]
    Name(#[from] mybox_store::Error),
    /// `registries.conf` forbids this registry.
    #[error("{name}: registries.conf blocks {prefix}")]
    Blocked {
        /// The image.
        name: String,
        /// The prefix that is blocked.
        prefix: String,
    },
    /// A credential helper did not do what it is there for.
    #[error("docker-credential-{program} {action} for {registry}: {reason}")]
    Helper {
        /// The helper's name, as `credHelpers` has it.
        program: String,
        /// get, store, erase.
        action: &'static str,
        /// The registry.
        registry: String,
        /// What it said, or why it could not.
        reason: String,
    },
    /// No connection, or one that broke before an answer came.
    #[error("cannot reach {registry}")]
    Unreachable {
        /// The registry, or the host that it sends to.
        registry: String,
        /// Whether there never was a connection.
        connecting: bool,
        /// What broke.
        source: io::Error,
    },
    /// The registry's certificate is signed by nobody that is trusted here, or is not for it.
    #[error("the certificate of {registry} is not trusted: {reason}")]
    Untrusted {
        /// The registry, or the host that it sends to.
        registry: String,
        /// What is wrong with the certificate.
        reason: String,
        /// Whether a certificate authority of its own would help.
        unknown_ca: bool,
    },
    /// What answers on the registry's port does not speak TLS.
    #[error("{registry} does not speak HTTPS")]
    NotTls {
        /// The registry.
        registry: String,
    },
    /// Who asks may not have it.
    #[error("{registry} refuses access to {object} {account}{}", colon(said))]
    Denied {
        /// The registry, as `mybox login` takes it.
        registry: String,
        /// What was asked for.
        object: String,
        /// Who asked.
        account: Account,
        /// What the registry or its token server said to it.
        said: Option<String>,
    },
    /// The registry wants to be convinced in a way that nobody here knows.
    #[error("{registry} asks for an authentication that mybox does not know: {scheme}")]
    UnknownScheme {
        /// The registry.
        registry: String,
        /// Its `WWW-Authenticate`, or that it has none.
        scheme: String,
    },
    /// There is no such thing.
    #[error("{registry} has no {object}{}", colon(said))]
    NotFound {
        /// The registry.
        registry: String,
        /// What was asked for.
        object: String,
        /// What the registry said to it.
        said: Option<String>,
    },
    /// An answer that is neither what was asked for nor one of the above.
    #[error("{registry} answers {status} to {request}{}", colon(said))]
    Status {
        /// The registry, or the host that it sends to.
        registry: String,
        /// The status.
        status: StatusCode,
        /// When the registry wants to be asked again.
        retry_after: Option<Duration>,
        /// Method and object.
        request: String,
        /// What the registry said to it.
        said: Option<String>,
    },
    /// Too many requests, for longer than anybody wants to wait.
    #[error("{registry} asks to try again in {} seconds", wait.as_secs())]
    Busy {
        /// The registry.
        registry: String,
        /// How long it wants to be left alone.
        wait: Duration,
    },
    /// A redirect that must not be followed.
    #[error("{registry} redirects to {target}: {reason}")]
    BadRedirect {
        /// Who sends away.
        registry: String,
        /// Where to, without what could be secret in it.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// An answer that makes no sense.
    #[error("bad answer of {registry} to {request}: {reason}")]
    BadAnswer {
        /// The registry.
        registry: String,
        /// Method and object.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was to be sent cannot be read.
    #[error("cannot read what is to be sent")]
    Content(#[source] io::Error),
    /// Content that is not what its digest says.
    #[error("{registry} lies: {object} has digest {actual}, not {expected}")]
    WrongDigest {
        /// The registry.
        registry: String,
        /// What was asked for.
        object: String,
        /// What was asked for, or announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
}

impl Error {
    pub(super) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }
}

/// In whose name a registry is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// In nobody's.
    Anonymous,
    /// In the name of this user.
    User(String),
    /// With a token that tells no name.
    Token,
}

impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => formatter.write_str("anonymously"),
            Self::User(name) => write!(formatter, "as {name}"),
            Self::Token => formatter.write_str("with the stored token"),
        }
    }
}

fn colon(said: &Option<String>) -> String {
    said.as_ref()
        .map(|said| format!(": {said}"))
        .unwrap_or_default()
}
