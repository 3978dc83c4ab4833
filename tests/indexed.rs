//! Containers of layers that are not unpacked: each an index that the kernel mounts, one mount for
//! all who have the same, and nothing of it on the host when they have ended.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Cmd, Disk, HostState, PrivateHost, Rootfs, Running, Sandbox};

/// A file that is large enough to be seen in the page cache.
const DATA: usize = 2 << 20;

fn data() -> String {
    "neither unpacked nor copied, ".repeat(DATA / 29)
}

/// A sandbox with the image `img`, whose layer is indexed.
#[track_caller]
fn sandbox(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name).with_layer_form("indexed");
    sandbox.import("img", rootfs());
    sandbox
}

fn rootfs() -> Rootfs {
    Rootfs::tiny().file("data", &data())
}

/// A container that does nothing until it is told to end.
#[track_caller]
fn waiting(sandbox: &Sandbox) -> Running {
    let waiting = sandbox.run(["img", "probe", "trap", "USR1"]).spawn();
    waiting.wait_for("ready");
    waiting
}

#[track_caller]
fn end(running: Running) {
    running.signal(Signal::USR1);
    drop(running.wait());
}

#[track_caller]
fn kill(running: Running) {
    running.signal(Signal::KILL);
    assert_eq!(running.wait().signal(), Some(9));
}

/// Who has a mount: the supervisor's pid, and the root of the mount through its descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    pid: u32,
    root: PathBuf,
}

impl Holder {
    /// Which mounted file system it is.
    fn device(&self) -> u64 {
        std::fs::metadata(&self.root).expect("a mount").dev()
    }
}

/// As the run root has them, in the order they came.
#[track_caller]
fn holders(sandbox: &Sandbox) -> Vec<Holder> {
    let registers = std::fs::read_dir(sandbox.run_root().join("mounts"));
    let registers = registers.into_iter().flatten().flatten();
    let holder = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (pid, descriptor) = (words[0], words[2]);
        Holder {
            pid: pid.parse().expect("a pid"),
            root: format!("/proc/{pid}/fd/{descriptor}").into(),
        }
    };
    registers
        .flat_map(|register| {
            let text = std::fs::read_to_string(register.path()).expect("a register");
            text.lines().map(holder).collect::<Vec<_>>()
        })
        .collect()
}

/// Bytes of a file that are in the page cache.
#[track_caller]
fn cached(file: PathBuf) -> usize {
    let look = Cmd::new("fincore").args(["--bytes", "--noheadings", "--output", "RES"]);
    let seen = look.arg(file).run().ok().stdout();
    seen.trim().parse().expect("a number of bytes")
}

/// A file of the one container whose supervisor this is, as its processes see it.
fn inside(sandbox: &Sandbox, running: &Running, path: &str) -> PathBuf {
    let live = std::fs::read_dir(sandbox.run_root().join("containers")).expect("containers");
    let parent = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
        let parent = after_name.and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        parent == Some(running.pid())
    };
    let pids = live.flatten().filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("pid")).ok()?;
        Some(text.split(' ').next()?.to_owned())
    });
    let pid = pids.into_iter().find(|pid| parent(pid));
    let root = format!("/proc/{}/root", pid.expect("a container of it"));
    PathBuf::from(root).join(path)
}

#[test]
fn containers_of_one_image_have_one_mount_and_one_page_cache() {
    let sandbox = sandbox("share");
    let (one, other) = (waiting(&sandbox), waiting(&sandbox));
    let holders = holders(&sandbox);
    let pids: Vec<u32> = holders.iter().map(|holder| holder.pid).collect();
    assert_eq!(pids, [one.pid(), other.pid()]);
    assert_eq!(holders[0].device(), holders[1].device());
    assert_eq!(cached(holders[1].root.join("data")), 0);
    // Read in the one container, it is there for the other.
    let seen = std::fs::read(inside(&sandbox, &one, "data")).expect("read through the overlay");
    assert!(seen == data().as_bytes());
    assert!(cached(holders[1].root.join("data")) >= seen.len());
    end(one);
    end(other);
    assert!(self::holders(&sandbox).is_empty());
}

