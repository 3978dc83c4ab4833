//! What a group may do with block devices: blkio.* of v1, io.* of v2
//! (Documentation/admin-guide/cgroup-v1/blkio-controller.rst, cgroup-v2.rst).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Context, Error, Result};

/// The weights that Docker takes; what a group has without one is 100 to the kernel.
pub const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

/// What a group may do with block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BlockIo {
    /// Share of a device's time under contention, of [`WEIGHTS`].
    pub weight: Option<u16>,
    /// What goes for one device alone.
    pub devices: Vec<DeviceBound>,
}

impl BlockIo {
    pub(super) fn is_bounded(&self) -> bool {
        *self != Self::default()
    }
}

/// A bound for one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceBound {
    /// The device's file on the host.
    pub device: PathBuf,
    /// What is bounded.
    pub what: Bounded,
    /// A weight, or bytes or operations a second.
    pub value: u64,
}

/// What a [`DeviceBound`] bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bounded {
    /// Share of its time under contention.
    Weight,
    /// Bytes read in a second.
    BytesRead,
    /// Bytes written in a second.
    BytesWritten,
    /// Reads in a second.
    Reads,
    /// Writes in a second.
    Writes,
}

impl Bounded {
    /// v1's file for it, in a group.
    fn v1_file(self) -> &'static str {
        match self {
            Self::Weight => "blkio.bfq.weight_device",
            Self::BytesRead => "blkio.throttle.read_bps_device",
            Self::BytesWritten => "blkio.throttle.write_bps_device",
            Self::Reads => "blkio.throttle.read_iops_device",
            Self::Writes => "blkio.throttle.write_iops_device",
        }
    }

    /// v2's file for it, and its word there.
    fn v2_file(self) -> (&'static str, &'static str) {
        match self {
            Self::Weight => ("io.bfq.weight", ""),
            Self::BytesRead => ("io.max", "rbps="),
            Self::BytesWritten => ("io.max", "wbps="),
            Self::Reads => ("io.max", "riops="),
            Self::Writes => ("io.max", "wiops="),
        }
    }
}

/// The numbers of devices, as the kernel writes them: `8:0`.
pub(super) type Numbers = BTreeMap<PathBuf, String>;

/// Looks up the devices that are bounded.
pub(super) fn numbers(block_io: &BlockIo) -> Result<Numbers> {
    let devices = block_io.devices.iter().map(|bound| &bound.device);
    devices
        .map(|device| Ok((device.clone(), number(device)?)))
        .collect()
}

fn number(device: &Path) -> Result<String> {
    let metadata = fs::metadata(device).on_path("limit the use of", device)?;
    let refused = |detail| Err(Error::new("limit the use of", device.display(), detail));
    if !metadata.file_type().is_block_device() {
        return refused("it is no block device");
    }
    let number = metadata.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let number = format!("{major}:{minor}");
    let partition = Path::new("/sys/dev/block").join(&number).join("partition");
    if partition.exists() {
        return refused("it is a partition, and the kernel limits whole disks: name the disk");
    }
    Ok(number)
}

/// Files of a v1 group and what is written to them.
pub(super) fn v1_settings(block_io: &BlockIo, numbers: &Numbers) -> Vec<(&'static str, String)> {
    let weight = block_io.weight.map(|it| it.to_string());
    let weight = weight.map(|it| ("blkio.bfq.weight", it));
    let bounds = block_io.devices.iter().filter_map(|bound| {
        let number = numbers.get(&bound.device)?;
        Some((bound.what.v1_file(), format!("{number} {}", bound.value)))
    });
    weight.into_iter().chain(bounds).collect()
}

/// Files of a v2 group and what is written to them.
pub(super) fn v2_settings(block_io: &BlockIo, numbers: &Numbers) -> Vec<(&'static str, String)> {
    let weight = block_io.weight.map(|it| format!("default {it}"));
    let weight = weight.map(|it| ("io.bfq.weight", it));
    let bounds = block_io.devices.iter().filter_map(|bound| {
        let number = numbers.get(&bound.device)?;
        let (file, word) = bound.what.v2_file();
        Some((file, format!("{number} {word}{}", bound.value)))
    });
    weight.into_iter().chain(bounds).collect()
}

/// Where the kernel's scheduler is not bfq, weights have another file: its name and what is written there
/// instead.
pub(super) fn without_bfq(file: &str, value: &str) -> Option<(&'static str, String)> {
    let unchanged = |file| Some((file, value.to_owned()));
    match file {
        "blkio.bfq.weight" => unchanged("blkio.weight"),
        "blkio.bfq.weight_device" => unchanged("blkio.weight_device"),
        "io.bfq.weight" => {
            let (of, weight) = value.rsplit_once(' ')?;
            let weight = cost_weight(weight.parse().ok()?);
            Some(("io.weight", format!("{of} {weight}")))
        }
        _ => None,
    }
}

/// 10..=1000 onto io.weight's 1..=10000, the linear map that the OCI runtimes agreed on.
fn cost_weight(weight: u64) -> u64 {
    let (least, most) = (u64::from(*WEIGHTS.start()), u64::from(*WEIGHTS.end()));
    1 + (weight.clamp(least, most) - least) * 9999 / (most - least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounded() -> (BlockIo, Numbers) {
        let disk = PathBuf::from("/dev/disk");
        let bound = |what, value| DeviceBound {
            device: disk.clone(),
            what,
            value,
        };
        let block_io = BlockIo {
            weight: Some(300),
            devices: vec![
                bound(Bounded::Weight, 500),
                bound(Bounded::BytesRead, 1 << 20),
                bound(Bounded::Writes, 30),
            ],
        };
        let numbers = [(disk.clone(), "8:16".to_owned())].into();
        (block_io, numbers)
    }

    #[test]
    fn each_interface_is_written_as_it_reads() {
        let (block_io, numbers) = bounded();
        let shown = |settings: Vec<(&str, String)>| -> Vec<String> {
            let settings = settings.into_iter();
            settings
                .map(|(file, value)| format!("{file}: {value}"))
                .collect()
        };
        assert_eq!(
            shown(v1_settings(&block_io, &numbers)),
            [
                "blkio.bfq.weight: 300",
                "blkio.bfq.weight_device: 8:16 500",
                "blkio.throttle.read_bps_device: 8:16 1048576",
                "blkio.throttle.write_iops_device: 8:16 30",
            ]
        );
        assert_eq!(
            shown(v2_settings(&block_io, &numbers)),
            [
                "io.bfq.weight: default 300",
                "io.bfq.weight: 8:16 500",
                "io.max: 8:16 rbps=1048576",
                "io.max: 8:16 wiops=30",
            ]
        );
    }

    #[test]
    fn weights_are_on_the_scale_of_the_file_that_there_is() {
        let instead = |file, value| without_bfq(file, value);
        let written = |file, value: &str| Some((file, value.to_owned()));
        assert_eq!(
            instead("io.bfq.weight", "default 10"),
            written("io.weight", "default 1")
        );
        assert_eq!(
            instead("io.bfq.weight", "8:16 1000"),
            written("io.weight", "8:16 10000")
        );
        assert_eq!(
            instead("blkio.bfq.weight", "300"),
            written("blkio.weight", "300")
        );
        assert_eq!(instead("io.max", "8:16 rbps=1"), None);
    }

    #[test]
    fn what_is_no_disk_is_refused_by_name() {
        let refusal = |path: &str| number(Path::new(path)).unwrap_err().to_string();
        assert!(refusal("/dev/null").contains("/dev/null: it is no block device"));
        assert!(refusal("/dev/no-such-disk").contains("/dev/no-such-disk"));
    }
}
