//! The OCI runtime spec of a container (runtime-spec config.md and config-linux.md).

use std::path::{Path, PathBuf};

use mybox_store::ImageConfig;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespace,
    LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, ProcessBuilder, RootBuilder,
    Spec, SpecBuilder, UserBuilder,
};

use super::{AnonymousVolume, Error, Given, NetworkMode, RunRequest, process, seccomp};
use crate::container::Files;
use crate::net::names;

/// Podman's default set, which is the smaller of Podman's and Docker's: no MKNOD, no NET_RAW, no
/// AUDIT_WRITE.
const CAPABILITIES: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Files and directories of /proc and /sys that tell of the host: hidden.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Those that change the host: readable only.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Where a runtime spec says how to stop the container (image-spec conversion.md, "Annotation
/// Fields").
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// Puts the spec together.
pub(super) fn runtime_spec(
    request: &RunRequest,
    image: &ImageConfig,
    given: &Given,
    hostname: &str,
    volumes: &[AnonymousVolume],
) -> Result<Spec, Error> {
    let capabilities: Capabilities = CAPABILITIES.into_iter().collect();
    let process = ProcessBuilder::default()
        .terminal(request.terminal)
        .user(
            UserBuilder::default()
                .username(process::user(request, image))
                .build()?,
        )
        .args(process::command_line(request, image)?)
        .env(process::environment(request, image, hostname))
        .cwd(process::working_directory(request, image)?)
        .capabilities(
            LinuxCapabilitiesBuilder::default()
                .bounding(capabilities.clone())
                .effective(capabilities.clone())
                .permitted(capabilities)
                .build()?,
        )
        .no_new_privileges(request.no_new_privileges)
        .rlimits(Vec::new())
        .build()?;
    let linux = LinuxBuilder::default()
        .namespaces(namespaces(request.network)?)
        .sysctl(sysctls(request.network))
        .masked_paths(MASKED.map(ToOwned::to_owned).to_vec())
        .readonly_paths(READ_ONLY.map(ToOwned::to_owned).to_vec())
        .devices(Vec::new())
        .seccomp(seccomp::default_profile()?)
        .build()?;
    let root = RootBuilder::default()
        .path(given.files.rootfs())
        .readonly(request.read_only)
        .build()?;
    Ok(SpecBuilder::default()
        .version("1.1.0")
        .process(process)
        .root(root)
        .hostname(hostname)
        .mounts(mounts(request, given, volumes)?)
        .linux(linux)
        .annotations([(
            STOP_SIGNAL.to_owned(),
            process::stop_signal(request, image)?,
        )])
        .build()?)
}

fn namespaces(network: NetworkMode) -> Result<Vec<LinuxNamespace>, Error> {
    let mut kinds = vec![
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Cgroup,
    ];
    if network != NetworkMode::Host {
        kinds.push(LinuxNamespaceType::Network);
    }
    kinds
        .into_iter()
        .map(|kind| Ok(LinuxNamespaceBuilder::default().typ(kind).build()?))
        .collect()
}

/// With a network namespace of its own a container may ping and listen on any port without
/// capabilities: the ports are its own.
fn sysctls(network: NetworkMode) -> std::collections::HashMap<String, String> {
    let own = [
        ("net.ipv4.ping_group_range", "0 2147483647"),
        ("net.ipv4.ip_unprivileged_port_start", "0"),
    ];
    let own = own.into_iter().filter(|_| network != NetworkMode::Host);
    own.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn mount(destination: &Path, kind: &str, source: &Path, options: &[&str]) -> Result<Mount, Error> {
    Ok(MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(
            options
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()?)
}

/// All mounts, in the order they are made: what lies deeper comes later.
fn mounts(
    request: &RunRequest,
    given: &Given,
    volumes: &[AnonymousVolume],
) -> Result<Vec<Mount>, Error> {
    let kernel = |path: &str, kind: &str, options: &[&str]| {
        mount(Path::new(path), kind, Path::new(kind), options)
    };
    let mut mounts = vec![
        kernel("/proc", "proc", &["nosuid", "noexec", "nodev"])?,
        kernel(
            "/dev",
            "tmpfs",
            &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"],
        )?,
        kernel(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        )?,
        kernel(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        )?,
        kernel("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        kernel("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
        kernel(
            "/sys/fs/cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        )?,
    ];
    for name in ETC {
        let destination = Path::new("/etc").join(name);
        let options: &[&str] = if request.read_only {
            &["bind", "ro"]
        } else {
            &["bind"]
        };
        mounts.push(mount(
            &destination,
            "bind",
            &given.files.etc(name),
            options,
        )?);
    }
    let mut own = Vec::new();
    for volume in volumes {
        own.push(mount(
            &volume.destination,
            "bind",
            &volume.source,
            &["bind", "nodev"],
        )?);
    }
    for volume in &request.volumes {
        let options: &[&str] = if volume.read_only {
            &["rbind", "ro"]
        } else {
            &["rbind"]
        };
        own.push(mount(&volume.destination, "bind", &volume.source, options)?);
    }
    for tmpfs in &request.tmpfs {
        let options = tmpfs_options(&tmpfs.options);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        own.push(mount(
            &tmpfs.destination,
            "tmpfs",
            Path::new("tmpfs"),
            &options,
        )?);
    }
    own.sort_by_key(|mount| mount.destination().components().count());
    if let Some(twice) = own
        .windows(2)
        .find(|two| two[0].destination() == two[1].destination())
    {
        let path = twice[0].destination().display();
        return Err(Error::Conflict(format!("more than one mount on {path}")));
    }
    // The user's own /etc/hosts and the like replace ours.
    mounts.retain(|ours| {
        !ours.destination().starts_with("/etc")
            || !own
                .iter()
                .any(|mount| mount.destination() == ours.destination())
    });
    mounts.extend(own);
    Ok(mounts)
}

/// Docker's defaults, each of which the user's own word takes back.
fn tmpfs_options(given: &[String]) -> Vec<String> {
    let opposites = [("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev")];
    let mut options: Vec<String> = opposites
        .iter()
        .filter(|(_, opposite)| !given.iter().any(|word| word == opposite))
        .map(|(word, _)| (*word).to_owned())
        .collect();
    if !given.iter().any(|word| word.starts_with("mode=")) {
        options.push("mode=1777".into());
    }
    options.extend(
        given
            .iter()
            .filter(|word| !options.contains(word))
            .cloned()
            .collect::<Vec<_>>(),
    );
    options
}

/// The files that are bound over the image's.
const ETC: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// Their text.
pub(super) fn etc_files(
    request: &RunRequest,
    given: &Given,
    hostname: &str,
) -> [(&'static str, String); 3] {
    let bridged = given.bridged.as_ref();
    let address = bridged.map(|it| it.address);
    let gateway = bridged.map(|it| it.subnet.gateway());
    let hosts = names::hosts_file(hostname, address, gateway, &request.add_host);
    let resolv_conf = match gateway {
        Some(gateway) => {
            names::bridged_resolver(&given.host_resolv_conf, &request.dns, gateway).text
        }
        None => names::unbridged_resolver(&given.host_resolv_conf, &request.dns),
    };
    [
        ("hostname", format!("{hostname}\n")),
        ("hosts", hosts),
        ("resolv.conf", resolv_conf),
    ]
}

/// The image's volumes that no `-v` or `--tmpfs` covers.
pub(super) fn anonymous_volumes(
    request: &RunRequest,
    image: &ImageConfig,
    files: &Files,
) -> Result<Vec<AnonymousVolume>, Error> {
    let covered = |path: &Path| {
        let by_volume = request
            .volumes
            .iter()
            .any(|volume| volume.destination == path);
        by_volume || request.tmpfs.iter().any(|tmpfs| tmpfs.destination == path)
    };
    let mut volumes = Vec::new();
    for path in &image.config.volumes {
        let destination = PathBuf::from(path);
        let plain = !destination
            .components()
            .any(|part| part == std::path::Component::ParentDir);
        if !destination.is_absolute() || !plain || destination == Path::new("/") {
            let problem = "is not an absolute path below /";
            return Err(Error::Image {
                field: "volume",
                value: path.clone(),
                problem,
            });
        }
        if !covered(&destination) {
            let source = files.volume(volumes.len());
            volumes.push(AnonymousVolume {
                destination,
                source,
            });
        }
    }
    Ok(volumes)
}