/// A mount goes with its last container, and its page cache with it; the tar's stays.
#[test]
fn what_one_container_has_read_is_in_memory_for_the_next() {
    let sandbox = sandbox("next");
    let layer = std::fs::read_dir(sandbox.root().join("layers")).unwrap();
    let tar = layer
        .flatten()
        .next()
        .expect("a layer")
        .path()
        .join("layer.tar");
    let file = std::fs::File::open(&tar).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert_eq!(cached(tar.clone()), 0);
    drop(sandbox.run(["img", "probe", "cat", "/data"]).run().ok());
    assert!(holders(&sandbox).is_empty());
    assert!(cached(tar) >= data().len());
}

#[test]
fn containers_of_one_image_have_their_own_changes() {
    let sandbox = sandbox("changes");
    let (one, other) = (waiting(&sandbox), waiting(&sandbox));
    let in_one = inside(&sandbox, &one, "data");
    std::fs::write(&in_one, "changed").unwrap();
    assert_eq!(std::fs::read_to_string(in_one).unwrap(), "changed");
    let in_other = inside(&sandbox, &other, "data");
    assert!(std::fs::read(in_other).unwrap() == data().as_bytes());
    end(one);
    end(other);
}

#[test]
fn containers_that_start_at_once_have_one_mount() {
    let sandbox = sandbox("at-once");
    let start = || sandbox.run(["img", "probe", "trap", "USR1"]).spawn();
    let running: Vec<Running> = std::iter::repeat_with(start).take(12).collect();
    running.iter().for_each(|running| running.wait_for("ready"));
    let devices: Vec<u64> = holders(&sandbox).iter().map(Holder::device).collect();
    assert_eq!(devices, [devices[0]; 12]);
    running.iter().for_each(|it| it.signal(Signal::USR1));
    for running in running {
        drop(running.wait());
    }
    assert!(holders(&sandbox).is_empty());
}

/// It is put in their place by a new directory; what runs keeps the old one.
#[test]
fn layers_that_were_made_anew_are_mounted_anew() {
    let sandbox = sandbox("anew");
    let before = waiting(&sandbox);
    for form in ["unpacked", "indexed"] {
        let convert = sandbox.mybox(["layers", "convert", "--quiet", "--to", form]);
        drop(convert.run().ok());
    }
    let after = waiting(&sandbox);
    let holders = holders(&sandbox);
    assert_eq!(holders.len(), 2);
    assert_ne!(holders[0].device(), holders[1].device());
    for running in [before, after] {
        let seen = std::fs::read(inside(&sandbox, &running, "data")).unwrap();
        assert!(seen == data().as_bytes());
        end(running);
    }
}

#[test]
fn a_mount_outlives_whoever_made_it() {
    let sandbox = sandbox("outlive");
    let (first, second) = (waiting(&sandbox), waiting(&sandbox));
    let before = holders(&sandbox);
    kill(first);
    let seen = std::fs::read(inside(&sandbox, &second, "data")).expect("read after the death");
    assert!(seen == data().as_bytes());
    let third = waiting(&sandbox);
    let after = holders(&sandbox);
    let pids: Vec<u32> = after.iter().map(|holder| holder.pid).collect();
    assert_eq!(
        pids,
        [second.pid(), third.pid()],
        "the dead one is struck off"
    );
    assert_eq!(after[0], before[1]);
    assert_eq!(after[0].device(), after[1].device());
    kill(second);
    kill(third);
    drop(sandbox.mybox(["ps"]).run().ok());
    assert!(holders(&sandbox).is_empty());
    sandbox.assert_nothing_runs();
}

#[test]
fn nothing_of_it_shows_on_the_host() {
    let private = PrivateHost::new();
    let sandbox = Sandbox::on(private.host(), "unseen").with_layer_form("indexed");
    sandbox.import("img", rootfs());
    let untouched = HostState::of(private.host());
    let running = waiting(&sandbox);
    let table = private.host().command("cat").arg("/proc/mounts");
    assert!(!table.run().ok().stdout().contains("erofs"));
    end(running);
    HostState::of(private.host()).assert_same_as(&untouched);
    assert!(holders(&sandbox).is_empty());
}

