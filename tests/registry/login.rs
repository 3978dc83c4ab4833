//! `mybox login` and `logout`.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use super::Home;
use crate::harness::registry::{
    Authority, DockerRegistry, FakeRegistry, Fault, Reply, Setup, TokenServer,
};
use crate::harness::{Cmd, PrivateHost, Sandbox, Terminal};

/// `mybox login -u me --password-stdin REGISTRY` with this password.
fn login(sandbox: &Sandbox, home: &Home, registry: &str, password: &str) -> Cmd {
    let login = sandbox.mybox(["login", "--username", "me", "--password-stdin", registry]);
    home.run_by(login).stdin(format!("{password}\n"))
}

fn logout(sandbox: &Sandbox, home: &Home, registry: &str) -> Cmd {
    home.run_by(sandbox.mybox(["logout", registry]))
}

fn config(home: &Home) -> Value {
    serde_json::from_str(&home.read(".docker/config.json")).expect("JSON")
}

fn basic_registry() -> DockerRegistry {
    DockerRegistry::with(Setup {
        basic: true,
        ..Setup::default()
    })
}

#[test]
fn the_right_password_is_kept_and_the_wrong_one_is_not() {
    let (sandbox, registry) = (Sandbox::new("login"), basic_registry());
    let (home, address) = (Home::of(&sandbox), registry.address());
    login(&sandbox, &home, address, "wrong")
        .run()
        .code(1)
        .says(&format!("{address} refuses access to its images as me"))
        .says(&format!("hint: `mybox login {address}`"));
    assert!(!home.docker().exists(), "a wrong password was kept");
    let said = login(&sandbox, &home, address, "s3cret").run().ok().line();
    assert_eq!(said, "Login Succeeded");
    // base64 of me:s3cret
    assert_eq!(
        config(&home),
        json!({ "auths": { address: { "auth": "bWU6czNjcmV0" } } })
    );
    let metadata = home.docker().metadata().expect("Docker's file");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn skopeo_is_let_in_with_what_login_stored() {
    let (sandbox, registry) = (Sandbox::new("login"), basic_registry());
    let home = Home::of(&sandbox);
    login(&sandbox, &home, registry.address(), "s3cret")
        .run()
        .ok();
    let tags = |home: &Home| {
        let repository = format!("docker://{}", registry.reference("nothing"));
        let skopeo = Cmd::new("skopeo").args(["list-tags", "--tls-verify=false", &repository]);
        home.run_by(skopeo)
            .env("XDG_CONFIG_HOME", &home.directory)
            .run()
            .stderr()
    };
    // That there is no such repository is for those to know who are let in.
    assert!(tags(&home).contains("404"), "{}", tags(&home));
    logout(&sandbox, &home, registry.address()).run().ok();
    assert!(
        tags(&home).contains("authentication required"),
        "{}",
        tags(&home)
    );
}

#[test]
fn what_others_keep_in_the_file_stays_there() {
    let (sandbox, registry) = (Sandbox::new("login"), basic_registry());
    let (home, address) = (Home::of(&sandbox), registry.address());
    let others = json!({
        "HttpHeaders": { "X-Meta": "1" },
        "auths": { "quay.io": { "auth": "eDp5" }, format!("https://{address}/v1/"): { "auth": "b2xk" } },
        "psFormat": "table {{.ID}}",
    });
    home.write("elsewhere.json", &others.to_string());
    std::fs::create_dir(home.directory.join(".docker")).expect("directory");
    std::os::unix::fs::symlink("../elsewhere.json", home.docker()).expect("link");
    login(&sandbox, &home, address, "s3cret").run().ok();
    let mut expected = others.clone();
    expected["auths"] =
        json!({ "quay.io": { "auth": "eDp5" }, address: { "auth": "bWU6czNjcmV0" } });
    assert_eq!(config(&home), expected);
    let link = home.docker().symlink_metadata().expect("Docker's file");
    assert!(link.is_symlink(), "the link was replaced by a file");
    assert_eq!(
        logout(&sandbox, &home, address).run().ok().line(),
        format!("Removing login credentials for {address}")
    );
    expected["auths"] = json!({ "quay.io": { "auth": "eDp5" } });
    assert_eq!(config(&home), expected);
    let inode = home.docker().metadata().expect("Docker's file").ino();
    assert_eq!(
        logout(&sandbox, &home, address).run().ok().line(),
        format!("Not logged in to {address}")
    );
    assert_eq!(
        home.docker().metadata().expect("Docker's file").ino(),
        inode,
        "it was written for nothing"
    );
}

#[test]
fn a_file_that_is_no_json_is_left_alone() {
    let (sandbox, registry) = (Sandbox::new("login"), basic_registry());
    let home = Home::of(&sandbox);
    home.write(".docker/config.json", "{\"auths\": oops");
    login(&sandbox, &home, registry.address(), "s3cret")
        .run()
        .code(1)
        .says("/.docker/config.json: expected value at line 1");
    assert_eq!(home.read(".docker/config.json"), "{\"auths\": oops");
}

#[test]
fn the_terminal_is_asked_and_does_not_show_the_password() {
    let (sandbox, registry) = (Sandbox::new("login"), basic_registry());
    let home = Home::of(&sandbox);
    let terminal = Terminal::new(24, 80);
    let before = terminal.settings();
    let mut session = terminal.spawn(home.run_by(sandbox.mybox(["login", registry.address()])));
    session.read_until("Username: ");
    session.send("me\n");
    session.read_until("Password: ");
    session.send("s3cret\n");
    session.read_until("Login Succeeded");
    let (code, screen, terminal) = session.wait();
    assert_eq!(code, 0);
    assert!(!screen.contains("s3cret"), "{screen}");
    assert_eq!(terminal.settings(), before);
}

#[test]
fn without_a_terminal_the_password_must_come_from_somewhere() {
    let sandbox = Sandbox::new("login");
    let home = Home::of(&sandbox);
    let run = |words: &[&str]| home.run_by(sandbox.mybox(["login"]).args(words)).run();
    run(&["localhost:1"])
        .code(1)
        .says("standard input is no terminal: use --username");
    run(&["--password-stdin", "localhost:1"])
        .code(1)
        .says("--password-stdin needs --username");
    run(&["-u", "me", "--password-stdin", "localhost:1"])
        .code(1)
        .says("cannot be empty");
    run(&["-u", "me:you", "-p", "x", "localhost:1"])
        .code(1)
        .says("colon");
    run(&["-u", "me", "-p", "x", "quay.io/team"])
        .code(2)
        .says("no registry");
}

#[test]
fn a_helper_keeps_the_password_where_there_is_one() {
    let (sandbox, registry) = (Sandbox::new("login"), basic_registry());
    let (home, address) = (Home::of(&sandbox), registry.address());
    let bin = helper(&home);
    let config_before = json!({ "credsStore": "safe" });
    home.write(".docker/config.json", &config_before.to_string());
    let with_helper = |command: Cmd| command.env("PATH", &bin);
    with_helper(login(&sandbox, &home, address, "s3cret"))
        .run()
        .ok();
    assert_eq!(
        config(&home),
        json!({ "auths": { address: {} }, "credsStore": "safe" })
    );
    let kept: Value = serde_json::from_str(&home.read("kept")).expect("JSON");
    assert_eq!(
        kept,
        json!({ "ServerURL": address, "Username": "me", "Secret": "s3cret" })
    );
    with_helper(logout(&sandbox, &home, address)).run().ok();
    assert!(!home.directory.join("kept").exists());
    assert_eq!(config(&home), json!({ "auths": {}, "credsStore": "safe" }));
}

#[test]
fn a_helper_that_fails_says_why() {
    let (sandbox, registry) = (Sandbox::new("login"), basic_registry());
    let home = Home::of(&sandbox);
    for (store, reason) in [
        ("missing", "docker-credential-missing store for "),
        ("safe", "the safe is locked"),
        ("../safe", "the helper's name is a path"),
    ] {
        home.write(
            ".docker/config.json",
            &json!({ "credsStore": store }).to_string(),
        );
        home.write("locked", "");
        let bin = helper(&home);
        login(&sandbox, &home, registry.address(), "s3cret")
            .env("PATH", bin)
            .run()
            .code(1)
            .says(reason);
    }
}

/// A credential helper called `safe`, which keeps one secret in the file `kept`; the search path
/// that has it.
fn helper(home: &Home) -> String {
    let script = format!(
        r#"#!/bin/sh
cd {}
test -e locked && {{ echo the safe is locked; exit 1; }}
case $1 in
store) cat > kept ;;
get) read -r server; grep -s "$server" kept || {{ echo credentials not found in native keychain; exit 1; }} ;;
erase) rm kept ;;
esac
"#,
        home.directory.display()
    );
    let path = home.write("bin/docker-credential-safe", &script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    format!(
        "{}:{}",
        path.parent().expect("bin").display(),
        std::env::var("PATH").expect("PATH")
    )
}

