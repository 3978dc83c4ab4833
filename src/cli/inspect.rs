//! `mybox inspect`.

use clap::Args;
use mybox_store::{Image, Store};
use serde_json::{Value, json};

use super::{output, ps};
use crate::container::Places;
use crate::error::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Images or containers, by name, id, digest, or the beginning of one
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let mut documents = Vec::new();
    let mut code = 0;
    for name in &arguments.names {
        match document(places, &store, name) {
            Ok(document) => documents.push(document),
            Err(error) => {
                Failure::from(error).show();
                code = 1;
            }
        }
    }
    output::json(&documents)?;
    Ok(code)
}

/// A container if one has this name, else an image, as Docker looks.
fn document(places: &Places, store: &Store, name: &str) -> anyhow::Result<Value> {
    if let Ok(row) = ps::find(places, name) {
        let spec = std::fs::read(places.container(&row.record.id).join("config.json"))?;
        let mut document = serde_json::to_value(&row)?;
        document["spec"] = serde_json::from_slice(&spec)?;
        return Ok(document);
    }
    let image = store.find(name)?;
    image_document(store, &image)
}

fn image_document(store: &Store, image: &Image) -> anyhow::Result<Value> {
    let references: Vec<String> = image.references.iter().map(ToString::to_string).collect();
    let layers: Vec<String> = image.layers.iter().map(ToString::to_string).collect();
    Ok(json!({
        "id": image.id.to_string(),
        "digest": image.manifest.to_string(),
        "references": references,
        "created": image.created,
        "size": store.size(image),
        "layers": layers,
        "config": serde_json::from_slice::<Value>(image.config_bytes())?,
        "manifest": serde_json::from_slice::<Value>(image.manifest_bytes())?,
    }))
}
