//! System calls that neither rustix nor nix wrap safely. The only unsafe code in mybox.
//!
//! One system call a function, owned descriptors in and out, no policy.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::process::SingleThreaded;

/// What [`clone3`] answers: it returns twice.
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the caller: the new process's number and a descriptor that stands for it.
    Parent {
        /// Process id as the caller's pid namespace numbers it.
        pid: i32,
        /// Stays this process's even after the number is used again.
        pidfd: OwnedFd,
    },
}

/// linux/sched.h; the constant of the same name in libc is too narrow for its value.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `clone3(2)` with a copy of the address space (as fork), optionally straight into a cgroup v2
/// (`CLONE_INTO_CGROUP`, Linux 5.7).
///
/// `flags` are `CLONE_NEW*`; `CLONE_PIDFD` is added. The token proves that no other thread exists:
/// a lock held by one at the time of the call would stay locked in the child for ever.
pub fn clone3(
    _proof: &SingleThreaded,
    flags: u64,
    into_cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = into_cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child runs on a copy of this stack and heap, and the caller is
    // single-threaded by the proof token, so the copy is consistent. `args` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel wrote a new descriptor that nobody else owns, since CLONE_PIDFD
            // was asked for and the call succeeded.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// Sets close-on-exec on every descriptor from `first` up (`close_range(2)` with
/// `CLOSE_RANGE_CLOEXEC`, Linux 5.11). Nothing is closed before the exec, so owners stay valid.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only flags of descriptors change; no memory is passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes every descriptor but the standard three and `keep` (`close_range(2)`).
///
/// For a process that only ends in [`exit_now`]: owners of what was closed are never dropped.
pub fn close_all_but(keep: BorrowedFd<'_>) {
    let keep = keep.as_raw_fd().cast_unsigned();
    for (first, last) in [(3, keep.saturating_sub(1)), (keep + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: the caller uses no other descriptor from here on and never drops their
            // owners, as it promises by ending in exit_now.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// Closes a descriptor that a clone has copied and that the child must not keep. Its owner, in the
/// memory copied with it, is never dropped there: the child ends in an exec or [`exit_now`].
pub fn close_copy(fd: BorrowedFd<'_>) {
    // SAFETY: called in a fresh child only, which neither uses nor drops the owner.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Changes the attributes of a detached or attached mount (`mount_setattr(2)`, Linux 5.12).
///
/// `set` are `MOUNT_ATTR_*` bits; `propagation` one of `MS_PRIVATE`, ... or 0.
pub fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    propagation: u64,
) -> io::Result<()> {
    // SAFETY: mount_attr is plain integers, for which all zeroes is a valid value.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = set;
    attr.propagation = propagation;
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the empty path is a C string, `attr` outlives the call, its size is passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives the process a new, empty session keyring (`keyctl(2)`), so that keys of the caller's
/// session are not readable in a container: keyrings have no namespace.
pub fn join_new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    let answer = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0usize) };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Installs a seccomp filter, classic BPF of 8 bytes an instruction (`seccomp(2)`,
/// `SECCOMP_SET_MODE_FILTER`).
pub fn install_filter(program: &[u8]) -> io::Result<()> {
    let instruction = |bytes: &[u8]| libc::sock_filter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    let mut instructions: Vec<libc::sock_filter> =
        program.chunks_exact(8).map(instruction).collect();
    let len = u16::try_from(instructions.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog {
        len,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies them
    // and checks them itself.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives every signal its default disposition: the Rust runtime ignores SIGPIPE, and an ignored
/// signal stays ignored over exec.
pub fn default_signal_dispositions() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is a valid disposition. SIGKILL, SIGSTOP and the two that libc keeps to
        // itself answer EINVAL and are left alone.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// The signal of this number, real-time ones included; `None` if a process cannot be sent it.
pub fn signal(number: i32) -> Option<rustix::process::Signal> {
    let named = (1..=31).contains(&number);
    if !named && !(libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) {
        return None;
    }
    // SAFETY: the number is a valid signal and none of those that libc keeps to itself.
    Some(unsafe { rustix::process::Signal::from_raw_unchecked(number) })
}

/// Leaves the process at once: no destructors, no buffers written twice after a clone.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}
