//! `HostConfig`: what the host gives a container, topic by topic.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Known;
use super::network::bindings;
use crate::cli::inspect::format;
use crate::container::RestartPolicy;
use crate::kernel::cgroup::block_io::Bounded;
use crate::kernel::cgroup::{Limits, Swap};
use crate::plan::{CgroupMode, IpcMode, PidMode, RunRequest, UtsMode};

/// Bytes of /dev/shm where the user says nothing.
const SHM_SIZE: u64 = 64 << 20;

/// `HostConfig` of a container.
pub(super) fn host_config(known: &Known<'_>) -> Value {
    let request = known.request;
    let topics = [
        network(known),
        names(request),
        mounts(request),
        rights(request),
        namespaces(request),
        memory(&request.limits),
        processor(&request.limits),
        block_io(&request.limits),
    ];
    topics.into_iter().fold(life(known), format::with)
}

fn life(known: &Known<'_>) -> Value {
    let (record, request) = (&known.row.record, known.request);
    let (policy, most) = match record.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure(most) => ("on-failure", most.unwrap_or(0)),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    };
    json!({
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": most},
        "AutoRemove": record.remove,
        "Init": request.init,
        "Runtime": "mybox",
        "LogConfig": log_config(request),
        // Nobody remembers where `--cidfile` has put the id.
        "ContainerIDFile": "",
    })
}

fn log_config(request: &RunRequest) -> Value {
    if request.no_log {
        return json!({"Type": "none", "Config": {}});
    }
    let mut options = json!({
        "max-size": request.log.max_size.to_string(),
        "max-file": request.log.max_files.to_string(),
    });
    let names = [
        ("labels", &request.log_labels),
        ("env", &request.log_variables),
    ];
    for (option, names) in names.into_iter().filter(|(_, names)| !names.is_empty()) {
        options[option] = names.join(",").into();
    }
    json!({"Type": "local", "Config": options})
}

fn network(known: &Known<'_>) -> Value {
    json!({
        "NetworkMode": known.request.network.to_string(),
        "PortBindings": bindings(&known.row.record.ports),
        "PublishAllPorts": known.request.publish_all,
    })
}

/// How it finds others by name.
fn names(request: &RunRequest) -> Value {
    let hosts = request.add_host.iter().map(|entry| {
        let address = entry.address.map(|it| it.to_string());
        let address = address.unwrap_or_else(|| "host-gateway".to_owned());
        format!("{}:{address}", entry.name)
    });
    json!({
        "Dns": request.dns,
        "DnsSearch": request.dns_search,
        "DnsOptions": request.dns_options,
        "ExtraHosts": hosts.collect::<Vec<_>>(),
        "Links": null,
    })
}

fn mounts(request: &RunRequest) -> Value {
    let read_only = |is: bool| if is { ":ro" } else { "" };
    let binds = request.volumes.iter().map(|bind| {
        let (source, destination) = (bind.source.display(), bind.destination.display());
        format!("{source}:{destination}{}", read_only(bind.read_only))
    });
    let from = request.volumes_from.iter();
    let from = from.map(|it| format!("{}{}", it.container, read_only(it.read_only)));
    let tmpfs = request.tmpfs.iter().map(|tmpfs| {
        let destination = tmpfs.destination.display().to_string();
        (destination, tmpfs.options.join(",").into())
    });
    json!({
        "Binds": binds.collect::<Vec<_>>(),
        "VolumesFrom": from.collect::<Vec<_>>(),
        "Tmpfs": tmpfs.collect::<Map<String, Value>>(),
        "ShmSize": shm_size(request),
        "ReadonlyRootfs": request.read_only,
    })
}

/// Of a /dev/shm of its own.
fn shm_size(request: &RunRequest) -> u64 {
    match request.ipc {
        IpcMode::Own | IpcMode::Shareable => request.shm_size.unwrap_or(SHM_SIZE),
        IpcMode::None | IpcMode::Host | IpcMode::Container(_) => 0,
    }
}

