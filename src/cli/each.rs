//! Verbs that take many containers: each is tried, each result said.

use super::output;
use crate::error::Failure;

/// What came of one of them.
pub(super) enum Outcome {
    /// What is printed of it.
    Done(String),
    /// There was nothing to do, which has been told.
    Nothing,
    /// It failed, and why has been told.
    Failed,
}

/// Does something to each container. What succeeds is printed as it was named, what fails is shown;
/// the exit code is 1 if one failed.
pub(super) fn container(
    names: &[String],
    mut act: impl FnMut(&str) -> anyhow::Result<()>,
) -> Result<u8, Failure> {
    outcome(names, |name| {
        act(name)?;
        Ok(Outcome::Done(name.to_owned()))
    })
}

/// The same, where more than the name is to be said, or not by us.
pub(super) fn outcome(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<Outcome, Failure>,
) -> Result<u8, Failure> {
    let mut code = 0;
    for name in names {
        match act(name) {
            Ok(Outcome::Done(text)) => output::line(&text)?,
            Ok(Outcome::Nothing) => {}
            Ok(Outcome::Failed) => code = 1,
            Err(failure) => {
                failure.show();
                code = 1;
            }
        }
    }
    Ok(code)
}
