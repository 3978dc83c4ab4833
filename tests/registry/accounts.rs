//! Who asks: where credentials come from, how tokens are got and kept, and where they never go.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{Home, image, pull};
use crate::harness::registry::{DockerRegistry, FakeRegistry, Fault, Reply, Setup, TokenServer};
use crate::harness::{Cmd, Sandbox};

/// base64 of me:s3cret
const AUTH: &str = "bWU6czNjcmV0";

fn basic_registry() -> DockerRegistry {
    DockerRegistry::with(Setup {
        basic: true,
        ..Setup::default()
    })
}

#[test]
fn credentials_are_found_wherever_docker_and_podman_keep_them() {
    let (sandbox, registry) = (Sandbox::new("accounts"), basic_registry());
    let home = Home::of(&sandbox);
    let image = image("private", 2);
    registry.push("team/app:1", &image);
    let (name, address) = (registry.reference("team/app:1"), registry.address());
    let with = |file: &str, key: &str, variable: Option<(&str, &str)>| {
        let auths = json!({ "auths": { key: { "auth": AUTH } } });
        let path = home.write(file, &auths.to_string());
        let pull = pull(&sandbox, &home, &name);
        let pull = match variable {
            Some((variable, value)) => pull.env(variable, home.directory.join(value)),
            None => pull,
        };
        assert_eq!(pull.run().ok().line(), image.digest(), "{file}");
        std::fs::remove_file(path).expect("remove it");
        super::pull(&sandbox, &home, &name).run().code(1);
    };
    let url = format!("https://{address}/v1/");
    let (namespace, repository) = (format!("{address}/team"), format!("{address}/team/app"));
    with(".docker/config.json", address, None);
    with(".docker/config.json", &url, None);
    with("d/config.json", address, Some(("DOCKER_CONFIG", "d")));
    with(
        "named.json",
        address,
        Some(("REGISTRY_AUTH_FILE", "named.json")),
    );
    with("run/containers/auth.json", &namespace, None);
    with(".config/containers/auth.json", &repository, None);
    with(
        "x/containers/auth.json",
        address,
        Some(("XDG_CONFIG_HOME", "x")),
    );
}

#[test]
fn the_credentials_of_a_repository_come_before_those_of_its_registry() {
    let (sandbox, registry) = (Sandbox::new("accounts"), basic_registry());
    let home = Home::of(&sandbox);
    let image = image("private", 1);
    registry.push("team/app:1", &image);
    let address = registry.address();
    let auths = |right: &str, wrong: &str| {
        // base64 of other:wrong
        let auths =
            json!({ "auths": { right: { "auth": AUTH }, wrong: { "auth": "b3RoZXI6d3Jvbmc=" } } });
        home.write(".config/containers/auth.json", &auths.to_string());
        pull(&sandbox, &home, &registry.reference("team/app:1")).run()
    };
    let (namespace, other) = (format!("{address}/team"), format!("{address}/tea"));
    auths(&namespace, address).ok();
    auths(address, &other).ok();
    auths(address, &namespace)
        .code(1)
        .says(&format!("{address} refuses access to team/app:1 as other"));
}

#[test]
fn credential_helpers_are_asked() {
    let (sandbox, registry) = (Sandbox::new("accounts"), basic_registry());
    let home = Home::of(&sandbox);
    let image = image("private", 3);
    registry.push("app", &image);
    let (name, address) = (registry.reference("app"), registry.address());
    let script = format!(
        "#!/bin/sh\nread -r server\necho \"$1 $server\" >> {}/asked\necho '{{\"Username\":\"me\",\"Secret\":\"s3cret\"}}'\n",
        home.directory.display()
    );
    let helper = home.write("bin/docker-credential-safe", &script);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&helper, mode).expect("chmod");
    let bin = helper.parent().expect("bin").display();
    let path = format!("{bin}:{}", std::env::var("PATH").expect("PATH"));
    for config in [
        json!({ "credHelpers": { address: "safe" } }),
        json!({ "credsStore": "safe" }),
        json!({ "credsStore": "none", "credHelpers": { address: "safe" } }),
    ] {
        home.write(".docker/config.json", &config.to_string());
        let pull = pull(&sandbox, &home, &name).env("PATH", &path);
        assert_eq!(pull.run().ok().line(), image.digest());
        assert_eq!(
            home.read("asked"),
            format!("get {address}\n"),
            "once for all requests"
        );
        std::fs::remove_file(home.directory.join("asked")).expect("remove it");
    }
    // registries.conf can name helpers for all of the user's programs.
    home.write(".docker/config.json", "{}");
    home.write(
        "registries.conf",
        "credential-helpers = ['containers-auth.json', 'safe']",
    );
    pull(&sandbox, &home, &name).env("PATH", &path).run().ok();
    assert_eq!(home.read("asked"), format!("get {address}\n"));
}

