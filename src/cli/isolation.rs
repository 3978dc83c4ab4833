//! The flags of `run` and `create` that say how far a container is kept from the host: capabilities,
//! devices, groups, limits of processes, settings of the kernel, security options.

use std::path::PathBuf;

use clap::Args;

use crate::plan::request::{Device, Ulimit};
use crate::plan::{RunRequest, capabilities, devices, sysctl};

#[derive(Debug, Args)]
pub(super) struct IsolationArguments {
    /// Give a capability beside the default ones, or ALL
    #[arg(long, value_name = "CAPABILITY", help_heading = "Isolation")]
    #[arg(value_parser = capabilities::parse)]
    cap_add: Vec<String>,
    /// Take one of the default capabilities, or ALL
    #[arg(long, value_name = "CAPABILITY", help_heading = "Isolation")]
    #[arg(value_parser = capabilities::parse)]
    cap_drop: Vec<String>,
    /// All capabilities and devices, no filter of system calls, nothing hidden: as root of the host
    #[arg(long, help_heading = "Isolation")]
    privileged: bool,
    /// A group beside the user's, by the image's names or by number
    #[arg(long, value_name = "GROUP", help_heading = "Isolation")]
    #[arg(value_parser = group)]
    group_add: Vec<String>,
    /// A device of the host, or a directory of them, below /dev; to read, write, make
    #[arg(long, value_name = "DEVICE[:DEVICE][:rwm]", help_heading = "Isolation")]
    #[arg(value_parser = device)]
    device: Vec<Device>,
    /// More devices that may be opened, whoever makes them, as `c 10:* rw`; a: both kinds
    #[arg(
        long,
        value_name = "[abc] MAJOR:MINOR [rwm]",
        help_heading = "Isolation"
    )]
    #[arg(value_parser = devices::parse)]
    device_cgroup_rule: Vec<String>,
    /// no-new-privileges: no program gains more than it starts with; seccomp=unconfined: no filter
    #[arg(long, value_name = "OPTION", help_heading = "Isolation")]
    #[arg(value_parser = security_option)]
    security_opt: Vec<SecurityOption>,
    /// A limit of each process, as nofile=1024:4096; -1: none
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Limits")]
    #[arg(value_parser = ulimit)]
    ulimit: Vec<Ulimit>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    #[arg(value_parser = super::values::bytes)]
    shm_size: Option<u64>,
    /// How gladly the kernel kills it for want of memory, -1000 to 1000
    #[arg(
        long,
        value_name = "NUMBER",
        help_heading = "Limits",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    oom_score_adj: Option<i32>,
    /// How gladly the kernel swaps out its memory, 0 to 100 (cgroups v1)
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    #[arg(allow_negative_numbers = true, value_parser = swappiness)]
    memory_swappiness: Option<Swappiness>,
    /// Have its processes wait for memory rather than kill one of them (cgroups v1)
    #[arg(long, help_heading = "Limits")]
    oom_kill_disable: bool,
    /// A setting of the kernel that is the container's own, as net.core.somaxconn=1024
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Isolation")]
    #[arg(value_parser = sysctl::parse)]
    sysctl: Vec<(String, String)>,
}

impl IsolationArguments {
    pub(super) fn apply(self, request: &mut RunRequest) {
        request.cap_add = self.cap_add;
        request.cap_drop = self.cap_drop;
        request.privileged = self.privileged;
        request.group_add = self.group_add;
        request.devices = self.device;
        request.device_cgroup_rules = self.device_cgroup_rule;
        request.ulimits = self.ulimit;
        // 0 is the default, as with Docker.
        request.shm_size = self.shm_size.filter(|bytes| *bytes > 0);
        request.oom_score_adj = self.oom_score_adj;
        request.sysctls = self.sysctl.into_iter().collect();
        request.limits.swappiness = self.memory_swappiness.and_then(|it| it.0);
        request.limits.waits_for_memory = self.oom_kill_disable;
        for option in self.security_opt {
            match option {
                SecurityOption::NoNewPrivileges(on) => request.no_new_privileges = on,
                SecurityOption::Unconfined => request.seccomp_unconfined = true,
            }
        }
    }
}

/// A number, or none of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Swappiness(Option<u8>);