#[test]
fn a_token_server_is_asked_once_and_its_identity_token_kept_in_place_of_the_password() {
    let (sandbox, tokens) = (Sandbox::new("login"), TokenServer::start());
    let registry = DockerRegistry::with(Setup {
        token: Some(&tokens),
        ..Setup::default()
    });
    let (home, address) = (Home::of(&sandbox), registry.address());
    login(&sandbox, &home, address, "wrong")
        .run()
        .code(1)
        .says("as me: incorrect username or password");
    login(&sandbox, &home, address, "s3cret:with a colon")
        .run()
        .ok();
    // base64 of me:s3cret:with a colon
    let expected = json!({ "auth": "bWU6czNjcmV0OndpdGggYSBjb2xvbg==" });
    assert_eq!(config(&home)["auths"][address], expected);
    let requests = tokens.requests();
    assert_eq!(requests.len(), 2, "{requests:#?}");
    for (name, value) in [
        ("service", "registry.test"),
        ("account", "me"),
        ("client_id", "mybox"),
    ] {
        assert_eq!(requests[1].parameter(name).as_deref(), Some(value));
    }
    tokens.give_identity();
    login(&sandbox, &home, address, "s3cret:with a colon")
        .run()
        .ok();
    // base64 of me:
    let expected = json!({ "auth": "bWU6", "identitytoken": "an-identity-token" });
    assert_eq!(config(&home)["auths"][address], expected);
}

