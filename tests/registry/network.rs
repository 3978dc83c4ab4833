//! The way to a registry: proxies, plain HTTP, answers that say to come back later, answers that
//! are wrong.

use std::time::Duration;

use super::{Home, image, large_image, pull};
use crate::harness::Sandbox;
use crate::harness::registry::{
    Authority, DockerRegistry, FakeRegistry, Fault, Proxy, Setup, TokenServer,
};

/// A busy registry's answer.
fn busy(status: u16, seconds: &str) -> Fault {
    Fault::Status(status, vec![("Retry-After", seconds.to_owned())])
}

#[test]
fn an_encrypted_registry_is_reached_through_the_proxy_of_the_environment() {
    let (sandbox, authority) = (Sandbox::new("network"), Authority::new());
    let registry = DockerRegistry::with(Setup {
        tls: Some(&authority),
        ..Setup::default()
    });
    let (proxy, home) = (Proxy::to(registry.address()), Home::of(&sandbox));
    let image = image("behind a proxy", 2);
    registry.push("app", &image);
    let pull = || {
        let pull = pull(&sandbox, &home, "registry.test/app");
        pull.arg("--tls-ca")
            .arg(authority.ca())
            .env("HTTPS_PROXY", proxy.url())
    };
    assert_eq!(pull().run().ok().line(), image.digest());
    let seen = proxy.seen();
    assert!(!seen.is_empty());
    for seen in &seen {
        assert_eq!(seen.line(), "CONNECT registry.test:443");
    }
    // There is no such host, so that it can only be reached in that way.
    pull()
        .env("NO_PROXY", "example.com,registry.test")
        .run()
        .code(1)
        .says("cannot reach registry.test");
    assert_eq!(proxy.seen().len(), seen.len());
}

#[test]
fn plain_http_leaves_this_machine_only_if_the_user_says_so() {
    let sandbox = Sandbox::new("network");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let image = image("plain", 1);
    registry.add("app:latest", &image);
    let proxy = Proxy::to(&registry.address());
    let pull = || {
        let pull = pull(&sandbox, &home, "registry.test/app");
        pull.env("HTTPS_PROXY", proxy.url())
            .env("HTTP_PROXY", proxy.url())
    };
    pull()
        .run()
        .code(1)
        .says("registry.test does not speak HTTPS")
        .says("--insecure");
    assert_eq!(
        registry.server().seen().len(),
        0,
        "something went out unencrypted"
    );
    assert_eq!(pull().arg("--insecure").run().ok().line(), image.digest());
    let is_plain = |line: &str| line.starts_with("GET http://registry.test/v2/");
    assert!(proxy.seen().iter().any(|seen| is_plain(&seen.line())));
}

#[test]
fn what_is_on_this_machine_is_not_asked_for_at_a_proxy() {
    let sandbox = Sandbox::new("network");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    registry.add("app:latest", &image("near", 1));
    let nowhere = "http://127.0.0.1:1";
    let pull = pull(&sandbox, &home, &registry.reference("app"));
    pull.env("HTTPS_PROXY", nowhere)
        .env("HTTP_PROXY", nowhere)
        .env("ALL_PROXY", nowhere)
        .run()
        .ok();
}

#[test]
fn a_busy_registry_is_asked_again() {
    let (sandbox, tokens) = (Sandbox::new("network"), TokenServer::start());
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let image = image("busy", 2);
    registry.add("app:latest", &image);
    registry.guard(tokens.guard());
    registry.fail("/manifests/", 1, busy(429, "1"));
    registry.fail("/manifests/", 1, busy(503, "Sun, 06 Nov 1994 08:49:37 GMT"));
    registry.fail("/manifests/", 1, Fault::Status(502, vec![]));
    registry.fail(image.config.digest(), 1, busy(429, "0"));
    registry.fail(image.layers[1].digest(), 2, busy(503, "0"));
    assert_eq!(
        pull(&sandbox, &home, &registry.reference("app"))
            .run()
            .ok()
            .line(),
        image.digest()
    );
    assert_eq!(registry.requests(&image.layers[1].digest()).len(), 3);
}

#[test]
fn who_waits_for_a_registry_is_told_so() {
    let sandbox = Sandbox::new("network");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let (name, address) = (registry.reference("app"), registry.address());
    registry.add("app:latest", &image("busy", 1));
    let told = format!("note: {address}: answers 429 Too Many Requests; again in 1 s\n");
    let one = || registry.fail("/manifests/", 1, busy(429, "1"));
    one();
    let pull_aloud = home.run_by(sandbox.mybox(["pull", &name])).run().ok();
    drop(pull_aloud.says(&told));
    one();
    assert_eq!(pull(&sandbox, &home, &name).run().ok().stderr(), "");
    let login = sandbox.mybox(["login", "-u", "me", "-p", "pw", &address]);
    registry.fail("GET /v2/", 1, busy(429, "1"));
    home.run_by(login).run().ok().says(&told);
}

