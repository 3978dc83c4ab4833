//! `mybox layers form`: the form that layers get which are laid down from now on.

use clap::Args;
use mybox_store::{LayerForm, Store};

use crate::cli::output;
use crate::container::Places;
use crate::error::Failure;
use crate::life::layer_form::{self, FormChoice};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox layers form                  which form, and why
  mybox layers form unpacked         from now on, in this store
  mybox layers form auto             back to what the kernel can mount

Layers that are there stay as they are: `mybox layers convert` changes them.")]
pub(super) struct Arguments {
    /// As the verbs have it that lay layers down
    #[arg(long, env = "MYBOX_LAYER_FORM", hide = true)]
    layer_form: Option<FormChoice>,
    /// The form to choose for this store: auto, indexed, unpacked
    form: Option<FormChoice>,
}

pub(super) fn run(places: &Places, store: &Store, arguments: &Arguments) -> Result<u8, Failure> {
    if let Some(form) = arguments.form {
        store.set_layer_form_setting(setting(form))?;
    }
    let (form, by) = layer_form::choose(places, store, arguments.layer_form)?;
    output::line(&form.to_string())?;
    output::note(&by.to_string());
    Ok(0)
}

fn setting(choice: FormChoice) -> Option<LayerForm> {
    match choice {
        FormChoice::Auto => None,
        FormChoice::Always(form) => Some(form),
    }
}
