//! Power cuts: a virtual machine with a disk of its own is killed in the middle of imports and
//! pulls, and booted again. What it had handed to its disk is there; what was in its memory is gone.

use std::fs::File;
use std::time::Duration;

use rustix::process::Signal;

use super::{Random, tree};
use crate::harness::registry::{FakeRegistry, TestImage};
use crate::harness::vm::Vm;
use crate::harness::{Cmd, Sandbox};

const CUTS: u64 = 20;
/// The longest a machine works before its power is cut: a few rounds of its script.
const LONGEST: u64 = 3_000;
const FILES: usize = 400;

/// Mounts the disk, verifies, and then imports, pulls and removes for as long as there is power.
const SCRIPT: &str = r#"
mount -t ext4 /dev/vda /var/lib/mybox || exit 1
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
unfinished=$(ls /var/lib/mybox/ingest 2>/dev/null | wc -l)
mybox verify || { echo DAMAGED; exit 1; }
echo "VERIFIED $(mybox images -q | wc -l) images, $unfinished unfinished before"
grep -q once /proc/cmdline && rounds=1
while [ "$rounds" != 0 ]; do
    echo WORKING
    mybox import --quiet /tree.tar imported:1 || exit 1
    mybox pull --quiet --insecure 10.0.2.2:@PORT@/app:1 || exit 1
    mybox rmi imported:1 || exit 1
    mybox import --quiet /tree.tar imported:2 || exit 1
    mybox rmi 10.0.2.2:@PORT@/app:1 imported:2 || exit 1
    mybox gc >/dev/null || exit 1
    [ -n "$rounds" ] && rounds=$((rounds - 1))
done
mybox verify || { echo DAMAGED; exit 1; }
"#;

#[test]
fn after_every_power_cut_the_store_is_whole_and_goes_on() {
    let mut random = Random::new();
    let (sandbox, registry) = (Sandbox::new("power"), FakeRegistry::start());
    let layer = |number| tree(&format!("layer {number}"), FILES / 4);
    registry.add("app:1", &TestImage::new((0..3).map(layer)));
    let address = registry.address();
    let (_, port) = address.rsplit_once(':').expect("a port");
    let disk = sandbox.scratch().join("disk");
    let file = File::create(&disk).expect("the disk's file");
    file.set_len(256 << 20).expect("the disk's size");
    Cmd::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&disk)
        .run()
        .ok();
    let machine = |argument: &str| {
        Vm::new(&SCRIPT.replace("@PORT@", port))
            .file("/tree.tar", tree("imported", FILES).tar(), 0o644)
            .disk(&disk)
            .network()
            .kernel_argument(argument)
    };
    let endless = machine("endless").build();
    for cut in 0..CUTS {
        let running = endless.start();
        running.wait_for("WORKING");
        let moment = Duration::from_millis(random.below(LONGEST));
        std::thread::sleep(moment);
        running.signal(Signal::KILL);
        let said = running.wait().stdout();
        println!(
            "cut {cut} after {moment:?}: {}",
            said.lines()
                .filter(|line| line.contains("VERIFIED"))
                .collect::<String>()
        );
        assert!(
            said.contains("VERIFIED") && !said.contains("DAMAGED") && !said.contains("error:"),
            "cut {cut}:\n{said}"
        );
    }
    let transcript = machine("once").run().ok();
    assert!(transcript.text.contains("VERIFIED"), "{}", transcript.text);
}
