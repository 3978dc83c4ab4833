//! Published ports: who reaches a container through which port of the host, who has a port, and what
//! is left of it. Each test has a private host.

use rustix::process::{Pid, Signal, kill_process};

use crate::detached::{known, monitor, remove, until};
use crate::harness::private_host::{ADDRESS, OUTSIDE};
use crate::harness::{Cmd, Output, PrivateHost, Rootfs, Running, Sandbox, probe};

/// A host with an outside world, and a sandbox with the image `tiny` on it.
#[track_caller]
fn host(name: &str) -> (PrivateHost, Sandbox) {
    let private = PrivateHost::with_outside();
    let sandbox = Sandbox::on(private.host(), name);
    sandbox.import_tiny();
    (private, sandbox)
}

/// A container `web` that answers TCP on port 80 with `hello` and the peer's address.
#[track_caller]
fn web(sandbox: &Sandbox, flags: &[&str]) -> Running {
    let named = [&["--name", "web"], flags].concat();
    let server = sandbox
        .probe(&named, &["tcp-server", "0.0.0.0:80", "hello"])
        .spawn();
    server.wait_for("listening");
    server
}

/// The probe on the host.
fn on_host(sandbox: &Sandbox, words: &[&str]) -> Cmd {
    sandbox.host().command(probe()).args(words)
}

/// The probe in the outside world.
fn outside(private: &PrivateHost, words: &[&str]) -> Cmd {
    let probe = probe().to_str().expect("a plain path");
    private.outside(probe).args(words)
}

#[track_caller]
fn shell(sandbox: &Sandbox, command: &str) -> Output {
    sandbox
        .host()
        .command("sh")
        .args(["-c", command])
        .run()
        .ok()
}

/// The first process of the one container that runs.
#[track_caller]
fn container_pid(sandbox: &Sandbox) -> Pid {
    let pid = i32::try_from(sandbox.container_pid()).ok();
    pid.and_then(Pid::from_raw).expect("a pid")
}

/// What `mybox port web` says.
#[track_caller]
fn ports(sandbox: &Sandbox) -> String {
    sandbox.mybox(["port", "web"]).run().ok().stdout()
}

/// All elements of the maps.
#[track_caller]
fn elements(sandbox: &Sandbox) -> String {
    let maps = "for map in ports ports_of_all; do nft list map ip mybox $map | grep -A9 elements || true; done";
    shell(sandbox, maps).stdout()
}

#[test]
fn a_port_is_reached_from_everywhere() {
    let (private, sandbox) = host("everywhere");
    let server = web(&sandbox, &["-p", "8080:80"]);
    let at = |address: &str| format!("{address}:8080");
    let get = |address: &str| {
        on_host(&sandbox, &["tcp-get", &at(address)])
            .run()
            .ok()
            .line()
    };
    assert_eq!(get(ADDRESS), format!("hello\n{ADDRESS}"));
    assert_eq!(get("127.0.0.1"), "hello\n10.10.0.1");
    assert_eq!(get("10.10.0.1"), "hello\n10.10.0.1");
    let far = outside(&private, &["tcp-get", &at(ADDRESS)]).run().ok();
    assert_eq!(far.line(), format!("hello\n{OUTSIDE}"));
    for address in [ADDRESS, "10.10.0.1"] {
        let inside = sandbox.probe(&[], &["tcp-get", &at(address)]).run().ok();
        assert_eq!(inside.line(), "hello\n10.10.0.1", "{address}");
    }
    assert_eq!(ports(&sandbox), "80/tcp -> 0.0.0.0:8080\n");
    server.end();
    assert_eq!(elements(&sandbox), "");
    let gone = outside(&private, &["tcp-get", &at(ADDRESS)]).run().code(1);
    drop(gone.says("refused"));
}

#[test]
fn the_ports_of_a_detached_container_are_its_monitors() {
    let (_private, sandbox) = host("monitors");
    let run = sandbox.mybox(["run", "-d", "--name", "web", "-p", "8080:80"]);
    // As a user has it who became root by su(1): without the system's own directories.
    let run = run.env("PATH", "/usr/bin:/bin");
    let policy = ["--restart", "on-failure:1", "tiny", "probe"];
    let server = run.args(policy).args(["tcp-server", "0.0.0.0:80", "hello"]);
    drop(server.run().ok());
    let answers = || {
        let get = on_host(&sandbox, &["tcp-get", "127.0.0.1:8080"]);
        get.run().exit_code() == Some(0)
    };
    let kill = || {
        let pid = container_pid(&sandbox);
        kill_process(pid, Signal::KILL).expect("it runs");
    };
    until("it listens", answers);
    kill();
    until("it is started again", || {
        known(&sandbox, "web").is_some_and(|row| row["restartCount"] == 1)
    });
    until("it listens again", answers);
    kill();
    until("it has ended", || {
        known(&sandbox, "web").is_some_and(|row| row["state"] == "exited")
    });
    assert_eq!(elements(&sandbox), "");
    remove(&sandbox, "web");
}

