//! A point in time as a file descriptor, so that one poll loop sees it beside everything else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::{Context, Result};

/// Readable when its time has come (timerfd_create(2)). It goes on while the machine sleeps.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// One that is not set.
    pub fn new() -> Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = timerfd_create(TimerfdClockId::Boottime, flags).on("make", "timer")?;
        Ok(Self(fd))
    }

    /// Has it ring once, so long from now; whatever it was set to is forgotten.
    pub fn set(&self, after: Duration) -> Result<()> {
        const NEVER: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // All zeroes would unset it.
        let after = after.max(Duration::from_nanos(1));
        let value = Itimerspec {
            it_interval: NEVER,
            it_value: Timespec {
                tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: after.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &value)
            .on("set", "timer")
            .map(drop)
    }

    /// Whether it has rung since this was asked last.
    pub fn has_rung(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::read(&self.0, &mut count).is_ok()
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn it_rings_once() {
        let timer = Timer::new().unwrap();
        assert!(!timer.has_rung());
        timer.set(Duration::ZERO).unwrap();
        let patience = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        let mut set = [PollFd::new(&timer, PollFlags::IN)];
        assert_eq!(poll(&mut set, Some(&patience)), Ok(1));
        assert!(timer.has_rung());
        assert!(!timer.has_rung());
    }
}
