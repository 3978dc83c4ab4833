//! Files copied into containers and out of them, and a container's whole tree written as a tar.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::detached::until;
use crate::harness::{Cmd, Rootfs, Sandbox};

/// Two containers with the same files and a volume each: one that runs, one that was only made.
fn containers(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    let rootfs = Rootfs::tiny()
        .busybox()
        .dir("srv", 0o755)
        .dir("volume", 0o755)
        .file("srv/file", "of the image")
        .symlink("etc-link", "/etc")
        .symlink("up", "../../../../../../srv");
    sandbox.import("base", rootfs);
    for (verb, name) in [(&["run", "-d"][..], "runs"), (&["create"], "made")] {
        let volume = format!("{name}:/volume");
        let words = ["--network", "none", "--name", name, "-v", &volume, "base"];
        let run = sandbox.mybox(verb).args(words).args(["sleep", "600"]);
        run.run().ok();
    }
    sandbox
}

fn remove_all(sandbox: &Sandbox) {
    let ids = sandbox.mybox(["ps", "-aq"]).run().ok().stdout();
    sandbox
        .mybox(["rm", "-f"])
        .args(ids.split_whitespace())
        .run()
        .ok();
}

const BOTH: [&str; 2] = ["runs", "made"];

/// A directory of this machine with a file of somebody's, a link, a fifo and two names of one file.
fn tree(sandbox: &Sandbox) -> PathBuf {
    let directory = sandbox.scratch().join("host");
    let tree = directory.join("tree");
    fs::create_dir_all(tree.join("sub")).expect("make directories");
    fs::write(tree.join("sub/file"), "of the host").expect("write");
    std::os::unix::fs::chown(tree.join("sub/file"), Some(1234), Some(5678)).expect("chown");
    fs::set_permissions(tree.join("sub/file"), PermissionsExt::from_mode(0o4751)).expect("chmod");
    fs::hard_link(tree.join("sub/file"), tree.join("other")).expect("link");
    symlink("/etc/passwd", tree.join("link")).expect("symlink");
    Cmd::new("mkfifo").arg(tree.join("fifo")).run().ok();
    directory
}

fn cp(sandbox: &Sandbox, words: &[&str]) -> Cmd {
    sandbox
        .mybox(["cp"])
        .args(words)
        .dir(sandbox.scratch().join("host"))
}