#[test]
fn a_detached_container_with_ports_ends_with_its_code() {
    let (_private, sandbox) = host("portscode");
    let run = sandbox.mybox(["run", "-d", "--name", "web", "-p", "8080:80"]);
    drop(run.args(["tiny", "probe", "say", "exit:3"]).run().ok());
    until("it has ended", || {
        known(&sandbox, "web").is_some_and(|row| row["state"] == "exited")
    });
    let row = known(&sandbox, "web").expect("a row");
    assert_eq!(row["ending"]["code"], 3, "{row}");
    assert_eq!(elements(&sandbox), "");
    remove(&sandbox, "web");
}

#[test]
fn how_it_ended_is_known_though_its_ports_could_not_be_taken_back() {
    let (_private, sandbox) = host("nftfails");
    let run = sandbox.mybox(["run", "-d", "--name", "web", "-p", "8080:80"]);
    let traps = run.args(["tiny", "probe", "trap", "TERM"]);
    drop(traps.run().ok());
    until("it waits", || {
        sandbox.mybox(["logs", "web"]).run().ok().stdout() == "ready\n"
    });
    let nft = shell(&sandbox, "command -v nft").line();
    drop(shell(&sandbox, &format!("mount --bind /bin/false {nft}")));
    let monitor = monitor(&sandbox);
    kill_process(container_pid(&sandbox), Signal::TERM).expect("it runs");
    let gone = || rustix::process::test_kill_process(monitor).is_err();
    until("its monitor has given up", gone);
    drop(shell(&sandbox, &format!("umount {nft}")));
    let row = known(&sandbox, "web").expect("a row");
    assert_eq!(row["ending"]["code"], 0, "{row}");
    assert_eq!(row["state"], "exited");
    assert_eq!(elements(&sandbox), "");
    remove(&sandbox, "web");
}

#[test]
fn a_container_reaches_itself_through_the_host() {
    let (_private, sandbox) = host("itself");
    // The probe in a second process of the same network namespace.
    let server = web(&sandbox, &["-p", "8080:80"]);
    let pid = sandbox.container_pid().to_string();
    let inside = sandbox
        .host()
        .command("nsenter")
        .args(["-t", &pid, "--net", "--"]);
    let said = inside
        .arg(probe())
        .args(["tcp-get", &format!("{ADDRESS}:8080")])
        .run()
        .ok();
    assert_eq!(said.line(), "hello\n10.10.0.1");
    server.end();
}

#[test]
fn datagrams_find_their_way_and_back() {
    let (private, sandbox) = host("udp");
    let words = ["udp-echo-server", "0.0.0.0:7", "1000"];
    let server = sandbox.probe(&["-p", "7007:7/udp"], &words).spawn();
    server.wait_for("listening");
    let send = |address: &str| {
        [
            "udp-send".to_owned(),
            format!("{address}:7007"),
            "there".to_owned(),
        ]
    };
    let words = |address: &str| send(address).to_vec();
    let said = |command: Cmd, address: &str| command.args(words(address)).run().ok().line();
    for address in [ADDRESS, "127.0.0.1"] {
        assert_eq!(said(on_host(&sandbox, &[]), address), "there");
    }
    assert_eq!(said(outside(&private, &[]), ADDRESS), "there");
    assert_eq!(said(sandbox.probe(&[], &[]), ADDRESS), "there");
    server.signal(Signal::KILL);
    drop(server.wait());
}

