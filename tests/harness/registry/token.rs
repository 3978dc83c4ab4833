//! A token server, as Docker Hub has one: JSON web tokens for docker-registry (signed with a key
//! whose certificate the registry knows), or for [`super::FakeRegistry`], which asks whether they
//! are good.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Reply, Seen, Server};

/// Who issues the tokens, and for whom.
pub(crate) const ISSUER: &str = "mybox's tests";
pub(crate) const SERVICE: &str = "registry.test";

/// The account it knows.
pub(crate) const USER: &str = "me";
pub(crate) const PASSWORD: &str = "s3cret:with a colon";

/// The identity token it gives for the password, if asked.
pub(crate) const IDENTITY: &str = "an-identity-token";

/// The token server, for as long as this lives.
pub(crate) struct TokenServer {
    server: Server,
    state: Arc<Mutex<State>>,
    directory: TempDir,
}

struct State {
    signer: Signer,
    count: u32,
    /// Tokens that are good now, and for how many requests yet.
    good: BTreeMap<String, usize>,
    uses: usize,
    expires_in: Option<u64>,
    gives_identity: bool,
    lets_in_anybody: bool,
}

struct Signer {
    key: EcdsaKeyPair,
    /// DER.
    certificate: Vec<u8>,
}

impl TokenServer {
    /// One that lets anybody pull and [`USER`] do everything.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![ISSUER.to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("sign a certificate");
        std::fs::write(directory.path().join("bundle.pem"), certificate.pem()).expect("write");
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &key.serialize_der(),
            &SystemRandom::new(),
        );
        let state = Arc::new(Mutex::new(State {
            signer: Signer {
                key: key.expect("a key for P-256"),
                certificate: certificate.der().to_vec(),
            },
            count: 0,
            good: BTreeMap::new(),
            uses: usize::MAX,
            expires_in: Some(300),
            gives_identity: false,
            lets_in_anybody: true,
        }));
        let shared = Arc::clone(&state);
        let server = Server::start(move |seen| shared.lock().expect("no panic").answer(seen));
        Self {
            server,
            state,
            directory,
        }
    }

    /// The URL for challenges.
    pub(crate) fn realm(&self) -> String {
        format!("http://{}/token", self.server.address())
    }

    /// The challenge that sends here.
    pub(crate) fn challenge(&self, scope: &str) -> String {
        let realm = self.realm();
        format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\",scope=\"{scope}\"")
    }

    /// The certificate that registries verify the tokens with.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle.pem")
    }

    /// How long tokens are said to be good; none to say nothing.
    pub(crate) fn expires_in(&self, seconds: Option<u64>) -> &Self {
        self.state().expires_in = seconds;
        self
    }

    /// Gives an identity token from now on to who asks for one.
    pub(crate) fn give_identity(&self) -> &Self {
        self.state().gives_identity = true;
        self
    }

    /// Lets nobody in without an account, from now on.
    pub(crate) fn members_only(&self) -> &Self {
        self.state().lets_in_anybody = false;
        self
    }

    /// All requests for tokens until now.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.server.requests("/token")
    }

    /// Its requests, to wait for them.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Lets tokens be good for so many requests only, at a registry that asks here.
    pub(crate) fn uses(&self, count: usize) -> &Self {
        self.state().uses = count;
        self
    }

    /// For [`super::FakeRegistry::guard`]: lets in who has a good token, and sends others here.
    pub(crate) fn guard(&self) -> impl Fn(&Seen) -> Option<Reply> + Send + Sync + use<> {
        let state = Arc::clone(&self.state);
        let realm = self.realm();
        move |seen| {
            let token = seen
                .header("authorization")
                .and_then(|text| text.strip_prefix("Bearer "));
            let mut state = state.lock().expect("no panic");
            let left = token.and_then(|token| state.good.get_mut(token));
            if let Some(left) = left.filter(|left| **left > 0) {
                *left -= 1;
                return None;
            }
            let scope = scope_of(seen);
            let challenge = format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\"{scope}");
            Some(Reply::status(401).header("WWW-Authenticate", challenge))
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

/// The scope that a registry demands for a request, as the end of a challenge.
fn scope_of(seen: &Seen) -> String {
    let rest = seen.path().strip_prefix("/v2/").unwrap_or_default();
    let kinds = ["/manifests/", "/blobs/"];
    let repository = kinds.iter().find_map(|kind| Some(rest.split_once(kind)?.0));
    let actions = if matches!(seen.method.as_str(), "GET" | "HEAD") {
        "pull"
    } else {
        "pull,push"
    };
    repository.map_or(String::new(), |name| {
        format!(",scope=\"repository:{name}:{actions}\"")
    })
}

impl State {
    fn answer(&mut self, seen: &Seen) -> Reply {
        let subject = match self.subject(seen) {
            Ok(subject) => subject,
            Err(reply) => return reply,
        };
        let scopes: Vec<String> = seen
            .parameters()
            .into_iter()
            .filter(|(name, _)| name == "scope")
            .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let access: Vec<Value> = scopes
            .iter()
            .filter_map(|scope| grant(scope, &subject))
            .collect();
        let token = self.token(&subject, &access);
        self.good.insert(token.clone(), self.uses);
        // Some servers call it one way, some the other.
        let name = if self.count.is_multiple_of(2) {
            "token"
        } else {
            "access_token"
        };
        let mut answer = json!({ name: token });
        if let Some(seconds) = self.expires_in {
            answer["expires_in"] = seconds.into();
        }
        let asks = seen
            .parameter("offline_token")
            .is_some_and(|value| value == "true");
        if self.gives_identity && asks && !subject.is_empty() {
            answer["refresh_token"] = IDENTITY.into();
        }
        Reply::ok("application/json", answer.to_string())
    }

    /// Who asks; empty for nobody.
    fn subject(&self, seen: &Seen) -> Result<String, Reply> {
        let refused = || {
            let body = json!({ "details": "incorrect username or password" }).to_string();
            Reply {
                status: 401,
                ..Reply::ok("application/json", body)
            }
        };
        if seen.method == "POST" {
            let is_refresh = seen.parameter("grant_type").as_deref() == Some("refresh_token");
            let is_good = seen.parameter("refresh_token").as_deref() == Some(IDENTITY);
            let is_mine = seen.parameter("service").as_deref() == Some(SERVICE);
            return if is_refresh && is_good && is_mine {
                Ok(USER.to_owned())
            } else {
                Err(refused())
            };
        }
        match seen.header("authorization") {
            Some(text)
                if text == format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}"))) =>
            {
                Ok(USER.to_owned())
            }
            Some(_) => Err(refused()),
            None if self.lets_in_anybody => Ok(String::new()),
            None => Err(refused()),
        }
    }

    fn token(&mut self, subject: &str, access: &[Value]) -> String {
        self.count += 1;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        let header = json!({
            "typ": "JWT",
            "alg": "ES256",
            "x5c": [STANDARD.encode(&self.signer.certificate)],
        });
        let claims = json!({
            "iss": ISSUER,
            "sub": subject,
            "aud": SERVICE,
            "exp": now + self.expires_in.unwrap_or(60),
            "nbf": now - 10,
            "iat": now,
            "jti": self.count.to_string(),
            "access": access,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self
            .signer
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .expect("sign");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What `repository:name:pull,push` gives to whom: nobody may only pull.
fn grant(scope: &str, subject: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let allowed = |action: &&str| !subject.is_empty() || *action == "pull";
    let actions: Vec<&str> = actions.split(',').filter(allowed).collect();
    Some(json!({ "type": kind, "name": name, "actions": actions }))
}
