//! The OCI runtime spec of a container (runtime-spec config.md and config-linux.md).

use std::collections::HashMap;
use std::path::Path;

use mybox_store::ImageConfig;
use oci_spec::runtime::{
    Capabilities, Linux, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespace,
    LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResourcesBuilder, Mount, MountBuilder,
    PosixRlimit, PosixRlimitBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::request::{self, Propagation};
use super::{
    CgroupMode, Error, Given, IpcMode, Joined, Neighbour, NetworkMode, PidMode, RunRequest,
    UtsMode, Volume,
};
use super::{capabilities, devices, process, seccomp};
use crate::net::names;

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

/// Shared memory (shm_overview(7)).
pub const SHM: &str = "/dev/shm";
/// The type of a mount that is an image: its layers stacked, which the launcher does beforehand.
pub const IMAGE_MOUNT: &str = "overlay";
/// How another's is mounted.
const SHARED_SHM: [&str; 4] = ["bind", "nosuid", "noexec", "nodev"];

/// Puts the spec together.
pub(super) fn runtime_spec(
    request: &RunRequest,
    image: &ImageConfig,
    given: &Given,
    hostname: &str,
    volumes: &[Volume],
) -> Result<Spec, Error> {
    let capabilities = capabilities::of(request, &given.held)?;
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
                .permitted(capabilities.clone())
                .build()?,
        )
        .no_new_privileges(request.no_new_privileges)
        .rlimits(rlimits(request)?);
    let process = match request.oom_score_adj {
        Some(score) => process.oom_score_adj(score),
        None => process,
    };
    let process = process.build()?;
    let root = RootBuilder::default()
        .path(given.files.rootfs())
        .readonly(request.read_only)
        .build()?;
    let mut spec = SpecBuilder::default()
        .version("1.1.0")
        .process(process)
        .root(root)
        .hostname(hostname)
        .mounts(mounts(request, given, volumes)?)
        .linux(linux(request, given, &capabilities)?)
        .annotations(annotations(request, image)?)
        .build()?;
    if request.uts != UtsMode::Own {
        // It is another's: nobody sets it.
        spec.set_hostname(None);
    }
    spec.set_domainname(request.domainname.clone());
    Ok(spec)
}

fn linux(request: &RunRequest, given: &Given, capabilities: &Capabilities) -> Result<Linux, Error> {
    let resources = LinuxResourcesBuilder::default()
        .devices(devices::rules(request, given)?)
        .build()?;
    let nodes = given.devices.iter().map(|device| &device.node);
    let linux = LinuxBuilder::default()
        .namespaces(namespaces(request, &given.joined)?)
        .sysctl(sysctls(request))
        .resources(resources)
        .devices(nodes.cloned().collect::<Vec<_>>());
    if request.privileged {
        let none: Vec<String> = Vec::new();
        return Ok(linux
            .masked_paths(none.clone())
            .readonly_paths(none)
            .build()?);
    }
    let linux = linux
        .masked_paths(MASKED.map(ToOwned::to_owned).to_vec())
        .readonly_paths(READ_ONLY.map(ToOwned::to_owned).to_vec());
    if request.seccomp_unconfined {
        return Ok(linux.build()?);
    }
    let profile = seccomp::default_profile(capabilities)?;
    Ok(linux.seccomp(profile).build()?)
}

fn annotations(
    request: &RunRequest,
    image: &ImageConfig,
) -> Result<HashMap<String, String>, Error> {
    let own = [(
        STOP_SIGNAL.to_owned(),
        process::stop_signal(request, image)?,
    )];
    let asked = request.annotations.clone().into_iter();
    let mut annotations: HashMap<String, String> = asked.chain(own).collect();
    if !request.group_add.is_empty() {
        annotations.insert(GROUPS.to_owned(), request.group_add.join(","));
    }
    Ok(annotations)
}

/// The groups that the command has beside its user's, by name or number. Names mean something only
/// inside the container, and `additionalGids` has numbers alone.
const GROUPS: &str = "io.mybox.groups";

/// Those of a spec.
pub(super) fn groups(spec: &Spec) -> Vec<String> {
    let annotations = spec.annotations().as_ref();
    let groups = annotations.and_then(|it| it.get(GROUPS));
    let groups = groups.map(|text| text.split(',').map(ToOwned::to_owned).collect());
    groups.unwrap_or_default()
}