/// Who goes on sending from the same port is a flow that the kernel remembers.
#[test]
fn datagrams_find_the_next_container_though_their_sender_never_stopped() {
    let (private, sandbox) = host("flows");
    let own = format!("{OUTSIDE}:5000");
    let target = format!("{ADDRESS}:7007");
    let send = |text: &str| outside(&private, &["udp-send-from", &own, &target, text]).run();
    drop(send("nobody").code(1));
    for address in ["10.10.0.2", "10.10.0.3"] {
        let words = ["udp-echo-server", "0.0.0.0:7", "1"];
        let flags = ["-p", "7007:7/udp", "--ip", address];
        let server = sandbox.probe(&flags, &words).spawn();
        server.wait_for("listening");
        assert_eq!(send("there").ok().line(), "there", "{address}");
        drop(server.wait().ok());
    }
}

/// A flow that a container has opened is answered there, too, whoever has its address by then.
#[test]
fn datagrams_find_the_next_container_though_the_one_before_wrote_first() {
    let (private, sandbox) = host("wrote-first");
    let own = format!("{OUTSIDE}:7801");
    let target = format!("{ADDRESS}:5000");
    let send = || outside(&private, &["udp-send-from", &own, &target, "there"]).run();
    let echo = |flags: &[&str]| {
        let server = sandbox.probe(flags, &["udp-echo-server", "0.0.0.0:5000", "9"]);
        let server = server.spawn();
        server.wait_for("listening");
        server
    };
    let publish = ["-p", "5000:5000/udp"];
    for (flags, is_forgotten) in [(&publish[..], true), (&[], false)] {
        let words = ["udp-send-from", "0.0.0.0:5000", &own, "hello"];
        drop(sandbox.probe(flags, &words).run().code(1));
        // It has the address of who wrote first.
        let other = echo(&[]);
        if is_forgotten {
            drop(send().code(1));
        }
        let next = echo(&publish);
        assert_eq!(send().ok().line(), "there");
        next.wait_for(&format!("from {own}"));
        assert!(!other.stdout_so_far().contains("from"));
        for server in [next, other] {
            server.signal(Signal::KILL);
            drop(server.wait());
        }
    }
}

#[test]
fn a_port_of_one_address_is_reached_through_no_other() {
    let (private, sandbox) = host("one-address");
    let server = web(&sandbox, &["-p", "127.0.0.1:8080:80"]);
    let local = on_host(&sandbox, &["tcp-get", "127.0.0.1:8080"]).run().ok();
    assert_eq!(local.line(), "hello\n10.10.0.1");
    let target = format!("{ADDRESS}:8080");
    drop(outside(&private, &["tcp-get", &target]).run().code(1));
    drop(sandbox.probe(&[], &["tcp-get", &target]).run().code(1));
    // A neighbour can send to the loopback's address over the wire; mybox lets such packets be routed.
    let route = format!(
        "ip route delete local 127.0.0.1 dev lo table local && \
         ip route delete local 127.0.0.0/8 dev lo table local && \
         echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet && \
         ip route add 127.0.0.1/32 via {ADDRESS} dev eth0 src {OUTSIDE}"
    );
    private.outside("sh").args(["-c", &route]).run().ok();
    shell(
        &sandbox,
        "nft add table ip seen \
         && nft add chain ip seen come '{ type filter hook prerouting priority -300; }' \
         && nft add chain ip seen go '{ type filter hook forward priority 100; }' \
         && nft add rule ip seen come iifname eth0 ip daddr 127.0.0.1 counter \
         && nft add rule ip seen go iifname eth0 counter",
    );
    drop(
        outside(&private, &["tcp-get", "127.0.0.1:8080"])
            .run()
            .code(1),
    );
    let saw_none = |chain: &str| {
        let listed = shell(&sandbox, &format!("nft list chain ip seen {chain}")).stdout();
        let count = listed.split("packets ").nth(1).expect("a counter");
        count.starts_with("0 ")
    };
    // They came, and went no further.
    assert_eq!((saw_none("come"), saw_none("go")), (false, true));
    assert_eq!(ports(&sandbox), "80/tcp -> 127.0.0.1:8080\n");
    server.end();
}

#[test]
fn a_free_port_is_found_where_none_is_named() {
    let (private, sandbox) = host("free");
    sandbox.import_with("web", Rootfs::tiny(), &["EXPOSE 80 53/udp"]);
    let server = sandbox
        .mybox([
            "run", "--rm", "--name", "web", "-P", "--expose", "90-91", "-p", "8080:80",
        ])
        .args(["web", "probe", "tcp-server", "0.0.0.0:91", "hello"])
        .spawn();
    server.wait_for("listening");
    let listed = ports(&sandbox);
    let shown: Vec<&str> = listed
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(shown, ["53/udp", "80/tcp", "90/tcp", "91/tcp"]);
    let of = |port: &str| sandbox.mybox(["port", "web", port]).run().ok().line();
    assert_eq!(of("80"), "0.0.0.0:8080");
    let free = of("91/tcp").replace("0.0.0.0", ADDRESS);
    let said = outside(&private, &["tcp-get", &free]).run().ok();
    assert_eq!(said.line(), format!("hello\n{OUTSIDE}"));
    drop(
        sandbox
            .mybox(["port", "web", "81"])
            .run()
            .code(1)
            .says("port 81/tcp of container web"),
    );
    server.end();
}

