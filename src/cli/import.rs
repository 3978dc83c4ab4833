//! `mybox import`.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mybox_store::{
    Change, ImportOptions, ImportSource, Platform, Progress, Reference, Store, Warning,
};

use super::layer_form::LayerFormArgument;
use super::{output, values};
use crate::container::Places;
use crate::container::events::{self, Event};
use crate::error::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox import rootfs.tar.zst debian:bookworm
  debootstrap --variant=minbase stable tree && mybox import tree debian
  docker export web | mybox import -c 'CMD [\"nginx\"]' - web")]
pub(super) struct Arguments {
    /// Change the image's config, by a Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE,
    /// HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR; several as lines. $NAME is a variable of
    /// the image
    #[arg(short, long, value_name = "INSTRUCTION", value_parser = Change::parse)]
    change: Vec<Change>,
    /// A comment for the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// The platform the image is for, as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Refuse an archive of more than this many bytes, uncompressed
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    max_size: Option<u64>,
    #[command(flatten)]
    layer_form: LayerFormArgument,
    /// Print the digest alone: no progress, no warnings
    #[arg(short, long)]
    quiet: bool,
    /// A tar (plain, gzip, zstd, xz, bzip2), a directory, or - for a tar on standard input
    #[arg(value_name = "FILE|DIR|-")]
    source: PathBuf,
    /// The image's name
    #[arg(value_name = "REF")]
    reference: Option<Reference>,
}

pub(super) fn run(places: &Places, arguments: Arguments) -> Result<u8, Failure> {
    let store = arguments.layer_form.open(places)?;
    let options = ImportOptions {
        reference: arguments.reference,
        changes: arguments.change,
        message: arguments.message,
        platform: arguments.platform,
        max_size: arguments.max_size,
    };
    let mut display = Display::new(arguments.quiet);
    let mut show = |progress: Progress| display.show(progress);
    let source = &arguments.source;
    let image = if source.as_os_str() == "-" {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(anyhow::anyhow!("standard input is a terminal, not a tar").into());
        }
        import_stream(
            &store,
            &mut stdin.lock(),
            "standard input",
            None,
            &options,
            &mut show,
        )?
    } else {
        let metadata = source
            .metadata()
            .with_context(|| format!("open {}", source.display()))?;
        if metadata.is_dir() {
            store.import(ImportSource::Directory(source), &options, &mut show)?
        } else if metadata.is_file() {
            let mut file =
                File::open(source).with_context(|| format!("open {}", source.display()))?;
            let name = source.display().to_string();
            import_stream(
                &store,
                &mut file,
                &name,
                Some(metadata.len()),
                &options,
                &mut show,
            )?
        } else {
            let name = source.display();
            return Err(anyhow::anyhow!("{name} is neither a file nor a directory").into());
        }
    };
    display.finish();
    let name = options.reference.as_ref().map(Reference::familiar);
    let event = Event::of_image("import", &image.id.to_string());
    events::tell(places, &event.with("name", name.unwrap_or_default()));
    output::line(&image.manifest.to_string())?;
    Ok(0)
}

fn import_stream(
    store: &Store,
    reader: &mut dyn Read,
    name: &str,
    total: Option<u64>,
    options: &ImportOptions,
    show: &mut dyn FnMut(Progress),
) -> mybox_store::Result<mybox_store::Image> {
    store.import(
        ImportSource::Stream {
            reader,
            name,
            total,
        },
        options,
        show,
    )
}

/// Progress as a bar on a terminal, and not at all elsewhere; warnings everywhere.
pub(super) struct Display {
    bar: ProgressBar,
    quiet: bool,
}

impl Display {
    pub(super) fn new(quiet: bool) -> Self {
        let bar = if quiet || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new_spinner()
        };
        Self { bar, quiet }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Reading { bytes, total } => self.bytes("reading", bytes, total),
            Progress::Packing { bytes, .. } => self.bytes("packing", bytes, None),
            Progress::Waiting => self
                .bar
                .set_message("another process is unpacking this layer"),
            Progress::Unpacking { bytes, total, .. } => self.bytes("unpacking", bytes, Some(total)),
            Progress::Flushing => self.bar.set_message("writing to disk"),
            Progress::Warning(warning) => self.warn(&warning),
            // The store may come to report more; a bar need not show all of it.
            _ => {}
        }
    }

    fn bytes(&self, what: &'static str, bytes: u64, total: Option<u64>) {
        let template = match total {
            Some(total) => {
                self.bar.set_length(total);
                "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}"
            }
            None => "{msg} {spinner} {bytes} {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_message(what);
        self.bar.set_position(bytes);
    }

    fn warn(&self, warning: &Warning) {
        if self.quiet {
            return;
        }
        let text = match warning {
            Warning::SkippedSocket { path } => format!("left out the socket {path}"),
            Warning::SkippedMount { path } => format!("left out what is mounted on {path}"),
            Warning::SkippedArtifact { digest, kind } => {
                format!(
                    "left out {}: no image but an artifact of type {kind}",
                    digest.short()
                )
            }
            Warning::Changed { path } => format!("{path} was changed while it was read"),
            other => format!("{other:?}"),
        };
        self.bar.suspend(|| output::note(&text));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
