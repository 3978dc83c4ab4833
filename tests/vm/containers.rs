//! Whole containers on that kernel: limits in the files of cgroup v2, and overlays mounted the way
//! that kernels before 6.7 need.

use mybox_probe::Report;

use crate::harness::vm::{Transcript, Vm};
use crate::harness::{Cmd, Rootfs};

/// Makes the image `tiny` in the machine's default store. `say NAME COMMAND...` prints a line of
/// what a command says on standard output, `code NAME COMMAND...` its exit code and what it says on
/// standard error.
const PRELUDE: &str = r#"set -e
mybox import - tiny </tiny.tar >/dev/null 2>&1
say() { name=$1; shift; said=$("$@"); printf '%s: %s\n' "$name" "$said"; }
code() {
    name=$1; shift; code=0
    "$@" >/dev/null 2>/tmp/stderr || code=$?
    printf '%s: %s %s\n' "$name" $code "$(cat /tmp/stderr)"
}
"#;

fn vm(script: &str) -> Vm {
    Vm::new(&format!("{PRELUDE}{script}")).file("/tiny.tar", Rootfs::tiny().tar(), 0o644)
}

/// What follows `name:` in what the script said, up to the end of the line.
#[track_caller]
fn value<'a>(transcript: &'a Transcript, name: &str) -> &'a str {
    let line = transcript
        .text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("the script never said {name}:\n{}", transcript.text))
}

/// The report that follows `name:`.
#[track_caller]
fn report(transcript: &Transcript, name: &str) -> Report {
    serde_json::from_str(value(transcript, name))
        .unwrap_or_else(|error| panic!("no report: {error}:\n{}", transcript.text))
}

#[test]
fn limits_are_those_of_cgroup_v2_and_hold() {
    let transcript = vm(r#"
        say limited mybox run --rm -m 64m --memory-swap 96m --cpus 1.5 --cpu-shares 512 \
            --cpuset-cpus 1 --pids-limit 20 tiny probe report
        say bomb mybox run --rm --pids-limit 10 tiny probe fork-bomb 30
        code oom mybox run --rm -m 64m tiny probe eat-memory 256
        code child mybox run --rm --init -m 64m tiny probe eat-memory 256
        code missing mybox run --rm --cpuset-cpus 7 tiny true
        mybox network rm >/dev/null
        say left find /sys/fs/cgroup/mybox /run/mybox/containers -mindepth 1
        "#)
    .run();
    let limited = report(&transcript, "limited").cgroup;
    assert_eq!(limited.membership, ["0::/"]);
    for (file, content) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("cpu.max", "150000 100000"),
        ("cpu.weight", "20"),
        ("cpuset.cpus.effective", "1"),
        ("pids.max", "20"),
    ] {
        assert_eq!(limited.limits[file], content, "{file}");
    }
    assert_eq!(
        value(&transcript, "bomb"),
        r#"{"error":"EAGAIN","started":9}"#
    );
    for name in ["oom", "child"] {
        let expected = "137 killed: out of memory (limit 64 MiB)";
        assert_eq!(value(&transcript, name), expected);
    }
    assert!(value(&transcript, "missing").starts_with("125 error: "));
    assert!(!transcript.text.contains("left: /"), "{}", transcript.text);
}

