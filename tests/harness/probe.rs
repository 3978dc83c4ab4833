//! Builds the probe, once for the whole test run.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::{Cmd, fixtures};

/// The path of the static probe.
pub(crate) fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(build)
}

/// A target directory of its own: the outer cargo may hold the lock of the usual one. An explicit
/// target keeps `crt-static` away from procedural macros, which are shared objects.
fn build() -> PathBuf {
    let triple = host_triple();
    let target = fixtures::target().join("probe");
    Cmd::new("cargo")
        .args(["rustc", "--quiet", "--locked", "--release"])
        .args([
            "-p",
            "mybox-probe",
            "--bin",
            "mybox-probe",
            "--target",
            &triple,
            "--target-dir",
        ])
        .arg(&target)
        .args([
            "--",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
        ])
        .dir(fixtures::workspace())
        .timeout(Duration::from_secs(600))
        .run()
        .ok();
    target.join(triple).join("release/mybox-probe")
}

fn host_triple() -> String {
    let version = Cmd::new("rustc").arg("-vV").run().ok().stdout();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc -vV names its host").to_owned()
}
