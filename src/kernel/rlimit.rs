//! Limits of a process, by the runtime spec's names (getrlimit(2)).

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{Context, Error, Result};

/// Sets a limit of this process, `RLIMIT_NOFILE` say. Raising the hard one takes
/// `CAP_SYS_RESOURCE`.
pub fn set(name: &str, soft: u64, hard: u64) -> Result<()> {
    let limit = Rlimit {
        current: finite(soft),
        maximum: finite(hard),
    };
    match setrlimit(resource(name)?, limit) {
        Err(rustix::io::Errno::PERM) => {
            let detail = "it is above mybox's own hard limit, and CAP_SYS_RESOURCE is missing here";
            Err(Error::new("set limit", name, detail))
        }
        answer => answer.on("set limit", name),
    }
}

/// All ones are no limit.
fn finite(value: u64) -> Option<u64> {
    Some(value).filter(|value| *value != u64::MAX)
}

fn resource(name: &str) -> Result<Resource> {
    Ok(match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        other => return Err(Error::new("set limit", other, "there is none of this name")),
    })
}