#[test]
fn a_health_check_that_takes_too_long_goes_with_its_group_of_cgroup_v2() {
    let rootfs = Rootfs::tiny().busybox();
    let script = r#"
        late='[ -e /begun ] && exit 0; touch /begun; probe sleep 301 & exec probe sleep 303'
        mybox run -d --network none --name late --health-interval 50ms --health-timeout 300ms \
            --health-retries 1 --health-cmd "$late" tiny probe sleep 600 >/dev/null
        tries=0
        until mybox ps | grep -q '(healthy)' || [ $tries = 300 ]; do
            tries=$((tries + 1)); sleep 0.1
        done
        mybox top late >/tmp/top
        say own grep -c 'sleep 600' /tmp/top
        say left sh -c 'grep -c "sleep 30" /tmp/top || true'
        say first sh -c 'mybox events --since 0 --until 0s | grep -c "health_status: unhealthy" || true'
        mybox rm -f late >/dev/null
        say groups find /sys/fs/cgroup -path '*/mybox/*'
        "#;
    let vm = Vm::new(&format!("{PRELUDE}{script}")).file("/tiny.tar", rootfs.tar(), 0o644);
    let transcript = vm.run();
    for (name, expected) in [("own", "1"), ("left", "0"), ("first", "1"), ("groups", "")] {
        assert_eq!(value(&transcript, name), expected, "{}", transcript.text);
    }
}

