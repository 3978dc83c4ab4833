//! Extended attributes: which matter, and reading them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Context, Result};

/// All but overlayfs's own, which would forge whiteouts and redirects, and labels that belong to
/// the policy of the host that wrote them.
pub(crate) fn belongs_in_layer(name: &[u8]) -> bool {
    let overlays = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    !overlays && outlasts_a_copy(name)
}

/// All but labels that belong to the policy of the host: what a layer's tree has of its own.
pub(crate) fn outlasts_a_copy(name: &[u8]) -> bool {
    !matches!(
        name,
        b"security.selinux" | b"security.ima" | b"security.evm"
    )
}

/// Names and values, sorted by name.
pub(crate) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// The wanted ones of an open file or directory.
pub(crate) fn of_open(fd: impl AsFd, path: &[u8], wanted: fn(&[u8]) -> bool) -> Result<Attributes> {
    let fd = fd.as_fd();
    read(path, wanted, |answer| match answer {
        Answer::ListLength => rustix::fs::flistxattr_query(fd),
        Answer::List(list) => rustix::fs::flistxattr(fd, list),
        Answer::ValueLength(name) => rustix::fs::fgetxattr_query(fd, name),
        Answer::Value(name, value) => rustix::fs::fgetxattr(fd, name, value),
    })
}

/// The wanted ones of something that cannot be opened. There is no listxattrat before Linux 6.13; the
/// parent's magic link does the same.
pub(crate) fn of_name(
    parent: &OwnedFd,
    name: &[u8],
    path: &[u8],
    wanted: fn(&[u8]) -> bool,
) -> Result<Attributes> {
    let at = [
        format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(),
        name,
    ]
    .concat();
    read(path, wanted, |answer| match answer {
        Answer::ListLength => rustix::fs::llistxattr_query(&*at),
        Answer::List(list) => rustix::fs::llistxattr(&*at, list),
        Answer::ValueLength(name) => rustix::fs::lgetxattr_query(&*at, name),
        Answer::Value(name, value) => rustix::fs::lgetxattr(&*at, name, value),
    })
}

/// What is asked of the kernel; each answer is a length.
enum Answer<'a> {
    ListLength,
    List(&'a mut [u8]),
    ValueLength(&'a [u8]),
    Value(&'a [u8], &'a mut [u8]),
}

fn read(
    path: &[u8],
    wanted: fn(&[u8]) -> bool,
    ask: impl Fn(Answer<'_>) -> Result<usize, Errno>,
) -> Result<Attributes> {
    let list = whole(|| ask(Answer::ListLength), |list| ask(Answer::List(list)));
    let names = match list {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        result => result.on_entry("list the extended attributes of", path)?,
    };
    let mut attributes = Attributes::new();
    for name in names.split(|byte| *byte == 0) {
        if name.is_empty() || !wanted(name) {
            continue;
        }
        let value = whole(
            || ask(Answer::ValueLength(name)),
            |value| ask(Answer::Value(name, value)),
        )
        .on_entry("read an extended attribute of", path)?;
        attributes.push((name.to_vec(), value));
    }
    attributes.sort();
    Ok(attributes)
}

/// Asks how long the answer is, then for the answer; again if it has grown meanwhile.
fn whole(
    length: impl Fn() -> Result<usize, Errno>,
    answer: impl Fn(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    loop {
        let mut bytes = vec![0; length()?];
        if bytes.is_empty() {
            return Ok(bytes);
        }
        match answer(&mut bytes) {
            Err(Errno::RANGE) => {}
            result => {
                bytes.truncate(result?);
                return Ok(bytes);
            }
        }
    }
}
