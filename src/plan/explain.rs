//! The plan as a shell script: the same container by hand, with the tools of any distribution
//! (util-linux, iproute2, nftables). Stage by stage in the order of `life`, so that whoever has
//! built a container by hand recognises each step, and a test can run it and compare.
//!
//! What a shell cannot do the script says where it does otherwise: resolve paths inside the
//! container's root, execute a host's tool after pivot_root, install a system call filter.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxNamespaceType, Mount, PosixRlimit, Spec};

use super::{Bridged, IMAGE_MOUNT, Layer, NetworkMode, RunPlan, SHM, devices};
use crate::kernel::cgroup::{Hierarchy, Setting, Version};
use crate::net::bridge::{hardware_address, hardware_text};
use crate::net::nat;

/// The script.
pub fn script(plan: &RunPlan) -> String {
    let mut script = Script::default();
    script.preamble(plan);
    script.directories(plan);
    if let Some(bridged) = &plan.bridged {
        script.bridge(bridged);
    }
    script.cgroup(plan);
    script.inside(plan);
    script.launch(plan);
    script.text
}

#[derive(Default)]
struct Script {
    text: String,
}

impl Script {
    /// A line as it is.
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// A blank line, and what the next lines are about.
    fn stage(&mut self, comment: &str) {
        self.line("");
        for line in comment.lines() {
            self.line(format!("# {line}"));
        }
    }

    fn preamble(&mut self, plan: &RunPlan) {
        self.line("#!/bin/sh");
        self.line("# What `mybox run` does for this container, as commands to type. Needs root.");
        self.line(format!(
            "# image {}, command: {}",
            plan.image,
            words(plan.command())
        ));
        self.line("set -eu");
        self.line(format!("ID={}", plan.id));
        self.line(format!("C={}", quoted_path(plan.files.dir())));
        self.line("R=\"$C/rootfs\"");
    }

    fn directories(&mut self, plan: &RunPlan) {
        self.stage("The container's own directories. The image's layers are not touched.");
        self.line("mkdir -p \"$C/upper\" \"$C/work\" \"$R\"");
        for (name, text) in &plan.etc {
            self.line(format!("printf %s {} > \"$C/{name}\"", quoted(text)));
        }
        for volume in &plan.volumes {
            self.line(format!("mkdir -p {}", quoted_path(&volume.data())));
        }
    }

    fn bridge(&mut self, bridged: &Bridged) {
        let (bridge, subnet) = (&bridged.bridge, bridged.subnet);
        let gateway = subnet.gateway();
        self.stage("The bridge, made once and kept.");
        self.line(format!("if ! ip link show {bridge} > /dev/null 2>&1; then"));
        self.line(format!(
            "    ip link add {bridge} address {} type bridge",
            hardware_text(hardware_address(gateway))
        ));
        self.line(format!(
            "    ip address add {gateway}/{} broadcast + dev {bridge}",
            subnet.prefix()
        ));
        self.line(format!(
            "    ip link set {bridge} alias {} up",
            quoted(&bridged.alias)
        ));
        self.line("fi");
        self.stage("To the outside: forwarding, and the host's address in place of ours.");
        self.line("[ \"$(cat /proc/sys/net/ipv4/ip_forward)\" = 1 ] || echo 1 > /proc/sys/net/ipv4/ip_forward");
        if bridged.resolver.is_some() {
            self.line(format!(
                "echo 1 > /proc/sys/net/ipv4/conf/{bridge}/route_localnet"
            ));
        }
        self.line("nft -f - <<'RULES'");
        self.line(nat::script(bridge, subnet, bridged.resolver, false).trim_end());
        self.line("RULES");
    }

    fn cgroup(&mut self, plan: &RunPlan) {
        self.stage("Limits: a group in each hierarchy, made before there is a process to limit.");
        for parent in plan.cgroup.parents() {
            self.line(format!("mkdir -p {}", quoted_path(&parent)));
        }
        for setting in plan.cgroup.preparations() {
            self.write(&setting);
        }
        for path in plan.cgroup.paths() {
            self.line(format!("mkdir -p {}", quoted_path(&path)));
        }
        for setting in plan.cgroup.settings(&plan.limits) {
            let file = quoted_path(&setting.file);
            if let Some(instead) = setting.instead() {
                self.line(format!("if [ -e {file} ]; then"));
                self.write(&setting);
                self.line("else");
                self.write(&instead);
                self.line("fi");
            } else if plan.limits.swap_is_explicit || !setting.is_swap() {
                self.write(&setting);
            } else {
                let value = quoted(&setting.value);
                self.line(format!("[ ! -e {file} ] || echo {value} > {file}"));
            }
        }
    }

