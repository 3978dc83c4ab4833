//! What registries serve: images of every form, and what is none.

use serde_json::{Value, json};

use super::{assert_nothing_published, names, pull};
use crate::harness::registry::{Compression, Content, FakeRegistry, Fault, TestImage, index_of};
use crate::harness::{Cmd, Rootfs, Sandbox};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn a_pulled_image_runs_whatever_its_layers_are_packed_with() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let text = |name: &str| Rootfs::empty().file(name, name);
    let image = TestImage::packed([
        (Rootfs::tiny(), Compression::Gzip),
        (text("zstd"), Compression::Zstd),
        (text("plain"), Compression::None),
        (Rootfs::empty(), Compression::Gzip),
        (text("zstd"), Compression::Zstd),
    ]);
    registry.add("app:latest", &image);
    let name = registry.reference("app");
    let words = ["run", "--rm", "--network", "none", &name, "probe", "report"];
    let ran = sandbox.mybox(words).run().ok();
    drop(ran.says("pulled"));
    let part = match sandbox.layer_form() {
        "unpacked" => "fs",
        _ => "layer.tar",
    };
    for layer in names(&sandbox, "layers") {
        assert!(
            sandbox
                .root()
                .join("layers")
                .join(layer)
                .join(part)
                .exists()
        );
    }
    // The empty layer is one, the repeated one is there once.
    assert_eq!(names(&sandbox, "layers").len(), 4);
}

#[test]
fn run_pulls_what_is_missing_or_always_or_never() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let (old, new) = (
        TestImage::new([Rootfs::tiny().file("age", "old")]),
        TestImage::new([Rootfs::tiny().file("age", "new")]),
    );
    registry.add("app:latest", &old);
    let name = registry.reference("app");
    let run = |policy: &str| {
        let words = ["run", "--rm", "--network", "none", "--pull", policy];
        sandbox.mybox(words).args([&*name, "true"]).run()
    };
    run("never").code(125).says("no such image");
    assert_eq!(registry.requests("GET").len(), 0);
    drop(run("missing").ok());
    registry.add("app:latest", &new);
    let asked = registry.requests("GET").len();
    drop(run("missing").ok());
    assert_eq!(registry.requests("GET").len(), asked);
    drop(run("always").ok());
    let found = sandbox.mybox(["inspect", &name]).run().ok().stdout_json();
    assert_eq!(found[0]["digest"], json!(new.digest()));
}

#[test]
fn a_run_says_what_it_pulls_unless_it_is_to_be_quiet() {
    let (sandbox, registry) = (Sandbox::new("quiet"), FakeRegistry::start());
    let image = TestImage::new([Rootfs::tiny()]);
    registry.add("app:latest", &image);
    let name = registry.reference("app");
    let run = |flags: &[&str]| {
        let run = sandbox.mybox(["run", "--rm", "--network", "none", "--pull", "always"]);
        run.args(flags).args([&*name, "true"]).run().ok().stderr()
    };
    let told = run(&[]);
    assert!(told.contains(&name), "{told}");
    for flag in ["-q", "--quiet"] {
        assert_eq!(run(&[flag]), "");
    }
}

#[test]
fn an_image_of_docker_s_own_form_keeps_its_bytes() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = TestImage::docker([Rootfs::empty().file("file", "docker")]);
    registry.add("app:latest", &image);
    let pulled = pull(&sandbox, &registry, "app").run().ok();
    assert_eq!(pulled.line(), image.digest());
    for content in image.blobs().chain([&image.manifest]) {
        let path = sandbox
            .root()
            .join("blobs/sha256")
            .join(super::hex(&content.digest()));
        assert_eq!(std::fs::read(path).expect("a blob"), content.bytes);
    }
}

/// Adds an index and its images.
fn add_index(registry: &FakeRegistry, name: &str, images: &[TestImage]) -> Content {
    let index = index_of(images);
    for image in images {
        registry.add_manifest(None, &image.manifest);
        image.blobs().for_each(|blob| registry.add_content(blob));
    }
    registry.add_manifest(Some(name), &index);
    index
}