#[test]
fn a_token_server_is_not_believed_to_be_safe_because_a_registry_says_so() {
    let (sandbox, registry) = (Sandbox::new("login"), FakeRegistry::start());
    let home = Home::of(&sandbox);
    registry.guard(|_| {
        let challenge = "Bearer realm=\"http://192.0.2.1/token\",service=\"s\"";
        Some(Reply::status(401).header("WWW-Authenticate", challenge))
    });
    login(&sandbox, &home, &registry.address(), "s3cret")
        .run()
        .code(1)
        .says("realm \"http://192.0.2.1/token\": that is not encrypted");
}

#[test]
fn an_authentication_that_nobody_knows_is_named() {
    let (sandbox, registry) = (Sandbox::new("login"), FakeRegistry::start());
    let home = Home::of(&sandbox);
    registry.guard(|_| Some(Reply::status(401).header("WWW-Authenticate", "Negotiate")));
    login(&sandbox, &home, &registry.address(), "s3cret")
        .run()
        .code(1)
        .says("an authentication that mybox does not know: Negotiate");
}

#[test]
fn a_registry_that_is_busy_is_asked_again_when_it_says() {
    let (sandbox, registry) = (Sandbox::new("login"), FakeRegistry::start());
    let (home, address) = (Home::of(&sandbox), registry.address());
    registry.fail(
        "GET /v2/",
        1,
        Fault::Status(429, vec![("Retry-After", "1".to_owned())]),
    );
    registry.fail("GET /v2/", 2, Fault::Status(503, vec![]));
    login(&sandbox, &home, &address, "s3cret").run().ok();
    registry.always(
        "GET /v2/",
        Fault::Status(429, vec![("Retry-After", "3600".to_owned())]),
    );
    login(&sandbox, &home, &address, "s3cret")
        .run()
        .code(1)
        .says(&format!("{address} asks to try again in 3600 seconds"));
}

#[test]
fn patience_ends() {
    let (sandbox, registry) = (Sandbox::new("login"), FakeRegistry::start());
    let home = Home::of(&sandbox);
    registry.always(
        "GET /v2/",
        Fault::Status(503, vec![("Retry-After", "0".to_owned())]),
    );
    login(&sandbox, &home, &registry.address(), "s3cret")
        .run()
        .code(1)
        .says("answers 503 Service Unavailable to GET http://127.0.0.1:");
    let asked = registry.requests("GET /v2/").len();
    assert_eq!(
        asked, 10,
        "five times whether it is there, five times for the answer"
    );
}

