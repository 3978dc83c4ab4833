//! `mybox volume`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use super::format::{self, Format, Heading};
use super::template::Template;
use super::{confirm, each, output, values};
use crate::container::Places;
use crate::container::events::{self, Event};
use crate::container::volume::{self, Removal, Volume};
use crate::error::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
A volume is made by `volume create`, or by the first `run -v NAME:/PATH`. It stays whatever becomes
of its containers, until `volume rm`; only volumes that nobody gave a name go with --rm, `rm -v` and
`volume prune`. Its files are under DIR/volumes/NAME/data, DIR being the --root.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a volume; one that is there stays as it is
    Create {
        /// Set a label
        #[arg(long, value_name = "NAME[=VALUE]", value_parser = values::label)]
        label: Vec<(String, String)>,
        /// Its name [default: one that is made up]
        name: Option<String>,
    },
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show all that is known of volumes, as JSON
    Inspect {
        /// Each as a template says: '{{.Mountpoint}}'
        #[arg(short, long, value_name = "TEMPLATE", value_parser = format::of_object)]
        format: Option<Template>,
        /// Their names
        #[arg(required = true, value_name = "VOLUME")]
        names: Vec<String>,
    },
    /// Remove volumes that no container has
    #[command(visible_alias = "remove")]
    Rm {
        /// One that is not there is no error
        #[arg(short, long)]
        force: bool,
        /// Their names
        #[arg(required = true, value_name = "VOLUME")]
        names: Vec<String>,
    },
    /// Remove volumes that no container has and that nobody gave a name
    Prune(Prune),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Filters: dangling=true for those that no container has, name=PART, label=KEY[=VALUE]. Of names one
must fit, of labels all.

--json prints a list of {name, driver, mountpoint, createdAt, labels, anonymous, containers},
containers being the names of those that have it.")]
struct List {
    /// Only what fits
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Names alone
    #[arg(short, long)]
    quiet: bool,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Each as a template says: '{{.Name}} {{.Mountpoint}}', 'table {{.Name}}\t{{.Labels}}', json
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "json"])]
    format: Option<Format>,
}

/// What `--format` can ask for.
const HEADINGS: [Heading; 7] = [
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Scope", "SCOPE"),
    ("CreatedAt", "CREATED AT"),
    ("Labels", "LABELS"),
    ("Containers", "CONTAINERS"),
];

#[derive(Debug, Args)]
struct Prune {
    /// Those with a name too
    #[arg(short, long)]
    all: bool,
    /// Only what fits: label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// One filter as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    Dangling(bool),
    Name(String),
    Label(LabelFilter),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected dangling=, name=, label= or label!=";
        if let Some(label) = LabelFilter::parse(text) {
            return Ok(Self::Label(label));
        }
        let (key, value) = text.split_once('=').ok_or(expected)?;
        match (key, value) {
            ("dangling", "true" | "1") => Ok(Self::Dangling(true)),
            ("dangling", "false" | "0") => Ok(Self::Dangling(false)),
            ("dangling", _) => Err("dangling is true or false".to_owned()),
            ("name", part) => Ok(Self::Name(part.to_owned())),
            _ => Err(expected.to_owned()),
        }
    }
}

/// `label=KEY[=VALUE]` or `label!=KEY[=VALUE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LabelFilter {
    key: String,
    value: Option<String>,
    wanted: bool,
}

impl LabelFilter {
    /// `None` if it is another filter.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (rest, wanted) = match text.strip_prefix("label!=") {
            Some(rest) => (rest, false),
            None => (text.strip_prefix("label=")?, true),
        };
        let (key, value) = match rest.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (rest, None),
        };
        Some(Self {
            key: key.to_owned(),
            value,
            wanted,
        })
    }

    pub(super) fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key);
        let has = found.is_some() && (self.value.is_none() || found == self.value.as_ref());
        has == self.wanted
    }
}

/// A volume, as `--json` and `inspect` print it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    driver: &'static str,
    mountpoint: PathBuf,
    created_at: String,
    labels: BTreeMap<String, String>,
    anonymous: bool,
    containers: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    volume::sweep(places)?;
    match &arguments.verb {
        Verb::Create { label, name } => create(places, name.as_deref(), label)?,
        Verb::Ls(arguments) => list(places, arguments)?,
        Verb::Inspect { format, names } => return inspect(places, format.as_ref(), names),
        Verb::Rm { force, names } => {
            return each::container(names, |name| remove(places, name, *force));
        }
        Verb::Prune(arguments) => return prune(places, arguments),
    }
    Ok(0)
}

fn create(places: &Places, name: Option<&str>, labels: &[(String, String)]) -> anyhow::Result<()> {
    let (name, anonymous) = match name {
        Some(name) => (name.to_owned(), false),
        None => (volume::random_name().context("make up a name")?, true),
    };
    let labels = labels.iter().cloned().collect();
    volume::create(places, &Volume::new(&name, labels, anonymous), true)?;
    output::line(&name)
}

fn list(places: &Places, arguments: &List) -> anyhow::Result<()> {
    let mut users = volume::users(places)?;
    let mut rows: Vec<Row> = volume::all(places)?
        .into_iter()
        .map(|volume| row(places, volume, &mut users))
        .collect();
    rows.retain(|row| is_wanted(&arguments.filter, row));
    if arguments.json {
        return output::json(&rows);
    }
    if arguments.quiet {
        return rows.iter().try_for_each(|row| output::line(&row.name));
    }
    let rows = rows.iter().map(fields).collect();
    let format = arguments.format.as_ref();
    format::print(format, &HEADINGS, &["Driver", "Name"], rows)
}