fn rights(request: &RunRequest) -> Value {
    let security = [
        (request.no_new_privileges, "no-new-privileges"),
        (request.seccomp_unconfined, "seccomp=unconfined"),
    ];
    let security = security.into_iter().filter(|(given, _)| *given);
    let devices = request.devices.iter().map(|device| {
        json!({
            "PathOnHost": device.source,
            "PathInContainer": device.destination,
            "CgroupPermissions": device.access,
        })
    });
    let ulimits = request.ulimits.iter().map(|limit| {
        let name = limit.kind.to_string().to_ascii_lowercase();
        let name = name.strip_prefix("rlimit_").unwrap_or(&name);
        json!({"Name": name, "Soft": bound(limit.soft), "Hard": bound(limit.hard)})
    });
    json!({
        "Privileged": request.privileged,
        "CapAdd": request.cap_add,
        "CapDrop": request.cap_drop,
        "SecurityOpt": security.map(|(_, option)| option).collect::<Vec<_>>(),
        "GroupAdd": request.group_add,
        "Devices": devices.collect::<Vec<_>>(),
        "DeviceCgroupRules": request.device_cgroup_rules,
        "Ulimits": ulimits.collect::<Vec<_>>(),
        "Sysctls": request.sysctls,
    })
}

/// -1 is none.
fn bound(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(-1)
}

fn namespaces(request: &RunRequest) -> Value {
    let of_other = |name: &str| format!("container:{name}");
    json!({
        "PidMode": match &request.pid {
            PidMode::Own => String::new(),
            PidMode::Host => "host".to_owned(),
            PidMode::Container(name) => of_other(name),
        },
        "IpcMode": match &request.ipc {
            IpcMode::Own => "private".to_owned(),
            IpcMode::Shareable => "shareable".to_owned(),
            IpcMode::None => "none".to_owned(),
            IpcMode::Host => "host".to_owned(),
            IpcMode::Container(name) => of_other(name),
        },
        "UTSMode": match &request.uts {
            UtsMode::Own => String::new(),
            UtsMode::Host => "host".to_owned(),
            UtsMode::Container(name) => of_other(name),
        },
        "CgroupnsMode": match request.cgroupns {
            CgroupMode::Own => "private",
            CgroupMode::Host => "host",
        },
        "CgroupParent": request.cgroup_parent.as_deref().unwrap_or(Path::new("")),
        "OomScoreAdj": request.oom_score_adj.unwrap_or(0),
    })
}

fn memory(limits: &Limits) -> Value {
    json!({
        "Memory": limits.memory.unwrap_or(0),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": match limits.swap {
            Some(Swap::Total(bytes)) => bound(bytes),
            Some(Swap::Unlimited) => -1,
            None => 0,
        },
        "MemorySwappiness": limits.swappiness,
        "OomKillDisable": limits.waits_for_memory,
    })
}

fn processor(limits: &Limits) -> Value {
    let cpu = limits.cpu.unwrap_or_default();
    let in_nano_cpus = |quota: u64| quota.saturating_mul(1_000_000_000) / cpu.length().max(1);
    json!({
        "NanoCpus": cpu.quota.map_or(0, in_nano_cpus),
        "CpuQuota": cpu.quota.unwrap_or(0),
        "CpuPeriod": cpu.period.unwrap_or(0),
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.as_deref().unwrap_or_default(),
        "PidsLimit": limits.pids,
    })
}

fn block_io(limits: &Limits) -> Value {
    let bounds = |what, key: &str| -> Vec<Value> {
        let bounds = limits.block_io.devices.iter();
        bounds
            .filter(|bound| bound.what == what)
            .map(|bound| json!({"Path": bound.device, key: bound.value}))
            .collect()
    };
    json!({
        "BlkioWeight": limits.block_io.weight.unwrap_or(0),
        "BlkioWeightDevice": bounds(Bounded::Weight, "Weight"),
        "BlkioDeviceReadBps": bounds(Bounded::BytesRead, "Rate"),
        "BlkioDeviceWriteBps": bounds(Bounded::BytesWritten, "Rate"),
        "BlkioDeviceReadIOps": bounds(Bounded::Reads, "Rate"),
        "BlkioDeviceWriteIOps": bounds(Bounded::Writes, "Rate"),
    })
}
