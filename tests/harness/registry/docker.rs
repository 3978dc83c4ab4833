//! Debian's docker-registry, the peer that everybody has.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::image::{Content, TestImage, write_layout};
use super::tls::Authority;
use super::token::{ISSUER, SERVICE, TokenServer};
use crate::harness::{Cmd, Host, Running, requirements};

/// The account of a registry with basic authentication.
pub(crate) const USER: &str = "me";
pub(crate) const PASSWORD: &str = "s3cret";

/// `me:s3cret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2y$05$Z0HddFCGIHP1mdbfWrE/GezHEogx1Jnlf6oimRwkBGCOVvd3cD6hK\n";

/// How long a registry is needed at most.
const LIFETIME: Duration = Duration::from_secs(900);

/// How the registry is set up.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setup<'a> {
    /// Asks for [`USER`] and [`PASSWORD`].
    pub(crate) basic: bool,
    /// Sends to this token server.
    pub(crate) token: Option<&'a TokenServer>,
    /// Speaks TLS with this authority's certificate.
    pub(crate) tls: Option<&'a Authority>,
    /// Speaks only with who has a certificate of that authority.
    pub(crate) clients_too: bool,
    /// Sends whoever wants a blob to this server: `http://127.0.0.1:1`.
    pub(crate) storage: Option<&'a str>,
    /// Where it runs; none for the real host.
    pub(crate) host: Option<Host>,
}

/// The registry, for as long as this lives.
pub(crate) struct DockerRegistry {
    process: Running,
    address: String,
    is_tls: bool,
    credentials: Option<String>,
    directory: TempDir,
    host: Host,
}

impl DockerRegistry {
    /// A registry that lets in anybody, without TLS.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with(Setup::default())
    }

    /// A registry with accounts or TLS.
    #[track_caller]
    pub(crate) fn with(setup: Setup<'_>) -> Self {
        requirements();
        let directory = tempfile::Builder::new().prefix("mybox-registry-").tempdir();
        let directory = directory.expect("directory");
        let config = directory.path().join("config.yml");
        std::fs::write(&config, setup.config(directory.path())).expect("write the config");
        let host = setup.host.unwrap_or(Host::REAL);
        let command = host.command("docker-registry").arg("serve").arg(&config);
        let process = command.timeout(LIFETIME).spawn();
        const LISTENING: &str = "msg=\"listening on ";
        process.wait_for_stderr(LISTENING);
        let log = process.stderr_so_far();
        let (_, rest) = log.split_once(LISTENING).expect("just seen");
        let address = rest
            .split(['"', ','])
            .next()
            .expect("an address")
            .to_owned();
        let credentials = match (setup.basic, setup.token) {
            (true, _) => Some(format!("{USER}:{PASSWORD}")),
            (false, Some(_)) => Some(format!("{}:{}", super::token::USER, super::token::PASSWORD)),
            (false, None) => None,
        };
        Self {
            process,
            address,
            is_tls: setup.tls.is_some(),
            credentials,
            directory,
            host,
        }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The full name of an image in it.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Has skopeo push an image to it.
    #[track_caller]
    pub(crate) fn push(&self, name: &str, image: &TestImage) {
        let layout = tempfile::tempdir().expect("directory");
        image.write_layout(layout.path(), "it");
        self.push_layout(layout.path(), name);
    }

    /// Has skopeo push an index with all its images.
    #[track_caller]
    pub(crate) fn push_index(&self, name: &str, index: &Content, images: &[TestImage]) {
        let layout = tempfile::tempdir().expect("directory");
        write_layout(layout.path(), index, "it", images);
        self.push_layout(layout.path(), name);
    }

    #[track_caller]
    fn push_layout(&self, layout: &Path, name: &str) {
        let from = format!("oci:{}:it", layout.display());
        let to = format!("docker://{}", self.reference(name));
        self.skopeo(["copy", "--all", "--dest-tls-verify=false"])
            .args(
                self.credentials
                    .iter()
                    .flat_map(|account| ["--dest-creds", account]),
            )
            .args([from, to])
            .run()
            .ok();
    }

    /// `skopeo inspect --raw`: a manifest's bytes.
    #[track_caller]
    pub(crate) fn manifest(&self, name: &str) -> Vec<u8> {
        let inspect = self.skopeo(["inspect", "--raw", "--tls-verify=false"]);
        let inspect = inspect.args(
            self.credentials
                .iter()
                .flat_map(|account| ["--creds", account]),
        );
        let from = format!("docker://{}", self.reference(name));
        inspect.arg(from).run().ok().stdout_bytes
    }

    fn skopeo<const N: usize>(&self, words: [&str; N]) -> Cmd {
        let policy = self.directory.path().join("policy.json");
        let anything = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        std::fs::write(&policy, anything).expect("write skopeo's policy");
        let command = self.host.command("skopeo").arg("--policy").arg(policy);
        command.args(words)
    }

    /// All that it logged until now, its requests among it.
    pub(crate) fn log(&self) -> String {
        self.process.stderr_so_far() + &self.process.stdout_so_far()
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl Setup<'_> {
    fn config(&self, directory: &Path) -> String {
        let mut config = format!(
            "version: 0.1\n\
             log: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n",
            directory.join("data").display()
        );
        let tls = self.tls.map_or(String::new(), |authority| {
            let (certificate, key) = (authority.certificate(), authority.key());
            let clients = match self.clients_too {
                true => format!(", clientcas: [{}]", authority.ca().display()),
                false => String::new(),
            };
            format!(
                ", tls: {{certificate: {}, key: {}{clients}}}",
                certificate.display(),
                key.display()
            )
        });
        config.push_str(&format!(
            "http: {{addr: \"127.0.0.1:0\", secret: tests{tls}}}\n"
        ));
        if let Some(storage) = self.storage {
            config.push_str(&format!(
                "middleware: {{storage: [{{name: redirect, options: {{baseurl: \"{storage}\"}}}}]}}\n"
            ));
        }
        if self.basic {
            let path = directory.join("htpasswd");
            std::fs::write(&path, HTPASSWD).expect("write htpasswd");
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: tests, path: {}}}}}\n",
                path.display()
            ));
        }
        if let Some(token) = self.token {
            config.push_str(&format!(
                "auth: {{token: {{realm: {}, service: {SERVICE}, issuer: \"{ISSUER}\", rootcertbundle: {}}}}}\n",
                token.realm(),
                token.bundle().display(),
            ));
        }
        config
    }
}
