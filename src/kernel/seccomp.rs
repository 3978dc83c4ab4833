//! System call filters (seccomp(2)): compiled by libseccomp, which knows the numbers of every
//! architecture, and installed from the compiled program, so that compiling can be done once.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use super::{Context, Error, Result, raw};

/// Compiles a profile to a program for [`install`]: classic BPF, 8 bytes an instruction.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut filter = ScmpFilterContext::new(default).map_err(refused("begin a filter"))?;
    // A call of an architecture that is not in the list ends as the default, not in SIGSYS.
    filter
        .set_act_badarch(default)
        .map_err(refused("set the action for other machines"))?;
    for arch in profile.architectures().iter().flatten() {
        filter
            .add_arch(architecture(*arch)?)
            .map_err(refused("add an architecture"))?;
    }
    // A binary tree over the numbers instead of a chain (libseccomp 2.5).
    filter.set_ctl_optimize(2).map_err(refused("optimise"))?;
    for rule in profile.syscalls().iter().flatten() {
        add(&mut filter, rule, default)?;
    }
    exported(&filter)
}

/// The program's bytes. Older libseccomp (before 2.6) writes them to a file only.
fn exported(filter: &ScmpFilterContext) -> Result<Vec<u8>> {
    let memory = rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC)
        .on("make", "file in memory")?;
    filter.export_bpf(&memory).map_err(refused("compile"))?;
    let mut file = File::from(memory);
    let mut program = Vec::new();
    file.seek(SeekFrom::Start(0))
        .on("rewind", "file in memory")?;
    file.read_to_end(&mut program)
        .on("read", "file in memory")?;
    Ok(program)
}

/// Installs a compiled program for this thread and all it executes. Without no_new_privs it takes
/// `CAP_SYS_ADMIN`.
pub fn install(program: &[u8]) -> Result<()> {
    raw::install_filter(program).on("install", "system call filter")
}

fn add(filter: &mut ScmpFilterContext, rule: &LinuxSyscall, default: ScmpAction) -> Result<()> {
    let action = action(rule.action(), rule.errno_ret())?;
    if action == default {
        return Ok(());
    }
    let arguments: Vec<ScmpArgCompare> = rule
        .args()
        .iter()
        .flatten()
        .map(comparison)
        .collect::<Result<_>>()?;
    for name in rule.names() {
        // A call that this libseccomp does not know has no number to compare, and is the default.
        let Ok(call) = ScmpSyscall::from_name(name) else {
            continue;
        };
        let added = if arguments.is_empty() {
            filter.add_rule(action, call)
        } else {
            filter.add_rule_conditional(action, call, &arguments)
        };
        added.map_err(|error| Error::new("add rule for", name, error))?;
    }
    Ok(())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction> {
    let errno = errno.map_or(libc::EPERM, u32::cast_signed);
    match action {
        LinuxSeccompAction::ScmpActAllow => Ok(ScmpAction::Allow),
        LinuxSeccompAction::ScmpActErrno => Ok(ScmpAction::Errno(errno)),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            Ok(ScmpAction::KillThread)
        }
        LinuxSeccompAction::ScmpActKillProcess => Ok(ScmpAction::KillProcess),
        LinuxSeccompAction::ScmpActTrap => Ok(ScmpAction::Trap),
        LinuxSeccompAction::ScmpActLog => Ok(ScmpAction::Log),
        other => Err(Error::new(
            "use action",
            format_args!("{other:?}"),
            "it is not supported",
        )),
    }
}

fn architecture(arch: Arch) -> Result<ScmpArch> {
    match arch {
        Arch::ScmpArchNative => Ok(ScmpArch::Native),
        Arch::ScmpArchX86 => Ok(ScmpArch::X86),
        Arch::ScmpArchX86_64 => Ok(ScmpArch::X8664),
        Arch::ScmpArchX32 => Ok(ScmpArch::X32),
        Arch::ScmpArchArm => Ok(ScmpArch::Arm),
        Arch::ScmpArchAarch64 => Ok(ScmpArch::Aarch64),
        other => Err(Error::new(
            "use architecture",
            format_args!("{other:?}"),
            "it is not supported",
        )),
    }
}

fn comparison(argument: &LinuxSeccompArg) -> Result<ScmpArgCompare> {
    let (value, second) = (argument.value(), argument.value_two());
    let (op, datum) = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, value),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, value),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, value),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, value),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, value),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, value),
        // The spec has the mask first and what the masked argument is compared with second.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(value), second.unwrap_or(0))
        }
    };
    let index = u32::try_from(argument.index())
        .map_err(|error| Error::new("compare argument", argument.index(), error))?;
    Ok(ScmpArgCompare::new(index, op, datum))
}

fn refused(operation: &'static str) -> impl Fn(libseccomp::error::SeccompError) -> Error {
    move |error| Error::new(operation, "of system calls", error)
}
