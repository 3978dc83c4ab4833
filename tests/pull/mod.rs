//! Pulling: what arrives is checked, goes on after whatever interruption, comes once whoever asks,
//! and runs.

mod arrival;
mod kinds;
mod output;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::registry::{Content, FakeRegistry, TestImage};
use crate::harness::{Cmd, Rootfs, Sandbox};

/// How long anything may take until it is seen.
const PATIENCE: Duration = Duration::from_secs(60);

/// `mybox pull --quiet NAME`.
fn pull(sandbox: &Sandbox, registry: &FakeRegistry, name: &str) -> Cmd {
    sandbox.mybox(["pull", "--quiet", &registry.reference(name)])
}

/// An image of one layer with a file that does not compress, of so many bytes.
fn large(name: &str, bytes: usize) -> TestImage {
    TestImage::new([Rootfs::empty().file(name, &noise(bytes))])
}

/// Text that gzip makes little of: hex digits of xorshift64.
fn noise(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text
}

/// The file that an unfinished download is kept in.
fn partial(sandbox: &Sandbox, blob: &Content) -> PathBuf {
    let name = format!("{}.partial", hex(&blob.digest()));
    sandbox.root().join("ingest").join(name)
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").expect("a sha256 digest")
}

/// Waits until a file has at least so many bytes.
#[track_caller]
fn wait_for_bytes(path: &PathBuf, bytes: u64) {
    let until = Instant::now() + PATIENCE;
    while std::fs::metadata(path).map_or(0, |found| found.len()) < bytes {
        assert!(Instant::now() < until, "{} does not grow", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The requests for a blob.
fn fetches(registry: &FakeRegistry, blob: &Content) -> usize {
    registry
        .requests(&format!("GET /v2/app/blobs/{}", blob.digest()))
        .len()
}

/// Names of what is in a directory of the store.
fn names(sandbox: &Sandbox, directory: &str) -> Vec<String> {
    let entries =
        std::fs::read_dir(sandbox.root().join(directory)).expect("directory of the store");
    entries
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect()
}

/// Nothing has been published, and nothing is left of an attempt but partial downloads.
#[track_caller]
fn assert_nothing_published(sandbox: &Sandbox) {
    let images = sandbox.mybox(["images", "--json"]).run().ok().stdout_json();
    assert_eq!(images, serde_json::json!([]));
    assert_eq!(names(sandbox, "layers"), [""; 0]);
    let left = names(sandbox, "ingest");
    assert!(
        left.iter().all(|name| name.ends_with(".partial")),
        "{left:?}"
    );
}
