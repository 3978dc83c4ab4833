//! `printf`.

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use super::shape::{kind, shown};

/// Go's verbs `%s %v %d %q %%`, with `-`, `0` and a width.
pub(super) fn formatted(format: &str, values: &[Value]) -> Result<String> {
    let mut text = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let end = after.find(|letter: char| letter.is_alphabetic() || letter == '%');
        let end = end.ok_or_else(|| anyhow!("printf: `%` at the end of {format:?}"))?;
        let (flags, verb) = (&after[..end], &after[end..=end]);
        rest = &after[end + 1..];
        if verb == "%" {
            text.push('%');
            continue;
        }
        let value = values.next();
        let value = value.ok_or_else(|| anyhow!("printf: nothing for `%{flags}{verb}`"))?;
        let word = match (verb, value) {
            ("v" | "s", _) | ("d", Value::Number(_)) => shown(value),
            ("q", Value::String(_)) => serde_json::to_string(value)?,
            _ => bail!("printf: `%{flags}{verb}` of {}", kind(value)),
        };
        text.push_str(&padded(&word, flags)?);
    }
    text.push_str(rest);
    Ok(text)
}

fn padded(word: &str, flags: &str) -> Result<String> {
    let (left, digits) = match flags.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, flags),
    };
    const WIDEST: usize = 1 << 10;
    let width = match digits {
        "" => Some(0),
        digits => digits.parse().ok().filter(|width| *width <= WIDEST),
    };
    let width =
        width.ok_or_else(|| anyhow!("printf: `%{flags}` has no width of at most {WIDEST}"))?;
    Ok(if left {
        format!("{word:<width$}")
    } else if digits.starts_with('0') {
        format!("{word:0>width$}")
    } else {
        format!("{word:>width$}")
    })
}
