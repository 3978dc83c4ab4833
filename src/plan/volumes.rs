//! Which volumes a container has: those it was given, and those that its image asks for.

use std::path::{Component, Path, PathBuf};

use mybox_store::{Digest, ImageConfig};

use super::request::NamedVolume;
use super::{Error, Given, RunRequest};

/// A volume of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Where it appears in the container.
    pub destination: PathBuf,
    /// Where it lies on the host: the directory of all that belongs to it.
    pub dir: PathBuf,
    /// It cannot be written through this mount.
    pub read_only: bool,
    /// Whether it gets what the image has in its place, if it is empty.
    pub copies: bool,
    /// Whether nobody gave it a name.
    pub anonymous: bool,
    /// Whether it was another container's first, and so must be there.
    pub borrowed: bool,
    /// Whether it survives a power cut.
    pub lasts: bool,
}

impl Volume {
    /// What the container sees of it.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where what the image has is copied to.
    pub fn fill(&self) -> PathBuf {
        self.dir.join("fill")
    }

    /// The same when it is whole.
    pub fn filled(&self) -> PathBuf {
        self.dir.join("filled")
    }
}

/// All volumes: what was asked for, then what the image asks for where nothing else is mounted.
pub(super) fn wanted(
    request: &RunRequest,
    image: &ImageConfig,
    given: &Given,
) -> Result<Vec<Volume>, Error> {
    let covered = |path: &Path| request.mount_points().any(|it| it == path);
    let of_image = image.config.volumes.iter();
    let of_image = of_image
        .map(|path| of_image_at(path))
        .collect::<Result<Vec<PathBuf>, Error>>()?;
    let of_image = of_image.into_iter().filter(|path| !covered(path));
    let of_image = of_image.map(|destination| NamedVolume {
        destination,
        ..NamedVolume::default()
    });
    let asked = request.named_volumes.iter().cloned();
    Ok(asked
        .chain(of_image)
        .map(|it| volume(request, given, it))
        .collect())
}

fn volume(request: &RunRequest, given: &Given, asked: NamedVolume) -> Volume {
    let anonymous = asked.name.is_none();
    // Each start finds the same one.
    let made_up = || {
        let seed = format!("{} {}", given.id, asked.destination.display());
        Digest::of(seed.as_bytes()).hex()
    };
    let name = asked.name.unwrap_or_else(made_up);
    Volume {
        dir: given.volumes.join(&name),
        name,
        destination: asked.destination,
        read_only: asked.read_only,
        copies: !asked.no_copy,
        anonymous,
        borrowed: asked.borrowed,
        lasts: !(anonymous && request.remove),
    }
}

fn of_image_at(path: &str) -> Result<PathBuf, Error> {
    let destination = PathBuf::from(path);
    let plain = !destination
        .components()
        .any(|part| part == Component::ParentDir);
    if destination.is_absolute() && plain && destination != Path::new("/") {
        return Ok(destination);
    }
    Err(Error::Image {
        field: "volume",
        value: path.to_owned(),
        problem: "is not an absolute path below /",
    })
}