/// What `find` says in the container of everything below a path: kind and mode, owner, path.
fn listing(sandbox: &Sandbox, container: &str, path: &str) -> Vec<String> {
    let here = sandbox
        .scratch()
        .join(format!("listing-{}", container.replace("/", "-")));
    fs::remove_dir_all(&here)
        .or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .expect("remove the last one");
    let from = format!("{container}:{path}");
    let copy = sandbox.mybox(["cp", "-a", &from]).arg(&here);
    copy.run().ok();
    let find = Cmd::new("find").arg(".").dir(&here);
    let found = find
        .args(["-printf", "%M %U:%G %P %l\n"])
        .run()
        .ok()
        .stdout();
    let mut lines: Vec<String> = found
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_tree_arrives_with_its_kinds_modes_and_links_and_is_roots() {
    let sandbox = containers("cp-tree");
    tree(&sandbox);
    for name in BOTH {
        cp(&sandbox, &["tree", &format!("{name}:/srv")]).run().ok();
        let expected = [
            "drwxr-xr-x 0:0",
            "drwxr-xr-x 0:0 sub",
            "lrwxrwxrwx 0:0 link /etc/passwd",
            "prw-r--r-- 0:0 fifo",
            "-rwsr-x--x 0:0 other",
            "-rwsr-x--x 0:0 sub/file",
        ];
        let mut expected = expected.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(listing(&sandbox, name, "/srv/tree"), expected, "{name}");
        cp(&sandbox, &["-a", "tree", &format!("{name}:/srv/kept")])
            .run()
            .ok();
        let kept = listing(&sandbox, name, "/srv/kept");
        assert!(
            kept.contains(&"-rwsr-x--x 1234:5678 sub/file".to_owned()),
            "{kept:?}"
        );
        let copied = sandbox.scratch().join(format!("listing-{name}"));
        let inode = |path: &str| fs::metadata(copied.join(path)).expect("stat").ino();
        assert_eq!(inode("other"), inode("sub/file"));
    }
    // What was copied to one that did not run is there when it does.
    sandbox.mybox(["start", "made"]).run().ok();
    let exec = sandbox.mybox(["exec", "made", "cat", "/srv/tree/sub/file"]);
    assert_eq!(exec.run().ok().stdout(), "of the host");
    remove_all(&sandbox);
}

#[test]
fn what_comes_out_is_the_callers_unless_it_is_an_archive() {
    let sandbox = containers("cp-out");
    let host = tree(&sandbox);
    cp(&sandbox, &["-a", "tree", "runs:/srv"]).run().ok();
    cp(&sandbox, &["runs:/srv/tree/sub/file", "ours"])
        .run()
        .ok();
    cp(&sandbox, &["-a", "runs:/srv/tree/sub/file", "theirs"])
        .run()
        .ok();
    let owner = |name: &str| {
        let found = fs::metadata(host.join(name)).expect("stat");
        (found.uid(), found.gid())
    };
    assert_eq!(owner("ours"), (0, 0));
    assert_eq!(owner("theirs"), (1234, 5678));
    remove_all(&sandbox);
}

/// Docker's rules, in both directions: what is there before, what is typed, and where it ends up.
#[test]
fn where_a_copy_ends_up_is_what_docker_says() {
    let sandbox = containers("cp-rules");
    let host = tree(&sandbox);
    for (row, (source, destination, found)) in RULES.into_iter().enumerate() {
        for (name, direction) in [
            ("runs", "out"),
            ("runs", "into"),
            ("made", "out"),
            ("made", "into"),
        ] {
            let place = format!("{name}-{direction}-{row}");
            for directory in ["source/sub", "target/there"] {
                fs::create_dir_all(host.join(&place).join(directory)).expect("make directories");
            }
            for file in ["source/file", "source/sub/inner"] {
                fs::write(host.join(&place).join(file), "content").expect("write");
            }
            fs::write(host.join(&place).join("target/over"), "before").expect("write");
            cp(&sandbox, &[&place, &format!("{name}:/")]).run().ok();
            let here = |path: &str| format!("{place}/{path}");
            let there = |path: &str| format!("{name}:/{place}/{path}");
            let (source, target) = (format!("source/{source}"), format!("target/{destination}"));
            let copied = match direction {
                "out" => cp(&sandbox, &[&there(&source), &here(&target)]).run(),
                _ => cp(&sandbox, &[&here(&source), &there(&target)]).run(),
            };
            match found {
                Ok(_) => drop(copied.ok()),
                Err(words) => drop(copied.code(1).says(words)),
            }
            let Ok(found) = found else { continue };
            let found = format!("target/{found}");
            let at = match direction {
                "out" => host.join(here(&found)),
                _ => {
                    cp(&sandbox, &[&there(&found), "back"]).run().ok();
                    host.join("back")
                }
            };
            let content = fs::read_to_string(at).expect("what was copied");
            assert_eq!(content, "content", "{source} to {target}, {place}");
        }
    }
    remove_all(&sandbox);
}

const RULES: [(&str, &str, Result<&str, &str>); 16] = [
    ("file", "new", Ok("new")),
    ("file", "there", Ok("there/file")),
    ("file", "there/", Ok("there/file")),
    ("file", "there/renamed", Ok("there/renamed")),
    ("file", "over", Ok("over")),
    ("file", "absent/", Err("is not there")),
    ("file", "absent/new", Err("is not there")),
    ("file", "over/", Err("is no directory")),
    ("file/", "new", Err("is not a directory")),
    ("sub", "absent", Ok("absent/inner")),
    ("sub", "there", Ok("there/sub/inner")),
    ("sub/", "there", Ok("there/sub/inner")),
    ("sub/.", "there", Ok("there/inner")),
    ("sub/.", "absent", Ok("absent/inner")),
    ("sub", "over", Err("no directory")),
    ("none", "there", Err("/none")),
];

#[test]
fn links_of_a_container_lead_nowhere_but_into_it() {
    let sandbox = containers("cp-links");
    let host = tree(&sandbox);
    let name = format!("escaped-{}", std::process::id());
    fs::write(host.join(&name), "copied").expect("write");
    symlink("/etc/passwd", host.join("to-passwd")).expect("symlink");
    for container in BOTH {
        for link in ["etc-link", "up"] {
            cp(&sandbox, &[&name, &format!("{container}:/{link}/")])
                .run()
                .ok();
        }
        assert!(!Path::new("/etc").join(&name).exists());
        assert!(!Path::new("/srv").join(&name).exists());
        for inside in ["etc", "srv"] {
            cp(
                &sandbox,
                &[&format!("{container}:/{inside}/{name}"), "back"],
            )
            .run()
            .ok();
            assert_eq!(
                fs::read_to_string(host.join("back")).expect("read"),
                "copied"
            );
        }
        // A link is copied as one, and followed where that is asked for.
        cp(&sandbox, &[&format!("{container}:/etc-link"), "as-link"])
            .run()
            .ok();
        let link = fs::read_link(host.join("as-link")).expect("a link");
        assert_eq!(link, Path::new("/etc"));
        fs::remove_file(host.join("as-link")).expect("remove");
        cp(
            &sandbox,
            &["-L", &format!("{container}:/etc-link"), "as-directory"],
        )
        .run()
        .ok();
        assert!(host.join("as-directory").join(&name).is_file());
        fs::remove_dir_all(host.join("as-directory")).expect("remove");
        // A file is written through a link to one, in the container.
        let through = format!("{container}:/to-passwd");
        cp(&sandbox, &["to-passwd", &format!("{container}:/")])
            .run()
            .ok();
        let before = fs::read("/etc/passwd").expect("read");
        cp(&sandbox, &[&name, &through]).run().ok();
        assert_eq!(fs::read("/etc/passwd").expect("read"), before);
        cp(&sandbox, &[&format!("{container}:/etc/passwd"), "back"])
            .run()
            .ok();
        assert_eq!(
            fs::read_to_string(host.join("back")).expect("read"),
            "copied"
        );
    }
    remove_all(&sandbox);
}

#[test]
fn volumes_are_seen_and_so_is_what_is_read_only() {
    let sandbox = containers("cp-volumes");
    let host = tree(&sandbox);
    for name in BOTH {
        cp(&sandbox, &["tree/sub/file", &format!("{name}:/volume/")])
            .run()
            .ok();
        let data = sandbox.root().join(format!("volumes/{name}/data/file"));
        assert_eq!(
            fs::read_to_string(data).expect("in the volume"),
            "of the host"
        );
        cp(&sandbox, &[&format!("{name}:/volume/file"), "back"])
            .run()
            .ok();
        assert_eq!(
            fs::read_to_string(host.join("back")).expect("read"),
            "of the host"
        );
    }
    let bind = format!("{}:/host:ro", host.display());
    let create = [
        "create",
        "--network",
        "none",
        "--name",
        "bound",
        "-v",
        &bind,
        "base",
        "true",
    ];
    sandbox.mybox(create).run().ok();
    cp(&sandbox, &["bound:/host/tree/sub/file", "back"])
        .run()
        .ok();
    let refused = cp(&sandbox, &["back", "bound:/host/new"]).run().code(1);
    drop(refused.says("Read-only file system"));
    assert!(!host.join("new").exists());
    remove_all(&sandbox);
}

#[test]
fn tars_go_in_and_out() {
    let sandbox = containers("cp-tar");
    let host = tree(&sandbox);
    let tar = Cmd::new("tar").args(["-c", "tree"]).dir(&host).run().ok();
    let tar = tar.stdout_bytes;
    for name in BOTH {
        cp(&sandbox, &["-", &format!("{name}:/srv")])
            .stdin(tar.clone())
            .run()
            .ok();
        let found = listing(&sandbox, name, "/srv/tree");
        assert!(
            found.contains(&"-rwsr-x--x 1234:5678 sub/file".to_owned()),
            "{found:?}"
        );
        let out = cp(&sandbox, &[&format!("{name}:/srv/tree"), "-"])
            .run()
            .ok();
        let names = files(&out.stdout_bytes);
        assert_eq!(
            names.get("tree/other").map(Vec::as_slice),
            Some(&b"of the host"[..])
        );
        // Cut short, a tar is an error that says where.
        let cut = tar[..700].to_vec();
        let cut = cp(&sandbox, &["-", &format!("{name}:/srv")])
            .stdin(cut)
            .run()
            .code(1);
        drop(cut.says("bad tar archive at byte"));
        let nowhere = cp(&sandbox, &["-", &format!("{name}:/none")])
            .stdin(tar.clone())
            .run();
        drop(nowhere.code(1).says("/none is no directory"));
    }
    remove_all(&sandbox);
}

/// The regular files of a tar.
fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        if entry.header().entry_type().is_file() {
            entry.read_to_end(&mut content).expect("its content");
            let path = entry.path().expect("its path").display().to_string();
            files.insert(path, content);
        }
    }
    files
}

