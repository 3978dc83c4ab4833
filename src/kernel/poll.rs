//! Waiting for several descriptors at once (poll(2)).

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::{Context, Result};

/// No time at all: a look at what is ready now.
pub const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Waits until one of `readable` can be read or one of `writable` written to, or is at its end, but no
/// longer than `limit`. The answer is which are: first of `readable`, then of `writable`. A signal
/// is an answer, too: none is.
pub fn wait(
    readable: &[BorrowedFd<'_>],
    writable: &[BorrowedFd<'_>],
    limit: Option<&Timespec>,
) -> Result<Vec<bool>> {
    let reads = readable
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN));
    let writes = writable
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::OUT));
    let mut set: Vec<PollFd<'_>> = reads.chain(writes).collect();
    match rustix::event::poll(&mut set, limit) {
        Ok(_) => Ok(set.iter().map(|it| !it.revents().is_empty()).collect()),
        Err(Errno::INTR) => Ok(vec![false; set.len()]),
        Err(errno) => Err(errno).on("poll", "descriptors"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_can_be_read_is_told_from_what_can_be_written() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let look = || wait(&[read.as_fd()], &[write.as_fd()], Some(&AT_ONCE)).unwrap();
        assert_eq!(look(), [false, true]);
        rustix::io::write(&write, b"x").unwrap();
        assert_eq!(look(), [true, true]);
        drop(write);
        // Its end is to be read, as well.
        assert_eq!(wait(&[read.as_fd()], &[], None).unwrap(), [true]);
    }
}
