//! The flags of `run` and `create` that mount something into a container: `-v`, `--mount`, `--tmpfs`.

use std::path::{Component, Path, PathBuf};

use clap::Args;

use super::{output, values};
use crate::container::volume;
use crate::plan::RunRequest;
use crate::plan::request::{ImageMount, NamedVolume, Propagation, Tmpfs, Volume, VolumesFrom};

#[derive(Debug, Args)]
pub(super) struct MountArguments {
    /// Mount a volume, or a directory or file of the host; options: ro, nocopy, rslave, rshared
    #[arg(
        short,
        long,
        value_name = "[SRC:]DST[:OPTIONS]",
        help_heading = "Files"
    )]
    #[arg(value_parser = volume_word)]
    volume: Vec<VolumeWord>,
    /// The same, a tmpfs, or an image, word by word: type=bind,source=SRC,target=DST,readonly
    #[arg(long, value_name = "OPTIONS", help_heading = "Files")]
    #[arg(value_parser = mount)]
    mount: Vec<Mount>,
    /// Mount an empty file system in memory
    #[arg(long, value_name = "DST[:OPTIONS]", help_heading = "Files")]
    #[arg(value_parser = tmpfs)]
    tmpfs: Vec<Tmpfs>,
    /// Mount what another container has by -v, in the same places; ro: for reading only
    #[arg(long, value_name = "CONTAINER[:ro]", help_heading = "Files")]
    #[arg(value_parser = volumes_from)]
    volumes_from: Vec<VolumesFrom>,
}

impl MountArguments {
    pub(super) fn apply(self, request: &mut RunRequest) {
        if self.volume.iter().any(|word| word.relabel) {
            output::note("`:z` and `:Z` do nothing: mybox does not use SELinux");
        }
        request.tmpfs = self.tmpfs;
        request.volumes_from = self.volumes_from;
        let volumes = self.volume.into_iter().map(|word| word.mount);
        for mount in volumes.chain(self.mount) {
            match mount {
                Mount::Bind(volume) => request.volumes.push(volume),
                Mount::Named(volume) => request.named_volumes.push(volume),
                Mount::Tmpfs(tmpfs) => request.tmpfs.push(tmpfs),
                Mount::Image(image) => request.image_mounts.push(image),
            }
        }
    }
}

/// `-v`, and whether it asks for another label of SELinux.
#[derive(Debug, Clone)]
struct VolumeWord {
    mount: Mount,
    relabel: bool,
}

/// `--mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mount {
    Bind(Volume),
    Named(NamedVolume),
    Tmpfs(Tmpfs),
    Image(ImageMount),
}

/// `[SOURCE:]DESTINATION[:OPTIONS]`: a source that begins like a path is the host's, any other the name
/// of a volume.
fn volume_word(text: &str) -> Result<VolumeWord, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [destination] => (None, destination, ""),
        [source, destination] => (Some(source), destination, ""),
        [source, destination, options] => (Some(source), destination, options),
        _ => return Err(format!("`{text}` is not [SOURCE:]DESTINATION[:OPTIONS]")),
    };
    let options = VolumeOptions::of(options)?;
    let destination = inside(destination)?;
    let mount = match source {
        Some(source) if source.starts_with(['/', '.']) => {
            if options.no_copy {
                return Err(format!(
                    "`nocopy` is an option of volumes, and {source} is a directory of the host"
                ));
            }
            Mount::Bind(Volume {
                source: outside(source)?,
                destination,
                read_only: options.read_only,
                propagation: options.propagation.unwrap_or_default(),
            })
        }
        name => {
            if options.propagation.is_some() {
                return Err("nothing is mounted in a volume later: it has no propagation".into());
            }
            name.map_or(Ok(()), volume::check_name)?;
            Mount::Named(NamedVolume {
                name: name.map(ToOwned::to_owned),
                destination,
                read_only: options.read_only,
                no_copy: options.no_copy,
                borrowed: false,
            })
        }
    };
    Ok(VolumeWord {
        mount,
        relabel: options.relabel,
    })
}