#[test]
fn a_hostile_tar_stays_where_it_is_unpacked() {
    let sandbox = containers("cp-hostile");
    let host = tree(&sandbox);
    let victim = host.join("victim");
    fs::write(&victim, "before").expect("write");
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_mode(0o777);
    builder
        .append_link(&mut link, "way", &host)
        .expect("append");
    let mut file = tar::Header::new_gnu();
    file.set_size(5);
    file.set_mode(0o644);
    builder
        .append_data(&mut file, "way/victim", &b"after"[..])
        .expect("append");
    let tar = builder.into_inner().expect("a tar");
    for name in BOTH {
        cp(&sandbox, &["-", &format!("{name}:/srv")])
            .stdin(tar.clone())
            .run()
            .ok();
        assert_eq!(fs::read_to_string(&victim).expect("read"), "before");
        let inside = format!("{name}:{}", victim.display());
        cp(&sandbox, &[&inside, "back"]).run().ok();
        assert_eq!(
            fs::read_to_string(host.join("back")).expect("read"),
            "after"
        );
    }
    remove_all(&sandbox);
}

#[test]
fn directories_are_not_replaced_and_become_what_the_archive_says() {
    let sandbox = containers("cp-kept");
    let host = tree(&sandbox);
    fs::set_permissions(host.join("tree"), PermissionsExt::from_mode(0o700)).expect("chmod");
    for name in BOTH {
        cp(&sandbox, &["tree/.", &format!("{name}:/srv")])
            .run()
            .ok();
        let found = listing(&sandbox, name, "/srv");
        assert_eq!(
            found
                .iter()
                .filter(|line| *line == "drwxr-xr-x 0:0")
                .count(),
            1,
            "{found:?}"
        );
        assert!(
            found.iter().any(|line| line.ends_with(" file")),
            "{found:?}"
        );
        // A directory of the archive that is there: as with Docker it becomes what it is in the archive.
        let inner = host.join("tree/sub");
        fs::set_permissions(&inner, PermissionsExt::from_mode(0o1750)).expect("chmod");
        std::os::unix::fs::chown(&inner, Some(12), Some(34)).expect("chown");
        let to = format!("{name}:/srv");
        let added = "echo x > /srv/sub/own";
        if name == "runs" {
            let exec = sandbox.mybox(["exec", name, "sh", "-c", added]);
            exec.run().ok();
        }
        for (flags, owner) in [(&[][..], "0:0"), (&["-a"], "12:34")] {
            cp(&sandbox, flags).args(["tree/.", &to]).run().ok();
            let found = listing(&sandbox, name, "/srv");
            let sub = format!("drwxr-x--T {owner} sub");
            assert!(found.contains(&sub), "{found:?}");
            assert!(found.contains(&"drwxr-xr-x 0:0".to_owned()), "{found:?}");
            let kept = found.iter().any(|line| line.ends_with(" sub/own"));
            assert_eq!(kept, name == "runs", "{found:?}");
        }
        // A file named like a directory that is there.
        fs::create_dir_all(host.join("other")).expect("make a directory");
        fs::write(host.join("other/sub"), "").expect("write");
        let refused = cp(&sandbox, &["other/.", &format!("{name}:/srv")])
            .run()
            .code(1);
        drop(refused.says("it would replace a directory"));
    }
    remove_all(&sandbox);
}

