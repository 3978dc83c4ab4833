//! What a container has changed: shown by `diff`, kept by `commit`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};

use crate::detached::remove;
use crate::harness::registry::DockerRegistry;
use crate::harness::{Cmd, Rootfs, Sandbox};

/// In a tiny image with some files, a container that changes them with a shell.
const CHANGES: &str = "rm /gone; rm -r /tree; mkdir /tree; echo new > /tree/new; echo x > /tree/kept;\
    echo more >> /changed; mkdir -p /new/deep; echo a > /new/deep/file; ln /new/deep/file /new/link;\
    ln -s nowhere /new/symlink; mkfifo /new/fifo; chmod 4755 /mode; chown 7:8 /owner;\
    chmod 700 /directory; rm /directory/gone; touch /new/.hidden";

fn rootfs(base: Rootfs) -> Rootfs {
    base.busybox()
        .file("gone", "gone")
        .dir("tree", 0o755)
        .file("tree/old", "old")
        .file("tree/kept", "old")
        .file("changed", "some")
        .file("mode", "")
        .file("owner", "")
        .dir("directory", 0o755)
        .file("directory/gone", "")
        .file("directory/kept", "")
}

fn changed(form: &str) -> Sandbox {
    changed_of(Rootfs::tiny(), form)
}

fn changed_of(base: Rootfs, form: &str) -> Sandbox {
    let sandbox = Sandbox::new("commit").with_layer_form(form);
    sandbox.import("base", rootfs(base));
    let run = ["run", "--network", "none", "--name", "web", "base"];
    let run = sandbox.mybox(run).args(["sh", "-c", CHANGES]);
    run.run().ok();
    sandbox
}

#[test]
fn diff_shows_what_a_container_has_added_changed_and_deleted() {
    for form in ["indexed", "unpacked"] {
        let sandbox = changed(form);
        let shown = sandbox.mybox(["diff", "web"]).run().ok().stdout();
        let expected = [
            "C /changed",
            "C /directory",
            "D /directory/gone",
            "D /gone",
            "C /mode",
            "A /new",
            "A /new/.hidden",
            "A /new/deep",
            "A /new/deep/file",
            "A /new/fifo",
            "A /new/link",
            "A /new/symlink",
            "C /owner",
            "C /tree",
            "C /tree/kept",
            "A /tree/new",
            "D /tree/old",
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "{form}");
        let json = sandbox.mybox(["diff", "--json", "web"]).run().ok();
        let json = json.stdout_json();
        assert_eq!(json.as_array().expect("a list").len(), expected.len());
        assert_eq!(json[3]["path"], "/gone");
        assert_eq!(json[3]["change"], "deleted");
        assert_eq!(json[3]["type"], "file");
        sandbox.mybox(["rm", "web"]).run().ok();
    }
}

#[test]
fn a_container_that_has_done_nothing_has_changed_nothing() {
    let sandbox = Sandbox::new("unchanged");
    sandbox.import_tiny();
    let run = ["run", "--network", "none", "--name", "web", "tiny", "true"];
    sandbox.mybox(run).run().ok();
    let shown = sandbox.mybox(["diff", "web"]).run().ok();
    assert_eq!(shown.stdout(), "");
    sandbox.mybox(["rm", "web"]).run().ok();
    let nobody = sandbox.mybox(["diff", "web"]).run().code(1);
    drop(nobody.says("no such container: web"));
}

#[test]
fn a_container_that_was_never_started_is_its_image() {
    let sandbox = Sandbox::new("created");
    sandbox.import_tiny();
    let create = ["create", "--network", "none", "--name", "web"];
    let create = sandbox.mybox(create).args(["tiny", "probe", "exit", "3"]);
    drop(create.run().ok());
    let shown = sandbox.mybox(["diff", "web"]).run().ok();
    assert_eq!(shown.stdout(), "");
    drop(sandbox.mybox(["commit", "web", "kept"]).run().ok());
    drop(sandbox.run(["--rm", "kept"]).run().code(3));
    drop(sandbox.mybox(["start", "-a", "web"]).run().code(3));
    drop(sandbox.mybox(["rm", "web"]).run().ok());
}

/// A line for everything in the container but what mybox mounts: type, mode, owner, and of files size,
/// links and content.
const LIST: &str = "find / -xdev | grep -v -e '^/etc/host' -e '^/etc/resolv.conf' | sort |\
    while read -r path; do if [ -d \"$path\" ]; then stat -c '%n %F %a %u %g' \"$path\";\
    else stat -c '%n %F %a %u %g %s %h %t %T %N' \"$path\"; fi;\
    if [ -f \"$path\" ] && ! [ -L \"$path\" ]; then md5sum < \"$path\"; fi; done";

