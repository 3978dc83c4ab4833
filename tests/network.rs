//! The bridge seen from inside, from the host, from other containers and from the outside world.
//!
//! Each test has a private host: what it does to links, firewall and forwarding no other test sees.

use rustix::process::Signal;

use crate::harness::private_host::{ADDRESS, ANSWER, OUTSIDE};
use crate::harness::{HostState, Output, PrivateHost, Rootfs, Running, Sandbox, probe};

/// A sandbox with the image `tiny` on a host that has nothing but loopback.
#[track_caller]
fn alone(name: &str) -> (PrivateHost, Sandbox) {
    on(PrivateHost::new(), name)
}

/// The same on a host with an outside world.
#[track_caller]
fn with_outside(name: &str) -> (PrivateHost, Sandbox) {
    on(PrivateHost::with_outside(), name)
}

#[track_caller]
fn on(private: PrivateHost, name: &str) -> (PrivateHost, Sandbox) {
    let sandbox = Sandbox::on(private.host(), name);
    sandbox.import_tiny();
    (private, sandbox)
}

/// What the probe prints.
#[track_caller]
fn ask(sandbox: &Sandbox, words: &[&str]) -> String {
    sandbox.probe(&[], words).run().ok().line()
}

/// A container that answers TCP on port 80, and its address.
#[track_caller]
fn server(sandbox: &Sandbox, flags: &[&str]) -> (Running, String) {
    let server = sandbox
        .probe(flags, &["tcp-server", "0.0.0.0:80", "hello"])
        .spawn();
    server.wait_for("listening");
    let containers = sandbox.mybox(["ps", "--json"]).run().ok().stdout_json();
    let address = containers[0]["address"].as_str().expect("an address");
    (server, address.to_owned())
}

/// Runs a shell command on the sandbox's host.
#[track_caller]
fn on_host(sandbox: &Sandbox, command: &str) -> Output {
    sandbox
        .host()
        .command("sh")
        .args(["-c", command])
        .run()
        .ok()
}

