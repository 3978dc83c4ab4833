//! `mybox push`: what is sent, what is not, and that it arrives as it was.

use super::{Home, image, large_image, pull};
use crate::harness::registry::{
    Content, DockerRegistry, FakeRegistry, Fault, Seen, Setup, TestImage, TokenServer, index_of,
    write_layout,
};
use crate::harness::{Cmd, Rootfs, Sandbox};

/// `mybox push`, by this user.
fn push<const N: usize>(sandbox: &Sandbox, home: &Home, words: [&str; N]) -> Cmd {
    home.run_by(sandbox.mybox(["push"]).args(words))
}

/// One to pull from, one to push to.
fn registries(sandbox: &Sandbox) -> (FakeRegistry, FakeRegistry, Home) {
    (
        FakeRegistry::start(),
        FakeRegistry::start(),
        Home::of(sandbox),
    )
}

/// Has a registry serve images as `app:1`, by an index.
fn serve_all(source: &FakeRegistry, images: &[TestImage]) -> Content {
    let index = index_of(images);
    images
        .iter()
        .for_each(|image| source.add("app:each", image));
    source.add_manifest(Some("app:1"), &index);
    index
}

#[test]
fn what_was_pulled_is_pushed_byte_for_byte() {
    let sandbox = Sandbox::new("push");
    let (source, target, home) = (
        FakeRegistry::start(),
        DockerRegistry::start(),
        Home::of(&sandbox),
    );
    let docker = TestImage::docker([Rootfs::empty().file("a", "docker's")]);
    for (name, image) in [("oci:1", image("oci", 3)), ("docker:1", docker)] {
        source.add(name, &image);
        let (from, to) = (source.reference(name), target.reference(name));
        pull(&sandbox, &home, &from).run().ok();
        let output = push(&sandbox, &home, [&from, &to]).run().ok();
        let (digest, size) = (image.digest(), image.manifest.bytes.len());
        assert_eq!(output.line(), format!("1: digest: {digest} size: {size}"));
        assert_eq!(target.manifest(name), image.manifest.bytes);
        // What is there is not sent again.
        let again = push(&sandbox, &home, [&from, &to]).run().ok().stderr();
        assert_eq!(
            again.matches("already there").count(),
            image.blobs().count(),
            "{again}"
        );
    }
}

#[test]
fn an_imported_image_is_pushed_and_runs_where_it_is_pulled() {
    let sandbox = Sandbox::new("push");
    let (registry, home) = (DockerRegistry::start(), Home::of(&sandbox));
    let name = registry.reference("tiny");
    sandbox.import(&name, Rootfs::tiny());
    let quiet = push(&sandbox, &home, ["--quiet", &name]).run().ok();
    assert_eq!(quiet.stderr(), "");
    let elsewhere = Sandbox::new("push");
    assert_eq!(
        pull(&elsewhere, &home, &name).run().ok().line(),
        quiet.line()
    );
    elsewhere.run([&name, "probe", "report"]).run().ok();
}

#[test]
fn an_index_is_pushed_with_all_its_images() {
    let sandbox = Sandbox::new("push");
    let (source, target, home) = (
        FakeRegistry::start(),
        DockerRegistry::start(),
        Home::of(&sandbox),
    );
    let images = [
        image("for this machine", 2),
        TestImage::for_platform("arm/v7", [Rootfs::empty()]),
    ];
    let index = serve_all(&source, &images);
    let (from, to) = (source.reference("app:1"), target.reference("app:1"));
    home.run_by(sandbox.mybox(["pull", "--all-platforms", &from]))
        .run()
        .ok();
    let said = push(&sandbox, &home, [&from, &to]).run().ok().line();
    assert_eq!(
        said,
        format!("1: digest: {} size: {}", index.digest(), index.bytes.len())
    );
    assert_eq!(target.manifest("app:1"), index.bytes);
    let other = format!("app@{}", images[1].digest());
    assert_eq!(target.manifest(&other), images[1].manifest.bytes);
}

