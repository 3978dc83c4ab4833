//! The flags of `run` and `create` that say how what a container writes is kept.

use anyhow::ensure;
use clap::Args;

use super::values;
use crate::container::log::Rotation;
use crate::plan::RunRequest;

#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// Where what it writes is kept: local, in files that `mybox logs` reads (json-file and k8s-file
    /// are the same), or none: there is no log, and `attach` alone shows it
    #[arg(long, value_name = "DRIVER", help_heading = "Log")]
    #[arg(default_value = "local", value_parser = driver)]
    log_driver: Driver,
    /// max-size=SIZE of a file [default: 10m], max-file=NUMBER of files [default: 3]; labels=NAME,...
    /// and env=NAME,... for `mybox logs --details`
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Log")]
    #[arg(value_parser = option)]
    log_opt: Vec<LogOption>,
}

/// `--log-driver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    /// Files of mybox's own, whatever they are called elsewhere.
    Local,
    None,
}

/// `--log-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LogOption {
    MaxSize(u64),
    MaxFiles(u32),
    Labels(Vec<String>),
    Variables(Vec<String>),
}

impl LogArguments {
    pub(super) fn apply(self, request: &mut RunRequest) -> anyhow::Result<()> {
        if self.log_driver == Driver::None {
            ensure!(
                self.log_opt.is_empty(),
                "--log-opt does not go with --log-driver none: there is no log"
            );
            request.no_log = true;
            request.log = Rotation::IN_PASSING;
        }
        for option in self.log_opt {
            match option {
                LogOption::MaxSize(bytes) => request.log.max_size = bytes,
                LogOption::MaxFiles(files) => request.log.max_files = files,
                LogOption::Labels(names) => request.log_labels = names,
                LogOption::Variables(names) => request.log_variables = names,
            }
        }
        Ok(())
    }
}

fn driver(text: &str) -> Result<Driver, String> {
    match text {
        "local" | "json-file" | "k8s-file" => Ok(Driver::Local),
        "none" => Ok(Driver::None),
        other => Err(format!(
            "`{other}` is not built yet; there are local, files that `mybox logs` reads, and none"
        )),
    }
}

/// As Docker's: sizes in powers of 1000, -1 for no limit.
fn option(text: &str) -> Result<LogOption, String> {
    match text.split_once('=') {
        Some(("max-size", "-1")) => Ok(LogOption::MaxSize(u64::MAX)),
        Some(("max-size", size)) => match values::disk_bytes(size)? {
            bytes if bytes < Rotation::SMALLEST => Err(format!(
                "`{size}` is less than {} bytes",
                Rotation::SMALLEST
            )),
            bytes => Ok(LogOption::MaxSize(bytes)),
        },
        Some(("max-file", number)) => match number.parse() {
            Ok(number) if number > 0 => Ok(LogOption::MaxFiles(number)),
            _ => Err(format!("`{number}` is no number of files from 1 on")),
        },
        Some(("labels", list)) => Ok(LogOption::Labels(names(list))),
        Some(("env", list)) => Ok(LogOption::Variables(names(list))),
        _ => Err(format!(
            "`{text}` is not built yet; there are max-size=SIZE, max-file=NUMBER, labels=NAME,... and \
             env=NAME,..."
        )),
    }
}

fn names(list: &str) -> Vec<String> {
    let names = list.split(',').filter(|name| !name.is_empty());
    names.map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers_are_read_as_docker_writes_them() {
        assert_eq!(option("max-size=10m"), Ok(LogOption::MaxSize(10_000_000)));
        assert_eq!(option("max-size=64k"), Ok(LogOption::MaxSize(64_000)));
        assert_eq!(option("max-size=-1"), Ok(LogOption::MaxSize(u64::MAX)));
        assert_eq!(option("max-file=2"), Ok(LogOption::MaxFiles(2)));
        let both = vec!["tier".to_owned(), "zone".to_owned()];
        assert_eq!(option("labels=tier,zone"), Ok(LogOption::Labels(both)));
        for (bad, expected) in [
            ("max-size=1", "less than 1000 bytes"),
            ("max-size=x", "no size"),
            ("max-file=0", "from 1 on"),
            ("compress=true", "not built yet"),
            ("max-size", "not built yet"),
        ] {
            let error = option(bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
        assert_eq!(driver("k8s-file"), Ok(Driver::Local));
        assert_eq!(driver("none"), Ok(Driver::None));
        assert!(driver("syslog").unwrap_err().contains("not built yet"));
    }
}
