//! What a template can call.

use std::cmp::Ordering;

use anyhow::{Result, anyhow, bail};
use serde_json::{Map, Value};

use super::printf::formatted;
use super::shape::{Shaped, is_true, kind, shown};

/// Go's functions, then those of Docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Html,
    Index,
    Len,
    Print,
    Printf,
    Println,
    Slice,
    Urlquery,
    Join,
    Json,
    Lower,
    Pad,
    Split,
    Title,
    Truncate,
    Upper,
}

/// Under what names they are called.
const NAMES: &[(&str, Function)] = &[
    ("and", Function::And),
    ("or", Function::Or),
    ("not", Function::Not),
    ("eq", Function::Eq),
    ("ne", Function::Ne),
    ("lt", Function::Lt),
    ("le", Function::Le),
    ("gt", Function::Gt),
    ("ge", Function::Ge),
    ("html", Function::Html),
    ("index", Function::Index),
    ("len", Function::Len),
    ("print", Function::Print),
    ("printf", Function::Printf),
    ("println", Function::Println),
    ("slice", Function::Slice),
    ("urlquery", Function::Urlquery),
    ("join", Function::Join),
    ("json", Function::Json),
    ("lower", Function::Lower),
    ("pad", Function::Pad),
    ("split", Function::Split),
    ("title", Function::Title),
    ("truncate", Function::Truncate),
    ("upper", Function::Upper),
];

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, function)| *function)
    }

    pub(super) fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(_, known)| *known == self);
        found.map_or("", |(name, _)| name)
    }
}

/// What it makes of its arguments. Which of them `and` and `or` choose is the evaluation's to find out.
pub(super) fn apply(function: Function, arguments: Vec<Shaped>) -> Result<Value> {
    use Function as F;
    let as_it_sees_them = match function {
        F::Json => Shaped::json,
        _ => Shaped::value,
    };
    let arguments: Vec<Value> = arguments.into_iter().map(as_it_sees_them).collect();
    Ok(match (function, arguments.as_slice()) {
        (F::Not, [value]) => (!is_true(value)).into(),
        (F::Eq, [first, others @ ..]) if !others.is_empty() => {
            others.iter().any(|other| is_equal(first, other)).into()
        }
        (F::Ne, [a, b]) => (!is_equal(a, b)).into(),
        (F::Lt, [a, b]) => compare(a, b)?.is_lt().into(),
        (F::Le, [a, b]) => compare(a, b)?.is_le().into(),
        (F::Gt, [a, b]) => compare(a, b)?.is_gt().into(),
        (F::Ge, [a, b]) => compare(a, b)?.is_ge().into(),
        (F::Html, values) => html(&printed(values)).into(),
        (F::Index, [value, keys @ ..]) => keys.iter().try_fold(value.clone(), element)?,
        (F::Len, [value]) => length(value)?.into(),
        (F::Print, values) => printed(values).into(),
        (F::Println, values) => {
            let words: Vec<String> = values.iter().map(shown).collect();
            format!("{}\n", words.join(" ")).into()
        }
        (F::Printf, [Value::String(format), values @ ..]) => formatted(format, values)?.into(),
        (F::Slice, [value, bounds @ ..]) => part(value, bounds)?,
        (F::Urlquery, values) => url_query(&printed(values)).into(),
        (F::Join, [Value::Array(values), Value::String(separator)]) => {
            let words: Vec<String> = values.iter().map(shown).collect();
            words.join(separator).into()
        }
        (F::Join, [Value::Null, Value::String(_)]) => "".into(),
        (F::Json, [value]) => serde_json::to_string(value)?.into(),
        (F::Lower, [Value::String(text)]) => text.to_lowercase().into(),
        (F::Upper, [Value::String(text)]) => text.to_uppercase().into(),
        (F::Pad, [Value::String(text), before, after]) => {
            let spaces = |count: &Value| -> Result<String> { Ok(" ".repeat(whole(count)?)) };
            format!("{}{text}{}", spaces(before)?, spaces(after)?).into()
        }
        (F::Split, [Value::String(text), Value::String(separator)]) => {
            text.split(separator.as_str()).collect()
        }
        (F::Title, [Value::String(text)]) => title(text).into(),
        (F::Truncate, [Value::String(text), count]) => {
            text.chars().take(whole(count)?).collect::<String>().into()
        }
        (_, given) => {
            let given: Vec<&str> = given.iter().map(kind).collect();
            bail!("{} of {}", function.name(), given.join(", "))
        }
    })
}

/// With a space between neighbours of which neither is a text.
fn printed(values: &[Value]) -> String {
    let mut text = String::new();
    for (at, value) in values.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &values[before]);
        if before.is_some_and(|before| !before.is_string() && !value.is_string()) {
            text.push(' ');
        }
        text.push_str(&shown(value));
    }
    text
}

fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn compare(a: &Value, b: &Value) -> Result<Ordering> {
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    order.ok_or_else(|| anyhow!("{} and {} do not compare", kind(a), kind(b)))
}

/// What is not in an object is nothing, as in a map of Go's.
fn element(value: Value, key: &Value) -> Result<Value> {
    match (value, key) {
        (Value::Object(mut fields), Value::String(name)) => {
            Ok(fields.remove(name).unwrap_or_else(|| "".into()))
        }
        (Value::Array(mut values), Value::Number(_)) => {
            let at = whole(key)?;
            if at >= values.len() {
                bail!("no element {at} in a list of {}", values.len());
            }
            Ok(values.swap_remove(at))
        }
        (value, key) => bail!("index of {} by {}", kind(&value), kind(key)),
    }
}

/// From the first of the bounds to the second, or to the end: of a text in bytes.
fn part(value: &Value, bounds: &[Value]) -> Result<Value> {
    let length = length(value)?;
    let (from, to) = match bounds {
        [] => (0, length),
        [from] => (whole(from)?, length),
        [from, to] => (whole(from)?, whole(to)?),
        _ => bail!("slice takes two bounds at most"),
    };
    let found = match value {
        Value::String(text) => text.get(from..to).map(Value::from),
        Value::Array(values) => values.get(from..to).map(Value::from),
        _ => bail!("slice of {}", kind(value)),
    };
    found.ok_or_else(|| anyhow!("no part from {from} to {to} in {} of {length}", kind(value)))
}

fn html(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\0' => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn url_query(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => escaped.push('+'),
            b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => escaped.push(byte.into()),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn length(value: &Value) -> Result<usize> {
    Ok(match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.len(),
        Value::Object(fields) => Map::len(fields),
        _ => bail!("length of {}", kind(value)),
    })
}

fn whole(value: &Value) -> Result<usize> {
    let number = value.as_u64().and_then(|number| number.try_into().ok());
    // More spaces than anybody wants would be memory that nobody has.
    let number: Option<usize> = number.filter(|number| *number <= 1 << 16);
    number.ok_or_else(|| anyhow!("{} is no count", shown(value)))
}

fn title(text: &str) -> String {
    let mut starts = true;
    let upper = |letter: char| -> String {
        let begins = std::mem::replace(&mut starts, letter.is_whitespace());
        if begins {
            letter.to_uppercase().collect()
        } else {
            letter.into()
        }
    };
    text.chars().map(upper).collect()
}
