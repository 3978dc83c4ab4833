//! `Config`: what runs in a container.

use mybox_store::ImageConfig;
use serde_json::{Map, Value, json};

use super::Known;
use crate::container::port::Published;
use crate::plan::{StandardStream, entrypoint_and_command, health};

/// `Config` of a container.
pub(super) fn config(known: &Known<'_>) -> Value {
    let (record, request) = (&known.row.record, known.request);
    let process = &known.spec["process"];
    let image = known.image.map(|image| &image.config);
    let (entrypoint, command) = match image {
        Some(image) => entrypoint_and_command(request, image),
        // How much of it was the image's entrypoint is not known any more.
        None => (Vec::new(), record.command.clone()),
    };
    let attaches = |stream| !request.detach && request.is_attached(stream);
    let input = attaches(StandardStream::Input);
    json!({
        "Hostname": known.spec["hostname"],
        "Domainname": request.domainname.as_deref().unwrap_or_default(),
        "User": request.user.as_deref().unwrap_or_default(),
        "AttachStdin": input && (request.interactive || !request.attach.is_empty()),
        "AttachStdout": attaches(StandardStream::Output),
        "AttachStderr": attaches(StandardStream::Error),
        "ExposedPorts": exposed_ports(known),
        "Tty": request.terminal,
        "OpenStdin": request.interactive,
        "Env": process["env"],
        "Entrypoint": words(entrypoint),
        "Cmd": words(command),
        "Healthcheck": healthcheck(known, image),
        "Image": record.image,
        "Volumes": volumes(known, image),
        "WorkingDir": process["cwd"],
        "OnBuild": null,
        "Labels": record.labels,
        "StopSignal": record.stop_signal,
        "StopTimeout": record.stop_timeout,
    })
}

/// Docker has null where there are none.
fn words(words: Vec<String>) -> Value {
    if words.is_empty() {
        Value::Null
    } else {
        words.into()
    }
}

/// Names as keys of empty objects, which are Docker's sets.
fn set(names: impl Iterator<Item = String>) -> Value {
    let entries = names.map(|name| (name, json!({})));
    Value::Object(entries.collect::<Map<_, _>>())
}

/// Those that are published among them.
fn exposed_ports(known: &Known<'_>) -> Value {
    let record = &known.row.record;
    let published = record.ports.iter().map(Published::port);
    let asked = known.request.publish.iter().map(|it| it.port);
    let exposed = record.exposed.iter().copied();
    set(exposed
        .chain(published)
        .chain(asked)
        .map(|it| it.to_string()))
}

/// Those without a name, of the user's or of the image.
fn volumes(known: &Known<'_>, image: Option<&ImageConfig>) -> Value {
    let own = known.request.named_volumes.iter();
    let own = own.filter(|it| it.name.is_none() && !it.borrowed);
    let own = own.map(|it| it.destination.display().to_string());
    let of_image = image.into_iter().flat_map(|image| &image.config.volumes);
    set(own.chain(of_image.cloned()))
}

fn healthcheck(known: &Known<'_>, image: Option<&ImageConfig>) -> Value {
    let request = &known.request.health;
    let check = match &known.health["check"] {
        // It was never started: what it will be.
        Value::Null => {
            let check = image.and_then(|image| health::check(request, image).ok().flatten());
            json!(check)
        }
        check => check.clone(),
    };
    let test = match (&request.command, check["command"].as_array()) {
        _ if request.none => return json!({"Test": ["NONE"]}),
        (_, None) => return Value::Null,
        (Some(line), _) => json!(["CMD-SHELL", line]),
        (None, Some(words)) => [&["CMD".into()], words.as_slice()].concat().into(),
    };
    json!({
        "Test": test,
        "Interval": check["interval"],
        "Timeout": check["timeout"],
        "Retries": check["retries"],
        "StartPeriod": check["startPeriod"],
        "StartInterval": check["startInterval"],
    })
}
