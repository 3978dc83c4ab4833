//! `--format` of listings: a line for each row, or a table of the columns that are asked for.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::output;
use super::template::Template;
use crate::error::Failure;

/// What is said of it in the help of a listing, with an example of its own.
macro_rules! format_help {
    ($example:literal) => {
        concat!(
            "--format TEMPLATE prints a line for each, in Go's template language: '",
            $example,
            "';\n`table TEMPLATE` a table with a heading, columns divided by \\t; `json` an object a line."
        )
    };
}
pub(super) use format_help;

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    /// `table` alone: what is printed without `--format`.
    Usual,
    Json,
    Lines(Template),
    Table(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let template = |text: &str| {
            text.replace("\\t", "\t")
                .replace("\\n", "\n")
                .parse::<Template>()
        };
        match text {
            "table" => Ok(Self::Usual),
            "json" => Ok(Self::Json),
            _ => match text.strip_prefix("table ") {
                Some(columns) => template(columns.trim_start()).map(Self::Table),
                None => template(text).map(|lines| match lines.is_json() {
                    true => Self::Json,
                    false => Self::Lines(lines),
                }),
            },
        }
    }
}

impl Format {
    /// Whether it asks for this field, which is costly to know. `json` has what is known anyway.
    pub(super) fn asks_for(&self, name: &str) -> bool {
        match self {
            Self::Usual | Self::Json => false,
            Self::Lines(template) | Self::Table(template) => template.mentions(name),
        }
    }

    /// Whether this field may be seen in what it shows.
    pub(super) fn may_show(&self, name: &str) -> bool {
        match self {
            Self::Usual => false,
            Self::Json => true,
            Self::Lines(template) | Self::Table(template) => template.may_show(name),
        }
    }
}

/// `--format` of what is not a row of a table, where `json` is all of it on a line.
pub(super) fn of_object(text: &str) -> Result<Template, String> {
    match text {
        "json" => "{{json .}}".parse(),
        _ => text.parse(),
    }
}

/// A field of a row: its name in templates, and what stands over its column.
pub(super) type Heading = (&'static str, &'static str);

/// `{{.Label "a"}}`, Docker's one method: rows have an object of their labels under this name, which is
/// no field of theirs in JSON.
pub(super) const LABEL: Heading = ("Label", "");

/// Prints rows, which are objects with the fields that there are headings for; `usual` are those of the
/// usual table.
pub(super) fn print(
    format: Option<&Format>,
    headings: &[Heading],
    usual: &[&str],
    rows: Vec<Value>,
) -> anyhow::Result<()> {
    output::print_on(text(format, headings, usual, rows)?.as_bytes())?;
    Ok(())
}

/// What [`print`] prints.
pub(super) fn text(
    format: Option<&Format>,
    headings: &[Heading],
    usual: &[&str],
    rows: Vec<Value>,
) -> anyhow::Result<String> {
    // It has every field: what no row has is an error where there are no rows, too.
    let over = headings
        .iter()
        .map(|(name, over)| ((*name).to_owned(), Value::from(*over)));
    let mut over = Value::Object(over.collect());
    if headings.contains(&LABEL) {
        over[LABEL.0] = visible(label_headings(&rows));
    }
    let line = |line: String| line + "\n";
    Ok(match format {
        None | Some(Format::Usual) => table(usual, headings, &rows),
        Some(Format::Json) => {
            let rows = rows.into_iter().map(without_methods);
            rows.map(|row| line(row.to_string())).collect()
        }
        Some(Format::Lines(template)) => {
            template.render(&over)?;
            rows.into_iter()
                .map(|row| template.render(&visible(row)).map(line))
                .collect::<anyhow::Result<_>>()?
        }
        Some(Format::Table(template)) => {
            let cells = |row: &Value| -> anyhow::Result<Vec<String>> {
                let line = template.render(row)?;
                Ok(line.split('\t').map(ToOwned::to_owned).collect())
            };
            let header = cells(&over)?;
            let header: Vec<&str> = header.iter().map(String::as_str).collect();
            let rows: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| cells(&visible(row)))
                .collect::<anyhow::Result<_>>()?;
            output::table_text(&header, &rows)
        }
    })
}

