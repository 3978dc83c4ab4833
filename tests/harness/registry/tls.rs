//! A certificate authority of the test's own.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// What servers here are called.
pub(crate) const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "registry.test"];

/// An authority, and a server's certificate for this machine that it signed. The files go with it.
pub(crate) struct Authority {
    directory: TempDir,
}

impl Authority {
    /// A new one, with new keys.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params
            .distinguished_name
            .push(DnType::CommonName, "mybox's tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("sign itself");
        let key = KeyPair::generate().expect("a key");
        let server = server_params(&NAMES)
            .signed_by(&key, &authority)
            .expect("sign a certificate");
        let authority_pem = authority.pem();
        let client_key = KeyPair::generate().expect("a key");
        let client = CertificateParams::new(Vec::new()).expect("no names");
        let client = client
            .signed_by(&client_key, &authority)
            .expect("sign a certificate");
        let this = Self { directory };
        this.write("ca.crt", &authority_pem);
        this.write("server.crt", &server.pem());
        this.write("server.key", &key.serialize_pem());
        this.write("client.cert", &client.pem());
        this.write("client.key", &client_key.serialize_pem());
        this
    }

    /// No authority at all: a server's certificate that signed itself, and calls itself an
    /// authority, as `openssl req -x509` makes it, for these names.
    pub(crate) fn self_signed_server(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = server_params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("sign itself").pem();
        let this = Self {
            directory: tempfile::tempdir().expect("directory"),
        };
        this.write("ca.crt", &pem);
        this.write("server.crt", &pem);
        this.write("server.key", &key.serialize_pem());
        this
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// The server's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("server.crt")
    }

    /// The server's key.
    pub(crate) fn key(&self) -> PathBuf {
        self.path("server.key")
    }

    /// The directory with `ca.crt`, `client.cert` and `client.key`, as in `certs.d`; and the
    /// server's, which are of no use there.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(Path::new(&self.path(name)), text).expect("write a certificate");
    }
}

fn server_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params
        .distinguished_name
        .push(DnType::CommonName, "a registry for tests");
    params
}
