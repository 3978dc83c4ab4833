//! The images that a container is made of, and when they are pulled for it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use mybox_store::{Image, Platform, Store};

use super::output;
use super::progress::{self, Display, Style};
use crate::container::Places;
use crate::container::events::{self, Event};
use crate::life::pull::{self, PullPolicy};
use crate::plan::RunRequest;
use crate::registry::{self, Notice};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Image")]
pub(super) struct ImageArguments {
    /// When to pull the image: always, missing, never
    #[arg(long, value_name = "WHEN")]
    #[arg(default_value = "missing", value_parser = pull_policy)]
    pull: PullPolicy,
    /// Show nothing of a pull
    #[arg(short, long)]
    quiet: bool,
    /// The platform, where the image has several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
}

impl ImageArguments {
    pub(super) fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// Pulls the request's images where that is called for, and writes what they are called in the store
    /// and which they are into it. Progress goes where the command's errors go.
    pub(super) fn bring(
        &self,
        places: &Places,
        store: &Store,
        request: &mut RunRequest,
    ) -> anyhow::Result<Image> {
        let (image, name) = self.bring_one(places, store, &request.image)?;
        request.image = name;
        for mount in &mut request.image_mounts {
            let (image, name) = self
                .bring_one(places, store, &mount.image)
                .with_context(|| format!("mount the image {}", mount.image))?;
            (mount.image, mount.manifest) = (name, Some(image.manifest));
        }
        Ok(image)
    }

    fn bring_one(
        &self,
        places: &Places,
        store: &Store,
        image: &str,
    ) -> anyhow::Result<(Image, String)> {
        let display = Arc::new(Display::new(Style::choose(self.quiet, false)));
        let registry = registry::Options {
            notice: Notice::new(Display::notes(&display)),
            ..registry::Options::default()
        };
        let started = Instant::now();
        let watch = |event| display.show(event);
        let platform = self.platform.clone();
        let brought = pull::pull_for_run(store, image, platform, self.pull, registry, &watch);
        display.finish();
        let brought = brought?;
        if let Some(pulled) = brought.pulled {
            events::tell(
                places,
                &Event::of_image("pull", &pulled.reference.familiar()),
            );
            if !self.quiet {
                output::note(&progress::summary(&pulled, started.elapsed()));
            }
        }
        Ok((brought.image, brought.name))
    }
}

fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    match text {
        "always" => Ok(PullPolicy::Always),
        "missing" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        other => Err(format!("`{other}` is none of always, missing, never")),
    }
}
