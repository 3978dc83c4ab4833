//! What a registry says when it does not give what it was asked for: the distribution spec's
//! `{"errors":[{"code":..,"message":..}]}`, OAuth's `{"error":..}`, or just words.

use std::io;

use reqwest::blocking::Response;
use serde::Deserialize;

use super::error::{Error, Result};
use super::transport::{Request, SMALL_BODY, read_body};

/// How much of words that are no JSON is shown.
const MOST_WORDS: usize = 200;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Errors {
    errors: Vec<One>,
    error: String,
    error_description: String,
    details: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct One {
    code: String,
    message: String,
}

/// The small body of an answer that is to be understood.
pub(super) fn body(registry: &str, request: &Request, response: Response) -> Result<Vec<u8>> {
    bounded(registry, request, response, SMALL_BODY)
}

/// A body of at most `limit` bytes.
pub(super) fn bounded(
    registry: &str,
    request: &Request,
    response: Response,
    limit: u64,
) -> Result<Vec<u8>> {
    read_body(response, limit).map_err(|error| {
        if error.kind() == io::ErrorKind::FileTooLarge {
            return Error::BadAnswer {
                registry: registry.to_owned(),
                request: request.shown(),
                reason: error.to_string(),
            };
        }
        Error::Unreachable {
            registry: registry.to_owned(),
            connecting: false,
            source: super::transport::as_io(&error),
        }
    })
}

/// What a refusal says of itself, if it can be read.
pub(super) fn said(response: Response) -> Option<String> {
    // The refusal itself is what matters, and it has come.
    let body = read_body(response, SMALL_BODY).ok()?;
    understood(&body)
}

fn understood(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if let Ok(errors) = serde_json::from_str::<Errors>(text) {
        let of_one = |one: &One| joined(&[&one.code, &one.message]);
        let mut all: Vec<String> = errors.errors.iter().filter_map(of_one).collect();
        all.extend(joined(&[&errors.error, &errors.error_description]));
        all.extend(joined(&[&errors.details]));
        all.extend(joined(&[&errors.message]));
        return (!all.is_empty()).then(|| all.join("; "));
    }
    if text.is_empty() || text.starts_with(['<', '{', '[']) {
        return None;
    }
    let shown: String = text.chars().take(MOST_WORDS).collect();
    Some(shown.trim_end().to_owned())
}

fn joined(words: &[&str]) -> Option<String> {
    let words: Vec<&str> = words
        .iter()
        .map(|word| word.trim())
        .filter(|word| !word.is_empty())
        .collect();
    (!words.is_empty()).then(|| words.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_shown_as_far_as_they_are_for_people() {
        for (body, said) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no","detail":[{"Type":"repository"}]}]}"#,
                Some("DENIED: no"),
            ),
            (
                r#"{"errors":[{"code":"A","message":"a"},{"code":"B"}]}"#,
                Some("A: a; B"),
            ),
            (
                r#"{"error":"invalid_grant","error_description":"old"}"#,
                Some("invalid_grant: old"),
            ),
            (
                r#"{"details":"incorrect username or password"}"#,
                Some("incorrect username or password"),
            ),
            (
                r#"{"errors":[{"code":"DENIED","message":"not today\n"}]}"#,
                Some("DENIED: not today"),
            ),
            ("toomanyrequests\n", Some("toomanyrequests")),
            ("<html><body>", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(understood(body.as_bytes()).as_deref(), said, "{body}");
        }
        let long = "x".repeat(5000);
        assert_eq!(
            understood(long.as_bytes()).map(|said| said.len()),
            Some(MOST_WORDS)
        );
    }
}
