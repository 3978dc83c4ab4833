//! Whether a container is started again, and after how long.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::Timespec;

use crate::container::{Claim, Ending, Record, RestartPolicy};
use crate::kernel::poll;
use crate::kernel::signal::Signals;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Whoever has run for so long did start well: the next pause is the first one again.
const WELL: u64 = 10;
/// How often a wait looks for a request to stop.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Whether the policy wants it to run again.
pub(super) fn is_wanted(record: &Record, ending: Ending) -> bool {
    match record.restart {
        RestartPolicy::No => false,
        RestartPolicy::OnFailure(most) => {
            ending.code != 0 && most.is_none_or(|most| record.restart_count < most)
        }
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
    }
}

/// Twice as long each time, up to a minute.
pub(super) fn pause(record: &Record, ending: Ending) -> Duration {
    let ran = ending
        .at
        .saturating_sub(record.started.unwrap_or(ending.at));
    if ran >= WELL {
        return FIRST_PAUSE;
    }
    backoff(record.restart_count)
}

fn backoff(count: u32) -> Duration {
    let factor = 2_u32.saturating_pow(count);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

/// Waits; false if somebody wants the container to stay as it is.
pub(super) fn wait(signals: &Signals, claim: &Claim, pause: Duration) -> Result<bool> {
    let until = Instant::now() + pause;
    loop {
        if claim.is_to_stop() {
            return Ok(false);
        }
        if Instant::now() >= until {
            return Ok(true);
        }
        poll::wait(&[signals.as_fd()], &[], Some(&LOOK))?;
        while let Some(number) = signals.next()? {
            if [libc::SIGTERM, libc::SIGINT].contains(&number) {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_twice_the_one_before_up_to_a_minute() {
        let pauses: Vec<u128> = [0, 1, 2, 9, 10, 40]
            .map(|count| backoff(count).as_millis())
            .to_vec();
        assert_eq!(pauses, [100, 200, 400, 51_200, 60_000, 60_000]);
    }
}
