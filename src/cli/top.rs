//! `mybox top`.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value};

use super::output;
use crate::container::{Places, find};
use crate::error::Failure;
use crate::life;
use crate::life::observe::{self, Process};
use crate::life::target::Target;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox top web
  mybox top web -o pid,user,rss,cmd

Columns: c cmd comm nlwp pgid pid ppid rss s sid stime time tty uid user vsz. Numbers and names of
users and processes are the host's.")]
pub(super) struct Arguments {
    /// As JSON, before the container
    #[arg(long)]
    json: bool,
    /// A name, an id, or the beginning of an id
    container: String,
    /// Options of ps(1): -ef, which is the default, or -o COLUMNS
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "OPTIONS"
    )]
    options: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let columns = columns(&arguments.options)?;
    let target = Target::of(find::one(places, &arguments.container)?)?;
    let names = names();
    let processes = observe::processes(&target.record);
    let rows = processes.iter();
    let rows: Vec<Vec<String>> = rows
        .map(|process| {
            columns
                .iter()
                .map(|column| column.cell(process, &names))
                .collect()
        })
        .collect();
    let header: Vec<&str> = columns.iter().map(|column| column.header()).collect();
    if arguments.json {
        let objects: Vec<Value> = rows.into_iter().map(|row| object(&header, row)).collect();
        output::json(&objects)?;
    } else {
        output::table(&header, &rows)?;
    }
    Ok(0)
}

fn object(header: &[&str], row: Vec<String>) -> Value {
    let keys = header.iter().map(|name| name.to_ascii_lowercase());
    let fields: Map<String, Value> = keys.zip(row.into_iter().map(Value::from)).collect();
    Value::Object(fields)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Uid,
    User,
    /// That of `ps -f`: the user's name, under the heading of his number.
    Owner,
    Pid,
    Ppid,
    Pgid,
    Sid,
    C,
    Stime,
    Tty,
    Time,
    Rss,
    Vsz,
    State,
    Threads,
    Comm,
    Cmd,
}

const USUAL: [Column; 8] = [
    Column::Owner,
    Column::Pid,
    Column::Ppid,
    Column::C,
    Column::Stime,
    Column::Tty,
    Column::Time,
    Column::Cmd,
];

impl Column {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "uid" | "euid" => Self::Uid,
            "user" | "euser" | "uname" => Self::User,
            "pid" => Self::Pid,
            "ppid" => Self::Ppid,
            "pgid" | "pgrp" => Self::Pgid,
            "sid" | "sess" => Self::Sid,
            "c" => Self::C,
            "stime" => Self::Stime,
            "tty" | "tt" | "tname" => Self::Tty,
            "time" | "cputime" => Self::Time,
            "rss" => Self::Rss,
            "vsz" => Self::Vsz,
            "s" | "state" => Self::State,
            "nlwp" | "thcount" => Self::Threads,
            "comm" | "ucmd" => Self::Comm,
            "cmd" | "args" | "command" => Self::Cmd,
            _ => return None,
        })
    }

    fn header(self) -> &'static str {
        match self {
            Self::Uid | Self::Owner => "UID",
            Self::User => "USER",
            Self::Pid => "PID",
            Self::Ppid => "PPID",
            Self::Pgid => "PGID",
            Self::Sid => "SID",
            Self::C => "C",
            Self::Stime => "STIME",
            Self::Tty => "TTY",
            Self::Time => "TIME",
            Self::Rss => "RSS",
            Self::Vsz => "VSZ",
            Self::State => "S",
            Self::Threads => "NLWP",
            Self::Comm => "COMMAND",
            Self::Cmd => "CMD",
        }
    }
}

/// What the options of ps mean.
fn columns(options: &[String]) -> anyhow::Result<Vec<Column>> {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let list = match options.as_slice() {
        [] | ["-ef" | "-fe"] => return Ok(USUAL.into()),
        ["-o" | "-eo", list] => list,
        [word] => word.strip_prefix("-o").unwrap_or_default(),
        _ => "",
    };
    if list.is_empty() {
        let words = options.join(" ");
        bail!("the options of ps `{words}` are not built yet; there are -ef and -o COLUMNS");
    }
    let mut columns = Vec::new();
    for name in list.split(',') {
        match Column::parse(&name.to_ascii_lowercase()) {
            Some(column) => columns.push(column),
            None => bail!("ps has no column `{name}` here; `mybox help top` lists those there are"),
        }
    }
    Ok(columns)
}

impl Column {
    fn cell(self, process: &Process, names: &HashMap<u32, String>) -> String {
        match self {
            Self::Uid => process.uid.to_string(),
            Self::User | Self::Owner => {
                let name = names.get(&process.uid).cloned();
                name.unwrap_or_else(|| process.uid.to_string())
            }
            Self::Pid => process.pid.to_string(),
            Self::Ppid => process.ppid.to_string(),
            Self::Pgid => process.pgid.to_string(),
            Self::Sid => process.sid.to_string(),
            Self::C => share(process).to_string(),
            Self::Stime => process.started(life::now()),
            Self::Tty => terminal(process.tty),
            Self::Time => duration(process.cpu),
            Self::Rss => (process.memory / 1024).to_string(),
            Self::Vsz => (process.virtual_memory / 1024).to_string(),
            Self::State => process.state.to_string(),
            Self::Threads => process.threads.to_string(),
            Self::Comm => process.name.clone(),
            Self::Cmd => process.command.clone(),
        }
    }
}

/// The host's names of users.
fn names() -> HashMap<u32, String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entries = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    });
    entries.collect()
}

/// Percent of one processor, over the whole life of the process.
fn share(process: &Process) -> u128 {
    100 * process.cpu.as_millis() / process.age.as_millis().max(1)
}

/// `01:02:03`, after days if there are any.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let clock = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match days {
        0 => clock,
        days => format!("{days}-{clock}"),
    }
}

/// The name of a terminal by its device number (Documentation/admin-guide/devices.txt).
fn terminal(device: u32) -> String {
    let major = device >> 8 & 0xfff;
    let minor = device & 0xff | device >> 12 & 0xf_ff00;
    match major {
        0 => "?".to_owned(),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> Result<Vec<Column>, String> {
        let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        columns(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn the_options_of_ps_that_are_known_are_those_that_are_taken() {
        assert_eq!(parsed(&[]).unwrap(), USUAL);
        assert_eq!(parsed(&["-ef"]).unwrap(), USUAL);
        let two = [Column::Pid, Column::Cmd];
        assert_eq!(parsed(&["-o", "pid,args"]).unwrap(), two);
        assert_eq!(parsed(&["-opid,CMD"]).unwrap(), two);
        assert!(parsed(&["aux"]).unwrap_err().contains("`aux`"));
        assert!(parsed(&["-o", "pid,nope"]).unwrap_err().contains("`nope`"));
    }

    #[test]
    fn times_and_terminals_are_as_ps_has_them() {
        assert_eq!(duration(Duration::from_secs(3723)), "01:02:03");
        assert_eq!(duration(Duration::from_secs(90_000)), "1-01:00:00");
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(34816), "pts/0");
        assert_eq!(terminal(34819), "pts/3");
        assert_eq!(terminal(1025), "tty1");
    }
}
