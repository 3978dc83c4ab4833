//! `mybox cp`.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use mybox_store::{Store, Warning};

use super::output;
use crate::container::{Places, find};
use crate::error::Failure;
use crate::life::copy::{self, Source, Typed};
use crate::life::{pull, tree};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mybox cp web:/etc/nginx/nginx.conf .
  mybox cp site/. web:/srv/www              what is in the directory
  mybox cp web:/var/log - | tar -tv         as a tar; - on the left is a tar that is unpacked
  mybox cp debian:12:/etc/debian_version .  a file of an image

IMAGE:/PATH on the left is a file of an image, if no container has that name: out of the layers,
with nothing mounted.

Paths of a container begin at its root, whether it runs or not. A directory that is there gets the
source into it; one that is not there becomes the source; a file is replaced. Directories within the
source that are there already get its modes and owners, and keep what else is in them; the
destination itself stays as it is. A name with a colon on this machine is written ./a:b.

A container that does not run has no tmpfs: what would lie in one is refused.

What is copied is root's in a container and the caller's on this machine, unless there is --archive;
an archive on standard input says itself whose things are.")]
pub(super) struct Arguments {
    /// Keep users and groups
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link leads to, where the source is one
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing of what is left out
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, IMAGE:/PATH, a path of this machine, or - for a tar on standard input
    source: String,
    /// The same, - being standard output
    destination: String,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Container(&'a str, &'a str),
    Here(&'a str),
    Stream,
}

impl<'a> Side<'a> {
    /// Docker's rule: what comes before a colon is a container, unless that begins like a path.
    fn parse(word: &'a str) -> Self {
        match word.split_once(':') {
            _ if word == "-" => Self::Stream,
            Some((container, path)) if !word.starts_with(['/', '.']) => {
                Self::Container(container, path)
            }
            _ => Self::Here(word),
        }
    }
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let sides = (
        Side::parse(&arguments.source),
        Side::parse(&arguments.destination),
    );
    match sides {
        (Side::Container(name, path), to) if !matches!(to, Side::Container(..)) => {
            out_of(places, arguments, name, path, &to)?;
        }
        (from, Side::Container(name, path)) if !matches!(from, Side::Container(..)) => {
            into(places, arguments, &from, name, path)?;
        }
        (Side::Container(..), _) => {
            let what = "from one container to another: copy by way of this machine, or with a tar";
            return Err(Failure::with_code(
                1,
                anyhow::anyhow!("cp does not copy {what}"),
            ));
        }
        _ => {
            let what = "one side must be a container: CONTAINER:PATH";
            return Err(Failure::with_code(1, anyhow::anyhow!("{what}")));
        }
    }
    Ok(0)
}

fn out_of(
    places: &Places,
    arguments: &Arguments,
    name: &str,
    path: &str,
    to: &Side<'_>,
) -> Result<()> {
    let store = Store::open(&places.root)?;
    if *to == Side::Stream && io::stdout().is_terminal() {
        bail!("standard output is a terminal; redirect it, or name a file");
    }
    // Opened in the host's mount namespace: a path means what it meant to the caller.
    let here = copy::this_machine()?;
    let owner = (!arguments.archive).then(own_ids);
    let hand_on = |source: &Source| {
        let mut warn = |warning| report(arguments, &warning);
        match to {
            Side::Here(to) => copy::copy(source, &here, &on_host(to)?, owner, &mut warn),
            _ => source.pack(None, &mut io::stdout().lock(), &mut warn),
        }
    };
    let Some(container) = find::one_or_none(places, name)? else {
        let no_container = || format!("no such container: {name}");
        // No image's name has `:/` in it.
        let image = arguments.source.split_once(":/").map(|(image, _)| image);
        let image = image.with_context(no_container)?;
        let found = pull::find_here(&store, image, None).with_context(no_container)?;
        let path = typed(&arguments.source[image.len() + 1..])?;
        let files = store.image_files(&found.image)?;
        return Source::find_in_image(files, &path, arguments.follow_link)
            .and_then(|source| hand_on(&source))
            .with_context(|| format!("copy from image {image}"));
    };
    let from = typed(path)?;
    tree::with_root(places, &store, &container, from.path(), |root| {
        hand_on(&Source::find(root, &from, arguments.follow_link)?)
    })
    .with_context(|| format!("copy from container {name}"))
}

fn into(
    places: &Places,
    arguments: &Arguments,
    from: &Side<'_>,
    name: &str,
    path: &str,
) -> Result<()> {
    let container = find::one(places, name)?;
    let store = Store::open(&places.root)?;
    let to = typed(path)?;
    let source = match from {
        Side::Here(from) => Some(Source::find(
            &copy::this_machine()?,
            &on_host(from)?,
            arguments.follow_link,
        )?),
        _ if io::stdin().is_terminal() => bail!("standard input is a terminal, and no tar"),
        _ => None,
    };
    let owner = (!arguments.archive).then_some((0, 0));
    tree::with_root(
        places,
        &store,
        &container,
        to.path(),
        |root| match &source {
            Some(source) => {
                let mut warn = |warning| report(arguments, &warning);
                copy::copy(source, root, &to, owner, &mut warn)
            }
            None => copy::unpack_into(io::stdin().lock(), root, &to, None),
        },
    )
    .with_context(|| format!("copy to container {name}"))
}

fn typed(path: &str) -> Result<Typed> {
    if path.is_empty() {
        bail!("there is no path after the colon");
    }
    Ok(Typed::new(OsStr::new(path)))
}

/// A path of this machine, relative to the working directory.
fn on_host(path: &str) -> Result<Typed> {
    let mut whole = std::env::current_dir().context("find the working directory")?;
    whole.push(PathBuf::from(path));
    // As it was typed: what it ends with says something.
    let mut bytes = whole.as_os_str().as_bytes().to_vec();
    if path == "." {
        bytes = [&bytes[..], b"/."].concat();
    }
    Ok(Typed::new(OsStr::from_bytes(&bytes)))
}

fn own_ids() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

fn report(arguments: &Arguments, warning: &Warning) {
    if !arguments.quiet {
        output::note(&warning.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_makes_a_container_unless_the_word_begins_like_a_path() {
        assert_eq!(Side::parse("web:/etc"), Side::Container("web", "/etc"));
        assert_eq!(Side::parse("web:a:b"), Side::Container("web", "a:b"));
        assert_eq!(Side::parse("./a:b"), Side::Here("./a:b"));
        assert_eq!(Side::parse("/a:b"), Side::Here("/a:b"));
        assert_eq!(Side::parse("file"), Side::Here("file"));
        assert_eq!(Side::parse("-"), Side::Stream);
    }
}