#[test]
fn of_an_index_that_is_here_in_part_a_single_image_goes_alone_and_several_do_not() {
    let sandbox = Sandbox::new("push");
    let (source, target, home) = registries(&sandbox);
    let platforms = ["arm/v7", "s390x"].map(|one| TestImage::for_platform(one, [Rootfs::empty()]));
    let [arm, other] = platforms;
    let images = [image("for this machine", 2), arm, other];
    drop(serve_all(&source, &images));
    let (from, to) = (source.reference("app:1"), target.reference("app:1"));
    home.run_by(sandbox.mybox(["pull", "-a", &from])).run().ok();
    let lose = |image: &TestImage| {
        let hex = image.digest().replace("sha256:", "");
        let blob = sandbox.root().join("blobs/sha256").join(hex);
        std::fs::remove_file(blob).expect("a manifest");
    };
    lose(&images[1]);
    let refused = push(&sandbox, &home, [&from, &to]).run().code(1);
    let refused = refused.says("names images that are not here: linux/arm/v7");
    drop(refused.says("hint: `mybox pull -a`"));
    lose(&images[2]);
    let pushed = push(&sandbox, &home, [&from, &to]).run().ok();
    drop(pushed.says("goes alone, without linux/arm/v7, linux/s390x"));
    assert!(target.has_tag("app:1"));
    let elsewhere = Sandbox::new("push");
    let pulled = pull(&elsewhere, &home, &to).run().ok().line();
    assert_eq!(pulled, images[0].digest());
}

#[test]
fn blobs_of_another_repository_are_mounted() {
    let sandbox = Sandbox::new("push");
    let (registry, home) = (DockerRegistry::start(), Home::of(&sandbox));
    let image = image("mounted", 3);
    registry.push("team/base:1", &image);
    let (from, to) = (
        registry.reference("team/base:1"),
        registry.reference("other/app:1"),
    );
    pull(&sandbox, &home, &from).run().ok();
    let said = push(&sandbox, &home, [&from, &to]).run().ok().stderr();
    assert_eq!(said.matches("mounted from team/base").count(), 4, "{said}");
    assert_eq!(registry.manifest("other/app:1"), image.manifest.bytes);
    let log = registry.log();
    let count = |line: &str| log.matches(line).count();
    assert_eq!(count("\"PUT /v2/team/base/blobs/uploads/"), 4, "{log}");
    assert_eq!(count("\"PUT /v2/other/app/blobs/uploads/"), 0, "{log}");
}

#[test]
fn a_push_needs_one_token_for_all_its_blobs() {
    let (sandbox, tokens) = (Sandbox::new("push"), TokenServer::start());
    let registry = DockerRegistry::with(Setup {
        token: Some(&tokens),
        ..Setup::default()
    });
    let (home, address) = (Home::of(&sandbox), registry.address());
    let name = registry.reference("app");
    sandbox.import(&name, Rootfs::empty().file("a", "b"));
    push(&sandbox, &home, [&name])
        .run()
        .code(1)
        .says(&format!("{address} refuses access to app, blob sha256:"))
        .says(" anonymously")
        .says(&format!("`mybox login {address}`"));
    let login = sandbox.mybox(["login", "-u", "me", "-p", "s3cret:with a colon", address]);
    home.run_by(login).run().ok();
    let before = tokens.requests().len();
    push(&sandbox, &home, [&name]).run().ok();
    let mine = tokens.requests().split_off(before);
    assert_eq!(mine.len(), 1, "{mine:#?}");
    assert_eq!(
        mine[0].parameter("scope").as_deref(),
        Some("repository:app:pull,push")
    );
}

#[test]
fn an_upload_that_goes_on_at_another_host_does_not_take_the_token_there() {
    let (sandbox, tokens) = (Sandbox::new("push"), TokenServer::start());
    let (registry, storage, home) = registries(&sandbox);
    registry.guard(tokens.guard());
    registry.upload_to(&storage, 2);
    let (name, address) = (registry.reference("app"), registry.address());
    sandbox.import(&name, Rootfs::empty().file("a", "b"));
    let login = ["login", "-u", "me", "-p", "s3cret:with a colon", &address];
    home.run_by(sandbox.mybox(login)).run().ok();
    push(&sandbox, &home, [&name]).run().ok();
    let sent = storage.requests("PUT ");
    assert_eq!(sent.len(), 2, "{sent:#?}");
    for seen in &sent {
        assert_eq!(seen.header("authorization"), None);
    }
    assert!(
        registry.requests("POST ")[1]
            .header("authorization")
            .is_some()
    );
}

/// An image with a large layer, pulled from somewhere, and where it is to be pushed to.
struct Large {
    sandbox: Sandbox,
    home: Home,
    target: FakeRegistry,
    from: String,
    layer: Content,
}

impl Large {
    fn of(bytes: usize) -> Self {
        let sandbox = Sandbox::new("push");
        let (source, target, home) = registries(&sandbox);
        let image = large_image(bytes);
        source.add("app:1", &image);
        let from = source.reference("app:1");
        pull(&sandbox, &home, &from).run().ok();
        let layer = image.layers[0].clone();
        Self {
            sandbox,
            home,
            target,
            from,
            layer,
        }
    }

