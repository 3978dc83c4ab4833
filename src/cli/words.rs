//! Where mybox's own flags end on a command line.
//!
//! As Docker's, the flags of `run`, `create`, `exec` and `top` stand before the image or the container. What
//! follows that belongs to somebody else, whatever it looks like, and clap, which would go on looking for
//! flags of ours, is kept from it by a `--`.

use std::ffi::OsString;

use clap::{Arg, Command};

const VERBS: [&str; 4] = ["run", "create", "exec", "top"];

/// The words of a command line, the program's name first, with that `--`.
pub(super) fn separated(mut words: Vec<OsString>, cli: &Command) -> Vec<OsString> {
    if let Some(end) = end_of_flags(&words, cli) {
        words.insert(end, "--".into());
    }
    words
}

/// Where what is not ours begins. `None` where there is no such place, or a flag is unknown: clap says
/// what is to be said of it.
fn end_of_flags(words: &[OsString], cli: &Command) -> Option<usize> {
    let at = first_plain(words, 1, &[cli])?;
    let verb = cli.find_subcommand(words.get(at)?)?;
    if !VERBS.contains(&verb.get_name()) {
        return None;
    }
    let image = first_plain(words, at + 1, &[verb, cli])?;
    Some(image + 1)
}

/// The first word from a place on that is neither a flag of these commands, the first of which counts more, nor
/// the value of one.
pub(super) fn first_plain(words: &[OsString], from: usize, commands: &[&Command]) -> Option<usize> {
    let mut at = from;
    loop {
        let word = words.get(at)?.to_string_lossy();
        if word == "--" {
            return None;
        }
        if word == "-" || !word.starts_with('-') {
            return Some(at);
        }
        at += 1 + usize::from(has_its_value_next(&word, commands)?);
    }
}

/// Whether the value of a flag, or of the last of several letters, is the next word.
fn has_its_value_next(word: &str, commands: &[&Command]) -> Option<bool> {
    if let Some(long) = word.strip_prefix("--") {
        return match long.contains('=') {
            true => Some(false),
            false => find(commands, |arg| is_long(arg, long)).map(takes_value),
        };
    }
    let letters = word.strip_prefix('-')?;
    for (at, letter) in letters.char_indices() {
        let flag = find(commands, |arg| is_short(arg, letter))?;
        if takes_value(flag) {
            return Some(at + letter.len_utf8() == letters.len());
        }
    }
    Some(false)
}

fn find<'a>(commands: &[&'a Command], is_it: impl Fn(&Arg) -> bool) -> Option<&'a Arg> {
    let mut flags = commands.iter().flat_map(|command| command.get_arguments());
    flags.find(|arg| is_it(arg))
}

fn is_long(arg: &Arg, name: &str) -> bool {
    let others = arg.get_all_aliases().unwrap_or_default();
    arg.get_long() == Some(name) || others.contains(&name)
}

fn is_short(arg: &Arg, letter: char) -> bool {
    let others = arg.get_all_short_aliases().unwrap_or_default();
    arg.get_short() == Some(letter) || others.contains(&letter)
}

fn takes_value(flag: &Arg) -> bool {
    flag.get_action().takes_values() && !flag.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let words = line.split(' ').map(OsString::from).collect();
        let separated = separated(words, &super::super::Cli::command());
        let separated: Vec<_> = separated.iter().map(|it| it.to_string_lossy()).collect();
        assert_eq!(separated.join(" "), expected);
    }

    #[test]
    fn what_follows_the_image_or_the_container_is_not_ours() {
        check("mybox run debian -d", "mybox run debian -- -d");
        check("mybox run debian -- ls", "mybox run debian -- -- ls");
        check("mybox exec -it web ls -la", "mybox exec -it web -- ls -la");
        check("mybox top web -o pid", "mybox top web -- -o pid");
        check(
            "mybox --root /x run -itm 64m -p80:80 --name=a --memory-swap -1 -e A --sig-proxy tiny ls -e",
            "mybox --root /x run -itm 64m -p80:80 --name=a --memory-swap -1 -e A --sig-proxy tiny -- ls -e",
        );
        check(
            "mybox create --bridge b -h web -v /a:/b tiny --rm",
            "mybox create --bridge b -h web -v /a:/b tiny -- --rm",
        );
    }

    #[test]
    fn what_clap_has_to_refuse_or_others_understand_stays_as_it_is() {
        for line in [
            "mybox",
            "mybox run",
            "mybox run --rm",
            "mybox run --memroy 1g debian -d",
            "mybox run -Zq debian -d",
            "mybox run -- debian -d",
            "mybox run --name",
            "mybox run --help",
            "mybox stop web -t 3",
            "mybox nonsense run debian -d",
        ] {
            check(line, line);
        }
    }
}
