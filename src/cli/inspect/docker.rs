//! What Docker's users look for in `inspect`, under the names that it has there
//! (Docker Engine API, `ContainerInspect` and `ImageInspect`).

mod config;
mod host_config;
mod image;
mod network;

use std::path::PathBuf;

use mybox_store::Image;
use serde_json::{Value, json};

use crate::cli::output;
use crate::container::find::{Container, State};
use crate::container::{Files, Places};
use crate::plan::RunRequest;

pub(super) use image::image;

/// What Docker says of a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// All that is known of a container.
pub(super) struct Known<'a> {
    pub(super) row: &'a Container,
    pub(super) request: &'a RunRequest,
    /// `config.json` of the runtime spec.
    pub(super) spec: &'a Value,
    /// As `mounts` has them.
    pub(super) mounts: &'a Value,
    /// As `health` has it, or null.
    pub(super) health: &'a Value,
    /// The image, if that is still there.
    pub(super) image: Option<&'a Image>,
}

/// The fields of a container.
pub(super) fn container(places: &Places, known: &Known<'_>) -> Value {
    let record = &known.row.record;
    let files = Files::of(places.container(&record.id));
    let mut words = record.command.iter();
    json!({
        "Id": record.id.as_str(),
        "Name": format!("/{}", record.name),
        "Created": date(Some(record.created)),
        "Path": words.next(),
        "Args": words.collect::<Vec<_>>(),
        "State": state(known.row, known.health),
        "Image": known.image.map(|image| image.id.to_string()),
        "RestartCount": record.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "ResolvConfPath": etc_file(&files, "resolv.conf"),
        "HostnamePath": etc_file(&files, "hostname"),
        "HostsPath": etc_file(&files, "hosts"),
        "LogPath": files.logs(),
        "Mounts": capitalised(known.mounts),
        "ExecIDs": null,
        "GraphDriver": graph_driver(&files),
        "Config": config::config(known),
        "HostConfig": host_config::host_config(known),
        "NetworkSettings": network::settings(places, known),
    })
}

/// Empty where it has none of its own.
fn etc_file(files: &Files, name: &str) -> PathBuf {
    Some(files.etc(name))
        .filter(|path| path.exists())
        .unwrap_or_default()
}

/// Which layers lie below is decided anew at each start.
fn graph_driver(files: &Files) -> Value {
    json!({
        "Name": "overlay2",
        "Data": {
            "UpperDir": files.upper(),
            "WorkDir": files.work(),
            "MergedDir": files.rootfs(),
        },
    })
}

fn date(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| NEVER.to_owned(), output::date)
}

fn state(row: &Container, health: &Value) -> Value {
    let record = &row.record;
    let ending = record.ending.filter(|_| !row.running);
    json!({
        "Status": row.state_word(),
        "Running": row.running,
        "Paused": row.paused,
        "Restarting": row.state == State::Restarting,
        "OOMKilled": ending.is_some_and(|ending| ending.out_of_memory),
        "Dead": false,
        "Pid": row.process.map_or(0, |(pid, _)| pid),
        "ExitCode": ending.map_or(0, |ending| ending.code),
        "Error": "",
        "StartedAt": date(record.started),
        "FinishedAt": date(record.ending.map(|ending| ending.at)),
        "Health": capitalised(health),
    })
}

/// Mounts and health checks have Docker's names already, but for the capitals.
fn capitalised(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (capital(name), capitalised(value)))
                .collect(),
        ),
        Value::Array(values) => values.iter().map(capitalised).collect(),
        value => value.clone(),
    }
}

fn capital(name: &str) -> String {
    match name.chars().next() {
        _ if name == "rw" => "RW".to_owned(),
        Some(first) => first.to_uppercase().chain(name.chars().skip(1)).collect(),
        None => String::new(),
    }
}
