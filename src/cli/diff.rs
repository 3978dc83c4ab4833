//! `mybox diff`.

use clap::Args;
use mybox_store::{Difference, How, Store};
use serde::Serialize;

use super::output;
use crate::container::{Places, find};
use crate::error::Failure;
use crate::life::changes;

#[derive(Debug, Args)]
#[command(after_help = "\
A line for each path: A for what the container has added, C for what it has changed and the
directories above that, D for what it has deleted. What is in volumes is not the container's.

--json prints a list of {path, change, type}, change being added, changed or deleted, type what
is there or was there: file, directory, symlink ...")]
pub(super) struct Arguments {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// A name, an id, or the beginning of one
    container: String,
}

#[derive(Debug, Serialize)]
struct Row {
    path: String,
    change: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let record = find::one(places, &arguments.container)?.record;
    let store = Store::open(&places.root)?;
    let changes = changes::changes(places, &store, &record)?;
    if arguments.json {
        let rows: Vec<Row> = changes.differences.iter().map(row).collect();
        output::json(&rows)?;
        return Ok(0);
    }
    for difference in &changes.differences {
        let letter = match difference.how {
            How::Added => 'A',
            How::Changed => 'C',
            How::Deleted => 'D',
        };
        output::line(&format!("{letter} {}", output::visible(&path(difference))))?;
    }
    Ok(0)
}

fn row(difference: &Difference) -> Row {
    Row {
        path: path(difference),
        change: match difference.how {
            How::Added => "added",
            How::Changed => "changed",
            How::Deleted => "deleted",
        },
        kind: difference.what,
    }
}

fn path(difference: &Difference) -> String {
    format!("/{}", String::from_utf8_lossy(&difference.path))
}
