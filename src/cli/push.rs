//! `mybox push`.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mybox_store::{Digest, Reference, Store};

use super::output;
use super::registry::Trust;
use crate::container::Places;
use crate::error::Failure;
use crate::life::push::{self, PushEvent, PushRequest, PushStep};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox push localhost:5000/app:1
  mybox push app:1 registry.example.com/team/app:1.2.3

The manifest is pushed as it is: its digest is the same there as here. Where a tag names an index,
all its images are pushed; if only one of them is here, that one. Blobs that the registry has, in
this repository or in another one that the image has a name of, are not sent again.")]
pub(super) struct Arguments {
    /// How many blobs to send at a time
    #[arg(short, long, value_name = "NUMBER", default_value_t = push::JOBS as u8)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=32))]
    jobs: u8,
    /// Print the digest alone
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    trust: Trust,
    /// The image
    #[arg(value_name = "REF")]
    name: String,
    /// Where to, and under which name [default: where its name says]
    #[arg(value_name = "DESTINATION")]
    destination: Option<Reference>,
}

pub(super) fn run(places: &Places, arguments: Arguments) -> Result<u8, Failure> {
    let store = Store::open(&places.root)?;
    let display = Arc::new(Display::new(arguments.quiet));
    let destination = match arguments.destination {
        Some(destination) => destination,
        None => arguments.name.parse()?,
    };
    let shown = destination.familiar_repository();
    let tag = destination.tag().unwrap_or_default().to_owned();
    let request = PushRequest {
        name: arguments.name,
        destination,
        jobs: arguments.jobs.into(),
        registry: arguments.trust.options(Display::notes(&display)),
    };
    display.note(&format!("pushing to {shown}"));
    let told = Arc::clone(&display);
    let pushed = push::push(&store, &request, Arc::new(move |event| told.show(event)));
    display.finish();
    let pushed = pushed?;
    if arguments.quiet {
        output::line(&pushed.digest.to_string())?;
    } else {
        let (digest, size) = (pushed.digest, pushed.size);
        output::line(&format!("{tag}: digest: {digest} size: {size}"))?;
    }
    Ok(0)
}

/// A bar for each blob on a terminal, and a line for what became of each elsewhere.
struct Display {
    is_terminal: bool,
    is_quiet: bool,
    bars: MultiProgress,
    blobs: Mutex<Vec<Blob>>,
}

struct Blob {
    digest: Digest,
    bar: ProgressBar,
    is_sending: bool,
}

impl Display {
    fn new(is_quiet: bool) -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            is_quiet,
            bars: MultiProgress::new(),
            blobs: Mutex::default(),
        }
    }

    fn show(&self, event: PushEvent) {
        if self.is_quiet {
            return;
        }
        // A thread that panicked has left at worst a bar that stands still.
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            PushEvent::BringingBack { digest } => {
                self.note(&format!(
                    "fetching {} again: it was dropped",
                    digest.short()
                ));
            }
            PushEvent::OneImage { left_out } => self.note(&format!(
                "the only image of it that is here goes alone, without {}; `mybox pull -a` fetches those",
                left_out.join(", ")
            )),
            PushEvent::Began { blobs: all } => {
                *blobs = all
                    .iter()
                    .map(|(digest, size)| self.blob(*digest, *size))
                    .collect();
            }
            PushEvent::Blob { number, step } => self.step(&mut blobs[number], step),
        }
    }

    /// For whoever has something to say beside the events.
    fn notes(display: &Arc<Self>) -> impl Fn(&str) + Send + Sync + 'static + use<> {
        let display = Arc::clone(display);
        move |text| display.note(text)
    }

    fn note(&self, text: &str) {
        if !self.is_quiet {
            self.bars.suspend(|| output::note(text));
        }
    }

    fn blob(&self, digest: Digest, size: u64) -> Blob {
        let bar = if self.is_terminal {
            self.bars.add(ProgressBar::new(size))
        } else {
            ProgressBar::hidden()
        };
        bar.set_prefix(digest.short());
        set_style(&bar, "{prefix} {msg}");
        bar.set_message("waiting");
        Blob {
            digest,
            bar,
            is_sending: false,
        }
    }

    fn step(&self, blob: &mut Blob, step: PushStep) {
        let text = match step {
            PushStep::Sending { bytes } => {
                blob.bar.set_position(bytes);
                if blob.is_sending {
                    return;
                }
                blob.is_sending = true;
                set_style(
                    &blob.bar,
                    "{prefix} {msg:<8} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}",
                );
                "sending".to_owned()
            }
            PushStep::There => self.end(blob, "already there".to_owned()),
            PushStep::Mounted { from } => self.end(blob, format!("mounted from {from}")),
            PushStep::Sent => self.end(blob, "sent".to_owned()),
        };
        blob.bar.set_message(text.clone());
        if !self.is_terminal {
            self.note(&format!("{}: {text}", blob.digest.short()));
        }
    }

    fn end(&self, blob: &Blob, text: String) -> String {
        set_style(&blob.bar, "{prefix} {msg}");
        text
    }

    fn finish(&self) {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        for blob in &*blobs {
            blob.bar.abandon();
        }
    }
}

fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
