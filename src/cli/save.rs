//! `mybox save`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use mybox_store::{ArchiveFormat, Store};

use super::output;
use super::registry::Trust;
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
    match &arguments.output {
        Some(path) => to_file(path, save)?,
        None if io::stdout().is_terminal() => {
            let error = anyhow!("standard output is a terminal; name a file with --output");
            return Err(error.into());
        }
        None => save(&mut io::stdout().lock())?,
    }
    Ok(0)
}

/// Writes beside the file, and gives it its name when it is whole. What is no regular file, as a
/// pipe or /dev/null, is written to as it is.
fn to_file(path: &Path, save: impl Fn(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let there = fs::metadata(path);
    if there.is_ok_and(|there| !there.is_file()) {
        let file = File::options().write(true).open(path);
        return save(&mut file.with_context(|| format!("open {}", path.display()))?);
    }
    let partial = Partial::beside(path)?;
    save(&mut &partial.file)?;
    partial.publish(path)
}

/// The file while it is written; removed unless it is published.
struct Partial {
    file: File,
    path: PathBuf,
    is_published: bool,
}

impl Partial {
    fn beside(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name();
        let name = name.with_context(|| format!("{} is no name of a file", path.display()))?;
        let mut partial = OsString::from(".");
        partial.push(name);
        partial.push(format!(".{}", std::process::id()));
        let path = path.with_file_name(partial);
        let file = File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self {
            file,
            path,
            is_published: false,
        })
    }

    fn publish(mut self, path: &Path) -> anyhow::Result<()> {
        self.file
            .sync_all()
            .with_context(|| format!("flush {}", self.path.display()))?;
        fs::rename(&self.path, path).with_context(|| format!("create {}", path.display()))?;
        self.is_published = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_published {
            // The error that is reported is the one that came first.
            let _ = fs::remove_file(&self.path);
        }
    }
}