/// ptrace(2): who has fewer capabilities may not look into who has more.
#[test]
fn who_may_not_look_into_the_others_mounts_its_own() {
    let sandbox = sandbox("ptrace");
    let first = waiting(&sandbox);
    let fewer = ["setpriv", "--bounding-set", "-sys_ptrace"];
    let run = sandbox.run(["img", "probe", "trap", "USR1"]).through(fewer);
    let second = run.spawn();
    second.wait_for("ready");
    let holders = holders(&sandbox);
    assert_eq!(holders.len(), 2, "{holders:?}");
    assert_ne!(holders[0].device(), holders[1].device());
    // Who comes next may look into both.
    let third = waiting(&sandbox);
    assert_eq!(self::holders(&sandbox).len(), 3);
    for running in [first, second, third] {
        end(running);
    }
}

/// A line that names a descriptor which is something else by now, or a process which is.
#[test]
fn what_is_listed_is_looked_at_before_it_is_shared() {
    let sandbox = sandbox("listed");
    let first = waiting(&sandbox);
    let register = std::fs::read_dir(sandbox.run_root().join("mounts")).unwrap();
    let register = register.flatten().next().expect("a register").path();
    let good = std::fs::read_to_string(&register).unwrap();
    let words: Vec<&str> = good.trim().split(' ').collect();
    let [pid, started, descriptor, device, root] = words[..] else {
        panic!("{good}");
    };
    let wrong = [
        format!("{pid} {started} 0 {device} {root}\n"),
        format!("{pid} {started} 999 {device} {root}\n"),
        format!("{pid} {started} {descriptor} 1 {root}\n"),
        format!("{pid} 1 {descriptor} {device} {root}\n"),
        format!("1 1 {descriptor} {device} {root}\n"),
        "half a li".to_owned(),
    ];
    for line in wrong {
        std::fs::write(&register, &line).unwrap();
        let read = sandbox.run(["img", "probe", "cat", "/data"]).run().ok();
        assert!(read.stdout() == data(), "{line}");
    }
    end(first);
    // Its own line was gone.
    for left in std::fs::read_dir(sandbox.run_root().join("mounts")).unwrap() {
        std::fs::remove_file(left.unwrap().path()).unwrap();
    }
}

/// What is remembered of the kernel, changed.
#[track_caller]
fn edit_forms(sandbox: &Sandbox, edit: impl FnOnce(&mut Value)) {
    let path = forms(sandbox);
    let mut forms = read_forms(sandbox);
    edit(&mut forms);
    std::fs::write(path, forms.to_string()).expect("write what is remembered");
}

