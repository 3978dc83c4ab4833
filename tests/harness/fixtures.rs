//! Things that take long to make, kept in `target/fixtures` and shared with `make demo`.
//!
//! A fixture is made under a lock in a directory beside its place, then renamed into it: it is
//! there whole or not at all, whichever process is killed when.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The directory `name` among the fixtures; `make` fills it, the first time.
pub(crate) fn cached(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let place = directory().join(name);
    if place.exists() {
        return place;
    }
    let lock = File::create(directory().join(format!("{name}.lock"))).expect("fixture's lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("lock the fixture");
    if !place.exists() {
        let partial = directory().join(format!("{name}.partial"));
        // What a killed process left there is of no use.
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir(&partial).expect("fixture's temporary directory");
        make(&partial);
        fs::rename(&partial, &place).expect("move the fixture into place");
    }
    place
}

fn directory() -> PathBuf {
    let fixtures = target().join("fixtures");
    fs::create_dir_all(&fixtures).expect("target/fixtures");
    fixtures
}

/// Cargo's target directory.
pub(crate) fn target() -> &'static Path {
    // Cargo documents CARGO_TARGET_TMPDIR as a directory below the target directory: target/tmp.
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target/tmp has a parent")
}

/// The workspace's directory.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
