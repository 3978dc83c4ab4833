//! Tables, sizes and ages, as people read them.

use std::io::{self, Write};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Prints rows in columns, each as wide as its widest cell; the last is not padded.
///
/// A cell can hold what an image brought along, as its command: control characters are shown as
/// escapes, since a terminal would act on them.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    print(&table_text(header, rows))
}

/// The same, as text.
pub(super) fn table_text(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| visible(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.len()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", padded.join("   ").trim_end())
    };
    let mut text = line(&mut header.iter().copied());
    for row in &rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Text with control characters shown as escapes.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Prints a value as indented JSON.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Prints a line.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Prints a note for the user, beside the results.
pub(super) fn note(text: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "note: {text}");
}

/// Asks something, beside the results; the answer is typed on the same line.
pub(super) fn ask(question: &str) -> anyhow::Result<()> {
    write!(io::stderr(), "{question}").context("write standard error")
}

fn print(text: &str) -> anyhow::Result<()> {
    print_on(text.as_bytes()).map(drop)
}

/// Prints text of which more is to follow; `false` if whoever reads has had enough, as head(1).
pub(super) fn print_on(text: &[u8]) -> anyhow::Result<bool> {
    write_on(&mut io::stdout().lock(), text).context("write standard output")
}

/// The same on standard error.
pub(super) fn print_on_stderr(text: &[u8]) -> anyhow::Result<bool> {
    write_on(&mut io::stderr().lock(), text).context("write standard error")
}

fn write_on(stream: &mut dyn Write, text: &[u8]) -> io::Result<bool> {
    match stream.write_all(text).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// Waits so long; `false` as soon as nobody reads standard output any more.
pub(super) fn pause_while_read(time: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        let stdout = io::stdout();
        // What nobody asks for is told all the same: POLLERR of a pipe without a reader.
        let mut set = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut set, Some(&limit)) {
            Ok(0) => return Ok(true),
            Ok(_) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("wait"),
        }
    }
}

/// `1.95GiB`: powers of 1024 with four digits, as Docker's stats has it.
pub(super) fn short_binary_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    scaled(bytes, 1024.0, 1024.0, UNITS, |value| match value {
        value if value >= 1000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        _ => 3,
    })
}

/// `118MB`: powers of 1000 with three digits, as Docker's tables have it.
pub(super) fn decimal_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    scaled(bytes, 1000.0, 999.5, UNITS, |value| match value {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    })
}

/// In the first unit in which there are fewer than `too_many`; a fraction only if it says something.
fn scaled(
    bytes: u64,
    step: f64,
    too_many: f64,
    units: [&str; 6],
    decimals: impl Fn(f64) -> usize,
) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= too_many && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let decimals = if unit == 0 { 0 } else { decimals(value) };
    let number = format!("{value:.decimals$}");
    let number = if decimals > 0 {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number}{}", units[unit])
}

/// The first 12 digits of a digest, or all of it.
pub(super) fn id(digest: &str, whole: bool) -> String {
    if whole {
        return digest.to_owned();
    }
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.chars().take(12).collect()
}

/// A text of at most so many characters; what is cut off is shown by an ellipsis.
pub(super) fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let kept = text.chars().take(longest.saturating_sub(1));
    kept.chain(['\u{2026}']).collect()
}

/// `1 image`, `3 images`.
pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Columns for a picture: the terminal's, in bounds, or 80 where there is none.
pub(super) fn width() -> usize {
    const USUAL: u16 = 80;
    const WIDEST: u16 = 120;
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let columns = size.map_or(USUAL, |size| size.ws_col);
    usize::from(if columns == 0 {
        USUAL
    } else {
        columns.clamp(40, WIDEST)
    })
}

/// `512 MiB`: powers of 1024, as limits are given.
pub(super) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = bytes;
    while whole >= 1024 && whole.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    format!("{whole} {}", UNITS[unit])
}

/// Seconds since the epoch as RFC 3339.
pub(super) fn date(seconds: u64) -> String {
    mybox_store::rfc3339(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// `a=b` for each.
pub(super) fn pairs<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<String> {
    map.into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

/// Nanoseconds since the epoch as RFC 3339, with all nine digits.
pub(super) fn time(nanoseconds: u64) -> String {
    let (seconds, fraction) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let whole = date(seconds);
    let whole = whole.trim_end_matches('Z');
    format!("{whole}.{fraction:09}Z")
}

/// `3 days ago`.
pub(super) fn ago(seconds: u64) -> String {
    let units = [
        ("year", 31_536_000),
        ("month", 2_592_000),
        ("week", 604_800),
        ("day", 86_400),
        ("hour", 3600),
        ("minute", 60),
    ];
    let (name, length) = units
        .into_iter()
        .find(|(name, length)| {
            // As Docker: weeks from two on, months from two on, hours up to two days.
            let enough = if matches!(*name, "hour" | "minute") {
                1
            } else {
                2
            };
            seconds >= length * enough
        })
        .unwrap_or(("second", 1));
    let count = seconds / length;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {name}{plural} ago")
}

/// Seconds since the epoch of an RFC 3339 time in UTC, fractions cut off.
pub(super) fn epoch_seconds(time: &str) -> Option<u64> {
    let (date, clock) = time.split_once('T')?;
    let clock = clock
        .strip_suffix('Z')
        .or_else(|| clock.strip_suffix("+00:00"))?;
    let numbers = |text: &str, by: char| -> Option<Vec<u64>> {
        text.split(by)
            .map(|part| part.split('.').next()?.parse().ok())
            .collect()
    };
    let (date, clock) = (numbers(date, '-')?, numbers(clock, ':')?);
    let ([year, month, day], [hour, minute, second]) = (&date[..], &clock[..]) else {
        return None;
    };
    // Days since 1970 by the civil calendar, counted in years that begin in March.
    let (year, month) = if *month <= 2 {
        (year.checked_sub(1)?, month + 9)
    } else {
        (*year, month - 3)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    Some(days.checked_sub(719_469)? * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (118_400_000, "118MB"),
            (999_600, "1MB"),
            (5_000_000_000, "5GB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(decimal_size(bytes), text);
        }
        assert_eq!(binary_size(512 << 20), "512 MiB");
        assert_eq!(binary_size(1536 << 20), "1536 MiB");
        let short = [0, 1023, 1536, 700_000, 64 << 20, 2_090_000_000].map(short_binary_size);
        let expected = ["0B", "1023B", "1.5KiB", "683.6KiB", "64MiB", "1.946GiB"];
        assert_eq!(short, expected);
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(visible("plain \u{fc}"), "plain \u{fc}");
        assert_eq!(visible("a\x1b[2J\n\u{9b}"), "a\\u{1b}[2J\\n\\u{9b}");
    }

    #[test]
    fn ages_are_rounded_as_people_say_them() {
        let cases = [
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (3 * 3600, "3 hours ago"),
            (30 * 3600, "30 hours ago"),
            (3 * 86_400, "3 days ago"),
            (10 * 86_400, "10 days ago"),
            (90 * 86_400, "3 months ago"),
            (800 * 86_400, "2 years ago"),
        ];
        for (seconds, text) in cases {
            assert_eq!(ago(seconds), text);
        }
    }

    #[test]
    fn times_are_counted_from_the_epoch() {
        assert_eq!(epoch_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(epoch_seconds("2000-03-01T00:00:01.5Z"), Some(951_868_801));
        assert_eq!(
            epoch_seconds("2026-11-25T12:00:00+00:00"),
            Some(1_795_608_000)
        );
        assert_eq!(epoch_seconds("yesterday"), None);
    }
}
