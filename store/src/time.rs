//! Points in time as archives and image configs write them. No clock is read here.

use std::time::{Duration, SystemTime};

use rustix::fs::{Stat, Timespec};

/// Seconds and nanoseconds since 1970, UTC; the nanoseconds always count forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

impl Time {
    pub(crate) fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// When a file was last modified.
    pub(crate) fn of_modification(stat: &Stat) -> Self {
        Self {
            seconds: stat.st_mtime,
            nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        }
    }

    pub(crate) fn timespec(self) -> Timespec {
        Timespec {
            tv_sec: self.seconds,
            tv_nsec: self.nanos.into(),
        }
    }

    /// Parses the decimal seconds of a PAX record: `1700000000.25`, `-0.5`. Digits beyond the
    /// ninth after the point are cut off.
    pub(crate) fn from_decimal(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return None;
        }
        let seconds: i64 = whole.parse().ok()?;
        let mut nanos = 0;
        for place in 0..9 {
            let digit = fraction.as_bytes().get(place).map_or(0, |byte| byte - b'0');
            nanos = nanos * 10 + u32::from(digit);
        }
        Some(match (negative, nanos) {
            (false, _) => Self { seconds, nanos },
            (true, 0) => Self {
                seconds: -seconds,
                nanos,
            },
            (true, _) => Self {
                seconds: -seconds - 1,
                nanos: 1_000_000_000 - nanos,
            },
        })
    }

    /// The inverse of [`Time::from_decimal`], without needless digits.
    pub(crate) fn decimal(self) -> String {
        let total = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos);
        let sign = if total < 0 { "-" } else { "" };
        let (seconds, nanos) = (
            total.unsigned_abs() / 1_000_000_000,
            total.unsigned_abs() % 1_000_000_000,
        );
        if nanos == 0 {
            return format!("{sign}{seconds}");
        }
        format!(
            "{sign}{seconds}.{}",
            format!("{nanos:09}").trim_end_matches('0')
        )
    }

    /// RFC 3339 in UTC, as `created` in image configs. Years beyond 9999 are cut to the last
    /// second RFC 3339 can write, years before 0 to the first.
    pub(crate) fn rfc3339(self) -> String {
        const FIRST: i64 = -62_167_219_200;
        const LAST: i64 = 253_402_300_799;
        let seconds = self.seconds.clamp(FIRST, LAST);
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if self.nanos != 0 {
            text.push('.');
            text.push_str(format!("{:09}", self.nanos).trim_end_matches('0'));
        }
        text.push('Z');
        text
    }
}

/// A point in time as RFC 3339 in UTC, whole seconds: `2026-11-25T12:00:00Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => seconds(since),
        Err(before) => -seconds(before.duration()),
    };
    Time::from_seconds(seconds).rfc3339()
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar. The
/// year is taken to begin in March, so that the leap day is its last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    let from_march_0000 = days + 719_468;
    let era = from_march_0000.div_euclid(DAYS_IN_400_YEARS);
    let day_of_era = from_march_0000.rem_euclid(DAYS_IN_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::Time;

    #[test]
    fn decimal_seconds_parse_and_print() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("1700000000", 1_700_000_000, 0),
            ("1700000000.25", 1_700_000_000, 250_000_000),
            ("1.000000001", 1, 1),
            ("-1", -1, 0),
            ("-0.5", -1, 500_000_000),
            ("-1.5", -2, 500_000_000),
        ] {
            let time = Time::from_decimal(text.as_bytes()).unwrap();
            assert_eq!(time, Time { seconds, nanos }, "{text}");
            assert_eq!(time.decimal(), text);
        }
        assert_eq!(
            Time::from_decimal(b"5.0000000019").unwrap(),
            Time {
                seconds: 5,
                nanos: 1
            }
        );
        for bad in [
            "",
            ".",
            "-",
            "1e3",
            "1.2.3",
            " 1",
            "99999999999999999999",
            "1,5",
        ] {
            assert_eq!(Time::from_decimal(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn rfc3339_follows_the_calendar() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_709_164_800, 5, "2024-02-29T00:00:00.000000005Z"),
            (1_735_689_599, 0, "2024-12-31T23:59:59Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
            (i64::MAX, 0, "9999-12-31T23:59:59Z"),
            (i64::MIN, 0, "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(Time { seconds, nanos }.rfc3339(), text);
        }
    }
}