#[test]
fn a_committed_image_has_the_tree_of_its_container() {
    for form in ["indexed", "unpacked"] {
        let sandbox = Sandbox::new("commit").with_layer_form(form);
        sandbox.import("base", rootfs(Rootfs::tiny()));
        let script = format!("{CHANGES}; {LIST}");
        let run = ["run", "--network", "none", "--name", "web", "base"];
        let run = sandbox.mybox(run).args(["sh", "-c", &script]).run().ok();
        assert!(
            run.stdout()
                .contains("/new/deep/file regular file 644 0 0 2 2"),
            "{}",
            run.stdout()
        );
        let id = sandbox.mybox(["commit", "web", "new:1"]).run().ok().line();
        assert!(id.starts_with("sha256:"), "{id}");
        let again = sandbox.run(["new:1", "sh", "-c", LIST]).run().ok();
        assert_eq!(again.stdout(), run.stdout(), "{form}");
        // The same from its blobs alone.
        let other = Sandbox::new("loaded").with_layer_form(form);
        let archive = other.scratch().join("new.tar");
        let archive = archive.to_str().expect("a plain path");
        sandbox.mybox(["save", "-o", archive, "new:1"]).run().ok();
        other.mybox(["load", "-i", archive]).run().ok();
        let loaded = other.run(["new:1", "sh", "-c", LIST]).run().ok();
        assert_eq!(loaded.stdout(), run.stdout(), "{form}");
        sandbox.mybox(["rm", "web"]).run().ok();
    }
}

#[test]
fn a_committed_image_is_run_as_its_container_was_but_for_what_is_changed() {
    let sandbox = Sandbox::new("config");
    let config = [
        "ENV A=1 B=2",
        "ENTRYPOINT [\"/bin/probe\"]",
        "CMD [\"true\"]",
        "USER alice",
    ];
    sandbox.import_with("base", Rootfs::tiny(), &config);
    let run = [
        "run",
        "--network",
        "none",
        "--name",
        "web",
        "-e",
        "B=3",
        "-e",
        "C=4",
        "-w",
        "/tmp",
    ];
    sandbox.mybox(run).args(["base", "echo", "x"]).run().ok();
    let commit = sandbox.mybox([
        "commit",
        "-a",
        "Jane",
        "-m",
        "why",
        "-c",
        "ENV C=$B$A",
        "--change",
    ]);
    let id = commit.args(["LABEL a=b", "web", "new"]).run().ok().line();
    let shown = sandbox.mybox(["inspect", "new"]).run().ok().stdout_json();
    assert_eq!(shown[0]["id"], id);
    let config = &shown[0]["config"]["config"];
    assert_eq!(config["Env"], serde_json::json!(["A=1", "B=3", "C=31"]));
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/probe"]));
    assert_eq!(config["Cmd"], serde_json::json!(["echo", "x"]));
    assert_eq!(config["User"], "alice");
    assert_eq!(config["WorkingDir"], "/tmp");
    assert_eq!(config["Labels"], serde_json::json!({"a": "b"}));
    let config = &shown[0]["config"];
    assert_eq!(config["author"], "Jane");
    let history = config["history"].as_array().expect("a history");
    assert_eq!(history[1]["comment"], "why");
    assert_eq!(history[1]["author"], "Jane");
    sandbox.mybox(["rm", "web"]).run().ok();
    assert_eq!(sandbox.run(["new"]).run().ok().line(), "x");
    // What the run has put in the place of the image's, and what only looks like mybox's own.
    let run = [
        "run",
        "--network",
        "none",
        "--name",
        "other",
        "-e",
        "HOME=/srv",
        "--expose",
        "53/udp",
    ];
    let other = sandbox
        .mybox(run)
        .args(["--entrypoint", "/bin/probe", "--user", "0"]);
    other.args(["new", "echo", "y"]).run().ok();
    sandbox.mybox(["commit", "other", "newer"]).run().ok();
    let shown = sandbox.mybox(["inspect", "newer"]).run().ok().stdout_json();
    let config = &shown[0]["config"]["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/probe"]));
    assert_eq!(config["Cmd"], serde_json::json!(["echo", "y"]));
    assert_eq!(config["User"], "0");
    assert_eq!(
        config["Env"],
        serde_json::json!(["A=1", "B=3", "C=31", "HOME=/srv"])
    );
    assert_eq!(config["ExposedPorts"], serde_json::json!({"53/udp": {}}));
    let wrong = sandbox.mybox(["commit", "-c", "ONBUILD RUN x", "other"]);
    drop(wrong.run().code(2).says("must be one of"));
    sandbox.mybox(["rm", "other"]).run().ok();
}

