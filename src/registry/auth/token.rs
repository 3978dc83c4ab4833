//! Token servers: access tokens for a scope, of a password, of an identity token, or for nobody.

use std::time::{Duration, Instant};

use reqwest::blocking::Response;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::{basic, bearer};
use crate::registry::answer;
use crate::registry::credentials::Credential;
use crate::registry::endpoint::{Endpoint, shown};
use crate::registry::error::{Account, Error, Result};
use crate::registry::patience::asked_wait;
use crate::registry::transport::{Body, Request, Transport};

/// How long a token lasts that does not say it.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// A token is renewed so long before it runs out, so that it does not do so on its way.
const MARGIN: Duration = Duration::from_secs(10);

/// Who mybox is to token servers.
const CLIENT_ID: &str = "mybox";

/// What a token is for, and who makes it: the three words of the challenge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    pub(crate) realm: String,
    pub(crate) service: String,
    pub(crate) scope: String,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// An access token.
    Access,
    /// With it an identity token, which is good for later.
    Offline,
}

/// An access token.
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) identity: Option<String>,
    renewal: Instant,
}

impl Token {
    /// Whether it will be good for some time yet.
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.renewal
    }
}

/// Where a token comes from.
pub(super) struct TokenServer<'a> {
    pub(super) transport: &'a Transport,
    pub(super) endpoint: &'a Endpoint,
    pub(super) key: &'a TokenKey,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

impl TokenServer<'_> {
    /// Fetches a token.
    pub(super) fn fetch(&self, credential: Option<&Credential>, grant: Grant) -> Result<Token> {
        let asked = Instant::now();
        let request = self.request(credential, grant)?;
        tracing::info!(
            "token for {:?} from {}",
            self.key.scope,
            shown(&request.url)
        );
        let response = self.transport.send(self.endpoint, &request)?;
        let status = response.status();
        if !status.is_success() {
            let account = credential.map_or(Account::Anonymous, Credential::account);
            return Err(self.refusal(&request, account, response));
        }
        let body = answer::body(self.registry(), &request, response)?;
        let bad = |reason: String| Error::BadAnswer {
            registry: self.registry().to_owned(),
            request: request.shown(),
            reason,
        };
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
        let given = |token: Option<String>| token.filter(|token| !token.is_empty());
        let token = given(answer.token).or(given(answer.access_token));
        let token = token.ok_or_else(|| bad("there is no token in it".to_owned()))?;
        let life = answer
            .expires_in
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs);
        let life = life.unwrap_or(DEFAULT_LIFE);
        Ok(Token {
            header: bearer(self.registry(), &token)?,
            identity: given(answer.refresh_token),
            // A life that ends beyond the clock's is one hour.
            renewal: asked
                .checked_add(life - MARGIN.min(life / 4))
                .unwrap_or(asked + Duration::from_secs(3600)),
        })
    }

    fn registry(&self) -> &str {
        &self.endpoint.host
    }

    fn request(&self, credential: Option<&Credential>, grant: Grant) -> Result<Request> {
        let realm = self.realm()?;
        if let Some(Credential::Identity { token, .. }) = credential {
            return Ok(self.refresh(realm, token));
        }
        let mut url = realm;
        let mut query = url.query_pairs_mut();
        if !self.key.service.is_empty() {
            query.append_pair("service", &self.key.service);
        }
        for scope in self.key.scope.split(' ').filter(|scope| !scope.is_empty()) {
            query.append_pair("scope", scope);
        }
        if grant == Grant::Offline {
            query
                .append_pair("client_id", CLIENT_ID)
                .append_pair("offline_token", "true");
        }
        let mut authorization = None;
        if let Some(Credential::Password { user, password }) = credential {
            query.append_pair("account", user);
            authorization = Some(basic(self.registry(), user, password)?);
        }
        drop(query);
        let mut request = Request::new(Method::GET, url);
        request.authorization = authorization;
        Ok(request)
    }

    /// The OAuth 2 way, for identity tokens.
    fn refresh(&self, realm: Url, token: &str) -> Request {
        let mut form = Url::parse("form:").expect("a URL");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", &self.key.service)
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &self.key.scope)
            .append_pair("refresh_token", token);
        let body = form.query().unwrap_or_default().as_bytes().to_vec();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let mut request = Request::new(Method::POST, realm).header(CONTENT_TYPE, form_type);
        request.body = Body::Secret(body);
        request
    }

    /// The token server's URL, which the registry names. It gets passwords: it may not be one that
    /// the whole network could listen to.
    fn realm(&self) -> Result<Url> {
        let bad = |reason: &str| Error::BadAnswer {
            registry: self.registry().to_owned(),
            request: format!("a request without token, realm {:?}", self.key.realm),
            reason: reason.to_owned(),
        };
        let url = Url::parse(&self.key.realm).map_err(|_| bad("that is no URL"))?;
        if !self.endpoint.may_go_to(&url) {
            return Err(bad("that is not encrypted"));
        }
        Ok(url)
    }

    fn refusal(&self, request: &Request, account: Account, response: Response) -> Error {
        let registry = self.registry().to_owned();
        let (status, retry_after) = (response.status(), asked_wait(&response));
        let said = answer::said(response);
        // An identity token that is no good any more is a bad request (RFC 6749, section 5.2).
        let denies = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
            StatusCode::BAD_REQUEST => request.method == Method::POST,
            _ => false,
        };
        if denies {
            let repository = self.key.scope.split(':').nth(1);
            let object = repository.unwrap_or("its images").to_owned();
            return Error::Denied {
                registry,
                object,
                account,
                said,
            };
        }
        Error::Status {
            registry,
            status,
            retry_after,
            request: request.shown(),
            said,
        }
    }
}
