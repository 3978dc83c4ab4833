//! Registries: where images come from and go to, over HTTP (OCI distribution spec 1.1).
//!
//! ```text
//! name ──registries──▶ places ──▶ Client ──auth──▶ token server
//!                                   │                  ▲
//!                                   └────transport─────┴──▶ registry ──redirect──▶ storage
//! ```
//!
//! A [`Client`] serves many threads by reference. It opens streams and checks manifests; resuming
//! a blob, checking it and keeping it is for `life/pull`. Nothing here is left on disk but what
//! `mybox login` stores in Docker's `config.json`.

mod error;

mod environment; //  where the configuration lies
mod registries; //   registries.conf: short names, mirrors
mod credentials; //  config.json, auth.json, helpers

mod endpoint; //     a registry's name, and what the wire wants to know of it
mod tls; //          whom to believe
mod patience; //     back-off
mod transport; //    one request until it is answered
mod answer; //       what a refusal says
mod auth; //         challenges and tokens

mod client; //       reading
mod upload; //       writing
mod login; //        are these credentials good?

pub use self::client::{Client, Fetched, Options, Source, Which};
pub use self::credentials::Credential;
pub use self::error::{Account, Error};
pub use self::patience::Notice;
pub use self::transport::Content;
pub use self::upload::{Mounted, Upload};

/// The full names that `name` may stand for, by registries.conf, in the order in which they are tried.
pub fn meanings(name: &str) -> error::Result<Vec<mybox_store::Reference>> {
    let environment = environment::Environment::current();
    registries::Registries::read(&environment)?.meanings(name)
}
