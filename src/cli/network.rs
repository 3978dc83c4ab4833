//! `mybox network`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::format::{self, Format, Heading};
use super::output;
use crate::container::Places;
use crate::error::Failure;
use crate::life::{self, NetworkRow};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List bridges
    #[command(visible_alias = "list")]
    Ls(List),
    /// Remove a bridge that no container is on, with its firewall elements
    Rm {
        /// The bridge [default: that of --bridge]
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
#[command(after_help = format::format_help!("{{.Name}} {{.Driver}}"))]
struct List {
    /// Names alone
    #[arg(short, long)]
    quiet: bool,
    /// Each as a template says: '{{.Name}} {{.Driver}} {{.Subnet}}', json
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "json"])]
    format: Option<Format>,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// What `--format` can ask for: Docker's first. A bridge is known by its name alone.
const HEADINGS: [Heading; 8] = [
    ("ID", "NETWORK ID"),
    ("Name", "BRIDGE"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Subnet", "SUBNET"),
    ("Gateway", "GATEWAY"),
    ("State", "STATE"),
    ("Containers", "CONTAINERS"),
];

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.verb {
        Verb::Ls(arguments) => list(places, arguments)?,
        Verb::Rm { name } => {
            let bridge = name.clone().unwrap_or_else(|| places.bridge.clone());
            let places = Places {
                bridge: bridge.clone(),
                ..places.clone()
            };
            life::remove_network(&places, &mut output::note)?;
            output::line(&bridge)?;
        }
    }
    Ok(0)
}

fn list(places: &Places, arguments: &List) -> anyhow::Result<()> {
    let networks = life::list_networks(places)?;
    if arguments.json {
        return output::json(&networks);
    }
    if arguments.quiet {
        let names = networks.iter().map(|row| &row.network.bridge);
        return names.map(String::as_str).try_for_each(output::line);
    }
    let usual = ["Name", "Subnet", "Gateway", "State", "Containers"];
    let rows = networks.iter().map(fields).collect();
    format::print(arguments.format.as_ref(), &HEADINGS, &usual, rows)
}

/// A row as templates know it.
fn fields(row: &NetworkRow) -> Value {
    json!({
        "ID": row.network.bridge,
        "Name": row.network.bridge,
        "Driver": "bridge",
        "Scope": "local",
        "Subnet": row.network.subnet.to_string(),
        "Gateway": row.gateway.to_string(),
        "State": if row.up { "up" } else { "down" },
        "Containers": row.containers.to_string(),
    })
}
