//! `mybox save`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use mybox_store::{ArchiveFormat, Store};

use super::registry::Trust;
use super::{archive_output, output};
use crate::container::Places;
use crate::error::Failure;
use crate::life::pull;

const BUFFER: usize = 256 << 10;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox save -o app.tar app:1.0
  mybox save --format docker-archive app | docker load

oci-archive keeps manifests and blobs byte for byte; docker-archive is for older versions of docker.
Blobs that `mybox gc --compressed` has dropped are fetched again from where the image was pulled.")]
pub(super) struct Arguments {
    /// The file [default: standard output, if that is no terminal]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// oci-archive or docker-archive
    #[arg(long, value_name = "FORMAT", default_value_t)]
    format: ArchiveFormat,
    #[command(flatten)]
    trust: Trust,
    /// Images: names, ids, digests
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) fn run(places: &Places, arguments: Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let registry = arguments.trust.options(output::note);
    for image in &arguments.images {
        pull::bring_back(&store, image, &registry, &|wanted| {
            let digest = wanted.digest.short();
            output::note(&format!("fetching {digest} again: it was dropped"));
        })?;
    }
    let save = |output: &mut dyn Write| -> anyhow::Result<()> {
        let mut buffered = BufWriter::with_capacity(BUFFER, output);
        store.save(&arguments.images, arguments.format, &mut buffered)?;
        Ok(())
    };
    archive_output::write(arguments.output.as_deref(), save)?;
    Ok(0)
}
