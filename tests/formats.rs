//! `--format`: what listings and `inspect` print as a template says, with Docker's names.

use crate::detached::remove;
use crate::harness::Sandbox;

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
        // And mybox's own.
        ("{{.ending.code}}", "done", "3"),
    ] {
        assert_eq!(ask(template, name), expected, "{template} of {name}");
    }
    let pid = ask("{{.State.Pid}}", "web");
    assert_eq!(pid, sandbox.container_pid().to_string());
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
    assert_eq!(
        ask("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"),
        "10.10.0.2"
    );
    remove(&sandbox, "web");
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
        &["inspect", "-f", "{{.Id}}", "nobody"],
        1,
        "no such image: nobody",
    );
}
