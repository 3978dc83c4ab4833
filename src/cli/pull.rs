//! `mybox pull`.

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use mybox_store::Platform;

use super::layer_form::LayerFormArgument;
use super::output;
use super::progress::{self, Style};
use super::registry::Trust;
use crate::container::Places;
use crate::container::events::{self, Event};
use crate::error::Failure;
use crate::life::pull::{self, Platforms, PullRequest};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox pull ubuntu:jammy
  mybox pull --platform linux/arm64 ghcr.io/me/tool@sha256:...
  mybox pull --json localhost:5000/app | jq .

An interrupted pull goes on where it stopped. Accounts are those of `mybox login`, docker and
podman; mirrors and short names those of /etc/containers/registries.conf, if there is one;
certificates those of the system, of /etc/docker/certs.d/HOST and of /etc/containers/certs.d/HOST.

With --json, a line for each event: {\"event\":\"resolved\",\"reference\",\"layers\":[{\"digest\",\"size\"}]},
{\"event\":\"layer\",\"digest\",\"state\",\"bytes\"}, {\"event\":\"pulled\",\"reference\",\"digest\",\"id\",\"manifest\",
\"new\",\"bytes\"}. States: there, elsewhere, resumed, downloading, retrying, unpacking, flushing, done.")]
pub(super) struct Arguments {
    /// The platform, where there are several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Pull the images of all platforms
    #[arg(short, long, conflicts_with = "platform")]
    all_platforms: bool,
    /// How many layers to fetch at a time
    #[arg(short, long, value_name = "NUMBER", default_value_t = pull::JOBS as u8)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=32))]
    jobs: u8,
    /// Print the digest alone
    #[arg(short, long)]
    quiet: bool,
    /// Print events as JSON, a line each
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    #[command(flatten)]
    layer_form: LayerFormArgument,
    #[command(flatten)]
    trust: Trust,
    /// The image: NAME, NAME:TAG, NAME@DIGEST
    #[arg(value_name = "REF")]
    name: String,
}

pub(super) fn run(places: &Places, arguments: Arguments) -> Result<u8, Failure> {
    let store = arguments.layer_form.open(places)?;
    let style = Style::choose(arguments.quiet, arguments.json);
    let display = Arc::new(progress::Display::new(style));
    let request = PullRequest {
        name: arguments.name,
        platforms: match arguments.platform {
            Some(platform) => Platforms::One(platform),
            None if arguments.all_platforms => Platforms::All,
            None => Platforms::Own,
        },
        jobs: arguments.jobs.into(),
        registry: arguments.trust.options(progress::Display::notes(&display)),
    };
    let started = Instant::now();
    let pulled = pull::pull(&store, &request, &|event| display.show(event));
    display.finish();
    let pulled = pulled?;
    events::tell(
        places,
        &Event::of_image("pull", &pulled.reference.familiar()),
    );
    if arguments.json {
        progress::pulled_as_json(&pulled)?;
        return Ok(0);
    }
    if !arguments.quiet {
        output::note(&progress::summary(&pulled, started.elapsed()));
    }
    output::line(&pulled.digest.to_string())?;
    Ok(0)
}
