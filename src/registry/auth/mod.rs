//! How a registry is convinced: what it demands, the credentials for it, and the tokens that its
//! token server makes of them (distribution spec, "token authentication").
//!
//! ```text
//! mybox                        registry                       token server
//!   │ GET /v2/x/manifests/y       │                                │
//!   ├────────────────────────────▶│                                │
//!   │ 401 Bearer realm,service,scope                               │
//!   │◀────────────────────────────┤                                │
//!   │ GET realm?service&scope     (Basic user:password, or nothing)│
//!   ├─────────────────────────────────────────────────────────────▶│   or POST refresh_token
//!   │                                             token, expires_in│
//!   │◀─────────────────────────────────────────────────────────────┤
//!   │ GET /v2/x/manifests/y  Bearer token                          │
//!   ├────────────────────────────▶│
//! ```
//!
//! What a registry demanded once is remembered, so that later requests bring their token at once;
//! when a token runs out, in the middle of a pull, the next 401 or the clock renews it.

pub(super) mod challenge;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::Response;
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};

use self::challenge::Challenge;
pub(super) use self::token::TokenKey;
use self::token::{Grant, Token, TokenServer};
use super::credentials::{Credential, Keyring};
use super::endpoint::Endpoint;
use super::error::{Account, Error, Result};
use super::transport::{Transport, locked};

/// What a request is for: the repository (none for `/v2/`), and what is to be done with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) endpoint: Endpoint,
    pub(super) repository: String,
    pub(super) access: Access,
}

/// What is to be done with a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    /// Read it.
    Pull,
    /// Read it and write to it.
    Push,
    /// The same, with blobs of another repository.
    PushFrom(String),
    /// Just `/v2/`: is this account known?
    Check,
}

impl Scope {
    /// What to ask a token server for, where that is known better than the registry does: its first
    /// answer may be to a question whether something is there, which needs less than what follows.
    fn in_words(&self) -> Option<String> {
        let own = format!("repository:{}:pull,push", self.repository);
        match &self.access {
            Access::Pull | Access::Check => None,
            Access::Push => Some(own),
            Access::PushFrom(other) => Some(format!("{own} repository:{other}:pull")),
        }
    }
}

/// What goes into `Authorization`, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) header: Option<HeaderValue>,
    pub(super) account: Account,
}

/// What a registry demands for a scope.
#[derive(Clone, Debug)]
enum Demand {
    Basic,
    Bearer(TokenKey),
}

/// A token, or none yet. Whoever holds the lock fetches it; the others wait and find it.
type Slot = Arc<Mutex<Option<Token>>>;

/// Knows what registries demand, and has the answers.
pub(super) struct Authenticator {
    keyring: Keyring,
    demands: Mutex<HashMap<Scope, Demand>>,
    /// By registry, too: one that names another's token server gets no token of the other's.
    tokens: Mutex<HashMap<(Endpoint, TokenKey), Slot>>,
}

