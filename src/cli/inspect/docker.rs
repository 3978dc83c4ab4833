//! What Docker's users look for in `inspect`, under the names that it has there
//! (Docker Engine API, `ContainerInspect` and `ImageInspect`).

use std::path::Path;

use mybox_store::Image;
use serde_json::{Map, Value, json};

use crate::cli::output;
use crate::container::find::{Container, State};
use crate::container::port::Published;
use crate::container::{Files, Places, RestartPolicy};
use crate::kernel::cgroup::block_io::Bounded;
use crate::plan::{CgroupMode, RunRequest};

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
    /// The image's id, if that is still there.
    pub(super) image: Option<String>,
}

/// The fields of a container.
pub(super) fn container(places: &Places, known: &Known<'_>) -> Value {
    let record = &known.row.record;
    let process = &known.spec["process"];
    let mut words = record.command.iter();
    json!({
        "Id": record.id.as_str(),
        "Name": format!("/{}", record.name),
        "Created": date(Some(record.created)),
        "Path": words.next(),
        "Args": words.collect::<Vec<_>>(),
        "State": state(known.row, known.health),
        "Image": known.image,
        "RestartCount": record.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "LogPath": Files::of(places.container(&record.id)).logs(),
        "Mounts": capitalised(known.mounts),
        "Config": {
            "Hostname": known.spec["hostname"],
            "User": known.request.user.as_deref().unwrap_or_default(),
            "Tty": known.request.terminal,
            "OpenStdin": known.request.interactive,
            "Env": process["env"],
            "Cmd": process["args"],
            "Image": record.image,
            "WorkingDir": process["cwd"],
            "Labels": record.labels,
            "StopSignal": record.stop_signal,
            "StopTimeout": record.stop_timeout,
        },
        "HostConfig": host_config(known),
        "NetworkSettings": network_settings(known),
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

fn host_config(known: &Known<'_>) -> Value {
    let (record, request) = (&known.row.record, known.request);
    let (policy, most) = match record.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure(most) => ("on-failure", most.unwrap_or(0)),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    };
    let binds = request.volumes.iter().map(|bind| {
        let mode = if bind.read_only { ":ro" } else { "" };
        let (source, destination) = (bind.source.display(), bind.destination.display());
        format!("{source}:{destination}{mode}")
    });
    let limits = &request.limits;
    let bounds = |what, key: &str| -> Vec<Value> {
        let bounds = limits.block_io.devices.iter();
        bounds
            .filter(|bound| bound.what == what)
            .map(|bound| json!({"Path": bound.device, key: bound.value}))
            .collect()
    };
    let nano_cpus = limits
        .cpu
        .map(|cpu| cpu.quota.saturating_mul(1_000_000_000) / cpu.period.max(1));
    json!({
        "Binds": binds.collect::<Vec<_>>(),
        "NetworkMode": request.network.to_string(),
        "PortBindings": bindings(&record.ports),
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": most},
        "AutoRemove": record.remove,
        "Privileged": request.privileged,
        "ReadonlyRootfs": request.read_only,
        "CapAdd": request.cap_add,
        "CapDrop": request.cap_drop,
        "Memory": limits.memory.unwrap_or(0),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "NanoCpus": nano_cpus.unwrap_or(0),
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.as_deref().unwrap_or_default(),
        "PidsLimit": limits.pids.unwrap_or(0),
        "MemorySwappiness": limits.swappiness,
        "OomKillDisable": limits.waits_for_memory,
        "BlkioWeight": limits.block_io.weight.unwrap_or(0),
        "BlkioWeightDevice": bounds(Bounded::Weight, "Weight"),
        "BlkioDeviceReadBps": bounds(Bounded::BytesRead, "Rate"),
        "BlkioDeviceWriteBps": bounds(Bounded::BytesWritten, "Rate"),
        "BlkioDeviceReadIOps": bounds(Bounded::Reads, "Rate"),
        "BlkioDeviceWriteIOps": bounds(Bounded::Writes, "Rate"),
        "CgroupParent": request.cgroup_parent.as_deref().unwrap_or(Path::new("")),
        "CgroupnsMode": match request.cgroupns {
            CgroupMode::Own => "private",
            CgroupMode::Host => "host",
        },
        "Init": request.init,
    })
}

/// `{"80/tcp": [{"HostIp": …, "HostPort": …}]}`.
fn bindings(ports: &[Published]) -> Value {
    let mut bindings = Map::new();
    for published in ports {
        let to = json!({
            "HostIp": published.host_ip.to_string(),
            "HostPort": published.host_port.to_string(),
        });
        let key = published.port().to_string();
        let entry = bindings.entry(key).or_insert_with(|| json!([]));
        entry
            .as_array_mut()
            .into_iter()
            .for_each(|list| list.push(to.clone()));
    }
    Value::Object(bindings)
}

fn network_settings(known: &Known<'_>) -> Value {
    let record = &known.row.record;
    let address = record.address.filter(|_| known.row.running);
    let address = address
        .map(|address| address.to_string())
        .unwrap_or_default();
    let mut ports = bindings(known.row.published());
    if let Some(ports) = ports.as_object_mut() {
        for exposed in &record.exposed {
            ports.entry(exposed.to_string()).or_insert(Value::Null);
        }
    }
    let mode = known.request.network.to_string();
    json!({
        "IPAddress": address,
        "Ports": ports,
        "Networks": {mode: {"IPAddress": address}},
    })
}

/// The fields of an image; `size` in bytes.
pub(super) fn image(
    image: &Image,
    config: &Value,
    tags: &[String],
    digests: &Value,
    size: u64,
) -> Value {
    json!({
        "Id": image.id.to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": image.created,
        "Author": config["author"].as_str().unwrap_or_default(),
        "Architecture": config["architecture"],
        "Os": config["os"],
        "Size": size,
        "Config": config["config"],
        "RootFS": {"Type": "layers", "Layers": config["rootfs"]["diff_ids"]},
    })
}