/// The words after the second colon of `-v`.
#[derive(Default)]
struct VolumeOptions {
    read_only: bool,
    relabel: bool,
    no_copy: bool,
    propagation: Option<Propagation>,
}

impl VolumeOptions {
    fn of(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word {
                "ro" => options.read_only = true,
                "rw" => options.read_only = false,
                "z" | "Z" => options.relabel = true,
                "nocopy" => options.no_copy = true,
                other => match propagation(other)? {
                    Some(asked) => options.propagation = Some(asked),
                    None => {
                        return Err(format!(
                            "`{other}` is no option of a volume: ro, rw or nocopy"
                        ));
                    }
                },
            }
        }
        Ok(options)
    }
}

/// Who sees later mounts of whom, if it is a word for that. A mount of ours is private, as Docker's is
/// by default.
fn propagation(word: &str) -> Result<Option<Propagation>, String> {
    match word {
        "private" | "rprivate" => Ok(Some(Propagation::Private)),
        "rslave" => Ok(Some(Propagation::Slave)),
        "rshared" => Ok(Some(Propagation::Shared)),
        "shared" | "slave" => Err(format!("`{word}` is not built yet; there is `r{word}`")),
        _ => Ok(None),
    }
}

/// A path of the host, from the working directory if it is relative.
fn outside(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| format!("`{text}`: {error}"))
}

/// The words of `--mount`, as they are read.
#[derive(Default)]
struct Words<'a> {
    kind: Option<&'a str>,
    source: Option<&'a str>,
    target: Option<&'a str>,
    read_only: bool,
    writable: Option<bool>,
    propagation: Option<Propagation>,
    size: Option<u64>,
    mode: Option<u32>,
    no_copy: bool,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Result<Self, String> {
        let mut words = Self::default();
        for word in text.split(',') {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            words.take(name, value)?;
        }
        Ok(words)
    }

    fn take(&mut self, name: &'a str, value: Option<&'a str>) -> Result<(), String> {
        let wanted = value.filter(|value| !value.is_empty());
        let wanted = wanted.ok_or_else(|| format!("`{name}` of --mount needs a value"));
        match name {
            "type" => self.kind = Some(wanted?),
            "source" | "src" => self.source = Some(wanted?),
            "target" | "destination" | "dst" => self.target = Some(wanted?),
            "readonly" | "ro" => self.read_only = yes_or_no(name, value)?,
            "rw" | "readwrite" => self.writable = Some(yes_or_no(name, value)?),
            "bind-propagation" => {
                let word = wanted?;
                let wrong = || format!("`{word}` is no propagation such as rprivate");
                self.propagation = Some(propagation(word)?.ok_or_else(wrong)?);
            }
            "volume-nocopy" => self.no_copy = yes_or_no(name, value)?,
            "tmpfs-size" => self.size = Some(values::bytes(wanted?)?),
            "tmpfs-mode" => {
                let text = wanted?;
                let mode = u32::from_str_radix(text, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o7777);
                self.mode = Some(mode.ok_or_else(|| format!("`{text}` is no mode such as 1777"))?);
            }
            other => {
                return Err(format!(
                    "`{other}` is not built yet, or no option of --mount"
                ));
            }
        }
        Ok(())
    }

    fn target(&self) -> Result<PathBuf, String> {
        inside(self.target.ok_or("--mount needs a target")?)
    }

    /// Refuses what is only for mounts of other types than this one.
    fn check(&self, kind: &str) -> Result<(), String> {
        let others = [
            ("bind-propagation", "bind", self.propagation.is_some()),
            ("rw", "image", self.writable.is_some()),
            ("volume-nocopy", "volume", self.no_copy),
            ("tmpfs-size", "tmpfs", self.size.is_some()),
            ("tmpfs-mode", "tmpfs", self.mode.is_some()),
        ];
        match others.iter().find(|(_, of, given)| *given && *of != kind) {
            Some((word, of, _)) => Err(format!("{word} is an option of type={of}")),
            None => Ok(()),
        }
    }

    fn named(self) -> Result<NamedVolume, String> {
        self.source.map_or(Ok(()), volume::check_name)?;
        Ok(NamedVolume {
            name: self.source.map(ToOwned::to_owned),
            destination: self.target()?,
            read_only: self.read_only,
            no_copy: self.no_copy,
            borrowed: false,
        })
    }

    fn bind(self) -> Result<Volume, String> {
        let source = self.source.ok_or("type=bind needs a source")?;
        Ok(Volume {
            source: outside(source)?,
            destination: self.target()?,
            read_only: self.read_only,
            propagation: self.propagation.unwrap_or_default(),
        })
    }

    fn image(self) -> Result<ImageMount, String> {
        if self.writable == Some(true) {
            return Err("rw of type=image is not built yet: it can only be read".to_owned());
        }
        Ok(ImageMount {
            image: self.source.ok_or("type=image needs a source")?.to_owned(),
            manifest: None,
            destination: self.target()?,
        })
    }

    fn tmpfs(self) -> Result<Tmpfs, String> {
        if self.source.is_some() {
            return Err("type=tmpfs has no source".to_owned());
        }
        let destination = self.target()?;
        let options = [
            self.read_only.then(|| "ro".to_owned()),
            self.size.map(|bytes| format!("size={bytes}")),
            self.mode.map(|mode| format!("mode={mode:o}")),
        ];
        Ok(Tmpfs {
            destination,
            options: options.into_iter().flatten().collect(),
        })
    }
}

