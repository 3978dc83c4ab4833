//! Docker's management words: `mybox image ls` is `mybox images`, `mybox container rm` is `mybox rm`.
//!
//! They are replaced before clap sees them, so help and completion have each verb once.

use std::ffi::OsString;

use clap::Command;

use super::words::first_plain;

/// A word of a group, and what it stands for.
type Verb = (&'static str, &'static [&'static str]);

/// A management word and what may follow it, as `docker WORD --help` has it, Docker's other names of them too.
const GROUPS: [(&str, &[Verb]); 3] = [
    (
        "image",
        &[
            ("history", &["history"]),
            ("import", &["import"]),
            ("inspect", &["inspect", "--type", "image"]),
            ("load", &["load"]),
            ("ls", &["images"]),
            ("list", &["images"]),
            ("prune", &["prune", "--only", "images"]),
            ("pull", &["pull"]),
            ("push", &["push"]),
            ("rm", &["rmi"]),
            ("remove", &["rmi"]),
            ("save", &["save"]),
            ("tag", &["tag"]),
        ],
    ),
    (
        "container",
        &[
            ("attach", &["attach"]),
            ("commit", &["commit"]),
            ("cp", &["cp"]),
            ("create", &["create"]),
            ("diff", &["diff"]),
            ("exec", &["exec"]),
            ("export", &["export"]),
            ("inspect", &["inspect", "--type", "container"]),
            ("kill", &["kill"]),
            ("logs", &["logs"]),
            ("ls", &["ps"]),
            ("list", &["ps"]),
            ("ps", &["ps"]),
            ("pause", &["pause"]),
            ("port", &["port"]),
            ("prune", &["prune", "--only", "containers"]),
            ("rename", &["rename"]),
            ("restart", &["restart"]),
            ("rm", &["rm"]),
            ("remove", &["rm"]),
            ("run", &["run"]),
            ("start", &["start"]),
            ("stats", &["stats"]),
            ("stop", &["stop"]),
            ("top", &["top"]),
            ("unpause", &["unpause"]),
            ("update", &["update"]),
            ("wait", &["wait"]),
        ],
    ),
    (
        "system",
        &[
            ("df", &["df"]),
            ("events", &["events"]),
            ("info", &["info"]),
            ("prune", &["prune"]),
        ],
    ),
];

/// What follows a management word and is none of its verbs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    group: &'static str,
    /// `None` where nothing follows, or the wish for help.
    word: Option<String>,
}

impl Unknown {
    /// Whether help is all that was wanted.
    pub(super) fn is_help(&self) -> bool {
        self.word.is_none()
    }

    /// What is said of it.
    pub(super) fn text(&self) -> String {
        let group = self.group;
        let verbs = GROUPS.iter().find(|(name, _)| *name == group);
        let verbs = verbs.map_or(&[][..], |(_, verbs)| verbs);
        let names: Vec<&str> = verbs.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        match &self.word {
            Some(word) => {
                format!("error: `{group}` has no command `{word}`\nhint: it has {names}\n")
            }
            None => format!(
                "`mybox {group} COMMAND` is Docker's other way to write mybox's own verbs, and \
                 `mybox {group} COMMAND --help` tells of one.\n\nCommands: {names}\n"
            ),
        }
    }
}

/// The words of a command line, the program's name first, with mybox's own verb where there was a management
/// word and one of its verbs.
pub(super) fn replaced(mut words: Vec<OsString>, cli: &Command) -> Result<Vec<OsString>, Unknown> {
    let Some(at) = first_plain(&words, 1, &[cli]) else {
        return Ok(words);
    };
    let Some((group, verbs)) = GROUPS.iter().find(|(group, _)| words[at] == *group) else {
        return Ok(words);
    };
    let word = words.get(at + 1).map(|word| word.to_string_lossy());
    let word = word.filter(|word| !["help", "-h", "--help"].contains(&word.as_ref()));
    let meant = |word: &str| verbs.iter().find(|(name, _)| *name == word);
    let Some((_, instead)) = word.as_deref().and_then(meant) else {
        return Err(Unknown {
            group,
            word: word.map(Into::into),
        });
    };
    words.splice(at..at + 2, instead.iter().map(OsString::from));
    Ok(words)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn of(line: &str) -> Result<String, Unknown> {
        let words = line.split(' ').map(OsString::from).collect();
        let replaced = replaced(words, &super::super::Cli::command())?;
        let replaced: Vec<_> = replaced.iter().map(|it| it.to_string_lossy()).collect();
        Ok(replaced.join(" "))
    }

    #[test]
    fn a_management_word_and_its_verb_are_a_verb_of_ours() {
        for (line, expected) in [
            ("mybox image ls -q app", "mybox images -q app"),
            ("mybox --root /x image rm a b", "mybox --root /x rmi a b"),
            ("mybox container run image ls", "mybox run image ls"),
            ("mybox container ls -a", "mybox ps -a"),
            ("mybox image inspect a", "mybox inspect --type image a"),
            ("mybox system prune -f", "mybox prune -f"),
            ("mybox image prune", "mybox prune --only images"),
            ("mybox run image ls", "mybox run image ls"),
            ("mybox pull image", "mybox pull image"),
            ("mybox", "mybox"),
        ] {
            assert_eq!(of(line).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_verb_of_a_management_word_is_said_with_those_there_are() {
        let unknown = of("mybox system build .").unwrap_err();
        assert!(!unknown.is_help());
        assert_eq!(
            unknown.text(),
            "error: `system` has no command `build`\nhint: it has df, events, info, prune\n"
        );
        for line in ["mybox image", "mybox image --help"] {
            let help = of(line).unwrap_err();
            assert!(help.is_help(), "{line}");
            assert!(help.text().contains("Commands: history, import, "));
        }
    }

    #[test]
    fn every_word_stands_for_a_verb_that_there_is() {
        let cli = super::super::Cli::command();
        for (_, instead) in GROUPS.iter().flat_map(|(_, verbs)| *verbs) {
            assert!(cli.find_subcommand(instead[0]).is_some(), "{instead:?}");
        }
    }
}
