//! `ps --filter`: which containers are listed.

use crate::detached::remove;
use crate::harness::Sandbox;

/// Containers that were never started, in the order of their names.
fn created(sandbox: &Sandbox, names: &[&str]) {
    for name in names {
        let create = sandbox.mybox(["create", "--network", "none", "--name", name, "tiny"]);
        drop(create.arg("true").run().ok());
    }
}

/// Names of those that fit, the newest first.
fn listed(sandbox: &Sandbox, filters: &[&str]) -> String {
    let ps = sandbox.mybox(["ps", "-a", "--format", "{{.Names}}"]);
    let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
    let said = ps.args(filters).run().ok().stdout();
    said.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn names_are_regular_expressions() {
    let sandbox = Sandbox::tiny("namefilter");
    let names = ["web", "web2", "db"];
    created(&sandbox, &names);
    for (filter, expected) in [
        ("name=web", "web2 web"),
        ("name=^web$", "web"),
        ("name=^/web$", "web"),
        ("name=we.$", "web"),
        ("name=^(web|d.)$", "db web"),
        ("name=^eb", ""),
    ] {
        assert_eq!(listed(&sandbox, &[filter]), expected, "{filter}");
    }
    assert_eq!(listed(&sandbox, &["name=^db$", "name=2"]), "db web2");
    let wrong = sandbox.mybox(["ps", "--filter", "name=we(b"]).run();
    drop(wrong.code(2).says("`we(b` is no regular expression"));
    names.iter().for_each(|name| remove(&sandbox, name));
}

#[test]
fn age_is_told_by_another_container() {
    let sandbox = Sandbox::tiny("agefilter");
    let names = ["one", "two", "three", "four"];
    created(&sandbox, &names);
    for (filters, expected) in [
        (&["before=two"][..], "one"),
        (&["since=two"], "four three"),
        (&["since=one", "before=four"], "three two"),
        (&["before=one"], ""),
        (&["status=removing"], ""),
        (&["status=dead", "status=created"], "four three two one"),
    ] {
        assert_eq!(listed(&sandbox, filters), expected, "{filters:?}");
    }
    for filter in ["before=nobody", "since=nobody"] {
        let ps = sandbox.mybox(["ps", "--filter", filter]).run();
        drop(ps.code(1).says("no such container: nobody"));
    }
    names.iter().for_each(|name| remove(&sandbox, name));
}

#[test]
fn mounts_networks_and_ports_are_found() {
    let private = crate::harness::PrivateHost::new();
    let sandbox = Sandbox::on(private.host(), "mountfilter");
    sandbox.import_tiny();
    let create = |name: &str, flags: &[&str]| {
        let create = sandbox.mybox(["create", "--name", name]).args(flags);
        drop(create.args(["tiny", "true"]).run().ok());
    };
    create("disk", &["--network", "none", "-v", "store:/data"]);
    create("bind", &["--network", "host", "-v", "/usr:/mnt"]);
    let ports = ["-p", "8080:80", "-p", "53:53/udp"];
    create("ports", &[&ports[..], &["--expose", "9000"]].concat());
    for (filters, expected) in [
        (&["volume=store"][..], "disk"),
        (&["volume=/data"], "disk"),
        (&["volume=/usr"], "bind"),
        (&["volume=/mnt", "volume=store"], "bind disk"),
        (&["volume=/mnt", "network=none"], ""),
        (&["network=host"], "bind"),
        (&["network=none", "network=bridge"], "ports disk"),
        (&["expose=9000"], "ports"),
        (&["expose=80"], "ports"),
        (&["expose=53"], ""),
        (&["publish=80", "publish=9000"], "ports"),
    ] {
        assert_eq!(listed(&sandbox, filters), expected, "{filters:?}");
    }
    drop(sandbox.mybox(["start", "ports"]).run().ok());
    for (filter, expected) in [
        ("publish=80", "ports"),
        ("publish=8080", ""),
        ("publish=79-81/tcp", "ports"),
        ("publish=53", ""),
        ("publish=50-60/udp", "ports"),
        ("publish=9000", ""),
    ] {
        assert_eq!(listed(&sandbox, &[filter]), expected, "{filter}");
    }
    for name in ["disk", "bind", "ports"] {
        remove(&sandbox, name);
    }
    drop(sandbox.mybox(["volume", "rm", "store"]).run().ok());
}
