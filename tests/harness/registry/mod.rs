//! Registries for tests, all on free loopback ports: Debian's docker-registry as the real peer, a
//! scripted one that fails in every way there is, a token server for both, a proxy, and images to
//! put into them.

mod docker;
mod fake;
mod http;
mod image;
mod proxy;
mod tls;
mod token;

#[allow(unused_imports, reason = "as in the module above")]
pub(crate) use self::{
    docker::{DockerRegistry, Setup},
    fake::{FakeRegistry, Fault},
    http::{Reply, Seen, Server},
    image::{Compression, Content, TestImage, index_of, index_with, write_layout},
    proxy::Proxy,
    tls::{Authority, NAMES},
    token::TokenServer,
};
