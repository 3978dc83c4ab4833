//! The flags of `run` and `create` that say what a container is called and whom it asks for names: DNS,
//! hardware address, labels, annotations.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::values;
use crate::plan::RunRequest;

#[derive(Debug, Args)]
pub(super) struct NamingArguments {
    /// A domain to look names up in; `.` for none
    #[arg(long, value_name = "DOMAIN", help_heading = "Network")]
    #[arg(value_parser = word)]
    dns_search: Vec<String>,
    /// An option of the resolver, as ndots:2 (see resolv.conf(5))
    #[arg(
        long,
        alias = "dns-opt",
        value_name = "OPTION",
        help_heading = "Network"
    )]
    #[arg(value_parser = word)]
    dns_option: Vec<String>,
    /// A hardware address of one's own choice on the bridge, as 02:42:ac:11:00:02
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    #[arg(value_parser = hardware_address)]
    mac_address: Option<HardwareAddress>,
    /// Put an annotation into the runtime spec
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Process")]
    #[arg(value_parser = annotation)]
    annotation: Vec<(String, String)>,
    /// Read labels from a file, a NAME=VALUE a line
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    label_file: Vec<PathBuf>,
}

impl NamingArguments {
    pub(super) fn apply(self, request: &mut RunRequest) -> anyhow::Result<()> {
        let mut labels = labels_of(&self.label_file)?;
        // What stands on the command line counts more.
        labels.append(&mut request.labels);
        request.labels = labels;
        request.dns_search = self.dns_search;
        request.dns_options = self.dns_option;
        request.mac = self.mac_address.map(|it| it.0);
        request.annotations = self.annotation.into_iter().collect();
        Ok(())
    }
}

/// The lines of these files, the last of a name; empty lines and those with `#` say nothing.
fn labels_of(files: &[PathBuf]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("read {}", file.display()))?;
        let lines = text.lines().map(str::trim_start);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let label = values::label(line).map_err(anyhow::Error::msg);
            let (name, value) = label.with_context(|| format!("read {}", file.display()))?;
            labels.insert(name, value);
        }
    }
    Ok(labels)
}

/// A word of /etc/resolv.conf.
fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Err(format!("`{text}` is not one word"))
    } else {
        Ok(text.to_owned())
    }
}

/// Six bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HardwareAddress([u8; 6]);

/// `02:42:ac:11:00:02`. One of a group of machines is nobody's own.
fn hardware_address(text: &str) -> Result<HardwareAddress, String> {
    let wrong = || format!("`{text}` is no hardware address such as 02:42:ac:11:00:02");
    let byte = |pair: &str| match pair.len() {
        2 => u8::from_str_radix(pair, 16).map_err(|_| wrong()),
        _ => Err(wrong()),
    };
    let bytes: Vec<u8> = text.split([':', '-']).map(byte).collect::<Result<_, _>>()?;
    let bytes: [u8; 6] = bytes.try_into().map_err(|_| wrong())?;
    if bytes[0] & 1 == 1 || bytes == [0; 6] {
        return Err(format!("`{text}` is not the address of one interface"));
    }
    Ok(HardwareAddress(bytes))
}

/// `NAME=VALUE`. Those of mybox are its own.
fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, _)) if name.starts_with("io.mybox.") => {
            Err(format!("`{name}`: names below io.mybox are mybox's own"))
        }
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_those_of_one_interface() {
        let good = hardware_address("02:42:AC:11:00:02");
        assert_eq!(good, Ok(HardwareAddress([2, 0x42, 0xac, 0x11, 0, 2])));
        for bad in [
            "",
            "02:42",
            "03:00:00:00:00:01",
            "00:00:00:00:00:00",
            "+2:0:0:0:0:0",
        ] {
            assert!(hardware_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_and_annotations_are_checked() {
        assert!(word("a b").is_err() && word("").is_err() && word("ndots:2").is_ok());
        assert!(annotation("a=b=c").is_ok() && annotation("a").is_err());
        assert!(annotation("io.mybox.x=1").is_err() && annotation("=1").is_err());
    }
}
