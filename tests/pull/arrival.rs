//! Downloads that are cut, killed, shared and damaged.

use rustix::process::Signal;

use super::{fetches, large, noise, partial, pull, wait_for_bytes};
use crate::harness::registry::{Content, FakeRegistry, Fault, Seen, TestImage};
use crate::harness::{Rootfs, Sandbox};

const LARGE: usize = 2 << 20;
const BEGINNING: usize = 300_000;

#[test]
fn a_download_that_is_cut_goes_on_from_its_last_byte() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = large("cut", LARGE);
    registry.add("app:latest", &image);
    let blob = &image.layers[0];
    registry.fail(blob.digest(), 1, Fault::Cut(BEGINNING));
    let pulled = pull(&sandbox, &registry, "app").run().ok();
    assert_eq!(pulled.line(), image.digest());
    let requests = registry.requests(&blob.digest());
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].header("range"), None);
    let from = format!("bytes={BEGINNING}-");
    assert_eq!(requests[1].header("range"), Some(&*from));
}

#[test]
fn a_download_that_was_killed_goes_on_in_the_next_process() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = large("killed", LARGE);
    registry.add("app:latest", &image);
    let blob = &image.layers[0];
    for (round, signal) in [Signal::KILL, Signal::INT].into_iter().enumerate() {
        registry.fail(blob.digest(), 1, Fault::Hold(BEGINNING));
        let running = pull(&sandbox, &registry, "app").spawn();
        wait_for_bytes(&partial(&sandbox, blob), (BEGINNING * (round + 1)) as u64);
        running.signal(signal);
        assert_eq!(running.wait().signal(), Some(signal.as_raw()));
    }
    pull(&sandbox, &registry, "app").run().ok();
    let ranges: Vec<Option<String>> = registry
        .requests(&blob.digest())
        .iter()
        .map(|request| request.header("range").map(str::to_owned))
        .collect();
    let from = |bytes| Some(format!("bytes={bytes}-"));
    assert_eq!(ranges, [None, from(BEGINNING), from(2 * BEGINNING)]);
    assert_eq!(super::names(&sandbox, "layers").len(), 1);
    registry.release();
}

#[test]
fn a_server_that_knows_no_ranges_is_read_from_the_beginning_again() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = large("no ranges", LARGE);
    registry.add("app:latest", &image);
    let digest = image.layers[0].digest();
    registry.fail(&digest, 1, Fault::Cut(BEGINNING));
    registry.always(&digest, Fault::NoRange);
    let pulled = pull(&sandbox, &registry, "app").run().ok();
    assert_eq!(pulled.line(), image.digest());
    assert_eq!(registry.requests(&digest).len(), 2);
}

#[test]
fn a_beginning_that_was_damaged_meanwhile_is_fetched_anew() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = large("damaged", LARGE);
    registry.add("app:latest", &image);
    let blob = &image.layers[0];
    // As after a power cut: the file's length is there, its data is not.
    let file = partial(&sandbox, blob);
    sandbox.mybox(["images"]).run().ok();
    std::fs::write(&file, vec![0; BEGINNING]).expect("write a partial download");
    pull(&sandbox, &registry, "app").run().ok();
    assert!(!file.exists());
    assert_eq!(registry.requests(&blob.digest()).len(), 2);
    let stored = sandbox
        .root()
        .join("blobs/sha256")
        .join(super::hex(&blob.digest()));
    assert_eq!(std::fs::read(stored).expect("the blob"), blob.bytes);
}

#[test]
fn a_registry_that_always_cuts_is_given_up_and_what_came_is_kept() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = large("always cut", LARGE);
    registry.add("app:latest", &image);
    let blob = &image.layers[0];
    registry.fail(blob.digest(), 1, Fault::Cut(BEGINNING));
    registry.always(blob.digest(), Fault::Cut(0));
    let failed = pull(&sandbox, &registry, "app").run().code(1);
    let so_far = format!("{BEGINNING} of {} bytes came", blob.bytes.len());
    drop(failed.says(&blob.digest()).says(&so_far));
    super::assert_nothing_published(&sandbox);
    registry.mend();
    let before = registry.requests(&blob.digest()).len();
    pull(&sandbox, &registry, "app").run().ok();
    let requests = registry.requests(&blob.digest());
    let from = format!("bytes={BEGINNING}-");
    assert_eq!(requests[before].header("range"), Some(&*from));
}

/// Else a large one that comes last is waited for by itself.
#[test]
fn the_largest_layers_are_fetched_first() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let layer = |bytes| Rootfs::empty().file(&format!("file{bytes}"), &noise(bytes));
    let image = TestImage::new([1000, 300_000, 20_000].map(layer));
    registry.add("app:latest", &image);
    let pulled = pull(&sandbox, &registry, "app").args(["--jobs", "1"]).run();
    assert_eq!(pulled.ok().line(), image.digest());
    let requests = registry.requests("/blobs/");
    let place = |blob: &Content| {
        let asked = |seen: &Seen| seen.line().contains(&blob.digest());
        requests.iter().position(asked).expect("it was fetched")
    };
    let places: Vec<usize> = image.layers.iter().map(place).collect();
    assert!(places[1] < places[2] && places[2] < places[0], "{places:?}");
}

