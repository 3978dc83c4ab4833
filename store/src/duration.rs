//! Lengths of time as Go writes them, which Docker's flags and Dockerfiles take: `1m30s`, `1.5h`, `300ms`.

use std::time::Duration;

/// The longest there is, nanoseconds in 63 bits: 292 years.
pub const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// A number and a unit, and more of these; a bare `0` has no unit (Go: `time.ParseDuration`).
/// `None` for anything else, what is below zero too.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanoseconds = 0_u128;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !is_of_number(c))?);
        let end = after.find(is_of_number).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        nanoseconds = nanoseconds.checked_add(in_units(number, nanoseconds_of(unit)?)?)?;
        rest = next;
    }
    let nanoseconds = u64::try_from(nanoseconds).ok()?;
    Some(Duration::from_nanos(nanoseconds)).filter(|it| *it <= LONGEST)
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

fn nanoseconds_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Of a decimal number; what is below a nanosecond is dropped.
fn in_units(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| match text {
        "" => Some(0),
        text => text.parse::<u64>().ok().map(u128::from),
    };
    let unit = u128::from(unit);
    // More digits than that are below any nanosecond.
    let fraction = &fraction[..fraction.len().min(15)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(digits(whole)?.checked_mul(unit)? + digits(fraction)? * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_go_reads_them() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30_000),
            ("+5s", 5_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("1.s", 1_000),
            ("300ms", 300),
            ("1h2m3s4ms", 3_723_004),
            ("2000us", 2),
            ("2000\u{b5}s", 2),
        ] {
            assert_eq!(
                parse(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        assert_eq!(parse("1ns"), Some(Duration::from_nanos(1)));
        for bad in [
            "",
            "s",
            "1",
            "-1s",
            "1d",
            "1 s",
            "1s ",
            ".s",
            "1.2.3s",
            "99999999h",
            "1e3s",
            "5s3",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
