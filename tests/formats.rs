//! `--format`: what listings and `inspect` print as a template says, with Docker's names.

use crate::detached::remove;
use crate::harness::{Rootfs, Sandbox};

/// A container `web` that runs, one `done` that has ended with code 3, made before it.
fn ground(name: &str) -> Sandbox {
    let sandbox = Sandbox::tiny(name);
    let done = ["run", "--name", "done", "--network", "none", "tiny"];
    let done = sandbox.mybox(done).args(["probe", "exit", "3"]);
    drop(done.run().code(3));
    let flags = ["--label", "tier=front", "-e", "A=b", "--hostname", "h"];
    let more = ["--restart", "on-failure:4", "-m", "64m", "--cpus", "0.5"];
    let volume = ["-v", "store:/data", "-v", "/usr:/mnt:ro", "-u", "7:8"];
    let run = sandbox.mybox(["run", "-d", "--name", "web", "--network", "none"]);
    let run = run.args(flags).args(more).args(volume);
    drop(run.args(["tiny", "sleep", "600"]).run().ok());
    sandbox
}

fn clean(sandbox: &Sandbox) {
    remove(sandbox, "web");
    remove(sandbox, "done");
    drop(sandbox.mybox(["volume", "rm", "store"]).run().ok());
}

#[test]
fn ps_prints_lines_tables_and_objects() {
    let sandbox = ground("psformat");
    let ps = |words: &[&str]| sandbox.mybox(["ps"]).args(words).run().ok().stdout();
    let names = |flags: &[&str]| ps(&[flags, &["--format", "{{.Names}}"]].concat());
    assert_eq!(names(&[]), "web\n");
    assert_eq!(names(&["-a"]), "web\ndone\n");
    assert_eq!(names(&["-l"]), "web\n");
    assert_eq!(names(&["-n", "5"]), "web\ndone\n");
    assert_eq!(names(&["-a", "--filter", "exited=3"]), "done\n");
    let line = "{{.Names}} {{.State}} {{.Labels}} {{.Image}} {{.Command}} {{.LocalVolumes}}";
    assert_eq!(
        ps(&["--format", line]),
        "web running tier=front tiny \"sleep 600\" 1\n"
    );
    assert_eq!(
        ps(&["-a", "--format", r"table {{.Names}}\t{{.State}}"]),
        "NAMES   STATE\nweb     running\ndone    exited\n"
    );
    assert_eq!(ps(&["-a", "--format", "table"]), ps(&["-a"]));
    let object: serde_json::Value =
        serde_json::from_str(&ps(&["--format", "json"])).expect("one object");
    assert_eq!(
        (&object["Names"], &object["State"]),
        (&"web".into(), &"running".into())
    );
    assert_eq!(object.get("Label"), None);
    assert_eq!(object["Networks"], "none");
    assert_eq!(
        ps(&["--format", "{{.Networks}} {{.Mounts}}"]),
        "none store,/usr\n"
    );
    let labels = r#"{{.Names}} {{.Label "tier"}}{{if .Label "no"}}no{{end}}"#;
    assert_eq!(ps(&["-a", "--format", labels]), "web front\ndone \n");
    let table = r#"table {{.Names}}\t{{.Label "tier"}}"#;
    assert_eq!(ps(&["--format", table]), "NAMES   tier\nweb     front\n");
    let whole = ps(&["--no-trunc", "--format", "{{.ID}}"]);
    assert_eq!(whole.trim_end().len(), 64);
    assert_eq!(ps(&["-q", "--no-trunc"]), whole);
    clean(&sandbox);
}

#[test]
fn images_and_volumes_have_dockers_fields() {
    let sandbox = ground("imgformat");
    let said = |words: &[&str]| sandbox.mybox(words).run().ok().stdout();
    let name = "{{.Repository}}:{{.Tag}}";
    assert_eq!(said(&["images", "--format", name]), "tiny:latest\n");
    let id = said(&["images", "--format", "{{.ID}}"]);
    assert_eq!(id, said(&["images", "-q"]));
    assert_eq!(
        said(&[
            "volume",
            "ls",
            "--format",
            "{{.Name}} {{.Driver}} {{.Containers}}"
        ]),
        "store local web\n"
    );
    let inspect = [
        "volume",
        "inspect",
        "-f",
        "{{.Mountpoint}} {{.Scope}}",
        "store",
    ];
    let data = sandbox.root().join("volumes/store/data");
    assert_eq!(said(&inspect), format!("{} local\n", data.display()));
    let table = said(&["images", "--format", r"table {{.Tag}}\t{{.Platform}}"]);
    assert!(
        table.starts_with("TAG      PLATFORM\nlatest   linux/"),
        "{table}"
    );
    clean(&sandbox);
}

