//! Images that try things: links and files where mybox is going to mount, read or execute. Whatever
//! they hold, nothing outside the container's root is read, written or executed.

use std::os::unix::fs::MetadataExt;

use tar::EntryType;

use crate::harness::{Cmd, Rootfs, Sandbox};

/// What `tiny` has, without a directory that the image is hostile about.
fn without(directory: &str) -> Rootfs {
    let program = std::fs::read(crate::harness::probe()).expect("the probe was just built");
    let rootfs = Rootfs::empty()
        .file_with("bin/probe", &program, |header| header.set_mode(0o755))
        .hardlink("bin/true", "bin/probe")
        .hardlink("bin/cat", "bin/probe");
    if directory == "etc" {
        return rootfs;
    }
    rootfs.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
}

/// A directory of the host with one file that no container may see, and that none may add to.
struct Trap(std::path::PathBuf);

const SECRET: &str = "of the host";

impl Trap {
    fn in_scratch_of(sandbox: &Sandbox) -> Self {
        let directory = sandbox.scratch().join("trap");
        std::fs::create_dir(&directory).expect("a directory");
        std::fs::write(directory.join("secret"), SECRET).expect("a file");
        Self(directory)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }

    /// Links to it, from a place one directory below the root: absolute, and climbing.
    fn links(&self) -> [String; 2] {
        [
            self.path().to_owned(),
            format!("../../../../../..{}", self.path()),
        ]
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let entries = std::fs::read_dir(&self.0).expect("the directory").flatten();
        let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["secret"], "somebody was here");
        let text = std::fs::read_to_string(self.0.join("secret")).expect("the file");
        assert_eq!(text, SECRET);
    }
}

#[test]
fn links_in_the_place_of_mount_points_lead_nowhere_outside() {
    let sandbox = Sandbox::new("mountlinks");
    let trap = Trap::in_scratch_of(&sandbox);
    for directory in ["proc", "sys", "dev", "etc"] {
        for (number, target) in trap.links().iter().enumerate() {
            let image = format!("{directory}{number}");
            let rootfs = without(directory).symlink(directory, target);
            sandbox.import(&image, rootfs);
            let report = sandbox.run([&image, "probe", "report"]).run().ok().report();
            trap.assert_untouched();
            // The link was followed inside the root, and everything is there as always.
            let inside = format!("{}/secret", trap.path());
            let read = sandbox.run([&image, "cat", &inside]).run();
            assert!(!read.stdout().contains(SECRET), "{image}");
            assert_eq!(report.identity.pid, 1);
            assert_eq!(report.dev["/dev/null"].device, Some((1, 3)), "{image}");
            for (path, answer) in [
                ("/proc/sys/kernel/domainname", "EROFS"),
                ("/sys/x", "EROFS"),
            ] {
                let write = sandbox.run([&image, "probe", "try-write", path]).run().ok();
                assert_eq!(write.line(), answer, "{path} in {image}");
            }
            let keys = sandbox.run([&image, "cat", "/proc/keys"]).run().ok();
            assert_eq!(keys.stdout(), "", "/proc/keys is hidden in {image}");
        }
    }
}

#[test]
fn files_where_proc_will_be_are_covered_by_the_real_one() {
    let sandbox = Sandbox::new("fakeproc");
    let rootfs = Rootfs::tiny()
        .file("proc/self/status", "Name: fake\n")
        .file("proc/sys/net/ipv4/ping_group_range", "fake\n")
        .file("proc/keys", "fake\n")
        .file("sys/firmware/fake", "fake\n");
    sandbox.import("tiny", rootfs);
    let cat = |path: &str| sandbox.run(["tiny", "cat", path]).run().ok().stdout();
    assert!(cat("/proc/self/status").contains("CapEff:"));
    assert_eq!(cat("/proc/keys"), "");
    assert_eq!(
        cat("/proc/sys/net/ipv4/ping_group_range")
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["0", "2147483647"]
    );
    let list = sandbox.run(["tiny", "probe", "ls", "/sys/firmware"]).run();
    assert!(!list.stdout().contains("fake"));
}

