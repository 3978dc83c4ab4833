//! `mybox verify`.

use clap::Args;
use mybox_store::{Flaw, Part, Verified, VerifyEvent, VerifyOptions};
use serde::Serialize;

use super::layer_form::LayerFormArgument;
use super::output;
use super::registry::Trust;
use crate::container::Places;
use crate::error::Failure;
use crate::life::pull;
use crate::life::verify::{self, DamagedContainer};

#[derive(Debug, Args)]
#[command(after_help = "\
Without images everything is verified: blobs by digest and size, unpacked layers by the listing of
their tree, indexed ones by the digest of their tar and by making the index again, records of
containers. A damaged layer is laid down again from its own tar or its blob, in the form it has;
containers that have it mounted keep what they have. A damaged blob stays until there is another.

Exit codes: 0 all is well, or healed; 1 something is damaged, or lost.")]
pub(super) struct Arguments {
    /// Heal what is damaged: lay it down again, or fetch it again
    #[arg(long)]
    repair: bool,
    /// As JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// No summary, only what is wrong
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    layer_form: LayerFormArgument,
    #[command(flatten)]
    trust: Trust,
    /// Images: names, ids, digests [default: everything in the store]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    images: u64,
    blobs: u64,
    blob_bytes: u64,
    layers: u64,
    entries: u64,
    containers: u64,
    damaged: u64,
    repaired: u64,
    lost: u64,
    findings: Vec<Finding>,
}

/// One thing wrong, or what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    /// `damaged`, `repaired` or `lost`.
    event: &'static str,
    /// `index`, `blob`, `layer` or `container`.
    kind: &'static str,
    /// The digest, or the container's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Where in the layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// What is wrong, how it was repaired, or why it could not be.
    text: String,
    /// The images that need it.
    images: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let store = arguments.layer_form.open(places)?;
    let registry = arguments.trust.options(output::note);
    let options = VerifyOptions {
        images: &arguments.images,
        repair: arguments.repair,
        refetch: Some(&|wanted| Ok(pull::refetch(&store, &registry, wanted)?)),
    };
    let mut report = Report::default();
    let mut failed = Ok(());
    let mut tell = |finding: Finding| {
        if arguments.json {
            report.findings.push(finding);
        } else if failed.is_ok() {
            failed = output::line(&finding.line());
        }
    };
    let verified = store.verify(&options, &mut |event| tell(Finding::of(event)))?;
    let (containers, damaged) = match &arguments.images[..] {
        [] => verify::containers(places)?,
        _ => (0, Vec::new()),
    };
    let damaged_containers = damaged.len() as u64;
    damaged.into_iter().for_each(|one| tell(one.into()));
    failed?;
    report.count(&verified, containers, damaged_containers);
    if arguments.json {
        output::json(&report)?;
    } else if !arguments.quiet {
        output::line(&report.summary(arguments.repair))?;
    }
    let left = report.damaged - report.repaired;
    Ok(u8::from(left > 0))
}

impl Report {
    fn count(&mut self, verified: &Verified, containers: u64, damaged_containers: u64) {
        self.images = verified.images;
        self.blobs = verified.blobs;
        self.blob_bytes = verified.blob_bytes;
        self.layers = verified.layers;
        self.entries = verified.entries;
        self.containers = containers;
        self.damaged = verified.damaged + damaged_containers;
        self.repaired = verified.repaired;
        self.lost = verified.lost;
    }

    fn summary(&self, repair: bool) -> String {
        let looked_at = format!(
            "{}, {} ({}), {} ({}), {}",
            count(self.images, "image"),
            count(self.blobs, "blob"),
            output::decimal_size(self.blob_bytes),
            count(self.layers, "layer"),
            count(self.entries, "path"),
            count(self.containers, "container"),
        );
        let result = match (self.damaged, repair) {
            (0, _) => "all as it should be".to_owned(),
            (damaged, false) => format!("{damaged} damaged"),
            (damaged, true) => {
                let left = damaged - self.repaired;
                format!("{damaged} damaged, {} repaired, {left} lost", self.repaired)
            }
        };
        format!("{looked_at}: {result}")
    }
}

fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

impl Finding {
    fn of(event: VerifyEvent) -> Self {
        match event {
            VerifyEvent::Damaged(Flaw {
                part,
                path,
                problem,
                images,
            }) => Self::about("damaged", part, path, problem, images),
            VerifyEvent::Repaired { part, how } => {
                Self::about("repaired", part, None, how.to_owned(), Vec::new())
            }
            VerifyEvent::Lost {
                part,
                reason,
                images,
            } => Self::about("lost", part, None, reason, images),
        }
    }

    fn about(
        event: &'static str,
        part: Part,
        path: Option<String>,
        text: String,
        images: Vec<String>,
    ) -> Self {
        let (kind, id) = match part {
            Part::Index => ("index", None),
            Part::Blob(digest) => ("blob", Some(digest.to_string())),
            Part::Layer(layer) => ("layer", Some(layer.to_string())),
            Part::Merged(chain) => ("merged", Some(chain.to_string())),
        };
        Self {
            event,
            kind,
            id,
            path,
            text,
            images,
        }
    }

    /// `damaged: layer sha256:...: bin/ls: mode is 0700, not 0755 (docker.io/library/x:latest)`
    fn line(&self) -> String {
        let mut parts = vec![match &self.id {
            Some(id) => format!("{} {id}", self.kind),
            None => "index.json".to_owned(),
        }];
        parts.extend(self.path.clone());
        parts.push(self.text.clone());
        let images = match &self.images[..] {
            [] => String::new(),
            images => format!(" ({})", images.join(", ")),
        };
        format!("{}: {}{images}", self.event, parts.join(": "))
    }
}

impl From<DamagedContainer> for Finding {
    fn from(container: DamagedContainer) -> Self {
        Self {
            event: "damaged",
            kind: "container",
            id: Some(container.id.short().to_owned()),
            path: None,
            text: container.problem,
            images: Vec::new(),
        }
    }
}
