//! `mybox network`.

use clap::{Args, Subcommand};

use super::output;
use crate::container::Places;
use crate::error::Failure;
use crate::life;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List bridges
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a bridge that no container is on, with its firewall elements
    Rm {
        /// The bridge [default: that of --bridge]
        name: Option<String>,
    },
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.verb {
        Verb::Ls { json } => list(places, *json)?,
        Verb::Rm { name } => {
            let bridge = name.clone().unwrap_or_else(|| places.bridge.clone());
            life::remove_network(&Places {
                bridge: bridge.clone(),
                ..places.clone()
            })?;
            output::line(&bridge)?;
        }
    }
    Ok(0)
}

fn list(places: &Places, json: bool) -> anyhow::Result<()> {
    let networks = life::list_networks(places)?;
    if json {
        return output::json(&networks);
    }
    let rows: Vec<Vec<String>> = networks
        .iter()
        .map(|row| {
            let state = if row.up { "up" } else { "down" };
            vec![
                row.network.bridge.clone(),
                row.network.subnet.to_string(),
                row.gateway.to_string(),
                state.to_owned(),
                row.containers.to_string(),
            ]
        })
        .collect();
    output::table(
        &["BRIDGE", "SUBNET", "GATEWAY", "STATE", "CONTAINERS"],
        &rows,
    )
}
