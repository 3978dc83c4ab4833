//! The flags of `run` and `create` that share namespaces and cgroups: with the host, or with a container
//! that runs.

use std::path::{Component, Path, PathBuf};

use clap::Args;

use crate::plan::{CgroupMode, IpcMode, NetworkMode, PidMode, RunRequest, UtsMode};

#[derive(Debug, Args)]
pub(super) struct SharingArguments {
    /// Whose processes it sees: host, or container:NAME [default: its own]
    #[arg(long, value_name = "MODE", help_heading = "Isolation")]
    #[arg(value_parser = pid_mode)]
    pid: Option<PidMode>,
    /// Whose memory and message queues it shares: private [default], shareable, none, host, container:NAME
    #[arg(long, value_name = "MODE", help_heading = "Isolation")]
    #[arg(value_parser = ipc_mode)]
    ipc: Option<IpcMode>,
    /// Whose name it has: private [default], host, or container:NAME
    #[arg(long, value_name = "MODE", help_heading = "Isolation")]
    #[arg(value_parser = uts_mode)]
    uts: Option<UtsMode>,
    /// Which cgroups it sees: private [default], its own, or host, all
    #[arg(long, value_name = "MODE", help_heading = "Isolation")]
    #[arg(value_parser = cgroup_mode)]
    cgroupns: Option<CgroupMode>,
    /// The cgroup that its own lies in, made if it is missing; from the top with a `/` before it
    #[arg(long, value_name = "CGROUP", help_heading = "Limits")]
    #[arg(value_parser = cgroup)]
    cgroup_parent: Option<PathBuf>,
    // Known, so that the answer is more than that it is unknown.
    #[arg(long, value_name = "MODE", hide = true)]
    #[arg(value_parser = user_namespace)]
    userns: Option<OfHost>,
}

/// It is the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OfHost;

impl SharingArguments {
    pub(super) fn apply(self, request: &mut RunRequest) {
        // `--userns host` is what there is.
        let Self {
            pid,
            ipc,
            uts,
            cgroupns,
            cgroup_parent,
            userns: _,
        } = self;
        request.pid = pid.unwrap_or_default();
        request.ipc = ipc.unwrap_or_default();
        request.uts = uts.unwrap_or_default();
        request.cgroupns = cgroupns.unwrap_or_default();
        request.cgroup_parent = cgroup_parent;
    }
}

pub(super) fn network_mode(text: &str) -> Result<NetworkMode, String> {
    match (text, container(text)) {
        (_, Some(name)) => Ok(NetworkMode::Container(name?)),
        ("bridge" | "default", _) => Ok(NetworkMode::Bridge),
        ("host", _) => Ok(NetworkMode::Host),
        ("none", _) => Ok(NetworkMode::None),
        (other, _) => Err(format!(
            "`{other}` is not built yet; there are bridge, host, none and container:NAME"
        )),
    }
}

fn pid_mode(text: &str) -> Result<PidMode, String> {
    match (text, container(text)) {
        (_, Some(name)) => Ok(PidMode::Container(name?)),
        ("host", _) => Ok(PidMode::Host),
        (other, _) => Err(format!("`{other}` is neither host nor container:NAME")),
    }
}

fn ipc_mode(text: &str) -> Result<IpcMode, String> {
    match (text, container(text)) {
        (_, Some(name)) => Ok(IpcMode::Container(name?)),
        ("private" | "", _) => Ok(IpcMode::Own),
        ("shareable", _) => Ok(IpcMode::Shareable),
        ("none", _) => Ok(IpcMode::None),
        ("host", _) => Ok(IpcMode::Host),
        (other, _) => Err(format!(
            "`{other}` is none of private, shareable, none, host, container:NAME"
        )),
    }
}

fn uts_mode(text: &str) -> Result<UtsMode, String> {
    match (text, container(text)) {
        (_, Some(name)) => Ok(UtsMode::Container(name?)),
        ("private" | "", _) => Ok(UtsMode::Own),
        ("host", _) => Ok(UtsMode::Host),
        (other, _) => Err(format!(
            "`{other}` is none of private, host, container:NAME"
        )),
    }
}

fn cgroup_mode(text: &str) -> Result<CgroupMode, String> {
    match text {
        "private" | "" => Ok(CgroupMode::Own),
        "host" => Ok(CgroupMode::Host),
        other => Err(format!("`{other}` is neither private nor host")),
    }
}

/// A path of plain names.
fn cgroup(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let mut names = path.strip_prefix("/").unwrap_or(path).components();
    let plain = names.all(|name| matches!(name, Component::Normal(_)));
    match path.file_name() {
        Some(_) if plain => Ok(path.components().collect()),
        _ => Err(format!(
            "`{text}` is no path of a cgroup such as /limited/web"
        )),
    }
}

/// There are no user namespaces yet: all containers are in the host's.
fn user_namespace(text: &str) -> Result<OfHost, String> {
    match text {
        "host" => Ok(OfHost),
        other => Err(format!(
            "`{other}`: user namespaces are not built yet; there is host"
        )),
    }
}

/// The name in `container:NAME`.
fn container(text: &str) -> Option<Result<String, String>> {
    let name = text.strip_prefix("container:")?;
    Some(if name.is_empty() {
        Err(format!("`{text}` names no container"))
    } else {
        Ok(name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_default_network_is_the_bridge() {
        for (text, mode) in [
            ("bridge", NetworkMode::Bridge),
            ("default", NetworkMode::Bridge),
            ("host", NetworkMode::Host),
        ] {
            assert_eq!(network_mode(text), Ok(mode), "{text}");
        }
        assert!(network_mode("backend").is_err());
    }
}
