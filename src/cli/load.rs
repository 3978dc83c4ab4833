//! `mybox load`.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use mybox_store::{Loaded, Store};
use serde::Serialize;

use super::import::Display;
use super::layer_form::LayerFormArgument;
use super::output;
use crate::container::Places;
use crate::container::events::{self, Event};
use crate::error::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox load -i app.tar
  docker save app | mybox load
  skopeo copy docker://quay.io/team/app oci-archive:app.tar:app && mybox load -i app.tar

Archives of both kinds are taken, plain or compressed, as docker, podman, skopeo and mybox write
them, and directories with the same in them, as image layouts are.")]
pub(super) struct Arguments {
    /// The file or directory [default: standard input]
    #[arg(short, long, value_name = "FILE|DIR")]
    input: Option<PathBuf>,
    #[command(flatten)]
    layer_form: LayerFormArgument,
    /// Print the ids alone
    #[arg(short, long)]
    quiet: bool,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// What `--json` prints of an image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    reference: Option<String>,
    id: String,
    digest: String,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = arguments.layer_form.open(places)?;
    let mut display = Display::new(arguments.quiet);
    let loaded = match &arguments.input {
        Some(path) if path.is_dir() => {
            let loaded = store.load_directory(path, &mut |progress| display.show(progress));
            display.finish();
            loaded?
        }
        Some(path) if path.as_os_str() != "-" => {
            let name = path.display().to_string();
            let mut file = File::open(path).with_context(|| format!("open {name}"))?;
            load(&store, &mut file, &name, &mut display)?
        }
        _ => {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                let error = anyhow!("standard input is a terminal; name a file with --input");
                return Err(error.into());
            }
            load(&store, &mut stdin.lock(), "standard input", &mut display)?
        }
    };
    for image in &loaded {
        let name = image.reference.as_ref().map(|it| it.familiar());
        let event = Event::of_image("load", &image.id.to_string());
        events::tell(places, &event.with("name", name.unwrap_or_default()));
    }
    if arguments.json {
        let rows: Vec<Row> = loaded.iter().map(Row::of).collect();
        output::json(&rows)?;
        return Ok(0);
    }
    for image in &loaded {
        output::line(&match &image.reference {
            _ if arguments.quiet => image.id.to_string(),
            Some(reference) => format!("Loaded image: {}", reference.familiar()),
            None => format!("Loaded image ID: {}", image.id),
        })?;
    }
    Ok(0)
}

fn load(
    store: &Store,
    input: &mut dyn Read,
    name: &str,
    display: &mut Display,
) -> mybox_store::Result<Vec<Loaded>> {
    let loaded = store.load(input, name, &mut |progress| display.show(progress));
    display.finish();
    loaded
}

impl Row {
    fn of(loaded: &Loaded) -> Self {
        Self {
            reference: loaded.reference.as_ref().map(ToString::to_string),
            id: loaded.id.to_string(),
            digest: loaded.digest.to_string(),
        }
    }
}
