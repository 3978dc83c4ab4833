//! What mybox finds on this machine, and what a user should do something about.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use mybox_store::{LayerForm, Object, Store};
use rustix::fs::StatVfs;
use serde::Serialize;

use super::forms::Forms;
use super::list_networks;
use super::observe::memory_of_host;
use crate::container::find::{self, State};
use crate::container::{Places, Record};
use crate::kernel::cgroup::{self, Controller, Version};
use crate::kernel::nft;

/// Less than this is little, where it is less than a twentieth of the disk too.
const LITTLE_ROOM: u64 = 10 << 30;
/// File systems that overlayfs does not write to.
const NOT_WRITABLE: &[&str] = &["overlayfs", "nfs", "fuse"];

/// What there is to know of mybox and its kernel.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// mybox's own.
    pub version: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The machine, as uname(2) has it.
    pub machine: String,
    /// The form of layers that the kernel can mount.
    pub layer_form: String,
    /// Why it is not `indexed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_indexed_layers: Option<String>,
    /// Whether overlayfs takes layers that are mounted nowhere: then all containers share their pages.
    pub shares_mounts: bool,
}

/// What there is to know of the machine.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// mybox and its kernel.
    #[serde(flatten)]
    pub versions: Versions,
    /// The host's name.
    pub name: String,
    /// The distribution, as os-release(5) has it.
    pub operating_system: String,
    /// Processors.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Limits.
    pub cgroup: CgroupInfo,
    /// Where images and containers are.
    pub storage: Storage,
    /// The bridge and the firewall.
    pub network: NetworkInfo,
    /// What keeps a container in its place.
    pub security: Security,
    /// By what they are doing.
    pub containers: Containers,
    /// Images with or without a name.
    pub images: usize,
    /// Their layers, each once.
    pub layers: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Limits that can be set.
#[derive(Debug, Clone, Serialize)]
pub struct CgroupInfo {
    /// `v1`, `v2`, or `hybrid`; `none` if no hierarchy is mounted.
    pub version: &'static str,
    /// By the kernel's names.
    pub controllers: BTreeSet<String>,
    /// Whether swap is counted, and can be limited.
    pub swap: bool,
}

/// Where images and containers are.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// `--root`.
    pub root: String,
    /// `--run-root`.
    pub run_root: String,
    /// The root's kind of file system.
    pub filesystem: String,
    /// Its bytes.
    pub size: u64,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that the store has of it, without containers.
    pub used_by_images: u64,
}

/// The bridge and the firewall.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkInfo {
    /// `--bridge`.
    pub bridge: String,
    /// Its range; none before the first container.
    pub subnet: Option<String>,
    /// Whether the bridge is there.
    pub up: bool,
    /// Whether the kernel passes packets on.
    pub forwarding: bool,
    /// The version of nft; none if it is missing.
    pub nft: Option<String>,
}

/// What keeps a container in its place.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// Filters of system calls.
    pub seccomp: bool,
    /// No rights by set-user-id programs.
    pub no_new_privileges: bool,
    /// User namespaces.
    pub user_namespaces: bool,
    /// Security modules of the kernel; none if it does not say.
    pub modules: Vec<String>,
}

/// How many containers do what.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Containers {
    /// All.
    pub total: usize,
    /// Those that run, paused ones too.
    pub running: usize,
    /// Those that are paused.
    pub paused: usize,
    /// Those whose monitor is about to start them again.
    pub restarting: usize,
    /// Those that were never started.
    pub created: usize,
    /// Those that have ended.
    pub exited: usize,
}

/// What mybox and the kernel are, for stores at this place.
pub fn versions(places: &Places) -> Versions {
    let name = rustix::system::uname();
    let forms = Forms::of_this_kernel(places);
    let form = match &forms.indexed {
        Ok(()) => LayerForm::Indexed,
        Err(_) => LayerForm::Unpacked,
    };
    Versions {
        version: env!("CARGO_PKG_VERSION"),
        kernel: name.release().to_string_lossy().into_owned(),
        machine: name.machine().to_string_lossy().into_owned(),
        layer_form: form.to_string(),
        no_indexed_layers: forms.indexed.err(),
        shares_mounts: forms.stacks_detached,
    }
}

/// Looks at everything.
pub fn info(places: &Places) -> Result<Info> {
    let store = Store::open(&places.root)?;
    let survey = store.survey(&|| Record::uses(places))?;
    let layers = survey.objects.keys();
    let mut info = Info {
        versions: versions(places),
        name: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        operating_system: operating_system(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory: memory_of_host(),
        cgroup: cgroup_info(&cgroup::Host::detect()?),
        storage: storage(places, survey.total())?,
        network: network(places)?,
        security: security(),
        containers: containers(&find::all(places)?),
        images: survey.catalog.images.len(),
        layers: layers.filter(|it| matches!(it, Object::Layer(_))).count(),
        warnings: Vec::new(),
    };
    info.warnings = warnings(&info);
    Ok(info)
}

fn cgroup_info(host: &cgroup::Host) -> CgroupInfo {
    let versions = host.hierarchies().iter().map(|it| it.version);
    let v1 = versions.clone().any(|it| it == Version::V1);
    let v2 = versions.clone().any(|it| it == Version::V2);
    let controllers = host.hierarchies().iter().flat_map(|it| &it.controllers);
    CgroupInfo {
        version: match (v1, v2) {
            (true, true) => "hybrid",
            (true, false) => "v1",
            (false, true) => "v2",
            (false, false) => "none",
        },
        // Named hierarchies of v1 control nothing.
        controllers: controllers
            .filter(|name| !name.contains('='))
            .cloned()
            .collect(),
        swap: host.counts_swap(),
    }
}

/// The first of these that is there counts, as os-release(5) says.
fn operating_system() -> String {
    let files = ["/etc/os-release", "/usr/lib/os-release"];
    let text = files.into_iter().find_map(|it| fs::read_to_string(it).ok());
    pretty_name(&text.unwrap_or_default())
        .unwrap_or("Linux")
        .to_owned()
}

fn pretty_name(text: &str) -> Option<&str> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim().trim_matches(['"', '\'']))
}

