//! What Docker's users look for in `info` and `version`, under the names that it has there
//! (Docker Engine API, `SystemInfo` and `SystemVersion`). What mybox does not have, as a version of an API,
//! is not there either.

use mybox_store::Platform;
use serde_json::{Value, json};

use crate::cli::output;
use crate::cli::template::Names;
use crate::container::events;
use crate::life::info::{Info, Versions};

/// Fields that have another name in Docker's templates than in its JSON.
pub(super) const NAMES: Names = &[
    ("CPUCfsPeriod", "CpuCfsPeriod"),
    ("CPUCfsQuota", "CpuCfsQuota"),
];

/// There is no server: both sides are this program.
pub(super) fn version(versions: &Versions) -> Value {
    let platform = Platform::host();
    let client = json!({
        "Platform": {"Name": "mybox"},
        "Version": versions.version,
        "Os": platform.os,
        "Arch": platform.architecture,
    });
    let mut server = client.clone();
    server["KernelVersion"] = json!(versions.kernel);
    json!({"Client": client, "Server": server})
}

pub(super) fn info(info: &Info) -> Value {
    let containers = &info.containers;
    let has = |name: &str| info.cgroup.controllers.contains(name);
    let mut security = Vec::new();
    if info.security.seccomp {
        security.push("name=seccomp,profile=builtin");
    }
    security.push("name=cgroupns");
    json!({
        "Containers": containers.total,
        "ContainersRunning": containers.running - containers.paused,
        "ContainersPaused": containers.paused,
        "ContainersStopped": containers.total - containers.running,
        "Images": info.images,
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", info.storage.filesystem]],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "none"], "Log": ["local", "none"]},
        "MemoryLimit": has("memory"),
        "SwapLimit": info.cgroup.swap,
        "CpuCfsPeriod": has("cpu"),
        "CpuCfsQuota": has("cpu"),
        "CPUShares": has("cpu"),
        "CPUSet": has("cpuset"),
        "PidsLimit": has("pids"),
        "IPv4Forwarding": info.network.forwarding,
        "SystemTime": output::time(events::nanoseconds_now()),
        "LoggingDriver": "local",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup_version(info.cgroup.version),
        "KernelVersion": info.versions.kernel,
        "OperatingSystem": info.operating_system,
        "OSType": "linux",
        "Architecture": info.versions.machine,
        "NCPU": info.cpus,
        "MemTotal": info.memory,
        "DockerRootDir": info.storage.root,
        "Name": info.name,
        "ServerVersion": info.versions.version,
        "Swarm": {"LocalNodeState": "inactive"},
        "SecurityOptions": security,
        "Warnings": info.warnings,
    })
}

/// Docker's is that of the controllers: where v1 has some, they are v1's.
fn cgroup_version(version: &str) -> &str {
    match version {
        "v2" => "2",
        "v1" | "hybrid" => "1",
        _ => "",
    }
}
