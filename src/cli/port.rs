//! `mybox port`.

use clap::Args;

use super::output;
use crate::container::port::{Port, Published};
use crate::container::{Places, find};
use crate::error::Failure;
use crate::life;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox port web          80/tcp -> 0.0.0.0:8080
  mybox port web 80       0.0.0.0:8080")]
pub(super) struct Arguments {
    /// Name, id, or the beginning of an id
    container: String,
    /// Where this port of the container is published; tcp unless it says /udp
    #[arg(value_name = "PORT[/udp]")]
    port: Option<Port>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    life::restore_network(places)?;
    let container = find::one(places, &arguments.container)?;
    let mut ports = container.published().to_vec();
    if let Some(port) = arguments.port {
        ports.retain(|it| it.port() == port);
        if ports.is_empty() {
            let name = &container.record.name;
            return Err(not_published(name, port, container.running).into());
        }
    }
    ports.sort_by_key(|it| (it.container_port, it.protocol, it.host_ip, it.host_port));
    if arguments.json {
        output::json(&ports)?;
        return Ok(0);
    }
    for it in ports {
        output::line(&match arguments.port {
            Some(_) => on_host(&it),
            None => format!("{} -> {}", it.port(), on_host(&it)),
        })?;
    }
    Ok(0)
}

fn on_host(port: &Published) -> String {
    format!("{}:{}", port.host_ip, port.host_port)
}

fn not_published(name: &str, port: Port, running: bool) -> anyhow::Error {
    if running {
        anyhow::anyhow!(
            "port {port} of container {name} is not published; `mybox port {name}` lists those that are"
        )
    } else {
        anyhow::anyhow!("container {name} is not running, so none of its ports is published")
    }
}
