//! Holds DESIGN.md's map against the source: who may import whom, where unsafe code may be, who may
//! print.
//!
//! Source is read as Rust tokens, so comments and strings do not count, and a path counts wherever
//! it stands: in a `use` of any shape, in an expression, in a type, inside a macro.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module of `src` and what it may name besides itself: modules, or paths within modules, or the
/// store's crate.
type Rule = (&'static str, &'static [&'static str]);

/// Imports go downward only. From the top to the bottom:
const RULES: &[Rule] = &[
    ("main", &["cli", "life", "error"]),
    (
        "cli",
        &[
            "plan",
            "life",
            "container",
            "error",
            "registry",
            "net",
            "registry",
            "kernel::cgroup",
            "kernel::process",
            "kernel::signal",
            "mybox_store",
        ],
    ),
    (
        "life",
        &[
            "error",
            "plan",
            "init",
            "container",
            "registry",
            "net",
            "kernel",
            "mybox_store",
        ],
    ),
    ("init", &["plan", "kernel"]),
    (
        "plan",
        &[
            "container",
            "net",
            "kernel::cgroup",
            "kernel::seccomp",
            "kernel::signal",
            "mybox_store",
        ],
    ),
    ("registry", &["mybox_store"]),
    ("net", &["container", "kernel"]),
    ("container", &["kernel", "mybox_store"]),
    (
        "error",
        &["registry", "net::bridge", "kernel", "mybox_store"],
    ),
    ("kernel", &[]),
];

/// What the store may not name: it knows nothing of containers, mounts, HTTP, environment or
/// terminals.
const FORBIDDEN_IN_STORE: &[&str] = &[
    "mybox",
    "rustix::mount",
    "rustix::termios",
    "std::env",
    "reqwest",
    "indicatif",
];

/// What it may name all the same: constants of the compiler are no environment.
const ALLOWED_IN_STORE: &[&str] = &["std::env::consts"];
/// Where indexes are shown to the kernel, which is to say what they mean.
const MOUNTED_IN_STORE: &str = "store/src/layer/index/tests/";
/// What is allowed there: to mount, and to find the programs that the tests come with.
const ALLOWED_WHERE_MOUNTED: &[&str] = &["rustix::mount", "std::env::current_exe"];

/// The one file that may have unsafe code.
const UNSAFE_FILE: &str = "src/kernel/raw.rs";

/// Where standard output and standard error may be written to.
const PRINTERS: &[&str] = &["src/main.rs", "src/cli/"];

#[test]
fn imports_go_downward_only() {
    nothing_wrong("src", wrong_imports);
}

#[test]
fn the_store_knows_nothing_of_containers() {
    nothing_wrong("store/src", wrong_store_imports);
    let manifest = std::fs::read_to_string(workspace().join("store/Cargo.toml")).expect("manifest");
    let names_mybox = |line: &&str| line.starts_with("mybox ") || line.starts_with("mybox=");
    assert_eq!(
        manifest.lines().find(names_mybox),
        None,
        "the store depends on mybox"
    );
}

#[test]
fn unsafe_code_is_in_one_file() {
    for directory in ["src", "store/src", "tests"] {
        nothing_wrong(directory, wrong_unsafe);
    }
}

#[test]
fn only_the_command_line_prints() {
    nothing_wrong("src", wrong_prints);
    nothing_wrong("store/src", wrong_prints);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for directory in ["src", "store", "tests"] {
        nothing_wrong(directory, missing_header);
    }
}

/// Applies `check` to every source file below `directory`, and fails with all that it finds.
#[track_caller]
fn nothing_wrong(directory: &str, check: impl Fn(&Source) -> Vec<String>) {
    let files = rust_files(&workspace().join(directory));
    assert!(!files.is_empty(), "no source in {directory}");
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).expect("source file");
            let name = path.strip_prefix(workspace()).expect("below the workspace");
            check(&Source::parse(&name.to_string_lossy(), &text))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)
        .expect("source directory")
        .flatten()
    {
        let path = entry.path();
        let kind = entry.file_type().expect("type of a file");
        if kind.is_dir() && entry.file_name() != "target" {
            files.extend(rust_files(&path));
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn wrong_imports(source: &Source) -> Vec<String> {
    let own = source.module.first().map_or("main", String::as_str);
    let Some((_, allowed)) = RULES.iter().find(|(module, _)| *module == own) else {
        return vec![format!(
            "{}: no rule says what {own} may import",
            source.name
        )];
    };
    let is_allowed = |path: &str| {
        path_starts_with(path, own) || allowed.iter().any(|prefix| path_starts_with(path, prefix))
    };
    let wrong = |mention: &&Mention| is_ours(&mention.path) && !is_allowed(&mention.path);
    let describe = |mention: &Mention| {
        format!(
            "{}:{}: {own} may not import {}",
            source.name, mention.line, mention.path
        )
    };
    source.mentions.iter().filter(wrong).map(describe).collect()
}

/// Whether the path begins with one of the modules or with the store; not, say, with an item of
/// `main.rs`.
fn is_ours(path: &str) -> bool {
    path_starts_with(path, "mybox_store") || is_in_module(path)
}

fn is_in_module(path: &str) -> bool {
    RULES
        .iter()
        .any(|(module, _)| path_starts_with(path, module))
}

fn wrong_store_imports(source: &Source) -> Vec<String> {
    let begins_with_one_of = |mention: &Mention, prefixes: &[&str]| {
        prefixes
            .iter()
            .any(|prefix| path_starts_with(&mention.path, prefix))
    };
    let wrong = |mention: &&Mention| {
        begins_with_one_of(mention, FORBIDDEN_IN_STORE)
            && !begins_with_one_of(mention, ALLOWED_IN_STORE)
            && !(source.name.starts_with(MOUNTED_IN_STORE)
                && begins_with_one_of(mention, ALLOWED_WHERE_MOUNTED))
    };
    let describe = |mention: &Mention| {
        format!(
            "{}:{}: the store may not know {}",
            source.name, mention.line, mention.path
        )
    };
    source.mentions.iter().filter(wrong).map(describe).collect()
}

fn path_starts_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn wrong_unsafe(source: &Source) -> Vec<String> {
    if source.name == UNSAFE_FILE {
        return Vec::new();
    }
    let describe =
        |line: &usize| format!("{}:{line}: unsafe belongs in {UNSAFE_FILE}", source.name);
    source.unsafe_lines.iter().map(describe).collect()
}

fn wrong_prints(source: &Source) -> Vec<String> {
    if PRINTERS
        .iter()
        .any(|printer| source.name.starts_with(printer))
    {
        return Vec::new();
    }
    let describe = |line: &usize| format!("{}:{line}: only the command line prints", source.name);
    source.print_lines.iter().map(describe).collect()
}

fn missing_header(source: &Source) -> Vec<String> {
    let missing = !source.has_header;
    missing
        .then(|| format!("{}: does not open with a //! header", source.name))
        .into_iter()
        .collect()
}

/// What a source file has in it.
struct Source {
    /// Path from the workspace's directory.
    name: String,
    /// Path of the module from the crate's root.
    module: Vec<String>,
    has_header: bool,
    mentions: BTreeSet<Mention>,
    unsafe_lines: BTreeSet<usize>,
    print_lines: BTreeSet<usize>,
}

/// A path from the crate's root, or from another crate's name, and the line where it stands.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mention {
    line: usize,
    path: String,
}

impl Source {
    fn parse(name: &str, text: &str) -> Self {
        let tokens = TokenStream::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let module = module_of(name);
        let mut source = Self {
            name: name.to_owned(),
            module: module.clone(),
            has_header: text.starts_with("//!"),
            mentions: BTreeSet::new(),
            unsafe_lines: BTreeSet::new(),
            print_lines: BTreeSet::new(),
        };
        source.scan(tokens, &module);
        source
    }

    /// Goes over `tokens`, which stand in `module`.
    fn scan(&mut self, tokens: TokenStream, module: &[String]) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, tree) in trees.iter().enumerate() {
            let line = tree.span().start().line;
            match tree {
                TokenTree::Group(group) => match inline_module(&trees[..at]) {
                    Some(name) => self.scan(group.stream(), &[module, &[name]].concat()),
                    None => self.scan(group.stream(), module),
                },
                TokenTree::Ident(word) if word == "unsafe" => drop(self.unsafe_lines.insert(line)),
                TokenTree::Ident(word) if is_print(&word.to_string(), trees.get(at + 1)) => {
                    self.print_lines.insert(line);
                }
                // Below the root, the bare name of one of our modules is a local name: `use
                // std::net; net::IpAddr`.
                TokenTree::Ident(word) if !module.is_empty() && is_in_module(&word.to_string()) => {
                }
                TokenTree::Ident(_) if !follows_colons(&trees[..at]) => {
                    for path in paths(&trees[at..]) {
                        let path = resolve(&path, module).join("::");
                        self.mentions.insert(Mention { line, path });
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

/// `src/life/launch.rs` is `life::launch`, `src/life/mod.rs` is `life`, `src/main.rs` the root.
fn module_of(name: &str) -> Vec<String> {
    let inside = name.rsplit_once("src/").map_or(name, |(_, inside)| inside);
    let path = inside.trim_end_matches(".rs").split('/');
    path.filter(|part| !matches!(*part, "mod" | "main" | "lib"))
        .map(str::to_owned)
        .collect()
}

/// The name, if what stands before a group makes it the body of `mod name`.
fn inline_module(before: &[TokenTree]) -> Option<String> {
    match before {
        [.., TokenTree::Ident(keyword), TokenTree::Ident(name)] if keyword == "mod" => {
            Some(name.to_string())
        }
        _ => None,
    }
}

fn is_print(word: &str, next: Option<&TokenTree>) -> bool {
    matches!(word, "print" | "println" | "eprint" | "eprintln")
        && next.is_some_and(|next| is_punct(next, '!'))
}

fn is_punct(tree: &TokenTree, letter: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == letter)
}

fn follows_colons(before: &[TokenTree]) -> bool {
    matches!(before, [.., a, b] if is_punct(a, ':') && is_punct(b, ':'))
}

/// All paths that begin with the first token: several where it opens a `use` with braces, none if
/// it is a lone word.
fn paths(trees: &[TokenTree]) -> Vec<Vec<String>> {
    let is_path = matches!(
        trees,
        [TokenTree::Ident(_), a, b, ..] if is_punct(a, ':') && is_punct(b, ':')
    );
    if is_path { branches(trees) } else { Vec::new() }
}

/// Like [`paths`], and a lone word is a path, too.
fn branches(trees: &[TokenTree]) -> Vec<Vec<String>> {
    match trees {
        [
            TokenTree::Ident(word),
            TokenTree::Punct(a),
            TokenTree::Punct(b),
            rest @ ..,
        ] if a.as_char() == ':' && b.as_char() == ':' => {
            let mut tails = branches(rest);
            if tails.is_empty() {
                tails.push(Vec::new());
            }
            tails
                .into_iter()
                .map(|tail| [vec![word.to_string()], tail].concat())
                .collect()
        }
        [TokenTree::Ident(word), ..] => vec![vec![word.to_string()]],
        [TokenTree::Group(group), ..] if group.delimiter() == Delimiter::Brace => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            inner
                .split(|tree| is_punct(tree, ','))
                .flat_map(branches)
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The path from the crate's root; from another crate's name if that is where it begins.
fn resolve(path: &[String], module: &[String]) -> Vec<String> {
    let (mut base, mut rest) = match path.first().map(String::as_str) {
        Some("crate") => (Vec::new(), &path[1..]),
        Some("self" | "super") => (module.to_vec(), path),
        _ => (Vec::new(), path),
    };
    while let Some(word @ ("self" | "super")) = rest.first().map(String::as_str) {
        if word == "super" {
            base.pop();
        }
        rest = &rest[1..];
    }
    [base, rest.to_vec()].concat()
}

/// The checks must find what is wrong, or they prove nothing.
mod the_checks {
    use super::*;

    #[test]
    fn find_an_import_that_goes_upward_in_every_shape() {
        for (file, text) in [
            ("src/kernel/mount.rs", "use crate::life::launch;"),
            ("src/kernel/mount.rs", "use mybox_store::Digest;"),
            ("src/kernel/mount.rs", "use super::super::net::bridge;"),
            (
                "src/kernel/mount.rs",
                "mod tests { use super::super::super::plan; }",
            ),
            (
                "src/kernel/mod.rs",
                "use {std::fs, crate::{kernel::raw, error::Hint}};",
            ),
            (
                "src/kernel/mod.rs",
                "fn f() -> crate::container::Id { todo() }",
            ),
            (
                "src/kernel/mod.rs",
                "fn f() { g!(\"{}\", crate::cli::name()); }",
            ),
            (
                "src/kernel/mod.rs",
                "use crate::{\n    self as everything,\n    plan::*,\n};",
            ),
            (
                "src/net/ipam.rs",
                "pub(crate) use crate::life::network as upper;",
            ),
            ("src/plan/mod.rs", "use crate::kernel::mount;"),
            ("src/init/mod.rs", "use crate::life;"),
            ("src/life/stack.rs", "type T = crate::cli::Args;"),
            ("src/cli/run.rs", "use crate::kernel::pty;"),
            (
                "src/main.rs",
                "mod kernel; fn main() { kernel::raw::go(); }",
            ),
            ("src/newcomer.rs", "//! Has no rule."),
        ] {
            let wrong = wrong_imports(&Source::parse(file, text));
            assert_eq!(wrong.len(), 1, "{file}: {text}: {wrong:?}");
        }
    }

    #[test]
    fn pass_over_imports_that_go_downward() {
        for (file, text) in [
            (
                "src/kernel/mount.rs",
                "use super::raw; use crate::kernel::raw::x; use std::io;",
            ),
            (
                "src/kernel/mount.rs",
                "// crate::cli\nconst A: &str = \"crate::cli\";",
            ),
            (
                "src/kernel/mount.rs",
                "/// See [`crate::life::launch`].\npub(crate) fn f() {}",
            ),
            (
                "src/kernel/mount.rs",
                "use oci::plan::X; use nix::net::if_; mod tests { use super::*; }",
            ),
            (
                "src/kernel/mount.rs",
                "use std::net; fn f(a: net::IpAddr) {}",
            ),
            (
                "src/net/bridge.rs",
                "use crate::{container::Id, kernel::netlink};",
            ),
            (
                "src/init/mod.rs",
                "use crate::plan::Mount; mod root; use self::root::pivot;",
            ),
            (
                "src/cli/run.rs",
                "use crate::life::launch; use mybox_store::Store;",
            ),
            (
                "src/main.rs",
                "mod kernel; mod cli; fn main() { cli::main() }",
            ),
        ] {
            let wrong = wrong_imports(&Source::parse(file, text));
            assert!(wrong.is_empty(), "{file}: {text}: {wrong:?}");
        }
    }

    #[test]
    fn say_where_and_what() {
        let source = Source::parse("src/net/nat.rs", "//! Nat.\n\nuse crate::life::teardown;\n");
        assert_eq!(
            wrong_imports(&source),
            ["src/net/nat.rs:3: net may not import life::teardown"]
        );
    }

    #[test]
    fn find_what_the_store_must_not_know() {
        let found = |text| wrong_store_imports(&Source::parse("store/src/a.rs", text)).len();
        assert_eq!(
            found("use mybox::plan; fn f() { std::env::var(\"A\"); }"),
            2
        );
        assert_eq!(found("use rustix::{fs, mount::{mount, unmount}};"), 2);
        assert_eq!(
            found("use mybox_store::x; use std::{fs, io}; use crate::mount;"),
            0
        );
    }

    #[test]
    fn find_unsafe_code_and_prints_and_missing_headers() {
        let text = "/* unsafe */ fn f() { unsafe { g() } println!(\"unsafe\") }";
        let source = Source::parse("src/net/nat.rs", text);
        assert_eq!(wrong_unsafe(&source).len(), 1);
        assert_eq!(wrong_prints(&source).len(), 1);
        assert_eq!(missing_header(&source).len(), 1);
        assert_eq!(wrong_unsafe(&Source::parse(UNSAFE_FILE, text)).len(), 0);
        assert_eq!(
            wrong_prints(&Source::parse("src/cli/run.rs", text)).len(),
            0
        );
        assert_eq!(
            missing_header(&Source::parse("src/cli/run.rs", "//! Runs.\n")).len(),
            0
        );
        assert_eq!(
            wrong_prints(&Source::parse("src/a.rs", "fn print(a: u8) { print(a) }")).len(),
            0
        );
    }
}
