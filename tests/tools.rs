//! What mybox says of itself and of the machine: completion, man pages, version, info.

use std::collections::BTreeSet;

use crate::harness::{Cmd, Sandbox};

/// The words of a command's help under "Commands:".
fn verbs(sandbox: &Sandbox, of: &[&str]) -> BTreeSet<String> {
    let help = sandbox.mybox(of).arg("--help").run().ok().stdout();
    let Some((_, listed)) = help.split_once("Commands:\n") else {
        return BTreeSet::new();
    };
    let lines = listed.lines().take_while(|line| line.starts_with("  "));
    // A verb is indented by two; the rest of a long description by more.
    let first = lines.filter(|line| !line.starts_with("   "));
    let words = first.filter_map(|line| line.split_whitespace().next());
    words
        .filter(|word| *word != "help")
        .map(Into::into)
        .collect()
}

#[test]
fn the_completion_of_each_shell_knows_all_verbs() {
    let sandbox = Sandbox::new("completion");
    let verbs = verbs(&sandbox, &[]);
    assert!(
        verbs.contains("run") && verbs.contains("layers"),
        "{verbs:?}"
    );
    for shell in ["bash", "zsh", "fish"] {
        let script = sandbox.mybox(["completion", shell]).run().ok().stdout();
        for verb in &verbs {
            assert!(script.contains(verb.as_str()), "{shell}: {verb}");
        }
        let parser = Cmd::new("sh")
            .args(["-c", "command -v \"$0\"", shell])
            .run();
        if parser.exit_code() == Some(0) {
            let file = sandbox.scratch().join(shell);
            std::fs::write(&file, script).expect("the script");
            Cmd::new(shell).arg("-n").arg(file).run().ok();
        }
    }
    let unknown = sandbox.mybox(["completion", "tcsh"]).run().code(2);
    drop(unknown.says("bash, zsh, fish"));
}

#[test]
fn bash_completes_verbs_and_flags() {
    let sandbox = Sandbox::new("bash");
    // Too long for an argument (execve(2): MAX_ARG_STRLEN): read from a file, as a shell does.
    let file = sandbox.scratch().join("completion.bash");
    let script = sandbox.mybox(["completion", "bash"]).run().ok().stdout();
    std::fs::write(&file, script).expect("write the script");
    let complete = |words: &str, word: &str| {
        let ask = format!(
            ". {file}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _mybox mybox {word} mybox; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file = file.display()
        );
        // One argument could not be so long.
        Cmd::new("bash").stdin(ask).run().ok().stdout()
    };
    assert_eq!(complete("mybox unpa", "unpa").trim(), "unpause");
    assert!(complete("mybox run --cap", "--cap").contains("--cap-drop"));
}

#[test]
fn each_verb_has_a_man_page() {
    let sandbox = Sandbox::new("man");
    let directory = sandbox.scratch().join("made/man");
    sandbox.mybox(["man"]).arg(&directory).run().ok();
    let mut pages: BTreeSet<String> = BTreeSet::from(["mybox.1".to_owned()]);
    for verb in verbs(&sandbox, &[]) {
        for below in verbs(&sandbox, &[&verb]) {
            pages.insert(format!("mybox-{verb}-{below}.1"));
        }
        pages.insert(format!("mybox-{verb}.1"));
    }
    for page in &pages {
        let text = std::fs::read_to_string(directory.join(page));
        let text = text.unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(
            text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"),
            "{page}"
        );
    }
    let refused = sandbox.mybox(["man", "/proc/nowhere"]).run().code(1);
    drop(refused.says("/proc/nowhere"));
}

#[test]
fn version_says_what_the_kernel_can_do() {
    let sandbox = Sandbox::new("version");
    let version = sandbox
        .mybox(["version", "--json"])
        .run()
        .ok()
        .stdout_json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release");
    assert_eq!(version["kernel"], release.trim());
    let form = sandbox.mybox(["layers", "form", "auto"]).run().ok().line();
    if sandbox.layer_form() == "auto" {
        assert_eq!(version["layerForm"], form.as_str());
    }
    let text = sandbox.mybox(["version"]).run().ok().stdout();
    assert!(
        text.contains(release.trim()) && text.contains("Form of layers:"),
        "{text}"
    );
}

#[test]
fn info_counts_containers_images_and_layers() {
    let sandbox = Sandbox::new("info");
    let info = || sandbox.mybox(["info", "--json"]).run().ok().stdout_json();
    let before = info();
    assert_eq!(before["containers"]["total"], 0);
    assert_eq!(before["images"], 0);
    assert_eq!(before["network"]["subnet"], serde_json::Value::Null);
    sandbox.import_tiny();
    let make = |name: &str| sandbox.mybox(["create", "--name", name, "tiny", "sleep", "600"]);
    make("new").run().ok();
    make("old").run().ok();
    sandbox.mybox(["start", "old"]).run().ok();
    sandbox.mybox(["pause", "old"]).run().ok();
    let running = info();
    let containers = &running["containers"];
    assert_eq!(containers["total"], 2);
    assert_eq!(containers["running"], 1);
    assert_eq!(containers["paused"], 1);
    assert_eq!(containers["created"], 1);
    assert_eq!(running["images"], 1);
    assert_eq!(running["layers"], 1);
    assert_eq!(running["network"]["up"], true);
    assert_eq!(running["network"]["bridge"], sandbox.bridge());
    sandbox.mybox(["kill", "old"]).run().ok();
    assert_eq!(info()["containers"]["exited"], 1);
    sandbox.mybox(["rm", "new", "old"]).run().ok();
}

#[test]
fn info_says_what_stands_in_the_way() {
    let sandbox = Sandbox::new("warnings");
    // Beside the binary under test, wherever that lies.
    let place = sandbox.scratch().join("memory");
    std::fs::create_dir(&place).expect("a place to mount on");
    let info = |path: &str| {
        let at = |name: &str| place.join(name).display().to_string();
        let root = ["--root", &at(path), "--run-root", &at("run")];
        let mybox = sandbox.mybox(root).args(["info"]);
        let script = "mount -t tmpfs none \"$PWD\" && cd \"$PWD\" && mkdir lower upper work over && \
                      mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none over && \
                      exec \"$@\"";
        let script = format!("cd {} && {script}", place.display());
        mybox.through(["unshare", "--mount", "sh", "-c", &script, "sh"])
    };
    drop(info("store").run().ok().says("is on tmpfs"));
    drop(info("over/store").run().ok().says("is on overlayfs"));
    let without_nft = |words: &[&str]| {
        // Debian's, and where mybox looks when PATH has none.
        let script = "mount -t tmpfs none /usr/sbin && exec \"$@\"";
        let mybox = sandbox.mybox(words);
        mybox.through(["unshare", "--mount", "sh", "-c", script, "sh"])
    };
    drop(without_nft(&["info"]).run().ok().says("install nftables"));
    let json = without_nft(&["info", "--json"]);
    let warnings = json.run().ok().stdout_json()["warnings"].to_string();
    assert!(warnings.contains("nft is not there"), "{warnings}");
}
