//! Work that goes on without the command that began it.
//!
//! ```text
//! command              its child
//!   fork -----------------> a session of its own
//!   <----- the first word --| it has begun
//! ```
//! What fails before that the child tells by itself: it has the command's standard error still, and the
//! command then only ends with the child's code.

use std::convert::Infallible;

use anyhow::Context;

use super::RunFailed;
use crate::kernel::process::{self, Ended, Side, SingleThreaded};
use crate::kernel::socket::{self, End, Message};

/// What became of it.
pub(super) enum Began {
    /// The child's first word, and the link to it.
    Indeed(Message, End),
    /// It failed; why has been told. This is the exit code.
    Failed(u8),
}

/// Forks; the child does the work, and never comes back unless it failed.
pub(super) fn in_a_child(
    work: impl FnOnce(End) -> Result<Infallible, RunFailed>,
) -> Result<Began, RunFailed> {
    let proof = SingleThreaded::check()?;
    let (ours, childs) = socket::pair()?;
    match process::clone_child(&proof, 0, None)? {
        Side::Child => {
            drop(ours);
            rustix::process::setsid().context("start a session")?;
            match work(childs)? {}
        }
        Side::Parent(child) => {
            drop(childs);
            match ours.receive()? {
                Some(word) => Ok(Began::Indeed(word, ours)),
                None => Ok(Began::Failed(told(&child.wait()?))),
            }
        }
    }
}

/// The code of a child that has said why it failed; one that was killed has not.
fn told(ended: &Ended) -> u8 {
    match ended {
        Ended::Exited(code) => u8::try_from(*code).unwrap_or(125),
        Ended::Signalled(_) => 125,
    }
}