#[test]
fn files_that_cannot_be_mounted_on_are_refused_by_name() {
    let sandbox = Sandbox::new("obstacles");
    let cases = [
        ("proc", without("proc").file("proc", ""), "/proc"),
        ("dev", without("dev").file("dev", ""), "/dev"),
        (
            "hosts",
            Rootfs::tiny().dir("etc/hosts", 0o755),
            "/etc/hosts",
        ),
        (
            "loop",
            Rootfs::tiny().symlink("etc/hosts", "hosts"),
            "/etc/hosts",
        ),
    ];
    for (image, rootfs, named) in cases {
        sandbox.import(image, rootfs);
        let output = sandbox.run([image, "true"]).run().code(125);
        let _ = output.says(named);
        sandbox.assert_nothing_runs();
    }
}

#[test]
fn dangling_links_in_etc_are_made_good_inside_the_root() {
    let sandbox = Sandbox::new("dangling");
    let trap = Trap::in_scratch_of(&sandbox);
    for (number, target) in trap.links().iter().enumerate() {
        let image = format!("image{number}");
        let rootfs = Rootfs::tiny()
            .symlink("etc/resolv.conf", &format!("{target}/stub-resolv.conf"))
            .symlink("etc/hosts", &format!("{target}/hosts"))
            .symlink("etc/hostname", &format!("{target}/secret"));
        sandbox.import(&image, rootfs);
        let flags = ["--hostname", "box", "--dns", "9.9.9.9"];
        let etc = sandbox
            .run(flags)
            .args([&image, "probe", "report"])
            .run()
            .ok()
            .report()
            .etc;
        assert_eq!(etc["/etc/hostname"], "box\n");
        assert!(etc["/etc/resolv.conf"].contains("9.9.9.9") && etc["/etc/hosts"].contains("box"));
        trap.assert_untouched();
    }
}

#[test]
fn a_volume_of_the_image_behind_a_link_is_not_filled_from_the_host() {
    let sandbox = Sandbox::new("volumelink");
    let trap = Trap::in_scratch_of(&sandbox);
    for (number, target) in trap.links().iter().enumerate() {
        let image = format!("image{number}");
        let rootfs = Rootfs::tiny().symlink("data", target);
        sandbox.import_with(&image, rootfs, &["VOLUME /data"]);
        let list = sandbox.run([&image, "probe", "ls", "/data"]).run().ok();
        assert_eq!(list.stdout(), "");
        sandbox
            .run([&image, "probe", "write", "/data/x", ""])
            .run()
            .ok();
        trap.assert_untouched();
    }
}

#[test]
fn a_passwd_that_is_no_plain_file_harms_nobody() {
    let sandbox = Sandbox::new("passwd");
    let fifo = |header: &mut tar::Header| header.set_entry_type(EntryType::Fifo);
    sandbox.import(
        "fifo",
        without("etc")
            .file_with("etc/passwd", &[], fifo)
            .file_with("etc/group", &[], fifo),
    );
    let huge = vec![b'x'; (16 << 20) + 1];
    sandbox.import(
        "huge",
        without("etc").file_with("etc/passwd", &huge, |_| {}),
    );
    sandbox.import("dir", without("etc").dir("etc/passwd", 0o755));
    // Nobody writes to the fifo: it is as good as empty, and numbers need no file.
    sandbox.run(["fifo", "true"]).run().ok();
    sandbox.run(["-u", "1000:1000", "fifo", "true"]).run().ok();
    let output = sandbox.run(["-u", "alice", "fifo", "true"]).run().code(125);
    let _ = output.says("look up user alice");
    for (image, reason) in [("huge", "larger than 16 MiB"), ("dir", "EISDIR")] {
        let output = sandbox.run([image, "true"]).run().code(125);
        let _ = output.says("/etc/passwd").says(reason);
    }
}

#[test]
fn a_passwd_that_leads_out_of_the_root_is_not_read() {
    let sandbox = Sandbox::new("passwdlink");
    let host = sandbox.scratch().join("passwd");
    std::fs::write(&host, "mallory:x:666:666::/:/bin/sh\n").expect("a file");
    let target = format!("../../../../../..{}", host.display());
    sandbox.import("tiny", without("etc").symlink("etc/passwd", &target));
    let output = sandbox
        .run(["-u", "mallory", "tiny", "true"])
        .run()
        .code(125);
    let _ = output.says("look up user mallory");
    sandbox.import(
        "magic",
        without("etc").symlink("etc/passwd", "/proc/self/exe"),
    );
    let output = sandbox.run(["magic", "true"]).run().code(125);
    let _ = output.says("/etc/passwd");
}

