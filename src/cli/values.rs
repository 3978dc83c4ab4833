//! Values of flags as Docker writes them: sizes, processors, volumes, hosts. Each parser answers
//! with a sentence that says what it expected; clap adds the flag.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::kernel::cgroup::{CpuQuota, Swap};
use crate::kernel::signal;
use crate::net::names::HostEntry;
use crate::plan::request::{Tmpfs, Volume};

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

/// `1.5` processors, in the kernel's 100 ms periods.
pub(super) fn cpus(text: &str) -> Result<CpuQuota, String> {
    const PERIOD: u64 = 100_000;
    // The kernel's shortest quota is 1 ms.
    const LEAST: f64 = 0.01;
    let number: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is no number of processors such as 1.5"))?;
    let most = std::thread::available_parallelism().map_or(usize::MAX, |it| it.get());
    if !(LEAST..=most as f64).contains(&number) {
        return Err(format!(
            "{text} is out of range: this host has {LEAST} to {most} processors"
        ));
    }
    Ok(CpuQuota {
        quota: (number * PERIOD as f64).round() as u64,
        period: PERIOD,
    })
}

/// 2 to 262144.
pub(super) fn shares(text: &str) -> Result<u64, String> {
    let number = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (2..=262_144).contains(&number) {
        Ok(number)
    } else {
        Err("shares go from 2 to 262144; 1024 is usual".to_owned())
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
        Err(format!("`{text}` is no list of processors such as 0-2,4"))
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

/// `SOURCE:DESTINATION[:OPTIONS]`.
pub(super) fn volume(text: &str) -> Result<Volume, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options),
        _ => return Err(format!("`{text}` is not SOURCE:DESTINATION[:ro]")),
    };
    if !source.starts_with(['/', '.']) {
        return Err(format!(
            "`{source}` is the name of a volume, and named volumes are not built yet; \
             for a directory of the host write /{source} or ./{source}"
        ));
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            other => return Err(format!("`{other}` is no option of a volume: ro or rw")),
        }
    }
    let source = std::path::absolute(source).map_err(|error| error.to_string())?;
    Ok(Volume {
        source,
        destination: inside(destination)?,
        read_only,
    })
}

/// `DESTINATION[:OPTION,...]`.
pub(super) fn tmpfs(text: &str) -> Result<Tmpfs, String> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options
        .split(',')
        .filter(|word| !word.is_empty())
        .map(ToOwned::to_owned);
    Ok(Tmpfs {
        destination: inside(destination)?,
        options: options.collect(),
    })
}

/// An absolute path in the container, without `..`, and not `/` itself.
fn inside(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || climbs {
        return Err(format!("`{text}` is not an absolute path in the container"));
    }
    // Rebuilt from its parts: no `.`, no double or final slash.
    let path: PathBuf = path.components().collect();
    if path == Path::new("/") {
        Err("the container's / cannot be mounted over".into())
    } else {
        Ok(path)
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

/// A host name (hostname(7)): labels of letters, digits and hyphens; 64 bytes in all for the kernel.
pub(super) fn hostname(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let plain = label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        !label.is_empty() && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.len() <= 64 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no host name (64 bytes at most; letters, digits, `-` and `.`)"
        ))
    }
}

/// A signal by name or number.
pub(super) fn stop_signal(text: &str) -> Result<String, String> {
    match signal::parse(text) {
        Some(number) => Ok(signal::name(number)),
        None => Err(format!("`{text}` is no signal such as SIGTERM or 15")),
    }
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

/// `no-new-privileges`; what is not built yet is an error that says so.
pub(super) fn security_option(text: &str) -> Result<bool, String> {
    match text {
        "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true" => Ok(true),
        "no-new-privileges:false" | "no-new-privileges=false" => Ok(false),
        other => Err(format!(
            "`{other}` is not built yet; there is no-new-privileges"
        )),
    }
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
                quota: 50_000,
                period: 100_000
            })
        );
        assert!(cpus("0").is_err() && cpus("100000").is_err() && cpus("two").is_err());
        for good in ["0", "0-3", "0,2-3"] {
            assert!(cpu_list(good).is_ok(), "{good}");
        }
        for bad in ["", "3-1", "a", "0,,1", "-1"] {
            assert!(cpu_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_name_a_path_on_each_side() {
        let volume = volume("/a/b:/c/./d/:ro").unwrap();
        assert_eq!(volume.source, Path::new("/a/b"));
        assert_eq!(volume.destination, Path::new("/c/d"));
        assert!(volume.read_only);
        for bad in ["/a", "/a:b", "/a:/b:rx", "/a:/", "/a:/b/../c", "/a:/b:ro:x"] {
            assert!(super::volume(bad).is_err(), "{bad}");
        }
        assert!(
            super::volume("data:/b")
                .unwrap_err()
                .contains("not built yet")
        );
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
        for bad in ["", "-a", "a_b!", &"x".repeat(65)] {
            assert!(hostname(bad).is_err(), "{bad}");
        }
        assert!(interface_name("mybox0").is_ok() && interface_name("averyverylongname").is_err());
    }
}