/// New ones without a path, those of other containers with theirs; what is missing is the host's.
fn namespaces(request: &RunRequest, joined: &Joined) -> Result<Vec<LinuxNamespace>, Error> {
    let new = |kind| LinuxNamespaceBuilder::default().typ(kind).build();
    let of = |kind, name: &str, neighbour: &Neighbour| {
        let path = format!("/proc/{}/ns/{name}", neighbour.process.0);
        LinuxNamespaceBuilder::default()
            .typ(kind)
            .path(path)
            .build()
    };
    let mut namespaces = vec![new(LinuxNamespaceType::Mount)?];
    match request.cgroupns {
        CgroupMode::Own => namespaces.push(new(LinuxNamespaceType::Cgroup)?),
        CgroupMode::Host => {}
    }
    match (&joined.pid, &request.pid) {
        (Some(other), _) => namespaces.push(of(LinuxNamespaceType::Pid, "pid", other)?),
        (None, PidMode::Host) => {}
        (None, _) => namespaces.push(new(LinuxNamespaceType::Pid)?),
    }
    match (&joined.network, &request.network) {
        (Some(other), _) => namespaces.push(of(LinuxNamespaceType::Network, "net", other)?),
        (None, NetworkMode::Host) => {}
        (None, _) => namespaces.push(new(LinuxNamespaceType::Network)?),
    }
    match (&joined.ipc, &request.ipc) {
        (Some(other), _) => namespaces.push(of(LinuxNamespaceType::Ipc, "ipc", other)?),
        (None, IpcMode::Host) => {}
        (None, _) => namespaces.push(new(LinuxNamespaceType::Ipc)?),
    }
    match (&joined.uts, &request.uts) {
        (Some(other), _) => namespaces.push(of(LinuxNamespaceType::Uts, "uts", other)?),
        (None, UtsMode::Host) => {}
        (None, _) => namespaces.push(new(LinuxNamespaceType::Uts)?),
    }
    Ok(namespaces)
}

/// With a network namespace of its own a container may ping and listen on any port without
/// capabilities: the ports are its own. What the user asks for counts more.
fn sysctls(request: &RunRequest) -> HashMap<String, String> {
    let own = [
        ("net.ipv4.ping_group_range", "0 2147483647"),
        ("net.ipv4.ip_unprivileged_port_start", "0"),
    ];
    let own = own
        .into_iter()
        .filter(|_| matches!(request.network, NetworkMode::Bridge | NetworkMode::None));
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    own.chain(request.sysctls.clone()).collect()
}

