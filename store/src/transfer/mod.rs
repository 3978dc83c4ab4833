//! Images in files: written for other tools to read, and read from what other tools write.
//!
//! ```text
//! oci-archive      oci-layout  index.json  blobs/sha256/<hex>     skopeo, podman, docker from 25 on
//! docker-archive   manifest.json  <config hex>.json  <diff id hex>.tar     docker, podman, skopeo
//! ```
//! An OCI archive has manifests and blobs byte for byte. One that is written here has Docker's
//! manifest.json too, with the paths of blobs, as docker itself writes it from version 25 on: so
//! every tool can read it. A Docker archive has the config byte for byte, which keeps the image id,
//! but only uncompressed layers and no manifest.

mod incoming;
mod load;
mod save;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use load::Loaded;

const LAYOUT: &str = "oci-layout";
const LAYOUT_CONTENT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256/";
const DOCKER_MANIFEST: &str = "manifest.json";
/// The whole name of an image, in containerd's words; docker's archives have it.
const FULL_NAME: &str = "io.containerd.image.name";

/// How images are written to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An OCI image layout in a tar.
    #[default]
    Oci,
    /// As `docker save` did before version 25.
    Docker,
}

impl FromStr for ArchiveFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oci-archive" => Ok(Self::Oci),
            "docker-archive" => Ok(Self::Docker),
            _ => Err(format!(
                "{text:?} is neither oci-archive nor docker-archive"
            )),
        }
    }
}

impl fmt::Display for ArchiveFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Oci => "oci-archive",
            Self::Docker => "docker-archive",
        })
    }
}

/// One image in Docker's `manifest.json`; paths are those of the archive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}
