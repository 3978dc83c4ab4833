//! Where to look: `registries.conf` with its mirrors, aliases, and registries to search.

use super::{Home, image, pull};
use crate::harness::registry::{Authority, DockerRegistry, FakeRegistry, Setup, TestImage};
use crate::harness::{Rootfs, Sandbox};

fn names(sandbox: &Sandbox) -> Vec<String> {
    let listed = sandbox.mybox(["images", "--json"]).run().ok().stdout_json();
    let name = |image: &serde_json::Value| {
        let word = |key: &str| image[key].as_str().unwrap_or_default().to_owned();
        format!("{}:{}", word("repository"), word("tag"))
    };
    listed
        .as_array()
        .expect("a list")
        .iter()
        .map(name)
        .collect()
}

#[test]
fn a_mirror_is_asked_first_and_the_image_has_its_own_name() {
    let sandbox = Sandbox::new("names");
    let (registry, mirror, home) = (
        FakeRegistry::start(),
        FakeRegistry::start(),
        Home::of(&sandbox),
    );
    let (image, other) = (image("mirrored", 2), image("only in the registry", 1));
    for place in [&registry, &mirror] {
        place.add("team/app:1", &image);
    }
    registry.add("team/other:1", &other);
    let config = format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}'\n",
        registry.address(),
        mirror.address(),
    );
    home.write("registries.conf", &config);
    let said = pull(&sandbox, &home, &registry.reference("team/app:1"))
        .run()
        .ok()
        .line();
    assert_eq!(said, image.digest());
    assert_eq!(
        registry.server().seen().len(),
        0,
        "{:#?}",
        registry.server().seen()
    );
    assert_eq!(names(&sandbox), [registry.reference("team/app:1")]);
    // What the mirror does not have is the registry's.
    let said = pull(&sandbox, &home, &registry.reference("team/other:1"))
        .run()
        .ok()
        .line();
    assert_eq!(said, other.digest());
    assert_eq!(mirror.requests("/manifests/1").len(), 2);
}

#[test]
fn a_mirror_that_is_down_is_passed_over() {
    let sandbox = Sandbox::new("names");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    registry.add("app:1", &image("up", 1));
    let config = format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '127.0.0.1:1'\n",
        registry.address(),
    );
    home.write("registries.conf", &config);
    home.run_by(sandbox.mybox(["pull", &registry.reference("app:1")]))
        .run()
        .ok()
        .says("127.0.0.1:1");
}

#[test]
fn docker_hub_can_be_somewhere_else() {
    let sandbox = Sandbox::new("names");
    let (mirror, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let image = image("hub", 1);
    mirror.add("hub/library/ubuntu:jammy", &image);
    let config = format!(
        "[[registry]]\nprefix = 'docker.io'\nlocation = '{}/hub'\n",
        mirror.address()
    );
    home.write("registries.conf", &config);
    pull(&sandbox, &home, "ubuntu:jammy").run().ok();
    assert_eq!(names(&sandbox), ["ubuntu:jammy"]);
}

#[test]
fn a_short_name_is_what_its_alias_says() {
    let sandbox = Sandbox::new("names");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    registry.add("team/app:latest", &image("alias", 1));
    let config = format!("[aliases]\napp = '{}'\n", registry.reference("team/app"));
    home.write("registries.conf", &config);
    pull(&sandbox, &home, "app").run().ok();
    assert_eq!(names(&sandbox), [registry.reference("team/app:latest")]);
}

#[test]
fn a_container_is_made_of_what_a_short_name_means() {
    let sandbox = Sandbox::new("names");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    registry.add("team/app:latest", &TestImage::new([Rootfs::tiny()]));
    let config = format!("[aliases]\napp = '{}'\n", registry.reference("team/app"));
    home.write("registries.conf", &config);
    let run = || {
        home.run_by(sandbox.run(["app", "probe", "report"]))
            .run()
            .ok()
    };
    run();
    assert_eq!(names(&sandbox), [registry.reference("team/app:latest")]);
    let asked = registry.server().seen().len();
    // The second time it is there.
    run();
    let dry = ["run", "--dry-run", "app", "probe", "report"];
    home.run_by(sandbox.mybox(dry)).run().ok();
    assert_eq!(registry.server().seen().len(), asked);
    // Without the alias it is another image's name.
    home.write("registries.conf", "");
    home.run_by(sandbox.run(["--pull", "never", "app", "probe", "report"]))
        .run()
        .code(125)
        .says("no such image: app");
}

#[test]
fn a_short_name_is_looked_for_in_every_registry_that_is_searched() {
    let sandbox = Sandbox::new("names");
    let (first, second, home) = (
        FakeRegistry::start(),
        FakeRegistry::start(),
        Home::of(&sandbox),
    );
    let (in_both, in_second) = (image("in both", 1), image("in the second", 1));
    first.add("both:latest", &in_both);
    second.add("both:latest", &in_second);
    second.add("one:latest", &in_second);
    let config = format!(
        "unqualified-search-registries = ['{}', '{}']\n",
        first.address(),
        second.address(),
    );
    home.write("registries.conf", &config);
    assert_eq!(
        pull(&sandbox, &home, "both").run().ok().line(),
        in_both.digest()
    );
    assert_eq!(
        pull(&sandbox, &home, "one").run().ok().line(),
        in_second.digest()
    );
    pull(&sandbox, &home, "none")
        .run()
        .code(1)
        .says(&format!("{} has no none:latest", second.address()));
}

#[test]
fn what_is_blocked_is_not_asked() {
    let sandbox = Sandbox::new("names");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    registry.add("app:latest", &image("blocked", 1));
    let config = format!(
        "[[registry]]\nlocation = '{}'\nblocked = true\n",
        registry.address()
    );
    home.write("registries.conf", &config);
    pull(&sandbox, &home, &registry.reference("app"))
        .run()
        .code(1)
        .says("registries.conf blocks");
    assert_eq!(registry.server().seen().len(), 0);
}

#[test]
fn a_registry_that_is_called_insecure_need_not_prove_itself() {
    let (sandbox, authority) = (Sandbox::new("names"), Authority::new());
    let registry = DockerRegistry::with(Setup {
        tls: Some(&authority),
        ..Setup::default()
    });
    let home = Home::of(&sandbox);
    registry.push("app", &image("insecure", 1));
    pull(&sandbox, &home, &registry.reference("app"))
        .run()
        .code(1)
        .says("is not trusted");
    let config = format!(
        "[[registry]]\nlocation = '{}'\ninsecure = true\n",
        registry.address()
    );
    home.write("registries.conf", &config);
    pull(&sandbox, &home, &registry.reference("app")).run().ok();
}

#[test]
fn a_file_that_cannot_be_understood_is_named() {
    let sandbox = Sandbox::new("names");
    let home = Home::of(&sandbox);
    let path = home.write("registries.conf", "[[registry]]\nlocation = 7\n");
    let said = format!("{}: ", path.display());
    pull(&sandbox, &home, "app")
        .run()
        .code(1)
        .says(&said)
        .says("location");
}