/// What stands over the column of each label that a row has: the end of its name.
fn label_headings(rows: &[Value]) -> Value {
    let labels = rows.iter().filter_map(|row| row[LABEL.0].as_object());
    let heading = |name: &String| {
        let end = name.rsplit('.').next().unwrap_or_default();
        (name.clone(), end.replace(['-', '_'], " ").into())
    };
    Value::Object(labels.flat_map(Map::keys).map(heading).collect())
}

fn without_methods(mut row: Value) -> Value {
    if let Some(fields) = row.as_object_mut() {
        fields.remove(LABEL.0);
    }
    row
}

/// Some of the fields in columns.
fn table(columns: &[&str], headings: &[Heading], rows: &[Value]) -> String {
    let over = |column: &&str| headings.iter().find(|(name, _)| name == column);
    let header: Vec<&str> = columns.iter().filter_map(over).map(|it| it.1).collect();
    let cells = |row: &Value| {
        let cell = |column: &&str| row[*column].as_str().unwrap_or_default().to_owned();
        columns.iter().map(cell).collect()
    };
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    output::table_text(&header, &cells)
}

/// Prints what `inspect` says of each name: as a template says, or all as one list. The exit code is 1 if
/// there was an error, which is told.
pub(super) fn inspect(
    template: Option<&Template>,
    names: &[String],
    mut document: impl FnMut(&str) -> anyhow::Result<Value>,
) -> Result<u8, Failure> {
    let mut documents = Vec::new();
    let mut code = 0;
    for name in names {
        let shown = document(name).and_then(|document| match template {
            Some(template) => output::line(&template.render(&document)?),
            None => {
                documents.push(document);
                Ok(())
            }
        });
        if let Err(error) = shown {
            Failure::from(error).show();
            code = 1;
        }
    }
    if template.is_none() {
        output::json(&documents)?;
    }
    Ok(code)
}

/// mybox's own fields, and Docker's beside them.
pub(super) fn with(mut own: Value, dockers: Value) -> Value {
    if let (Some(own), Value::Object(dockers)) = (own.as_object_mut(), dockers) {
        own.extend(dockers);
    }
    own
}

/// With control characters of what an image brought along shown as escapes, but not the template's.
pub(super) fn visible(value: Value) -> Value {
    match value {
        Value::String(text) => output::visible(&text).into(),
        Value::Object(fields) => {
            let shown = |(name, value): (String, Value)| (output::visible(&name), visible(value));
            Value::Object(fields.into_iter().map(shown).collect::<Map<_, _>>())
        }
        Value::Array(values) => values.into_iter().map(visible).collect(),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_before_a_template_are_dockers() {
        let parse = |text: &str| text.parse::<Format>();
        assert_eq!(parse("table"), Ok(Format::Usual));
        assert_eq!(parse("json"), Ok(Format::Json));
        assert_eq!(parse("{{ json . }}"), Ok(Format::Json));
        let template = |text: &str| text.parse::<Template>().unwrap();
        assert_eq!(
            parse(r"table {{.ID}}\t{{.Names}}"),
            Ok(Format::Table(template("{{.ID}}\t{{.Names}}")))
        );
        assert_eq!(
            parse(r"{{.ID}}\n"),
            Ok(Format::Lines(template("{{.ID}}\n")))
        );
        assert!(parse("{{.ID").is_err());
    }

    #[test]
    fn a_field_that_no_row_has_is_an_error_without_any_row() {
        let format = "{{.Nmae}}".parse().unwrap();
        let error = print(Some(&format), &[("Name", "NAME")], &[], Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "no field `Nmae`; there are Name");
    }
}