#[test]
fn of_an_index_comes_the_platform_that_is_asked_for_and_no_other() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let layer = |name: &str| [Rootfs::empty().file(name, name)];
    let images = [
        TestImage::for_platform("arm/v6", layer("v6")),
        TestImage::for_platform("arm/v7", layer("v7")),
        TestImage::for_platform("arm64/v8", layer("arm64")),
        TestImage::new(layer("here")),
    ];
    let index = add_index(&registry, "app:latest", &images);
    let pull_for = |platform: &str| {
        let command = pull(&sandbox, &registry, "app");
        command.args(["--platform", platform]).run()
    };
    for (platform, image) in [
        ("linux/arm/v6", &images[0]),
        ("linux/arm/v7", &images[1]),
        ("linux/arm", &images[1]),
        ("linux/arm64", &images[2]),
    ] {
        assert_eq!(pull_for(platform).ok().line(), index.digest());
        let name = registry.reference("app");
        let found = sandbox.mybox(["inspect", &name]).run().ok().stdout_json();
        assert_eq!(found[0]["digest"], json!(image.digest()), "{platform}");
    }
    let offers = "linux/arm/v6, linux/arm/v7, linux/arm64/v8";
    drop(
        pull_for("linux/s390x")
            .code(1)
            .says("linux/s390x")
            .says(offers),
    );
    pull(&sandbox, &registry, "app").run().ok();
    // By the index's digest it is the same image.
    let by_digest = format!("{}@{}", registry.reference("app"), index.digest());
    let found = sandbox
        .mybox(["inspect", &by_digest])
        .run()
        .ok()
        .stdout_json();
    assert_eq!(found[0]["digest"], json!(images[3].digest()));
}

#[test]
fn an_image_of_one_platform_is_not_taken_for_one_of_another() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = TestImage::for_platform("arm64/v8", [Rootfs::empty().file("x", "arm64")]);
    registry.add("app:latest", &image);
    let pull_for = |flags: &[&str]| pull(&sandbox, &registry, "app").args(flags).run();
    let refused = pull_for(&["--platform", "linux/amd64"]).code(1);
    drop(refused.says("no image for linux/amd64: it is for linux/arm64/v8 alone"));
    assert_nothing_published(&sandbox);
    for taken in [&["--platform", "linux/arm64"][..], &[]] {
        assert_eq!(pull_for(taken).ok().line(), image.digest());
    }
}

#[test]
fn an_index_without_platforms_and_a_refusal_without_a_scheme_are_said_to_be_that() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let index = index_of(&[]);
    registry.add_manifest(Some("app:latest"), &index);
    let empty = pull(&sandbox, &registry, "app").run().code(1);
    drop(empty.says(", nor for any other platform"));
    registry.always("/v2/", Fault::Status(401, Vec::new()));
    let refused = pull(&sandbox, &registry, "app").run().code(1);
    drop(refused.says("its answer names none (no WWW-Authenticate)"));
}

#[test]
fn an_image_that_was_pulled_by_its_digest_has_that_and_no_tag() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = TestImage::new([Rootfs::empty().file("file", "text")]);
    registry.add("app:1", &image);
    let digest = registry.reference(&format!("app@{}", image.digest()));
    pull(&sandbox, &registry, &format!("app@{}", image.digest()))
        .run()
        .ok();
    let found = sandbox.mybox(["inspect", &digest]).run().ok().stdout_json();
    assert_eq!(found[0]["RepoTags"], json!([]));
    assert_eq!(found[0]["RepoDigests"], json!([digest]));
    pull(&sandbox, &registry, "app:1").run().ok();
    let found = sandbox.mybox(["inspect", &digest]).run().ok().stdout_json();
    assert_eq!(found[0]["RepoTags"], json!([registry.reference("app:1")]));
    assert_eq!(found[0]["RepoDigests"], json!([digest]));
    // What it was pulled by is a name of its own, and goes by that, whatever tag stands in it.
    let removed = sandbox
        .mybox(["rmi", &digest.replace("app@", "app:1@")])
        .run()
        .ok();
    assert!(removed.stdout().contains("Untagged"));
    let name = registry.reference("app:1");
    sandbox.mybox(["inspect", &name]).run().ok();
}

#[test]
fn all_platforms_are_kept_with_their_index() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let layer = |name: &str| [Rootfs::empty().file(name, name)];
    let images = [
        TestImage::for_platform("s390x", layer("s390x")),
        TestImage::new(layer("here")),
    ];
    let index = add_index(&registry, "app:latest", &images);
    let pulled = pull(&sandbox, &registry, "app")
        .arg("--all-platforms")
        .run()
        .ok();
    assert_eq!(pulled.line(), index.digest());
    let blobs = names(&sandbox, "blobs/sha256");
    for content in [&index, &images[0].manifest, &images[1].manifest] {
        assert!(blobs.contains(&super::hex(&content.digest()).to_owned()));
    }
    assert_eq!(names(&sandbox, "layers").len(), 2);
    let name = registry.reference("app");
    let found = sandbox.mybox(["inspect", &name]).run().ok().stdout_json();
    assert_eq!(found[0]["digest"], json!(images[1].digest()));
}