fn yes_or_no(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("`{name}={other}`: there are true and false")),
    }
}

/// `type=bind|volume|tmpfs|image,...`; without a type it is a volume, as with Docker.
fn mount(text: &str) -> Result<Mount, String> {
    let words = Words::of(text)?;
    let kind = words.kind.unwrap_or("volume");
    words.check(kind)?;
    match kind {
        "bind" => words.bind().map(Mount::Bind),
        "volume" => words.named().map(Mount::Named),
        "tmpfs" => words.tmpfs().map(Mount::Tmpfs),
        "image" => words.image().map(Mount::Image),
        kind @ ("npipe" | "cluster") => Err(format!(
            "type={kind} is not built yet; there are bind, volume, tmpfs and image"
        )),
        other => Err(format!(
            "`{other}` is no type of mount such as bind, volume, tmpfs or image"
        )),
    }
}

/// `DESTINATION[:OPTION,...]`.
fn tmpfs(text: &str) -> Result<Tmpfs, String> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options
        .split(',')
        .filter(|word| !word.is_empty())
        .map(ToOwned::to_owned);
    Ok(Tmpfs {
        destination: inside(destination)?,
        options: options.collect(),
    })
}

/// `CONTAINER[:ro|:rw]`.
fn volumes_from(text: &str) -> Result<VolumesFrom, String> {
    let (container, mode) = text.split_once(':').unwrap_or((text, "rw"));
    if container.is_empty() {
        return Err(format!("`{text}` names no container"));
    }
    let read_only = match mode {
        "ro" => true,
        "rw" => false,
        other => return Err(format!("`{other}` is neither ro nor rw")),
    };
    Ok(VolumesFrom {
        container: container.to_owned(),
        read_only,
    })
}

