//! `mybox export`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use mybox_store::{Store, Warning, pack_tree};
use rustix::fs::OFlags;

use super::{archive_output, output};
use crate::container::events::{self, Event};
use crate::container::{Places, find};
use crate::error::Failure;
use crate::life::tree;

const BUFFER: usize = 256 << 10;

#[derive(Debug, Args)]
#[command(after_help = "\
A tar of the container's whole tree, of its image and its own changes together, without what is in
its volumes. `mybox import` makes an image of it; `mybox commit` makes one that keeps the image's
layers and config.")]
pub(super) struct Arguments {
    /// The file [default: standard output, if that is no terminal]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A name, an id, or the beginning of one
    container: String,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let container = find::one(places, &arguments.container)?;
    let store = Store::open(&places.root)?;
    tree::with_own_files(places, &store, &container, |root| {
        archive_output::write(arguments.output.as_deref(), |out: &mut dyn Write| {
            let mut buffered = BufWriter::with_capacity(BUFFER, out);
            let mut warn = |warning: Warning| output::note(&warning.to_string());
            let directory = root.open_in("/".as_ref(), OFlags::RDONLY | OFlags::DIRECTORY)?;
            pack_tree(directory, &mut buffered, &mut warn)?;
            buffered.flush()?;
            Ok(())
        })
    })?;
    events::tell(places, &Event::of_container("export", &container.record));
    Ok(0)
}
