//! What registries serve, beside what `tests/pull` has: layers that others read in parts, Docker's
//! lists, layers that an image has twice, digests.

use std::io::Write;

use super::{Home, image, pull};
use crate::harness::registry::{Content, FakeRegistry, TestImage, index_with};
use crate::harness::{Rootfs, Sandbox};

const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A container's base and, over it, a file with this text.
fn over_tiny(text: &str) -> [Rootfs; 2] {
    [Rootfs::tiny(), Rootfs::empty().file("word", text)]
}

/// What `cat /word` says in a container of the image.
#[track_caller]
fn word(sandbox: &Sandbox, home: &Home, name: &str) -> String {
    home.run_by(sandbox.run([name, "cat", "/word"]))
        .run()
        .ok()
        .line()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("gzip in memory");
    encoder.finish().expect("gzip in memory")
}

#[test]
fn what_can_be_read_in_parts_elsewhere_is_read_whole_here() {
    let sandbox = Sandbox::new("media");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let [base, top] = over_tiny("in parts").map(Rootfs::tar);
    // eStargz: a member for each file, and an empty one with a pointer as the last.
    let members = |tar: &[u8]| {
        let mut parts: Vec<u8> = tar.chunks(100_000).flat_map(gzip).collect();
        let footer = flate2::GzBuilder::new().extra(b"SG\x16\x00000000000000000aSTARGZ".to_vec());
        let footer = footer.write(Vec::new(), flate2::Compression::none());
        parts.extend(footer.finish().expect("gzip in memory"));
        parts
    };
    // zstd:chunked: a frame for each file, and skippable frames with a manifest and a footer.
    let frames = |tar: &[u8]| {
        let mut parts = Vec::new();
        for chunk in tar.chunks(100_000) {
            parts.extend(zstd::encode_all(chunk, 3).expect("zstd in memory"));
        }
        for content in [&b"a manifest"[..], b"GNUlInUxGNUlInUx"] {
            parts.extend(0x184D_2A50_u32.to_le_bytes());
            parts.extend((content.len() as u32).to_le_bytes());
            parts.extend(content);
        }
        parts
    };
    let image = TestImage::of_blobs([
        (Content::new(GZIP_LAYER, members(&base)), base),
        (Content::new(ZSTD_LAYER, frames(&top)), top),
    ]);
    registry.add("parts:latest", &image);
    let name = registry.reference("parts");
    assert_eq!(
        pull(&sandbox, &home, &name).run().ok().line(),
        image.digest()
    );
    assert_eq!(word(&sandbox, &home, &name), "in parts");
}

#[test]
fn images_in_dockers_words_are_taken_as_they_are() {
    let sandbox = Sandbox::new("media");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let image = TestImage::docker(over_tiny("docker's"));
    let list = index_with(DOCKER_LIST, &[image.described()]);
    registry.add("single:latest", &image);
    registry.add_manifest(Some("list:latest"), &list);
    for (name, digest) in [("single", image.digest()), ("list", list.digest())] {
        let name = registry.reference(name);
        assert_eq!(pull(&sandbox, &home, &name).run().ok().line(), digest);
        assert_eq!(word(&sandbox, &home, &name), "docker's");
    }
}

#[test]
fn empty_layers_and_one_layer_twice_are_no_trouble() {
    let sandbox = Sandbox::new("media");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let gone = Rootfs::empty().file(".wh.word", "");
    let again = || Rootfs::empty().file("word", "twice");
    let layers = [
        Rootfs::tiny(),
        again(),
        gone,
        Rootfs::empty(),
        again(),
        Rootfs::empty(),
    ];
    let image = TestImage::new(layers);
    registry.add("odd:latest", &image);
    let name = registry.reference("odd");
    pull(&sandbox, &home, &name).run().ok();
    assert_eq!(word(&sandbox, &home, &name), "twice");
    assert_eq!(registry.requests(&image.layers[1].digest()).len(), 1);
}

#[test]
fn a_digest_that_comes_with_a_tag_is_what_counts() {
    let sandbox = Sandbox::new("media");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let (old, new) = (image("old", 1), image("new", 1));
    registry.add("app:1", &old);
    registry.add("app:1", &new);
    let both = registry.reference(&format!("app:1@{}", old.digest()));
    assert_eq!(pull(&sandbox, &home, &both).run().ok().line(), old.digest());
    assert_eq!(registry.requests("/manifests/1").len(), 0);
}

#[test]
fn a_reference_with_a_digest_of_another_algorithm_is_refused() {
    let sandbox = Sandbox::new("media");
    let home = Home::of(&sandbox);
    let name = format!("localhost:1/app@sha512:{}", "ab".repeat(64));
    pull(&sandbox, &home, &name)
        .run()
        .code(1)
        .says("no sha256 digest");
}
