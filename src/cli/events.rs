//! `mybox events`.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use super::template::Template;
use super::{format, output, values};
use crate::container::Places;
use crate::container::events::{Event, Reader, nanoseconds, nanoseconds_now};
use crate::error::Failure;
use crate::life::logs::Growth;

#[derive(Debug, Args)]
#[command(after_help = "\
Without --since only what happens from now on; without --until until it is interrupted. TIME is
2026-11-25T12:00:00Z, seconds since the epoch, or a duration before now, as 10m or 2h.

Filters: type=container|image|volume, event=start, container=NAME|ID, image=NAME|ID, volume=NAME,
label=KEY[=VALUE]. Of several with the same key one must fit, of labels all.

Containers: create, start, die, oom, kill, stop, restart, pause, unpause, rename, update, commit,
exec_create, exec_die, destroy, health_status: healthy and unhealthy. Images: pull, import, load,
tag, untag, delete. Volumes: create, mount, unmount, destroy, prune.
With --json a line for each: {type, action, id, time, timeNano, attributes}. --format takes Go's
template language and knows Docker's fields: Type, Action, Actor.ID, Actor.Attributes, Time,
TimeNano, Scope, and for containers and images Status, ID and From. The log is in the run root, its
last 4 to 8 MB; it is gone after a reboot.")]
pub(super) struct Arguments {
    /// What has happened since then, too
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    since: Option<SystemTime>,
    /// End with what has happened before then
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    until: Option<SystemTime>,
    /// Only what fits
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Each as a template says: '{{.Action}} {{.Actor.Attributes.name}}', json
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    #[arg(value_parser = format::of_object)]
    format: Option<Template>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// One filter as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    Type(String),
    Event(String),
    Container(String),
    Image(String),
    Volume(String),
    Label(String, Option<String>),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected type=, event=, container=, image=, volume= or label=";
        let (key, value) = text.split_once('=').ok_or(expected)?;
        let value = value.to_owned();
        Ok(match key {
            "type" if matches!(value.as_str(), "container" | "image" | "volume") => {
                Self::Type(value)
            }
            "type" => return Err("type is container, image or volume".to_owned()),
            "event" => Self::Event(value),
            "container" => Self::Container(value),
            "image" => Self::Image(value),
            "volume" => Self::Volume(value),
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value, None),
            },
            _ => return Err(expected.to_owned()),
        })
    }
}

impl Filter {
    fn fits(&self, event: &Event) -> bool {
        let attribute = |key: &str| event.attributes.get(key).map(String::as_str);
        let is_container = event.kind == "container";
        let is_meant = |word: &str| {
            let id = event.id.trim_start_matches("sha256:");
            let begins = !word.is_empty() && id.starts_with(word.trim_start_matches("sha256:"));
            event.id == word || begins || attribute("name") == Some(word)
        };
        match self {
            Self::Type(kind) => event.kind == *kind,
            // As `health_status: healthy`, of which the first word is enough.
            Self::Event(action) => {
                let first = event.action.split_once(": ").map(|(first, _)| first);
                event.action == *action || first == Some(action.as_str())
            }
            Self::Container(word) => is_container && is_meant(word),
            Self::Volume(name) => event.kind == "volume" && event.id == *name,
            Self::Image(_) if event.kind == "volume" => false,
            Self::Image(word) if is_container => attribute("image") == Some(word),
            Self::Image(word) => is_meant(word),
            Self::Label(key, value) => {
                let found = attribute(key);
                found.is_some() && (value.is_none() || found == value.as_deref())
            }
        }
    }
}

fn is_wanted(filters: &[Filter], event: &Event) -> bool {
    let is_label = |filter: &Filter| matches!(filter, Filter::Label(..));
    values::all_fit(filters, is_label, |filter| filter.fits(event))
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let now = nanoseconds_now();
    let until = arguments.until.map_or(u64::MAX, nanoseconds);
    let since = match arguments.since {
        Some(since) => nanoseconds(since),
        None if arguments.until.is_some() => 0,
        None => now,
    };
    let path = places.events();
    std::fs::create_dir_all(&places.run_root)
        .with_context(|| format!("make {}", places.run_root.display()))?;
    let growth = Growth::of(&places.run_root)?;
    let mut reader = Reader::open(places).with_context(|| format!("read {}", path.display()))?;
    loop {
        // Asked before the log is read: what is told before then is read after it.
        let is_over = nanoseconds_now() >= until;
        while let Some(event) = reader
            .next()
            .with_context(|| format!("read {}", path.display()))?
        {
            let in_time = (since..until).contains(&event.time_nano);
            let is_wanted = in_time && is_wanted(&arguments.filter, &event);
            if is_wanted && !output::print_on(text(&event, arguments)?.as_bytes())? {
                return Ok(0);
            }
        }
        if is_over || !output::pause_while_read(Duration::ZERO)? {
            return Ok(0);
        }
        growth.wait()?;
    }
}

fn text(event: &Event, arguments: &Arguments) -> anyhow::Result<String> {
    let text = if arguments.json {
        serde_json::to_string(event)?
    } else if let Some(template) = &arguments.format {
        let document = dockers(event);
        if template.is_json() {
            document.to_string()
        } else {
            template.render_named(&format::visible(document), &NAMES)?
        }
    } else {
        let attributes = output::pairs(&event.attributes);
        let line = format!(
            "{} {} {} {} ({})",
            output::time(event.time_nano),
            event.kind,
            event.action,
            event.id,
            attributes.join(", ")
        );
        output::visible(&line)
    };
    Ok(format!("{text}\n"))
}

/// What is capitalised in templates, but not in JSON.
const NAMES: [(&str, &str); 6] = [
    ("Status", "status"),
    ("ID", "id"),
    ("From", "from"),
    ("Scope", "scope"),
    ("Time", "time"),
    ("TimeNano", "timeNano"),
];

/// As Docker has it (Docker Engine API, `SystemEvents`).
fn dockers(event: &Event) -> Value {
    let (status, id) = match event.kind.as_str() {
        "volume" => ("", ""),
        _ => (event.action.as_str(), event.id.as_str()),
    };
    let from = event.attributes.get("image").filter(|_| !id.is_empty());
    json!({
        "status": status,
        "id": id,
        "from": from.map_or("", String::as_str),
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time,
        "timeNano": event.time_nano,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_with_one_key_are_alternatives() {
        let event = Event::of_image("tag", "sha256:abcdef").with("name", "a:1");
        let fits = |texts: &[&str]| {
            let filters = texts.iter().map(|text| text.parse());
            let filters: Vec<Filter> = filters.collect::<Result<_, _>>().unwrap();
            is_wanted(&filters, &event)
        };
        assert!(fits(&[]));
        assert!(fits(&["event=pull", "event=tag", "type=image"]));
        assert!(!fits(&["event=tag", "type=container"]));
        assert!(fits(&["image=a:1"]) && fits(&["image=abc"]) && fits(&["image=sha256:abc"]));
        assert!(!fits(&["image="]) && !fits(&["container=a:1"]));
        assert!(fits(&["label=name=a:1", "label=name"]));
        assert!(!fits(&["label=name", "label=other"]));
        for wrong in ["event", "type=network", "network=x"] {
            assert!(wrong.parse::<Filter>().is_err(), "{wrong}");
        }
    }
}
