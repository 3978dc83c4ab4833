//! The question before much is removed.

use std::io;

use anyhow::{Context, bail};

use super::output;

/// Whether the user wants it. Without a terminal nobody can be asked, which is an error.
pub(super) fn asked(what: &str, force: bool) -> anyhow::Result<bool> {
    can_be_asked(what, force)?;
    if force {
        return Ok(true);
    }
    output::ask(&format!("{what} Go on? [y/N] "))?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The same error, before it is found out what there is to ask about.
pub(super) fn can_be_asked(what: &str, force: bool) -> anyhow::Result<()> {
    if !force && !rustix::termios::isatty(io::stdin()) {
        bail!("{what} There is no terminal to ask at: say --force if that is wanted");
    }
    Ok(())
}
