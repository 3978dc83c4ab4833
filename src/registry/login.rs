//! `mybox login` and `logout`: credentials prove themselves before they are stored.

use std::path::PathBuf;

use reqwest::blocking::Response;
use reqwest::{Method, StatusCode};

use super::answer;
use super::auth::{Access, Scope};
use super::client::Client;
use super::credentials::Credential;
use super::error::{Error, Result};
use super::patience::asked_wait;
use super::transport::{Request, joined};

impl Client {
    /// Tries the credentials at the registry and stores them if they are good; where they are
    /// stored. What is stored is an identity token if the registry gives one, else the password.
    pub fn login(&self, host: &str, credential: &Credential) -> Result<PathBuf> {
        let scope = Scope {
            endpoint: self.endpoint(host),
            repository: String::new(),
            access: Access::Check,
        };
        let base = self.transport.base(&scope.endpoint)?;
        let ping = Request::new(Method::GET, joined(&base, "v2/"));
        let identity = match self.transport.send(&scope.endpoint, &ping)? {
            response if response.status() == StatusCode::UNAUTHORIZED => {
                self.prove(&scope, &ping, &response, credential)?
            }
            // One that lets in anybody.
            response => {
                accept(host, &ping, credential, response)?;
                None
            }
        };
        let stored = match identity {
            Some(token) => Credential::Identity {
                user: credential.user(),
                token,
            },
            None => credential.clone(),
        };
        self.auth.keyring().store(host, &stored)
    }

    fn prove(
        &self,
        scope: &Scope,
        ping: &Request,
        challenge: &Response,
        credential: &Credential,
    ) -> Result<Option<String>> {
        let (proof, identity) =
            self.auth
                .try_credential(&self.transport, scope, challenge, credential)?;
        let mut ping = ping.clone();
        ping.authorization = proof.header;
        let response = self.transport.send(&scope.endpoint, &ping)?;
        accept(&scope.endpoint.host, &ping, credential, response)?;
        Ok(identity)
    }

    /// Forgets a registry's credentials; whether there were any.
    pub fn logout(&self, host: &str) -> Result<bool> {
        self.auth.keyring().remove(host)
    }

    /// The file, not Docker's, that has credentials for the registry all the same.
    pub fn remaining_credentials(&self, host: &str) -> Result<Option<PathBuf>> {
        self.auth.keyring().remaining(host)
    }
}

fn accept(host: &str, ping: &Request, credential: &Credential, response: Response) -> Result<()> {
    let registry = host.to_owned();
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let retry_after = asked_wait(&response);
    let said = answer::said(response);
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied {
            registry,
            object: "its images".to_owned(),
            account: credential.account(),
            said,
        },
        StatusCode::NOT_FOUND => Error::NotFound {
            registry,
            object: "registry API at /v2/".to_owned(),
            said,
        },
        _ => Error::Status {
            registry,
            status,
            retry_after,
            request: ping.shown(),
            said,
        },
    })
}