    fn write(&mut self, setting: &Setting) {
        let (value, file) = (quoted(&setting.value), quoted_path(&setting.file));
        self.line(format!("echo {value} > {file}"));
    }

    /// The part that runs as pid 1 in the new namespaces.
    fn inside(&mut self, plan: &RunPlan) {
        self.stage("What the first process does inside, until it becomes the command.");
        self.line("cat > \"$C/inside.sh\" <<'INSIDE'");
        self.line("set -eu");
        self.line("C=$1 R=$1/rootfs");
        self.overlay(plan);
        self.volumes(plan);
        for entry in plan.spec.mounts().iter().flatten() {
            self.mount(plan, entry);
            if entry.destination() == Path::new("/dev") && entry.typ().as_deref() == Some("tmpfs") {
                // Right away: a volume of the user's on /dev is left alone.
                self.devices(plan);
            }
        }
        self.inside_network(plan);
        self.closed_paths(plan);
        self.become_command(plan);
        self.line("INSIDE");
    }

    fn overlay(&mut self, plan: &RunPlan) {
        self.stage("Nothing mounted here shows on the host. The layers, and a place for changes.");
        self.line("mount --make-rprivate /");
        self.indexed_layers(plan);
        let lower = plan.layers.iter().enumerate().rev();
        let lower: Vec<String> = lower.map(lower_directory).collect();
        // As `kernel::overlay` has it where layers are file systems of their own.
        let xino = if plan.layers.iter().any(is_indexed) {
            ",xino=on"
        } else {
            ""
        };
        let volatile = if plan.remove { ",volatile" } else { "" };
        self.line(format!(
            "mount -t overlay overlay -o nodev,lowerdir={},upperdir=\"$C/upper\",workdir=\"$C/work\"{xino}{volatile} \"$R\"",
            lower.join(":")
        ));
        self.line("# mybox resolves the paths below inside the root; here links of the image are followed.");
    }

    /// Each on a directory of its own, in a file system that goes with the namespace.
    fn indexed_layers(&mut self, plan: &RunPlan) {
        if !plan.layers.iter().any(is_indexed) {
            return;
        }
        self.stage(
            "Layers that are mounted where they lie: an index of metadata, and the tars that the data is\n\
             in. The kernel takes plain files (Linux 6.12), as mybox gives them to it; mount(8) puts\n\
             loop devices in between, which go when the mount goes.",
        );
        self.line("mkdir -p \"$C/lower\"");
        self.line("mount -t tmpfs -o mode=700 lower \"$C/lower\"");
        for (number, layer) in plan.layers.iter().enumerate() {
            if let Layer::Indexed { index, devices } = layer {
                self.mount_indexed(number, index, devices);
            }
        }
    }

    fn mount_indexed(&mut self, number: usize, index: &Path, devices: &[PathBuf]) {
        let at = format!("\"$C/lower/{number}\"");
        self.line(format!("mkdir {at}"));
        self.line("options=ro loops=");
        for device in devices {
            self.line(format!(
                "loop=$(losetup --find --show --read-only {})",
                quoted_path(device)
            ));
            self.line("options=$options,device=$loop loops=\"$loops $loop\"");
        }
        self.line(format!(
            "mount -t erofs -o \"$options\" {} {at}",
            quoted_path(index)
        ));
        self.line("[ -z \"$loops\" ] || losetup --detach $loops");
    }

    fn volumes(&mut self, plan: &RunPlan) {
        for volume in plan.volumes.iter().filter(|it| it.copies) {
            let (inside, data) = (in_root(&volume.destination), quoted_path(&volume.data()));
            self.line(format!(
                "[ ! -d {inside} ] || [ -n \"$(ls -A {data})\" ] || cp -a {inside}/. {data}"
            ));
        }
    }

