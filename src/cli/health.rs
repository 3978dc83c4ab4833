//! The flags of `run` and `create` that say how to find out whether a container works.

use std::time::Duration;

use clap::Args;
use mybox_store::parse_duration;

use crate::plan::RunRequest;
use crate::plan::health::HealthRequest;

/// Docker's: a shorter time than that is taken for a slip.
const SHORTEST: Duration = Duration::from_millis(1);

#[derive(Debug, Args)]
pub(super) struct HealthArguments {
    /// Check with this command, by the container's shell: 0 is healthy [default: the image's check]
    #[arg(long, value_name = "COMMAND", help_heading = "Health")]
    health_cmd: Option<String>,
    /// Time between two checks, as 1m30s [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Health")]
    #[arg(value_parser = time)]
    health_interval: Option<Duration>,
    /// Time that a check may take [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Health")]
    #[arg(value_parser = time)]
    health_timeout: Option<Duration>,
    /// So many failures in a row make it unhealthy [default: 3]
    #[arg(long, value_name = "NUMBER", help_heading = "Health")]
    health_retries: Option<u32>,
    /// Time after its start in which failures do not count [default: 0s]
    #[arg(long, value_name = "TIME", help_heading = "Health")]
    #[arg(value_parser = time)]
    health_start_period: Option<Duration>,
    /// Time between two checks in the start period [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = "Health")]
    #[arg(value_parser = time)]
    health_start_interval: Option<Duration>,
    /// No check, whatever the image has
    #[arg(long, help_heading = "Health")]
    no_healthcheck: bool,
}

impl HealthArguments {
    pub(super) fn apply(self, request: &mut RunRequest) {
        request.health = HealthRequest {
            none: self.no_healthcheck,
            command: self.health_cmd.filter(|line| !line.is_empty()),
            interval: self.health_interval,
            timeout: self.health_timeout,
            retries: self.health_retries,
            start_period: self.health_start_period,
            start_interval: self.health_start_interval,
        };
    }
}

/// As Go writes it; 0 is the default.
fn time(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        None => Err(format!(
            "`{text}` is no length of time such as 30s, 1m30s or 500ms"
        )),
        Some(time) if !time.is_zero() && time < SHORTEST => {
            Err(format!("`{text}` is less than 1ms"))
        }
        Some(time) => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_at_least_a_millisecond_or_the_default() {
        assert_eq!(time("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("0"), Ok(Duration::ZERO));
        assert!(time("1us").unwrap_err().contains("less than 1ms"));
        assert!(time("30").unwrap_err().contains("such as 30s"));
    }
}
