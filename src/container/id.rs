//! A container's id: 32 random bytes, written as 64 hex digits, as Docker and Podman have it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

/// A container's id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct ContainerId(String);

/// Text that is no container id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no container id (64 hex digits)")]
pub struct NotAnId(String);

impl ContainerId {
    /// A new one.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0u8; 32];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    /// Reads one as it is written in a directory name or a record.
    pub fn parse(text: &str) -> Result<Self, NotAnId> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAnId(text.to_owned()))
        }
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as tables and default host names show it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// The name of the container's veth on the host: interface names have at most 15 bytes.
    pub fn veth(&self) -> String {
        format!("veth{}", &self.0[..10])
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for ContainerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_read_back() {
        let (one, two) = (
            ContainerId::random().unwrap(),
            ContainerId::random().unwrap(),
        );
        assert_ne!(one, two);
        assert_eq!(ContainerId::parse(one.as_str()).unwrap(), one);
        assert!(one.veth().len() <= 15);
        for bad in ["", "abc", &"g".repeat(64), &"A".repeat(64)] {
            assert!(ContainerId::parse(bad).is_err(), "{bad}");
        }
    }
}