#[test]
fn inspect_answers_dockers_questions() {
    let sandbox = ground("inspformat");
    let ask = |template: &str, name: &str| {
        let inspect = sandbox.mybox(["inspect", "-f", template, name]);
        inspect.run().ok().line()
    };
    for (template, name, expected) in [
        (
            "{{.Name}} {{.State.Status}} {{.State.Running}}",
            "web",
            "/web running true",
        ),
        (
            "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}",
            "done",
            "exited 3 0",
        ),
        ("{{.Path}} {{json .Args}}", "web", r#"sleep ["600"]"#),
        ("{{.Config.Hostname}} {{.Config.User}}", "web", "h 7:8"),
        ("{{index .Config.Labels \"tier\"}}", "web", "front"),
        (
            "{{range .Config.Env}}{{if eq . \"A=b\"}}found{{end}}{{end}}",
            "web",
            "found",
        ),
        (
            "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}",
            "web",
            "67108864 500000000",
        ),
        (
            "{{with .HostConfig.RestartPolicy}}{{.Name}}:{{.MaximumRetryCount}}{{end}}",
            "web",
            "on-failure:4",
        ),
        ("{{join .HostConfig.Binds \",\"}}", "web", "/usr:/mnt:ro"),
        (
            "{{range .Mounts}}{{.Type}}:{{.Destination}}:{{.RW}} {{end}}",
            "web",
            "volume:/data:true bind:/mnt:false",
        ),
        ("{{.HostConfig.NetworkMode}}", "web", "none"),
        (
            "{{if .State.Health}}checked{{else}}unchecked{{end}}",
            "web",
            "unchecked",
        ),
        (
            "{{join .RepoTags \" \"}} {{.Os}} {{len .RootFS.Layers}}",
            "tiny",
            "tiny:latest linux 1",
        ),
        ("{{.Config.Labels.nope}}", "web", "<no value>"),
        (
            "{{.State.Health}} {{.Config.Healthcheck}}",
            "web",
            "<nil> <nil>",
        ),
        ("{{.Config.Entrypoint}} {{.Config.OnBuild}}", "web", "[] []"),
        ("{{.HostConfig.Links}} {{.ExecIDs}}", "web", "[] []"),
        ("{{.HostConfig.PidsLimit}}", "web", "<nil>"),
        ("{{json .HostConfig.PidsLimit}}", "web", "null"),
        ("{{.HostConfig.Runtime}}", "web", "mybox"),
        (
            "{{printf \"%.7s\" .Image}} {{slice .Name 1}}",
            "web",
            "sha256: web",
        ),
        // And mybox's own.
        ("{{.ending.code}} {{.labels.nope}}", "done", "3 <no value>"),
    ] {
        assert_eq!(ask(template, name), expected, "{template} of {name}");
    }
    let pid = ask("{{.State.Pid}}", "web");
    assert_eq!(pid, sandbox.container_pid().to_string());
    let namespace = ask("{{.NetworkSettings.SandboxKey}}", "web");
    assert_eq!(namespace, format!("/proc/{pid}/ns/net"));
    let hosts = std::fs::read_to_string(ask("{{.HostsPath}}", "web")).expect("its hosts");
    assert!(hosts.contains("\th\n"), "{hosts}");
    let image = ask("{{.Image}}", "web");
    assert_eq!(image, ask("{{.Id}}", "tiny"));
    let started = ask("{{.State.StartedAt}}", "web");
    assert!(
        started.starts_with("20") && started.ends_with('Z'),
        "{started}"
    );
    clean(&sandbox);
}

#[test]
fn inspect_tells_what_was_asked_for_under_dockers_names() {
    let sandbox = Sandbox::tiny("askedformat");
    let create = ["create", "--name", "web", "--network", "none"];
    let names = [
        "--dns",
        "9.9.9.9",
        "--dns-search",
        "a.b",
        "--add-host",
        "db:10.0.0.5",
    ];
    let mounts = ["--tmpfs", "/run:size=1m", "--shm-size", "8m", "-v", "/data"];
    let limits = ["--ulimit", "nofile=5:9", "-m", "64m", "--cpus", "0.5"];
    let rights = ["--security-opt", "no-new-privileges", "--group-add", "7"];
    let more = [
        "--pid",
        "host",
        "--oom-score-adj",
        "100",
        "--log-opt",
        "max-file=4",
    ];
    let run = [
        "--entrypoint",
        "probe",
        "--health-cmd",
        "true",
        "--domainname",
        "d",
    ];
    let create = sandbox.mybox(create).args(names).args(mounts).args(limits);
    let create = create.args(rights).args(more).args(run);
    drop(create.args(["tiny", "exit", "3"]).run().ok());
    let ask = |template: &str| {
        let inspect = sandbox.mybox(["inspect", "-f", template, "web"]);
        inspect.run().ok().line()
    };
    for (template, expected) in [
        ("{{.Config.Entrypoint}} {{.Config.Cmd}}", "[probe] [exit 3]"),
        ("{{.Config.Domainname}}", "d"),
        ("{{json .Config.Volumes}}", r#"{"/data":{}}"#),
        (
            "{{.Config.AttachStdin}} {{.Config.AttachStdout}}",
            "false true",
        ),
        (
            "{{json .Config.Healthcheck.Test}}",
            r#"["CMD-SHELL","true"]"#,
        ),
        ("{{.Config.Healthcheck.Interval}}", "30000000000"),
        (
            "{{.HostConfig.Dns}} {{.HostConfig.DnsSearch}}",
            "[9.9.9.9] [a.b]",
        ),
        ("{{.HostConfig.ExtraHosts}}", "[db:10.0.0.5]"),
        ("{{json .HostConfig.Tmpfs}}", r#"{"/run":"size=1m"}"#),
        ("{{.HostConfig.ShmSize}}", "8388608"),
        (
            "{{json .HostConfig.Ulimits}}",
            r#"[{"Hard":9,"Name":"nofile","Soft":5}]"#,
        ),
        ("{{.HostConfig.MemorySwap}}", "134217728"),
        (
            "{{.HostConfig.CpuQuota}}/{{.HostConfig.CpuPeriod}}",
            "50000/100000",
        ),
        ("{{.HostConfig.SecurityOpt}}", "[no-new-privileges]"),
        ("{{.HostConfig.GroupAdd}}", "[7]"),
        (
            "{{.HostConfig.PidMode}} {{.HostConfig.IpcMode}}",
            "host private",
        ),
        ("{{.HostConfig.OomScoreAdj}}", "100"),
        (
            "{{with .HostConfig.LogConfig}}{{.Type}} {{index .Config \"max-file\"}}{{end}}",
            "local 4",
        ),
        ("{{.HostConfig.PublishAllPorts}}", "false"),
        (
            "{{json .NetworkSettings.SandboxKey}} {{json .ExecIDs}}",
            r#""" null"#,
        ),
        ("{{.GraphDriver.Name}}", "overlay2"),
    ] {
        assert_eq!(ask(template), expected, "{template}");
    }
    let dir = sandbox.root().join("containers").join(ask("{{.Id}}"));
    let upper = dir.join("upper").display().to_string();
    assert_eq!(ask("{{.GraphDriver.Data.UpperDir}}"), upper);
    for field in ["ResolvConfPath", "HostsPath", "HostnamePath"] {
        let path = ask(&format!("{{{{.{field}}}}}"));
        assert!(
            path.is_empty() || std::path::Path::new(&path).exists(),
            "{path}"
        );
    }
    remove(&sandbox, "web");
}

#[test]
fn inspect_has_dockers_fields_of_an_image_that_says_nothing_of_them() {
    let sandbox = Sandbox::tiny("saysnothing");
    let ask = |template: &str, image: &str| {
        let inspect = sandbox.mybox(["inspect", "-f", template, image]);
        inspect.run().ok().line()
    };
    sandbox.import_with("told", Rootfs::tiny(), &["USER 7:8"]);
    for (template, expected) in [
        ("{{json .Config.Env}} {{json .Config.Cmd}}", "null null"),
        ("{{.Config.Env}} {{.Config.Labels}}", "[] map[]"),
        ("<{{index .Config.Labels \"x\"}}>", "<>"),
        (
            "{{.Config.Labels.x}} {{json .Config.Labels}}",
            "<no value> null",
        ),
        ("{{json .Config.ExposedPorts}}", "null"),
        ("{{json .Config.Healthcheck}}", "null"),
        ("<{{.Config.User}}{{.Config.WorkingDir}}>", "<>"),
        ("<{{.Config.StopSignal}}{{.Config.Hostname}}>", "<>"),
        ("{{if .Config.OnBuild}}a{{else}}none{{end}}", "none"),
        ("<{{.Parent}}{{.DockerVersion}}{{.Variant}}>", "<>"),
        (
            "{{.GraphDriver.Name}} {{eq .Size .VirtualSize}}",
            "overlay2 true",
        ),
        ("{{.Metadata.LastTagTime}}", "0001-01-01T00:00:00Z"),
    ] {
        assert_eq!(ask(template, "tiny"), expected, "{template}");
    }
    // What it says is there beside what it does not.
    assert_eq!(
        ask("{{.Config.User}} {{json .Config.Env}}", "told"),
        "7:8 null"
    );
}

#[test]
fn published_ports_are_where_scripts_look_for_them() {
    let private = crate::harness::PrivateHost::new();
    let sandbox = Sandbox::on(private.host(), "portformat");
    sandbox.import_tiny();
    let run = sandbox.mybox(["run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80"]);
    drop(run.args(["tiny", "sleep", "600"]).run().ok());
    let ask = |template: &str| {
        let inspect = sandbox.mybox(["inspect", "--format", template, "web"]);
        inspect.run().ok().line()
    };
    assert_eq!(
        ask("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}"),
        "8080"
    );
    assert_eq!(
        ask("{{range $p, $to := .NetworkSettings.Ports}}{{$p}} {{(index $to 0).HostIp}}{{end}}"),
        "80/tcp 127.0.0.1"
    );
    assert_eq!(ask("{{.NetworkSettings.IPAddress}}"), "10.10.0.2");
    let place = "{{.Gateway}}/{{.IPPrefixLen}} {{.MacAddress}}";
    let expected = "10.10.0.1/16 02:42:0a:0a:00:02";
    for at in [".NetworkSettings", ".NetworkSettings.Networks.bridge"] {
        assert_eq!(
            ask(&format!("{{{{with {at}}}}}{place}{{{{end}}}}")),
            expected
        );
    }
    assert_eq!(ask("{{json .Config.ExposedPorts}}"), r#"{"80/tcp":{}}"#);
    assert_eq!(
        ask("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"),
        "10.10.0.2"
    );
    remove(&sandbox, "web");
}

#[test]
fn stats_has_dockers_fields_of_what_each_uses() {
    let sandbox = ground("statsformat");
    let stats = |words: &[&str]| {
        let stats = sandbox.mybox(["stats", "--no-stream"]).args(words);
        stats.run().ok().stdout()
    };
    let line = "{{.Container}} {{.Name}} {{.PIDs}} {{.NetIO}} {{.MemUsage}}";
    let said = stats(&["--format", line, "web"]);
    assert!(said.starts_with("web web 1 0B / 0B "), "{said}");
    assert!(said.ends_with(" / 64MiB\n"), "{said}");
    let id = sandbox.mybox(["ps", "-q"]).run().ok().line();
    let ids = stats(&["--format", "{{.Container}} {{.ID}}"]);
    assert_eq!(ids, format!("{id} {id}\n"));
    let whole = stats(&["--no-trunc", "--format", "{{.ID}}"]);
    assert!(whole.starts_with(&id) && whole.len() == 65, "{whole}");
    // In the order in which they are named; who does not run uses nothing.
    let both = stats(&[
        "--format",
        "{{.Name}} {{.PIDs}} {{.CPUPerc}}",
        "done",
        "web",
    ]);
    let lines: Vec<&str> = both.lines().collect();
    assert_eq!(lines[0], "done 0 0.00%");
    assert!(
        lines[1].starts_with("web 1 ") && lines[1].ends_with('%'),
        "{both}"
    );
    assert_eq!(
        stats(&["--format", r"table {{.Name}}\t{{.PIDs}}"]),
        "NAME   PIDS\nweb    1\n"
    );
    let object: serde_json::Value =
        serde_json::from_str(&stats(&["--format", "json"])).expect("one object");
    assert_eq!(object["Name"], "web");
    assert_eq!(object["BlockIO"], "0B / 0B");
    clean(&sandbox);
}

#[test]
fn events_have_dockers_fields_in_templates_and_as_json() {
    let sandbox = ground("eventsformat");
    let events = |filter: &str, format: &str| {
        let all = ["events", "--since", "0", "--until", "0s", "-f", filter];
        let events = sandbox.mybox(all).args(["--format", format]);
        events.run().ok().stdout()
    };
    let line =
        "{{.Type}} {{.Action}} {{.Actor.Attributes.exitCode}} {{.From}} {{.Status}} {{.Scope}}";
    assert_eq!(
        events("event=die", line),
        "container die 3 tiny die local\n"
    );
    // What one event has not is nothing, and does not end the others.
    let code = "{{.Action}} {{.Actor.Attributes.exitCode}}";
    let all = events("container=done", code);
    assert!(all.starts_with("create <no value>\n"), "{all}");
    assert!(all.contains("die 3\n"), "{all}");
    let id = events("event=die", "{{.Actor.ID}}");
    assert_eq!(id, events("event=die", "{{.ID}}"));
    assert_eq!(id.len(), 65);
    let volume = "{{.Type}} {{.Actor.ID}} {{.Actor.Attributes.driver}} {{.ID}}{{.From}}.";
    assert_eq!(
        events("volume=store", volume).lines().next(),
        Some("volume store local .")
    );
    let text = events("event=die", "json");
    assert_eq!(text, events("event=die", "{{json .}}"));
    let object: serde_json::Value = serde_json::from_str(&text).expect("one object");
    assert_eq!(object["Type"], "container");
    assert_eq!(object["Actor"]["ID"], id.trim_end());
    assert_eq!(object["status"], "die");
    let times = events("event=die", "{{.Time}} {{.TimeNano}}");
    assert_eq!(
        times,
        format!("{} {}\n", object["time"], object["timeNano"])
    );
    clean(&sandbox);
}

#[test]
fn what_a_label_has_is_no_order_to_the_terminal() {
    let sandbox = Sandbox::tiny("labelformat");
    let run = sandbox.run(["--label", "a=\x1b[2J", "tiny", "true"]);
    drop(run.run().ok());
    let die = ["events", "--since", "0", "--until", "0s", "-f", "event=die"];
    let said = |format: &str| {
        let events = sandbox.mybox(die).args(["--format", format]);
        events.run().ok().stdout()
    };
    assert_eq!(said("{{.Actor.Attributes.a}}"), "\\u{1b}[2J\n");
    // JSON has its own way to say it, and is for programs.
    let object: serde_json::Value = serde_json::from_str(&said("json")).expect("one object");
    assert_eq!(object["Actor"]["Attributes"]["a"], "\x1b[2J");
}

#[test]
fn info_and_version_answer_dockers_questions() {
    let sandbox = ground("infoformat");
    let ask = |verb: &str, template: &str| {
        sandbox
            .mybox([verb, "--format", template])
            .run()
            .ok()
            .line()
    };
    let own = env!("CARGO_PKG_VERSION");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release");
    let release = release.trim();
    let memory = std::fs::read_to_string("/proc/meminfo").expect("the memory");
    let memory = memory.split_whitespace().nth(1).expect("kilobytes");
    let memory: u64 = memory.parse().expect("a number");
    let version = match std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => "2",
        false => "1",
    };
    for (verb, template, expected) in [
        (
            "info",
            "{{.ServerVersion}} {{.Driver}}",
            format!("{own} overlay2"),
        ),
        ("info", "{{.CgroupVersion}}", version.to_owned()),
        ("info", "{{.MemTotal}}", (memory * 1024).to_string()),
        ("info", "{{.KernelVersion}}", release.to_owned()),
        (
            "info",
            "{{.DockerRootDir}}",
            sandbox.root().display().to_string(),
        ),
        (
            "info",
            "{{.OSType}} {{.Swarm.LocalNodeState}}",
            "linux inactive".to_owned(),
        ),
        (
            "info",
            "{{.CPUCfsQuota}} {{.CpuCfsQuota}}",
            "true true".to_owned(),
        ),
        (
            "info",
            "{{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}}",
            "2 1 0 1".to_owned(),
        ),
        (
            "info",
            "{{.Images}} {{index .Plugins.Volume 0}}",
            "1 local".to_owned(),
        ),
        // And mybox's own.
        (
            "info",
            "{{.storage.runRoot}}",
            sandbox.run_root().display().to_string(),
        ),
        (
            "version",
            "{{.Client.Version}} {{.Server.Version}}",
            format!("{own} {own}"),
        ),
        (
            "version",
            "{{.Server.Os}} {{.Server.KernelVersion}}",
            format!("linux {release}"),
        ),
        ("version", "{{.kernel}}", release.to_owned()),
    ] {
        assert_eq!(ask(verb, template), expected, "{verb} {template}");
    }
    drop(sandbox.mybox(["pause", "web"]).run().ok());
    let counts = "{{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}}";
    assert_eq!(ask("info", counts), "0 1 1");
    drop(sandbox.mybox(["unpause", "web"]).run().ok());
    let info: serde_json::Value = serde_json::from_str(&ask("info", "json")).expect("one line");
    assert_eq!(info["NCPU"], info["cpus"]);
    let version: serde_json::Value =
        serde_json::from_str(&ask("version", "json")).expect("one line");
    assert_eq!(version["Client"]["Version"], own);
    let missing = sandbox.mybox(["version", "-f", "{{.Server.APIVersion}}"]);
    drop(
        missing
            .run()
            .code(1)
            .says("no field `APIVersion`; there are Arch"),
    );
    clean(&sandbox);
}

#[test]
fn networks_steps_and_kinds_have_dockers_fields() {
    let sandbox = Sandbox::tiny("moreformat");
    let said = |words: &[&str]| sandbox.mybox(words).run().ok().stdout();
    assert_eq!(said(&["network", "ls", "-q"]), "");
    drop(sandbox.mybox(["run", "--rm", "tiny", "true"]).run().ok());
    let bridge = sandbox.bridge();
    let line = "{{.ID}} {{.Name}} {{.Driver}} {{.Scope}} {{.Containers}}";
    assert_eq!(
        said(&["network", "ls", "--format", line]),
        format!("{bridge} {bridge} bridge local 0\n")
    );
    assert_eq!(said(&["network", "ls", "-q"]), format!("{bridge}\n"));
    let table = said(&["network", "ls"]);
    assert!(table.starts_with("BRIDGE "), "{table}");
    let object = said(&["network", "ls", "--format", "json"]);
    let object: serde_json::Value = serde_json::from_str(&object).expect("one object");
    assert_eq!(object["Name"], bridge);
    assert_eq!(
        said(&["history", "--format", "{{.CreatedBy}}:{{.Comment}}", "tiny"]),
        "mybox import:\n"
    );
    let since = r"table {{.ID}}\t{{.CreatedSince}}";
    let table = said(&["history", "--format", since, "tiny"]);
    assert!(table.starts_with("IMAGE          CREATED\n"), "{table}");
    let kinds = said(&["df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]);
    let kinds: Vec<&str> = kinds.lines().collect();
    assert_eq!((kinds[0], kinds[1]), ("Images 1 0", "Layers 1 0"));
    assert_eq!(
        said(&["df", "--format", "json"]).lines().count(),
        kinds.len()
    );
}

#[test]
fn what_cannot_be_printed_is_said() {
    let sandbox = Sandbox::tiny("badformat");
    let refused = |words: &[&str], code: i32, said: &str| {
        drop(sandbox.mybox(words).run().code(code).says(said));
    };
    refused(&["ps", "--format", "{{.Names"], 2, "`{{` without `}}`");
    refused(
        &["ps", "--format", "{{.Nmaes}}"],
        1,
        "no field `Nmaes`; there are Address",
    );
    refused(
        &["ps", "-q", "--format", "{{.ID}}"],
        2,
        "cannot be used with",
    );
    refused(
        &["inspect", "-f", "{{.State}}", "tiny"],
        1,
        "no field `State`",
    );
    refused(
        &["stats", "--no-stream", "--format", "{{.CPU}}"],
        1,
        "no field `CPU`; there are BlockIO",
    );
    refused(
        &["stats", "--json", "--format", "json"],
        2,
        "cannot be used with",
    );
    refused(&["events", "--format", "{{.Type"], 2, "without `}}`");
    refused(
        &["inspect", "-f", "{{.Id}}", "nobody"],
        1,
        "no such container or image: nobody\nhint: `mybox ps -a` lists",
    );
    let image = ["inspect", "--type", "image", "nobody"];
    refused(&image, 1, "no such image: nobody");
    let container = ["inspect", "--type", "container", "nobody"];
    refused(&container, 1, "no such container: nobody");
}

#[test]
fn inspect_of_an_ambiguous_beginning_names_what_it_fits() {
    let sandbox = Sandbox::tiny("ambiguousid");
    // Of 17 ids, two begin with the same digit.
    let mut ids: Vec<String> = Vec::new();
    let (first, second) = loop {
        let create = sandbox.mybox(["create", "--network", "none", "tiny", "true"]);
        let id = create.run().ok().line();
        let same = ids.iter().find(|other| other[..1] == id[..1]).cloned();
        ids.push(id.clone());
        if let Some(other) = same {
            break (other, id);
        }
    };
    let prefix = &first[..1];
    let refused = sandbox.mybox(["inspect", prefix]).run().code(1);
    let said = refused.stderr();
    assert!(
        said.contains(&format!("{prefix} is ambiguous: it fits the containers")),
        "{said}"
    );
    assert!(
        said.contains(&first[..12]) && said.contains(&second[..12]),
        "{said}"
    );
    // It is no question of containers what an image has as its whole name.
    drop(sandbox.mybox(["tag", "tiny", prefix]).run().ok());
    let image = sandbox.mybox(["inspect", "-f", "{{.Os}}", prefix]);
    assert_eq!(image.run().ok().line(), "linux");
    ids.iter().for_each(|id| remove(&sandbox, id));
}

#[test]
fn ps_tells_what_a_container_has_written_and_that_with_its_image() {
    let sandbox = Sandbox::tiny("pssize");
    for name in ["idle", "writer"] {
        let create = sandbox.mybox(["create", "--network", "none", "--name", name, "tiny"]);
        drop(create.arg("true").run().ok());
    }
    let file = sandbox.root().join("content");
    std::fs::write(&file, vec![b'x'; 1 << 20]).expect("a file of 1 MiB");
    let content = file.to_str().expect("a path");
    drop(sandbox.mybox(["cp", content, "writer:/content"]).run().ok());
    std::fs::remove_file(&file).expect("the file");
    let ps = |words: &[&str]| sandbox.mybox(["ps", "-a"]).args(words).run().ok().stdout();
    let sizes = ps(&["--format", "{{.Names}} {{.Size}}"]);
    let lines: Vec<&str> = sizes.lines().collect();
    assert!(lines[0].starts_with("writer 1.05MB (virtual "), "{sizes}");
    assert!(lines[1].starts_with("idle 0B (virtual "), "{sizes}");
    let image = sandbox
        .mybox(["images", "--format", "{{.Size}}"])
        .run()
        .ok();
    assert!(
        lines[1].ends_with(&format!("(virtual {})", image.line())),
        "{sizes}"
    );
    let inspect = sandbox.mybox(["inspect", "--size", "writer"]).run().ok();
    let document = inspect.stdout_json();
    let [written, whole] = ["SizeRw", "SizeRootFs"].map(|field| document[0][field].as_u64());
    assert!(
        written >= Some(1 << 20) && whole > written,
        "{written:?} {whole:?}"
    );
    let table = ps(&["-s"]);
    let heading = table.lines().next().expect("a heading");
    assert!(heading.ends_with(" SIZE"), "{table}");
    assert!(table.contains("1.05MB (virtual "), "{table}");
    assert!(!ps(&[]).contains("virtual"));
    drop(sandbox.mybox(["ps", "-s", "--json"]).run().code(2));
    remove(&sandbox, "idle");
    remove(&sandbox, "writer");
}