/// An absolute path in the container, without `..`, and not `/` itself.
pub(super) fn inside(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || climbs {
        return Err(format!("`{text}` is not an absolute path in the container"));
    }
    // Rebuilt from its parts: no `.`, no double or final slash.
    let path: PathBuf = path.components().collect();
    if path == Path::new("/") {
        Err("the container's / cannot be mounted over".into())
    } else {
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_begins_like_a_path_is_the_hosts() {
        let word = volume_word("/a/b:/c/./d/:ro,z,rprivate").unwrap();
        let Mount::Bind(bind) = word.mount else {
            panic!("not a bind mount");
        };
        assert_eq!(bind.source, Path::new("/a/b"));
        assert_eq!(bind.destination, Path::new("/c/d"));
        assert!(bind.read_only && word.relabel);
        let named = |text: &str| match volume_word(text).map(|word| word.mount) {
            Ok(Mount::Named(volume)) => volume,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(named("data:/b:ro,nocopy"), {
            NamedVolume {
                name: Some("data".into()),
                destination: "/b".into(),
                read_only: true,
                no_copy: true,
                borrowed: false,
            }
        });
        assert_eq!(named("/b").name, None);
        for (bad, words) in [
            ("/a:b", "`b`"),
            ("/a:/b:rx", "`rx`"),
            ("/a:/", "cannot be mounted over"),
            ("/a:/b/../c", "`/b/../c`"),
            ("/a:/b:ro:x", "is not [SOURCE:]DESTINATION"),
            ("data", "`data` is not an absolute path"),
            ("a/b:/c", "`a/b` is no volume name"),
            ("x:/c", "`x` is no volume name"),
            (":/c", "no volume name"),
            ("/a:/b:shared", "not built yet"),
            ("/a:/b:nocopy", "`nocopy`"),
            ("data:/b:rslave", "propagation"),
        ] {
            let error = volume_word(bad).unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }

    #[test]
    fn a_container_may_follow_how_its_volumes_are_mounted() {
        let read_only = |text| volumes_from(text).map(|it| (it.container, it.read_only));
        assert_eq!(read_only("web"), Ok(("web".to_owned(), false)));
        assert_eq!(read_only("web:rw"), Ok(("web".to_owned(), false)));
        assert_eq!(read_only("web:ro"), Ok(("web".to_owned(), true)));
        for bad in ["", ":ro", "web:", "web:z", "web:ro:rw"] {
            assert!(volumes_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_are_read_word_by_word() {
        let Ok(Mount::Bind(bind)) = mount("type=bind,src=/a,dst=/b,readonly") else {
            panic!("not a bind mount");
        };
        assert_eq!(bind.source, Path::new("/a"));
        assert_eq!(bind.destination, Path::new("/b"));
        assert!(bind.read_only);
        let Ok(Mount::Tmpfs(tmpfs)) =
            mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700,ro=false")
        else {
            panic!("not a tmpfs");
        };
        assert_eq!(tmpfs.options, ["size=1048576", "mode=700"]);
        let Ok(Mount::Image(image)) = mount("type=image,source=debian:13,target=/x,rw=false")
        else {
            panic!("not an image");
        };
        assert_eq!(image.image, "debian:13");
        let volume = mount("src=data,dst=/x,readonly,volume-nocopy");
        let Ok(Mount::Named(volume)) = volume else {
            panic!("not a volume");
        };
        assert!(volume.read_only && volume.no_copy);
        for (bad, words) in [
            ("type=volume,src=a/b,target=/x", "`a/b`"),
            ("src=/a,target=/x", "`/a` is no volume name"),
            ("type=npipe,src=x,target=/x", "not built yet"),
            ("type=image,src=debian,target=/x,rw", "not built yet"),
            ("type=image,target=/x", "needs a source"),
            ("type=volume,target=/x,rw=false", "an option of type=image"),
            ("type=disk,target=/x", "`disk`"),
            ("type=bind,target=/x", "needs a source"),
            ("type=bind,source=/x", "needs a target"),
            ("type=bind,source,target=/x", "`source`"),
            ("type=bind,src=/x,target=/x,tmpfs-size=1m", "tmpfs-size"),
            ("type=tmpfs,src=/x,target=/x", "source"),
            ("type=tmpfs,target=/x,tmpfs-mode=9", "`9`"),
            ("type=bind,src=/x,target=/x,ro=maybe", "ro=maybe"),
            (
                "type=bind,src=/x,target=/x,bind-propagation=slave",
                "not built yet",
            ),
            (
                "type=bind,src=/x,target=/x,volume-nocopy",
                "volume-nocopy is an option of type=volume",
            ),
        ] {
            let error = mount(bad).unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
