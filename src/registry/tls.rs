//! Whom to believe: the system's certificate authorities, those of `--tls-ca`, and those that
//! Docker and Podman keep for one registry.
//!
//! ```text
//! /etc/docker/certs.d/HOST[:PORT]/*.crt            certificate authorities
//!                                 NAME.cert .key   what mybox shows of itself
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::error::{Error, Result};

/// Certificates for one registry, beside the system's.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    authorities: Vec<CertificateDer<'static>>,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Certificates {
    /// Adds the certificates of a PEM file.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<()> {
        self.authorities.extend(certificates(path)?);
        Ok(())
    }

    /// Adds what lies in a directory of `certs.d`, which need not be there.
    pub(super) fn add_directory(&mut self, directory: &Path) -> Result<()> {
        for path in files(directory)? {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.add_file(&path)?,
                Some("cert") if self.own.is_none() => {
                    let key = path.with_extension("key");
                    self.own = Some((certificates(&path)?, private_key(&key)?));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Only those that show who mybox is are left out: no other host than the registry gets them.
    pub(super) fn for_another_host(self) -> Self {
        Self { own: None, ..self }
    }

    /// What TLS needs to know.
    pub(super) fn configure(self, insecure: bool) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(&provider, self.authorities, insecure)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match self.own {
            Some((chain, key)) => config
                .with_client_auth_cert(chain, key)
                .map_err(|error| error.to_string()),
            None => Ok(config.with_no_client_auth()),
        }
    }
}

fn verifier(
    provider: &Arc<CryptoProvider>,
    named: Vec<CertificateDer<'static>>,
    insecure: bool,
) -> Result<Arc<Verifier>, String> {
    let mut roots = system_roots().clone();
    for certificate in &named {
        let added = roots.add(certificate.clone());
        added.map_err(|error| format!("a certificate authority: {error}"))?;
    }
    let trust = if insecure {
        Trust::All
    } else if roots.is_empty() {
        Trust::None
    } else {
        let roots = Arc::new(roots);
        let usual = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
        let usual = usual.build().map_err(|error| error.to_string())?;
        Trust::Signed { usual, named }
    };
    Ok(Arc::new(Verifier {
        provider: Arc::clone(provider),
        trust,
    }))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", directory)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(Error::file("read", directory))?.path());
    }
    files.sort();
    Ok(files)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path).map_err(Error::file("read", path))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let bad = |reason: String| Error::BadConfig {
        path: path.to_owned(),
        reason,
    };
    let certificates = certificates.map_err(|error| bad(error.to_string()))?;
    if certificates.is_empty() {
        return Err(bad("holds no certificate in PEM form".to_owned()));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let pem = fs::read(path).map_err(Error::file("read", path))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| Error::BadConfig {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The system's certificate authorities, read once. Single files that cannot be read are left out,
/// as every program does: what they would have vouched for is not trusted.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::info!("the system's certificates: {error}");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

/// Decides whether a server's certificate is good.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    trust: Trust,
}

/// Which certificates are good.
#[derive(Debug)]
enum Trust {
    /// Any, as `--insecure` asks for.
    All,
    /// None: there are no authorities to believe.
    None,
    /// Those that an authority has signed, and one case more: a registry's very own certificate that
    /// was put among the authorities, as `openssl req -x509` makes it. Since that one calls itself
    /// an authority, the usual verification refuses it as a server's; Docker takes it.
    Signed {
        usual: Arc<WebPkiServerVerifier>,
        named: Vec<CertificateDer<'static>>,
    },
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (usual, named) = match &self.trust {
            Trust::All => return Ok(ServerCertVerified::assertion()),
            Trust::None => return Err(CertificateError::UnknownIssuer.into()),
            Trust::Signed { usual, named } => (usual, named),
        };
        let answer =
            usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        // What has run out is answered with another kind of error.
        let is_authority = matches!(
            &answer,
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(error)))
                if error.0.to_string().contains("CaUsedAsEndEntity")
        );
        if is_authority && named.iter().any(|named| named == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        answer
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