fn storage(places: &Places, used_by_images: u64) -> Result<Storage> {
    let root = &places.root;
    let look = || rustix::fs::statfs(root).and_then(|kind| Ok((kind, rustix::fs::statvfs(root)?)));
    let (kind, room) = look().with_context(|| format!("look at {}", root.display()))?;
    let StatVfs {
        f_frsize,
        f_blocks,
        f_bavail,
        ..
    } = room;
    Ok(Storage {
        root: root.display().to_string(),
        run_root: places.run_root.display().to_string(),
        filesystem: filesystem_name(kind.f_type as u64),
        size: f_blocks * f_frsize,
        free: f_bavail * f_frsize,
        used_by_images,
    })
}

/// linux/magic.h, and the modules' own.
fn filesystem_name(magic: u64) -> String {
    let name = match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0xca45_1a4e => "bcachefs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        other => return format!("{other:#x}"),
    };
    name.to_owned()
}

fn network(places: &Places) -> Result<NetworkInfo> {
    let rows = list_networks(places)?;
    let row = rows.iter().find(|it| it.network.bridge == places.bridge);
    let nft = nft::list(&["--version"]).ok().flatten();
    Ok(NetworkInfo {
        bridge: places.bridge.clone(),
        subnet: row.map(|row| row.network.subnet.to_string()),
        up: row.is_some_and(|row| row.up),
        forwarding: first_word(Path::new("/proc/sys/net/ipv4/ip_forward")).as_deref() == Some("1"),
        nft: nft.map(|text| text.trim().to_owned()),
    })
}

fn security() -> Security {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let has = |field: &str| status.lines().any(|line| line.starts_with(field));
    let most = first_word(Path::new("/proc/sys/user/max_user_namespaces"));
    let modules = first_word(Path::new("/sys/kernel/security/lsm")).unwrap_or_default();
    let modules = modules.split(',').filter(|name| !name.is_empty());
    Security {
        seccomp: has("Seccomp:") && Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        no_new_privileges: has("NoNewPrivs:"),
        user_namespaces: most.is_some_and(|most| most != "0"),
        modules: modules.map(Into::into).collect(),
    }
}

fn first_word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next().map(Into::into)
}

fn containers(all: &[find::Container]) -> Containers {
    let count = |wanted: State| all.iter().filter(|it| it.state == wanted).count();
    Containers {
        total: all.len(),
        running: count(State::Running),
        paused: all.iter().filter(|it| it.paused).count(),
        restarting: count(State::Restarting),
        created: count(State::Created),
        exited: count(State::Exited),
    }
}

/// Each says what does not work, and what to do.
fn warnings(info: &Info) -> Vec<String> {
    let mut warnings = Vec::new();
    let flags = [
        (Controller::Memory, "--memory"),
        (Controller::Cpu, "--cpus and --cpu-shares"),
        (Controller::Cpuset, "--cpuset-cpus"),
        (Controller::Pids, "--pids-limit"),
    ];
    for (controller, flags) in flags {
        let name = controller.name();
        if !info.cgroup.controllers.contains(name) {
            warnings.push(format!(
                "there is no cgroup controller `{name}`: {flags} will be refused; mount it, or boot with \
                 cgroup_enable={name}"
            ));
        }
    }
    let Storage {
        root,
        filesystem,
        size,
        free,
        ..
    } = &info.storage;
    if NOT_WRITABLE.contains(&filesystem.as_str()) {
        warnings.push(format!(
            "{root} is on {filesystem}, which overlayfs does not write to: no container can run; put \
             --root on ext4, xfs or btrfs"
        ));
    }
    if filesystem == "tmpfs" {
        warnings.push(format!(
            "{root} is on tmpfs: images and containers take memory, and are gone after a reboot"
        ));
    }
    if *free < LITTLE_ROOM && *free < size / 20 {
        warnings.push(format!(
            "{root} has only {} MiB left; `mybox gc` and `mybox df` show what can go",
            free >> 20
        ));
    }
    if info.network.nft.is_none() {
        warnings.push(
            "nft is not there: only --network none and host work; install nftables".to_owned(),
        );
    }
    if info.network.up && !info.network.forwarding {
        warnings.push(
            "net.ipv4.ip_forward is 0: containers reach only the host; the next `mybox run` sets it"
                .to_owned(),
        );
    }
    if !info.security.seccomp {
        warnings.push(
            "the kernel has no filters of system calls: containers run only with \
             --security-opt seccomp=unconfined"
                .to_owned(),
        );
    }
    if !rustix::process::geteuid().is_root() {
        warnings.push("you are not root: no container can be run".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_distribution_stands_in_quotes_or_not() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(text), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("PRETTY_NAME=Void\n"), Some("Void"));
        assert_eq!(pretty_name("NAME=x\n"), None);
    }
}
