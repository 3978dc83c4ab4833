//! How often and how long a registry is waited for: exponential back-off with jitter, unless the
//! registry says itself when it wants to be asked again.

use std::error::Error as _;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::blocking::Response;
use reqwest::header::RETRY_AFTER;

use super::error::{Error, Result};

/// How often anything is asked for.
pub(super) const TRIES: u32 = 5;

/// How often a host is called that does not answer at all: a name mistyped should not take long.
const TRIES_TO_CONNECT: u32 = 3;

/// The mean of the first wait; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait that a registry may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Is told a line at a time, from whatever thread.
type Told = dyn Fn(&str) + Send + Sync;

/// Whom to tell that there is a wait, and why.
#[derive(Clone, Default)]
pub struct Notice(Option<Arc<Told>>);

impl Notice {
    /// Tells `told`.
    pub fn new(told: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    fn tell(&self, text: &str) {
        tracing::info!("{text}");
        if let Some(told) = &self.0 {
            told(text);
        }
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Notice")
    }
}

/// Asks until there is an answer that is not about the registry's own state, or until patience
/// ends: then that answer, or the error, is the result.
pub(super) fn patiently(
    registry: &str,
    notice: &Notice,
    mut ask: impl FnMut() -> Result<Response>,
) -> Result<Response> {
    let mut tries = 0;
    loop {
        tries += 1;
        let answer = ask();
        match &answer {
            Ok(response) if is_transient(response.status()) && tries < TRIES => {
                let status = response.status();
                let why = format!("answers {status}");
                pause(registry, notice, tries, asked_wait(response), &why)?;
            }
            Err(error) if is_worth_a_retry(error, tries) => {
                pause(registry, notice, tries, None, &in_words(error))?;
            }
            _ => return answer,
        }
    }
}

/// Waits before the next try: for as long as the registry asked for, if it did.
pub(super) fn pause(
    registry: &str,
    notice: &Notice,
    tries: u32,
    asked: Option<Duration>,
    why: &str,
) -> Result<()> {
    let wait = asked.unwrap_or_else(|| back_off(tries));
    if wait > LONGEST_WAIT {
        let registry = registry.to_owned();
        return Err(Error::Busy { registry, wait });
    }
    let seconds = wait.as_millis().div_ceil(1000);
    notice.tell(&format!("{registry}: {why}; again in {seconds} s"));
    std::thread::sleep(wait);
    Ok(())
}

/// Whether the same request, after so many tries, may fare better.
pub(super) fn is_worth_a_retry(error: &Error, tries: u32) -> bool {
    match error {
        Error::Unreachable {
            connecting: true, ..
        } => tries < TRIES_TO_CONNECT,
        Error::Unreachable {
            connecting: false, ..
        } => tries < TRIES,
        Error::Status { status, .. } => is_transient(*status) && tries < TRIES,
        _ => false,
    }
}

/// The error and its causes on one line.
pub(super) fn in_words(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        words.push_str(&format!(": {next}"));
        cause = next.source();
    }
    words
}

fn is_transient(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// The wait after so many tries: a random one, so that many clients that failed together do not
/// come back together.
fn back_off(tries: u32) -> Duration {
    // The standard library's hash keys are the one source of randomness that needs no crate.
    let random = RandomState::new().hash_one(tries) % 1024;
    let mean = FIRST_WAIT * 2_u32.pow(tries - 1);
    mean / 2 + mean * u32::try_from(random).unwrap_or_default() / 1024
}

/// How long the registry asks to be left alone.
pub(super) fn asked_wait(response: &Response) -> Option<Duration> {
    let header = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(header, SystemTime::now())
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = httpdate::parse_http_date(value).ok()?;
    Some(time.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_registry_says_when_to_come_back_in_seconds_or_by_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            (
                "Tue, 29 Feb 2000 00:00:00 GMT",
                Some(951_782_400 - 784_111_777),
            ),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
            ("Sun, 06 Nov 0000 08:49:37 GMT", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(
                retry_after(value, now),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }

    #[test]
    fn waits_grow_and_differ() {
        for tries in 1..TRIES {
            let mean = FIRST_WAIT * 2_u32.pow(tries - 1);
            let waits: Vec<Duration> = (0..50).map(|_| back_off(tries)).collect();
            assert!(
                waits
                    .iter()
                    .all(|wait| *wait >= mean / 2 && *wait < mean * 3 / 2)
            );
            assert!(waits.iter().any(|wait| *wait != waits[0]));
        }
    }
}
