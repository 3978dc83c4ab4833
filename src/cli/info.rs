//! `mybox info` and `mybox version`.

mod docker;

use std::fmt::Display;

use clap::Args;

use super::template::Template;
use super::{format, output};
use crate::container::Places;
use crate::error::Failure;
use crate::life::info::{self, Info, Versions};

#[derive(Debug, Args)]
#[command(after_help = "\
What a user should do something about is a note on standard error, and with --json in `warnings`.

--format takes Go's template language. It knows mybox's own fields, those of --json, which begin
with a small letter, and those of Docker under their names there.")]
pub(super) struct Arguments {
    /// As a template says: '{{.ServerVersion}} {{.CgroupVersion}}', '{{json .Warnings}}', json
    #[arg(short, long, value_name = "TEMPLATE", conflicts_with = "json")]
    #[arg(value_parser = format::of_object)]
    format: Option<Template>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
--format takes Go's template language. Docker's fields, which are those of a client and a server,
are both mybox's: there is no server.")]
pub(super) struct VersionArguments {
    /// As a template says: '{{.Server.Version}}', json
    #[arg(short, long, value_name = "TEMPLATE", conflicts_with = "json")]
    #[arg(value_parser = format::of_object)]
    format: Option<Template>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn version(places: &Places, arguments: &VersionArguments) -> Result<u8, Failure> {
    let versions = info::versions(places);
    if let Some(template) = &arguments.format {
        let dockers = docker::version(&versions);
        let document = format::with(serde_json::to_value(&versions)?, dockers);
        output::line(&template.render_named(&document, docker::NAMES)?)?;
    } else if arguments.json {
        output::json(&versions)?;
    } else {
        show(&version_lines(&versions))?;
    }
    Ok(0)
}

pub(super) fn info(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let info = info::info(places)?;
    if let Some(template) = &arguments.format {
        let document = format::with(serde_json::to_value(&info)?, docker::info(&info));
        output::line(&template.render_named(&document, docker::NAMES)?)?;
        return Ok(0);
    }
    if arguments.json {
        output::json(&info)?;
        return Ok(0);
    }
    let mut lines = version_lines(&info.versions);
    lines.extend(machine_lines(&info));
    show(&lines)?;
    info.warnings.iter().for_each(|text| output::note(text));
    Ok(0)
}

type Line = (&'static str, String);

fn show(lines: &[Line]) -> anyhow::Result<()> {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    for (name, value) in lines {
        let name = format!("{name}:");
        output::line(&format!("{name:<width$} {}", output::visible(value)))?;
    }
    Ok(())
}

fn version_lines(versions: &Versions) -> Vec<Line> {
    let form = &versions.layer_form;
    let layers = match (&versions.no_indexed_layers, versions.shares_mounts) {
        (Some(reason), _) => format!("{form} (the kernel cannot mount an index: {reason})"),
        (None, true) => format!("{form}, one mount for all containers"),
        (None, false) => format!("{form}, a mount for each container"),
    };
    vec![
        ("Version", versions.version.to_owned()),
        (
            "Kernel",
            format!("{} {}", versions.kernel, versions.machine),
        ),
        ("Form of layers", layers),
    ]
}

fn machine_lines(info: &Info) -> Vec<Line> {
    let Info {
        cgroup,
        storage,
        network,
        security,
        containers,
        ..
    } = info;
    let controllers: Vec<&str> = cgroup.controllers.iter().map(String::as_str).collect();
    let room = format!(
        "{} of {} free, images have {}",
        output::decimal_size(storage.free),
        output::decimal_size(storage.size),
        output::decimal_size(storage.used_by_images)
    );
    let subnet = network.subnet.as_deref();
    let up = if network.up { "up" } else { "not there" };
    let states = format!(
        "{} ({} running, {} of them paused, {} restarting, {} created, {} exited)",
        containers.total,
        containers.running,
        containers.paused,
        containers.restarting,
        containers.created,
        containers.exited
    );
    vec![
        ("Name", info.name.clone()),
        ("Operating system", info.operating_system.clone()),
        ("Processors", info.cpus.to_string()),
        ("Memory", output::short_binary_size(info.memory)),
        ("Cgroups", cgroup.version.to_owned()),
        ("Controllers", controllers.join(" ")),
        ("Root", format!("{} ({})", storage.root, storage.filesystem)),
        ("Run root", storage.run_root.clone()),
        ("Disk", room),
        ("Bridge", format!("{} ({up})", network.bridge)),
        ("Range", or_none(subnet, "chosen with the first container")),
        ("Forwarding", yes(network.forwarding)),
        ("Firewall", or_none(network.nft.as_deref(), "no nft")),
        ("Seccomp", yes(security.seccomp)),
        ("No new privileges", yes(security.no_new_privileges)),
        ("User namespaces", yes(security.user_namespaces)),
        ("Security modules", security.modules.join(" ")),
        ("Containers", states),
        ("Images", info.images.to_string()),
        ("Layers", info.layers.to_string()),
    ]
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn or_none(value: Option<impl Display>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), |value| value.to_string())
}
