//! What is done on the host around the container: network, limits, launch, and all of it undone.

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::Script;
use super::shell::{quoted, quoted_path};
use crate::kernel::cgroup::Setting;
use crate::net::bridge::{hardware_address, hardware_text};
use crate::net::nat;
use crate::plan::{Bridged, NetworkMode, RunPlan, devices};

impl Script {
    pub(super) fn bridge(&mut self, bridged: &Bridged) {
        let (bridge, subnet) = (&bridged.bridge, bridged.subnet);
        let gateway = subnet.gateway();
        self.stage("The bridge, made once and kept.");
        self.line(format!("if ! ip link show {bridge} > /dev/null 2>&1; then"));
        self.line(format!(
            "    ip link add {bridge} address {} type bridge",
            hardware_text(hardware_address(gateway))
        ));
        self.refuse_router_advertisements(
            "    ",
            &format!("/proc/sys/net/ipv6/conf/{bridge}/accept_ra"),
        );
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
        self.line(nat::script(bridge, subnet, bridged.resolver, None).trim_end());
        self.line("RULES");
    }

    /// A kernel without IPv6 has no such file.
    pub(super) fn refuse_router_advertisements(&mut self, indent: &str, file: &str) {
        self.line(format!(
            "{indent}[ ! -e \"{file}\" ] || echo 0 > \"{file}\""
        ));
    }

    pub(super) fn cgroup(&mut self, plan: &RunPlan) {
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

    /// Last of all: mount(8) opens loop devices, which no container may.
    pub(super) fn device_rules(&mut self, plan: &RunPlan) {
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

    pub(super) fn launch(&mut self, plan: &RunPlan) {
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

pub(super) fn has_own_network(plan: &RunPlan) -> bool {
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