#[test]
fn a_container_that_runs_is_committed_and_goes_on() {
    let sandbox = Sandbox::new("running");
    sandbox.import("base", rootfs(Rootfs::tiny()));
    let script = "echo text > /file; echo ready; read line; echo $line";
    let run = sandbox.run(["--name", "web", "-i", "base", "sh", "-c", script]);
    let mut running = run.spawn();
    running.wait_for("ready");
    for pause in ["--pause=true", "--pause=false"] {
        sandbox.mybox(["commit", pause, "web", "new"]).run().ok();
        let read = sandbox.run(["new", "probe", "read", "/file"]);
        assert_eq!(read.run().ok().line(), "text");
    }
    running.send(b"on\n");
    running.close_stdin();
    assert!(running.wait().ok().stdout().ends_with("on\n"));
}

#[test]
fn skopeo_and_another_store_take_a_committed_image_from_a_registry() {
    let registry = DockerRegistry::start();
    let sandbox = changed("indexed");
    let name = registry.reference("committed:1");
    sandbox.mybox(["commit", "web", &name]).run().ok();
    sandbox.mybox(["push", &name]).run().ok();
    let layout = sandbox.scratch().join("layout");
    let (from, to) = (
        format!("docker://{name}"),
        format!("oci:{}:x", layout.display()),
    );
    let copy = Cmd::new("skopeo").args(["copy", "--src-tls-verify=false", &from, &to]);
    copy.run().ok();
    let other = Sandbox::new("pulled");
    other.mybox(["pull", &name]).run().ok();
    let read = other.run([&name, "sh", "-c", "cat /new/link; ls /tree; ls /directory"]);
    assert_eq!(read.run().ok().stdout(), "a\nkept\nnew\nkept\n");
    sandbox.mybox(["rm", "web"]).run().ok();
}

/// Kind, mode, owner, size, time, name and link of everything in a tar but its root.
fn listing(tar: Vec<u8>) -> Vec<String> {
    let list = Cmd::new("tar").args(["--numeric-owner", "-tvf", "-"]);
    let listed = list.stdin(tar).run().ok().stdout();
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = listed.lines().map(line).collect();
    lines.retain(|line| !line.ends_with(" ./"));
    lines.sort();
    lines
}

#[test]
fn podman_has_the_same_tree_of_a_committed_image() {
    let registry = DockerRegistry::start();
    // The probe's own names are in the tar twice, which podman takes for damage.
    let sandbox = changed_of(Rootfs::empty().dir("bin", 0o755), "indexed");
    let name = registry.reference("committed:1");
    sandbox.mybox(["commit", "web", &name]).run().ok();
    sandbox.mybox(["push", &name]).run().ok();
    let create = [
        "create",
        "--name",
        "ours",
        "--network",
        "none",
        &name,
        "true",
    ];
    sandbox.mybox(create).run().ok();
    let ours = sandbox.mybox(["export", "ours"]).run().ok().stdout_bytes;
    let pull = sandbox
        .podman()
        .args(["pull", "--quiet", "--tls-verify=false"]);
    pull.arg(&name).run().ok();
    let create = [
        "create",
        "--name",
        "theirs",
        "--network",
        "none",
        &name,
        "true",
    ];
    sandbox.podman().args(create).run().ok();
    let theirs = sandbox.podman().args(["export", "theirs"]).run().ok();
    let ours = listing(ours);
    assert_eq!(ours, listing(theirs.stdout_bytes));
    assert!(
        ours.iter().any(|line| line.contains("new/deep/file")),
        "{ours:?}"
    );
    sandbox.podman().args(["rm", "theirs"]).run().ok();
    sandbox
        .podman()
        .args(["rmi", "--all", "--force"])
        .run()
        .ok();
    sandbox.mybox(["rm", "web", "ours"]).run().ok();
}

/// What a container has that is not its own: mounts.
const MOUNTED: [&str; 6] = [
    "proc",
    "sys",
    "dev",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
];

/// Everything below a root but mounts, and all that is known of it: kind and mode, owner, size, device, time,
/// names, link, attributes with their values, content.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("list").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("below the root");
            if MOUNTED.iter().any(|mounted| name == Path::new(mounted)) {
                continue;
            }
            found.insert(name.to_owned(), described(&path));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path);
            }
        }
    }
    found
}