#[track_caller]
fn forms(sandbox: &Sandbox) -> PathBuf {
    let files = std::fs::read_dir(sandbox.run_root().join("layer-forms")).expect("forms");
    let files: Vec<PathBuf> = files.flatten().map(|entry| entry.path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[track_caller]
fn read_forms(sandbox: &Sandbox) -> Value {
    let text = std::fs::read(forms(sandbox)).expect("what is remembered");
    serde_json::from_slice(&text).expect("JSON")
}

/// Linux 6.12 to 6.14.
#[test]
fn where_overlayfs_wants_its_layers_attached_each_container_has_its_own_mount() {
    let sandbox = sandbox("attached");
    end(waiting(&sandbox));
    edit_forms(&sandbox, |forms| forms["stacks_detached"] = false.into());
    let (one, other) = (waiting(&sandbox), waiting(&sandbox));
    assert!(holders(&sandbox).is_empty());
    for running in [&one, &other] {
        let seen = std::fs::read(inside(&sandbox, running, "data")).unwrap();
        assert!(seen == data().as_bytes());
    }
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!table.contains("erofs"), "{table}");
    kill(one);
    end(other);
    // The container's own table shows its root, and nothing beneath it.
    let report = sandbox.run(["img", "probe", "report"]).run().ok().report();
    assert!(report.mounts.iter().all(|mount| mount.fstype != "erofs"));
}

#[test]
fn what_the_kernel_can_do_is_tried_once_a_boot() {
    let sandbox = sandbox("once");
    end(waiting(&sandbox));
    let found = read_forms(&sandbox);
    assert_eq!(
        found["indexed"],
        serde_json::json!({ "Ok": null }),
        "{found}"
    );
    edit_forms(&sandbox, |forms| forms["stacks_detached"] = false.into());
    end(waiting(&sandbox));
    assert_eq!(read_forms(&sandbox)["stacks_detached"], false, "remembered");
    edit_forms(&sandbox, |forms| forms["boot"] = "another".into());
    end(waiting(&sandbox));
    assert_eq!(read_forms(&sandbox), found, "tried again");
    std::fs::write(forms(&sandbox), "{").unwrap();
    end(waiting(&sandbox));
    assert_eq!(read_forms(&sandbox), found, "tried again");
}

#[test]
fn what_could_not_be_tried_is_not_remembered() {
    let sandbox = sandbox("untried");
    std::fs::remove_dir_all(sandbox.run_root()).unwrap();
    let fewer = ["setpriv", "--bounding-set", "-sys_admin"];
    let form = sandbox.mybox(["layers", "form"]).through(fewer);
    let form = form.env("MYBOX_LAYER_FORM", "auto").run().ok();
    assert_eq!(form.stdout(), "unpacked\n");
    assert!(form.stderr().contains("EPERM"), "{}", form.stderr());
    let form = sandbox.mybox(["layers", "form"]);
    let form = form.env("MYBOX_LAYER_FORM", "auto").run().ok();
    assert_eq!(form.stdout(), "indexed\n");
}

/// The kernel mounts no file that lies on a tmpfs.
#[test]
fn a_store_where_the_kernel_mounts_no_index_has_its_layers_unpacked() {
    let sandbox = Sandbox::new("memory");
    let memory = Disk::in_memory(&sandbox);
    let mybox = |words: &[&str]| sandbox.mybox(words).env("MYBOX_ROOT", memory.path());
    let import = mybox(&["import", "-", "img"]).stdin(Rootfs::tiny().tar());
    drop(import.env("MYBOX_LAYER_FORM", "auto").run().ok());
    let reason = read_forms(&sandbox)["indexed"]["Err"].to_string();
    assert!(reason.contains("mount erofs"), "{reason}");
    let run = mybox(&["run", "--rm", "--network", "none", "img", "true"]);
    drop(run.run().ok());
    let layer = std::fs::read_dir(memory.path().join("layers")).unwrap();
    let layer = layer.flatten().next().expect("a layer").path();
    assert!(layer.join("fs").exists() && !layer.join("layer.erofs").exists());
}

#[test]
fn an_image_of_several_layers_is_one_mount() {
    let sandbox = Sandbox::new("merged").with_layer_form("indexed");
    let layer = |number: usize| Rootfs::empty().file(&format!("of-{number}"), "here");
    let layers = (0..20).map(layer);
    sandbox.add_layers("img", std::iter::once(rootfs()).chain(layers));
    let (one, other) = (waiting(&sandbox), waiting(&sandbox));
    let holders = holders(&sandbox);
    assert_eq!(holders.len(), 2, "{holders:?}");
    assert_eq!(holders[0].device(), holders[1].device());
    for name in ["of-0", "of-19", "data"] {
        assert!(inside(&sandbox, &other, name).exists(), "{name}");
    }
    // The merged index is not counted as a layer.
    let df = sandbox.mybox(["df", "--json"]).run().ok().stdout_json();
    assert_eq!(
        (&df["layers"]["total"], &df["layers"]["active"]),
        (&21.into(), &21.into())
    );
    end(one);
    end(other);
}

#[test]
fn indexed_and_unpacked_layers_stack_together() {
    let sandbox = Sandbox::new("mixed");
    let base = || {
        Rootfs::tiny()
            .file("gone", "base")
            .dir("hidden", 0o755)
            .file("hidden/below", "base")
            .file("kept", "base")
    };
    let middle = || {
        Rootfs::empty()
            .file(".wh.gone", "")
            .dir("hidden", 0o755)
            .file("hidden/.wh..wh..opq", "")
            .file("hidden/middle", "middle")
            .file("over", "middle")
    };
    let top = || Rootfs::empty().file("over", "top").file(".wh.kept", "");
    sandbox.add_layers("below", [base()]);
    sandbox.add_layers("two", [base(), middle()]);
    sandbox.add_layers("img", [base(), middle(), top()]);
    // Each image brings one layer more, in another form each time.
    for (image, form) in [
        ("below", "indexed"),
        ("two", "unpacked"),
        ("img", "indexed"),
    ] {
        let run = sandbox.run([image, "true"]).env("MYBOX_LAYER_FORM", form);
        drop(run.run().ok());
    }
    let layers = std::fs::read_dir(sandbox.root().join("layers")).unwrap();
    let layers: Vec<PathBuf> = layers.flatten().map(|entry| entry.path()).collect();
    let unpacked = layers.iter().filter(|layer| layer.join("fs").exists());
    assert_eq!((layers.len(), unpacked.count()), (3, 1));
    let list = |directory: &str| {
        let list = sandbox.run(["img", "probe", "ls", directory]).run().ok();
        list.stdout()
    };
    let root = list("/");
    for (name, is_there) in [("gone", false), ("kept", false), ("over", true)] {
        assert_eq!(root.lines().any(|line| line == name), is_there, "{root}");
    }
    assert_eq!(list("/hidden").trim(), "middle");
    let over = sandbox.run(["img", "probe", "cat", "/over"]).run().ok();
    assert_eq!(over.stdout(), "top");
    let running = waiting(&sandbox);
    assert_eq!(holders(&sandbox).len(), 2, "a mount for each indexed layer");
    end(running);
}

/// Overlayfs by itself does not ask a layer's root.
#[test]
fn a_layer_whose_root_is_opaque_hides_all_below() {
    let sandbox = Sandbox::new("opaque-root");
    let base = || Rootfs::tiny().file("below", "").dir("etc", 0o755);
    let opaque = || Rootfs::tiny().file(".wh..wh..opq", "").file("middle", "");
    let top = || Rootfs::empty().file("top", "");
    sandbox.add_layers("below", [base()]);
    sandbox.add_layers("two", [base(), opaque()]);
    sandbox.add_layers("img", [base(), opaque(), top()]);
    let seen = |image: &str, form: &str| {
        let list = sandbox.run([image, "probe", "ls", "/"]);
        let list = list.env("MYBOX_LAYER_FORM", form).run().ok().stdout();
        let mut seen: Vec<String> = list.lines().map(str::to_owned).collect();
        seen.retain(|name| ["below", "middle", "top"].contains(&&**name));
        seen
    };
    for forms in [
        ["indexed", "unpacked", "indexed"],
        ["unpacked", "indexed", "unpacked"],
        ["unpacked", "unpacked", "unpacked"],
        ["indexed", "indexed", "indexed"],
    ] {
        drop(std::fs::remove_dir_all(sandbox.root().join("layers")));
        std::fs::create_dir(sandbox.root().join("layers")).unwrap();
        assert_eq!(seen("below", forms[0]), ["below"], "{forms:?}");
        assert_eq!(seen("two", forms[1]), ["middle"], "{forms:?}");
        assert_eq!(seen("img", forms[2]), ["middle", "top"], "{forms:?}");
    }
}

/// `tar --one-file-system` and `du -x` go by it.
#[test]
fn all_of_the_root_is_one_file_system() {
    let sandbox = sandbox("device");
    let running = waiting(&sandbox);
    let device = |path: &str| std::fs::metadata(inside(&sandbox, &running, path)).unwrap();
    let (root, file, directory) = (device(""), device("data"), device("bin"));
    assert_eq!((file.dev(), directory.dev()), (root.dev(), root.dev()));
    // Changed, it is the same file still.
    let path = inside(&sandbox, &running, "data");
    std::fs::write(&path, "changed").unwrap();
    assert_eq!(device("data").ino(), file.ino());
    end(running);
}
