//! What a template says of an object.

use std::cmp::Ordering;

use anyhow::{Result, anyhow, bail};
use serde_json::{Map, Value};

use super::Names;
use super::parse::{Base, Command, Node, Operand, Pipeline, Range};

/// What can be called: Go's functions, then those of Docker.
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
    Index,
    Len,
    Print,
    Printf,
    Println,
    Join,
    Json,
    Lower,
    Pad,
    Split,
    Title,
    Truncate,
    Upper,
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "and" => Self::And,
            "or" => Self::Or,
            "not" => Self::Not,
            "eq" => Self::Eq,
            "ne" => Self::Ne,
            "lt" => Self::Lt,
            "le" => Self::Le,
            "gt" => Self::Gt,
            "ge" => Self::Ge,
            "index" => Self::Index,
            "len" => Self::Len,
            "print" => Self::Print,
            "printf" => Self::Printf,
            "println" => Self::Println,
            "join" => Self::Join,
            "json" => Self::Json,
            "lower" => Self::Lower,
            "pad" => Self::Pad,
            "split" => Self::Split,
            "title" => Self::Title,
            "truncate" => Self::Truncate,
            "upper" => Self::Upper,
            _ => return None,
        })
    }
}

pub(super) fn render(nodes: &[Node], object: &Value, names: Names) -> Result<String> {
    let mut evaluation = Evaluation {
        names,
        variables: vec![("$".to_owned(), object.clone())],
        text: String::new(),
    };
    evaluation.list(nodes, object)?;
    Ok(evaluation.text)
}

struct Evaluation {
    names: Names,
    /// The latest last.
    variables: Vec<(String, Value)>,
    text: String,
}

impl Evaluation {
    /// A block; what it declares is forgotten at its end.
    fn list(&mut self, nodes: &[Node], dot: &Value) -> Result<()> {
        let known = self.variables.len();
        for node in nodes {
            self.node(node, dot)?;
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<()> {
        match node {
            Node::Text(text) => self.text.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.text.push_str(&shown(&value));
            }
            Node::Set {
                name,
                value,
                declares,
            } => {
                let value = self.pipeline(value, dot)?;
                let mut latest = self.variables.iter_mut().rev();
                match latest.find(|(known, _)| known == name && !declares) {
                    Some((_, known)) => *known = value,
                    None => self.variables.push((name.clone(), value)),
                }
            }
            Node::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if is_true(&self.pipeline(condition, dot)?) {
                        return self.list(body, dot);
                    }
                }
                self.list(otherwise, dot)?;
            }
            Node::With(object, body, otherwise) => {
                let object = self.pipeline(object, dot)?;
                if is_true(&object) {
                    self.list(body, &object)?;
                } else {
                    self.list(otherwise, dot)?;
                }
            }
            Node::Range(range) => self.range(range, dot)?,
        }
        Ok(())
    }

    fn range(&mut self, range: &Range, dot: &Value) -> Result<()> {
        let elements: Vec<(Value, Value)> = match self.pipeline(&range.over, dot)? {
            Value::Array(values) => {
                let numbered = values.into_iter().enumerate();
                numbered.map(|(at, value)| (at.into(), value)).collect()
            }
            Value::Object(fields) => fields
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
            value if !is_true(&value) => Vec::new(),
            value => bail!("range over {}", kind(&value)),
        };
        if elements.is_empty() {
            return self.list(&range.otherwise, dot);
        }
        let known = self.variables.len();
        for (key, value) in elements {
            for (name, value) in [(&range.key, &key), (&range.value, &value)] {
                let named = name.iter().map(|name| (name.clone(), value.clone()));
                self.variables.extend(named);
            }
            self.list(&range.body, &value)?;
            self.variables.truncate(known);
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value> {
        let mut last = None;
        for command in &pipeline.0 {
            last = Some(match (command, last) {
                (Command::Call(function, operands), last) => {
                    self.call(*function, operands, last, dot)?
                }
                (Command::Value(operand), None) => self.operand(operand, dot)?,
                (Command::Value(_), Some(_)) => bail!("what comes after `|` is no function"),
            });
        }
        Ok(last.unwrap_or_default())
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value> {
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Literal(value) => value.clone(),
            Base::Group(pipeline) => self.pipeline(pipeline, dot)?,
            Base::Variable(name) => {
                let mut latest = self.variables.iter().rev();
                let found = latest.find(|(known, _)| known == name);
                let found = found.ok_or_else(|| anyhow!("no variable `{name}`"))?;
                found.1.clone()
            }
        };
        let field = |value, name: &String| field(value, name, self.names);
        operand.fields.iter().try_fold(base, field)
    }

    fn call(
        &self,
        function: Function,
        operands: &[Operand],
        last: Option<Value>,
        dot: &Value,
    ) -> Result<Value> {
        // Of these two, no more is looked at than decides.
        let decides = match function {
            Function::And => Some(false),
            Function::Or => Some(true),
            _ => None,
        };
        let mut arguments = Vec::new();
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if decides == Some(is_true(&value)) {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(last);
        apply(function, &arguments)
    }
}

fn field(value: Value, name: &str, names: Names) -> Result<Value> {
    let Value::Object(mut fields) = value else {
        bail!("`{name}` of {}", kind(&value));
    };
    let other = names.iter().find(|(in_template, _)| *in_template == name);
    let found = match fields.remove(name) {
        None => other.and_then(|(_, in_json)| fields.remove(*in_json)),
        found => found,
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        anyhow!("no field `{name}`; there are {}", names.join(", "))
    })
}

fn apply(function: Function, arguments: &[Value]) -> Result<Value> {
    use Function as F;
    Ok(match (function, arguments) {
        (F::And | F::Or, [.., last]) => last.clone(),
        (F::Not, [value]) => (!is_true(value)).into(),
        (F::Eq, [first, others @ ..]) if !others.is_empty() => {
            others.iter().any(|other| is_equal(first, other)).into()
        }
        (F::Ne, [a, b]) => (!is_equal(a, b)).into(),
        (F::Lt, [a, b]) => compare(a, b)?.is_lt().into(),
        (F::Le, [a, b]) => compare(a, b)?.is_le().into(),
        (F::Gt, [a, b]) => compare(a, b)?.is_gt().into(),
        (F::Ge, [a, b]) => compare(a, b)?.is_ge().into(),
        (F::Index, [value, keys @ ..]) => keys.iter().try_fold(value.clone(), element)?,
        (F::Len, [value]) => length(value)?.into(),
        (F::Print, values) => printed(values).into(),
        (F::Println, values) => {
            let words: Vec<String> = values.iter().map(shown).collect();
            format!("{}\n", words.join(" ")).into()
        }
        (F::Printf, [Value::String(format), values @ ..]) => formatted(format, values)?.into(),
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
            let name = format!("{function:?}").to_lowercase();
            bail!("{name} of {}", given.join(", "))
        }
    })
}

/// What an error calls it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// As Go's `%v` has it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(values) => {
            let words: Vec<String> = values.iter().map(shown).collect();
            format!("[{}]", words.join(" "))
        }
        Value::Object(fields) => {
            let word = |(name, value): (&String, &Value)| format!("{name}:{}", shown(value));
            let words: Vec<String> = fields.iter().map(word).collect();
            format!("map[{}]", words.join(" "))
        }
    }
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

/// Go's verbs `%s %v %d %q %%`, with `-`, `0` and a width.
fn formatted(format: &str, values: &[Value]) -> Result<String> {
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