#[test]
fn of_several_platforms_that_are_there_the_one_that_is_asked_for_runs() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    // Both have programs of this machine: which one runs is told by a file.
    let layer = |name: &str| [Rootfs::tiny().file("platform", name)];
    let images = [
        TestImage::for_platform("s390x", layer("s390x")),
        TestImage::new(layer("here")),
    ];
    add_index(&registry, "app:latest", &images);
    let name = registry.reference("app");
    let pull_all = ["pull", "--quiet", "--all-platforms", &name];
    sandbox.mybox(pull_all).run().ok();
    let read = |platform: &[&str]| {
        let words = ["run", "--rm", "--network", "none"];
        let command = sandbox.mybox(words).args(platform);
        command
            .args([&*name, "probe", "cat", "/platform"])
            .run()
            .ok()
            .stdout()
    };
    assert_eq!(read(&[]), "here");
    assert_eq!(read(&["--platform", "linux/s390x"]), "s390x");
}

#[test]
fn an_index_in_an_index_is_followed_and_an_endless_one_is_not() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let images = [TestImage::new([Rootfs::empty().file("deep", "deep")])];
    let mut index = add_index(&registry, "app:0", &images);
    for depth in 1..8 {
        let outer = json!({ "schemaVersion": 2, "mediaType": INDEX,
            "manifests": [index.descriptor()] });
        index = Content::new(INDEX, outer.to_string());
        registry.add_manifest(Some(&format!("app:{depth}")), &index);
    }
    pull(&sandbox, &registry, "app:2").run().ok();
    let failed = pull(&sandbox, &registry, "app:7").run().code(1);
    drop(failed.says("indexes within one another"));
}

/// An image whose documents were changed after it was made.
fn changed(image: &TestImage, change: impl Fn(&mut Value)) -> Content {
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).expect("JSON");
    change(&mut manifest);
    Content::new(MANIFEST, manifest.to_string())
}

#[test]
fn what_is_no_image_is_refused_and_says_what_it_is() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = TestImage::new([Rootfs::empty().file("file", "text")]);
    registry.add("app:good", &image);
    let layer_type = |kind: &str| {
        let kind = kind.to_owned();
        changed(&image, move |manifest| {
            manifest["layers"][0]["mediaType"] = json!(kind);
        })
    };
    let cases = [
        (layer_type("application/x-other"), "application/x-other"),
        (
            changed(&image, |manifest| {
                manifest["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
            }),
            "an artifact of type application/vnd.cncf.helm.config.v1+json",
        ),
        (
            Content::new(
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                r#"{"schemaVersion":1,"name":"app","tag":"x","fsLayers":[],"history":[]}"#,
            ),
            "schema 1",
        ),
        (
            changed(&image, |manifest| {
                manifest["layers"][0]["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
            }),
            "sha512:",
        ),
        (
            changed(&image, |manifest| manifest["manifests"] = json!([])),
            "claims to be a manifest and an index",
        ),
        (Content::new(MANIFEST, "not JSON"), "JSON"),
    ];
    for (number, (manifest, expected)) in cases.iter().enumerate() {
        let name = format!("app:bad{number}");
        registry.add_manifest(Some(&name), manifest);
        let failed = pull(&sandbox, &registry, &name).run().code(1);
        drop(failed.says(expected).says(&name));
        assert_nothing_published(&sandbox);
    }
    pull(&sandbox, &registry, "app:good").run().ok();
}

#[test]
fn a_layer_that_registries_need_not_have_is_taken_where_it_is() {
    let image = TestImage::new([Rootfs::tiny().file("file", "text")]);
    let of_type = |kind: &str| {
        changed(&image, |manifest| {
            manifest["layers"][0]["mediaType"] = json!(kind);
            manifest["layers"][0]["urls"] = json!(["https://example.com/layer"]);
        })
    };
    for kind in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ] {
        let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
        registry.add("app:good", &image);
        registry.add_manifest(Some("app:latest"), &of_type(kind));
        let gone = Fault::Status(404, Vec::new());
        registry.fail(image.layers[0].digest(), 1, gone);
        let failed = pull(&sandbox, &registry, "app").run().code(1);
        let failed = failed.says("non-distributable");
        drop(
            failed
                .says("only https://example.com/layer")
                .says("pull 127.0.0.1"),
        );
        assert_nothing_published(&sandbox);
        pull(&sandbox, &registry, "app").run().ok();
        let archive = sandbox.scratch().join("app.tar");
        let save = sandbox.mybox(["save", &registry.reference("app"), "-o"]);
        save.arg(&archive).run().ok();
        let other = Sandbox::new("pull");
        other.mybox(["load", "-i"]).arg(&archive).run().ok();
        let words = [&*registry.reference("app"), "probe", "cat", "/file"];
        assert_eq!(other.run(words).run().ok().stdout(), "text");
    }
}

