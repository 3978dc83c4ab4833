//! `--filter` of `mybox images`, as Docker has it.

use std::str::FromStr;

use anyhow::Result;
use mybox_store::{Image, Reference, Store};

use crate::cli::output;

/// One filter as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Reference(String),
    Dangling(bool),
    Label(String, Option<String>),
    Before(String),
    Since(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected reference=, dangling=, label=, before= or since=";
        let (kind, value) = text.split_once('=').ok_or(expected)?;
        Ok(match kind {
            "reference" => Self::Reference(value.to_owned()),
            "dangling" => Self::Dangling(match value {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return Err("dangling is true or false".to_owned()),
            }),
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value.to_owned(), None),
            },
            "before" => Self::Before(value.to_owned()),
            "since" => Self::Since(value.to_owned()),
            _ => return Err(expected.to_owned()),
        })
    }
}

/// All filters, with the images they name looked up.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    references: Vec<String>,
    dangling: Option<bool>,
    labels: Vec<(String, Option<String>)>,
    /// Seconds since the epoch.
    before: Option<u64>,
    since: Option<u64>,
}

pub(super) fn resolve(store: &Store, filters: &[Filter]) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    let created = |name: &str| -> Result<Option<u64>> { Ok(time(&store.find(name)?)) };
    for filter in filters {
        match filter {
            Filter::Reference(pattern) => wanted.references.push(pattern.clone()),
            Filter::Dangling(dangling) => wanted.dangling = Some(*dangling),
            Filter::Label(key, value) => wanted.labels.push((key.clone(), value.clone())),
            Filter::Before(name) => wanted.before = created(name)?,
            Filter::Since(name) => wanted.since = created(name)?,
        }
    }
    Ok(wanted)
}

fn time(image: &Image) -> Option<u64> {
    image.created.as_deref().and_then(output::epoch_seconds)
}

impl Wanted {
    /// Whether an image is wanted, whatever its names.
    pub(super) fn image(&self, image: &Image) -> bool {
        let labels = &image.config.config.labels;
        let labelled = |(key, value): &(String, Option<String>)| match (labels.get(key), value) {
            (Some(found), Some(wanted)) => found == wanted,
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        };
        let dangling = image.references.is_empty();
        let created = time(image);
        self.dangling.is_none_or(|wanted| wanted == dangling)
            && self.labels.iter().all(labelled)
            && self
                .before
                .is_none_or(|limit| created.is_some_and(|it| it < limit))
            && self
                .since
                .is_none_or(|limit| created.is_some_and(|it| it > limit))
    }

    /// Whether a name is wanted.
    pub(super) fn name(&self, reference: Option<&Reference>) -> bool {
        if self.references.is_empty() {
            return true;
        }
        reference.is_some_and(|reference| {
            let names = [
                reference.familiar_repository(),
                format!("{}/{}", reference.registry(), reference.repository()),
                reference.familiar(),
                reference.to_string(),
            ];
            let mut patterns = self.references.iter();
            patterns.any(|pattern| names.iter().any(|name| fits(pattern, name)))
        })
    }
}

/// Shell patterns as Go's path.Match has them: `*` and `?` do not cross a slash.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    fits_from(&pattern, &text)
}

fn fits_from(pattern: &[char], text: &[char]) -> bool {
    // Where the last star began, and how much it has taken: what is tried next if the rest fails.
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at + 1, read));
            at += 1;
            continue;
        }
        if let Some(after) = one(&pattern[at..], text[read]) {
            at += after;
            read += 1;
            continue;
        }
        match star {
            Some((after, taken)) if text[taken] != '/' => {
                star = Some((after, taken + 1));
                (at, read) = (after, taken + 1);
            }
            _ => return false,
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

/// How much of the pattern stands for this one letter; `None` if the letter does not fit.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern {
        ['?', ..] => (letter != '/').then_some(1),
        ['\\', escaped, ..] => (*escaped == letter).then_some(2),
        ['[', rest @ ..] => {
            let end = 1 + rest.iter().skip(1).position(|it| *it == ']')?;
            let (inverted, set) = match &rest[..end] {
                ['^', set @ ..] => (true, set),
                set => (false, set),
            };
            (in_set(set, letter) != inverted).then_some(end + 2)
        }
        [plain, ..] => (*plain == letter).then_some(1),
        [] => None,
    }
}

fn in_set(mut set: &[char], letter: char) -> bool {
    loop {
        match set {
            [low, '-', high, rest @ ..] => {
                if (*low..=*high).contains(&letter) {
                    return true;
                }
                set = rest;
            }
            [single, rest @ ..] => {
                if *single == letter {
                    return true;
                }
                set = rest;
            }
            [] => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, text) in [
            ("app", "app"),
            ("app*", "app"),
            ("*", "app:1.0"),
            ("*p:1*", "app:1.0"),
            ("a?p", "app"),
            ("app:[12].?", "app:2.0"),
            ("app:[0-9].0", "app:7.0"),
            ("[^b]pp", "app"),
            ("me/*:latest", "me/app:latest"),
            ("*a*a*", "banana"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("app", "apps"),
            ("*", "me/app"),
            ("a?p", "a/p"),
            ("[^a]pp", "app"),
            ("app:[12]", "app:3"),
            ("", "app"),
            ("a[", "a["),
            ("*x", "app"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
        // Many stars cost no more than a few.
        assert!(!fits(&"*a".repeat(40), &"a".repeat(39)));
    }

    #[test]
    fn filters_are_read_as_docker_writes_them() {
        assert_eq!(
            "label=a=b=c".parse(),
            Ok(Filter::Label("a".into(), Some("b=c".into())))
        );
        assert_eq!("dangling=0".parse(), Ok(Filter::Dangling(false)));
        for bad in ["", "dangling", "dangling=maybe", "size=1", "=x"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
