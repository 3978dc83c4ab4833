//! What a template says of an object.

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use super::Names;
use super::functions::{Function, apply};
use super::parse::{Base, Command, Condition, Node, Operand, Pipeline, Range};
use super::shape::{Shaped, is_true, kind};

pub(super) fn render(nodes: &[Node], object: &Value, names: Names) -> Result<String> {
    let object = Shaped::from(object.clone());
    let mut evaluation = Evaluation {
        names,
        variables: vec![("$".to_owned(), object.clone())],
        text: String::new(),
    };
    evaluation.list(nodes, &object)?;
    Ok(evaluation.text)
}

struct Evaluation {
    names: Names,
    /// The latest last.
    variables: Vec<(String, Shaped)>,
    text: String,
}

impl Evaluation {
    /// A block; what it declares is forgotten at its end.
    fn list(&mut self, nodes: &[Node], dot: &Shaped) -> Result<()> {
        let known = self.variables.len();
        for node in nodes {
            self.node(node, dot)?;
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Shaped) -> Result<()> {
        match node {
            Node::Text(text) => self.text.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.text.push_str(&value.shown());
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
                let known = self.variables.len();
                let mut taken = otherwise;
                for (condition, body) in branches {
                    if self.condition(condition, dot)?.is_true() {
                        taken = body;
                        break;
                    }
                }
                self.list(taken, dot)?;
                self.variables.truncate(known);
            }
            Node::With(object, body, otherwise) => {
                let known = self.variables.len();
                let object = self.condition(object, dot)?;
                if object.is_true() {
                    self.list(body, &object)?;
                } else {
                    self.list(otherwise, dot)?;
                }
                self.variables.truncate(known);
            }
            Node::Range(range) => self.range(range, dot)?,
        }
        Ok(())
    }

    fn range(&mut self, range: &Range, dot: &Shaped) -> Result<()> {
        let elements: Vec<(Value, Value)> = match self.pipeline(&range.over, dot)?.value() {
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
            let (key, value) = (Shaped::from(key), Shaped::from(value));
            for (name, value) in [(&range.key, &key), (&range.value, &value)] {
                let named = name.iter().map(|name| (name.clone(), value.clone()));
                self.variables.extend(named);
            }
            self.list(&range.body, &value)?;
            self.variables.truncate(known);
        }
        Ok(())
    }

    /// What it declares is known until its block ends.
    fn condition(&mut self, condition: &Condition, dot: &Shaped) -> Result<Shaped> {
        let value = self.pipeline(&condition.value, dot)?;
        let named = condition.name.clone().map(|name| (name, value.clone()));
        self.variables.extend(named);
        Ok(value)
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Shaped) -> Result<Shaped> {
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

    fn operand(&self, operand: &Operand, dot: &Shaped) -> Result<Shaped> {
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Literal(value) => value.clone().into(),
            Base::Group(pipeline) => self.pipeline(pipeline, dot)?,
            Base::Variable(name) => {
                let mut latest = self.variables.iter().rev();
                let found = latest.find(|(known, _)| known == name);
                let found = found.ok_or_else(|| anyhow!("no variable `{name}`"))?;
                found.1.clone()
            }
        };
        let mut names = operand.fields.iter();
        names.try_fold(base, |value, name| value.field(name, self.names))
    }

    fn call(
        &self,
        function: Function,
        operands: &[Operand],
        last: Option<Shaped>,
        dot: &Shaped,
    ) -> Result<Shaped> {
        // Of these two, no more is looked at than decides.
        let decides = match function {
            Function::And => Some(false),
            Function::Or => Some(true),
            _ => None,
        };
        let mut arguments = Vec::new();
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if decides == Some(value.is_true()) {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(last);
        if decides.is_some() {
            let last = arguments.pop();
            return last.ok_or_else(|| anyhow!("{} of nothing", function.name()));
        }
        apply(function, arguments).map(Shaped::from)
    }
}