#[test]
fn a_registry_that_lies_is_found_out_and_nothing_is_published() {
    let image = TestImage::new([Rootfs::empty().file("file", &super::noise(100_000))]);
    let layer = &image.layers[0];
    let mut flipped = layer.bytes.clone();
    *flipped.last_mut().expect("a byte") ^= 1;
    let longer = [&layer.bytes[..], b"x"].concat();
    let shorter = layer.bytes[..layer.bytes.len() - 1].to_vec();
    let other_config = image
        .config
        .bytes
        .iter()
        .map(|byte| byte.wrapping_add(1))
        .collect();
    for (victim, fault) in [
        (layer.digest(), Fault::Bytes(flipped)),
        (layer.digest(), Fault::Bytes(longer)),
        (layer.digest(), Fault::Bytes(shorter)),
        (image.config.digest(), Fault::Bytes(other_config)),
        (image.config.digest(), Fault::Bytes(b"{}".to_vec())),
    ] {
        let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
        registry.add("app:latest", &image);
        registry.always(&victim, fault);
        let failed = pull(&sandbox, &registry, "app").run().code(1);
        drop(failed.says(&victim));
        assert_nothing_published(&sandbox);
        registry.mend();
        pull(&sandbox, &registry, "app").run().ok();
    }
}

#[test]
fn a_layer_that_is_another_than_the_config_says_is_not_taken_for_it() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let image = TestImage::new([Rootfs::empty().file("file", "one")]);
    let other = TestImage::new([Rootfs::empty().file("file", "two")]);
    // The blob is what the manifest says, but not what the config says.
    let manifest = changed(&image, |manifest| {
        manifest["layers"][0] = other.layers[0].descriptor();
    });
    registry.add("app:other", &other);
    registry.add("app:image", &image);
    registry.add_manifest(Some("app:latest"), &manifest);
    let failed = pull(&sandbox, &registry, "app").run().code(1);
    drop(failed.says(&other.layers[0].digest()).says("diff id"));
    assert_nothing_published(&sandbox);
    // A config that counts layers otherwise than its manifest is no better.
    let manifest = changed(&image, |manifest| manifest["layers"] = json!([]));
    registry.add_manifest(Some("app:fewer"), &manifest);
    let failed = pull(&sandbox, &registry, "app:fewer").run().code(1);
    drop(failed.says("1 diff ids for the 0 layers"));
    assert_nothing_published(&sandbox);
}

#[test]
fn three_layers_with_the_largest_windows_stay_within_128_mib() {
    let (sandbox, registry) = (Sandbox::new("pull"), FakeRegistry::start());
    let layers = (0..4).map(|number| {
        let text = super::noise(40_000_000);
        let layer = Rootfs::empty().file(&format!("file{number}"), &text);
        (layer, Compression::ZstdWide)
    });
    registry.add("app:latest", &TestImage::packed(layers));
    let measure = "import resource, subprocess, sys\n\
                   code = subprocess.call(sys.argv[1:], stdout=sys.stderr)\n\
                   print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n\
                   sys.exit(code)";
    let peak = |command: Cmd| -> u64 {
        let measured = command.through(["python3", "-c", measure]).run().ok();
        measured.line().parse().expect("KiB")
    };
    // A debug build takes some 10 MiB more for itself than a release does.
    let resting = peak(sandbox.mybox(["images"]));
    let pulling = peak(pull(&sandbox, &registry, "app")) - resting;
    assert!((64 << 10..114 << 10).contains(&pulling), "{pulling} KiB");
}
