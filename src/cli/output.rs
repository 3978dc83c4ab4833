//! Tables, sizes and ages, as people read them.

use std::io::{self, Write};

use anyhow::Context;

/// Prints rows in columns, each as wide as its widest cell; the last is not padded.
///
/// A cell can hold what an image brought along, as its command: control characters are shown as
/// escapes, since a terminal would act on them.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
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
    print(&text)
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

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        // Whoever reads has had enough, as head(1).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        answer => answer.context("write standard output"),
    }
}

/// `118MB`: powers of 1000 with three digits, as Docker's tables have it.
pub(super) fn decimal_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if unit == 0 || value >= 99.95 {
        0
    } else {
        if value >= 9.995 { 1 } else { 2 }
    };
    let number = format!("{value:.decimals$}");
    let number = if decimals > 0 {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number}{}", UNITS[unit])
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