#[test]
fn what_is_wrong_is_said_by_name() {
    let sandbox = containers("cp-wrong");
    tree(&sandbox);
    for (words, says) in [
        (["tree", "nobody:/srv"], "no such container: nobody"),
        (["nobody:/srv", "."], "no such container: nobody"),
        (["tree", "other"], "one side must be a container"),
        (["runs:/srv", "made:/srv"], "from one container to another"),
        (["tree", "runs:"], "no path after the colon"),
        (["none", "runs:/srv"], "/none"),
    ] {
        let refused = cp(&sandbox, &words).run().code(1);
        drop(refused.says(says));
    }
    let create = [
        "create",
        "--network",
        "none",
        "--read-only",
        "--name",
        "ro",
        "base",
        "true",
    ];
    sandbox.mybox(create).run().ok();
    let refused = cp(&sandbox, &["tree", "ro:/srv"]).run().code(1);
    drop(refused.says("Read-only file system"));
    cp(&sandbox, &["ro:/srv/file", "back"]).run().ok();
    remove_all(&sandbox);
}

#[test]
fn an_export_makes_an_image_of_the_same_files() {
    let sandbox = containers("export");
    tree(&sandbox);
    for name in BOTH {
        cp(&sandbox, &["-a", "tree", &format!("{name}:/srv")])
            .run()
            .ok();
        cp(&sandbox, &["tree", &format!("{name}:/volume")])
            .run()
            .ok();
        let tar = sandbox.scratch().join(format!("{name}.tar"));
        sandbox
            .mybox(["export", "-o"])
            .args([&tar, Path::new(name)])
            .run()
            .ok();
        let exported = fs::read(&tar).expect("the tar");
        // From where one stands, though mybox looks at the mounts of another.
        let here = format!("{name}-here.tar");
        let export = sandbox.mybox(["export", "-o", &here, name]);
        drop(export.dir(sandbox.scratch()).run().ok());
        let relative = fs::read(sandbox.scratch().join(&here)).expect("the tar");
        assert_eq!(files(&relative), files(&exported));
        let piped = sandbox.mybox(["export", name]).run().ok().stdout_bytes;
        assert_eq!(files(&piped), files(&exported));
        let names = files(&exported);
        assert!(names.contains_key("srv/tree/other"), "{:?}", names.keys());
        // Neither its volume's files nor the kernel's.
        assert!(
            !names
                .keys()
                .any(|path| path.starts_with("volume/") || path.starts_with("proc/"))
        );
        let image = format!("from-{name}");
        sandbox
            .mybox(["import"])
            .args([tar.as_os_str(), image.as_ref()])
            .run()
            .ok();
        sandbox
            .mybox([
                "create",
                "--network",
                "none",
                "--name",
                &image,
                &image,
                "true",
            ])
            .run()
            .ok();
        let listed = |container: &str| listing(&sandbox, container, "/srv");
        assert_eq!(listed(&image), listed(name));
    }
    let refused = sandbox
        .mybox(["export", "-o", "/proc/none/x", "runs"])
        .run()
        .code(1);
    drop(refused.says("/proc/none"));
    drop(
        sandbox
            .mybox(["export", "nobody"])
            .run()
            .code(1)
            .says("no such container"),
    );
    remove_all(&sandbox);
}

