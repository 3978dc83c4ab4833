//! `mybox import` from outside: what it takes, what it prints, what it leaves when it fails. What
//! a layer holds of an archive is tested in the store's own tests.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::EntryType;

use crate::harness::{Cmd, Rootfs, Sandbox, Terminal, debian};

fn text(path: &Path) -> &str {
    path.to_str().expect("the harness's names are plain")
}

/// A file with a tiny image's tar.
fn tiny_tar(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.scratch().join("tiny.tar");
    std::fs::write(&path, Rootfs::tiny().tar()).expect("write the archive");
    path
}

#[track_caller]
fn inspect(sandbox: &Sandbox, name: &str) -> Value {
    let documents = sandbox.mybox(["inspect", name]).run().ok().stdout_json();
    documents[0].clone()
}

/// Every file of the store but the images' index and the locks.
fn objects(sandbox: &Sandbox) -> Vec<String> {
    // Any command makes an empty store.
    sandbox.mybox(["images"]).run().ok();
    let find = Cmd::new("find").args([
        "blobs",
        "layers",
        "ingest",
        "-mindepth",
        "1",
        "-maxdepth",
        "2",
    ]);
    let find = find.args(["-not", "-name", "*.lock", "-not", "-path", "blobs/sha256"]);
    let found = find.dir(sandbox.root()).run().ok().stdout();
    let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
    found.sort();
    found
}

#[test]
fn a_tar_is_known_by_its_content_however_it_comes() {
    let sandbox = Sandbox::new("forms");
    let plain = tiny_tar(&sandbox);
    let digest = sandbox.mybox(["import", text(&plain)]).run().ok().line();
    assert!(
        digest.starts_with("sha256:") && digest.len() == 71,
        "{digest}"
    );
    let from_stdin = sandbox.mybox(["import", "-"]).stdin(Rootfs::tiny().tar());
    assert_eq!(from_stdin.run().ok().line(), digest);
    for tool in ["gzip", "zstd", "xz", "bzip2"] {
        let packed = Cmd::new(tool)
            .arg("-c")
            .stdin(Rootfs::tiny().tar())
            .run()
            .ok()
            .stdout_bytes;
        // By content: neither a pipe nor this file has a name that tells.
        let file = sandbox.scratch().join("archive");
        std::fs::write(&file, &packed).expect("write the archive");
        let from_file = sandbox.mybox(["import", text(&file)]).run().ok();
        assert_eq!(from_file.line(), digest, "{tool}");
        let from_stdin = sandbox.mybox(["import", "-"]).stdin(packed).run().ok();
        assert_eq!(from_stdin.line(), digest, "{tool} on standard input");
    }
    let images = sandbox.mybox(["images", "--json"]).run().ok().stdout_json();
    assert_eq!(
        images.as_array().map(Vec::len),
        Some(1),
        "all are one image"
    );
    let output = sandbox
        .mybox(["import", "--quiet", text(&plain)])
        .run()
        .ok();
    assert_eq!((output.line(), output.stderr()), (digest, String::new()));
}

#[test]
fn an_imported_image_runs() {
    let sandbox = Sandbox::new("runs");
    let tar = tiny_tar(&sandbox);
    let digest = sandbox
        .mybox(["import", text(&tar), "me/tiny:1"])
        .run()
        .ok()
        .line();
    for name in ["me/tiny:1", &digest] {
        let said = sandbox.run([name, "echo", "hello"]).run().ok().line();
        assert_eq!(said, "hello");
    }
}

