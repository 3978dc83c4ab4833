//! `mybox logout`.

use clap::Args;

use super::{output, registry};
use crate::error::Failure;
use crate::registry::{Client, Options};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io", value_parser = registry::host)]
    registry: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let registry = &arguments.registry;
    let client = Client::new(&Options::default())?;
    if client.logout(registry)? {
        output::line(&format!("Removing login credentials for {registry}"))?;
    } else {
        output::line(&format!("Not logged in to {registry}"))?;
    }
    if let Some(file) = client.remaining_credentials(registry)? {
        let file = file.display();
        output::note(&format!("{file} still has credentials for {registry}"));
    }
    Ok(0)
}
