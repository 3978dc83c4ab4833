//! The system calls a container may make (runtime-spec config-linux.md, "Seccomp").
//!
//! What is allowed is what both Docker's and Podman's default profiles allow a container without
//! added capabilities, and what each added capability is for. Of the rest, what is known to be dangerous is EPERM, and what this list has
//! never heard of is ENOSYS, so that a newer libc falls back to an older call.

use std::collections::BTreeSet;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall,
    LinuxSyscallBuilder,
};

/// Allowed whatever the arguments.
const ALLOWED: &str = include_str!("allowed.txt");

/// Known and refused: namespaces and mounts, keys, tracing of the kernel, modules, clocks, swap,
/// power, raw I/O.
const REFUSED: &str = "\
    acct add_key bpf clock_settime clock_settime64 create_module delete_module fanotify_init \
    finit_module fsconfig fsmount fsopen fspick get_kernel_syms init_module io_uring_enter \
    io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl \
    lookup_dcookie migrate_pages mount mount_setattr move_mount move_pages nfsservctl \
    open_by_handle_at open_tree perf_event_open pivot_root process_madvise query_module quotactl \
    quotactl_fd reboot request_key setdomainname sethostname setns settimeofday stime swapoff \
    swapon sysfs syslog umount umount2 unshare uselib userfaultfd ustat vhangup vm86 vm86old";

/// `CLONE_NEW*` (clone(2)): a clone that makes a namespace is refused. clone3 hides its flags in
/// memory, where a filter cannot look, and is ENOSYS: libc falls back to clone.
const NAMESPACES: u64 = 0x7e02_0000;

/// Personalities that change nothing a host would mind: Linux, 32 bits, both with UNAME26, and the
/// question which it is (personality(2)).
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// linux/socket.h, linux/netlink.h: the kernel's audit log, which a container could fill.
const AF_NETLINK: u64 = 16;
const NETLINK_AUDIT: u64 = 9;

/// The calls that a capability is for, where not everybody may make them.
const WITH_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::AuditWrite, "socket"),
    (Capability::Bpf, "bpf"),
    (Capability::DacReadSearch, "open_by_handle_at"),
    (Capability::Perfmon, "perf_event_open"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount \
         mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (
        Capability::SysModule,
        "create_module delete_module finit_module init_module query_module",
    ),
    (Capability::SysNice, "migrate_pages move_pages"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp process_madvise"),
    (Capability::SysRawio, "ioperm iopl"),
    (
        Capability::SysTime,
        "clock_settime clock_settime64 settimeofday stime",
    ),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::Syslog, "syslog"),
];

/// What these capabilities open, each call once.
fn opened(capabilities: &Capabilities) -> BTreeSet<&'static str> {
    let has = |(capability, _): &&(Capability, &str)| capabilities.contains(capability);
    let theirs = WITH_CAPABILITY.iter().filter(has);
    theirs
        .flat_map(|(_, calls)| calls.split_whitespace())
        .collect()
}

/// The default profile for a container that may have these capabilities.
pub(super) fn default_profile(capabilities: &Capabilities) -> Result<LinuxSeccomp, OciSpecError> {
    use LinuxSeccompOperator::{ScmpCmpEq, ScmpCmpMaskedEq, ScmpCmpNe};
    let opened = opened(capabilities);
    let allowed = ALLOWED.split_whitespace().chain(opened.iter().copied());
    let refused = REFUSED.split_whitespace().filter(|it| !opened.contains(it));
    let mut rules = vec![
        rule(allowed, LinuxSeccompAction::ScmpActAllow, None)?,
        rule(refused, LinuxSeccompAction::ScmpActErrno, None)?,
    ];
    if !opened.contains("clone") {
        let none = argument(0, ScmpCmpMaskedEq, NAMESPACES, Some(0))?;
        rules.push(allowed_if("clone", none)?);
    }
    if !opened.contains("socket") {
        let other = argument(0, ScmpCmpNe, AF_NETLINK, None)?;
        rules.push(allowed_if("socket", other)?);
        let other = argument(2, ScmpCmpNe, NETLINK_AUDIT, None)?;
        rules.push(allowed_if("socket", other)?);
    }
    for personality in PERSONALITIES {
        rules.push(allowed_if(
            "personality",
            argument(0, ScmpCmpEq, personality, None)?,
        )?);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(libc::ENOSYS.cast_unsigned())
        .architectures(architectures())
        .syscalls(rules)
        .build()
}

/// A machine runs programs of its smaller siblings too.
fn architectures() -> Vec<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        _ => vec![Arch::ScmpArchNative],
    }
}

fn rule<'a>(
    names: impl Iterator<Item = &'a str>,
    action: LinuxSeccompAction,
    argument: Option<LinuxSeccompArg>,
) -> Result<LinuxSyscall, OciSpecError> {
    let names: Vec<String> = names.map(ToOwned::to_owned).collect();
    let builder = LinuxSyscallBuilder::default().names(names).action(action);
    let builder = match action {
        LinuxSeccompAction::ScmpActErrno => builder.errno_ret(libc::EPERM.cast_unsigned()),
        _ => builder,
    };
    match argument {
        Some(argument) => builder.args(vec![argument]).build(),
        None => builder.build(),
    }
}

fn allowed_if(name: &str, argument: LinuxSeccompArg) -> Result<LinuxSyscall, OciSpecError> {
    let only = std::iter::once(name);
    rule(only, LinuxSeccompAction::ScmpActAllow, Some(argument))
}

fn argument(
    index: usize,
    op: LinuxSeccompOperator,
    value: u64,
    value_two: Option<u64>,
) -> Result<LinuxSeccompArg, OciSpecError> {
    let builder = LinuxSeccompArgBuilder::default()
        .index(index)
        .op(op)
        .value(value);
    match value_two {
        Some(value_two) => builder.value_two(value_two).build(),
        None => builder.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::capabilities::ALL;

    #[test]
    fn nothing_is_both_allowed_and_refused() {
        let allowed: BTreeSet<&str> = ALLOWED.split_whitespace().collect();
        let refused: BTreeSet<&str> = REFUSED.split_whitespace().collect();
        assert_eq!(allowed.intersection(&refused).count(), 0);
        for name in ["clone", "clone3", "personality", "socket"] {
            assert!(!allowed.contains(name) && !refused.contains(name), "{name}");
        }
    }

    #[test]
    fn the_profile_compiles() {
        for capabilities in [Capabilities::new(), ALL.into_iter().collect()] {
            let profile = default_profile(&capabilities).unwrap();
            let program = crate::kernel::seccomp::compile(&profile).unwrap();
            assert!(
                program.len() > 1000 && program.len().is_multiple_of(8),
                "{} bytes",
                program.len()
            );
        }
    }
}
