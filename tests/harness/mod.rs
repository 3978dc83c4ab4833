//! What the behaviour tests stand on.
//!
//! A test makes a [`Sandbox`], imports a tiny image into it, runs mybox, and looks at the result
//! from inside (the probe's report) and from the host. When the sandbox ends, it checks that
//! nothing of it is left anywhere.
//!
//! ```text
//! Sandbox ──mybox()──▶ Cmd ──run()──▶ Output   a bounded command and what it said
//!    │                  └───spawn()─▶ Running  the same, while it goes on
//!    │                  └─Terminal────▶ Session  the same, on a terminal of its own
//!    └── on a Host: the real one, or a PrivateHost with its own network and an outside world
//! ```
#![allow(
    dead_code,
    reason = "each part is there for the behaviour that needs it, and they come one by one"
)]

mod command;
mod debian;
mod disk;
mod fixtures;
mod host;
mod layers;
pub(crate) mod private_host;
mod probe;
pub(crate) mod registry;
mod requirements;
mod rootfs;
mod sandbox;
mod selftest;
pub(crate) mod synthetic;
mod terminal;
pub(crate) mod vm;

#[allow(unused_imports, reason = "as above")]
pub(crate) use self::{
    command::{Cmd, Output, Running},
    debian::debian,
    disk::{BareDisk, Disk},
    host::{Host, HostState},
    private_host::PrivateHost,
    probe::probe,
    requirements::requirements,
    rootfs::Rootfs,
    sandbox::{Sandbox, allocated},
    terminal::{Session, Terminal},
};
