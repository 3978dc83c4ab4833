//! `printf`: Go's verbs `%v %s %d %q %x %t %T %%`, with `-`, `0`, a width and a precision
//! (<https://pkg.go.dev/fmt>).

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use super::shape::{kind, shown};

pub(super) fn formatted(format: &str, values: &[Value]) -> Result<String> {
    let mut text = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let end = after.find(|letter: char| letter.is_alphabetic() || letter == '%');
        let end = end.ok_or_else(|| anyhow!("printf: `%` at the end of {format:?}"))?;
        let layout = Layout::of(&after[..end])?;
        let verb = after[end..].chars().next().unwrap_or_default();
        rest = &after[end + verb.len_utf8()..];
        if verb == '%' {
            text.push('%');
            continue;
        }
        let value = values.next();
        let value = value.ok_or_else(|| anyhow!("printf: nothing for `%{verb}`"))?;
        text.push_str(&word(verb, value, &layout)?);
    }
    text.push_str(rest);
    Ok(text)
}

/// What stands between `%` and a verb.
struct Layout {
    left: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
}

impl Layout {
    fn of(text: &str) -> Result<Self> {
        let numbers = text.trim_start_matches(['-', '0']);
        let flags = &text[..text.len() - numbers.len()];
        let (width, precision) = match numbers.split_once('.') {
            Some((width, precision)) => (width, Some(precision)),
            None => (numbers, None),
        };
        let left = flags.contains('-');
        Ok(Self {
            left,
            zeros: flags.contains('0') && !left,
            width: count(width)?,
            precision: precision.map(count).transpose()?,
        })
    }

    /// No longer than the precision.
    fn cut(&self, text: &str) -> String {
        let most = self.precision.unwrap_or(usize::MAX);
        text.chars().take(most).collect()
    }

    /// A number's digits, after a sign, as many as the precision says.
    fn digits(&self, number: &str) -> String {
        let (sign, digits) = match number.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", number),
        };
        let filled = if self.zeros { self.width } else { 0 };
        let least = self.precision.unwrap_or(filled.saturating_sub(sign.len()));
        format!("{sign}{digits:0>least$}")
    }

    /// No shorter than the width.
    fn padded(&self, word: &str) -> String {
        let width = self.width;
        if self.left {
            format!("{word:<width$}")
        } else if self.zeros {
            format!("{word:0>width$}")
        } else {
            format!("{word:>width$}")
        }
    }
}

/// A width or a precision, which may be left out.
fn count(digits: &str) -> Result<usize> {
    const MOST: usize = 1 << 10;
    let count = match digits {
        "" => Some(0),
        digits => digits.parse().ok().filter(|count| *count <= MOST),
    };
    count.ok_or_else(|| anyhow!("printf: `{digits}` is no width or precision of at most {MOST}"))
}

/// One value; of a list each in it.
fn word(verb: char, value: &Value, layout: &Layout) -> Result<String> {
    let word = match (verb, value) {
        ('T', _) => go_type(value).to_owned(),
        (_, Value::Array(values)) => {
            let words = values.iter().map(|value| word(verb, value, layout));
            return Ok(format!(
                "[{}]",
                words.collect::<Result<Vec<_>>>()?.join(" ")
            ));
        }
        ('v' | 's' | 'd', Value::Number(number)) => layout.digits(&number.to_string()),
        ('v' | 's', Value::String(text)) => layout.cut(text),
        ('v' | 's', _) | ('t', Value::Bool(_)) => shown(value),
        ('q', Value::String(text)) => serde_json::to_string(&layout.cut(text))?,
        ('x', Value::String(text)) => {
            let text = layout.cut(text);
            text.bytes().map(|byte| format!("{byte:02x}")).collect()
        }
        ('x', Value::Number(number)) => match number.as_u64() {
            Some(number) => layout.digits(&format!("{number:x}")),
            None => bail!("printf: `%x` of {number}, which is no count"),
        },
        _ => bail!("printf: `%{verb}` of {}", kind(value)),
    };
    Ok(layout.padded(&word))
}

/// The type that Go gives to such a value in JSON.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
