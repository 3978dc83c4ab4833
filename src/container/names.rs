//! Names of containers. A name is a symbolic link to its container: made in one step or not at
//! all, so two containers cannot get the same one.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{ContainerId, Places};
use crate::kernel::file::{existing, remove_link_to};

/// Why a container did not get a name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker's rule for names.
    #[error(
        "`{0}` is no container name: two or more letters, digits, `_`, `.` and `-`, a letter or digit first"
    )]
    Invalid(String),
    /// Somebody has it.
    #[error("the name `{name}` is taken by container {owner}")]
    Taken {
        /// The name.
        name: String,
        /// Who has it.
        owner: String,
    },
    /// The link could not be made.
    #[error("claim the name `{name}`")]
    Io {
        /// The name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// Checks a name against Docker's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn check(name: &str) -> Result<(), Error> {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if first && name.len() > 1 && name.len() < 256 && bytes.all(rest) {
        Ok(())
    } else {
        Err(Error::Invalid(name.to_owned()))
    }
}

/// Gives `name` to a container.
pub fn claim(places: &Places, name: &str, id: &ContainerId) -> Result<(), Error> {
    check(name)?;
    let failed = |source| Error::Io {
        name: name.to_owned(),
        source,
    };
    fs::create_dir_all(places.names()).map_err(failed)?;
    let link = places.names().join(name);
    let make = || match symlink(Path::new("..").join(id.as_str()), &link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true),
    };
    if make().map_err(failed)? {
        return Ok(());
    }
    let owner = owner(&link);
    if let Some(gone) = owner.as_ref().filter(|owner| has_gone(places, owner)) {
        remove_link_to(&link, gone.as_str()).map_err(failed)?;
        if make().map_err(failed)? {
            return Ok(());
        }
    }
    Err(Error::Taken {
        name: name.to_owned(),
        owner: owner.map_or_else(|| "unknown".into(), |id| id.short().to_owned()),
    })
}

/// Whether nothing is left of a container but its name. One that is being made is claimed before it has a
/// name.
fn has_gone(places: &Places, id: &ContainerId) -> bool {
    !places.container(id).exists() && !places.live_container(id).exists()
}

/// Gives a container the name that was asked for, or one made up for it.
pub fn claim_or_invent(
    places: &Places,
    name: Option<&str>,
    id: &ContainerId,
) -> Result<String, Error> {
    match name {
        Some(name) => claim(places, name, id).map(|()| name.to_owned()),
        None => claim_any(places, id),
    }
}

/// Gives a container a name made up for it.
fn claim_any(places: &Places, id: &ContainerId) -> Result<String, Error> {
    let seed = usize::from_str_radix(&id.as_str()[..8], 16).unwrap_or(0);
    let first = ADJECTIVES[seed % ADJECTIVES.len()];
    let second = NOUNS[seed / ADJECTIVES.len() % NOUNS.len()];
    let name = format!("{first}_{second}");
    match claim(places, &name, id) {
        Ok(()) => Ok(name),
        Err(Error::Taken { .. }) => {
            let name = format!("{name}_{}", &id.as_str()[..6]);
            claim(places, &name, id).map(|()| name)
        }
        Err(error) => Err(error),
    }
}

/// Takes the name from a container, if it is this one that has it.
pub fn release(places: &Places, name: &str, id: &ContainerId) -> io::Result<()> {
    remove_link_to(&places.names().join(name), id.as_str())
}

/// Takes every name from a container of which no record tells its name.
pub fn release_all(places: &Places, id: &ContainerId) -> io::Result<()> {
    for link in existing(fs::read_dir(places.names()))?
        .into_iter()
        .flatten()
    {
        if let Some(name) = link?.file_name().to_str() {
            release(places, name, id)?;
        }
    }
    Ok(())
}

/// Who has a name.
pub fn owner_of(places: &Places, name: &str) -> Option<ContainerId> {
    owner(&places.names().join(name))
}

fn owner(link: &Path) -> Option<ContainerId> {
    let target = fs::read_link(link).ok()?;
    ContainerId::parse(target.file_name()?.to_str()?).ok()
}

const ADJECTIVES: [&str; 32] = [
    "agile", "amber", "bold", "brisk", "calm", "clear", "crisp", "eager", "early", "fair", "fleet",
    "fresh", "gentle", "glad", "keen", "kind", "light", "lively", "lucid", "mellow", "merry",
    "neat", "noble", "plain", "proud", "quick", "quiet", "ready", "sober", "sunny", "swift",
    "warm",
];

const NOUNS: [&str; 32] = [
    "anchor", "barrel", "basket", "beacon", "bridge", "canal", "cargo", "casket", "crate", "dock",
    "ferry", "galley", "harbor", "hull", "jetty", "keel", "lantern", "ledger", "locker", "mast",
    "mooring", "packet", "parcel", "pier", "quay", "rudder", "sail", "satchel", "sloop", "tender",
    "trunk", "wharf",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "a1", "My_app.v1-2", "0x"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "-a",
            ".hidden",
            "a/b",
            "a b",
            "ü1",
            "..",
            &"x".repeat(300),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_of_which_no_container_is_left_is_free() {
        let root = tempfile::tempdir().unwrap();
        let places = Places {
            root: root.path().to_owned(),
            run_root: root.path().join("run"),
            bridge: "none".into(),
        };
        let [gone, new, other] = [(); 3].map(|()| ContainerId::random().unwrap());
        claim(&places, "web", &gone).unwrap();
        claim(&places, "web", &new).unwrap();
        assert_eq!(owner_of(&places, "web").as_ref(), Some(&new));
        fs::create_dir_all(places.container(&new)).unwrap();
        let taken = claim(&places, "web", &other).unwrap_err();
        assert!(matches!(taken, Error::Taken { .. }), "{taken}");
    }

    #[test]
    fn words_are_all_different() {
        for words in [ADJECTIVES, NOUNS] {
            let distinct: std::collections::BTreeSet<_> = words.iter().collect();
            assert_eq!(distinct.len(), words.len());
        }
    }
}