#[test]
fn a_refusal_says_which_registry_refuses_whom_and_what_to_do() {
    let (sandbox, registry) = (Sandbox::new("accounts"), basic_registry());
    let home = Home::of(&sandbox);
    registry.push("app", &image("private", 1));
    let (name, address) = (registry.reference("app"), registry.address());
    pull(&sandbox, &home, &name)
        .run()
        .code(1)
        .says(&format!(
            "{address} refuses access to app:latest anonymously: UNAUTHORIZED"
        ))
        .says(&format!("`mybox login {address}`"));
    let auths = json!({ "auths": { address: { "username": "me", "password": "old" } } });
    home.write(".docker/config.json", &auths.to_string());
    pull(&sandbox, &home, &name)
        .run()
        .code(1)
        .says(&format!(
            "{address} refuses access to app:latest as me: UNAUTHORIZED"
        ))
        .says(&format!(
            "hint: `mybox login {address}` with an account that may do this"
        ));
}

#[test]
fn anybody_may_pull_what_is_public_with_an_anonymous_token() {
    let (sandbox, tokens) = (Sandbox::new("accounts"), TokenServer::start());
    let registry = token_registry(&tokens);
    let home = Home::of(&sandbox);
    let image = image("public", 2);
    registry.push("app", &image);
    let before = tokens.requests().len();
    let said = pull(&sandbox, &home, &registry.reference("app"))
        .run()
        .ok()
        .line();
    assert_eq!(said, image.digest());
    let mine = tokens.requests().split_off(before);
    assert_eq!(mine.len(), 1, "one for all layers: {mine:#?}");
    assert_eq!(mine[0].method, "GET");
    assert_eq!(mine[0].header("authorization"), None);
    assert_eq!(
        mine[0].parameter("scope").as_deref(),
        Some("repository:app:pull")
    );
    assert_eq!(
        mine[0].parameter("service").as_deref(),
        Some("registry.test")
    );
}

#[test]
fn a_token_is_got_with_the_password_or_the_identity_token_that_login_stored() {
    let (sandbox, tokens) = (Sandbox::new("accounts"), TokenServer::start());
    let registry = token_registry(&tokens);
    let (home, address) = (Home::of(&sandbox), registry.address());
    let image = image("private", 2);
    registry.push("app", &image);
    tokens.members_only();
    let name = registry.reference("app");
    pull(&sandbox, &home, &name)
        .run()
        .code(1)
        .says(&format!("{address} refuses access to app anonymously"))
        .says(&format!("`mybox login {address}`"));
    let login = || {
        let login = sandbox.mybox(["login", "-u", "me", "-p", "s3cret:with a colon", address]);
        home.run_by(login).run().ok();
    };
    login();
    assert_eq!(
        pull(&sandbox, &home, &name).run().ok().line(),
        image.digest()
    );
    let last = tokens.requests().pop().expect("a request");
    assert_eq!(last.parameter("account").as_deref(), Some("me"));
    tokens.give_identity();
    login();
    assert_eq!(
        pull(&sandbox, &home, &name).run().ok().line(),
        image.digest()
    );
    let last = tokens.requests().pop().expect("a request");
    assert_eq!(last.method, "POST");
    assert_eq!(
        last.parameter("refresh_token").as_deref(),
        Some("an-identity-token")
    );
    assert_eq!(
        last.parameter("scope").as_deref(),
        Some("repository:app:pull")
    );
    // One that is no good any more.
    let auths = json!({ "auths": { address: { "auth": "bWU6", "identitytoken": "old" } } });
    home.write(".docker/config.json", &auths.to_string());
    pull(&sandbox, &home, &name)
        .run()
        .code(1)
        .says(&format!("{address} refuses access to app as me"));
}

fn token_registry(tokens: &TokenServer) -> DockerRegistry {
    DockerRegistry::with(Setup {
        token: Some(tokens),
        ..Setup::default()
    })
}

#[test]
fn layers_that_arrive_in_parallel_share_one_token() {
    let (sandbox, tokens) = (Sandbox::new("accounts"), TokenServer::start());
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    registry.guard(tokens.guard());
    let image = image("many layers", 12);
    registry.add("app:latest", &image);
    let pull = pull(&sandbox, &home, &registry.reference("app"));
    pull.args(["--jobs", "8"]).run().ok();
    assert_eq!(tokens.requests().len(), 1);
    let blobs = registry.requests("/blobs/");
    assert_eq!(
        blobs.len(),
        13,
        "no blob was asked for without the token, or twice"
    );
}

#[test]
fn a_token_that_is_used_up_in_a_long_pull_is_renewed() {
    let (sandbox, tokens) = (Sandbox::new("accounts"), TokenServer::start());
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    tokens.uses(3);
    registry.guard(tokens.guard());
    let image = image("a long one", 8);
    registry.add("app:latest", &image);
    let pull = pull(&sandbox, &home, &registry.reference("app"));
    assert_eq!(pull.args(["--jobs", "1"]).run().ok().line(), image.digest());
    // Manifest, config and eight layers: three uses each.
    assert_eq!(tokens.requests().len(), 4);
}