/// 0 to 100, or -1 for the kernel's.
fn swappiness(text: &str) -> Result<Swappiness, String> {
    match text.parse::<i16>() {
        Ok(-1) => Ok(Swappiness(None)),
        Ok(number @ 0..=100) => Ok(Swappiness(u8::try_from(number).ok())),
        _ => Err("from 0, hardly, to 100, gladly; -1: as the kernel has it".to_owned()),
    }
}

/// `--security-opt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SecurityOption {
    NoNewPrivileges(bool),
    Unconfined,
}

/// What is not built yet is an error that says so.
fn security_option(text: &str) -> Result<SecurityOption, String> {
    match text {
        "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true" => {
            Ok(SecurityOption::NoNewPrivileges(true))
        }
        "no-new-privileges:false" | "no-new-privileges=false" => {
            Ok(SecurityOption::NoNewPrivileges(false))
        }
        "seccomp=unconfined" | "seccomp:unconfined" => Ok(SecurityOption::Unconfined),
        other => Err(format!(
            "`{other}` is not built yet; there are no-new-privileges and seccomp=unconfined"
        )),
    }
}

/// A name or a number; which groups there are, the image says.
fn group(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains([',', ':']) {
        Err(format!("`{text}` is no group"))
    } else {
        Ok(text.to_owned())
    }
}

/// `SOURCE[:DESTINATION][:rwm]`.
fn device(text: &str) -> Result<Device, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if devices::is_access(access) => (source, source, access),
        [source, destination] => (source, destination, "rwm"),
        [source, destination, access] if devices::is_access(access) => {
            (source, destination, access)
        }
        _ => return Err(format!("`{text}` is not DEVICE[:DEVICE][:rwm]")),
    };
    let inside = super::mounts::inside(destination)?;
    if !source.starts_with('/') || !inside.starts_with("/dev/") {
        return Err(format!(
            "`{text}`: a device is an absolute path of the host, and lies below /dev in the container"
        ));
    }
    Ok(Device {
        source: PathBuf::from(source),
        destination: inside,
        access: access.to_owned(),
    })
}

/// `NAME=SOFT[:HARD]`; -1 is no limit.
fn ulimit(text: &str) -> Result<Ulimit, String> {
    let wrong = || format!("`{text}` is no limit such as nofile=1024:4096 (getrlimit(2))");
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
    let kind = serde_json::from_value(kind.into()).map_err(|_| wrong())?;
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        number => number.parse::<u64>().map_err(|_| wrong()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(format!("`{text}`: the soft limit is above the hard one"));
    }
    Ok(Ulimit { kind, soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_writes_them() {
        let both = |text: &str| ulimit(text).map(|it| (it.soft, it.hard));
        assert_eq!(both("nofile=10:20"), Ok((10, 20)));
        assert_eq!(both("core=0"), Ok((0, 0)));
        assert_eq!(both("memlock=-1:-1"), Ok((u64::MAX, u64::MAX)));
        for bad in [
            "",
            "nofile",
            "nofile=",
            "files=1",
            "nofile=2:1",
            "nofile=-2",
        ] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_are_read_as_docker_writes_them() {
        let cases = [
            ("/dev/fuse", "/dev/fuse", "/dev/fuse", "rwm"),
            ("/dev/fuse:r", "/dev/fuse", "/dev/fuse", "r"),
            ("/dev/sda:/dev/xvdc", "/dev/sda", "/dev/xvdc", "rwm"),
            ("/dev/sda:/dev/xvdc:wr", "/dev/sda", "/dev/xvdc", "wr"),
        ];
        for (text, source, destination, access) in cases {
            let device = device(text).unwrap();
            assert_eq!(device.source.to_str(), Some(source), "{text}");
            assert_eq!(device.destination.to_str(), Some(destination), "{text}");
            assert_eq!(device.access, access, "{text}");
        }
        for bad in [
            "",
            "fuse",
            "/dev/fuse:/srv/fuse",
            "/dev/fuse:/dev/../x",
            "/dev/a:/dev/b:rwx",
            "/dev/a:/dev/b:rr",
            "/dev/a:/dev/b:rwm:x",
        ] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for text in ["apparmor=x", "seccomp=/profile.json", "label=disable"] {
            let error = security_option(text).unwrap_err();
            assert!(
                error.contains(text) && error.contains("not built yet"),
                "{error}"
            );
        }
    }
}
