//! What registries serve: images in the words of Docker and OCI, layers in every packing, several
//! platforms, and things that are no images.

use std::io::Write;

use serde_json::{Value, json};

use super::{Home, image, pull};
use crate::harness::registry::{
    Compression, Content, FakeRegistry, TestImage, index_of, index_with,
};
use crate::harness::{Rootfs, Sandbox};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
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
fn layers_are_taken_in_every_packing() {
    let sandbox = Sandbox::new("media");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    for (name, compression) in [
        ("plain", Compression::None),
        ("gzip", Compression::Gzip),
        ("zstd", Compression::Zstd),
    ] {
        let layers = over_tiny(name).map(|layer| (layer, compression));
        registry.add(&format!("{name}:latest"), &TestImage::packed(layers));
        let name_there = registry.reference(name);
        pull(&sandbox, &home, &name_there).run().ok();
        assert_eq!(word(&sandbox, &home, &name_there), name);
    }
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

/// An index with arm in two variants, and this machine's image in an index within it.
fn several(registry: &FakeRegistry) -> (TestImage, [TestImage; 2], Content) {
    let own = TestImage::new(over_tiny("own"));
    let arms = ["arm/v6", "arm/v7"].map(|platform| {
        TestImage::for_platform(platform, [Rootfs::empty().file("word", platform)])
    });
    let inner = index_of(std::slice::from_ref(&own));
    let mut described: Vec<Value> = arms.iter().map(TestImage::described).collect();
    described.push(inner.descriptor());
    let outer = index_with(INDEX, &described);
    for image in arms.iter().chain([&own]) {
        registry.add("app:part", image);
    }
    registry.add_content(&inner);
    registry.add_manifest(Some("app:latest"), &outer);
    (own, arms, outer)
}

/// The manifest that a name leads to in the store.
#[track_caller]
fn manifest(sandbox: &Sandbox, name: &str) -> String {
    let documents = sandbox.mybox(["inspect", name]).run().ok().stdout_json();
    documents[0]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned()
}

#[test]
fn the_platform_is_chosen_with_its_variant_through_nested_indexes() {
    let sandbox = Sandbox::new("media");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let (own, arms, outer) = several(&registry);
    let name = registry.reference("app");
    let pull_for = |platform: &str| {
        let pull = pull(&sandbox, &home, &name);
        pull.args(["--platform", platform]).run()
    };
    for (platform, image) in [("linux/arm/v6", &arms[0]), ("linux/arm/v7", &arms[1])] {
        assert_eq!(pull_for(platform).ok().line(), outer.digest());
        assert_eq!(manifest(&sandbox, &name), image.digest(), "{platform}");
        let other = if platform.ends_with("v6") {
            &arms[1]
        } else {
            &arms[0]
        };
        if platform.ends_with("v6") {
            assert_eq!(
                registry.requests(&other.digest()).len(),
                0,
                "only what was asked for"
            );
        }
    }
    pull_for("linux/s390x").code(1).says("linux/s390x");
    assert_eq!(
        pull(&sandbox, &home, &name).run().ok().line(),
        outer.digest()
    );
    assert_eq!(manifest(&sandbox, &name), own.digest());
    // By the digest of the index, too.
    let pinned = registry.reference(&format!("app@{}", outer.digest()));
    assert_eq!(word(&sandbox, &home, &pinned), "own");
}

#[test]
fn all_platforms_are_kept_if_that_is_asked_for() {
    let sandbox = Sandbox::new("media");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let (own, arms, outer) = several(&registry);
    let name = registry.reference("app");
    let pull = pull(&sandbox, &home, &name)
        .arg("--all-platforms")
        .run()
        .ok();
    assert_eq!(pull.line(), outer.digest());
    for image in arms.iter().chain([&own]) {
        let hex = image.digest().replace("sha256:", "");
        assert!(sandbox.root().join("blobs/sha256").join(hex).exists());
    }
    assert_eq!(word(&sandbox, &home, &name), "own");
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

/// Pulls what cannot be an image here; nothing of it may be left.
#[track_caller]
fn refused(manifest: &Content, reasons: &[&str]) {
    let sandbox = Sandbox::new("media");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    // What it speaks of is there, but for the manifest's own faults.
    let image = image("refused", 1);
    registry.add("app:none", &image);
    registry.add_manifest(Some("app:latest"), manifest);
    let pull = pull(&sandbox, &home, &registry.reference("app"))
        .run()
        .code(1);
    reasons.iter().fold(pull, |pull, reason| pull.says(reason));
    assert_eq!(sandbox.mybox(["images", "--quiet"]).run().ok().stdout(), "");
    assert_eq!(
        registry.requests(&image.layers[0].digest()).len(),
        0,
        "its layer was fetched"
    );
}

#[test]
fn what_is_no_image_or_none_for_today_is_refused_in_words() {
    let changed = |change: &dyn Fn(&mut Value)| {
        image("refused", 1)
            .with_manifest(|manifest| change(manifest))
            .manifest
    };
    let foreign = changed(&|manifest| {
        let kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        manifest["layers"][0]["mediaType"] = kind.into();
        manifest["layers"][0]["urls"] = json!(["https://example.com/layer"]);
    });
    refused(
        &foreign,
        &["non-distributable", "https://example.com/layer"],
    );
    let schema_1 = Content::new(
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        json!({ "schemaVersion": 1, "name": "app", "tag": "1", "fsLayers": [] }).to_string(),
    );
    refused(&schema_1, &["schema 1"]);
    let artifact = changed(&|manifest| {
        manifest["artifactType"] = "application/vnd.example.sbom".into();
        manifest["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into();
    });
    refused(
        &artifact,
        &["no image but an artifact", "application/vnd.example.sbom"],
    );
    let encrypted = changed(&|manifest| {
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
        manifest["layers"][0]["mediaType"] = kind.into();
    });
    refused(&encrypted, &["+encrypted"]);
    let sha512 = changed(&|manifest| {
        manifest["layers"][0]["digest"] = format!("sha512:{}", "ab".repeat(64)).into();
    });
    refused(&sha512, &["sha512:"]);
    refused(&Content::new(INDEX, "not JSON"), &["manifest sha256:"]);
    let both = changed(&|manifest| manifest["manifests"] = json!([]));
    refused(&both, &["a manifest and an index"]);
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
