//! `ps --filter`.

use std::str::FromStr;

use regex_lite::Regex;

use crate::cli::values;
use crate::container::find::{Container, State};
use crate::container::health::Status;

const EXPECTED: &str = "expected id=, name=, label=, status=, exited=, ancestor= or health=";

/// One filter as it was typed.
#[derive(Debug, Clone)]
pub(super) enum Filter {
    /// The beginning of an id.
    Id(String),
    /// What fits the name, with a slash before it or without.
    Name(Regex),
    Label(String, Option<String>),
    Status(&'static str),
    /// An exit code.
    Exited(u8),
    /// The image it was made of.
    Ancestor(String),
    /// `None`: it has no health check.
    Health(Option<Status>),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or(EXPECTED)?;
        let owned = value.to_owned();
        Ok(match key {
            "id" => Self::Id(owned),
            "name" => Self::Name(pattern(value)?),
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(owned, None),
            },
            "status" => Self::Status(state(value)?),
            "exited" => {
                let code = value.parse();
                Self::Exited(code.map_err(|_| format!("`{value}` is no exit code"))?)
            }
            "ancestor" => Self::Ancestor(owned),
            "health" => Self::Health(health(value)?),
            _ => return Err(EXPECTED.to_owned()),
        })
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("`{text}` is no regular expression: {error}"))
}

fn state(word: &str) -> Result<&'static str, String> {
    const STATES: [&str; 6] = [
        "created",
        "running",
        "paused",
        "restarting",
        "changing",
        "exited",
    ];
    let found = STATES.into_iter().find(|state| *state == word);
    found.ok_or_else(|| format!("`{word}` is none of {}", STATES.join(", ")))
}

fn health(word: &str) -> Result<Option<Status>, String> {
    let all = [Status::Starting, Status::Healthy, Status::Unhealthy];
    match all.into_iter().find(|status| status.word() == word) {
        Some(status) => Ok(Some(status)),
        None if word == "none" => Ok(None),
        None => Err(format!(
            "`{word}` is none of starting, healthy, unhealthy, none"
        )),
    }
}

impl Filter {
    /// Those that have ended are looked for, too.
    pub(super) fn is_about_all(&self) -> bool {
        matches!(self, Self::Status(_) | Self::Exited(_))
    }

    fn fits(&self, row: &Container) -> bool {
        let record = &row.record;
        match self {
            Self::Id(start) => record.id.as_str().starts_with(start),
            Self::Name(pattern) => fits_name(pattern, &record.name),
            Self::Label(key, value) => {
                let found = record.labels.get(key);
                found.is_some() && (value.is_none() || found == value.as_ref())
            }
            Self::Status(word) => *word == row.state_word(),
            Self::Exited(code) => {
                let ended = record.ending.filter(|_| row.state == State::Exited);
                ended.is_some_and(|ending| ending.code == *code)
            }
            Self::Ancestor(image) => {
                record.image == *image || record.manifest.to_string() == *image
            }
            Self::Health(status) => row.health == *status,
        }
    }
}

/// Docker's names begin with a slash, which its users leave out.
fn fits_name(pattern: &Regex, name: &str) -> bool {
    pattern.is_match(name) || pattern.is_match(&format!("/{name}"))
}

pub(super) fn is_wanted(filters: &[Filter], row: &Container) -> bool {
    let is_label = |filter: &Filter| matches!(filter, Filter::Label(..));
    values::all_fit(filters, is_label, |filter| filter.fits(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_or_refused_with_what_there_is() {
        let parse = |text: &str| text.parse::<Filter>();
        assert!(matches!(parse("health=none"), Ok(Filter::Health(None))));
        assert!(matches!(
            parse("health=healthy"),
            Ok(Filter::Health(Some(Status::Healthy)))
        ));
        assert!(matches!(
            parse("label=a=b"),
            Ok(Filter::Label(key, Some(value))) if key == "a" && value == "b"
        ));
        for (bad, expected) in [
            ("health", "expected id="),
            ("colour=red", "expected id="),
            ("health=ill", "none of starting"),
            ("status=gone", "none of created"),
            ("exited=x", "no exit code"),
            ("name=we(b", "`we(b` is no regular expression"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }

    #[test]
    fn a_pattern_fits_a_part_of_the_name_with_its_slash_or_without() {
        for (text, expected) in [
            ("web", true),
            ("e", true),
            ("we.", true),
            ("^web$", true),
            ("^/web$", true),
            ("^(db|web)$", true),
            ("", true),
            ("^w$", false),
            ("WEB", false),
            ("(?i)WEB", true),
            ("^eb", false),
        ] {
            assert_eq!(
                fits_name(&pattern(text).unwrap(), "web"),
                expected,
                "{text}"
            );
        }
    }
}