#[test]
fn a_token_is_renewed_before_it_runs_out() {
    let (sandbox, tokens) = (Sandbox::new("accounts"), TokenServer::start());
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    tokens.expires_in(Some(1));
    registry.guard(tokens.guard());
    let image = image("a slow one", 2);
    registry.add("app:latest", &image);
    registry.fail(image.layers[0].digest(), 1, Fault::Hold(1));
    let pull = pull(&sandbox, &home, &registry.reference("app"));
    let pull = pull.args(["--jobs", "1"]).spawn();
    registry.server().wait_for(&image.layers[0].digest(), 1);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    registry.release();
    pull.wait().ok();
    let authorization = |layer: usize| {
        let mut requests = registry.requests(&image.layers[layer].digest());
        let request = requests.remove(0);
        assert!(
            requests.is_empty(),
            "a token that had run out was tried first"
        );
        request.header("authorization").map(str::to_owned)
    };
    assert_ne!(authorization(0), authorization(1));
}

#[test]
fn a_redirect_to_another_host_never_carries_the_token() {
    let (sandbox, tokens) = (Sandbox::new("accounts"), TokenServer::start());
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let storage = FakeRegistry::start();
    registry.guard(tokens.guard());
    let image = image("elsewhere", 2);
    registry.add("app:latest", &image);
    image.blobs().for_each(|blob| storage.add_content(blob));
    registry.always(
        "/blobs/",
        Fault::Redirect(format!("http://{}", storage.address())),
    );
    pull(&sandbox, &home, &registry.reference("app")).run().ok();
    let asked = storage.requests("/blobs/");
    assert_eq!(asked.len(), 3, "{asked:#?}");
    for seen in &asked {
        assert_eq!(seen.header("authorization"), None, "{seen:#?}");
    }
    let sent = registry.requests("/blobs/");
    assert!(
        sent.iter()
            .all(|seen| seen.header("authorization").is_some())
    );
}

#[test]
fn the_password_goes_to_no_other_name_of_the_same_host() {
    let sandbox = Sandbox::new("accounts");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let image = image("elsewhere", 1);
    registry.add("app:latest", &image);
    let address = registry.address();
    let auths = json!({ "auths": { &address: { "auth": AUTH } } });
    home.write(".docker/config.json", &auths.to_string());
    registry.guard(|seen| {
        let is_named_by_address = seen
            .header("host")
            .is_some_and(|host| host.starts_with("127."));
        let is_known = seen.header("authorization").is_some();
        let challenge = "Basic realm=\"tests\"";
        (is_named_by_address && !is_known)
            .then(|| Reply::status(401).header("WWW-Authenticate", challenge))
    });
    let by_name = address.replace("127.0.0.1", "localhost");
    // Sent to the same place by another name, a layer is found there; the second time it is served.
    let digest = image.layers[0].digest();
    registry.fail(
        format!("/blobs/{digest}"),
        1,
        Fault::Redirect(format!("http://{by_name}")),
    );
    pull(&sandbox, &home, &registry.reference("app")).run().ok();
    let asked = registry.requests(&digest);
    assert_eq!(asked.len(), 2, "{asked:#?}");
    assert!(asked[0].header("authorization").is_some());
    assert_eq!(asked[1].header("host"), Some(&*by_name));
    assert_eq!(asked[1].header("authorization"), None);
}

#[test]
fn an_account_without_rights_is_named() {
    let sandbox = Sandbox::new("accounts");
    let (registry, home) = (FakeRegistry::start(), Home::of(&sandbox));
    let address = registry.address();
    registry.add("app:latest", &image("forbidden", 1));
    registry.always("/manifests/", Fault::Status(403, vec![]));
    pull(&sandbox, &home, &registry.reference("app"))
        .run()
        .code(1)
        .says(&format!(
            "{address} refuses access to app:latest anonymously"
        ));
}

#[test]
fn the_order_of_the_files_is_that_of_who_named_them() {
    let (sandbox, registry) = (Sandbox::new("accounts"), basic_registry());
    let home = Home::of(&sandbox);
    registry.push("app", &image("private", 1));
    let (name, address) = (registry.reference("app"), registry.address());
    let auths = |user: &str| {
        json!({ "auths": { address: { "username": user, "password": "wrong" } } }).to_string()
    };
    home.write("named.json", &auths("named"));
    home.write(".docker/config.json", &auths("docker"));
    home.write("run/containers/auth.json", &auths("session"));
    home.write(".config/containers/auth.json", &auths("podman"));
    let refused = |pull: Cmd, user: &str| drop(pull.run().code(1).says(&format!(" as {user}")));
    let named = home.directory.join("named.json");
    refused(
        pull(&sandbox, &home, &name).env("REGISTRY_AUTH_FILE", named),
        "named",
    );
    for (file, user) in [
        (".docker/config.json", "docker"),
        ("run/containers/auth.json", "session"),
        (".config/containers/auth.json", "podman"),
    ] {
        refused(pull(&sandbox, &home, &name), user);
        std::fs::remove_file(home.directory.join(file)).expect("remove it");
    }
}