/// A row as templates know it, with Docker's names.
fn fields(row: &Row) -> Value {
    json!({
        "Driver": row.driver,
        "Name": row.name,
        "Mountpoint": row.mountpoint,
        "Scope": "local",
        "CreatedAt": row.created_at,
        "Labels": output::pairs(&row.labels).join(","),
        "Containers": row.containers.join(","),
    })
}

fn row(places: &Places, volume: Volume, users: &mut BTreeMap<String, Vec<String>>) -> Row {
    Row {
        driver: "local",
        mountpoint: volume::data(places, &volume.name),
        created_at: output::date(volume.created),
        containers: users.remove(&volume.name).unwrap_or_default(),
        name: volume.name,
        labels: volume.labels,
        anonymous: volume.anonymous,
    }
}

fn is_wanted(filters: &[Filter], row: &Row) -> bool {
    let mut names = filters.iter().filter_map(|filter| match filter {
        Filter::Name(part) => Some(part),
        _ => None,
    });
    let has_names = names.clone().next().is_some();
    let others = filters.iter().all(|filter| match filter {
        Filter::Dangling(wanted) => row.containers.is_empty() == *wanted,
        Filter::Label(label) => label.fits(&row.labels),
        Filter::Name(_) => true,
    });
    others && (!has_names || names.any(|part| row.name.contains(part)))
}

fn inspect(places: &Places, format: Option<&Template>, names: &[String]) -> Result<u8, Failure> {
    let mut users = volume::users(places)?;
    format::inspect(format, names, |name| {
        let row = row(places, volume::find(places, name)?, &mut users);
        let dockers = json!({
            "Name": row.name,
            "Driver": row.driver,
            "Mountpoint": row.mountpoint,
            "CreatedAt": row.created_at,
            "Labels": row.labels,
            "Scope": "local",
        });
        Ok(format::with(serde_json::to_value(&row)?, dockers))
    })
}

fn remove(places: &Places, name: &str, force: bool) -> anyhow::Result<()> {
    volume::check_name(name).map_err(anyhow::Error::msg)?;
    match volume::remove(places, name, None)? {
        Removal::Done(_) => Ok(()),
        Removal::Missing if force => Ok(()),
        Removal::Missing => bail!("no such volume: {name}"),
        Removal::InUse(containers) => bail!(
            "volume {name} is in use by {}; remove {} first",
            named(&containers),
            if containers.len() == 1 { "it" } else { "them" }
        ),
        Removal::Mounted(point) => bail!(
            "volume {name} has something mounted in it; unmount {} first",
            point.display()
        ),
        Removal::Busy => bail!("volume {name} is in use: it is being given to a container"),
    }
}

fn named(containers: &[String]) -> String {
    let what = if containers.len() == 1 {
        "container"
    } else {
        "containers"
    };
    format!("{what} {}", containers.join(", "))
}

fn prune(places: &Places, arguments: &Prune) -> Result<u8, Failure> {
    let mut labels = Vec::new();
    for filter in &arguments.filter {
        let Filter::Label(label) = filter else {
            let error = anyhow::anyhow!("volume prune filters by label= and label!= only");
            return Err(Failure::with_code(2, error));
        };
        labels.push(label.clone());
    }
    let which = if arguments.all {
        "all"
    } else {
        "the anonymous"
    };
    let question = format!("This removes {which} volumes that no container has.");
    if !confirm::asked(&question, arguments.force)? {
        return Ok(0);
    }
    let pruned = prune_unused(places, arguments.all, &labels)?;
    pruned.show()?;
    output::line(&format!(
        "Total reclaimed space: {}",
        output::decimal_size(pruned.bytes)
    ))?;
    Ok(0)
}

/// Volumes that were removed.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    names: Vec<String>,
    /// What they had on the disk.
    pub(super) bytes: u64,
}

impl Pruned {
    pub(super) fn show(&self) -> anyhow::Result<()> {
        if self.names.is_empty() {
            return Ok(());
        }
        output::line("Deleted Volumes:")?;
        self.names.iter().try_for_each(|name| output::line(name))?;
        output::line("")
    }
}

/// Removes the volumes that no container has and that fit; those with a name only with `all`.
pub(super) fn prune_unused(
    places: &Places,
    all: bool,
    labels: &[LabelFilter],
) -> anyhow::Result<Pruned> {
    volume::sweep(places)?;
    let mut pruned = Pruned::default();
    for volume in volume::all(places)? {
        let fits = labels.iter().all(|label| label.fits(&volume.labels));
        if !fits || !(all || volume.anonymous) {
            continue;
        }
        if let Removal::Done(bytes) = volume::remove(places, &volume.name, None)? {
            pruned.bytes += bytes;
            pruned.names.push(volume.name);
        }
    }
    let event = Event::of_volume("prune", "").with("reclaimed", pruned.bytes);
    events::tell(places, &event);
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_names_one_must_fit_and_of_labels_all() {
        let row = Row {
            name: "data".into(),
            driver: "local",
            mountpoint: "/data".into(),
            created_at: String::new(),
            labels: [("a".to_owned(), "1".to_owned())].into(),
            anonymous: false,
            containers: vec!["web".into()],
        };
        let fits = |texts: &[&str]| {
            let filters = texts.iter().map(|text| text.parse());
            let filters: Vec<Filter> = filters.collect::<Result<_, _>>().unwrap();
            is_wanted(&filters, &row)
        };
        assert!(fits(&[]) && fits(&["name=at", "name=x"]) && !fits(&["name=x"]));
        assert!(fits(&["label=a", "label=a=1", "label!=b"]));
        assert!(!fits(&["label=a", "label=a=2"]) && !fits(&["label!=a"]));
        assert!(fits(&["dangling=false"]) && !fits(&["dangling=true"]));
        for bad in ["dangling", "dangling=x", "driver=local", "label"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