#[test]
fn ranges_are_published_one_by_one_or_to_the_first_that_is_free() {
    let (_private, sandbox) = host("ranges");
    let server = web(
        &sandbox,
        &[
            "-p",
            "8000-8002:80-82",
            "-p",
            "8000-8004:90",
            "--expose",
            "443",
        ],
    );
    assert_eq!(
        ports(&sandbox),
        "80/tcp -> 0.0.0.0:8000\n81/tcp -> 0.0.0.0:8001\n82/tcp -> 0.0.0.0:8002\n90/tcp -> 0.0.0.0:8003\n"
    );
    let listed = sandbox.mybox(["ps"]).run().ok().stdout();
    assert!(
        listed.contains("PORTS") && listed.contains("443/tcp, 0.0.0.0:8000->80/tcp, "),
        "{listed}"
    );
    let json = sandbox.mybox(["ps", "--json"]).run().ok().stdout_json();
    let first = serde_json::json!(
        {"hostIp": "0.0.0.0", "hostPort": 8000, "containerPort": 80, "protocol": "tcp"}
    );
    assert_eq!(json[0]["ports"][0], first);
    let json = sandbox
        .mybox(["port", "--json", "web"])
        .run()
        .ok()
        .stdout_json();
    assert_eq!(json[0], first);
    let full = sandbox
        .probe(&["-p", "8000-8003:80"], &["true"])
        .run()
        .code(125);
    drop(full.says("no port of 0.0.0.0:8000-8003 is free"));
    server.end();
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_who_has_it() {
    let (_private, sandbox) = host("taken");
    let server = web(&sandbox, &["-p", "8080:80"]);
    for port in ["8080:1", "127.0.0.1:8080:1"] {
        let refused = sandbox.probe(&["-p", port], &["true"]).run().code(125);
        drop(refused.says("is taken by container web"));
    }
    drop(sandbox.probe(&["-p", "8080:80/udp"], &["true"]).run().ok());
    let other = on_host(&sandbox, &["tcp-server", "0.0.0.0:9090", "other"]).spawn();
    other.wait_for("listening");
    let refused = sandbox.probe(&["-p", "9090:80"], &["true"]).run().code(125);
    let refused = refused.says("port 0.0.0.0:9090/tcp of the host is taken by ");
    assert!(refused.stderr().contains("(pid "), "{}", refused.stderr());
    let twice = sandbox
        .probe(&["-p", "7000:80", "-p", "7000:81"], &["true"])
        .run()
        .code(125);
    drop(twice.says("two ports"));
    let foreign = sandbox
        .probe(&["-p", "192.0.2.1:80:80"], &["true"])
        .run()
        .code(125);
    drop(foreign.says("192.0.2.1 is not an address of this host"));
    // And no program takes it from the container.
    drop(
        on_host(&sandbox, &["tcp-server", "0.0.0.0:8080", "thief"])
            .run()
            .code(1),
    );
    // Whoever makes one for later may do so: its start asks.
    let create = |name: &str, flags: &[&str]| {
        let create = sandbox.mybox(["create", "--name", name]).args(flags);
        create.args(["tiny", "probe", "true"]).run()
    };
    drop(create("later", &["-p", "8080:80"]).ok());
    let start = || sandbox.mybox(["start", "-a", "later"]).run();
    drop(start().code(125).says("is taken by container web"));
    drop(
        create("both", &["-p", "70:80", "-p", "70:81"])
            .code(1)
            .says("two ports"),
    );
    other.signal(Signal::KILL);
    drop(other.wait());
    server.end();
    drop(start().ok());
    drop(sandbox.mybox(["rm", "later"]).run().ok());
    drop(sandbox.probe(&["-p", "8080:80"], &["true"]).run().ok());
}

#[test]
fn a_start_that_found_its_port_taken_keeps_no_address() {
    let (_private, sandbox) = host("retry");
    let create = sandbox.mybox([
        "create",
        "--name",
        "late",
        "--ip",
        "10.10.0.50",
        "-p",
        "8080:80",
    ]);
    drop(create.args(["tiny", "probe", "say", "exit:0"]).run().ok());
    let server = web(&sandbox, &["-p", "8080:80"]);
    for _ in 0..2 {
        let refused = sandbox.mybox(["start", "late"]).run().code(1);
        drop(refused.says("is taken by container web"));
    }
    server.end();
    let leases = sandbox.run_root().join("leases").join(sandbox.bridge());
    let left = std::fs::read_dir(leases).expect("a directory").count();
    assert_eq!(left, 0);
    drop(sandbox.mybox(["start", "-a", "late"]).run().ok());
    remove(&sandbox, "late");
    drop(sandbox.mybox(["network", "rm"]).run().ok());
}

#[test]
fn of_many_that_want_a_port_at_once_one_gets_it() {
    let (_private, sandbox) = host("at-once");
    let servers: Vec<Running> = (0..6)
        .map(|_| {
            sandbox
                .probe(&["-p", "8080:80"], &["tcp-server", "0.0.0.0:80", "hello"])
                .spawn()
        })
        .collect();
    let (mut lost, mut won) = (0, Vec::new());
    for server in servers {
        while !server.has_ended() && !server.stdout_so_far().contains("listening") {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        if server.has_ended() {
            drop(server.wait().code(125).says("is taken by"));
            lost += 1;
        } else {
            won.push(server);
        }
    }
    assert_eq!((lost, won.len()), (5, 1));
    drop(on_host(&sandbox, &["tcp-get", "127.0.0.1:8080"]).run().ok());
    won.into_iter().for_each(Running::end);
    assert_eq!(elements(&sandbox), "");
}

#[test]
fn a_supervisor_that_was_killed_leaves_no_port() {
    let (_private, sandbox) = host("killed");
    let server = web(&sandbox, &["-p", "8080:80", "-p", "127.0.0.1:53:53/udp"]);
    assert!(elements(&sandbox).contains("tcp . 8080"));
    server.signal(Signal::KILL);
    drop(server.wait());
    drop(sandbox.mybox(["ps"]).run().ok());
    assert_eq!(elements(&sandbox), "");
    let next = web(&sandbox, &["-p", "8080:80"]);
    next.end();
}

/// As where Docker is installed.
#[test]
fn others_who_drop_what_is_forwarded_are_told_and_find_their_rules_as_they_were() {
    let (private, sandbox) = host("docker");
    shell(
        &sandbox,
        "iptables -N DOCKER-USER && iptables -A DOCKER-USER -j RETURN && iptables -P FORWARD DROP \
         && iptables -A FORWARD -j DOCKER-USER",
    );
    let before = shell(&sandbox, "iptables -S").stdout();
    let server = web(&sandbox, &["-p", "8080:80"]);
    let get = ["tcp-get", &format!("{ADDRESS}:8080")];
    drop(outside(&private, &get).run().ok());
    drop(sandbox.probe(&[], &get).run().ok());
    drop(
        sandbox
            .probe(&[], &["tcp-get", &format!("{OUTSIDE}:80")])
            .run()
            .ok(),
    );
    // Docker goes on asking and changing by iptables.
    let listed = shell(&sandbox, "iptables -S FORWARD").stdout();
    let ours = listed
        .lines()
        .filter(|line| line.contains(sandbox.bridge()))
        .count();
    assert_eq!(ours, 2, "{listed}");
    // Somebody sets theirs up anew: the next command sees to it.
    shell(
        &sandbox,
        "iptables -F FORWARD && iptables -A FORWARD -j DOCKER-USER",
    );
    drop(outside(&private, &get).run().code(1));
    drop(sandbox.mybox(["port", "web"]).run().ok());
    drop(outside(&private, &get).run().ok());
    server.end();
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    shell(&sandbox, "iptables -Z");
    assert_eq!(shell(&sandbox, "iptables -S").stdout(), before);
}

/// As RHEL's iptables service and ufw have it: the policy accepts, and the last rule refuses.
#[test]
fn others_who_refuse_what_is_forwarded_by_a_rule_are_told_too() {
    let (private, sandbox) = host("reject");
    shell(
        &sandbox,
        "iptables -N own && iptables -A own -j REJECT --reject-with icmp-host-prohibited \
         && iptables -A FORWARD -d 192.0.2.1 -j DROP",
    );
    for last in ["REJECT --reject-with icmp-host-prohibited", "own"] {
        shell(&sandbox, &format!("iptables -A FORWARD -j {last}"));
        let before = shell(&sandbox, "iptables -S").stdout();
        let server = web(&sandbox, &["-p", "8080:80"]);
        let get = ["tcp-get", &format!("{ADDRESS}:8080")];
        drop(outside(&private, &get).run().ok());
        let far = ["tcp-get", &format!("{OUTSIDE}:80")];
        drop(sandbox.probe(&[], &far).run().ok());
        // The user's own rules are in front of ours.
        let listed = shell(&sandbox, "iptables -S FORWARD").stdout();
        let lines: Vec<&str> = listed.lines().collect();
        assert!(lines[1].contains("192.0.2.1"), "{listed}");
        assert!(lines[2].contains(sandbox.bridge()), "{listed}");
        server.end();
        drop(sandbox.mybox(["network", "rm"]).run().ok());
        assert_eq!(shell(&sandbox, "iptables -S").stdout(), before);
        shell(&sandbox, &format!("iptables -D FORWARD -j {last}"));
    }
}

#[test]
fn rules_that_somebody_has_flushed_are_put_back_with_the_ports() {
    let (private, sandbox) = host("flushed-ports");
    let server = web(&sandbox, &["-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    let complete = shell(&sandbox, "nft list ruleset").stdout();
    let get = ["tcp-get", &format!("{ADDRESS}:8080")];
    for command in [
        &["port", "web"][..],
        &["ps"],
        &["run", "--rm", "tiny", "probe", "true"],
    ] {
        shell(&sandbox, "nft flush ruleset");
        drop(outside(&private, &get).run().code(1));
        drop(sandbox.mybox(command).run().ok());
        assert_eq!(shell(&sandbox, "nft list ruleset").stdout(), complete);
        drop(outside(&private, &get).run().ok());
    }
    // The map alone.
    for command in ["port web", "ps"] {
        for map in ["ports", "ports_of_all"] {
            shell(&sandbox, &format!("nft flush map ip mybox {map}"));
            drop(sandbox.mybox(command.split(' ')).run().ok());
            assert_eq!(shell(&sandbox, "nft list ruleset").stdout(), complete);
        }
    }
    // Flushed when it ends: nothing to take away, and nothing goes wrong.
    shell(&sandbox, "nft flush ruleset");
    server.end();
    assert_eq!(shell(&sandbox, "nft list ruleset").stdout(), "");
}

#[test]
fn what_cannot_be_published_is_said() {
    let (_private, sandbox) = host("refused");
    let refused = |flags: &[&str], text: &str| {
        drop(sandbox.probe(flags, &["true"]).run().code(125).says(text));
    };
    refused(&["-p", "[::1]:80:80"], "IPv6");
    refused(&["-p", "80/sctp"], "sctp is not built yet");
    refused(&["-p", "99999:80"], "`99999` is no port");
    refused(
        &["--network", "none", "-p", "80"],
        "-p and -P need --network bridge",
    );
    let host = sandbox
        .probe(&["--network", "host", "-p", "80:80"], &["true"])
        .run()
        .ok();
    drop(host.says("the host's own"));
}

#[test]
fn the_script_of_a_dry_run_publishes_ports_too() {
    let (private, sandbox) = host("by-hand");
    // It ends when it has answered.
    let words = ["udp-echo-server", "0.0.0.0:7", "1"];
    let dry = sandbox
        .probe(&["--dry-run", "-p", "7007:7/udp"], &words)
        .run()
        .ok();
    assert_eq!(shell(&sandbox, "nft list ruleset").stdout(), "");
    let file = sandbox.scratch().join("script.sh");
    std::fs::write(&file, dry.stdout()).expect("write the script");
    let server = sandbox.host().command("sh").arg(&file).spawn();
    server.wait_for("listening");
    let send = ["udp-send", &format!("{ADDRESS}:7007"), "by hand"];
    assert_eq!(outside(&private, &send).run().ok().line(), "by hand");
    drop(server.wait().ok());
    assert_eq!(elements(&sandbox), "");
    // The bridge was made by hand; a run of mybox's makes it its own, for the end of the test.
    drop(sandbox.probe(&[], &["true"]).run().ok());
}