#[test]
fn many_processes_fetch_each_blob_once() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let layer = |number: usize| Rootfs::empty().file(&format!("file{number}"), &noise(200_000));
    let image = TestImage::new((0..4).map(layer));
    registry.add("app:latest", &image);
    // Nobody is done before all have begun.
    registry.fail(image.layers[0].digest(), 1, Fault::Hold(1000));
    let running: Vec<_> = (0..5)
        .map(|_| pull(&sandbox, &registry, "app").spawn())
        .collect();
    registry
        .server()
        .wait_for("GET /v2/app/manifests/latest", 5);
    registry.release();
    for running in running {
        assert_eq!(running.wait().ok().line(), image.digest());
    }
    for blob in image.blobs() {
        let times = fetches(&registry, blob);
        // The config is small: each process reads it for itself unless it is there already.
        assert!(
            times == 1 || blob.bytes == image.config.bytes,
            "{times} times"
        );
    }
}

#[test]
fn when_the_process_that_fetches_dies_another_goes_on() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = large("taken over", LARGE);
    registry.add("app:latest", &image);
    let blob = &image.layers[0];
    registry.fail(blob.digest(), 1, Fault::Hold(BEGINNING));
    let first = pull(&sandbox, &registry, "app").spawn();
    wait_for_bytes(&partial(&sandbox, blob), BEGINNING as u64);
    let second = sandbox.mybox(["pull", &registry.reference("app")]).spawn();
    second.wait_for_stderr("another process downloads it");
    first.signal(Signal::KILL);
    drop(first.wait());
    assert_eq!(second.wait().ok().line(), image.digest());
    registry.release();
    let requests = registry.requests(&blob.digest());
    let from = format!("bytes={BEGINNING}-");
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("range"), Some(&*from));
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let base = || Rootfs::empty().file("base", "shared");
    let one = TestImage::new([base(), Rootfs::empty().file("one", "1")]);
    let other = TestImage::new([base(), Rootfs::empty().file("other", "2")]);
    for (name, image) in [("app:1", &one), ("app:2", &other), ("app:again", &one)] {
        registry.add(name, image);
    }
    for tag in ["app:1", "app:2", "app:again", "app:1"] {
        pull(&sandbox, &registry, tag).run().ok();
    }
    for blob in one.blobs().chain(other.blobs()) {
        assert_eq!(fetches(&registry, blob), 1, "{}", blob.digest());
    }
}

#[test]
fn a_layer_is_there_for_all_images_however_it_was_packed() {
    use crate::harness::registry::Compression;
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let layer = || Rootfs::empty().file("file", "the same whatever the compression");
    for (name, compression) in [
        ("app:plain", Compression::None),
        ("app:gzip", Compression::Gzip),
        ("app:zstd", Compression::Zstd),
    ] {
        let image = TestImage::packed([(layer(), compression)]);
        registry.add(name, &image);
        pull(&sandbox, &registry, name).run().ok();
    }
    assert_eq!(super::names(&sandbox, "layers").len(), 1);
}

#[test]
fn a_disk_that_is_full_gets_its_room_back() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let small = || Rootfs::empty().file("small", &noise(100_000));
    let large = |bytes| Rootfs::empty().file("large", &noise(bytes));
    // The blob fits and the tree does not; and not even the blob fits.
    for bytes in [1_500_000, 6_000_000] {
        let image = TestImage::new([small(), large(bytes)]);
        registry.add("app:latest", &image);
        let script = "mkdir -p $MYBOX_ROOT && mount -t tmpfs -o size=2m tmpfs $MYBOX_ROOT || exit 9
            \"$@\"; code=$?
            cd $MYBOX_ROOT && ls -A ingest blobs/sha256 layers
            exit $code";
        let failed = pull(&sandbox, &registry, "app")
            .through(["unshare", "--mount", "sh", "-c", script, "sh"])
            .run()
            .code(1);
        let failed = failed.says("No space left on device").says("mybox gc");
        let left = failed.stdout();
        assert_eq!(left.trim(), "blobs/sha256:\n\ningest:\n\nlayers:", "{left}");
    }
}

#[test]
fn blobs_of_the_store_that_lost_their_ends_are_fetched_anew() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = large("short", LARGE);
    registry.add("app:1", &image);
    registry.add("app:2", &image);
    pull(&sandbox, &registry, "app:1").run().ok();
    for blob in [&image.layers[0], &image.config] {
        let path = blob_path(&sandbox, &blob.digest());
        let file = std::fs::File::options().write(true).open(&path);
        file.and_then(|file| file.set_len(100))
            .expect("cut the blob");
        // Whoever reads it goes on with what there was.
        let reader = std::fs::File::open(&path).expect("the blob");
        pull(&sandbox, &registry, "app:2").run().ok();
        assert_eq!(reader.metadata().expect("metadata").len(), 100);
        assert_eq!(std::fs::read(&path).expect("the blob"), blob.bytes);
    }
    sandbox.mybox(["verify"]).run().ok();
}

#[test]
fn a_manifest_that_is_wrong_of_a_stored_blob_s_size_is_blamed_for_it() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = large("layer", 1000);
    registry.add("app:1", &image);
    pull(&sandbox, &registry, "app:1").run().ok();
    let (blob, bytes) = (image.layers[0].digest(), image.layers[0].bytes.len());
    let wrong = image.with_manifest(|manifest| manifest["layers"][0]["size"] = 10.into());
    registry.add("app:2", &wrong);
    let failed = pull(&sandbox, &registry, "app:2").run().code(1);
    let expected = format!("blob {blob}: expected 10 bytes, as the manifest says, got {bytes}");
    let said = failed.says(&expected).stderr();
    assert!(!said.contains("damaged"), "{said}");
    assert_eq!(super::names(&sandbox, "ingest").len(), 0);
    sandbox.mybox(["verify"]).run().ok();
}

fn blob_path(sandbox: &Sandbox, digest: &str) -> std::path::PathBuf {
    sandbox.root().join("blobs/sha256").join(super::hex(digest))
}