#[test]
fn a_user_whose_number_means_no_change_does_not_stay_root() {
    let sandbox = Sandbox::new("nochange");
    let passwd = "evil:x:4294967295:0::/:/bin/sh\ngroupie:x:1000:4294967295::/:/bin/sh\n";
    let rootfs = || without("etc").file("etc/passwd", passwd);
    for user in ["evil", "groupie"] {
        sandbox.import_with(user, rootfs(), &[&format!("USER {user}")]);
        let output = sandbox.run([user, "true"]).run().code(125);
        let _ = output.says("4294967295: this number means no ");
    }
}

#[test]
fn a_working_directory_never_leads_out_by_a_descriptor_or_a_link() {
    let sandbox = Sandbox::new("cwd");
    let trap = Trap::in_scratch_of(&sandbox);
    sandbox.import(
        "tiny",
        Rootfs::tiny()
            .symlink("out", trap.path())
            .symlink("magic", "/proc/self/root"),
    );
    // CVE-2024-21626: the descriptors that a runtime has open on the host.
    for number in 3..20 {
        let workdir = format!("/proc/self/fd/{number}");
        let output = sandbox.run(["-w", &workdir, "tiny", "cat", "secret"]).run();
        let _ = output.code(125).says(&workdir);
    }
    for workdir in ["/proc/1/cwd", "/proc/self/root/tmp", "/magic/tmp"] {
        let output = sandbox.run(["-w", workdir, "tiny", "true"]).run();
        let _ = output.code(125).says("ELOOP");
    }
    let report = sandbox
        .run(["-w", "/out", "tiny", "probe", "report"])
        .run()
        .ok()
        .report();
    assert_eq!(report.cwd, trap.path(), "the same path, inside");
    let read = sandbox
        .run(["-w", "/out", "tiny", "cat", "secret"])
        .run()
        .code(1);
    let _ = read.says("No such file");
    trap.assert_untouched();
}

#[test]
fn what_hides_files_is_never_anything_but_the_null_device() {
    let sandbox = Sandbox::new("null");
    sandbox.import_tiny();
    let file = sandbox.scratch().join("file");
    std::fs::write(&file, "not null").expect("a file");
    let volume = format!("{}:/dev/null", file.display());
    // CVE-2025-31133.
    let output = sandbox.run(["-v", &volume, "tiny", "true"]).run().code(125);
    let _ = output.says("/dev/null").says("it is not the null device");
}

#[test]
fn no_device_is_made_in_a_directory_of_the_host() {
    let sandbox = Sandbox::new("hostdev");
    sandbox.import_tiny();
    let directory = sandbox.scratch().join("dev");
    std::fs::create_dir(&directory).expect("a directory");
    let bare = format!("{}:/dev", directory.display());
    let output = sandbox.run(["-v", &bare, "tiny", "true"]).run().code(125);
    let _ = output.says("/dev/null");
    let made: Vec<_> = std::fs::read_dir(&directory)
        .expect("the directory")
        .flatten()
        .collect();
    assert!(made.is_empty(), "{made:?}");
    // The host's own devices serve as well as ours.
    sandbox
        .run(["-v", "/dev:/dev:ro", "tiny", "true"])
        .run()
        .ok();
    let own = sandbox.run([
        "--tmpfs",
        "/dev:dev,mode=755",
        "tiny",
        "probe",
        "try-write",
        "/dev/null",
    ]);
    assert_eq!(own.run().ok().line(), "ok");
}

/// Says which file it is executed from, and tries to change it. CVE-2019-5736 wrote to runc so, when
/// nobody executed it any more; a change of its mode need not wait for that.
const EVIL: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *answer(int result)
{
    return result < 0 ? strerrorname_np(errno) : "done";
}

__attribute__((constructor)) static void take_over(void)
{
    struct stat file;
    int exe = open("/proc/self/exe", O_RDONLY);
    if (exe < 0 || fstat(exe, &file) < 0) {
        perror("/proc/self/exe");
        _exit(1);
    }
    printf("inode %ld\n", (long)file.st_ino);
    printf("fchmod %s\n", answer(fchmod(exe, file.st_mode & 07777)));
    printf("fchown %s\n", answer(fchown(exe, file.st_uid, file.st_gid)));
    fflush(stdout);
    _exit(0);
}
"#;

