//! `mybox history`.

use clap::{ArgAction, Args};
use mybox_store::{DiffId, History, Image, Object, Store, Survey};
use serde::Serialize;
use serde_json::{Value, json};

use super::format::{self, Format, Heading};
use super::output;
use crate::container::Places;
use crate::error::Failure;
use crate::life;

#[derive(Debug, Args)]
#[command(after_help = concat!("\
The newest step comes first. SIZE is what the step's layer takes on the disk.

--json prints a list of {id, created, createdBy, size, comment, author, layer, blob}: id is that of
the image and only in the first, layer the diff id of the step's layer and blob the digest of the
blob it comes in, null for steps that made none.

", format::format_help!("{{.CreatedBy}} {{.Size}}")))]
pub(super) struct Arguments {
    /// The image: a name, an id, a digest, or the beginning of one
    image: String,
    /// Sizes and times as people read them; false: bytes, and times to the second
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, num_args = 0..=1)]
    #[arg(default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    human: bool,
    /// Ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Each as a template says: '{{.CreatedBy}}', 'table {{.Size}}\t{{.CreatedBy}}', json
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "json"])]
    format: Option<Format>,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// What `--format` can ask for.
const HEADINGS: [Heading; 6] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// One step of how the image came to be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    id: Option<String>,
    created: Option<String>,
    pub(super) created_by: String,
    size: u64,
    comment: String,
    author: String,
    pub(super) layer: Option<DiffId>,
    blob: Option<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let image = store.find(&arguments.image)?;
    let survey = store.survey(&mybox_store::no_uses)?;
    let mut steps = steps(&survey, &image);
    steps.reverse();
    if let Some(newest) = steps.first_mut() {
        newest.id = Some(image.id.to_string());
    }
    if arguments.json {
        output::json(&steps)?;
    } else if arguments.quiet {
        for step in &steps {
            output::line(&id(step, arguments))?;
        }
    } else {
        let usual = ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"];
        let rows = steps.iter().map(|step| fields(step, arguments)).collect();
        format::print(arguments.format.as_ref(), &HEADINGS, &usual, rows)?;
    }
    Ok(0)
}

/// The steps, the oldest first. Layers that no step tells of are steps without a description.
pub(super) fn steps(survey: &Survey, image: &Image) -> Vec<Step> {
    let mut layers = image.layers.iter().zip(&image.blobs);
    let mut steps = Vec::new();
    let untold = History::default();
    let told = image.config.history.iter();
    let told: Vec<&History> = told.collect();
    let with_layers = told.iter().filter(|step| !step.empty_layer).count();
    let missing = image.layers.len().saturating_sub(with_layers);
    let all = told
        .into_iter()
        .chain(std::iter::repeat_n(&untold, missing));
    for step in all {
        let layer = if step.empty_layer {
            None
        } else {
            layers.next()
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        steps.push(Step {
            id: None,
            created: step.created.clone(),
            created_by: text(&step.created_by),
            size: layer.map_or(0, |(layer, _)| survey.bytes(Object::Layer(*layer))),
            comment: text(&step.comment),
            author: text(&step.author),
            layer: layer.map(|(layer, _)| *layer),
            blob: layer.map(|(_, blob)| blob.digest.to_string()),
        });
    }
    steps
}

fn id(step: &Step, arguments: &Arguments) -> String {
    let id = step.id.as_deref();
    id.map_or_else(
        || "<missing>".to_owned(),
        |id| output::id(id, arguments.no_trunc),
    )
}

/// A row as templates know it, with Docker's names.
fn fields(step: &Step, arguments: &Arguments) -> Value {
    const LONGEST: usize = 45;
    let created = step.created.as_deref().and_then(output::epoch_seconds);
    let created_at = step.created.as_deref().unwrap_or("N/A");
    let since = match created {
        Some(then) if arguments.human => output::ago(life::now().saturating_sub(then)),
        _ => created_at.to_owned(),
    };
    let command = if arguments.no_trunc {
        step.created_by.clone()
    } else {
        output::shortened(&step.created_by, LONGEST)
    };
    let size = if arguments.human {
        output::decimal_size(step.size)
    } else {
        step.size.to_string()
    };
    json!({
        "ID": id(step, arguments),
        "CreatedSince": since,
        "CreatedAt": created_at,
        "CreatedBy": command,
        "Size": size,
        "Comment": step.comment,
    })
}