    /// Pushes it; the chunks that were sent. What arrives must be the layer.
    #[track_caller]
    fn push(&self) -> Vec<String> {
        let to = self.target.reference("app:1");
        push(&self.sandbox, &self.home, [&self.from, &to])
            .run()
            .ok();
        let arrived = self.target.blob(&self.layer.digest());
        assert!(arrived.as_ref() == Some(&self.layer.bytes), "it is another");
        let chunks = self.target.requests(CHUNK);
        let range = |seen: &Seen| seen.header("content-range").unwrap_or_default().to_owned();
        chunks.iter().map(range).collect()
    }
}

const CHUNK: &str = "PATCH /v2/app/blobs/uploads/";

#[test]
fn a_large_layer_goes_in_chunks_and_goes_on_where_it_broke() {
    // Two chunks of 64 MiB and the rest.
    let large = Large::of(130 << 20);
    // The second chunk does not arrive whole.
    large.target.fail(CHUNK, 1, Fault::Pass);
    large.target.fail(CHUNK, 1, Fault::Take(1 << 20));
    let (first, second) = (64 << 20, 65 << 20);
    assert_eq!(
        large.push(),
        [
            format!("0-{}", first - 1),
            format!("{first}-{}", 2 * first - 1),
            format!("{second}-{}", second + first - 1),
        ]
    );
}

#[test]
fn a_registry_that_wants_no_chunks_gets_the_whole() {
    for status in [405, 416] {
        let large = Large::of(70 << 20);
        large.target.always(CHUNK, Fault::Status(status, vec![]));
        assert_eq!(large.push().len(), 1, "{status}");
    }
}

#[test]
fn a_registry_that_asks_for_larger_chunks_gets_them() {
    let large = Large::of(70 << 20);
    large.target.smallest_chunk(100 << 20);
    assert_eq!(large.push(), Vec::<String>::new());
}

#[test]
fn a_push_is_tried_again_while_the_registry_is_busy() {
    let sandbox = Sandbox::new("push");
    let (target, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let name = target.reference("app");
    sandbox.import(&name, Rootfs::empty().file("a", "b"));
    let busy = || Fault::Status(503, vec![("Retry-After", "0".to_owned())]);
    for step in [
        "HEAD ",
        "POST ",
        "PUT /v2/app/blobs/",
        "PUT /v2/app/manifests/",
    ] {
        target.fail(step, 2, busy());
    }
    target.fail("PUT /v2/app/blobs/", 1, Fault::HangUp);
    push(&sandbox, &home, [&name]).run().ok();
    assert!(target.has_tag("app:latest"));
}

#[test]
fn what_is_not_there_or_has_no_tag_is_not_pushed() {
    let sandbox = Sandbox::new("push");
    let (target, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let name = target.reference("app");
    push(&sandbox, &home, [&name])
        .run()
        .code(1)
        .says("no such image");
    sandbox.import("app", Rootfs::empty().file("a", "b"));
    let pinned = format!("{name}@sha256:{}", "ab".repeat(32));
    push(&sandbox, &home, ["app", &pinned])
        .run()
        .code(1)
        .says("a digest is what comes of a push");
    assert_eq!(target.server().seen().len(), 0);
}

#[test]
fn skopeo_and_mybox_exchange_images_through_a_registry() {
    let sandbox = Sandbox::new("push");
    let (registry, home) = (DockerRegistry::start(), Home::of(&sandbox));
    let image = image("exchanged", 2);
    let layout = sandbox.scratch().join("layout");
    write_layout(&layout, &image.manifest, "it", std::slice::from_ref(&image));
    let skopeo = |from: &str, to: &str| {
        let words = [
            "--insecure-policy",
            "copy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ];
        home.run_by(Cmd::new("skopeo").args(words).args([from, to]))
            .run()
            .ok();
    };
    let name = registry.reference("app:1");
    skopeo(
        &format!("oci:{}:it", layout.display()),
        &format!("docker://{name}"),
    );
    pull(&sandbox, &home, &name).run().ok();
    let second = registry.reference("second:1");
    push(&sandbox, &home, [&name, &second]).run().ok();
    let copy = sandbox.scratch().join("copy");
    skopeo(
        &format!("docker://{second}"),
        &format!("oci:{}:it", copy.display()),
    );
    let index = std::fs::read_to_string(copy.join("index.json")).expect("index.json");
    assert!(index.contains(&image.digest()), "{index}");
}