#[test]
fn an_authority_of_ones_own_is_believed_when_it_is_named() {
    let (sandbox, authority) = (Sandbox::new("login"), Authority::new());
    let registry = DockerRegistry::with(Setup {
        basic: true,
        tls: Some(&authority),
        ..Setup::default()
    });
    let (home, address) = (Home::of(&sandbox), registry.address());
    login(&sandbox, &home, address, "s3cret")
        .run()
        .code(1)
        .says(&format!("the certificate of {address} is not trusted"))
        .says(&format!("/etc/docker/certs.d/{address}/ca.crt"));
    let ca = authority.ca();
    let with = |flag: &str| login(&sandbox, &home, address, "s3cret").arg(flag);
    with("--tls-ca").arg(&ca).run().ok();
    with("--insecure").run().ok();
    with("--tls-ca")
        .arg("/etc/hostname")
        .run()
        .code(1)
        .says("/etc/hostname: holds no certificate");
    with("--tls-ca")
        .arg("/nonexistent")
        .run()
        .code(1)
        .says("cannot read /nonexistent");
    let other = Authority::new();
    with("--tls-ca")
        .arg(other.ca())
        .run()
        .code(1)
        .says("is not trusted");
}

#[test]
fn a_certificate_that_signed_itself_is_its_own_authority() {
    let (sandbox, authority) = (
        Sandbox::new("login"),
        Authority::self_signed_server(&["127.0.0.1"]),
    );
    let setup = Setup {
        tls: Some(&authority),
        ..Setup::default()
    };
    let (registry, home) = (DockerRegistry::with(setup), Home::of(&sandbox));
    let address = registry.address();
    let with_ca = |name: &str| {
        let login = login(&sandbox, &home, name, "any");
        login.arg("--tls-ca").arg(authority.ca()).run()
    };
    with_ca(address).ok();
    // The certificate is not for this name of the same host.
    with_ca(&address.replace("127.0.0.1", "localhost"))
        .code(1)
        .says("is not trusted")
        .says("127.0.0.1");
    login(&sandbox, &home, address, "any")
        .run()
        .code(1)
        .says("is not trusted");
}

#[test]
fn the_authority_of_one_registry_lies_where_docker_keeps_it() {
    let (private, authority) = (PrivateHost::new(), Authority::new());
    let registry = DockerRegistry::with(Setup {
        tls: Some(&authority),
        host: Some(private.host()),
        ..Setup::default()
    });
    private.make_etc_writable();
    let sandbox = Sandbox::on(private.host(), "login");
    let (home, address) = (Home::of(&sandbox), registry.address());
    login(&sandbox, &home, address, "any")
        .run()
        .code(1)
        .says("is not trusted");
    for place in ["/etc/docker/certs.d", "/etc/containers/certs.d"] {
        let directory = format!("{place}/{address}");
        let shell = "mkdir -p \"$1\" && cp \"$2\" \"$1/ca.crt\"";
        let install = private
            .host()
            .command("sh")
            .args(["-c", shell, "sh", &directory]);
        install.arg(authority.ca()).run().ok();
        login(&sandbox, &home, address, "any").run().ok();
        private
            .host()
            .command("rm")
            .args(["-r", &directory])
            .run()
            .ok();
        login(&sandbox, &home, address, "any")
            .run()
            .code(1)
            .says("is not trusted");
    }
}

#[test]
fn a_registry_that_wants_to_see_a_certificate_is_shown_the_one_for_it() {
    let (sandbox, authority) = (Sandbox::new("login"), Authority::new());
    let setup = Setup {
        tls: Some(&authority),
        clients_too: true,
        ..Setup::default()
    };
    let (registry, home) = (DockerRegistry::with(setup), Home::of(&sandbox));
    let address = registry.address();
    let with_ca = login(&sandbox, &home, address, "any").arg("--tls-ca");
    with_ca.arg(authority.ca()).run().code(1);
    let install = |name: &str| {
        let text = std::fs::read_to_string(authority.directory().join(name)).expect("PEM");
        home.write(
            &format!(".config/containers/certs.d/{address}/{name}"),
            &text,
        )
    };
    install("ca.crt");
    install("client.cert");
    login(&sandbox, &home, address, "any")
        .run()
        .code(1)
        .says(&format!("/certs.d/{address}/client.key"));
    install("client.key");
    login(&sandbox, &home, address, "any").run().ok();
}

#[test]
fn who_is_still_known_through_podmans_file_is_told_so() {
    let sandbox = Sandbox::new("login");
    let home = Home::of(&sandbox);
    let auth = json!({ "auths": { "quay.io": { "auth": "bWU6cHc=" } } });
    let file = home.write(".config/containers/auth.json", &auth.to_string());
    let output = logout(&sandbox, &home, "quay.io").run().ok();
    assert_eq!(output.line(), "Not logged in to quay.io");
    output.says(&format!(
        "note: {} still has credentials for quay.io",
        file.display()
    ));
}