/// Adds the shared objects that a program of the host needs, under the same paths.
fn with_libraries(rootfs: Rootfs, program: &str) -> Rootfs {
    let libraries = Cmd::new("ldd").arg(program).run().ok().stdout();
    let path = |line: &str| {
        let mut words = line.split_whitespace();
        words.find(|word| word.starts_with('/')).map(str::to_owned)
    };
    libraries
        .lines()
        .filter_map(path)
        .fold(rootfs, |rootfs, library| {
            let content = std::fs::read(&library).expect("a library");
            rootfs.file_with(library.trim_start_matches('/'), &content, |header| {
                header.set_mode(0o755);
            })
        })
}

#[test]
fn a_container_that_executes_mybox_itself_cannot_write_to_it() {
    let sandbox = Sandbox::new("selfexe");
    let mybox = env!("CARGO_BIN_EXE_mybox");
    let evil = sandbox.scratch().join("evil.so");
    let cc = Cmd::new("cc")
        .args(["-xc", "-shared", "-fPIC", "-o"])
        .arg(&evil)
        .arg("-");
    cc.stdin(EVIL).run().ok();
    let evil = std::fs::read(evil).expect("just built");
    let rootfs = with_libraries(Rootfs::tiny(), mybox)
        .file_with("evil.so", &evil, |header| header.set_mode(0o755))
        .file_with("script", b"#!/proc/self/exe\n", |header| {
            header.set_mode(0o755);
        })
        .symlink("link", "/proc/self/exe");
    sandbox.import("evil", rootfs);
    let before = std::fs::metadata(mybox).expect("the binary");
    for command in ["/proc/self/exe", "/script", "/link"] {
        for init in [&[][..], &["--init"]] {
            let run = sandbox
                .run(init)
                .args(["-e", "LD_PRELOAD=/evil.so", "evil", command]);
            let said = run.run().ok().stdout();
            // It was mybox's own binary, and only reading worked.
            let refused = format!("inode {}\nfchmod EROFS\nfchown EROFS\n", before.ino());
            assert_eq!(said, refused, "{command} {init:?}");
        }
    }
}

#[test]
fn setuid_programs_of_an_image_gain_nothing_outside_the_set() {
    let sandbox = Sandbox::new("setuid");
    let program = std::fs::read(crate::harness::probe()).expect("the probe was just built");
    let rootfs = Rootfs::tiny().file_with("bin/raised", &program, |header| header.set_mode(0o4755));
    sandbox.import("tiny", rootfs);
    let run = |flags: &[&str]| {
        let run = sandbox
            .run(flags)
            .args(["-u", "alice", "tiny", "raised", "report"]);
        run.run().ok().report()
    };
    let raised = run(&[]);
    assert_eq!(raised.identity.uids, [1000, 0, 0, 0], "as on any system");
    assert_eq!(raised.privileges.effective, "00000000800405fb");
    let held = run(&["--security-opt", "no-new-privileges"]);
    assert_eq!(held.identity.uids, [1000; 4]);
    assert_eq!(held.privileges.effective, "0000000000000000");
    let source = sandbox.scratch();
    let volume = format!("{}:/data", source.display());
    let write = ["-v", &volume, "--tmpfs", "/t", "tiny", "probe", "report"];
    let mounts = sandbox.run(write).run().ok().report().mounts;
    let tmpfs = mounts
        .iter()
        .find(|mount| mount.target == "/t")
        .expect("the tmpfs");
    assert!(tmpfs.has("nosuid"));
}

#[test]
fn what_an_image_says_cannot_speak_to_the_terminal() {
    let sandbox = Sandbox::new("escapes");
    let entry = "ENTRYPOINT [\"/bin/echo\", \"\\u001b]0;evil\\u0007\", \"\\u009b2J\"]";
    sandbox.import_with("evil", Rootfs::tiny(), &[entry]);
    let run = ["run", "--network", "none", "--name", "kept", "evil"];
    sandbox.mybox(run).run().ok();
    let table = sandbox.mybox(["ps", "--all"]).run().ok().stdout();
    assert!(
        table.contains("/bin/echo") && table.contains("u{1b}]0;evil"),
        "{table:?}"
    );
    assert!(
        !table.contains(|letter: char| letter.is_control() && letter != '\n'),
        "{table:?}"
    );
    for command in [&["ps", "--all", "--json"][..], &["inspect", "kept", "evil"]] {
        let said = sandbox.mybox(command).run().ok().stdout();
        assert!(
            said.contains("u001b]0;evil") && !said.contains('\x1b'),
            "{said:?}"
        );
    }
    sandbox.mybox(["rm", "kept"]).run().ok();
}
