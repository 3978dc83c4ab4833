//! `mybox ps`.

mod filter;

use clap::Args;
use serde_json::{Value, json};

use filter::{Filter, Wanted};

use super::format::{self, Format, Heading};
use super::output;
use crate::container::find::{self, Container, State};
use crate::container::health::Status;
use crate::container::{Places, port};
use crate::error::Failure;
use crate::life::sizes::{Size, sizes};
use crate::life::{self, create};
use crate::plan::NetworkMode;

/// What `--format` can ask for.
const HEADINGS: [Heading; 17] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Health", "HEALTH"),
    ("Address", "ADDRESS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    format::LABEL,
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Size", "SIZE"),
];

const AFTER_HELP: &str = concat!(
    format::format_help!("{{.Names}} {{.Status}}"),
    "\n\nFilters: id=, name=REGULAR-EXPRESSION, label=KEY[=VALUE], status=, exited=CODE, ancestor=IMAGE,\n\
     health=, before=CONTAINER, since=CONTAINER, volume=NAME|PATH, network=bridge|host|none, and of a\n\
     container's ports publish=PORT[-PORT][/udp] and expose=. One of those with the same key must fit,\n\
     and all labels."
);

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Those that have ended too
    #[arg(short, long)]
    all: bool,
    /// The N that were made last, whatever they do
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// The one that was made last, whatever it does
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Each as a template says: '{{.Names}} {{.Status}}', 'table {{.ID}}\t{{.Names}}', json
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "json"])]
    format: Option<Format>,
    /// Only those that fit: health=healthy, status=exited, name=^web; all are listed below
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// What each has written, and that with its image, as bytes on the disk
    #[arg(short, long, conflicts_with_all = ["quiet", "json"])]
    size: bool,
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
    let wanted = Wanted::of(places, &arguments.filter)?;
    let mut rows = find::all(places)?;
    let last = arguments.last.or(arguments.latest.then_some(1));
    let is_about_all = arguments.filter.iter().any(Filter::is_about_all);
    let all = arguments.all || last.is_some() || is_about_all;
    rows.retain(|row| {
        let is_shown = all || matches!(row.state, State::Running | State::Restarting);
        is_shown && wanted.fits(row)
    });
    rows.truncate(last.unwrap_or(usize::MAX));
    let whole = arguments.no_trunc;
    if arguments.json {
        output::json(&rows)?;
    } else if arguments.quiet {
        for row in &rows {
            output::line(id(row, whole))?;
        }
    } else {
        let mut usual = vec![
            "ID",
            "Image",
            "Command",
            "RunningFor",
            "Status",
            "Address",
            "Ports",
            "Names",
        ];
        let format = arguments.format.as_ref();
        let sizes = if arguments.size || format.is_some_and(|it| it.asks_for("Size")) {
            sizes(places, &rows)?.iter().map(size).collect()
        } else {
            vec![String::new(); rows.len()]
        };
        if arguments.size {
            usual.push("Size");
        }
        // A file more to be read for each.
        let shows_requested = format
            .is_some_and(|format| ["Mounts", "Networks"].iter().any(|it| format.may_show(it)));
        let rows = rows.iter().zip(sizes);
        let row = |(row, size): (&Container, String)| {
            let mut fields = fields(row, whole, &size);
            if shows_requested {
                add_requested(places, row, &mut fields);
            }
            fields
        };
        let rows = rows.map(row).collect();
        format::print(format, &HEADINGS, &usual, rows)?;
    }
    Ok(0)
}

fn id(row: &Container, whole: bool) -> &str {
    let id = &row.record.id;
    if whole { id.as_str() } else { id.short() }
}

/// `4.1kB (virtual 2.05MB)`.
fn size(size: &Size) -> String {
    let [written, whole] = [size.written, size.whole].map(output::decimal_size);
    format!("{written} (virtual {whole})")
}

/// A row as templates know it, with Docker's names.
fn fields(row: &Container, whole: bool, size: &str) -> Value {
    let record = &row.record;
    let longest = if whole { usize::MAX } else { 24 };
    let command: String = record.command.join(" ").chars().take(longest).collect();
    let ports = if row.running {
        port::listing(row.published(), &record.exposed)
    } else {
        String::new()
    };
    let address = record.address.filter(|_| row.running);
    json!({
        "ID": id(row, whole),
        "Image": record.image,
        "Command": format!("\"{command}\""),
        "CreatedAt": output::date(record.created),
        "RunningFor": since(record.created),
        "State": row.state_word(),
        "Status": status(row),
        "Health": row.health.map_or("", Status::word),
        "Address": address.map(|it| it.to_string()).unwrap_or_default(),
        "Ports": ports,
        "Names": record.name,
        "Labels": output::pairs(&record.labels).join(","),
        "Label": record.labels,
        "LocalVolumes": record.volumes.len().to_string(),
        "Size": size,
    })
}

/// Fields that no usual table has, of what was asked for; of one that is being removed that may be gone.
fn add_requested(places: &Places, row: &Container, fields: &mut Value) {
    let request = create::read_request(&places.container(&row.record.id)).unwrap_or_default();
    let volumes = row.record.volumes.iter().map(|it| it.name.clone());
    let binds = request.volumes.iter();
    let binds = binds.map(|it| it.source.display().to_string());
    fields["Mounts"] = volumes.chain(binds).collect::<Vec<_>>().join(",").into();
    fields["Networks"] = match request.network {
        NetworkMode::Container(_) => "".into(),
        mode => mode.to_string().into(),
    };
}

fn since(then: u64) -> String {
    output::ago(life::now().saturating_sub(then))
}

/// What it is doing, or how it ended.
fn status(row: &Container) -> String {
    let record = &row.record;
    let ended = record.ending.map(|ending| {
        let memory = if ending.out_of_memory {
            ", out of memory"
        } else {
            ""
        };
        format!("({}) {}{memory}", ending.code, since(ending.at))
    });
    let ended = ended.unwrap_or_default();
    match row.state {
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
    }
}