#[test]
fn a_container_has_an_address_a_default_route_and_loopback() {
    let (_private, sandbox) = alone("address");
    let report = sandbox.probe(&[], &["report"]).run().ok().report();
    assert_eq!(report.links.keys().collect::<Vec<_>>(), ["eth0", "lo"]);
    assert_eq!(report.links["eth0"].addresses[0], "10.10.0.2/16");
    assert_eq!(report.links["lo"].addresses[0], "127.0.0.1/8");
    for name in ["eth0", "lo"] {
        assert!(
            report.links[name].flags.contains(&"UP".to_owned()),
            "{name}"
        );
    }
    let shown: Vec<(&str, Option<&str>)> = report
        .routes
        .iter()
        .map(|route| (route.destination.as_str(), route.gateway.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [("0.0.0.0/0", Some("10.10.0.1")), ("10.10.0.0/16", None)]
    );
    let own = format!("10.10.0.2\t{}\n", report.hostname);
    assert!(report.etc["/etc/hosts"].ends_with(&own));
}

#[test]
fn the_gateway_answers_and_so_does_the_container() {
    let (private, sandbox) = alone("ping");
    assert!(ask(&sandbox, &["ping", "10.10.0.1"]).starts_with("echo from 10.10.0.1"));
    assert!(ask(&sandbox, &["ping", "127.0.0.1"]).starts_with("echo from 127.0.0.1"));
    let (server, address) = server(&sandbox, &[]);
    let from_host = private.host().command(probe());
    let said = from_host
        .args(["tcp-get", &format!("{address}:80")])
        .run()
        .ok();
    assert_eq!(said.line(), "hello\n10.10.0.1");
    server.end();
}

#[test]
fn containers_reach_each_other_with_their_own_addresses() {
    let (_private, sandbox) = alone("each-other");
    let (server, address) = server(&sandbox, &[]);
    assert_eq!(address, "10.10.0.2");
    assert_eq!(
        ask(&sandbox, &["tcp-get", "10.10.0.2:80"]),
        "hello\n10.10.0.3"
    );
    assert!(ask(&sandbox, &["ping", "10.10.0.2"]).starts_with("echo from"));
    server.end();
}

/// The outside has no route to the bridge: it must see the host's address.
#[test]
fn containers_reach_the_outside_with_the_hosts_address() {
    let (private, sandbox) = with_outside("outside");
    let to_outside = |port: u16| format!("{OUTSIDE}:{port}");
    assert_eq!(
        ask(&sandbox, &["tcp-get", &to_outside(80)]),
        format!("outside\n{ADDRESS}")
    );
    assert_eq!(
        ask(&sandbox, &["udp-send", &to_outside(7), "there and back"]),
        "there and back"
    );
    assert!(ask(&sandbox, &["ping", OUTSIDE]).starts_with("echo from"));
    assert!(private.outside_log().contains(&format!("from {ADDRESS}:")));
}

#[test]
fn the_outside_cannot_open_connections_to_containers() {
    let (private, sandbox) = with_outside("uninvited");
    let (server, address) = server(&sandbox, &[]);
    // With a route of its own it would get through, were it not for the firewall.
    let route = ["route", "add", "10.10.0.0/16", "via", ADDRESS];
    private.outside("ip").args(route).run().ok();
    let probe = probe().to_str().expect("a plain path");
    let target = format!("{address}:80");
    let refused = private.outside(probe).args(["tcp-get", &target]).run();
    drop(refused.code(1).says("connect to"));
    drop(
        private
            .outside(probe)
            .args(["ping", &address])
            .run()
            .code(1),
    );
    // The way there is open: the container itself is answered along it.
    assert_eq!(
        ask(&sandbox, &["tcp-get", &format!("{OUTSIDE}:80")]),
        format!("outside\n{ADDRESS}")
    );
    server.end();
}

#[test]
fn another_range_is_chosen_where_the_first_is_taken_and_remembered() {
    let (_private, sandbox) = alone("range");
    on_host(
        &sandbox,
        "ip link add name other type bridge && ip link set other up && ip address add 10.10.3.4/24 dev other",
    );
    let first = sandbox.probe(&[], &["report"]).run().ok().report();
    assert_eq!(first.links["eth0"].addresses[0], "10.11.0.2/16");
    // Free again, but the choice stands, even if the bridge was removed behind mybox's back.
    on_host(&sandbox, "ip link delete other");
    for _ in 0..2 {
        let again = sandbox.probe(&[], &["report"]).run().ok().report();
        assert_eq!(again.links["eth0"].addresses[0], "10.11.0.2/16");
        on_host(&sandbox, &format!("ip link delete {}", sandbox.bridge()));
    }
    drop(sandbox.mybox(["network", "rm"]).run().ok());
}

#[test]
fn a_route_of_the_host_takes_a_range_too() {
    let (_private, sandbox) = with_outside("route");
    on_host(&sandbox, &format!("ip route add 10.8.0.0/13 via {OUTSIDE}"));
    let report = sandbox.probe(&[], &["report"]).run().ok().report();
    assert_eq!(report.links["eth0"].addresses[0], "10.16.0.2/16");
}

/// As a VPN has them that takes all traffic.
#[test]
fn routes_to_half_the_internet_take_no_range() {
    let (_private, sandbox) = with_outside("vpn");
    for half in ["0.0.0.0/1", "128.0.0.0/1"] {
        on_host(&sandbox, &format!("ip route add {half} via {OUTSIDE}"));
    }
    let get = ["tcp-get", &format!("{OUTSIDE}:80")];
    assert_eq!(ask(&sandbox, &get), format!("outside\n{ADDRESS}"));
}

#[test]
fn the_bridge_moves_when_its_range_was_taken_while_it_was_down() {
    let (_private, sandbox) = alone("moves");
    drop(sandbox.probe(&[], &["echo"]).run().ok());
    on_host(
        &sandbox,
        &format!(
            "ip link delete {} && ip address add 10.10.9.9/16 dev lo",
            sandbox.bridge()
        ),
    );
    let moved = sandbox.probe(&[], &["report"]).run().ok();
    let moved = moved.says("the host now uses 10.10.0.0/16");
    assert_eq!(moved.report().links["eth0"].addresses[0], "10.11.0.2/16");
    let firewall = on_host(&sandbox, "nft list table ip mybox").stdout();
    assert!(!firewall.contains("10.10.0.0/16"), "{firewall}");
}

#[test]
fn an_address_of_ones_own_choice_is_given_once() {
    let (_private, sandbox) = alone("ip");
    let flags = ["--ip", "10.10.7.7", "--name", "chosen"];
    let (server, address) = server(&sandbox, &flags);
    assert_eq!(address, "10.10.7.7");
    let wanted = |address: &str| sandbox.probe(&["--ip", address], &["echo"]).run();
    drop(
        wanted("10.10.7.7")
            .code(125)
            .says("10.10.7.7 is the address of container"),
    );
    for outside in ["10.10.0.1", "10.10.0.0", "10.10.255.255", "192.0.2.1"] {
        let refused = wanted(outside).code(125);
        drop(refused.says(&format!(
            "{outside} is not an address for containers of 10.10.0.0/16"
        )));
    }
    let contradiction = sandbox.probe(&["--ip", "10.10.7.8", "--network", "none"], &[]);
    drop(
        contradiction
            .run()
            .code(125)
            .says("--ip needs --network bridge"),
    );
    server.end();
    drop(wanted("10.10.7.7").ok());
}

#[test]
fn name_servers_are_the_callers_own_choice() {
    let (_private, sandbox) = with_outside("dns");
    let resolve = |flags: &[&str]| sandbox.probe(flags, &["resolve", "any.name"]).run();
    assert_eq!(resolve(&["--dns", OUTSIDE]).ok().line(), ANSWER);
    let report = sandbox.probe(&["--dns", "192.0.2.1", "--dns", "192.0.2.2"], &["report"]);
    let resolv_conf = report.run().ok().report().etc["/etc/resolv.conf"].clone();
    let servers: Vec<&str> = resolv_conf
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver "))
        .collect();
    assert_eq!(servers, ["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn the_hosts_name_servers_are_used_otherwise() {
    let (private, sandbox) = with_outside("resolver");
    private.replace_file(
        "/etc/resolv.conf",
        &format!("nameserver {OUTSIDE}\nsearch example.org\noptions timeout:1\n"),
    );
    assert_eq!(ask(&sandbox, &["resolve", "any.name"]), ANSWER);
    let report = sandbox.probe(&[], &["report"]).run().ok().report();
    let resolv_conf = &report.etc["/etc/resolv.conf"];
    assert!(resolv_conf.contains("search example.org\noptions timeout:1\n"));
}

#[test]
fn where_the_host_has_no_name_server_public_ones_are_asked_and_that_is_said() {
    let (private, sandbox) = alone("no-resolver");
    private.replace_file("/etc/resolv.conf", "search example.org\n");
    let run = |flags: &[&str]| sandbox.probe(flags, &["report"]).run().ok();
    let servers = |output: &Output| output.report().etc["/etc/resolv.conf"].clone();
    let told = run(&[]).says("the host has no name server that a container can reach");
    assert_eq!(
        servers(&told),
        "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch example.org\n"
    );
    for flags in [&["--dns", "9.9.9.9"][..], &["--network", "none"]] {
        let quiet = run(flags);
        assert!(!quiet.stderr().contains("name server"), "{flags:?}");
        assert!(!servers(&quiet).contains("8.8.8.8"), "{flags:?}");
    }
}

/// As with systemd-resolved or dnsmasq: 127.0.0.53 means the container itself, inside.
#[test]
fn a_resolver_on_the_hosts_loopback_answers_containers() {
    let (private, sandbox) = alone("loopback");
    private.replace_file("/etc/resolv.conf", "nameserver 127.0.0.54\n");
    let dns = private
        .host()
        .command(probe())
        .args(["dns-server", "127.0.0.54:53", "192.0.2.33"])
        .spawn();
    dns.wait_for("listening");
    assert_eq!(ask(&sandbox, &["resolve", "any.name"]), "192.0.2.33");
    // No more of the loopback than that can be reached.
    let secret = private
        .host()
        .command(probe())
        .args(["tcp-server", "127.0.0.54:80", "secret"])
        .spawn();
    secret.wait_for("listening");
    drop(
        sandbox
            .probe(&[], &["tcp-get", "10.10.0.1:80"])
            .run()
            .code(1),
    );
    // Another run does not undo it, and neither does one that has its own server.
    drop(sandbox.probe(&["--dns", "192.0.2.1"], &["echo"]).run().ok());
    assert_eq!(ask(&sandbox, &["resolve", "any.name"]), "192.0.2.33");
    for server in [dns, secret] {
        server.signal(Signal::KILL);
        assert_eq!(server.wait().signal(), Some(9));
    }
}

#[test]
fn a_resolver_on_the_hosts_loopback_may_change() {
    let (private, sandbox) = alone("resolver-moves");
    for resolver in ["127.0.0.54", "127.0.0.55"] {
        let resolv_conf = format!("nameserver {resolver}\n");
        private.replace_file("/etc/resolv.conf", &resolv_conf);
        let dns = private
            .host()
            .command(probe())
            .args(["dns-server", &format!("{resolver}:53"), "192.0.2.33"])
            .spawn();
        dns.wait_for("listening");
        assert_eq!(ask(&sandbox, &["resolve", "any.name"]), "192.0.2.33");
        dns.signal(Signal::KILL);
        assert_eq!(dns.wait().signal(), Some(9));
    }
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    assert_eq!(on_host(&sandbox, "nft list ruleset").stdout(), "");
}

#[test]
fn hosts_are_added_by_name_and_the_host_itself_as_host_gateway() {
    let (_private, sandbox) = alone("hosts");
    let flags = [
        "--add-host",
        "db:192.0.2.5",
        "--add-host",
        "me:host-gateway",
    ];
    let report = sandbox.probe(&flags, &["report"]).run().ok().report();
    let hosts: Vec<&str> = report.etc["/etc/hosts"].lines().collect();
    assert!(hosts.contains(&"192.0.2.5\tdb") && hosts.contains(&"10.10.0.1\tme"));
    let wrong = sandbox.probe(&["--add-host", "db"], &["echo"]).run();
    drop(wrong.code(125).says("--add-host"));
}

#[test]
fn without_a_network_there_is_loopback_alone_and_the_host_is_untouched() {
    let (private, sandbox) = alone("none");
    let before = HostState::of(private.host());
    let report = sandbox.probe(&["--network", "none"], &["report"]);
    let report = report.run().ok().report();
    assert_eq!(report.links.keys().collect::<Vec<_>>(), ["lo"]);
    assert!(report.links["lo"].flags.contains(&"UP".to_owned()));
    assert_eq!(report.routes, []);
    HostState::of(private.host()).assert_same_as(&before);
}

#[test]
fn on_the_hosts_network_the_container_sees_what_the_host_sees() {
    let (private, sandbox) = with_outside("host");
    let before = HostState::of(private.host());
    let report = sandbox.probe(&["--network", "host"], &["report"]);
    let report = report.run().ok().report();
    let own = private.host().command("readlink").arg("/proc/self/ns/net");
    assert_eq!(report.namespaces["net"], own.run().ok().line());
    assert_eq!(report.links["eth0"].addresses[0], format!("{ADDRESS}/24"));
    let get = ["tcp-get", &format!("{OUTSIDE}:80")];
    let said = sandbox.probe(&["--network", "host"], &get).run().ok();
    assert_eq!(said.line(), format!("outside\n{ADDRESS}"));
    HostState::of(private.host()).assert_same_as(&before);
    // Names that the host knows, as 127.0.1.1 of Debian's, the container knows too.
    private.replace_file("/etc/hosts", "127.0.0.1\tlocalhost\n192.0.2.7\tgit.intern");
    let flags = ["--network", "host", "--add-host", "db:192.0.2.8"];
    let report = sandbox.probe(&flags, &["report"]).run().ok().report();
    assert_eq!(
        report.etc["/etc/hosts"],
        "127.0.0.1\tlocalhost\n192.0.2.7\tgit.intern\n192.0.2.8\tdb\n"
    );
}

#[test]
fn forwarding_is_switched_on_where_it_is_off_said_once_and_given_back() {
    let (private, sandbox) = alone("forwarding");
    let before = HostState::of(private.host());
    let forwarding = || private.host().read("/proc/sys/net/ipv4/ip_forward");
    let first = sandbox.probe(&[], &["echo"]).run().ok();
    let first = first.says("switched on IPv4 forwarding");
    assert_eq!(first.stderr().matches("ip_forward").count(), 1);
    assert_eq!(forwarding(), "1\n");
    let second = sandbox.probe(&[], &["echo"]).run().ok();
    assert_eq!(second.stderr(), "");
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    assert_eq!(forwarding(), "0\n");
    HostState::of(private.host()).assert_same_as(&before);
}

#[test]
fn forwarding_that_was_on_stays_on() {
    let (private, sandbox) = alone("forwards");
    on_host(&sandbox, "echo 1 >/proc/sys/net/ipv4/ip_forward");
    let before = HostState::of(private.host());
    let run = sandbox.probe(&[], &["echo"]).run().ok();
    assert_eq!(run.stderr(), "");
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    HostState::of(private.host()).assert_same_as(&before);
}

/// The host becomes no router for others because mybox needs forwarding for its containers.
#[test]
fn forwarding_is_for_containers_alone() {
    let (private, sandbox) = with_outside("router");
    drop(sandbox.probe(&[], &["echo"]).run().ok());
    assert_others_are_not_forwarded(&private, &sandbox);
}

/// Docker takes it that the host forwards, and switches nothing on where it does already.
#[test]
fn others_that_have_bridges_are_forwarded_for_and_go_on_when_mybox_goes() {
    let (private, sandbox) = with_outside("docker");
    drop(sandbox.probe(&[], &["echo"]).run().ok());
    on_host(
        &sandbox,
        "ip link add name docker0 type bridge && ip link set docker0 up \
         && ip address add 172.17.0.1/16 dev docker0 \
         && ip link add name port type veth peer name inside \
         && ip link set port up master docker0 \
         && nft add table ip theirs \
         && nft add chain ip theirs nat '{ type nat hook postrouting priority 100; }' \
         && nft add rule ip theirs nat oifname eth0 masquerade",
    );
    // Another network namespace, as of a container of theirs.
    let inside = private
        .host()
        .command("unshare")
        .args(["--net", "sh", "-c", "echo ready; exec cat"])
        .spawn();
    inside.wait_for("ready");
    let pid = inside.pid();
    on_host(
        &sandbox,
        &format!(
            "ip link set inside netns {pid} && nsenter -t {pid} --net sh -c \
             'ip link set inside up && ip address add 172.17.0.2/16 dev inside \
              && ip route add default via 172.17.0.1'"
        ),
    );
    let get = || {
        let nsenter = private.host().command("nsenter");
        let inside = nsenter.args(["-t", &pid.to_string(), "--net", "--"]);
        let words = ["tcp-get", &format!("{OUTSIDE}:80")];
        drop(inside.arg(probe()).args(words).run().ok());
    };
    get();
    let removed = sandbox.mybox(["network", "rm"]).run().ok();
    drop(removed.says("stays on, since bridge docker0 needs it"));
    get();
    // Everybody else finds the host as closed as before.
    let rules = on_host(&sandbox, "nft list table ip mybox").stdout();
    assert!(rules.contains("drop"), "{rules}");
    on_host(&sandbox, "ip link delete docker0");
    drop(sandbox.probe(&[], &["echo"]).run().ok());
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    let forwarding = private.host().read("/proc/sys/net/ipv4/ip_forward");
    assert_eq!(forwarding, "0\n");
    inside.signal(Signal::KILL);
    drop(inside.wait());
}

/// Sends a packet from the outside through the host to another network, and looks whether it came
/// as far as a rule behind mybox's own.
#[track_caller]
fn assert_others_are_not_forwarded(private: &PrivateHost, sandbox: &Sandbox) {
    on_host(
        sandbox,
        "ip link add name far type veth peer name away && ip link set away up \
         && ip link set far up \
         && ip address add 198.51.100.1/24 dev far \
         && nft add table ip seen \
         && nft add chain ip seen c '{ type filter hook forward priority 100; }' \
         && nft add rule ip seen c ip daddr 198.51.100.9 counter",
    );
    let route = ["route", "add", "198.51.100.0/24", "via", ADDRESS];
    private.outside("ip").args(route).run().ok();
    let packets_seen_after = |command: &str| {
        on_host(sandbox, command);
        let probe = probe().to_str().expect("a plain path");
        let ping = private.outside(probe).args(["ping", "198.51.100.9"]);
        drop(ping.run().code(1));
        let rules = on_host(sandbox, "nft list table ip seen").stdout();
        let count = rules.split("counter packets ").nth(1).expect("a counter");
        count.split(' ').next().map(str::to_owned)
    };
    assert_eq!(packets_seen_after("true").as_deref(), Some("0"));
    // Without the guard it is seen: the test would notice.
    let unguarded = packets_seen_after("nft flush chain ip mybox guard");
    assert_eq!(unguarded.as_deref(), Some("1"));
}

#[test]
fn a_firewall_that_somebody_has_flushed_is_put_back_by_the_next_run() {
    let (private, sandbox) = with_outside("flushed");
    let before = HostState::of(private.host());
    drop(sandbox.probe(&[], &["echo"]).run().ok());
    let complete = on_host(&sandbox, "nft list ruleset").stdout();
    on_host(&sandbox, "nft flush ruleset");
    assert_eq!(
        ask(&sandbox, &["tcp-get", &format!("{OUTSIDE}:80")]),
        format!("outside\n{ADDRESS}")
    );
    assert_eq!(on_host(&sandbox, "nft list ruleset").stdout(), complete);
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    HostState::of(private.host()).assert_same_as(&before);
}

/// As network managers do it, and `nft flush table`, which leaves the chains.
#[test]
fn an_address_or_rules_that_the_network_has_lost_are_put_back_by_the_next_run() {
    let (_private, sandbox) = with_outside("lost");
    drop(sandbox.probe(&[], &["echo"]).run().ok());
    let complete = on_host(&sandbox, "nft list ruleset").stdout();
    let flush_address = format!("ip address flush dev {}", sandbox.bridge());
    for lose in [&flush_address, "nft flush table ip mybox"] {
        on_host(&sandbox, lose);
        let get = ["tcp-get", &format!("{OUTSIDE}:80")];
        assert_eq!(ask(&sandbox, &get), format!("outside\n{ADDRESS}"), "{lose}");
        assert_eq!(on_host(&sandbox, "nft list ruleset").stdout(), complete);
    }
}

#[test]
fn a_network_is_removed_though_its_firewall_is_gone() {
    let (private, sandbox) = alone("flushed-rm");
    let before = HostState::of(private.host());
    drop(sandbox.probe(&[], &["echo"]).run().ok());
    on_host(&sandbox, "nft flush ruleset");
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    HostState::of(private.host()).assert_same_as(&before);
}

#[test]
fn a_network_whose_record_is_damaged_is_removed_and_made_anew() {
    let (private, sandbox) = alone("damaged");
    let before = HostState::of(private.host());
    let record = format!("networks/{}.json", sandbox.bridge());
    let record = sandbox.root().join(record);
    let removal = format!("`mybox network rm {}`", sandbox.bridge());
    for prepare in ["true", "ip link delete $0"] {
        drop(sandbox.probe(&[], &["echo"]).run().ok());
        on_host(&sandbox, &prepare.replace("$0", sandbox.bridge()));
        std::fs::write(&record, "{").expect("damage the record");
        let refused = sandbox.probe(&[], &["echo"]).run().code(125);
        drop(refused.says(&record.display().to_string()).says(&removal));
        drop(
            sandbox
                .mybox(["network", "ls"])
                .run()
                .code(1)
                .says(&removal),
        );
        let remove = ["network", "rm", sandbox.bridge()];
        drop(sandbox.mybox(remove).run().ok());
        assert!(!record.exists());
        HostState::of(private.host()).assert_same_as(&before);
    }
}

#[test]
fn of_a_network_that_was_removed_by_hand_the_rules_go_too() {
    let (private, sandbox) = alone("by-hand");
    let before = HostState::of(private.host());
    drop(sandbox.probe(&[], &["echo"]).run().ok());
    on_host(&sandbox, &format!("ip link delete {}", sandbox.bridge()));
    std::fs::remove_dir_all(sandbox.root().join("networks")).expect("remove the records");
    let remove = ["network", "rm", sandbox.bridge()];
    drop(sandbox.mybox(remove).run().ok());
    HostState::of(private.host()).assert_same_as(&before);
    let _ = sandbox.mybox(remove).run().code(1).says("no network");
}

#[test]
fn rules_of_others_are_left_alone() {
    let (private, sandbox) = alone("others");
    on_host(
        &sandbox,
        "nft add table inet theirs && nft add chain inet theirs c '{ type filter hook input priority 0; }' \
         && nft add rule inet theirs c tcp dport 9 drop",
    );
    let before = HostState::of(private.host());
    drop(sandbox.probe(&[], &["echo"]).run().ok());
    drop(sandbox.mybox(["network", "rm"]).run().ok());
    HostState::of(private.host()).assert_same_as(&before);
}

#[test]
fn the_bridge_of_another_root_is_refused() {
    let (_private, sandbox) = alone("other-root");
    let other = sandbox.scratch().join("root");
    drop(sandbox.probe(&[], &["echo"]).run().ok());
    let theirs = |arguments: &[&str]| sandbox.mybox(arguments).env("MYBOX_ROOT", &other);
    let tiny = Rootfs::tiny().tar();
    drop(theirs(&["import", "-", "tiny"]).stdin(tiny).run().ok());
    let refused = theirs(&["run", "--rm", "tiny", "true"]).run().code(125);
    let owner = format!("belongs to the mybox root {}", sandbox.root().display());
    let refused = refused.says(&owner);
    assert!(refused.stderr().contains(sandbox.bridge()));
    drop(theirs(&["network", "rm"]).run().code(1).says(&owner));
    assert!(!sandbox.host().networks(sandbox.bridge()).is_empty());
}

#[test]
fn an_interface_that_is_not_ours_is_refused_and_left_alone() {
    let (private, sandbox) = alone("not-ours");
    for kind in ["bridge", "veth"] {
        on_host(
            &sandbox,
            &format!("ip link add name {} type {kind}", sandbox.bridge()),
        );
        let before = HostState::of(private.host());
        let refused = sandbox.probe(&[], &["echo"]).run().code(125);
        drop(refused.says("exists and is not a bridge of mybox"));
        let removal = sandbox.mybox(["network", "rm"]).run().code(1);
        assert!(removal.stderr().contains("not"), "{}", removal.stderr());
        HostState::of(private.host()).assert_same_as(&before);
        on_host(&sandbox, &format!("ip link delete {}", sandbox.bridge()));
    }
}

#[test]
fn a_network_in_use_is_not_removed() {
    let (_private, sandbox) = alone("in-use");
    let (server, _) = server(&sandbox, &["--name", "user"]);
    let refused = sandbox.mybox(["network", "rm"]).run().code(1);
    let words = format!("network {} is in use by user", sandbox.bridge());
    drop(refused.says(&words));
    assert_eq!(
        ask(&sandbox, &["tcp-get", "10.10.0.2:80"]),
        "hello\n10.10.0.3"
    );
    server.end();
    let removed = sandbox.mybox(["network", "rm"]).run().ok();
    assert_eq!(removed.line(), sandbox.bridge());
    let again = sandbox.mybox(["network", "rm"]).run().code(1);
    drop(again.says("there is no network"));
}

#[test]
fn networks_are_listed() {
    let (_private, sandbox) = alone("ls");
    let list = || sandbox.mybox(["network", "ls", "--json"]).run().ok();
    assert_eq!(list().stdout_json(), serde_json::json!([]));
    let (server, _) = server(&sandbox, &[]);
    let row = |up: bool, containers: u32| {
        serde_json::json!([{
            "bridge": sandbox.bridge(),
            "subnet": "10.10.0.0/16",
            "gateway": "10.10.0.1",
            "up": up,
            "containers": containers,
        }])
    };
    assert_eq!(list().stdout_json(), row(true, 1));
    let table = sandbox.mybox(["network", "ls"]).run().ok().stdout();
    let words: Vec<&str> = table.split_whitespace().collect();
    let header = ["BRIDGE", "SUBNET", "GATEWAY", "STATE", "CONTAINERS"];
    assert_eq!(words[..5], header);
    assert_eq!(
        words[5..],
        [sandbox.bridge(), "10.10.0.0/16", "10.10.0.1", "up", "1"]
    );
    server.end();
    on_host(&sandbox, &format!("ip link set {} down", sandbox.bridge()));
    assert_eq!(list().stdout_json(), row(false, 0));
}

/// As CVE-2020-13401 of Docker: a container could give the host routes.
#[test]
fn router_advertisements_of_containers_are_taken_by_nobody() {
    let (_private, sandbox) = alone("adverts");
    let setting = |link: &str| format!("cat /proc/sys/net/ipv6/conf/{link}/accept_ra");
    let of_container = |flags: &[&str]| {
        let (server, _) = server(&sandbox, flags);
        let pid = sandbox.container_pid();
        let read = format!("nsenter -t {pid} --net {}", setting("eth0"));
        let value = on_host(&sandbox, &read).line();
        server.end();
        value
    };
    assert_eq!(of_container(&[]), "0");
    let wanted = ["--sysctl", "net.ipv6.conf.eth0.accept_ra=1"];
    assert_eq!(of_container(&wanted), "1");
    assert_eq!(on_host(&sandbox, &setting(sandbox.bridge())).line(), "0");
}

#[test]
fn hardware_addresses_follow_addresses_and_the_bridge_keeps_its_own() {
    let (private, sandbox) = alone("mac");
    let bridge = || {
        let path = format!("/sys/class/net/{}/address", sandbox.bridge());
        private.host().read(&path)
    };
    let (one, _) = server(&sandbox, &[]);
    let before = bridge();
    let mac = || {
        let report = sandbox.probe(&[], &["report"]).run().ok().report();
        report.links["eth0"].mac.clone()
    };
    // The server has 10.10.0.2. Who comes after somebody has its address, and its hardware address
    // too: neighbours that remember the one before find it.
    assert_eq!(mac().as_deref(), Some("02:42:0a:0a:00:03"));
    assert_eq!(mac().as_deref(), Some("02:42:0a:0a:00:03"));
    assert_eq!(bridge(), before);
    one.end();
    assert_eq!(bridge(), before);
}
