//! `ps --filter`.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use anyhow::Result;
use regex_lite::Regex;

use crate::cli::values;
use crate::container::find::{self, Container, State};
use crate::container::health::Status;
use crate::container::port::{self, Port, Protocol, Published};
use crate::container::{Places, Record};
use crate::life::create;
use crate::plan::{NetworkMode, RunRequest};

const EXPECTED: &str = "expected id=, name=, label=, status=, exited=, ancestor=, health=, \
                        before=, since=, volume=, network=, publish= or expose=";

/// One filter as it was typed.
#[derive(Debug, Clone)]
pub(super) enum Filter {
    /// The beginning of an id.
    Id(String),
    /// What fits the name, with a slash before it or without.
    Name(Regex),
    Label(String, Option<String>),
    Status(&'static str),
    /// An exit code.
    Exited(u8),
    /// The image it was made of.
    Ancestor(String),
    /// `None`: it has no health check.
    Health(Option<Status>),
    /// It was made before this one.
    Before(String),
    /// It was made after this one.
    Since(String),
    /// What it has mounted: a volume's name, a directory of the host, or where that is in it.
    Volume(String),
    Network(NetworkMode),
    /// One of its ports that lead to it through the host's.
    Publish(Ports),
    /// One of the ports that it is known to have.
    Expose(Ports),
}

/// `80`, `80/udp`, `80-90`: a container's, as Docker compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    first: u16,
    last: u16,
    protocol: Protocol,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ((first, last), protocol) = port::range_and_protocol(text)?;
        Ok(Self {
            first,
            last,
            protocol,
        })
    }
}

impl Ports {
    fn have(self, port: Port) -> bool {
        let numbers = self.first..=self.last;
        port.protocol == self.protocol && numbers.contains(&port.container_port)
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or(EXPECTED)?;
        let owned = value.to_owned();
        Ok(match key {
            "id" => Self::Id(owned),
            "name" => Self::Name(pattern(value)?),
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(owned, None),
            },
            "status" => Self::Status(state(value)?),
            "exited" => {
                let code = value.parse();
                Self::Exited(code.map_err(|_| format!("`{value}` is no exit code"))?)
            }
            "ancestor" => Self::Ancestor(owned),
            "health" => Self::Health(health(value)?),
            "before" => Self::Before(owned),
            "since" => Self::Since(owned),
            "volume" => Self::Volume(owned),
            "network" => Self::Network(network(value)?),
            "publish" => Self::Publish(value.parse()?),
            "expose" => Self::Expose(value.parse()?),
            _ => return Err(EXPECTED.to_owned()),
        })
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("`{text}` is no regular expression: {error}"))
}

fn state(word: &str) -> Result<&'static str, String> {
    // No container of ours is in one of the last two, which Docker has.
    const STATES: [&str; 8] = [
        "created",
        "running",
        "paused",
        "restarting",
        "changing",
        "exited",
        "removing",
        "dead",
    ];
    let found = STATES.into_iter().find(|state| *state == word);
    found.ok_or_else(|| format!("`{word}` is none of {}", STATES.join(", ")))
}

fn health(word: &str) -> Result<Option<Status>, String> {
    let all = [Status::Starting, Status::Healthy, Status::Unhealthy];
    match all.into_iter().find(|status| status.word() == word) {
        Some(status) => Ok(Some(status)),
        None if word == "none" => Ok(None),
        None => Err(format!(
            "`{word}` is none of starting, healthy, unhealthy, none"
        )),
    }
}

fn network(word: &str) -> Result<NetworkMode, String> {
    match word {
        "bridge" => Ok(NetworkMode::Bridge),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        _ => Err(format!("`{word}` is none of bridge, host, none")),
    }
}

impl Filter {
    /// Those that have ended are looked for, too.
    pub(super) fn is_about_all(&self) -> bool {
        matches!(self, Self::Status(_) | Self::Exited(_))
    }

    /// The container that it compares others with.
    fn other(&self) -> Option<&str> {
        match self {
            Self::Before(other) | Self::Since(other) => Some(other),
            _ => None,
        }
    }
}

/// Seconds since the epoch, and nanoseconds beyond.
type Moment = (u64, u32);

fn made(record: &Record) -> Moment {
    (record.created, record.created_nanoseconds)
}

/// The filters, and what is needed to tell whether a container fits them.
pub(super) struct Wanted<'a> {
    filters: &'a [Filter],
    places: &'a Places,
    /// When those were made that others are compared with.
    others: BTreeMap<&'a str, Moment>,
}

impl<'a> Wanted<'a> {
    /// Looks up the containers that filters name.
    pub(super) fn of(places: &'a Places, filters: &'a [Filter]) -> Result<Self> {
        let others = filters.iter().filter_map(Filter::other);
        let moment = |other| Ok((other, made(&find::one(places, other)?.record)));
        Ok(Self {
            filters,
            places,
            others: others.map(moment).collect::<Result<_>>()?,
        })
    }

