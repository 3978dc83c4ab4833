//! `mybox commit`.

use clap::{ArgAction, Args};
use mybox_store::{Change, Reference};

use super::import::Display;
use super::layer_form::LayerFormArgument;
use super::output;
use crate::container::events::{self, Event};
use crate::container::{Places, find};
use crate::error::Failure;
use crate::life::commit::{self, CommitRequest};

#[derive(Debug, Args)]
#[command(after_help = "\
The container's changes become one more layer on its image, and its command, environment, user and
working directory the new image's. What is in volumes is not part of it. The image's id is printed.

Examples:
  mybox commit web site:2
  mybox commit -c 'CMD [\"nginx\", \"-g\", \"daemon off;\"]' -c 'EXPOSE 80' -m 'with nginx' web site")]
pub(super) struct Arguments {
    /// Who made it, as \"Jane <jane@example.com>\"
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// A comment for the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Change the image's config, by a Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE,
    /// HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR; several as lines. $NAME is a variable of
    /// the image
    #[arg(short, long, value_name = "INSTRUCTION", value_parser = Change::parse)]
    change: Vec<Change>,
    /// Stop the container's processes while it is read
    #[arg(short, long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1)]
    #[arg(
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true"
    )]
    pause: bool,
    #[command(flatten)]
    layer_form: LayerFormArgument,
    /// Print the id alone: no progress, no warnings
    #[arg(short, long)]
    quiet: bool,
    /// A name, an id, or the beginning of one
    container: String,
    /// The image's name
    #[arg(value_name = "REF")]
    reference: Option<Reference>,
}

pub(super) fn run(places: &Places, arguments: Arguments) -> Result<u8, Failure> {
    let container = find::one(places, &arguments.container)?;
    let store = arguments.layer_form.open(places)?;
    let mut display = Display::new(arguments.quiet);
    let request = CommitRequest {
        reference: arguments.reference,
        author: arguments.author,
        message: arguments.message,
        changes: arguments.change,
        pause: arguments.pause,
    };
    let image = commit::commit(places, &store, &container, request, &mut |progress| {
        display.show(progress);
    })?;
    display.finish();
    let event = Event::of_container("commit", &container.record);
    events::tell(places, &event.with("imageID", image.id));
    output::line(&image.id.to_string())?;
    Ok(0)
}
