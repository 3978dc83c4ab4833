//! Signals and terminal sizes.
//!
//! Signals are blocked and then waited for, not handled: that needs no unsafe code, and it works
//! for pid 1 as well, as the kernel keeps a blocked signal for a namespace's init even where the
//! default action would make it vanish.

use std::str::FromStr;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, raise};

/// Sends itself a signal. It returns only if that had no effect, as the default action has none for
/// pid 1.
pub(crate) fn signal_self(name: &str) -> Result<u8> {
    raise(parse(name)?).with_context(|| format!("send {name}"))?;
    eprintln!("probe: survived {name}");
    Ok(99)
}

/// Prints `ready`, then the name of each of `names` that arrives; the last of them ends it.
pub(crate) fn trap(names: &[&str]) -> Result<()> {
    let signals = names
        .iter()
        .map(|name| parse(name))
        .collect::<Result<Vec<_>>>()?;
    let set = block(&signals)?;
    println!("ready");
    loop {
        let signal = set.wait().context("sigwait")?;
        println!("{signal}");
        if Some(&signal) == signals.last() {
            return Ok(());
        }
    }
}

/// Prints the terminal's `ROWSxCOLUMNS` now and at every change; SIGTERM, SIGINT or SIGHUP ends it.
pub(crate) fn winsize_watch() -> Result<()> {
    let set = block(&[
        Signal::SIGWINCH,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
    ])?;
    loop {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).context("winsize")?;
        println!("{}x{}", size.ws_row, size.ws_col);
        if set.wait().context("sigwait")? != Signal::SIGWINCH {
            return Ok(());
        }
    }
}

fn block(signals: &[Signal]) -> Result<SigSet> {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block().context("block signals")?;
    Ok(set)
}

/// `TERM` or `SIGTERM`.
fn parse(name: &str) -> Result<Signal> {
    let full = if name.starts_with("SIG") {
        name.to_owned()
    } else {
        format!("SIG{name}")
    };
    Signal::from_str(&full).with_context(|| format!("no signal is called {name}"))
}
