//! A template's text, understood.

use serde_json::Value;

use super::functions::Function;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    /// `$name := value`, and `$name = value` for one that is there.
    Set {
        name: String,
        value: Pipeline,
        declares: bool,
    },
    /// The first of the branches whose condition holds, else the last part.
    If(Vec<(Condition, Vec<Node>)>, Vec<Node>),
    /// With the object as `.` if there is anything to it.
    With(Condition, Vec<Node>, Vec<Node>),
    Range(Box<Range>),
}

/// `{{if value}}`, `{{with $name := value}}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) name: Option<String>,
    pub(super) value: Pipeline,
}

/// `{{range $key, $value := over}}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Range {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) over: Pipeline,
    pub(super) body: Vec<Node>,
    /// For when there is nothing in it.
    pub(super) otherwise: Vec<Node>,
}

/// Commands, each with the result of the one before as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline(pub(super) Vec<Command>);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Call(Function, Vec<Operand>),
    Value(Operand),
}

/// A value, and the fields that lead on from it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Group(Pipeline),
}

impl Operand {
    fn is_field(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Whether it is whatever `.` or a variable stands for, with all its fields.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.base, Base::Dot | Base::Variable(_)) && self.fields.is_empty()
    }

    /// Whether it is a field of this name, or the name itself.
    pub(super) fn names(&self, name: &str) -> bool {
        let is_name = matches!(&self.base, Base::Literal(Value::String(text)) if text == name);
        is_name || self.fields.iter().any(|field| field == name)
    }
}

/// Whether one of the operands is such, wherever it stands.
pub(super) fn has_operand(nodes: &[Node], is_such: &dyn Fn(&Operand) -> bool) -> bool {
    let any = |nodes: &[Node]| has_operand(nodes, is_such);
    let of = |pipeline: &Pipeline| pipeline.has_operand(is_such);
    nodes.iter().any(|node| match node {
        Node::Text(_) => false,
        Node::Print(value) | Node::Set { value, .. } => of(value),
        Node::If(branches, last) => {
            let mut branches = branches.iter();
            branches.any(|(condition, body)| of(&condition.value) || any(body)) || any(last)
        }
        Node::With(object, body, otherwise) => of(&object.value) || any(body) || any(otherwise),
        Node::Range(range) => of(&range.over) || any(&range.body) || any(&range.otherwise),
    })
}

impl Pipeline {
    fn has_operand(&self, is_such: &dyn Fn(&Operand) -> bool) -> bool {
        let has = |operand: &Operand| {
            let in_group = match &operand.base {
                Base::Group(group) => group.has_operand(is_such),
                Base::Dot | Base::Variable(_) | Base::Literal(_) => false,
            };
            in_group || is_such(operand)
        };
        self.0.iter().any(|command| match command {
            Command::Call(_, operands) => operands.iter().any(has),
            Command::Value(operand) => has(operand),
        })
    }
}

/// Whether they are `{{json .}}`.
pub(super) fn is_json_of_all(nodes: &[Node]) -> bool {
    let [Node::Print(Pipeline(commands))] = nodes else {
        return false;
    };
    let [Command::Call(Function::Json, operands)] = &commands[..] else {
        return false;
    };
    matches!(&operands[..], [Operand { base: Base::Dot, fields }] if fields.is_empty())
}

/// Text, or what stood between `{{` and `}}`.
enum Piece<'a> {
    Text(&'a str),
    Action(&'a str),
}

/// What ends a list of nodes.
enum Stop<'a> {
    Text,
    End,
    /// With what stands after the word.
    Else(&'a str),
}

/// Understands a whole template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let pieces = split(text)?;
    let mut parser = Parser {
        pieces: pieces.into_iter(),
        variables: vec!["$".to_owned()],
    };
    match parser.list()? {
        (nodes, Stop::Text) => Ok(nodes),
        (_, Stop::End) => Err("`{{end}}` without anything to end".into()),
        (_, Stop::Else(_)) => Err("`{{else}}` without an `{{if}}`".into()),
    }
}

