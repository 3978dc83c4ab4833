//! What a template says of an object.

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use super::Names;
use super::functions::{Function, apply};
use super::parse::{Base, Command, Node, Operand, Pipeline, Range};

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
