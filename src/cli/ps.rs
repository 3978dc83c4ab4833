//! `mybox ps`.

mod filter;

use clap::Args;

use filter::Filter;

use super::output;
use crate::container::find::{self, Container, State};
use crate::container::health::Status;
use crate::container::{Places, port};
use crate::error::Failure;
use crate::life;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Those that have ended too
    #[arg(short, long)]
    all: bool,
    /// Only those that fit: health=healthy, status=exited, name=, id=, label=, exited=, ancestor=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Ids alone
    #[arg(short, long)]
    quiet: bool,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    if let Err(error) = life::restore_network(places) {
        output::note(&format!(
            "the firewall could not be put back in order: {error:#}"
        ));
    }
    let mut rows = find::all(places)?;
    let all = arguments.all || arguments.filter.iter().any(Filter::is_about_all);
    rows.retain(|row| {
        let is_shown = all || matches!(row.state, State::Running | State::Restarting);
        is_shown && filter::is_wanted(&arguments.filter, row)
    });
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
            "PORTS",
            "NAMES",
        ];
        let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
        output::table(&header, &cells)?;
    }
    Ok(0)
}

fn cells(row: &Container) -> Vec<String> {
    let record = &row.record;
    let since = |then: u64| output::ago(life::now().saturating_sub(then));
    let ended = record.ending.map(|ending| {
        let memory = if ending.out_of_memory {
            ", out of memory"
        } else {
            ""
        };
        format!("({}) {}{memory}", ending.code, since(ending.at))
    });
    let ended = ended.unwrap_or_default();
    let status = match row.state {
        State::Created => "Created".to_owned(),
        State::Running => {
            let started = record.started.unwrap_or(record.created);
            let more = match row.health {
                _ if row.paused => " (Paused)",
                None => "",
                Some(Status::Starting) => " (health: starting)",
                Some(Status::Healthy) => " (healthy)",
                Some(Status::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{more}", since(started).trim_end_matches(" ago"))
        }
        State::Changing => "Changing".to_owned(),
        State::Restarting => format!("Restarting {ended}"),
        State::Exited => format!("Exited {ended}"),
    };
    let command: String = record.command.join(" ").chars().take(24).collect();
    let ports = if row.running {
        port::listing(row.published(), &record.exposed)
    } else {
        String::new()
    };
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
        ports,
        record.name.clone(),
    ]
}