fn split(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let end = action_end(after)?;
        let (mut before, mut action) = (before, &after[..end]);
        rest = &after[end + 2..];
        if let Some(trimmed) = action.strip_prefix("- ") {
            (before, action) = (before.trim_end(), trimmed);
        }
        if let Some(trimmed) = action.strip_suffix(" -") {
            (rest, action) = (rest.trim_start(), trimmed);
        }
        pieces.push(Piece::Text(before));
        pieces.push(Piece::Action(action.trim()));
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Where the `}}` of an action is: not in a quotation.
fn action_end(text: &str) -> Result<usize, String> {
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (Some('"'), '\\') => drop(letters.next()),
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`') => quote = Some(letter),
            (None, '}') if text[at..].starts_with("}}") => return Ok(at),
            (None, _) => {}
        }
    }
    Err(match quote {
        Some(open) => format!("`{open}` without its end"),
        None => "`{{` without `}}`".into(),
    })
}

struct Parser<'a> {
    pieces: std::vec::IntoIter<Piece<'a>>,
    /// Those that are known here.
    variables: Vec<String>,
}

impl<'a> Parser<'a> {
    /// Nodes up to the end of the block that they are in; what it declares is forgotten there.
    fn list(&mut self) -> Result<(Vec<Node>, Stop<'a>), String> {
        let known = self.variables.len();
        let mut nodes = Vec::new();
        let end = loop {
            let action = match self.pieces.next() {
                None => break Stop::Text,
                Some(Piece::Text("")) => continue,
                Some(Piece::Text(text)) => {
                    nodes.push(Node::Text(text.to_owned()));
                    continue;
                }
                Some(Piece::Action(action)) => action,
            };
            let (word, rest) = first_word(action);
            match word {
                "end" if rest.is_empty() => break Stop::End,
                "else" => break Stop::Else(rest),
                "if" => nodes.push(self.branches(rest)?),
                "with" => nodes.push(self.with(rest)?),
                "range" => nodes.push(self.range(rest)?),
                "define" | "template" | "block" | "break" | "continue" => {
                    return Err(format!("`{word}` is not built"));
                }
                _ if action.starts_with("/*") && action.ends_with("*/") => {}
                _ => nodes.push(self.action(action)?),
            }
        };
        self.variables.truncate(known);
        Ok((nodes, end))
    }

    fn branches(&mut self, condition: &'a str) -> Result<Node, String> {
        let known = self.variables.len();
        let mut branches = Vec::new();
        let mut condition = condition;
        let last = loop {
            let holds = self.condition(condition)?;
            let (body, end) = self.list()?;
            branches.push((holds, body));
            match end {
                Stop::Text => return Err("`{{if}}` without `{{end}}`".into()),
                Stop::End => break Vec::new(),
                Stop::Else("") => break self.last("if")?,
                Stop::Else(rest) => match first_word(rest) {
                    ("if", next) => condition = next,
                    _ => return Err(format!("`{{{{else {rest}}}}}`: expected `if`")),
                },
            }
        };
        self.variables.truncate(known);
        Ok(Node::If(branches, last))
    }

    fn with(&mut self, rest: &'a str) -> Result<Node, String> {
        let known = self.variables.len();
        let object = self.condition(rest)?;
        let (body, otherwise) = self.body("with")?;
        self.variables.truncate(known);
        Ok(Node::With(object, body, otherwise))
    }

    /// What it declares is known from here on.
    fn condition(&mut self, text: &'a str) -> Result<Condition, String> {
        let end = text.find(|letter| letter != '$' && !is_of_name(letter));
        let (name, rest) = text.split_at(end.unwrap_or(text.len()));
        let declared = rest.trim_start().strip_prefix(":=");
        let (name, value) = match declared.filter(|_| name.starts_with('$')) {
            Some(value) => (Some(name.to_owned()), value),
            None => (None, text),
        };
        let value = self.pipeline(value)?;
        self.variables.extend(name.clone());
        Ok(Condition { name, value })
    }

    fn range(&mut self, rest: &'a str) -> Result<Node, String> {
        let known = self.variables.len();
        let (names, over) = match rest.split_once(":=") {
            Some((names, over)) if names.starts_with('$') => (names, over),
            _ => ("", rest),
        };
        let over = self.pipeline(over)?;
        let names: Vec<String> = names.split(',').map(|it| it.trim().to_owned()).collect();
        let (key, value) = match names.as_slice() {
            [only] if only.is_empty() => (None, None),
            [value] => (None, Some(value.clone())),
            [key, value] => (Some(key.clone()), Some(value.clone())),
            _ => return Err(format!("`{{{{range {rest}}}}}`: two variables at most")),
        };
        self.variables.extend(key.iter().chain(&value).cloned());
        let (body, otherwise) = self.body("range")?;
        self.variables.truncate(known);
        Ok(Node::Range(Box::new(Range {
            key,
            value,
            over,
            body,
            otherwise,
        })))
    }

    /// A block and what there is instead of it.
    fn body(&mut self, word: &str) -> Result<(Vec<Node>, Vec<Node>), String> {
        match self.list()? {
            (body, Stop::End) => Ok((body, Vec::new())),
            (body, Stop::Else("")) => Ok((body, self.last(word)?)),
            (_, Stop::Else(rest)) => Err(format!("`{{{{else {rest}}}}}` in a `{{{{{word}}}}}`")),
            (_, Stop::Text) => Err(format!("`{{{{{word}}}}}` without `{{{{end}}}}`")),
        }
    }

    /// What stands after the last `else`.
    fn last(&mut self, word: &str) -> Result<Vec<Node>, String> {
        match self.list()? {
            (nodes, Stop::End) => Ok(nodes),
            (_, Stop::Else(_)) => Err(format!("two `{{{{else}}}}` in one `{{{{{word}}}}}`")),
            (_, Stop::Text) => Err(format!("`{{{{{word}}}}}` without `{{{{end}}}}`")),
        }
    }

    /// A pipeline that is printed, or what a variable is to be.
    fn action(&mut self, text: &'a str) -> Result<Node, String> {
        let (word, rest) = first_word(text);
        for (sign, declares) in [(":=", true), ("=", false)] {
            let Some(value) = rest.strip_prefix(sign).filter(|_| word.starts_with('$')) else {
                continue;
            };
            let (name, value) = (word.to_owned(), self.pipeline(value)?);
            if declares {
                self.variables.push(name.clone());
            } else {
                self.must_know(&name)?;
            }
            return Ok(Node::Set {
                name,
                value,
                declares,
            });
        }
        self.pipeline(text).map(Node::Print)
    }

    fn must_know(&self, name: &str) -> Result<(), String> {
        let known = self.variables.iter().any(|known| known == name);
        known
            .then_some(())
            .ok_or_else(|| format!("no variable `{name}`"))
    }

    fn pipeline(&self, text: &str) -> Result<Pipeline, String> {
        let mut words = Words { rest: text };
        let pipeline = self.commands(&mut words, 0)?;
        match words.next_letter() {
            None => Ok(pipeline),
            Some(letter) => Err(format!("`{letter}` in `{}` ends nothing", text.trim())),
        }
    }

    fn commands(&self, words: &mut Words<'_>, depth: usize) -> Result<Pipeline, String> {
        const DEEPEST: usize = 50;
        if depth > DEEPEST {
            return Err(format!("more than {DEEPEST} parentheses in each other"));
        }
        let mut commands = vec![self.command(words, depth)?];
        while words.take('|') {
            let empty = words.next_letter().is_none();
            if empty {
                return Err("nothing after `|`".into());
            }
            commands.push(self.command(words, depth)?);
        }
        Ok(Pipeline(commands))
    }

    fn command(&self, words: &mut Words<'_>, depth: usize) -> Result<Command, String> {
        let function = match words.identifier() {
            None | Some("true" | "false" | "nil") => None,
            Some(name) => {
                let known = Function::named(name);
                words.rest = &words.rest.trim_start()[name.len()..];
                Some(known.ok_or_else(|| format!("no function `{name}`"))?)
            }
        };
        let mut operands = Vec::new();
        while !matches!(words.next_letter(), None | Some('|' | ')')) {
            operands.push(self.operand(words, depth)?);
        }
        match (function, operands.len()) {
            (Some(function), _) => Ok(Command::Call(function, operands)),
            (None, 1) => Ok(Command::Value(operands.remove(0))),
            (None, 0) => Err("nothing between `{{` and `}}`, or in parentheses".into()),
            // `.Label "a"`: what looks like a method is what the field has under this name.
            (None, _) if operands[0].is_field() => Ok(Command::Call(Function::Index, operands)),
            (None, _) => Err("only a function takes arguments".into()),
        }
    }

    fn operand(&self, words: &mut Words<'_>, depth: usize) -> Result<Operand, String> {
        let first = words.next_letter().unwrap_or_default();
        let base = match first {
            '.' => {
                // The first of the fields stands right after it.
                if !words.rest[1..].starts_with(is_of_name) {
                    words.take('.');
                }
                Base::Dot
            }
            '(' => {
                words.take('(');
                let group = self.commands(words, depth + 1)?;
                if !words.take(')') {
                    return Err("`(` without `)`".into());
                }
                Base::Group(group)
            }
            '$' => {
                words.take('$');
                let name = format!("${}", words.name());
                self.must_know(&name)?;
                Base::Variable(name)
            }
            '"' | '`' => Base::Literal(Value::String(words.quotation(first)?)),
            '0'..='9' | '-' | '+' => Base::Literal(words.number()?),
            _ => match words.identifier() {
                Some(word) => Base::Literal(words.value(word)?),
                None => return Err(format!("`{first}` is nothing that a template knows")),
            },
        };
        let mut fields = Vec::new();
        while words.rest.starts_with('.') && words.rest[1..].starts_with(is_of_name) {
            words.rest = &words.rest[1..];
            fields.push(words.name().to_owned());
        }
        Ok(Operand { base, fields })
    }
}

