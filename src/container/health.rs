//! Whether a container works, as its health check says: what is checked, and what came of it.
//!
//! ```text
//! <root>/containers/<id>/health.json   made anew by each start, replaced after each check; there is
//!                                      none for a container without a health check
//!
//!                    +-- success --> healthy <--- success ---+
//! start --> starting                    |                    |
//!                    +-- failures --> as many as `retries` in a row --> unhealthy
//! ```
//! Failures in the start period do not count, unless there was a success before.

use std::fs;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Files;
use crate::kernel::file::{self, Lasting};

/// How many checks are remembered.
const REMEMBERED: usize = 5;

/// What is checked, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// The command line, executed in the container.
    pub command: Vec<String>,
    /// Between the end of a check and the next one.
    #[serde(with = "nanoseconds")]
    pub interval: Duration,
    /// How long a check may take.
    #[serde(with = "nanoseconds")]
    pub timeout: Duration,
    /// So many failures in a row mean that it does not work.
    pub retries: u32,
    /// How long after its start failures do not count.
    #[serde(with = "nanoseconds")]
    pub start_period: Duration,
    /// Between checks in the start period, as long as none has succeeded.
    #[serde(with = "nanoseconds")]
    pub start_interval: Duration,
}

/// Durations as numbers, as Docker has them.
mod nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_nanos)
    }
}

/// What the checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// Nothing yet.
    Starting,
    /// It works.
    Healthy,
    /// It does not.
    Unhealthy,
}

impl Status {
    /// As users know it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One check that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// Nanoseconds since the epoch.
    pub start: u64,
    /// Nanoseconds since the epoch.
    pub end: u64,
    /// 0 is success; -1 stands for a check that took too long or could not be made.
    pub exit_code: i32,
    /// The beginning of what it wrote, or why there is no exit code.
    pub output: String,
}

/// `health.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// What is checked.
    pub check: Check,
    /// What came of it.
    pub status: Status,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last checks, the newest last.
    pub log: Vec<Probe>,
}

impl Health {
    /// Of a container that is being started.
    pub fn new(check: Check) -> Self {
        Self {
            check,
            status: Status::Starting,
            failing_streak: 0,
            log: Vec::new(),
        }
    }

    /// Adds a check that was begun so long after the container's start; whether the status is another
    /// one now.
    pub fn take_in(&mut self, probe: Probe, age: Duration) -> bool {
        let before = self.status;
        if probe.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else if self.status != Status::Starting || age >= self.check.start_period {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= self.check.retries {
                self.status = Status::Unhealthy;
            }
        }
        self.log.push(probe);
        let old = self.log.len().saturating_sub(REMEMBERED);
        self.log.drain(..old);
        self.status != before
    }

    /// How long to wait for the next check, so long after the container's start.
    pub fn pause(&self, age: Duration) -> Duration {
        if self.status == Status::Starting && age < self.check.start_period {
            self.check.start_interval
        } else {
            self.check.interval
        }
    }

    /// That of the container with these files; `None` if it has none.
    pub fn read(files: &Files) -> io::Result<Option<Self>> {
        let Some(bytes) = file::existing(fs::read(files.health()))? else {
            return Ok(None);
        };
        // A power cut leaves an empty one, since it is not flushed.
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// Replaces it in one step.
    pub fn write(&self, files: &Files) -> io::Result<()> {
        file::replace(&files.health(), &serde_json::to_vec(self)?, Lasting::No)
    }

    /// What a start writes down: nothing but the check, or that there is none.
    pub fn begin(files: &Files, check: Option<&Check>) -> io::Result<()> {
        match check {
            Some(check) => Self::new(check.clone()).write(files),
            None => file::gone(fs::remove_file(files.health())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn health(retries: u32, start_period: Duration) -> Health {
        Health::new(Check {
            command: vec!["true".into()],
            interval: 30 * SECOND,
            timeout: 30 * SECOND,
            retries,
            start_period,
            start_interval: 5 * SECOND,
        })
    }

    fn probe(exit_code: i32) -> Probe {
        Probe {
            start: 1,
            end: 2,
            exit_code,
            output: "x".into(),
        }
    }

    #[test]
    fn so_many_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let mut health = health(2, Duration::ZERO);
        let cases = [
            (1, Status::Starting, 1, false),
            (-1, Status::Unhealthy, 2, true),
            (1, Status::Unhealthy, 3, false),
            (0, Status::Healthy, 0, true),
            (1, Status::Healthy, 1, false),
            (0, Status::Healthy, 0, false),
        ];
        for (number, (code, status, streak, changed)) in cases.into_iter().enumerate() {
            assert_eq!(health.take_in(probe(code), SECOND), changed, "{number}");
            assert_eq!((health.status, health.failing_streak), (status, streak));
        }
        assert_eq!(health.log.len(), REMEMBERED);
        assert_eq!(health.log[0].exit_code, -1);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_until_there_was_a_success() {
        let mut health = health(1, 10 * SECOND);
        assert!(!health.take_in(probe(1), 9 * SECOND));
        assert_eq!(health.failing_streak, 0);
        assert_eq!(health.pause(9 * SECOND), 5 * SECOND);
        assert_eq!(health.pause(10 * SECOND), 30 * SECOND);
        assert!(health.take_in(probe(0), 9 * SECOND));
        assert_eq!(health.pause(9 * SECOND), 30 * SECOND);
        assert!(health.take_in(probe(1), 9 * SECOND));
        assert_eq!(health.status, Status::Unhealthy);
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let dir = std::env::temp_dir().join(format!("mybox-health-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let files = Files::of(dir.clone());
        assert_eq!(Health::read(&files).unwrap(), None);
        let mut health = health(3, SECOND);
        health.take_in(probe(7), 2 * SECOND);
        health.write(&files).unwrap();
        assert_eq!(Health::read(&files).unwrap().as_ref(), Some(&health));
        Health::begin(&files, Some(&health.check)).unwrap();
        let begun = Health::read(&files).unwrap().unwrap();
        assert_eq!((begun.status, begun.log), (Status::Starting, Vec::new()));
        Health::begin(&files, None).unwrap();
        assert_eq!(Health::read(&files).unwrap(), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
