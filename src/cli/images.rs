//! `mybox images`.

use clap::Args;
use mybox_store::{Image, Reference, Store};
use serde::Serialize;

use super::output;
use crate::container::Places;
use crate::error::Failure;
use crate::life;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ids alone
    #[arg(short, long)]
    quiet: bool,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// One name of one image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    repository: Option<String>,
    tag: Option<String>,
    id: String,
    digest: String,
    /// Bytes, unpacked.
    size: u64,
    created: Option<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let images = store.images()?;
    let rows: Vec<Row> = images
        .iter()
        .flat_map(|image| rows(&store, image))
        .collect();
    if arguments.json {
        output::json(&rows)?;
    } else if arguments.quiet {
        for image in &images {
            output::line(&image.id.short())?;
        }
    } else {
        let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
        output::table(
            &["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"],
            &cells,
        )?;
    }
    Ok(0)
}

fn rows(store: &Store, image: &Image) -> Vec<Row> {
    let size = store.size(image);
    let row = |reference: Option<&Reference>| Row {
        repository: reference.map(Reference::familiar_repository),
        tag: reference.and_then(|reference| reference.tag().map(ToOwned::to_owned)),
        id: image.id.to_string(),
        digest: image.manifest.to_string(),
        size,
        created: image.created.clone(),
    };
    if image.references.is_empty() {
        vec![row(None)]
    } else {
        image
            .references
            .iter()
            .map(|reference| row(Some(reference)))
            .collect()
    }
}

fn cells(row: &Row) -> Vec<String> {
    let none = || "<none>".to_owned();
    let created = row.created.as_deref().and_then(output::epoch_seconds);
    let age = created.map(|then| output::ago(life::now().saturating_sub(then)));
    vec![
        row.repository.clone().unwrap_or_else(none),
        row.tag.clone().unwrap_or_else(none),
        row.id
            .trim_start_matches("sha256:")
            .chars()
            .take(12)
            .collect(),
        age.unwrap_or_else(|| "N/A".to_owned()),
        output::decimal_size(row.size),
    ]
}