#[test]
fn a_connection_that_breaks_before_the_answer_is_made_again() {
    let sandbox = Sandbox::new("network");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let image = image("broken", 1);
    registry.add("app:latest", &image);
    registry.fail("/manifests/", 2, Fault::HangUp);
    registry.fail(image.layers[0].digest(), 2, Fault::HangUp);
    assert_eq!(
        pull(&sandbox, &home, &registry.reference("app"))
            .run()
            .ok()
            .line(),
        image.digest()
    );
}

#[test]
fn a_registry_that_stands_still_is_asked_again_after_a_minute() {
    let sandbox = Sandbox::new("network");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let image = large_image(100_000);
    registry.add("app:latest", &image);
    let layer = image.layers[0].digest();
    registry.fail(&layer, 1, Fault::Hold(50_000));
    let pull = pull(&sandbox, &home, &registry.reference("app"));
    pull.timeout(Duration::from_secs(300)).run().ok();
    let asked = registry.requests(&layer);
    assert_eq!(asked.len(), 2, "{asked:#?}");
    assert_eq!(asked[1].header("range"), Some("bytes=50000-"));
}

#[test]
fn what_is_not_there_is_named() {
    let sandbox = Sandbox::new("network");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let address = registry.address();
    pull(&sandbox, &home, &registry.reference("team/app:2"))
        .run()
        .code(1)
        .says(&format!(
            "{address} has no team/app:2: MANIFEST_UNKNOWN: not here"
        ));
}

#[test]
fn a_manifest_that_is_another_one_is_refused() {
    let sandbox = Sandbox::new("network");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let (image, other) = (image("right", 1), image("wrong", 1));
    registry.add("app:latest", &image);
    registry.add("other:latest", &other);
    registry.always("/manifests/", Fault::Bytes(other.manifest.bytes.clone()));
    let by_digest = registry.reference(&format!("app@{}", image.digest()));
    for name in [registry.reference("app"), by_digest] {
        let lie = format!("has digest {}, not {}", other.digest(), image.digest());
        pull(&sandbox, &home, &name).run().code(1).says(&lie);
    }
    assert_eq!(sandbox.mybox(["images", "--quiet"]).run().ok().stdout(), "");
}

#[test]
fn a_manifest_without_end_is_not_read_to_its_end() {
    let sandbox = Sandbox::new("network");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    registry.add("app:latest", &image("long", 1));
    registry.always("/manifests/", Fault::Bytes(vec![b' '; (4 << 20) + 1]));
    pull(&sandbox, &home, &registry.reference("app"))
        .run()
        .code(1)
        .says("it is longer than 4194304 bytes");
}

#[test]
fn what_began_encrypted_does_not_go_on_in_the_open() {
    let (sandbox, authority) = (Sandbox::new("network"), Authority::new());
    let (storage, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let to_storage = format!("http://{}", storage.address());
    let registry = DockerRegistry::with(Setup {
        tls: Some(&authority),
        storage: Some(&to_storage),
        ..Setup::default()
    });
    registry.push("app", &image("redirected", 1));
    let proxy = Proxy::to(registry.address());
    let pull = pull(&sandbox, &home, "registry.test/app");
    pull.arg("--tls-ca")
        .arg(authority.ca())
        .env("HTTPS_PROXY", proxy.url())
        .run()
        .code(1)
        .says(&format!("registry.test redirects to {to_storage}/"))
        .says("that is not encrypted");
    assert_eq!(storage.server().seen().len(), 0);
}

#[test]
fn redirects_in_a_circle_end() {
    let sandbox = Sandbox::new("network");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    registry.add("app:latest", &image("circle", 1));
    registry.always(
        "/manifests/",
        Fault::Redirect(format!("http://{}", registry.address())),
    );
    pull(&sandbox, &home, &registry.reference("app"))
        .run()
        .code(1)
        .says("too many redirects");
    registry.mend();
    registry.always(
        "/manifests/",
        Fault::Redirect("http://192.0.2.1".to_owned()),
    );
    pull(&sandbox, &home, &registry.reference("app"))
        .run()
        .code(1)
        .says("that is not encrypted");
}
