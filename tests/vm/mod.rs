//! Behaviour on a kernel that has only cgroup v2, and is older than the one we usually run on.

mod containers;

use crate::harness::vm::Vm;

/// The ground that the other tests here stand on.
#[test]
fn the_machine_has_what_mybox_needs() {
    let transcript = Vm::new(
        r"set -e
        cat /sys/fs/cgroup/cgroup.controllers
        echo '+memory +pids +cpu' >/sys/fs/cgroup/cgroup.subtree_control
        nft add table inet t
        nft 'add chain inet t c { type nat hook postrouting priority srcnat; }'
        nft add rule inet t c ip saddr 10.10.0.0/16 masquerade
        nft list ruleset | grep masquerade
        ip link add name br0 type bridge
        ip link add name v0 master br0 type veth peer name v1
        ip -o link show master br0
        mkdir -p /var/lib/mybox/a /var/lib/mybox/b /var/lib/mybox/u /var/lib/mybox/w /mnt/m
        echo lower >/var/lib/mybox/a/file
        cd /var/lib/mybox
        mount -t overlay overlay -o lowerdir=a:b,upperdir=u,workdir=w /mnt/m
        rm /mnt/m/file
        stat -c 'whiteout %t:%T %F' u/file
        probe echo the probe runs
        mybox --help >/dev/null && echo mybox runs
        ",
    )
    .run()
    .ok();
    for expected in [
        "cpuset cpu io memory",
        "masquerade",
        "v0@v1",
        "whiteout 0:0 character special file",
        "the probe runs",
    ] {
        assert!(
            transcript.text.contains(expected),
            "no {expected:?} in:\n{}",
            transcript.text
        );
    }
}

#[test]
fn the_exit_code_of_the_script_comes_back() {
    let transcript = Vm::new("echo 'some words'; exit 7").run();
    assert_eq!((transcript.code, transcript.text.trim()), (7, "some words"));
}