    fn mount(&mut self, plan: &RunPlan, entry: &Mount) {
        let destination = in_root(entry.destination());
        let options: Vec<&str> = entry
            .options()
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let source = entry.source().as_deref().unwrap_or(Path::new("none"));
        let kind = entry.typ().as_deref().unwrap_or("none");
        if let (true, Some(other)) = (entry.destination() == Path::new(SHM), &plan.joined.ipc) {
            self.line(format!(
                "# Left out here: {SHM} of container {} (open_tree(2) in its mount namespace).",
                other.name
            ));
            return;
        }
        let mut images = plan.images.iter();
        let image = images.find(|it| it.destination == *entry.destination());
        if let (IMAGE_MOUNT, Some(image)) = (kind, image) {
            self.line(format!(
                "# Left out here: the image {} on {destination}, its layers stacked read-only.",
                image.image
            ));
            return;
        }
        if let Some(bind) = options
            .iter()
            .find(|word| matches!(**word, "bind" | "rbind"))
        {
            let source = quoted_path(source);
            self.line(format!(
                "if [ -d {source} ]; then mkdir -p {destination}; else mkdir -p \"$(dirname {destination})\"; [ -e {destination} ] || : > {destination}; fi"
            ));
            self.line(format!("mount --{bind} {source} {destination}"));
            let rest: Vec<&str> = options
                .iter()
                .copied()
                .filter(|word| !matches!(*word, "bind" | "rbind" | "rslave" | "rshared"))
                .collect();
            if options
                .iter()
                .any(|word| matches!(*word, "rslave" | "rshared"))
            {
                self.line("# Left out here: mounts made below it later are seen on one side only.");
            }
            if !rest.is_empty() {
                self.line(format!(
                    "mount -o remount,bind,{} {destination}",
                    rest.join(",")
                ));
            }
            return;
        }
        self.line(format!("mkdir -p {destination}"));
        if kind == "cgroup" {
            self.cgroup_view(plan, &destination, &options);
        } else {
            let (source, options) = (quoted_path(source), quoted(&options.join(",")));
            self.line(format!(
                "mount -t {kind} -o {options} {source} {destination}"
            ));
        }
    }

    fn cgroup_view(&mut self, plan: &RunPlan, destination: &str, options: &[&str]) {
        let v1: Vec<&Hierarchy> = plan
            .hierarchies
            .iter()
            .filter(|it| it.version == Version::V1)
            .collect();
        let words = options.join(",");
        if v1.is_empty() {
            self.line(format!("mount -t cgroup2 -o {words} cgroup {destination}"));
            return;
        }
        let writable: Vec<&str> = options
            .iter()
            .copied()
            .filter(|word| *word != "ro")
            .collect();
        let writable = writable.join(",");
        self.line(format!(
            "mount -t tmpfs -o {writable},mode=755,size=64k cgroup {destination}"
        ));
        for hierarchy in v1 {
            let name = hierarchy
                .mount
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            let controllers = hierarchy.controllers.join(",");
            self.line(format!("mkdir {destination}/{name}"));
            self.line(format!(
                "mount -t cgroup -o {words},{controllers} cgroup {destination}/{name}"
            ));
        }
        self.line(format!("mount -o remount,{words} {destination}"));
    }

    fn devices(&mut self, plan: &RunPlan) {
        self.stage("/dev: devices that harm nobody, and the usual links.");
        self.line("umask 0");
        for (name, major, minor) in [
            ("null", 1, 3),
            ("zero", 1, 5),
            ("full", 1, 7),
            ("random", 1, 8),
            ("urandom", 1, 9),
            ("tty", 5, 0),
        ] {
            self.line(format!("mknod -m 666 \"$R/dev/{name}\" c {major} {minor}"));
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("core", "/proc/kcore"),
            ("ptmx", "pts/ptmx"),
        ] {
            self.line(format!("ln -s {target} \"$R/dev/{name}\""));
        }
        let linux = plan.spec.linux().as_ref();
        for device in linux
            .and_then(|it| it.devices().as_ref())
            .into_iter()
            .flatten()
        {
            self.device(device);
        }
    }

    fn device(&mut self, device: &LinuxDevice) {
        let path = in_root(device.path());
        let mode = device.file_mode().unwrap_or(0o666);
        let (owner, group) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        self.line(format!("mkdir -p \"$(dirname {path})\"; rm -f {path}"));
        self.line(format!(
            "mknod -m {mode:o} {path} {} {} {}",
            device.typ().as_str(),
            device.major(),
            device.minor()
        ));
        self.line(format!("chown {owner}:{group} {path}"));
    }