fn first_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// What is left of an action's text.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// The next letter that is no space, up to which it goes.
    fn next_letter(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, letter: char) -> bool {
        self.next_letter();
        match self.rest.strip_prefix(letter) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes a name, which may be empty.
    fn name(&mut self) -> &'a str {
        let end = self.rest.find(|letter| !is_of_name(letter));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        name
    }

    /// The word that comes next, left there.
    fn identifier(&self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        let begins = text.starts_with(|letter: char| letter.is_alphabetic() || letter == '_');
        let end = text.find(|letter| !is_of_name(letter));
        begins.then(|| &text[..end.unwrap_or(text.len())])
    }

    /// Takes the word that comes next, which stands for a value.
    fn value(&mut self, word: &str) -> Result<Value, String> {
        let value = match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "nil" => Value::Null,
            _ => return Err(format!("`{word}` is no value; a field begins with a dot")),
        };
        self.name();
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, String> {
        let end = self
            .rest
            .find(|letter: char| letter.is_whitespace() || letter == ')' || letter == '|');
        let (number, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let whole = number.parse::<i64>().map(Value::from).ok();
        let value = whole.or_else(|| number.parse::<f64>().ok().map(Value::from));
        value.ok_or_else(|| format!("`{number}` is no number"))
    }

    /// With Go's escapes, which are JSON's and some more, between double quotes; raw between others.
    fn quotation(&mut self, quote: char) -> Result<String, String> {
        let inside = &self.rest[1..];
        let mut text = String::new();
        let mut letters = inside.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                _ if letter == quote => {
                    self.rest = &inside[at + 1..];
                    return Ok(text);
                }
                '\\' if quote == '"' => {
                    let (_, escaped) = letters.next().unwrap_or_default();
                    text.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        '\\' | '"' | '\'' => escaped,
                        _ => return Err(format!("the escape `\\{escaped}` is not known")),
                    });
                }
                _ => text.push(letter),
            }
        }
        Err(format!("`{quote}` without its end"))
    }
}
