//! A Debian minbase tree as debootstrap leaves it: the real input of `mybox import DIR`.

use std::path::PathBuf;
use std::time::Duration;

use super::{Cmd, fixtures, requirements};

/// The path of a minbase tree with `ip` and `ping`, in `target/fixtures/debian-<suite>`, made once
/// by debootstrap.
pub(crate) fn debian() -> PathBuf {
    requirements();
    let suite = suite();
    fixtures::cached(&format!("debian-{suite}"), |directory| {
        // In a mount namespace of its own: killed half-way it would leave /proc mounted in a tree
        // that is then removed.
        Cmd::new("unshare")
            .args(["--mount", "--propagation", "private", "debootstrap"])
            .args([
                "--variant=minbase",
                "--include=iproute2,iputils-ping",
                &suite,
            ])
            .arg(directory)
            .timeout(Duration::from_secs(900))
            .run()
            .ok();
    })
}

/// The host's own suite where it is a Debian or Ubuntu, else `stable`; as fixtures/debian-tree.sh.
fn suite() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| release.lines().find_map(|line| line.strip_prefix(name));
    match (field("ID="), field("VERSION_CODENAME=")) {
        (Some("debian" | "ubuntu"), Some(codename)) => codename.to_owned(),
        _ => "stable".to_owned(),
    }
}
