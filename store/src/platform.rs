//! The platform an image is for, in the names Go and OCI use.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// `os/architecture[/variant]`, as in `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The operating system: `linux`.
    pub os: String,
    /// The architecture in Go's name: `amd64`, `arm64`.
    pub architecture: String,
    /// The variant, where the architecture has any: `v7`.
    pub variant: Option<String>,
}

impl Platform {
    /// The running machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "powerpc64" => ("ppc64", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }
}

impl Platform {
    /// How well something made for `offered` runs on this platform: the smaller the better, `None`
    /// not at all. As containerd and podman choose: an arm processor runs what older ones run.
    pub fn suits(&self, offered: &Self) -> Option<u32> {
        if (&self.os, &self.architecture) != (&offered.os, &offered.architecture) {
            return None;
        }
        match self.architecture.as_str() {
            "arm" => {
                let number = |platform: &Self| match platform.variant.as_deref() {
                    None => Some(7),
                    Some(variant) => variant.strip_prefix('v')?.parse::<u32>().ok(),
                };
                number(self)?.checked_sub(number(offered)?)
            }
            // The baseline needs no name.
            "arm64" => same(self, offered, "v8"),
            "amd64" => same(self, offered, "v1"),
            _ => same(self, offered, ""),
        }
    }

    /// Of several offers, by the index of each, the one that suits best; of equals the first.
    pub fn choose<'a>(&self, offers: impl Iterator<Item = &'a Self>) -> Option<usize> {
        offers
            .enumerate()
            .filter_map(|(number, offered)| Some((self.suits(offered)?, number)))
            .min()
            .map(|(_, number)| number)
    }
}

/// Equal variants, or the baseline where a better one was asked for.
fn same(wanted: &Platform, offered: &Platform, baseline: &str) -> Option<u32> {
    let wanted = wanted.variant.as_deref().unwrap_or(baseline);
    let offered = offered.variant.as_deref().unwrap_or(baseline);
    if wanted == offered {
        Some(0)
    } else {
        (offered == baseline).then_some(1)
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadPlatform {
            text: text.to_owned(),
        };
        let word = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(|part| word(part)) {
            return Err(bad());
        }
        let architecture = match parts[1] {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Self {
            os: parts[0].to_ascii_lowercase(),
            architecture: architecture.to_ascii_lowercase(),
            variant: parts.get(2).map(|variant| variant.to_ascii_lowercase()),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn the_best_of_what_an_index_offers_is_chosen() {
        let parse = |text: &str| text.parse::<Platform>().unwrap();
        for (wanted, offers, chosen) in [
            ("linux/amd64", &["linux/arm64", "linux/amd64"][..], Some(1)),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/amd64/v3"], None),
            (
                "linux/amd64/v3",
                &["linux/amd64", "linux/amd64/v3"],
                Some(1),
            ),
            (
                "linux/amd64/v2",
                &["linux/amd64/v3", "linux/amd64"],
                Some(1),
            ),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"], Some(1)),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm/v5"], Some(1)),
            ("linux/arm", &["linux/arm/v6", "linux/arm/v7"], Some(1)),
            ("linux/arm64", &["linux/arm64/v8"], Some(0)),
            ("linux/arm64/v8", &["linux/arm64"], Some(0)),
            ("linux/amd64", &["windows/amd64", "unknown/unknown"], None),
            ("linux/riscv64", &["linux/riscv64"], Some(0)),
        ] {
            let offers: Vec<Platform> = offers.iter().map(|offer| parse(offer)).collect();
            assert_eq!(parse(wanted).choose(offers.iter()), chosen, "{wanted}");
        }
    }

    #[test]
    fn platforms_parse_in_gos_names() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
