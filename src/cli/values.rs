//! Values of flags as Docker writes them: sizes, processors, ports, hosts. Each parser answers
//! with a sentence that says what it expected; clap adds the flag.

use std::time::{Duration, SystemTime};

use super::output;
use crate::container::port::{Port, Publish};
use crate::container::{RestartPolicy, Timeout};
use crate::kernel::cgroup::block_io::WEIGHTS;
use crate::kernel::cgroup::{CpuQuota, Swap};
use crate::kernel::signal;
use crate::net::names::HostEntry;
use crate::plan::{StandardStream, ports};

/// `512m`, `1g`, `1.5GiB`, `65536`, `64kb`: bytes, in powers of 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size such as 512m or 1g");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * (1u64 << shift) as f64;
    if bytes.is_finite() && bytes < u64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
}

/// `20GB`, `500m`, `1.5TiB`: bytes on a disk, in powers of 1000 as listings show them; with an `i`
/// in powers of 1024.
pub(super) fn disk_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size such as 20GB or 500MB");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.trim().trim_end_matches('b');
    let (prefix, base) = match unit.strip_suffix('i') {
        Some(prefix) if !prefix.is_empty() => (prefix, 1024_f64),
        _ => (unit, 1000_f64),
    };
    let power = match prefix {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * base.powi(power);
    if bytes.is_finite() && bytes < u64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
}

/// `30d`, `12h`, `90m`, `2w`: a length of time.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time such as 30d, 12h, 2w or 90m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// As [`bytes`], or -1 for no limit.
pub(super) fn swap(text: &str) -> Result<Swap, String> {
    if text == "-1" {
        Ok(Swap::Unlimited)
    } else {
        bytes(text).map(Swap::Total)
    }
}

/// `1.5` processors, in the kernel's usual periods. 0 is no quota, as Docker has it.
pub(super) fn cpus(text: &str) -> Result<CpuQuota, String> {
    // The kernel's shortest quota is 1 ms.
    const LEAST: f64 = 0.01;
    let number: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is no number of processors such as 1.5"))?;
    let most = std::thread::available_parallelism().map_or(usize::MAX, |it| it.get());
    if number != 0.0 && !(LEAST..=most as f64).contains(&number) {
        return Err(format!(
            "{text} is out of range: this host has {LEAST} to {most} processors"
        ));
    }
    if number == 0.0 {
        return Ok(CpuQuota::default());
    }
    let period = CpuQuota::USUAL_PERIOD;
    Ok(CpuQuota {
        quota: Some((number * period as f64).round() as u64),
        period: Some(period),
    })
}

/// 1000 or more, or less than 0 for no limit. 0 is none that was asked for, as Docker has it.
pub(super) fn quota(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(quota) if quota <= 0 || quota >= 1000 => Ok(quota),
        _ => Err(format!(
            "`{text}` is no number of microseconds from 1000 on (-1: no limit)"
        )),
    }
}

/// 1000 to 1000000, or 0 for the usual.
pub(super) fn period(text: &str) -> Result<u64, String> {
    let number = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if number == 0 || (1000..=1_000_000).contains(&number) {
        Ok(number)
    } else {
        Err("periods go from 1000 to 1000000 microseconds".to_owned())
    }
}

/// 2 to 262144, or 0 for the usual.
pub(super) fn shares(text: &str) -> Result<u64, String> {
    let number = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if number == 0 || (2..=262_144).contains(&number) {
        Ok(number)
    } else {
        Err("shares go from 2 to 262144; 1024 is usual".to_owned())
    }
}

/// 10 to 1000, or 0 for none of one's own.
pub(super) fn weight(text: &str) -> Result<u16, String> {
    let number = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if number == 0 || WEIGHTS.contains(&number) {
        Ok(number)
    } else {
        Err("weights go from 10 to 1000".to_owned())
    }
}

/// `0-2,4`.
pub(super) fn cpu_list(text: &str) -> Result<String, String> {
    let number = |text: &str| text.parse::<u32>().ok();
    let is_range = |part: &str| match part.split_once('-') {
        Some((first, last)) => {
            matches!((number(first), number(last)), (Some(a), Some(b)) if a <= b)
        }
        None => number(part).is_some(),
    };
    if text.split(',').all(is_range) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no list of numbers such as 0-2,4"))
    }
}

/// A number of processes; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PidsLimit(pub(super) Option<u64>);