impl Authenticator {
    pub(super) fn new(keyring: Keyring) -> Self {
        Self {
            keyring,
            demands: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// Where the credentials lie.
    pub(super) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// What to bring to a request, as far as the registry's demand is known.
    pub(super) fn proof(&self, transport: &Transport, scope: &Scope) -> Result<Proof> {
        let demand = locked(&self.demands).get(scope).cloned();
        match demand {
            Some(demand) => self.satisfy(transport, scope, &demand, None),
            None => Ok(Proof {
                header: None,
                account: Account::Anonymous,
            }),
        }
    }

    /// What to bring instead of `rejected`, which the registry answered with 401.
    pub(super) fn another_proof(
        &self,
        transport: &Transport,
        scope: &Scope,
        response: &Response,
        rejected: &Proof,
    ) -> Result<Proof> {
        let demand = demand(scope, response)?;
        locked(&self.demands).insert(scope.clone(), demand.clone());
        self.satisfy(transport, scope, &demand, rejected.header.as_ref())
    }

    fn satisfy(
        &self,
        transport: &Transport,
        scope: &Scope,
        demand: &Demand,
        rejected: Option<&HeaderValue>,
    ) -> Result<Proof> {
        let host = &scope.endpoint.host;
        let credential = self.keyring.find(host, &scope.repository)?;
        let account = credential
            .as_ref()
            .map_or(Account::Anonymous, Credential::account);
        let header = match (demand, &credential) {
            (_, Some(Credential::Bearer { token })) => Some(bearer(host, token)?),
            (Demand::Basic, Some(Credential::Password { user, password })) => {
                Some(basic(host, user, password)?)
            }
            (Demand::Basic, _) => None,
            (Demand::Bearer(key), credential) => {
                let server = TokenServer {
                    transport,
                    endpoint: &scope.endpoint,
                    key,
                };
                Some(self.token(&server, credential.as_ref(), rejected)?)
            }
        };
        Ok(Proof { header, account })
    }

    /// A token that has not run out and was not rejected. One request, however many threads ask.
    fn token(
        &self,
        server: &TokenServer<'_>,
        credential: Option<&Credential>,
        rejected: Option<&HeaderValue>,
    ) -> Result<HeaderValue> {
        let key = (server.endpoint.clone(), server.key.clone());
        let slot = Arc::clone(locked(&self.tokens).entry(key).or_default());
        let mut slot = locked(&slot);
        if let Some(token) = slot.as_ref().filter(|token| token.is_fresh())
            && rejected != Some(&token.header)
        {
            return Ok(token.header.clone());
        }
        let token = server.fetch(credential, Grant::Access)?;
        let header = token.header.clone();
        *slot = Some(token);
        Ok(header)
    }

    /// Lets credentials prove themselves at `/v2/`; the identity token, if the token server gives
    /// one for them.
    pub(super) fn try_credential(
        &self,
        transport: &Transport,
        scope: &Scope,
        response: &Response,
        credential: &Credential,
    ) -> Result<(Proof, Option<String>)> {
        let host = &scope.endpoint.host;
        let account = credential.account();
        let (header, identity) = match (demand(scope, response)?, credential) {
            (Demand::Basic, Credential::Password { user, password }) => {
                (basic(host, user, password)?, None)
            }
            (Demand::Bearer(key), _) => {
                let server = TokenServer {
                    transport,
                    endpoint: &scope.endpoint,
                    key: &key,
                };
                let token = server.fetch(Some(credential), Grant::Offline)?;
                (token.header, token.identity)
            }
            (Demand::Basic, _) => {
                return Err(Error::UnknownScheme {
                    registry: host.clone(),
                    scheme: "basic authentication knows no tokens".to_owned(),
                });
            }
        };
        let header = Some(header);
        Ok((Proof { header, account }, identity))
    }
}

/// The one of a response's challenges that can be met: bearer before basic.
fn demand(scope: &Scope, response: &Response) -> Result<Demand> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE);
    let texts: Vec<&str> = headers
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let challenges: Vec<Challenge> = texts
        .iter()
        .flat_map(|text| challenge::parse(text))
        .collect();
    let find = |scheme: &str| {
        challenges
            .iter()
            .find(|challenge| challenge.scheme == scheme)
    };
    if let Some(bearer) = find("bearer")
        && let Some(realm) = bearer.parameter("realm")
    {
        let parameter = |name: &str| bearer.parameter(name).unwrap_or_default().to_owned();
        return Ok(Demand::Bearer(TokenKey {
            realm: realm.to_owned(),
            service: parameter("service"),
            scope: scope.in_words().unwrap_or_else(|| parameter("scope")),
        }));
    }
    if find("basic").is_some() {
        return Ok(Demand::Basic);
    }
    Err(Error::UnknownScheme {
        registry: scope.endpoint.host.clone(),
        scheme: match texts.join(", ") {
            none if none.is_empty() => "its answer names none (no WWW-Authenticate)".to_owned(),
            schemes => schemes,
        },
    })
}

fn basic(registry: &str, user: &str, password: &str) -> Result<HeaderValue> {
    header(
        registry,
        &format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
    )
}

fn bearer(registry: &str, token: &str) -> Result<HeaderValue> {
    header(registry, &format!("Bearer {token}"))
}

fn header(registry: &str, text: &str) -> Result<HeaderValue> {
    let mut header = HeaderValue::from_str(text).map_err(|_| Error::BadAnswer {
        registry: registry.to_owned(),
        request: "a token".to_owned(),
        reason: "it holds control characters".to_owned(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}
