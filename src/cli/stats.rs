//! `mybox stats`.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::format::{self, Format, Heading};
use super::output;
use crate::container::find::{self, Container};
use crate::container::{ContainerId, Places};
use crate::error::Failure;
use crate::life::observe::{self, Sample};

#[derive(Debug, Args)]
#[command(after_help = concat!("\
CPU % is of one processor: 200 % are two processors. Memory is without files in the cache that the
kernel could drop at once; without a limit it is shown against the machine's. A container in the
host's network has no traffic of its own.

", format::format_help!("{{.Name}} {{.CPUPerc}}")))]
pub(super) struct Arguments {
    /// Once, after a second
    #[arg(long)]
    no_stream: bool,
    /// Those too that do not run
    #[arg(short, long)]
    all: bool,
    /// Each as a template says: '{{.Name}} {{.MemUsage}}', 'table {{.Name}}\t{{.PIDs}}', json
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    format: Option<Format>,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// As JSON: a line for each container and second
    #[arg(long)]
    json: bool,
    /// Names, ids, or the beginnings of ids [default: all that run]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// What `--format` can ask for.
const HEADINGS: [Heading; 9] = [
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let mut before = samples(&chosen(places, arguments)?);
    let mut wanted = true;
    while wanted && output::pause_while_read(PERIOD)? {
        let containers = chosen(places, arguments)?;
        let now = samples(&containers);
        let rows: Vec<Row> = containers
            .iter()
            .enumerate()
            .map(|(number, container)| {
                let id = &container.record.id;
                let asked = arguments.containers.get(number).cloned();
                Row::of(container, asked, before.get(id), now.get(id))
            })
            .collect();
        wanted = output::print_on(text(arguments, &rows)?.as_bytes())? && !arguments.no_stream;
        before = now;
    }
    Ok(0)
}

/// Those that the user names, in the same order, else those that run.
fn chosen(places: &Places, arguments: &Arguments) -> anyhow::Result<Vec<Container>> {
    if !arguments.containers.is_empty() {
        let names = arguments.containers.iter();
        return names.map(|name| find::one(places, name)).collect();
    }
    let mut containers = find::all(places)?;
    containers.retain(|container| container.running || arguments.all);
    Ok(containers)
}

fn samples(containers: &[Container]) -> HashMap<ContainerId, Sample> {
    let of = |container: &Container| Some((container.record.id.clone(), Sample::of(container)?));
    containers.iter().filter_map(of).collect()
}

/// What one container uses.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    cpu_percent: f64,
    memory: u64,
    memory_limit: u64,
    memory_percent: f64,
    received: u64,
    sent: u64,
    read: u64,
    written: u64,
    pids: u64,
    /// What the user calls it.
    #[serde(skip)]
    asked: Option<String>,
}

impl Row {
    /// All nothing for a container that does not run.
    fn of(
        container: &Container,
        asked: Option<String>,
        before: Option<&Sample>,
        now: Option<&Sample>,
    ) -> Self {
        let usage = now.map(|now| now.usage).unwrap_or_default();
        let traffic = now.map(|now| now.traffic).unwrap_or_default();
        let cpu = before.zip(now).map(|(before, now)| now.cpu_since(before));
        let memory_limit = match now {
            Some(_) => {
                let of_host = observe::memory_of_host();
                usage.memory_limit.unwrap_or(of_host).min(of_host)
            }
            None => 0,
        };
        Self {
            id: container.record.id.as_str().to_owned(),
            name: container.record.name.clone(),
            cpu_percent: hundredths(cpu.unwrap_or(0.0)),
            memory: usage.memory,
            memory_limit,
            memory_percent: hundredths(100.0 * usage.memory as f64 / memory_limit.max(1) as f64),
            received: traffic.received,
            sent: traffic.sent,
            read: usage.read,
            written: usage.written,
            pids: usage.pids,
            asked,
        }
    }

    /// As templates know it, with Docker's names.
    fn fields(&self, whole: bool) -> Value {
        let memory = output::short_binary_size;
        let pair = |a, b| format!("{} / {}", output::decimal_size(a), output::decimal_size(b));
        let id = output::id(&self.id, whole);
        json!({
            "Container": self.asked.as_deref().unwrap_or(&id),
            "ID": id,
            "Name": self.name,
            "CPUPerc": format!("{:.2}%", self.cpu_percent),
            "MemUsage": format!("{} / {}", memory(self.memory), memory(self.memory_limit)),
            "MemPerc": format!("{:.2}%", self.memory_percent),
            "NetIO": pair(self.received, self.sent),
            "BlockIO": pair(self.read, self.written),
            "PIDs": self.pids.to_string(),
        })
    }
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn text(arguments: &Arguments, rows: &[Row]) -> anyhow::Result<String> {
    if arguments.json {
        let lines = rows
            .iter()
            .map(|row| Ok(serde_json::to_string(row)? + "\n"));
        return lines.collect();
    }
    let format = arguments.format.as_ref();
    let whole = arguments.no_trunc;
    let fields = rows.iter().map(|row| row.fields(whole)).collect();
    let usual = HEADINGS.map(|(name, _)| name);
    // All but the first, which is for templates.
    let text = format::text(format, &HEADINGS, &usual[1..], fields)?;
    let is_json = format == Some(&Format::Json);
    if is_json || arguments.no_stream || !rustix::termios::isatty(std::io::stdout()) {
        return Ok(text);
    }
    // Over the last one: home, then each line with what was there erased, then what is below.
    let lines = text.lines().map(|line| format!("{line}\x1b[K\n"));
    Ok(format!("\x1b[H{}\x1b[J", lines.collect::<String>()))
}