    /// Whether a container is one of those that are asked for.
    pub(super) fn fits(&self, row: &Container) -> bool {
        let is_label = |filter: &Filter| matches!(filter, Filter::Label(..));
        values::all_fit(self.filters, is_label, |filter| self.fits_one(filter, row))
    }

    fn fits_one(&self, filter: &Filter, row: &Container) -> bool {
        let record = &row.record;
        let other = |name: &str| self.others.get(name).copied();
        match filter {
            Filter::Id(start) => record.id.as_str().starts_with(start),
            Filter::Name(pattern) => fits_name(pattern, &record.name),
            Filter::Label(key, value) => {
                let found = record.labels.get(key);
                found.is_some() && (value.is_none() || found == value.as_ref())
            }
            Filter::Status(word) => *word == row.state_word(),
            Filter::Exited(code) => {
                let ended = record.ending.filter(|_| row.state == State::Exited);
                ended.is_some_and(|ending| ending.code == *code)
            }
            Filter::Ancestor(image) => {
                record.image == *image || record.manifest.to_string() == *image
            }
            Filter::Health(status) => row.health == *status,
            Filter::Before(name) => other(name).is_some_and(|other| made(record) < other),
            Filter::Since(name) => other(name).is_some_and(|other| made(record) > other),
            Filter::Volume(word) => mounts(record, &self.request(record).unwrap_or_default(), word),
            Filter::Network(mode) => {
                let request = self.request(record);
                request.is_some_and(|request| request.network == *mode)
            }
            Filter::Publish(ports) => {
                publishes(record, &self.request(record).unwrap_or_default(), *ports)
            }
            Filter::Expose(ports) => {
                let exposes = record.exposed.iter().any(|it| ports.have(*it));
                exposes || publishes(record, &self.request(record).unwrap_or_default(), *ports)
            }
        }
    }

    /// What was asked for; of one that is being removed it may be gone.
    fn request(&self, record: &Record) -> Option<RunRequest> {
        create::read_request(&self.places.container(&record.id)).ok()
    }
}

/// Whether it has this volume, or this directory of the host, or anything in this place.
fn mounts(record: &Record, request: &RunRequest, word: &str) -> bool {
    let path = Path::new(word);
    let mut volumes = record.volumes.iter();
    let mut images = record.images.iter();
    let mut binds = request.volumes.iter();
    volumes.any(|it| it.name == word || it.destination == path)
        || images.any(|it| it.image == word || it.destination == path)
        || binds.any(|it| it.source == path || it.destination == path)
}

/// One that does not run has no ports of the host, but has asked for them.
fn publishes(record: &Record, request: &RunRequest, ports: Ports) -> bool {
    let asked = request.publish.iter().map(|it| it.port);
    let mut all = record.ports.iter().map(Published::port).chain(asked);
    all.any(|port| ports.have(port))
}

/// Docker's names begin with a slash, which its users leave out.
fn fits_name(pattern: &Regex, name: &str) -> bool {
    pattern.is_match(name) || pattern.is_match(&format!("/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_or_refused_with_what_there_is() {
        let parse = |text: &str| text.parse::<Filter>();
        assert!(matches!(parse("health=none"), Ok(Filter::Health(None))));
        assert!(matches!(
            parse("health=healthy"),
            Ok(Filter::Health(Some(Status::Healthy)))
        ));
        assert!(matches!(
            parse("label=a=b"),
            Ok(Filter::Label(key, Some(value))) if key == "a" && value == "b"
        ));
        for (bad, expected) in [
            ("health", "expected id="),
            ("colour=red", "expected id="),
            ("health=ill", "none of starting"),
            ("status=gone", "none of created"),
            ("exited=x", "no exit code"),
            ("network=moon", "none of bridge"),
            ("publish=x", "no port"),
            ("expose=9-8", "ends before it begins"),
            ("name=we(b", "`we(b` is no regular expression"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }

    #[test]
    fn ports_are_one_or_a_range_of_one_protocol() {
        let port = |text: &str| text.parse::<Port>().unwrap();
        for (text, of, expected) in [
            ("80", "80/tcp", true),
            ("80/udp", "80/tcp", false),
            ("80-90/udp", "90/udp", true),
            ("80-90", "91", false),
        ] {
            let ports: Ports = text.parse().unwrap();
            assert_eq!(ports.have(port(of)), expected, "{text} {of}");
        }
    }

    #[test]
    fn a_pattern_fits_a_part_of_the_name_with_its_slash_or_without() {
        for (text, expected) in [
            ("web", true),
            ("e", true),
            ("we.", true),
            ("^web$", true),
            ("^/web$", true),
            ("^(db|web)$", true),
            ("", true),
            ("^w$", false),
            ("WEB", false),
            ("(?i)WEB", true),
            ("^eb", false),
        ] {
            assert_eq!(
                fits_name(&pattern(text).unwrap(), "web"),
                expected,
                "{text}"
            );
        }
    }
}