    fn inside_network(&mut self, plan: &RunPlan) {
        if !has_own_network(plan) {
            return;
        }
        self.stage("The network, as soon as the other side has put eth0 here.");
        self.line("echo ready > \"$C/ready\"; read -r _ < \"$C/go\"");
        self.line("ip link set lo up");
        if let Some(bridged) = &plan.bridged {
            let (address, prefix) = (bridged.address, bridged.subnet.prefix());
            self.line(format!(
                "ip address add {address}/{prefix} broadcast + dev eth0"
            ));
            self.line("ip link set eth0 up");
            self.line(format!(
                "ip route add default via {}",
                bridged.subnet.gateway()
            ));
        }
    }

    fn closed_paths(&mut self, plan: &RunPlan) {
        let Some(linux) = plan.spec.linux().as_ref() else {
            return;
        };
        self.stage(
            "The host name, kernel settings; then what tells of the host, or changes it, closed.",
        );
        if let Some(hostname) = plan.spec.hostname() {
            self.line(format!("echo {hostname} > /proc/sys/kernel/hostname"));
        }
        if let Some(domainname) = plan.spec.domainname() {
            self.line(format!("echo {domainname} > /proc/sys/kernel/domainname"));
        }
        let mut sysctls: Vec<_> = linux.sysctl().iter().flatten().collect();
        sysctls.sort();
        for (name, value) in sysctls {
            let path = name.replace('.', "/");
            self.line(format!("echo {} > \"$R/proc/sys/{path}\"", quoted(value)));
        }
        let paths: Vec<&str> = linux
            .readonly_paths()
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        self.line(format!("for path in {}; do", paths.join(" ")));
        self.line("    [ -e \"$R$path\" ] || continue");
        self.line("    mount --bind \"$R$path\" \"$R$path\"");
        self.line("    mount -o remount,bind,ro,nosuid,nodev,noexec \"$R$path\"");
        self.line("done");
        let paths: Vec<&str> = linux
            .masked_paths()
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        self.line(format!("for path in {}; do", paths.join(" ")));
        self.line("    [ -e \"$R$path\" ] || continue");
        self.line("    if [ -d \"$R$path\" ]; then");
        self.line("        mount -t tmpfs -o ro,nosuid,nodev,noexec,size=4k tmpfs \"$R$path\"");
        self.line("    else");
        self.line("        mount --bind \"$R/dev/null\" \"$R$path\"");
        self.line("    fi");
        self.line("done");
        let root = plan.spec.root().as_ref();
        if root
            .and_then(oci_spec::runtime::Root::readonly)
            .unwrap_or(false)
        {
            self.line("mount -o remount,bind,ro,nodev \"$R\"");
        }
    }

    fn become_command(&mut self, plan: &RunPlan) {
        let Some(process) = plan.spec.process().as_ref() else {
            return;
        };
        let user = process.user().username().as_deref().unwrap_or("0");
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        self.stage("Who it runs as, by the image's own files.");
        self.line(format!("user={} group={}", quoted(user), quoted(group)));
        self.line("entry=$(awk -F: -v u=\"$user\" '$1 == u || $3 == u { print; exit }' \"$R/etc/passwd\" 2> /dev/null || true)");
        self.line("uid=$(echo \"${entry:-:x:$user:0}\" | cut -d: -f3)");
        self.line("gid=$(echo \"${entry:-:x:$user:0}\" | cut -d: -f4)");
        self.line("home=$(echo \"${entry:-:::::/}\" | cut -d: -f6)");
        self.line("[ -z \"$group\" ] || gid=$(awk -F: -v g=\"$group\" '$1 == g || $3 == g { print $3; exit }' \"$R/etc/group\")");
        self.stage(
            "mybox does pivot_root(2) and lets go of the old root. A shell would then be without the\n\
             host's tools, so the new root is moved over the old one instead, and chroot enters it.\n\
             mybox also installs a filter of system calls (seccomp(2)), which no shell tool does.",
        );
        let groups = super::groups(&plan.spec);
        if !groups.is_empty() {
            self.line(format!(
                "# Left out here: the groups {} (--group-add). unshare(1) leaves all groups.",
                groups.join(", ")
            ));
        }
        self.line("umask 022");
        self.line(format!("mkdir -p {}", in_root(process.cwd())));
        self.device_rules(plan);
        self.line("cd \"$R\"");
        self.line("mount --move . /");
        let names = process
            .capabilities()
            .as_ref()
            .and_then(|it| it.bounding().as_ref());
        let mut keep: Vec<String> = names
            .into_iter()
            .flatten()
            .map(|name| {
                format!(
                    "+{}",
                    name.to_string().to_lowercase().trim_start_matches("cap_")
                )
            })
            .collect();
        keep.sort();
        keep.insert(0, "-all".to_owned());
        let no_new_privs = if process.no_new_privileges().unwrap_or(false) {
            " --no-new-privs"
        } else {
            ""
        };
        if let Some(score) = process.oom_score_adj() {
            self.line(format!("echo {score} > /proc/self/oom_score_adj"));
        }
        for limit in process.rlimits().iter().flatten() {
            self.line(prlimit(limit));
        }
        let environment = words(process.env().as_deref().unwrap_or_default());
        let cwd = quoted_path(process.cwd());
        self.line(format!("exec env -i HOME=\"$home\" {environment} \\"));
        self.line(format!(
            "    /usr/bin/setpriv --inh-caps=-all --bounding-set={}{no_new_privs} \\",
            keep.join(",")
        ));
        self.line(format!(
            "    /usr/bin/unshare --root=. --wd={cwd} --setgid=\"$gid\" --setuid=\"$uid\" {}",
            words(plan.command())
        ));
    }

