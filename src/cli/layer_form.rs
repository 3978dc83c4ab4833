//! `--layer-form`, for the verbs that lay layers down.

use clap::Args;
use mybox_store::Store;

use crate::container::Places;
use crate::life::layer_form::{self, FormChoice};

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct LayerFormArgument {
    /// How layers are laid down: indexed, as a tar with an index over it; unpacked, as files; auto,
    /// indexed where the kernel can mount that [default: the store's setting, or auto]
    #[arg(
        long,
        env = "MYBOX_LAYER_FORM",
        value_name = "FORM",
        hide_env_values = true
    )]
    layer_form: Option<FormChoice>,
}

impl LayerFormArgument {
    /// The store, whose new layers get the form that was asked for.
    pub(super) fn open(self, places: &Places) -> anyhow::Result<Store> {
        let store = Store::open(&places.root)?;
        let (form, _) = layer_form::choose(places, &store, self.layer_form)?;
        Ok(store.with_layer_form(form))
    }
}
