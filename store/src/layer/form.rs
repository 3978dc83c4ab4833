//! The forms a layer can have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a layer lies on the disk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum LayerForm {
    /// A tree of files: works everywhere.
    #[default]
    Unpacked,
    /// The layer's tar as it is, and an EROFS index over it: for kernels that can mount it.
    Indexed,
}

impl LayerForm {
    const ALL: [Self; 2] = [Self::Unpacked, Self::Indexed];

    /// As it is written and typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unpacked => "unpacked",
            Self::Indexed => "indexed",
        }
    }
}

impl fmt::Display for LayerForm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for LayerForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = Self::ALL.into_iter().find(|form| form.name() == text);
        form.ok_or_else(|| format!("{text:?} is neither indexed nor unpacked"))
    }
}