    /// Last of all: mount(8) opens loop devices, which no container may.
    fn device_rules(&mut self, plan: &RunPlan) {
        let rules = devices::of_spec(&plan.spec);
        let settings = plan.cgroup.device_settings(&rules);
        if settings.is_empty() {
            if rules.restricted && plan.cgroup.has_device_rules() {
                self.stage(
                    "Left out: with cgroups v2 mybox loads a BPF program with rules for devices.",
                );
            }
            return;
        }
        self.stage("No device may be opened but these; mybox says so before there is a process.");
        for setting in settings {
            self.write(&setting);
        }
    }

    fn launch(&mut self, plan: &RunPlan) {
        self.cleanup(plan);
        let shares_network = !has_own_network(plan);
        self.stage("Into the group first, then into namespaces of its own.");
        self.line("cat > \"$C/enter.sh\" <<'ENTER'");
        self.line("set -eu");
        let v1 = plan.cgroup.v1_paths();
        for path in plan.cgroup.paths() {
            let file = if v1.contains(&path) {
                "tasks"
            } else {
                "cgroup.procs"
            };
            self.line(format!("echo $$ > {}", quoted_path(&path.join(file))));
        }
        self.line(format!(
            "exec {}sh \"$1/inside.sh\" \"$1\"",
            into_namespaces(&plan.spec)
        ));
        self.line("ENTER");
        if shares_network {
            self.line("status=0; sh \"$C/enter.sh\" \"$C\" || status=$?");
        } else {
            self.line("mkfifo \"$C/ready\" \"$C/go\"");
            self.line("exec 3<&0");
            self.line("sh \"$C/enter.sh\" \"$C\" <&3 3<&- & child=$!");
            self.line("read -r _ < \"$C/ready\"");
            if let Some(bridged) = &plan.bridged {
                self.line(format!(
                    "ip link add {} type veth peer name eth0 address {} netns $child",
                    bridged.veth,
                    hardware_text(bridged.hardware)
                ));
                self.line(format!(
                    "ip link set {} master {} up",
                    bridged.veth, bridged.bridge
                ));
                self.line(format!(
                    "bridge fdb replace {} dev {} master static",
                    hardware_text(bridged.hardware),
                    bridged.veth
                ));
                self.publish(bridged);
            }
            self.line("echo go > \"$C/go\"");
            self.line("status=0; wait $child || status=$?");
        }
        self.line("exit $status");
    }

    fn publish(&mut self, bridged: &Bridged) {
        if bridged.ports.is_empty() {
            return;
        }
        self.stage(
            "Ports of the host: an element of the firewall's map each. mybox also binds them, so that no\n\
             other program takes them meanwhile.",
        );
        self.line(format!(
            "echo 1 > /proc/sys/net/ipv4/conf/{}/route_localnet",
            bridged.bridge
        ));
        self.line(format!(
            "ip link set {} type bridge_slave hairpin on",
            bridged.veth
        ));
        self.line("nft -f - <<'PORTS'");
        self.line(nat::publication(&bridged.published()).trim_end());
        self.line("PORTS");
    }

