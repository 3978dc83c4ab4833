//! Other limits for groups that have processes in them. Only what is asked for is written.

use std::fs;
use std::path::{Path, PathBuf};

use super::block_io::Numbers;
use super::{Controller, Error, Limits, Result, Setting, Swap, Version};
use super::{cpuset, usage};

/// Writes the limits that are `Some`, and no limit of tasks with `unlimited_pids`.
///
/// A limit of memory below what is used is an error: v1's kernel says so, v2's would kill.
pub fn update(paths: &[PathBuf], limits: &Limits, unlimited_pids: bool) -> Result<()> {
    let mut settings = Vec::new();
    let mut needed = limits.required();
    needed.extend(unlimited_pids.then_some(Controller::Pids));
    for controller in needed {
        let (path, version) = group_of(paths, controller)?;
        settings.extend(settings_of(
            path,
            version,
            controller,
            limits,
            unlimited_pids,
        ));
        if let (Controller::Cpuset, Some(above)) = (controller, path.parent()) {
            cpuset::check(above, limits)?;
        }
        if (version, controller) == (Version::V2, Controller::Memory) {
            check_use(paths, limits)?;
        }
    }
    settings
        .iter()
        .try_for_each(|setting| setting.write(limits.swap_is_explicit))
}

/// The group that has a controller's files.
fn group_of(paths: &[PathBuf], controller: Controller) -> Result<(&Path, Version)> {
    let (of_v1, of_v2) = match controller {
        Controller::Memory => ("memory.limit_in_bytes", "memory.max"),
        Controller::Cpu => ("cpu.shares", "cpu.weight"),
        Controller::Cpuset => ("cpuset.cpus", "cpuset.cpus"),
        Controller::Pids => ("pids.max", "pids.max"),
        Controller::Io | Controller::Blkio => ("blkio.throttle.read_bps_device", "io.max"),
        Controller::Freezer | Controller::Cpuacct | Controller::Devices => ("", ""),
    };
    let found = paths.iter().find_map(|path| {
        let version = Version::of(path);
        let file = if version == Version::V1 { of_v1 } else { of_v2 };
        path.join(file)
            .is_file()
            .then_some((path.as_path(), version))
    });
    found.ok_or_else(|| {
        let name = controller.name();
        let detail = format!(
            "the container was started without the `{name}` cgroup controller; \
             only one that is started with such a limit has it"
        );
        Error::new("limit", name, detail)
    })
}

fn settings_of(
    path: &Path,
    version: Version,
    controller: Controller,
    limits: &Limits,
    unlimited_pids: bool,
) -> Vec<Setting> {
    // Bounds of single devices are set at a start only.
    let mut values = version.settings(limits, &[controller], &Numbers::new());
    if controller == Controller::Pids && unlimited_pids {
        values.push(("pids.max", "max".to_owned()));
    }
    if (version, controller) == (Version::V1, Controller::Memory) && swap_is_first(path, limits) {
        values.reverse();
    }
    let in_group = |(file, value): (&str, String)| Setting {
        file: path.join(file),
        value,
    };
    values.into_iter().map(in_group).collect()
}

/// On v1 memory must never be above memory plus swap: a limit that is raised above the latter waits
/// until that is raised.
fn swap_is_first(path: &Path, limits: &Limits) -> bool {
    let text = fs::read_to_string(path.join("memory.memsw.limit_in_bytes")).ok();
    let now: Option<u64> = text.and_then(|text| text.trim().parse().ok());
    now.zip(limits.memory)
        .is_some_and(|(now, memory)| memory > now)
        || limits.swap == Some(Swap::Unlimited)
}

fn check_use(paths: &[PathBuf], limits: &Limits) -> Result<()> {
    let used = usage::read(paths).memory;
    match limits.memory {
        Some(memory) if memory < used => {
            let detail = format!("the container uses {used} bytes now");
            Err(Error::new("limit memory to", memory, detail))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mybox-update-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in files {
            fs::write(dir.join(file), text).unwrap();
        }
        dir
    }

    fn order(dir: &Path, memory: u64, swap: Swap) -> Vec<String> {
        let limits = Limits {
            memory: Some(memory),
            swap: Some(swap),
            ..Limits::default()
        };
        let settings = settings_of(dir, Version::V1, Controller::Memory, &limits, false);
        settings
            .iter()
            .map(|setting| {
                setting
                    .file
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    #[test]
    fn memory_and_swap_are_raised_and_lowered_in_the_order_v1_takes() {
        let dir = group("order", &[("memory.memsw.limit_in_bytes", "1000\n")]);
        let (memory, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
        assert_eq!(order(&dir, 2000, Swap::Total(4000)), [both, memory]);
        assert_eq!(order(&dir, 100, Swap::Total(200)), [memory, both]);
        assert_eq!(order(&dir, 100, Swap::Unlimited), [both, memory]);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn v2_is_not_asked_to_kill_for_want_of_memory() {
        let dir = group(
            "use",
            &[
                ("memory.max", "max\n"),
                ("memory.swap.max", "max\n"),
                ("memory.current", "5000\n"),
                ("pids.max", "7\n"),
            ],
        );
        let below = Limits {
            memory: Some(4000),
            ..Limits::default()
        };
        let paths = [dir.clone()];
        let error = update(&paths, &below, false).unwrap_err().to_string();
        assert!(error.contains("uses 5000 bytes"), "{error}");
        update(&paths, &Limits::default(), true).unwrap();
        assert_eq!(fs::read_to_string(dir.join("pids.max")).unwrap(), "max");
        let cpuset = Limits {
            cpuset_cpus: Some("0".into()),
            ..Limits::default()
        };
        let error = update(&paths, &cpuset, false).unwrap_err().to_string();
        assert!(error.contains("`cpuset`"), "{error}");
        fs::remove_dir_all(dir).unwrap();
    }
}
