//! A directory tree as a layer: the same tree, the same bytes, and what is in it comes out of it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use mybox_store::{ImportOptions, ImportSource, Progress, Warning};

use crate::support::{Scratch, chain, xattr};

fn shell(script: &str, directory: &Path) {
    let script = format!("set -e; {script}");
    let status = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(directory)
        .status()
        .unwrap();
    assert!(status.success());
}

const TREE: &str = r#"
    mkdir -p $0/etc $0/a/b; cd $0
    echo text > a/file; ln a/file a/b/hard; ln -s ../file a/b/soft
    truncate -s 40M a/sparse; printf end | dd of=a/sparse bs=1 seek=3000000 conv=notrunc 2>/dev/null
    mkfifo a/fifo; mknod a/zero c 1 5; chown 1234:3000000 a/b; chmod 2750 a/b; chmod 4755 a/file
    long=$(printf 'x%.0s' $(seq 240)); mkdir -p $long/$long; echo deep > $long/$long/f
    printf x > "$(printf 'caf\351')"; touch "new
line"
    setfattr -h -n trusted.t -v v a/b/soft 2>/dev/null || true
    setfacl -m u:1000:r a/file; setfacl -d -m u:1000:r a/b; setcap cap_net_raw=ep a/sparse
    touch -h -d '2001-02-03 04:05:06.789' a/b/soft a/b a/file
    find . -depth -exec touch -h -d '2002-02-03 04:05:06.123456789' {} +
"#;

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let scratch = Scratch::new();
    let source = scratch.path("source");
    shell(TREE, &source);
    let image = scratch.import_directory(&source).unwrap();
    let tree = scratch.tree(&image);
    let listing = |root: &Path| {
        let format = "%P %y %m %U:%G %s %n %l %T@\n";
        let output = Command::new("find")
            .arg(root)
            .args(["-printf", format])
            .output()
            .unwrap();
        let mut lines: Vec<Vec<u8>> = output
            .stdout
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        lines.sort();
        // Sizes of directories are the filesystem's business.
        lines.retain(|line| !line.windows(3).any(|part| part == b" d "));
        lines
    };
    assert_eq!(listing(&tree), listing(&source));
    for name in ["a/file", "a/sparse"] {
        let read = |root: &Path| std::fs::read(root.join(name)).unwrap();
        assert!(read(&tree) == read(&source), "{name} differs");
    }
    let directory = tree.join("a/b").metadata().unwrap();
    assert_eq!(
        (directory.mode() & 0o7777, directory.gid()),
        (0o2750, 3_000_000)
    );
    assert_eq!(directory.mtime_nsec(), 123_456_789);
    for (name, attribute) in [
        ("a/file", "system.posix_acl_access"),
        ("a/b", "system.posix_acl_default"),
        ("a/sparse", "security.capability"),
    ] {
        let original = xattr(&source.join(name), attribute);
        assert!(original.is_some());
        assert_eq!(
            xattr(&tree.join(name), attribute),
            original,
            "{name} {attribute}"
        );
    }
    assert!(tree.join("a/sparse").metadata().unwrap().blocks() < 1000);
    assert_eq!(
        image.created.as_deref(),
        Some("2002-02-03T04:05:06.123456789Z")
    );
}

#[test]
fn the_same_tree_gives_the_same_digests_wherever_it_is() {
    let (one, two) = (Scratch::new(), Scratch::new());
    let source = one.path("source");
    shell(TREE, &source);
    // Another order of names, another filesystem layout, holes filled in.
    let copy = two.path("copy");
    shell(
        &format!("cp -a --sparse=never {}/. $0", source.display()),
        &{
            std::fs::create_dir(&copy).unwrap();
            copy.clone()
        },
    );
    let first = one.import_directory(&source).unwrap();
    let second = two.import_directory(&copy).unwrap();
    assert_eq!((first.id, first.manifest), (second.id, second.manifest));
    assert_eq!(one.import_directory(&source).unwrap().id, first.id);
}