/// Of one kind the last counts.
fn rlimits(request: &RunRequest) -> Result<Vec<PosixRlimit>, Error> {
    let mut limits: Vec<PosixRlimit> = Vec::new();
    for asked in &request.ulimits {
        limits.retain(|limit| limit.typ() != asked.kind);
        let limit = PosixRlimitBuilder::default();
        limits.push(
            limit
                .typ(asked.kind)
                .soft(asked.soft)
                .hard(asked.hard)
                .build()?,
        );
    }
    Ok(limits)
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
fn mounts(request: &RunRequest, given: &Given, volumes: &[Volume]) -> Result<Vec<Mount>, Error> {
    let kernel = |path: &str, kind: &str, options: &[&str]| {
        mount(Path::new(path), kind, Path::new(kind), options)
    };
    let shm_size = match request.shm_size {
        Some(bytes) => format!("size={bytes}"),
        None => "size=65536k".to_owned(),
    };
    let shm = match (&request.ipc, &given.joined.ipc) {
        (IpcMode::None, _) => None,
        (_, Some(other)) => {
            // Whoever joins it takes it from that one's mount namespace.
            let source = format!("/proc/{}/root{SHM}", other.process.0);
            Some(mount(
                Path::new(SHM),
                "bind",
                Path::new(&source),
                &SHARED_SHM,
            )?)
        }
        (IpcMode::Host, _) => Some(mount(Path::new(SHM), "bind", Path::new(SHM), &SHARED_SHM)?),
        _ => Some(kernel(
            SHM,
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm_size],
        )?),
    };
    let access = if request.privileged { "rw" } else { "ro" };
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
        kernel("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        kernel("/sys", "sysfs", &["nosuid", "noexec", "nodev", access])?,
        kernel(
            "/sys/fs/cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        )?,
    ];
    mounts.extend(shm);
    let mut own = Vec::new();
    for volume in volumes {
        let options: &[&str] = if volume.read_only {
            &["bind", "nodev", "ro"]
        } else {
            &["bind", "nodev"]
        };
        own.push(mount(&volume.destination, "bind", &volume.data(), options)?);
    }
    for volume in &request.volumes {
        let mut options = vec!["rbind"];
        options.extend(volume.read_only.then_some("ro"));
        options.extend(match volume.propagation {
            Propagation::Private => None,
            Propagation::Slave => Some("rslave"),
            Propagation::Shared => Some("rshared"),
        });
        own.push(mount(
            &volume.destination,
            "bind",
            &volume.source,
            &options,
        )?);
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
    for image in &request.image_mounts {
        let options = ["ro", "nodev"];
        own.push(mount(
            &image.destination,
            IMAGE_MOUNT,
            Path::new(IMAGE_MOUNT),
            &options,
        )?);
    }
    let depth = |mount: &Mount| mount.destination().components().count();
    own.sort_by(|a, b| {
        let by_depth = depth(a).cmp(&depth(b));
        by_depth.then_with(|| a.destination().cmp(b.destination()))
    });
    if let Some(twice) = own
        .windows(2)
        .find(|two| two[0].destination() == two[1].destination())
    {
        let path = twice[0].destination().display();
        return Err(Error::Conflict(format!("more than one mount on {path}")));
    }
    // The user's own /etc/hosts and the like replace ours.
    let mut etc = etc_mounts(request, given)?;
    etc.retain(|ours| {
        !own.iter()
            .any(|mount| mount.destination() == ours.destination())
    });
    let is_shared = |volume: &request::Volume| volume.propagation == Propagation::Shared;
    if request.volumes.iter().any(is_shared) {
        // The host would see what is mounted in such a volume, and its own /etc could be one.
        mounts.extend(etc);
        mounts.extend(own);
    } else {
        // Over what the user has on /etc, or on where the image's links lead.
        own.extend(etc);
        own.sort_by_key(depth);
        mounts.extend(own);
    }
    Ok(mounts)
}

/// Our files in /etc. Who is on another's network has its names too.
fn etc_mounts(request: &RunRequest, given: &Given) -> Result<Vec<Mount>, Error> {
    let other = given.joined.network.as_ref();
    let files = other.map_or(&given.files, |it| &it.files);
    let options: &[&str] = if request.read_only {
        &["bind", "ro"]
    } else {
        &["bind"]
    };
    let of = |name: &&str| {
        let destination = Path::new("/etc").join(name);
        mount(&destination, "bind", &files.etc(name), options)
    };
    ETC.iter().map(of).collect()
}

/// Whether it is one of our files in /etc: the user's volumes are `nodev` or `rbind`.
pub fn is_own_etc_file(mount: &Mount) -> bool {
    let plain = |word: &String| word == "bind" || word == "ro";
    let is_plain = mount.options().iter().flatten().all(plain);
    let destination = mount.destination();
    let is_there = |name: &&str| destination == &Path::new("/etc").join(name);
    is_plain && mount.typ().as_deref() == Some("bind") && ETC.iter().any(is_there)
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
    let own_names = match &request.domainname {
        Some(domain) => format!("{hostname}.{domain} {hostname}"),
        None => hostname.to_owned(),
    };
    let hosts = match &given.host_hosts {
        Some(host) => names::shared_hosts_file(host, &request.add_host),
        None => names::hosts_file(&own_names, address, gateway, &request.add_host),
    };
    let resolv_conf = match gateway {
        Some(gateway) => {
            names::bridged_resolver(&given.host_resolv_conf, &request.dns, gateway).text
        }
        None => names::unbridged_resolver(&given.host_resolv_conf, &request.dns),
    };
    let (search, options) = (&request.dns_search, &request.dns_options);
    let resolv_conf = if search.is_empty() && options.is_empty() {
        resolv_conf
    } else {
        names::with_choices(&resolv_conf, search, options)
    };
    [
        ("hostname", format!("{hostname}\n")),
        ("hosts", hosts),
        ("resolv.conf", resolv_conf),
    ]
}
