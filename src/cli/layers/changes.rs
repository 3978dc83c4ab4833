//! `mybox layers IMAGE` and `mybox layers diff`: which paths, and how much.

use std::collections::BTreeMap;

use clap::Args;
use mybox_store::{Difference, How, Object, Store};
use serde::Serialize;

use crate::cli::{history, output};
use crate::error::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image that is there: a name, an id, a digest, or the beginning of one
    from: String,
    /// The image that is compared with it
    to: String,
    /// The sums alone
    #[arg(long, conflicts_with = "json")]
    summary: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    diff_id: String,
    changes: Vec<Change>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    path: String,
    change: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    bytes_before: u64,
    bytes_after: u64,
}

/// What each layer of an image does.
pub(super) fn of_layers(
    store: &Store,
    name: &str,
    summary: bool,
    json: bool,
) -> Result<u8, Failure> {
    let image = store.find(name)?;
    let layers = store.layer_differences(&image)?;
    if json {
        let layers = layers.iter().map(|layer| Layer {
            diff_id: layer.diff_id.to_string(),
            changes: layer.differences.iter().map(change).collect(),
        });
        output::json(&layers.collect::<Vec<_>>())?;
        return Ok(0);
    }
    let survey = store.survey(&mybox_store::no_uses)?;
    let steps = history::steps(&survey, &image);
    let steps: Vec<&history::Step> = steps.iter().filter(|step| step.layer.is_some()).collect();
    for (number, layer) in layers.iter().enumerate() {
        if number > 0 {
            output::line("")?;
        }
        let bytes = survey.bytes(Object::Layer(layer.diff_id));
        output::line(&format!(
            "Layer {} of {}: {}, {} on disk",
            number + 1,
            layers.len(),
            layer.diff_id.digest().short(),
            output::decimal_size(bytes)
        ))?;
        if let Some(step) = steps.get(number).filter(|step| !step.created_by.is_empty()) {
            output::line(&format!("  {}", output::visible(&step.created_by)))?;
        }
        show(&layer.differences, summary)?;
    }
    Ok(0)
}

/// How the trees of two images differ.
pub(super) fn between(store: &Store, arguments: &Arguments) -> Result<u8, Failure> {
    let (from, to) = (store.find(&arguments.from)?, store.find(&arguments.to)?);
    let differences = store.differences(&from, &to)?;
    if arguments.json {
        output::json(&differences.iter().map(change).collect::<Vec<_>>())?;
    } else {
        show(&differences, arguments.summary)?;
    }
    Ok(0)
}

/// The paths, unless only sums are wanted, and the sums.
fn show(differences: &[Difference], summary: bool) -> anyhow::Result<()> {
    if !summary {
        for difference in differences {
            output::line(&line(difference))?;
        }
    }
    let mut sums: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for difference in differences {
        let (count, bytes) = sums.entry(word(difference.how)).or_default();
        *count += 1;
        *bytes += difference.before.max(difference.after);
    }
    let sums: Vec<String> = sums
        .iter()
        .map(|(word, (count, bytes))| format!("{count} {word} ({})", output::decimal_size(*bytes)))
        .collect();
    let sums = if sums.is_empty() {
        "nothing".to_owned()
    } else {
        sums.join(", ")
    };
    output::line(&format!("  {sums}"))
}

/// `A  16.4kB  /usr/bin/env`: as `docker diff`, with sizes.
fn line(difference: &Difference) -> String {
    let (letter, size) = match difference.how {
        How::Added => ('A', output::decimal_size(difference.after)),
        How::Deleted => ('D', output::decimal_size(difference.before)),
        How::Changed if difference.before == difference.after => {
            ('C', output::decimal_size(difference.after))
        }
        How::Changed => (
            'C',
            format!(
                "{} -> {}",
                output::decimal_size(difference.before),
                output::decimal_size(difference.after)
            ),
        ),
    };
    let slash = if difference.what == "directory" && difference.path != b"." {
        "/"
    } else {
        ""
    };
    format!("  {letter} {size:>17}  {}{slash}", path(difference))
}

fn path(difference: &Difference) -> String {
    let path = if difference.path == b"." {
        String::new()
    } else {
        String::from_utf8_lossy(&difference.path).into_owned()
    };
    output::visible(&format!("/{path}"))
}

fn change(difference: &Difference) -> Change {
    Change {
        path: path(difference),
        change: word(difference.how),
        kind: difference.what,
        bytes_before: difference.before,
        bytes_after: difference.after,
    }
}

fn word(how: How) -> &'static str {
    match how {
        How::Added => "added",
        How::Changed => "changed",
        How::Deleted => "deleted",
    }
}