#[test]
fn the_same_input_gives_the_same_digests_in_any_store_on_any_day() {
    let (one, other) = (Sandbox::new("same1"), Sandbox::new("same2"));
    let tar = |sandbox: &Sandbox| {
        let import = sandbox
            .mybox(["import", "-", "tiny", "-c", "ENV A=1"])
            .stdin(Rootfs::tiny().tar());
        import.env("TZ", "Pacific/Auckland").run().ok().line()
    };
    assert_eq!(tar(&one), tar(&other));
    let image = |sandbox: &Sandbox| {
        let document = inspect(sandbox, "tiny");
        (
            document["id"].clone(),
            document["layers"].clone(),
            document["created"].clone(),
        )
    };
    assert_eq!(image(&one), image(&other));
    assert_eq!(
        image(&one).2,
        "1970-01-01T00:00:00Z",
        "the newest file's time, not today"
    );
    // The same tree, made in another order at another place.
    let tree = |sandbox: &Sandbox, names: [&str; 3]| {
        let tree = sandbox.scratch().join(names[0]).join("tree");
        std::fs::create_dir_all(&tree).expect("a directory");
        for name in names {
            std::fs::write(tree.join(name), name).expect("a file");
        }
        let touch = Cmd::new("find")
            .arg(&tree)
            .args(["-exec", "touch", "-hd", "@86400", "{}", "+"]);
        touch.run().ok();
        sandbox
            .mybox(["import", text(&tree), "tree"])
            .run()
            .ok()
            .line()
    };
    assert_eq!(tree(&one, ["a", "b", "c"]), tree(&other, ["c", "a", "b"]));
    assert_eq!(inspect(&one, "tree")["created"], "1970-01-02T00:00:00Z");
}

#[test]
fn a_directory_is_imported_without_what_is_mounted_in_it() {
    let sandbox = Sandbox::new("directory");
    let tree = sandbox.scratch().join("tree");
    std::fs::create_dir(&tree).expect("a directory");
    let untar = Cmd::new("tar")
        .args(["-x", "-C"])
        .arg(&tree)
        .stdin(Rootfs::tiny().tar());
    untar.run().ok();
    std::fs::create_dir(tree.join("proc")).expect("a directory");
    let _socket = UnixListener::bind(tree.join("tmp/socket")).expect("a socket");
    let script = "mount -t proc proc \"$1/proc\" && shift && exec \"$@\"";
    let unshare = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
        text(&tree),
    ];
    let import = sandbox
        .mybox(["import", text(&tree), "tiny"])
        .through(unshare);
    let output = import.run().ok();
    let output = output.says("note: left out what is mounted on proc");
    let _ = output.says("note: left out the socket tmp/socket");
    let layer = inspect(&sandbox, "tiny")["layers"][0]
        .as_str()
        .expect("a layer")
        .replace("sha256:", "");
    let convert = ["layers", "convert", "--to", "unpacked"];
    sandbox.mybox(convert).run().ok();
    let fs = sandbox.root().join("layers").join(layer).join("fs");
    assert_eq!(std::fs::read_dir(fs.join("proc")).expect("proc").count(), 0);
    assert!(!fs.join("tmp/socket").exists());
    assert_eq!(
        sandbox.run(["tiny", "echo", "runs"]).run().ok().line(),
        "runs"
    );
}

#[test]
fn a_debian_as_debootstrap_leaves_it_runs() {
    let sandbox = Sandbox::new("debian");
    sandbox
        .mybox([
            "import",
            text(&debian()),
            "debian",
            "-c",
            r#"CMD ["cat", "/etc/os-release"]"#,
        ])
        .run()
        .ok();
    let release = sandbox.run(["debian"]).run().ok().stdout();
    assert!(release.contains("ID=debian"), "{release}");
    let shell = "id -un; stat -c %a /usr/bin/passwd /tmp; perl -e 'print \"perl\\n\"'; getent passwd www-data | cut -d: -f3";
    let said = sandbox
        .run(["debian", "sh", "-c", shell])
        .run()
        .ok()
        .stdout();
    assert_eq!(said, "root\n4755\n1777\nperl\n33\n");
}