    fn unpublish(&mut self, plan: &RunPlan) {
        let ports = plan.bridged.iter().flat_map(|bridged| &bridged.ports);
        let ports: Vec<_> = ports.copied().collect();
        for line in nat::unpublication(&ports).lines() {
            self.line(format!("    nft {} 2> /dev/null || true", quoted(line)));
        }
    }

    fn cleanup(&mut self, plan: &RunPlan) {
        self.stage("Undone when the command ends, whatever happens.");
        self.line("undo() {");
        self.unpublish(plan);
        if let Some(bridged) = &plan.bridged {
            self.line(format!(
                "    ip link delete {} 2> /dev/null || true",
                bridged.veth
            ));
        }
        for path in plan.cgroup.paths() {
            self.line(format!("    rmdir {}", quoted_path(&path)));
        }
        for parent in plan.cgroup.own_parents() {
            let parent = quoted_path(parent);
            self.line(format!("    rmdir {parent} 2> /dev/null || true"));
        }
        if plan.remove {
            self.line("    rm -rf \"$C\"");
        } else {
            self.line("    rm -f \"$C/inside.sh\" \"$C/enter.sh\" \"$C/ready\" \"$C/go\"");
            self.line("    [ ! -d \"$C/lower\" ] || rmdir \"$C/lower\"");
        }
        self.line("}");
        self.line("trap undo EXIT");
    }
}

fn is_indexed(layer: &Layer) -> bool {
    matches!(layer, Layer::Indexed { .. })
}

/// A lower layer as a word of the shell.
fn lower_directory((number, layer): (usize, &Layer)) -> String {
    match layer {
        Layer::Tree(path) => quoted_path(path),
        Layer::Indexed { .. } => format!("\"$C/lower/{number}\""),
    }
}

fn has_own_network(plan: &RunPlan) -> bool {
    matches!(plan.network, NetworkMode::Bridge | NetworkMode::None)
}

/// nsenter(1) for those of other containers, then unshare(1) for the new ones.
fn into_namespaces(spec: &Spec) -> String {
    let linux = spec.linux().as_ref();
    let all = linux.and_then(|linux| linux.namespaces().as_ref());
    let (mut enter, mut new) = (String::new(), String::new());
    for namespace in all.into_iter().flatten() {
        let name = match namespace.typ() {
            LinuxNamespaceType::Mount => "mount",
            LinuxNamespaceType::Pid => "pid",
            LinuxNamespaceType::Uts => "uts",
            LinuxNamespaceType::Ipc => "ipc",
            LinuxNamespaceType::Network => "net",
            LinuxNamespaceType::Cgroup => "cgroup",
            LinuxNamespaceType::User => "user",
            LinuxNamespaceType::Time => "time",
        };
        match namespace.path() {
            Some(path) => enter.push_str(&format!("--{name}={} ", quoted_path(path))),
            None if name == "pid" => new.push_str("--pid --fork --kill-child "),
            None => new.push_str(&format!("--{name} ")),
        }
    }
    if enter.is_empty() {
        format!("unshare {new}")
    } else {
        format!("nsenter {enter}unshare {new}")
    }
}

/// A limit of the shell itself, which what it executes has too.
fn prlimit(limit: &PosixRlimit) -> String {
    let value = |number| match number {
        u64::MAX => "unlimited".to_owned(),
        number => number.to_string(),
    };
    let name = limit.typ().to_string().to_lowercase();
    let name = name.trim_start_matches("rlimit_");
    let (soft, hard) = (value(limit.soft()), value(limit.hard()));
    format!("prlimit --pid $$ --{name}={soft}:{hard}")
}

/// A path inside the container's root.
fn in_root(path: &Path) -> String {
    let text = path.display().to_string();
    if is_plain(&text) {
        format!("\"$R{text}\"")
    } else {
        format!("\"$R\"{}", quoted(&text))
    }
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

fn words(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    quoted.join(" ")
}

fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

/// A word for the shell: as it is if it has nothing special, else in single quotes.
fn quoted(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_out_of_a_shell_as_they_went_in() {
        let words = [
            "plain",
            "",
            "two words",
            "it's",
            "'",
            "''x",
            "$HOME `id` \\ \"",
            "a\nb",
            "*?",
        ];
        for word in words {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                word,
                "{}",
                quoted(word)
            );
        }
    }
}