#[test]
fn a_container_on_the_bridge_has_all_it_should_have() {
    let transcript = vm(r#"
        say report mybox run --rm --hostname vm tiny probe report
        say gateway mybox run --rm tiny probe ping 10.10.0.1
        code exit mybox run --rm tiny probe exit 7
        code absent mybox run --rm tiny nonexistent
        say forwarding cat /proc/sys/net/ipv4/ip_forward
        mybox network rm >/dev/null
        say after cat /proc/sys/net/ipv4/ip_forward
        say firewall nft list ruleset
        say links ip -o link show type bridge
        say mounts grep -c overlay /proc/self/mountinfo || true
        "#)
    .run()
    .ok();
    let inside = report(&transcript, "report");
    assert_eq!((inside.identity.pid, inside.hostname.as_str()), (1, "vm"));
    assert_eq!(inside.links["eth0"].addresses[0], "10.10.0.2/16");
    assert!(inside.routes.iter().any(|route| {
        route.destination == "0.0.0.0/0" && route.gateway.as_deref() == Some("10.10.0.1")
    }));
    let root = inside.mounts.iter().find(|mount| mount.target == "/");
    assert_eq!(root.map(|mount| mount.fstype.as_str()), Some("overlay"));
    assert_eq!(
        value(&transcript, "gateway"),
        "echo from 10.10.0.1 by dgram socket"
    );
    assert_eq!(value(&transcript, "exit"), "7 ");
    assert!(value(&transcript, "absent").starts_with("127 "));
    assert_eq!(value(&transcript, "forwarding"), "1");
    assert_eq!(value(&transcript, "after"), "0");
    for name in ["firewall", "links"] {
        assert_eq!(value(&transcript, name), "");
    }
    assert_eq!(value(&transcript, "mounts"), "0");
}

#[test]
fn the_use_of_disks_is_bounded_in_the_files_of_cgroup_v2() {
    let transcript = vm(r#"
        truncate -s 1M /disk
        disk=$(losetup -f)
        losetup $disk /disk
        say bounded mybox run --rm --network none --device-read-bps $disk:1mb \
            --device-write-iops $disk:40 tiny probe read /sys/fs/cgroup/io.max
        say number cat /sys/block/${disk#/dev/}/dev
        code weight mybox run --rm --network none --blkio-weight 300 tiny true
        code parent mybox run --rm --network none --cgroup-parent /chosen/inner tiny probe exit 4
        say chosen find /sys/fs/cgroup/chosen -mindepth 1 -type d
        code swappiness mybox run --rm --network none --memory-swappiness 5 tiny true
        code waits mybox run --rm --network none -m 64m --oom-kill-disable tiny true
        "#)
    .run()
    .ok();
    let bounds = format!(
        "{} rbps=1048576 wbps=max riops=max wiops=40",
        value(&transcript, "number")
    );
    assert_eq!(value(&transcript, "bounded"), bounds);
    // This kernel has io.cost, and bfq only as a module.
    assert_eq!(value(&transcript, "weight"), "0 ");
    assert_eq!(value(&transcript, "parent"), "4 ");
    let chosen = value(&transcript, "chosen");
    assert_eq!(chosen, "/sys/fs/cgroup/chosen/inner");
    for name in ["swappiness", "waits"] {
        let said = value(&transcript, name);
        let refused = said.starts_with("125 error: ") && said.contains("cgroups v2");
        assert!(refused, "{name}: {said}");
    }
}

/// As hosts were before systemd had v2: no unified hierarchy at all.
#[test]
fn limits_hold_where_there_is_v1_alone() {
    let transcript = vm(r#"
        umount /sys/fs/cgroup
        mount -t tmpfs tmpfs /sys/fs/cgroup
        for controller in memory cpu cpuset pids; do
            mkdir /sys/fs/cgroup/$controller
            mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller
        done
        say limited mybox run --rm --network none -m 64m --memory-swap 96m --cpus 1.5 --cpuset-cpus 1 \
            --pids-limit 20 tiny probe report
        code oom mybox run --rm --network none -m 64m tiny probe eat-memory 256
        say left find /sys/fs/cgroup /run/mybox/containers -name '*mybox*'
        "#)
    .run()
    .ok();
    let limited = report(&transcript, "limited").cgroup;
    for (file, content) in [
        ("memory.limit_in_bytes", "67108864"),
        ("memory.memsw.limit_in_bytes", "100663296"),
        ("cpu.cfs_quota_us", "150000"),
        ("cpuset.effective_cpus", "1"),
        ("pids.max", "20"),
    ] {
        assert_eq!(limited.limits[file], content, "{file}");
    }
    assert_eq!(
        value(&transcript, "oom"),
        "137 killed: out of memory (limit 64 MiB)"
    );
    assert!(!transcript.text.contains("left: /"), "{}", transcript.text);
}

/// A limit that the kernel cannot enforce, since it was started without the controller.
#[test]
fn a_controller_that_the_kernel_lacks_is_named() {
    let transcript = vm(r#"
        code pids mybox run --rm --pids-limit 10 tiny true
        code memory mybox run --rm --memory 64m tiny true
        code unlimited mybox run --rm tiny probe exit 3
        "#)
    .kernel_argument("cgroup_disable=pids,memory")
    .run()
    .ok();
    for controller in ["pids", "memory"] {
        let said = value(&transcript, controller);
        let names_it = format!("`{controller}` cgroup controller");
        assert!(
            said.starts_with("125 error: ") && said.contains(&names_it),
            "{said}"
        );
    }
    assert!(value(&transcript, "unlimited").starts_with("3"));
}

/// Linux mounts indexes since 6.12.
#[test]
fn where_no_index_can_be_mounted_layers_are_unpacked_and_that_is_said() {
    let transcript = vm(r#"
        code form mybox layers form
        say layer ls -d /var/lib/mybox/layers/*/fs
        code plain mybox run --rm --network none tiny true
        code mounted mybox run --rm --network none --mount type=image,src=tiny,dst=/x tiny /x/bin/true
        mybox layers convert --to indexed --quiet
        code indexed mybox run --rm --network none tiny true
        mybox layers convert --to unpacked --quiet
        code again mybox run --rm --network none tiny true
        "#)
    .run();
    let form = value(&transcript, "form");
    assert!(
        form.starts_with("0 note: auto: the kernel cannot mount an index ("),
        "{form}"
    );
    assert!(value(&transcript, "layer").ends_with("/fs"));
    assert_eq!(value(&transcript, "plain"), "0 ");
    assert_eq!(value(&transcript, "mounted"), "0 ");
    let indexed = value(&transcript, "indexed");
    assert!(indexed.starts_with("125 error: mount erofs "), "{indexed}");
    assert!(
        transcript
            .text
            .contains("`mybox layers convert --to unpacked`")
    );
    assert_eq!(value(&transcript, "again"), "0 ");
}

#[test]
fn three_hundred_layers_are_stacked_in_their_order() {
    let image = Layered::new(300);
    let machine = vm(r#"
        cp /image/blobs/* /var/lib/mybox/blobs/sha256/
        cp /image/index.json /var/lib/mybox/index.json
        say top mybox run --rm --network none layered cat /top
        say files mybox run --rm --network none layered ls /l
        say mounted mybox run --rm --network none --mount type=image,src=layered,dst=/x layered cat /x/top
        say read-only mybox run --rm --network none --read-only layered probe try-write /x
        mybox run --name kept --network none layered probe write /top changed
        say upper cat /var/lib/mybox/containers/*/upper/top
        mybox rm kept >/dev/null
        "#);
    let transcript = image.add_to(machine).run().ok();
    assert_eq!(value(&transcript, "top"), "299");
    assert_eq!(value(&transcript, "mounted"), "299");
    let files = transcript.text.split("files: ").nth(1).expect("files");
    assert!((1..300).all(|layer| files.contains(&format!("{layer}\n"))));
    assert_eq!(value(&transcript, "read-only"), "EROFS");
    assert_eq!(value(&transcript, "upper"), "changed");
}

/// An image of many layers as the blobs and the index of an OCI image layout.
struct Layered {
    blobs: Vec<(String, Vec<u8>)>,
    index: String,
}

impl Layered {
    /// [`Rootfs::tiny`] and above it layers that have `/top`, with the layer's number in it, and a
    /// file of their own.
    fn new(layers: usize) -> Self {
        let layer = |number: usize| {
            let text = number.to_string();
            let layer = Rootfs::empty().dir("l", 0o755).file("top", &text);
            layer.file(&format!("l/{text}"), "").tar()
        };
        let tars = std::iter::once(Rootfs::tiny().tar()).chain((1..layers).map(layer));
        let mut blobs = named_by_digest(tars.collect());
        let quoted: Vec<String> = blobs
            .iter()
            .map(|(hex, _)| format!("\"sha256:{hex}\""))
            .collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            quoted.join(",")
        );
        let config = named_by_digest(vec![config.into_bytes()]).remove(0);
        let descriptors: Vec<String> = blobs
            .iter()
            .map(|blob| descriptor("layer.v1.tar", blob, ""))
            .collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
            descriptor("config.v1+json", &config, ""),
            descriptors.join(",")
        );
        let manifest = named_by_digest(vec![manifest.into_bytes()]).remove(0);
        let name = r#","annotations":{"org.opencontainers.image.ref.name":"docker.io/library/layered:latest"}"#;
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
            descriptor("manifest.v1+json", &manifest, name)
        );
        blobs.extend([config, manifest]);
        Self { blobs, index }
    }

    fn add_to(self, vm: Vm) -> Vm {
        let vm = vm.file("/image/index.json", self.index, 0o644);
        self.blobs.into_iter().fold(vm, |vm, (hex, bytes)| {
            vm.file(&format!("/image/blobs/{hex}"), bytes, 0o644)
        })
    }
}

fn descriptor(kind: &str, (hex, bytes): &(String, Vec<u8>), more: &str) -> String {
    let size = bytes.len();
    format!(
        r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"sha256:{hex}","size":{size}{more}}}"#
    )
}

/// Each content with the hexadecimal digits of its sha256.
fn named_by_digest(contents: Vec<Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    let directory = tempfile::tempdir().expect("directory");
    let paths: Vec<_> = (0..contents.len())
        .map(|number| directory.path().join(number.to_string()))
        .collect();
    for (path, content) in paths.iter().zip(&contents) {
        std::fs::write(path, content).expect("write a blob");
    }
    let sums = Cmd::new("sha256sum").args(paths).run().ok().stdout();
    let digests = sums
        .lines()
        .map(|line| line.split(' ').next().unwrap_or_default().to_owned());
    digests.zip(contents).collect()
}

/// What acts on a container that runs, with the files of cgroup v2.
#[test]
fn a_container_that_runs_is_joined_frozen_limited_and_measured() {
    let transcript = vm(r#"
        mybox run --name web --network none -m 64m tiny probe trap USR1 >/tmp/web 2>&1 &
        until grep -q ready /tmp/web; do sleep 0.05; done
        group=$(echo /sys/fs/cgroup/mybox/*/)
        say joined mybox exec web probe report
        say stats mybox stats --no-stream --json
        say top mybox top web -o cmd
        mybox pause web >/dev/null
        say frozen cat $group/cgroup.freeze
        code refused mybox exec web true
        mybox unpause web >/dev/null
        say thawed cat $group/cgroup.freeze
        mybox update -m 128m --pids-limit 50 web >/dev/null
        say memory cat $group/memory.max
        say swap cat $group/memory.swap.max
        say pids cat $group/pids.max
        mybox update --cpuset-cpus 1 --cpu-quota 20000 web >/dev/null
        mybox update --cpu-period 50000 web >/dev/null
        say cpus cat $group/cpuset.cpus.effective
        say quota cat $group/cpu.max
        code eaten mybox exec web probe eat-memory 512
        sleep 1
        say told sh -c 'mybox events --since 0 --until 0s --filter event=oom | grep -c oom'
        mybox pause web >/dev/null
        code killed mybox kill web
        wait || true
        say code mybox wait web
        mybox rm web >/dev/null
        say left find /sys/fs/cgroup/mybox /run/mybox/containers -mindepth 1
        "#)
    .run();
    let joined = report(&transcript, "joined");
    assert_eq!(joined.cgroup.membership, ["0::/"]);
    assert_eq!(joined.cgroup.limits["memory.max"], "67108864");
    let stats: serde_json::Value = serde_json::from_str(value(&transcript, "stats")).expect("JSON");
    assert_eq!(stats["memoryLimit"], 64 << 20);
    assert_eq!(stats["pids"], 1);
    assert!(transcript.text.contains("probe trap USR1"));
    for (name, expected) in [
        ("frozen", "1"),
        ("thawed", "0"),
        ("memory", "134217728"),
        ("swap", "134217728"),
        ("pids", "50"),
        ("cpus", "1"),
        ("quota", "20000 50000"),
        ("told", "1"),
        ("killed", "0 "),
        ("code", "137"),
    ] {
        assert_eq!(value(&transcript, name), expected, "{name}");
    }
    assert!(value(&transcript, "refused").starts_with("1 error: container web is paused"));
    assert!(!transcript.text.contains("left: /"), "{}", transcript.text);
}

#[test]
fn devices_are_those_that_were_given_on_cgroup_v2_too() {
    let transcript = vm(r#"
        run="mybox run --rm --network none"
        write="probe try-write /dev/kmsg"
        say harmless $run tiny probe try-write /dev/null
        say given $run --device /dev/kmsg tiny $write
        say read-only $run --device /dev/kmsg:r tiny $write
        say by-rule $run --device /dev/kmsg:r --device-cgroup-rule 'c 1:11 w' tiny $write
        say of-another-kind $run --device /dev/kmsg:r --device-cgroup-rule 'b *:* rwm' tiny $write
        say privileged $run --privileged tiny $write
        mybox run -d --network none --name web --device /dev/kmsg:r tiny probe sleep 600 >/dev/null
        say exec mybox exec web $write
        say exec-harmless mybox exec web probe try-write /dev/null
        mybox rm -f web >/dev/null
        mkdir -p /sys/fs/cgroup/mybox
        say left find /sys/fs/cgroup/mybox /run/mybox/containers -mindepth 1 -type d
        "#)
    .run();
    for (name, said) in [
        ("harmless", "ok"),
        ("given", "ok"),
        ("read-only", "EPERM"),
        ("by-rule", "ok"),
        ("of-another-kind", "EPERM"),
        ("privileged", "ok"),
        ("exec", "EPERM"),
        ("exec-harmless", "ok"),
        ("left", ""),
    ] {
        assert_eq!(value(&transcript, name), said, "{name}");
    }
}