#[test]
fn changes_are_in_the_config_and_the_message_in_the_history() {
    let sandbox = Sandbox::new("changes");
    let changes = [
        r#"CMD ["a", "b c"]"#,
        "ENTRYPOINT exec /entry",
        "ENV A=1 B=\"2 3\"",
        "env A=4",
        "WORKDIR /srv",
        "WORKDIR app",
        "USER alice:staff",
        "EXPOSE 80 53/udp",
        "LABEL maintainer=me version=\"1 2\"",
        "VOLUME /data /more",
        "STOPSIGNAL sigquit",
    ];
    let import = sandbox.mybox([
        "import",
        "-",
        "tiny",
        "-m",
        "by hand",
        "--platform",
        "linux/arm64/v8",
    ]);
    let import = changes
        .iter()
        .fold(import, |import, change| import.args(["-c", change]));
    import.stdin(Rootfs::tiny().tar()).run().ok();
    let image = inspect(&sandbox, "tiny");
    let whole = &image["config"];
    let expected = serde_json::json!({
        "Cmd": ["a", "b c"],
        "Entrypoint": ["/bin/sh", "-c", "exec /entry"],
        "Env": ["A=4", "B=2 3"],
        "WorkingDir": "/srv/app",
        "User": "alice:staff",
        "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
        "Labels": { "maintainer": "me", "version": "1 2" },
        "Volumes": { "/data": {}, "/more": {} },
        "StopSignal": "SIGQUIT",
    });
    assert_eq!(whole["config"], expected);
    let platform = (&whole["os"], &whole["architecture"], &whole["variant"]);
    assert_eq!(platform, (&"linux".into(), &"arm64".into(), &"v8".into()));
    assert_eq!(whole["history"][0]["comment"], "by hand");
}

#[test]
fn wrong_words_on_the_command_line_are_a_usage_error() {
    let sandbox = Sandbox::new("usage");
    for (flags, named) in [
        (["-c", "FROM scratch"], "FROM"),
        (["-c", "EXPOSE 99999"], "99999"),
        (["--platform", "nonsense"], "nonsense"),
        (["--max-size", "much"], "much"),
    ] {
        let import = sandbox.mybox(["import", "-", "tiny"]).args(flags);
        let _ = import.stdin(Rootfs::tiny().tar()).run().code(2).says(named);
    }
    let import = sandbox
        .mybox(["import", "-", "Upper"])
        .stdin(Rootfs::tiny().tar());
    let _ = import.run().code(2).says("Upper");
    let images = sandbox.mybox(["images", "--json"]).run().ok().stdout_json();
    assert_eq!(images, serde_json::json!([]));
}

#[test]
fn what_cannot_be_imported_is_named() {
    let sandbox = Sandbox::new("inputs");
    let scratch = sandbox.scratch();
    let missing = scratch.join("missing.tar");
    let _ = sandbox
        .mybox(["import", text(&missing)])
        .run()
        .code(1)
        .says(text(&missing));
    let _ = sandbox
        .mybox(["import", "/dev/null"])
        .run()
        .code(1)
        .says("neither a file nor a directory");
    let noise = scratch.join("noise");
    std::fs::write(&noise, "no archive, whatever it is called").expect("a file");
    let _ = sandbox
        .mybox(["import", text(&noise)])
        .run()
        .code(1)
        .says(text(&noise));
    let _ = sandbox
        .mybox(["import", "-"])
        .run()
        .code(1)
        .says("standard input");
    let (code, screen, _) = Terminal::new(24, 80)
        .spawn(sandbox.mybox(["import", "-"]))
        .wait();
    assert!(
        code == 1 && screen.contains("standard input is a terminal"),
        "{screen}"
    );
    assert_eq!(objects(&sandbox), Vec::<String>::new());
}

