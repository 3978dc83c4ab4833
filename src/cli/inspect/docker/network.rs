//! `NetworkSettings`, and which ports lead to which.

use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use super::Known;
use crate::cli::inspect::format;
use crate::container::Places;
use crate::container::port::Published;
use crate::net::bridge::{hardware_address, hardware_text, remembered};

/// `{"80/tcp": [{"HostIp": …, "HostPort": …}]}`.
pub(super) fn bindings(ports: &[Published]) -> Value {
    let mut bindings = Map::new();
    for published in ports {
        let to = json!({
            "HostIp": published.host_ip.to_string(),
            "HostPort": published.host_port.to_string(),
        });
        let key = published.port().to_string();
        let entry = bindings.entry(key).or_insert_with(|| json!([]));
        entry
            .as_array_mut()
            .into_iter()
            .for_each(|list| list.push(to.clone()));
    }
    Value::Object(bindings)
}

/// `NetworkSettings` of a container.
pub(super) fn settings(places: &Places, known: &Known<'_>) -> Value {
    let endpoint = endpoint(places, known);
    let mode = known.request.network.to_string();
    let process = known.row.process;
    let namespace = process.map(|(pid, _)| std::path::PathBuf::from(format!("/proc/{pid}/ns/net")));
    let own = json!({
        "SandboxKey": namespace.unwrap_or_default(),
        "Ports": ports(known),
        "Networks": {mode: endpoint},
    });
    format::with(own, endpoint)
}

/// Its place on the bridge, empty while it has none.
fn endpoint(places: &Places, known: &Known<'_>) -> Value {
    let address = known.row.record.address.filter(|_| known.row.running);
    let text = |it: Option<Ipv4Addr>| it.map(|it| it.to_string()).unwrap_or_default();
    let hardware = address.map(|it| known.request.mac.unwrap_or(hardware_address(it)));
    let network = remembered(&places.network()).ok().flatten();
    // With another --bridge it was given another network's address.
    let subnet = network.map(|network| network.subnet);
    let subnet = address.and_then(|it| subnet.filter(|subnet| subnet.contains(it)));
    json!({
        "IPAddress": text(address),
        "IPPrefixLen": subnet.map_or(0, |it| it.prefix()),
        "Gateway": text(subnet.map(|it| it.gateway())),
        "MacAddress": hardware.map(hardware_text).unwrap_or_default(),
    })
}

/// Null for those that nothing leads to.
fn ports(known: &Known<'_>) -> Value {
    let mut ports = bindings(known.row.published());
    if let Some(ports) = ports.as_object_mut() {
        for exposed in &known.row.record.exposed {
            ports.entry(exposed.to_string()).or_insert(Value::Null);
        }
    }
    ports
}
