//! The image config (OCI image-spec: config.md), read as tolerantly as Docker writes it: fields
//! may be missing or null. The bytes on disk stay what they are; this is only a view of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::DiffId;

/// What an image says about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// In Go's names: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// As in `arm/v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// `linux`.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// How to run it.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Config,
    /// Its layers.
    #[serde(default, deserialize_with = "or_default")]
    pub rootfs: RootFs,
    /// How it came to be.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
}

/// How to run an image. Empty and missing mean the same, except for `entrypoint` and `cmd`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// `user`, `uid`, with or without `:group`; empty is root.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `port/protocol`.
    #[serde(
        default,
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in order.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// What is always run; `None` and empty are the same to Docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments when none are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Absolute paths.
    #[serde(
        default,
        deserialize_with = "keys",
        serialize_with = "as_keys",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub volumes: BTreeSet<String>,
    /// Absolute; empty is `/`.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Free text by name.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// A name (`SIGTERM`, `SIGRTMIN+3`) or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How to find out whether a container of it works; Docker's, the OCI has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// What executes commands that are a line of text; `/bin/sh -c` if nothing is said.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub shell: Vec<String>,
}

/// How to find out whether a container works. Times are nanoseconds; 0 is Docker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// Empty, `NONE`, `CMD` and its words, or `CMD-SHELL` and a line.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_0")]
    pub interval: i64,
    /// How long a check may take.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_0")]
    pub timeout: i64,
    /// After its start, in which a failure does not count.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_0")]
    pub start_period: i64,
    /// Between two checks in that time.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_0")]
    pub start_interval: i64,
    /// So many failures in a row mean that it does not work.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_0")]
    pub retries: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_0(number: &i64) -> bool {
    *number == 0
}

/// The layers, base first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: String,
    /// The digests of the uncompressed layers.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<DiffId>,
}

/// One step of how an image came to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}

/// Null means the default.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Go writes sets as objects whose values say nothing.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map = Option::<BTreeMap<String, serde_json::Value>>::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn as_keys<S: serde::Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(set.iter().map(|key| (key, serde_json::Map::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_full_of_nulls_is_read_as_docker_means_it() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","container":"x","history":null,
                "config":{"User":null,"Env":null,"Cmd":["sh"],"Entrypoint":null,"Volumes":null,
                "Labels":null,"ExposedPorts":{"80/tcp":{}},"WorkingDir":null,"OnBuild":[],
                "StopSignal":null},"rootfs":{"type":"layers","diff_ids":null}}"#,
        )
        .unwrap();
        assert_eq!(config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!(
            config.config.exposed_ports.iter().collect::<Vec<_>>(),
            ["80/tcp"]
        );
        assert!(config.config.env.is_empty() && config.rootfs.diff_ids.is_empty());
        let nothing: ImageConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(nothing, ImageConfig::default());
    }

    #[test]
    fn sets_are_written_as_go_writes_them() {
        let config = Config {
            volumes: ["/data".to_owned()].into(),
            ..Config::default()
        };
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"Volumes":{"/data":{}}}"#
        );
    }
}