fn described(path: &Path) -> String {
    let stat = path.symlink_metadata().expect("stat");
    let (size, links) = match stat.is_dir() {
        true => (0, 0),
        false => (stat.size(), stat.nlink()),
    };
    let content = match stat.is_file() {
        true => fs::read(path).expect("read"),
        false => Vec::new(),
    };
    let (mode, owner) = (stat.mode(), (stat.uid(), stat.gid()));
    let (device, time) = (stat.rdev(), stat.mtime());
    let link = fs::read_link(path).ok();
    let attributes = attributes(path);
    format!("{mode:o} {owner:?} {size} {links} {device} {time} {link:?} {attributes:?} {content:?}")
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = [0; 4096];
    let length = llistxattr(path, &mut names).expect("list attributes");
    let names = names[..length].split(|byte| *byte == 0);
    let value = |name: &[u8]| {
        let name = String::from_utf8(name.to_vec()).expect("UTF-8");
        let mut value = [0; 4096];
        let length = lgetxattr(path, name.as_str(), &mut value).expect("read an attribute");
        (name, value[..length].to_vec())
    };
    names.filter(|name| !name.is_empty()).map(value).collect()
}

/// A POSIX ACL as xattrs have it (linux/posix_acl_xattr.h): tag, permissions and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Devices, and attributes of files that are new, that are of the image, and of a directory of each kind.
fn add_what_a_shell_cannot(root: &Path) {
    let set = |name: &str, attribute: &str, value: &[u8]| {
        lsetxattr(root.join(name), attribute, value, XattrFlags::empty())
            .unwrap_or_else(|errno| panic!("{attribute} of {name}: {errno}"));
    };
    const NOBODY: u32 = u32::MAX;
    // CAP_NET_RAW permitted and effective (linux/capability.h, VFS_CAP_REVISION_2).
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let access = acl(&[
        (0x01, 6, NOBODY),
        (0x02, 7, 1234),
        (0x04, 4, NOBODY),
        (0x10, 7, NOBODY),
        (0x20, 0, NOBODY),
    ]);
    for (name, kind) in [
        ("new/zero", ["c", "1", "5"]),
        ("new/block", ["b", "7", "9"]),
    ] {
        let mknod = Cmd::new("mknod").args(["-m", "620"]).arg(root.join(name));
        drop(mknod.args(kind).run().ok());
    }
    for name in ["new/deep/file", "changed", "directory", "new"] {
        set(name, "user.text", b"value");
        set(name, "user.binary", &[0, 255, 10, 0]);
        set(name, "user.empty", b"");
        set(name, "system.posix_acl_access", &access);
    }
    for name in ["new/deep/file", "changed"] {
        set(name, "security.capability", &capability);
    }
    for name in ["directory", "new"] {
        set(name, "system.posix_acl_default", &access);
    }
    set("new/symlink", "trusted.of-a-link", b"value");
}

/// The root of the one container that runs.
fn root(sandbox: &Sandbox) -> PathBuf {
    format!("/proc/{}/root", sandbox.container_pid()).into()
}

#[test]
fn attributes_devices_and_what_is_deleted_survive_a_commit_and_another_one() {
    for form in ["indexed", "unpacked"] {
        let sandbox = Sandbox::new("faithful").with_layer_form(form);
        let etc = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];
        // Their places are there, so /etc keeps its time.
        let base = etc
            .iter()
            .fold(Rootfs::tiny(), |base, name| base.file(name, ""));
        sandbox.import("image:0", rootfs(base));
        let mut before = BTreeMap::new();
        for generation in 0..3 {
            let image = format!("image:{generation}");
            let run = ["run", "-d", "--network", "none", "--name", "web", &image];
            drop(sandbox.mybox(run).args(["sleep", "600"]).run().ok());
            let root = root(&sandbox);
            match generation {
                0 => {
                    let exec = sandbox.mybox(["exec", "web", "sh", "-c", CHANGES]);
                    drop(exec.run().ok());
                    add_what_a_shell_cannot(&root);
                }
                _ => assert_same(&before, &tree(&root), form),
            }
            before = tree(&root);
            let next = format!("image:{}", generation + 1);
            drop(sandbox.mybox(["commit", "web", &next]).run().ok());
            remove(&sandbox, "web");
        }
        let kind = |name: &str| before.contains_key(Path::new(name));
        assert!(
            kind("new/zero") && kind("new/fifo") && kind("tree/new"),
            "{form}"
        );
        assert!(!kind("gone") && !kind("tree/old") && !kind("directory/gone"));
        assert!(before[Path::new("changed")].contains("security.capability"));
    }
}

/// Fails with the first name that is not the same, and not with megabytes.
#[track_caller]
fn assert_same(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>, form: &str) {
    for (name, described) in before {
        let now = after.get(name).map(String::as_str);
        let same = now == Some(described);
        let short = |text: &str| text.chars().take(600).collect::<String>();
        assert!(
            same,
            "{form}: {}\n{}\n{}",
            name.display(),
            short(described),
            short(now.unwrap_or("gone"))
        );
    }
    assert!(
        before.keys().eq(after.keys()),
        "{form}: there is more than before"
    );
}
