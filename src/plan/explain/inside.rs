//! What the first process does inside, until it becomes the command.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, Mount, PosixRlimit};

use super::Script;
use super::around::has_own_network;
use super::shell::{is_plain, quoted, quoted_path, words};
use crate::kernel::cgroup::{Hierarchy, Version};
use crate::plan::{IMAGE_MOUNT, Layer, RunPlan, SHM, groups};

impl Script {
    /// The part that runs as pid 1 in the new namespaces.
    pub(super) fn inside(&mut self, plan: &RunPlan) {
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
        let mut lower: Vec<String> = lower.map(lower_directory).collect();
        if lower.is_empty() {
            self.line("mkdir -p \"$C/images/empty\"");
            lower.push("\"$C/images/empty\"".to_owned());
        }
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
            self.refuse_router_advertisements("", "$R/proc/sys/net/ipv6/conf/eth0/accept_ra");
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
        let paths = linux.readonly_paths().as_deref().unwrap_or_default();
        self.line(format!("for path in {}; do", paths.join(" ")));
        self.line("    [ -e \"$R$path\" ] || continue");
        self.line("    mount --bind \"$R$path\" \"$R$path\"");
        self.line("    mount -o remount,bind,ro,nosuid,nodev,noexec \"$R$path\"");
        self.line("done");
        let paths = linux.masked_paths().as_deref().unwrap_or_default();
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
        let groups = groups(&plan.spec);
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
