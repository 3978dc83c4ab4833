//! mybox: pull or import root filesystems, stack their layers, launch them as containers.
//!
//! Read on in `life/mod.rs`, which tells the life of a container in order.

mod cli; //        one file a verb: parse, call, print
mod life; //       the stages of a run, one file each
mod init; //       the child's side, from clone to exec
mod plan; //       flags and image config become a plan; the plan as a shell script
mod container; //  id, name, claim, record
mod registry; //   where images come from: HTTP, tokens, credentials
mod net; //        bridge, addresses, firewall table, name resolution
mod kernel; //     one primitive a file
mod error; //      what the user sees

use std::process::ExitCode;

fn main() -> ExitCode {
    if life::monitor::is_wanted() {
        return monitor();
    }
    match cli::run() {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.show();
            ExitCode::from(failure.code)
        }
    }
}

/// The one role that is no command: a container's monitor. There is nobody to tell what goes wrong; the
/// next command finds the container without it, and takes it down.
fn monitor() -> ExitCode {
    match life::monitor::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
