//! The system calls a container may make (runtime-spec config-linux.md, "Seccomp").
//!
//! What is allowed is what both Docker's and Podman's default profiles allow a container without
//! added capabilities. Of the rest, what is known to be dangerous is EPERM, and what this list has
//! never heard of is ENOSYS, so that a newer libc falls back to an older call.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
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

/// The default profile.
pub(super) fn default_profile() -> Result<LinuxSeccomp, OciSpecError> {
    use LinuxSeccompOperator::{ScmpCmpEq, ScmpCmpMaskedEq, ScmpCmpNe};
    let mut rules = vec![
        rule(ALLOWED, LinuxSeccompAction::ScmpActAllow, None)?,
        rule(REFUSED, LinuxSeccompAction::ScmpActErrno, None)?,
        allowed_if("clone", argument(0, ScmpCmpMaskedEq, NAMESPACES, Some(0))?)?,
        allowed_if("socket", argument(0, ScmpCmpNe, AF_NETLINK, None)?)?,
        allowed_if("socket", argument(2, ScmpCmpNe, NETLINK_AUDIT, None)?)?,
    ];
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

fn rule(
    names: &str,
    action: LinuxSeccompAction,
    argument: Option<LinuxSeccompArg>,
) -> Result<LinuxSyscall, OciSpecError> {
    let names: Vec<String> = names.split_whitespace().map(ToOwned::to_owned).collect();
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
    rule(name, LinuxSeccompAction::ScmpActAllow, Some(argument))
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
    use std::collections::BTreeSet;

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
        let program = crate::kernel::seccomp::compile(&default_profile().unwrap()).unwrap();
        assert!(
            program.len() > 1000 && program.len().is_multiple_of(8),
            "{} bytes",
            program.len()
        );
    }
}
