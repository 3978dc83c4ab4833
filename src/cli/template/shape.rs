//! What a value is to Go, whose types tell more of it than JSON does.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::Names;

/// Fields that are maps with Docker, in any case of letters; elsewhere an object is a struct.
const MAPS: &[&str] = &[
    "Annotations",
    "Attributes",
    "Data",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Fields that are lists, and null when there is nothing in them.
const LISTS: &[&str] = &[
    "Cmd",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "Links",
    "OnBuild",
    "Shell",
    "Test",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Shape {
    /// A null is a pointer that leads nowhere; what an object has not is no field.
    #[default]
    Plain,
    /// A null is an empty one.
    List,
    /// A null is an empty one; what it has not may be asked for.
    Map,
    /// What a map has not, and whatever would be in that.
    Absent,
}

impl Shape {
    fn of_field(name: &str) -> Self {
        let is_in = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if is_in(MAPS) {
            Self::Map
        } else if is_in(LISTS) {
            Self::List
        } else {
            Self::Plain
        }
    }
}

/// A value, with what it is to Go.
#[derive(Debug, Clone, Default)]
pub(super) struct Shaped {
    value: Value,
    shape: Shape,
}

impl From<Value> for Shaped {
    fn from(value: Value) -> Self {
        let shape = Shape::Plain;
        Self { value, shape }
    }
}

impl Shaped {
    /// As JSON has it.
    pub(super) fn json(self) -> Value {
        self.value
    }

    /// As Go has it: the nulls of lists and maps are empty ones.
    pub(super) fn value(self) -> Value {
        match (self.shape, self.value) {
            (Shape::List, Value::Null) => Value::Array(Vec::new()),
            (Shape::Map, Value::Null) => Value::Object(Map::new()),
            (_, value) => value,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        is_true(&self.value)
    }

    /// As it is printed.
    pub(super) fn shown(self) -> String {
        match self.shape {
            Shape::Absent => "<no value>".into(),
            _ => shown(&self.value()),
        }
    }

    /// The field of this name.
    pub(super) fn field(self, name: &str, names: Names) -> Result<Self> {
        let shape = self.shape;
        let mut fields = match self.value() {
            Value::Object(fields) => fields,
            _ if shape == Shape::Absent => Map::new(),
            value => bail!("`{name}` of {}", kind(&value)),
        };
        let other = names.iter().find(|(in_template, _)| *in_template == name);
        let found = fields
            .remove(name)
            .or_else(|| other.and_then(|(_, in_json)| fields.remove(*in_json)));
        let (value, shape) = match (shape, found) {
            (Shape::Map, Some(value)) => (value, Shape::Plain),
            (_, Some(value)) => (value, Shape::of_field(name)),
            (Shape::Map | Shape::Absent, None) => (Value::Null, Shape::Absent),
            (Shape::Plain | Shape::List, None) => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                bail!("no field `{name}`; there are {}", names.join(", "));
            }
        };
        Ok(Self { value, shape })
    }
}

/// What an error calls it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

pub(super) fn is_true(value: &Value) -> bool {
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
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
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
