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