/// A positive number, or -1 for no limit.
pub(super) fn pids(text: &str) -> Result<PidsLimit, String> {
    match text.parse::<i64>() {
        Ok(-1 | 0) => Ok(PidsLimit(None)),
        Ok(number) if number > 0 => Ok(PidsLimit(Some(number.cast_unsigned()))),
        _ => Err(format!("`{text}` is no number of processes (-1: no limit)")),
    }
}

/// `NAME=VALUE`, or `NAME` for the caller's own value; `None` if the caller has none.
pub(super) fn variable(text: &str) -> Result<Option<(String, String)>, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, std::env::var(text).ok()),
    };
    if name.is_empty() {
        return Err(format!("`{text}` has no name before the `=`"));
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

/// `NAME[=VALUE]`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() {
        return Err(format!("`{text}` has no name before the `=`"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// `NAME:ADDRESS`, `NAME=ADDRESS`, or `NAME:host-gateway`.
pub(super) fn host_entry(text: &str) -> Result<HostEntry, String> {
    let wrong = || format!("`{text}` is not NAME:ADDRESS");
    let (name, address) = text.split_once([':', '=']).ok_or_else(wrong)?;
    let address = match address {
        "host-gateway" => None,
        address => {
            let bare = address.trim_start_matches('[').trim_end_matches(']');
            Some(bare.parse().map_err(|_| wrong())?)
        }
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(wrong());
    }
    Ok(HostEntry {
        name: name.to_owned(),
        address,
    })
}

/// `[ADDRESS:][PORT:]PORT[/tcp|/udp]`, ranges too.
pub(super) fn publish(text: &str) -> Result<Ports<Publish>, String> {
    ports::publish(text).map(Ports)
}

/// `PORT[-PORT][/tcp|/udp]`.
pub(super) fn expose(text: &str) -> Result<Ports<Port>, String> {
    ports::expose(text).map(Ports)
}

/// What one flag says of ports: a range is several.
#[derive(Debug, Clone)]
pub(super) struct Ports<T>(pub(super) Vec<T>);

/// A host name (hostname(7)): labels of letters, digits and hyphens; 64 bytes in all for the kernel. An
/// empty one is none.
pub(super) fn hostname(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let plain = label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        !label.is_empty() && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.is_empty() || text.len() <= 64 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no host name (64 bytes at most; letters, digits, `-` and `.`)"
        ))
    }
}

/// `stdin`, `stdout`, `stderr`, in whatever case, as Docker reads them.
pub(super) fn standard_stream(text: &str) -> Result<StandardStream, String> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" => Ok(StandardStream::Input),
        "stdout" => Ok(StandardStream::Output),
        "stderr" => Ok(StandardStream::Error),
        _ => Err(format!("`{text}` is none of stdin, stdout, stderr")),
    }
}

/// `no`, `on-failure[:N]`, `always`, `unless-stopped`.
pub(super) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    match text.split_once(':') {
        None => match text {
            "no" => Some(RestartPolicy::No),
            "always" => Some(RestartPolicy::Always),
            "unless-stopped" => Some(RestartPolicy::UnlessStopped),
            "on-failure" => Some(RestartPolicy::OnFailure(None)),
            _ => None,
        },
        Some(("on-failure", count)) => {
            let count = count.parse().ok();
            count.map(|count| RestartPolicy::OnFailure(Some(count)))
        }
        Some(_) => None,
    }
    .ok_or_else(|| format!("`{text}` is none of no, on-failure[:N], always, unless-stopped"))
}

/// A signal by name or number.
pub(super) fn signal(text: &str) -> Result<i32, String> {
    signal::parse(text).ok_or_else(|| format!("`{text}` is no signal such as SIGTERM or 15"))
}

/// A signal, by name.
pub(super) fn stop_signal(text: &str) -> Result<String, String> {
    signal(text).map(signal::name)
}

/// A name that an interface can have (1 to 15 bytes, no slash, no space).
pub(super) fn interface_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let first = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && text.len() <= 15 && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no interface name (15 letters, digits, `-`, `_` or `.` at most)"
        ))
    }
}

/// Seconds; -1 for as long as it takes.
pub(super) fn timeout(text: &str) -> Result<Timeout, String> {
    let seconds = text.parse::<i64>().ok();
    let timeout = seconds.and_then(|seconds| Timeout::try_from(seconds).ok());
    timeout.ok_or_else(|| "a number of seconds, or -1".to_owned())
}

/// How many lines from the end; `None` is all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail(pub(super) Option<u64>);

/// `all`, a number of lines, or less than none, which is all to Docker.
pub(super) fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        number => match number.parse::<i64>() {
            Ok(lines) => Ok(Tail(u64::try_from(lines).ok())),
            Err(_) => Err("a number of lines, or all".to_owned()),
        },
    }
}

