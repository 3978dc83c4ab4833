//! `mybox ps`.

use clap::Args;
use serde::Serialize;

use super::output;
use crate::container::{ContainerId, Places, Record, claim};
use crate::error::Failure;
use crate::kernel::process;
use crate::life;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Those that have ended too
    #[arg(short, long)]
    all: bool,
    /// Ids alone
    #[arg(short, long)]
    quiet: bool,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// A container and whether it runs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) record: Record,
    pub(super) running: bool,
}

/// Every container of this root.
pub(super) fn rows(places: &Places) -> anyhow::Result<Vec<Row>> {
    let records = Record::all(places)?;
    Ok(records
        .into_iter()
        .map(|record| Row {
            running: is_running(places, &record.id),
            record,
        })
        .collect())
}

fn is_running(places: &Places, id: &ContainerId) -> bool {
    let process = claim::read_process(&places.live_container(id));
    process.is_some_and(|(pid, started)| process::start_time(pid) == Some(started))
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let mut rows = rows(places)?;
    rows.retain(|row| row.running || arguments.all);
    if arguments.json {
        output::json(&rows)?;
    } else if arguments.quiet {
        for row in &rows {
            output::line(row.record.id.short())?;
        }
    } else {
        let header = [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "ADDRESS",
            "NAMES",
        ];
        let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
        output::table(&header, &cells)?;
    }
    Ok(0)
}

fn cells(row: &Row) -> Vec<String> {
    let record = &row.record;
    let since = |then: u64| output::ago(life::now().saturating_sub(then));
    let status = match (&record.ending, row.running) {
        (Some(ending), _) if ending.out_of_memory => {
            format!(
                "Exited ({}) {}, out of memory",
                ending.code,
                since(ending.at)
            )
        }
        (Some(ending), _) => format!("Exited ({}) {}", ending.code, since(ending.at)),
        (None, true) => format!("Up {}", since(record.created).trim_end_matches(" ago")),
        (None, false) => "Created".to_owned(),
    };
    let command: String = record.command.join(" ").chars().take(24).collect();
    vec![
        record.id.short().to_owned(),
        record.image.clone(),
        format!("\"{command}\""),
        since(record.created),
        status,
        record
            .address
            .filter(|_| row.running)
            .map(|it| it.to_string())
            .unwrap_or_default(),
        record.name.clone(),
    ]
}

/// The one container that a name, an id or the beginning of an id means.
pub(super) fn find(places: &Places, name: &str) -> anyhow::Result<Row> {
    let mut rows = rows(places)?;
    if let Some(at) = rows.iter().position(|row| row.record.name == name) {
        return Ok(rows.swap_remove(at));
    }
    rows.retain(|row| !name.is_empty() && row.record.id.as_str().starts_with(name));
    match rows.len() {
        0 => anyhow::bail!("no such container: {name}"),
        1 => Ok(rows.swap_remove(0)),
        _ => {
            let ids: Vec<&str> = rows.iter().map(|row| row.record.id.short()).collect();
            anyhow::bail!(
                "{name} is ambiguous: it fits the containers {}",
                ids.join(", ")
            )
        }
    }
}
