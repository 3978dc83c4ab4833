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

/// linux/bpf.h: the commands, types and flags of `bpf(2)` that are used here.
const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Loads a program that says which devices may be opened, of 8 bytes an instruction (`bpf(2)`,
/// `BPF_PROG_LOAD`; Linux 4.15).
pub fn load_device_filter(program: &[u8]) -> io::Result<OwnedFd> {
    /// The beginning of `union bpf_attr` for this command; the kernel takes what follows for zeroes.
    #[repr(C)]
    struct Load {
        kind: u32,
        instructions: u32,
        program: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    // Aligned as the kernel's own instructions are.
    let word = |bytes: &[u8]| u64::from_ne_bytes(std::array::from_fn(|at| bytes[at]));
    let program: Vec<u64> = program.chunks_exact(8).map(word).collect();
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instructions: u32::try_from(program.len()).map_err(io::Error::other)?,
        program: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: `load` has the size that is given with it, and points to as many instructions as it says and
    // to a string that ends, both of which outlive the call. The kernel checks the program itself.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const load,
            size_of::<Load>(),
        )
    };
    match i32::try_from(answer) {
        // SAFETY: the kernel made a new descriptor that nobody else owns.
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has a program decide for a cgroup v2 group, beside those that are there already (`bpf(2)`,
/// `BPF_PROG_ATTACH`). The group keeps it.
pub fn attach_device_filter(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attach {
        group: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let attach = Attach {
        group: group.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attach` has the size that is given with it; its descriptors are borrowed for the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attach,
            size_of::<Attach>(),
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

/// A time as the machine's clock on the wall shows it (`localtime_r(3)`); `None` if it has none.
pub fn local_time(seconds: i64) -> Option<libc::tm> {
    // SAFETY: tm is integers and a pointer, for which all zeroes is a valid value.
    let mut time: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that outlive the call. It reads TZ, which nothing in
    // mybox sets.
    let answer = unsafe { libc::localtime_r(&raw const seconds, &raw mut time) };
    (!answer.is_null()).then_some(time)
}

/// A descriptor that this process was executed with, under the number that it was told. Only for a
/// number that nothing else in the process owns: each is asked for once.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no memory, and any number.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and by the caller's word nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes the pages of this program's code and constants out of the process's own page table: a process
/// that starts with much of it and then goes on with little has a small resident set again. What is
/// used still comes back from the page cache, page by page.
pub fn forget_own_code() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(access), Some(offset)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let is_file = words.nth(1).is_some_and(|inode| inode != "0");
        // Other read-only mappings hold pages that the dynamic linker has written to.
        let is_constant =
            access == "r-xp" || access == "r--p" && offset.bytes().all(|it| it == b'0');
        let bounds = range.split_once('-').and_then(|(start, end)| {
            let parse = |text| usize::from_str_radix(text, 16).ok();
            Some((parse(start)?, parse(end)?))
        });
        let (true, true, Some((start, end))) = (is_file, is_constant, bounds) else {
            continue;
        };
        // SAFETY: a private mapping of a file that was never writable: what is dropped is read from the
        // file again. That may be this very code, which the kernel then faults in as at any start.
        let answer = unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(start),
                end - start,
                libc::MADV_DONTNEED,
            )
        };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Leaves the process at once: no destructors, no buffers written twice after a clone.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}
