//! `mybox pin` and `mybox unpin`.

use clap::Args;
use mybox_store::Store;

use super::output;
use crate::container::Places;
use crate::error::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Images: names, ids, digests, or the beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments, pinned: bool) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let mut code = 0;
    for name in &arguments.images {
        match store.pin(name, pinned) {
            Ok(true) => {}
            Ok(false) if pinned => output::note(&format!("{name} was pinned already")),
            Ok(false) => output::note(&format!("{name} was not pinned")),
            Err(error) => {
                Failure::from(error).show();
                code = 1;
            }
        }
    }
    Ok(code)
}