/// A time: RFC 3339 in UTC, or its beginning, seconds since the epoch, or a duration before now.
pub(super) fn time(text: &str) -> Result<SystemTime, String> {
    let since_epoch = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
    // Without a zone it is UTC, without a clock midnight.
    let completed = [
        text.to_owned(),
        format!("{text}Z"),
        format!("{text}T00:00:00Z"),
    ];
    if let Some(seconds) = completed.iter().find_map(|it| output::epoch_seconds(it)) {
        return Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let sane = (0.0..1e11).contains(&seconds);
        return sane
            .then(|| since_epoch(seconds))
            .ok_or_else(|| format!("`{text}` is no time"));
    }
    let ago = if let Some(seconds) = text.strip_suffix('s') {
        seconds.parse().map(Duration::from_secs).ok()
    } else {
        duration(text).ok()
    };
    ago.and_then(|ago| SystemTime::now().checked_sub(ago))
        .ok_or_else(|| "2026-11-25T12:00:00Z, seconds since the epoch, or 10m, 2h".to_owned())
}

/// Whether filters fit as Docker has it: of those with the same key one must, of labels all.
pub(super) fn all_fit<F>(
    filters: &[F],
    is_label: impl Fn(&F) -> bool,
    fits: impl Fn(&F) -> bool,
) -> bool {
    filters.iter().all(|filter| {
        let is_same = |other: &&F| std::mem::discriminant(*other) == std::mem::discriminant(filter);
        if is_label(filter) {
            fits(filter)
        } else {
            filters.iter().filter(is_same).any(&fits)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_writes_them() {
        let cases = [
            ("0", Some(0)),
            ("65536", Some(65_536)),
            ("512m", Some(512 << 20)),
            ("1G", Some(1 << 30)),
            ("1.5gib", Some(3 << 29)),
            ("64KB", Some(64 << 10)),
            ("10b", Some(10)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("1..5m", None),
            ("99999999t", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text).ok(), expected, "{text:?}");
        }
        assert_eq!(swap("-1"), Ok(Swap::Unlimited));
    }

    #[test]
    fn processors_are_read_as_docker_writes_them() {
        assert_eq!(
            cpus("0.5"),
            Ok(CpuQuota {
                quota: Some(50_000),
                period: Some(100_000)
            })
        );
        assert_eq!(cpus("0"), Ok(CpuQuota::default()));
        assert_eq!((quota("-1"), quota("1000")), (Ok(-1), Ok(1000)));
        assert_eq!((quota("0"), period("0")), (Ok(0), Ok(0)));
        assert!(quota("999").is_err() && period("999").is_err());
        assert!(cpus("0.001").is_err() && cpus("100000").is_err() && cpus("two").is_err());
        for good in ["0", "0-3", "0,2-3"] {
            assert!(cpu_list(good).is_ok(), "{good}");
        }
        for bad in ["", "3-1", "a", "0,,1", "-1"] {
            assert!(cpu_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_entries_and_names_are_checked() {
        let entry = host_entry("db:10.0.0.5").unwrap();
        assert_eq!(
            (entry.name.as_str(), entry.address),
            ("db", Some([10, 0, 0, 5].into()))
        );
        assert_eq!(host_entry("h:host-gateway").unwrap().address, None);
        assert_eq!(
            host_entry("h:::1").unwrap().address,
            Some("::1".parse().unwrap())
        );
        for bad in ["db", "db:x", ":1.2.3.4", "a b:1.2.3.4"] {
            assert!(host_entry(bad).is_err(), "{bad}");
        }
        assert!(hostname("web-1.example").is_ok());
        for bad in [".", "-a", "a_b!", &"x".repeat(65)] {
            assert!(hostname(bad).is_err(), "{bad}");
        }
        let noon = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_694_400));
        for text in ["2026-11-26T12:00:00Z", "2026-11-26T12:00:00", "1795694400"] {
            assert_eq!(time(text).ok(), noon, "{text}");
        }
        let midnight = noon.map(|noon| noon - Duration::from_secs(12 * 3600));
        assert_eq!(time("2026-11-26").ok(), midnight);
        assert!(time("2026-11").is_err() && time("yesterday").is_err());
        assert_eq!((tail("-1"), tail("3")), (Ok(Tail(None)), Ok(Tail(Some(3)))));
        assert!(interface_name("mybox0").is_ok() && interface_name("averyverylongname").is_err());
    }
}
