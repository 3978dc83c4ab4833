//! Which form the layers get that a command lays down.
//!
//! ```text
//! --layer-form > MYBOX_LAYER_FORM > `mybox layers form` > what the kernel can mount
//! ```

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use mybox_store::{LayerForm, Store};

use super::forms::Forms;
use crate::container::Places;

/// What the user can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormChoice {
    /// Indexed where the kernel can mount that, unpacked elsewhere.
    Auto,
    /// One form, whatever the kernel can do.
    Always(LayerForm),
}

impl FromStr for FormChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::Always)
                .map_err(|_| format!("`{text}` is none of auto, indexed, unpacked")),
        }
    }
}

/// Who has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// The command line or the environment.
    User,
    /// The store's setting.
    Setting,
    /// Nobody: the kernel can mount an index.
    Kernel,
    /// Nobody: the kernel cannot mount one.
    KernelCannot(String),
}

impl fmt::Display for ChosenBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => write!(formatter, "asked for by --layer-form or MYBOX_LAYER_FORM"),
            Self::Setting => write!(formatter, "set for this store"),
            Self::Kernel => write!(formatter, "auto: the kernel can mount an index"),
            Self::KernelCannot(reason) => {
                write!(
                    formatter,
                    "auto: the kernel cannot mount an index ({reason})"
                )
            }
        }
    }
}

/// The form for a store's new layers, and who has chosen it.
pub fn choose(
    places: &Places,
    store: &Store,
    asked: Option<FormChoice>,
) -> Result<(LayerForm, ChosenBy)> {
    let setting = match asked {
        Some(FormChoice::Always(form)) => return Ok((form, ChosenBy::User)),
        Some(FormChoice::Auto) => None,
        None => store.layer_form_setting()?,
    };
    Ok(match setting {
        Some(form) => (form, ChosenBy::Setting),
        None => match Forms::of_this_kernel(places).indexed {
            Ok(()) => (LayerForm::Indexed, ChosenBy::Kernel),
            Err(reason) => (LayerForm::Unpacked, ChosenBy::KernelCannot(reason)),
        },
    })
}