#[test]
fn a_copy_that_was_killed_keeps_nobody_from_the_container() {
    let sandbox = containers("cp-killed");
    tree(&sandbox);
    let id = sandbox.mybox(["inspect", "made"]).run().ok().stdout_json()[0]["id"].clone();
    let claim = sandbox
        .run_root()
        .join("containers")
        .join(id.as_str().expect("an id"));
    // It waits for the tar on its standard input.
    let copy = cp(&sandbox, &["-", "made:/srv"]).spawn();
    until("the copy has the container", || claim.exists());
    let start = sandbox.mybox(["start", "made"]).spawn();
    copy.signal(Signal::KILL);
    assert_eq!(copy.wait().signal(), Some(Signal::KILL.as_raw()));
    drop(start.wait().ok());
    let exec = sandbox.mybox(["exec", "made", "cat", "/srv/file"]);
    assert_eq!(exec.run().ok().stdout(), "of the image");
    remove_all(&sandbox);
}

/// What a container has mounted it has for `cp` too while it does not run; but for a tmpfs, which is not there.
#[test]
fn a_container_that_does_not_run_has_its_images_and_no_tmpfs() {
    let sandbox = Sandbox::new("cp-mounts");
    let host = tree(&sandbox);
    let rootfs = Rootfs::tiny().busybox().file("t/beneath", "beneath");
    sandbox.import(
        "base",
        rootfs.symlink("link", "/t").file("i/beneath", "beneath"),
    );
    sandbox.import(
        "other",
        Rootfs::empty().file("sub/file", "of the other image"),
    );
    let flags = ["--mount", "type=image,src=other,dst=/i", "--tmpfs", "/t"];
    let create = sandbox.mybox(["create", "--network", "none", "--name", "web"]);
    let create = create.args(flags).args(["base", "sleep", "600"]);
    drop(create.run().ok());
    for runs in [false, true] {
        if runs {
            drop(sandbox.mybox(["start", "web"]).run().ok());
        }
        drop(cp(&sandbox, &["web:/i/sub/file", "copy"]).run().ok());
        let copy = fs::read_to_string(host.join("copy")).expect("the copy");
        assert_eq!(copy, "of the other image");
        drop(cp(&sandbox, &["web:/i/beneath", "."]).run().code(1));
        let read_only = cp(&sandbox, &["copy", "web:/i/new"]).run().code(1);
        drop(read_only.says("Read-only file system"));
    }
    drop(sandbox.mybox(["stop", "-t", "0", "web"]).run().ok());
    for words in [
        ["web:/t/beneath", "."],
        ["web:/t", "."],
        ["web:/link/beneath", "."],
        ["copy", "web:/t"],
        ["copy", "web:/t/new/deeper"],
        ["copy", "web:/link/new"],
    ] {
        let refused = cp(&sandbox, &words).run().code(1);
        drop(refused.says("lies in the tmpfs /t, which container web has only while it runs"));
    }
    drop(cp(&sandbox, &["web:/.", "whole"]).run().ok());
    assert_eq!(fs::read_dir(host.join("whole/t")).expect("list").count(), 0);
    fs::create_dir_all(host.join("in/t")).expect("make directories");
    fs::write(host.join("in/t/new"), "").expect("write");
    let within = cp(&sandbox, &["in/.", "web:/"]).run().code(1);
    drop(within.says("Read-only file system"));
    remove_all(&sandbox);
}