/// A header of 512 bytes with this name, kind and size, as a hostile packer would write it.
fn header(name: &str, kind: EntryType, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn hostile_archives_are_refused_by_entry_and_leave_nothing() {
    let sandbox = Sandbox::new("hostile");
    let before = objects(&sandbox);
    let outside = sandbox.scratch().join("outside");
    let file = |name: &str| header(name, EntryType::Regular, 0);
    let whole = |parts: &[Vec<u8>]| [parts.concat(), vec![0; 1024]].concat();
    let half = [
        header("cut-short", EntryType::Regular, 100_000),
        vec![b'x'; 5000],
    ]
    .concat();
    let nowhere = {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Link);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_path("hard").expect("a name");
        header.set_link_name(text(&outside)).expect("a name");
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let mut damaged = file("damaged");
    damaged[0] = b'x';
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        (
            "a name that climbs",
            whole(&[file("ok"), file("a/../../climbs")]),
            &["a/../../climbs"],
        ),
        ("a hardlink to the outside", whole(&[nowhere]), &["hard"]),
        ("a truncated archive", half, &["cut-short"]),
        (
            "a PAX record of gigabytes",
            whole(&[header("pax", EntryType::XHeader, 4 << 30)]),
            &["4294967296"],
        ),
        (
            "a long name of gigabytes",
            whole(&[header("long", EntryType::GNULongName, 4 << 30)]),
            &["4294967296"],
        ),
        (
            "a wrong checksum",
            whole(&[file("first"), damaged]),
            &["byte 512"],
        ),
    ];
    for (what, tar, said) in cases {
        let output = sandbox.mybox(["import", "-", "evil"]).stdin(tar).run();
        assert_eq!(output.exit_code(), Some(1), "{what}: {}", output.stderr());
        assert_eq!(output.stdout(), "", "{what}");
        let stderr = output.stderr();
        assert!(stderr.starts_with("error: "), "{what}: {stderr}");
        for text in said {
            assert!(stderr.contains(text), "{what}: {stderr}");
        }
        assert_eq!(objects(&sandbox), before, "{what}");
        let _ = sandbox.mybox(["inspect", "evil"]).run().code(1);
    }
    assert!(!outside.exists());
}

#[test]
fn links_of_an_archive_never_lead_a_file_out_of_the_layer() {
    let sandbox = Sandbox::new("writethrough");
    let outside = sandbox.scratch().join("outside");
    std::fs::create_dir(&outside).expect("a directory");
    let rootfs = Rootfs::tiny()
        .symlink("absolute", text(&outside))
        .file("absolute/through", "written")
        .symlink(
            "climbing",
            &format!("../../../../../../../../..{}", text(&outside)),
        )
        .file("climbing/through", "written");
    // Refused or kept inside: either way nothing is written where the link points on the host.
    let output = sandbox
        .mybox(["import", "-", "links"])
        .stdin(rootfs.tar())
        .run();
    assert!(
        matches!(output.exit_code(), Some(0 | 1)),
        "{}",
        output.stderr()
    );
    assert_eq!(
        std::fs::read_dir(&outside).expect("the directory").count(),
        0
    );
}

#[test]
fn the_largest_size_holds_for_what_comes_out_of_the_decompressor() {
    let sandbox = Sandbox::new("maxsize");
    let bomb = Rootfs::empty()
        .file_with("zeros", &vec![0; 8 << 20], |_| {})
        .tar();
    let packed = Cmd::new("gzip")
        .arg("-c")
        .stdin(bomb)
        .run()
        .ok()
        .stdout_bytes;
    assert!(packed.len() < 64 << 10);
    let before = objects(&sandbox);
    let import = |size: &str| {
        let import = sandbox.mybox(["import", "--max-size", size, "-", "bomb"]);
        import.stdin(packed.clone()).run()
    };
    let _ = import("4m").code(1).says("more than 4194304 bytes");
    assert_eq!(objects(&sandbox), before);
    import("9m").ok();
}

#[test]
fn an_import_under_a_taken_name_takes_it_over() {
    let sandbox = Sandbox::new("retag");
    let import = |text: &str| {
        let rootfs = Rootfs::tiny().file("version", text);
        sandbox
            .mybox(["import", "-", "app"])
            .stdin(rootfs.tar())
            .run()
            .ok()
            .line()
    };
    let (old, new) = (import("one"), import("two"));
    assert_eq!(
        sandbox.run(["app", "cat", "/version"]).run().ok().line(),
        "two"
    );
    assert_eq!(inspect(&sandbox, "app")["digest"], *new);
    assert_eq!(
        sandbox.run([&*old, "cat", "/version"]).run().ok().line(),
        "one"
    );
    assert_eq!(inspect(&sandbox, &old)["references"], serde_json::json!([]));
}
