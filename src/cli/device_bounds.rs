//! The flags of `run` and `create` that bound the use of single block devices.

use std::path::PathBuf;

use clap::Args;

use super::values;
use crate::kernel::cgroup::block_io::{Bounded, DeviceBound};
use crate::plan::RunRequest;

#[derive(Debug, Args)]
pub(super) struct DeviceBoundArguments {
    /// Share of one disk's time under contention, 10 to 1000
    #[arg(long, value_name = "DISK:NUMBER", help_heading = "Limits")]
    #[arg(value_parser = weight)]
    blkio_weight_device: Vec<Bound>,
    /// Bytes that may be read of a disk in a second, as /dev/sda:10mb
    #[arg(long, value_name = "DISK:SIZE", help_heading = "Limits")]
    #[arg(value_parser = bytes)]
    device_read_bps: Vec<Bound>,
    /// Bytes that may be written to a disk in a second
    #[arg(long, value_name = "DISK:SIZE", help_heading = "Limits")]
    #[arg(value_parser = bytes)]
    device_write_bps: Vec<Bound>,
    /// Reads of a disk in a second
    #[arg(long, value_name = "DISK:NUMBER", help_heading = "Limits")]
    #[arg(value_parser = operations)]
    device_read_iops: Vec<Bound>,
    /// Writes to a disk in a second
    #[arg(long, value_name = "DISK:NUMBER", help_heading = "Limits")]
    #[arg(value_parser = operations)]
    device_write_iops: Vec<Bound>,
}

impl DeviceBoundArguments {
    pub(super) fn apply(self, request: &mut RunRequest) {
        let all = [
            (Bounded::Weight, self.blkio_weight_device),
            (Bounded::BytesRead, self.device_read_bps),
            (Bounded::BytesWritten, self.device_write_bps),
            (Bounded::Reads, self.device_read_iops),
            (Bounded::Writes, self.device_write_iops),
        ];
        for (what, bounds) in all {
            // Docker's 0 is the same as no flag.
            let bounds = bounds.into_iter().filter(|(_, value)| *value > 0);
            let bounds = bounds.map(|(device, value)| DeviceBound {
                device,
                what,
                value,
            });
            request.limits.block_io.devices.extend(bounds);
        }
    }
}

/// A device of the host, and what it is bounded to.
type Bound = (PathBuf, u64);

fn weight(text: &str) -> Result<Bound, String> {
    bound(text, |value| values::weight(value).map(u64::from))
}

fn bytes(text: &str) -> Result<Bound, String> {
    bound(text, values::bytes)
}

fn operations(text: &str) -> Result<Bound, String> {
    let number = |value: &str| value.parse().map_err(|_| format!("`{value}` is no number"));
    bound(text, number)
}

/// `DISK:VALUE`.
fn bound(text: &str, value: impl Fn(&str) -> Result<u64, String>) -> Result<Bound, String> {
    match text.rsplit_once(':') {
        Some((device, bound)) if device.starts_with("/dev/") => {
            Ok((PathBuf::from(device), value(bound)?))
        }
        _ => Err(format!(
            "`{text}` is no disk with a number, as /dev/sda:100"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_docker_writes_them() {
        let of_disk = |value| Ok((PathBuf::from("/dev/sda"), value));
        assert_eq!(bytes("/dev/sda:1mb"), of_disk(1 << 20));
        assert_eq!(operations("/dev/sda:30"), of_disk(30));
        assert_eq!(weight("/dev/sda:0"), of_disk(0));
        assert_eq!(
            bytes("/dev/disk/by-path/pci-0000:00:1f.2:1k"),
            Ok((PathBuf::from("/dev/disk/by-path/pci-0000:00:1f.2"), 1024))
        );
        for bad in ["/dev/sda", "sda:1mb", "/dev/sda:", "/dev/sda:much", ""] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert!(operations("/dev/sda:1k").is_err());
        assert!(weight("/dev/sda:9").is_err() && weight("/dev/sda:1001").is_err());
    }
}
