//! What erofs-utils say of an index.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::kernel::Layer;
use super::{tars, trees};
use crate::layer::index::read::read;

#[test]
fn fsck_erofs_accepts_random_tars() {
    for seed in 0..6 {
        let tar = tars::random(seed, |tar| Layer::new(tar).index().is_ok());
        let layer = Layer::new(&tar);
        layer.index().unwrap();
        accepts(&layer.directory(), &["layer.tar"]);
    }
}

#[test]
fn fsck_erofs_accepts_random_trees() {
    for seed in 0..6 {
        let (tree, memory) = trees::random(seed);
        let directory = tempfile::tempdir().unwrap();
        let index = trees::written(&tree, &memory);
        std::fs::write(directory.path().join("layer.erofs"), index).unwrap();
        let devices: Vec<String> = (1..memory.0.len())
            .map(|number| number.to_string())
            .collect();
        for (name, bytes) in devices.iter().zip(&memory.0[1..]) {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
        accepts(directory.path(), &devices);
    }
}

/// The real thing: a Debian, mounted, checked, told.
#[test]
fn a_debian_mounted_is_as_it_is_unpacked_and_erofs_utils_accept_it() {
    let layer = Layer::new(b"");
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--acls", "-C"]);
    tar.arg(fixture("debian-tree.sh"))
        .arg("-cf")
        .arg(layer.tar())
        .arg(".");
    output(&mut tar);
    layer.index().unwrap();
    layer.unpack().unwrap();
    layer.compare("debian");
    accepts(&layer.directory(), &["layer.tar"]);
    let tree = read(&std::fs::read(layer.erofs()).unwrap()).unwrap();
    let told = utility(
        &layer.directory(),
        &["dump.erofs", "-s", "/mnt/layer.erofs"],
    );
    let line = told.lines().find(|line| line.contains("inode count"));
    let count = line.and_then(|line| line.split_whitespace().last());
    assert_eq!(count, Some(&*tree.len().to_string()), "{told}");
    let env = ["dump.erofs", "--path=/usr/bin/env", "/mnt/layer.erofs"];
    let told = utility(&layer.directory(), &env);
    let size = layer
        .unpacked()
        .join("usr/bin/env")
        .metadata()
        .unwrap()
        .len();
    assert!(told.contains(&format!("Size: {size} ")), "{told}");
}

fn accepts(directory: &Path, devices: &[&str]) {
    let devices = devices
        .iter()
        .map(|device| format!("--device=/mnt/{device}"));
    let mut command = vec![
        "fsck.erofs".to_owned(),
        "-d3".to_owned(),
        "--extract".to_owned(),
    ];
    command.extend(devices);
    command.push("/mnt/layer.erofs".to_owned());
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let said = utility(directory, &command);
    assert!(said.contains("No errors found"), "{said}");
}

/// Runs one of erofs-utils, which sees the directory as /mnt. Its mount namespace ends with it.
fn utility(directory: &Path, command: &[&str]) -> String {
    let script =
        "tree=$1; mount --bind \"$2\" \"$tree/mnt\"; shift 2; exec chroot \"$tree\" \"$@\" 2>&1";
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        script,
        "sh",
    ]);
    unshare
        .arg(fixture("erofs-utils.sh"))
        .arg(directory)
        .args(command);
    output(&mut unshare)
}

/// The tree that one of the fixtures' scripts makes.
fn fixture(script: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/test
    let target = test.ancestors().nth(3).unwrap();
    let mut command = Command::new(workspace.join("fixtures").join(script));
    output(command.arg(target.join("fixtures")))
        .trim_end()
        .into()
}

fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}: {}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