/// Files of an image come out as those of a container that was made of it, with nothing mounted: here it
/// could not be, as whoever copies has no right to mount.
#[test]
fn files_of_an_image_come_out_of_its_layers() {
    for form in ["unpacked", "indexed"] {
        let sandbox = Sandbox::new(&format!("cp-image-{form}")).with_layer_form(form);
        let rootfs = Rootfs::tiny()
            .busybox()
            .dir("srv", 0o751)
            .file("srv/gone", "deleted above")
            .file("srv/stays", "of the base")
            .file("opaque/gone", "hidden above")
            .symlink("srv/link", "/opaque/new")
            .symlink("way", "srv")
            .symlink("loop", "loop");
        sandbox.import("base", rootfs);
        let change = "rm -rf /srv/gone /opaque && mkdir /opaque && echo above > /opaque/new && \
            ln /opaque/new /opaque/twice && chown 70000:7 /opaque/new && chmod 4751 /opaque/new && \
            mkfifo /opaque/fifo && dd if=/dev/zero of=/opaque/hole bs=1 count=1 seek=5000000";
        let words = [
            "--network",
            "none",
            "--name",
            "above",
            "base",
            "sh",
            "-c",
            change,
        ];
        drop(sandbox.mybox(["run"]).args(words).run().ok());
        drop(
            sandbox
                .mybox(["commit", "above", "localhost:5000/top:1"])
                .run()
                .ok(),
        );
        let create = sandbox.mybox(["create", "--name", "whole", "localhost:5000/top:1", "true"]);
        drop(create.run().ok());
        let host = sandbox.scratch().join("host");
        fs::create_dir_all(&host).expect("make a directory");
        // setpriv(1) takes the right to mount away.
        let cp = |words: &[&str]| {
            let cp = sandbox.mybox(["cp"]).args(words).dir(&host);
            cp.through([
                "setpriv",
                "--bounding-set",
                "-sys_admin",
                "--inh-caps",
                "-sys_admin",
            ])
        };
        for path in ["/", "/srv", "/opaque"] {
            let image = listing(&sandbox, "localhost:5000/top:1", path);
            assert_eq!(image, listing(&sandbox, "whole", path), "{form}: {path}");
            assert!(image.len() > 3 || path == "/srv", "{image:?}");
        }
        let image = ["-a", "localhost:5000/top:1:/way/../opaque/.", "content"];
        drop(cp(&image).run().ok());
        let of = |name: &str| fs::metadata(host.join("content").join(name)).expect("stat");
        assert_eq!(
            fs::read_to_string(host.join("content/new")).expect("read"),
            "above\n"
        );
        assert_eq!(of("new").ino(), of("twice").ino(), "two names of one file");
        assert_eq!(
            (of("new").uid(), of("new").mode() & 0o7777),
            (70000, 0o4751)
        );
        assert_eq!(of("hole").len(), 5_000_001);
        assert!(of("hole").blocks() * 512 < 1_000_000, "it has its hole");
        assert!(
            !host.join("content/gone").exists(),
            "what is hidden stays so"
        );
        // The link, and what it leads to.
        drop(cp(&["localhost:5000/top:1:/way/link", "link"]).run().ok());
        let target = fs::read_link(host.join("link")).expect("a link");
        assert_eq!(target, Path::new("/opaque/new"));
        drop(
            cp(&["-L", "localhost:5000/top:1:/way/link", "file"])
                .run()
                .ok(),
        );
        assert_eq!(
            fs::read_to_string(host.join("file")).expect("read"),
            "above\n"
        );
        let tar = cp(&["localhost:5000/top:1:/srv/stays", "-"]).run().ok();
        let entries = files(&tar.stdout_bytes);
        assert_eq!(entries["stays"], b"of the base");
        let round = cp(&["-L", "base:/loop", "."]).run().code(1);
        drop(round.says("too many symlinks"));
        for (words, says) in [
            (["base:/srv/none", "."], "/srv/none is not there"),
            (["base:/srv/stays/", "."], "/srv/stays is not a directory"),
            (["nope:/srv", "."], "no such container: nope"),
            (["base:srv", "."], "no such container: base"),
        ] {
            drop(cp(&words).run().code(1).says(says));
        }
        remove_all(&sandbox);
    }
}