#[test]
fn what_is_packed_can_be_read_by_others() {
    let scratch = Scratch::new();
    let source = scratch.path("source");
    shell(TREE, &source);
    let image = scratch.import_directory(&source).unwrap();
    let blob = scratch
        .store
        .root()
        .join("blobs/sha256")
        .join(image.layers[0].hex());
    let compared = Command::new("tar")
        .arg("-C")
        .arg(&source)
        .arg("-df")
        .arg(&blob)
        .output()
        .unwrap();
    assert!(
        compared.status.success(),
        "{}",
        String::from_utf8_lossy(&compared.stdout)
    );
    let mut archive = tar::Archive::new(std::fs::File::open(&blob).unwrap());
    let names: Vec<Vec<u8>> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path_bytes().into_owned())
        .collect();
    assert!(names.contains(&b"a/b/hard".to_vec()) && names.contains(&b"caf\xe9".to_vec()));
    // And by mybox itself, as a tar, with the same result.
    let bytes = std::fs::read(&blob).unwrap();
    assert_eq!(scratch.import(&bytes).unwrap().id, image.id);
}

#[test]
fn sockets_are_left_out_and_said_so() {
    let scratch = Scratch::new();
    let source = scratch.path("source");
    std::fs::create_dir(&source).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    std::fs::write(source.join("file"), "x").unwrap();
    let mut warnings = Vec::new();
    let image = scratch
        .store
        .import(
            ImportSource::Directory(&source),
            &ImportOptions::default(),
            &mut |progress| {
                if let Progress::Warning(warning) = progress {
                    warnings.push(warning);
                }
            },
        )
        .unwrap();
    assert_eq!(
        warnings,
        [Warning::SkippedSocket {
            path: "socket".to_owned()
        }]
    );
    let tree = scratch.tree(&image);
    assert!(tree.join("file").exists() && !tree.join("socket").exists());
}

#[test]
fn what_is_mounted_in_the_tree_is_not_part_of_it() {
    let scratch = Scratch::new();
    let source = scratch.path("source");
    let script = r#"
        mkdir -p $0/proc $0/tmp $0/bound; echo own > $0/file; echo own > $0/resolv.conf
        mount -t proc proc $0/proc; mount -t tmpfs -o mode=1777 tmpfs $0/tmp; echo x > $0/tmp/x
        mount --bind $0/tmp $0/bound; mount --bind /etc/passwd $0/resolv.conf
    "#;
    let importer = crate::support::importer();
    let command = format!(
        "set -e; {script}\nexec {} {} $0",
        importer.display(),
        scratch.store.root().display()
    );
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", &command])
        .arg(&source)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = scratch.tree(&scratch.store.images().unwrap()[0]);
    for name in ["proc", "tmp", "bound"] {
        assert_eq!(
            std::fs::read_dir(tree.join(name)).unwrap().count(),
            0,
            "{name}"
        );
    }
    assert_eq!(tree.join("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(std::fs::read(tree.join("resolv.conf")).unwrap(), b"");
    assert_eq!(std::fs::read(tree.join("file")).unwrap(), b"own\n");
}

#[test]
fn names_that_mean_a_deletion_in_a_layer_are_refused() {
    let scratch = Scratch::new();
    let source = scratch.path("source");
    std::fs::create_dir_all(source.join("d")).unwrap();
    std::fs::write(source.join("d/.wh.passwd"), "").unwrap();
    let error = chain(&scratch.import_directory(&source).unwrap_err());
    assert!(
        error.contains("d/.wh.passwd") && error.contains("deletion"),
        "{error}"
    );
    assert!(scratch.leftovers().is_empty());
    let error = chain(
        &scratch
            .import_directory(&scratch.path("nowhere"))
            .unwrap_err(),
    );
    assert!(
        error.contains("nowhere") && error.contains("No such file"),
        "{error}"
    );
}

#[test]
fn a_file_that_grows_while_it_is_read_is_an_error() {
    let scratch = Scratch::new();
    let source = scratch.path("source");
    std::fs::create_dir(&source).unwrap();
    let file = source.join("log");
    std::fs::write(&file, vec![1; 600 << 10]).unwrap();
    let mut grown = false;
    let result = scratch.store.import(
        ImportSource::Directory(&source),
        &ImportOptions::default(),
        &mut |progress| {
            // Two entries: the root, then the file, whose header has just been written.
            if matches!(progress, Progress::Packing { entries: 2, .. }) && !grown {
                grown = true;
                let mut more = std::fs::OpenOptions::new()
                    .append(true)
                    .open(&file)
                    .unwrap();
                std::io::Write::write_all(&mut more, b"more").unwrap();
            }
        },
    );
    let error = chain(&result.unwrap_err());
    assert!(
        error.contains("log") && error.contains("changed while"),
        "{error}"
    );
    assert!(scratch.leftovers().is_empty());
}
