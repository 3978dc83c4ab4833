//! Volumes: directories that outlive the containers that have them.
//!
//! ```text
//! <root>/volumes/<name>/
//!   volume.json           what it is; there before the volume has its name
//!   data/                 what containers see
//!   fill/                 a copy of an image's directory, being made (init::volumes)
//!   filled/               the same, whole, on its way into data
//! <root>/volumes/.new-*   on its way to a name
//! <root>/volumes/.gone-*  on its way out; the next command about volumes removes it if its owner died
//! ```
//! A volume is in use while a container's record names it, whether the container runs or not. An
//! flock on its directory covers the time before: who gives it to a container holds it shared until
//! that container is on record, who fills it holds it exclusively, and who removes it must get it
//! exclusively at once, and only then looks through the records.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mybox_store::allocated;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use serde::{Deserialize, Serialize};

use super::events::{self, Event};
use super::{ContainerId, Places, Record, names};
use crate::kernel::file::{Lasting, existing, gone, is_at, replace};
use crate::kernel::mount::{mounted_below, remove_tree};

/// The format of `volume.json`.
const VERSION: u32 = 1;
const RECORD: &str = "volume.json";
/// Beginnings of names that no volume can have.
const NEW: &str = ".new-";
const GONE: &str = ".gone-";
/// How often somebody may take a volume away between our making it and our lock on it.
const TRIES: usize = 100;

/// `volume.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// Format version.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// Seconds since the epoch.
    pub created: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether nobody gave it a name: it may go with its container.
    pub anonymous: bool,
}

/// A container's volume, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mounted {
    /// The volume.
    pub name: String,
    /// Where it is in the container.
    pub destination: PathBuf,
    /// It cannot be written through this mount.
    pub read_only: bool,
}

impl Volume {
    /// One that is not there yet.
    pub fn new(name: &str, labels: BTreeMap<String, String>, anonymous: bool) -> Self {
        Self {
            version: VERSION,
            name: name.to_owned(),
            created: events::nanoseconds(std::time::SystemTime::now()) / 1_000_000_000,
            labels,
            anonymous,
        }
    }
}

/// Checks a name: it becomes a directory's.
pub fn check_name(name: &str) -> Result<(), String> {
    names::check(name).map_err(|_| {
        format!(
            "`{name}` is no volume name: letters, digits, `_`, `.` and `-`, two at least, a letter or \
             digit first; for a directory of the host write an absolute path or ./{name}"
        )
    })
}

/// Where its data lies.
pub fn data(places: &Places, name: &str) -> PathBuf {
    places.volume(name).join("data")
}

/// Makes a volume; false if there is one of its name. `flush` is for what survives a power cut.
pub fn create(places: &Places, volume: &Volume, flush: bool) -> Result<bool> {
    check_name(&volume.name).map_err(anyhow::Error::msg)?;
    let dir = places.volume(&volume.name);
    if dir.exists() {
        return Ok(false);
    }
    let made = make(places, volume, &dir, flush)
        .with_context(|| format!("make the volume {}", dir.display()))?;
    if made {
        events::tell(places, &Event::of_volume("create", &volume.name));
    }
    Ok(made)
}

fn make(places: &Places, volume: &Volume, dir: &Path, flush: bool) -> io::Result<bool> {
    let all = places.volumes();
    fs::create_dir_all(&all)?;
    let (new, _lock) = temporary(&all)?;
    private_directory(&new.join("data"))?;
    let lasting = if flush { Lasting::Yes } else { Lasting::No };
    replace(
        &new.join(RECORD),
        &serde_json::to_vec_pretty(volume)?,
        lasting,
    )?;
    match renameat_with(CWD, &new, CWD, dir, RenameFlags::NOREPLACE) {
        // Somebody was faster, and theirs is as good.
        Err(rustix::io::Errno::EXIST) => {
            fs::remove_dir_all(&new)?;
            return Ok(false);
        }
        moved => moved?,
    }
    if flush {
        File::open(&all)?.sync_all()?;
    }
    Ok(true)
}

/// An empty directory, locked, for a volume that has no name yet.
fn temporary(all: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let new = all.join(format!("{NEW}{}", random()?));
        fs::DirBuilder::new().mode(0o755).create(&new)?;
        // Between the two calls somebody may have removed it as that of a dead process.
        if let Some(lock) = lock(&new, FlockOperation::LockExclusive)? {
            return Ok((new, lock));
        }
    }
}

/// What a volume looks like before its first use, whatever the caller's umask.
fn private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn random() -> io::Result<String> {
    ContainerId::random().map(|id| id.short().to_owned())
}

/// A name for a volume that was given none.
pub fn random_name() -> io::Result<String> {
    ContainerId::random().map(|id| id.as_str().to_owned())
}

/// A lock on the directory, if it is still there by its name; `None` otherwise.
fn lock(dir: &Path, how: FlockOperation) -> io::Result<Option<File>> {
    let Some(file) = existing(File::open(dir))? else {
        return Ok(None);
    };
    flock(&file, how)?;
    Ok(is_at(&file, dir)?.then_some(file))
}

/// Keeps volumes from being removed until their container is on record.
#[derive(Debug)]
pub struct Held {
    _locks: Vec<File>,
}

/// A volume that a container is to have.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// What if there is none of that name.
    pub if_missing: IfMissing,
}

/// What becomes of a volume that is wanted and not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// It is made.
    Make,
    /// It is made, as one that nobody gave its name.
    MakeAnonymous,
    /// That is an error: it was another container's.
    Fail,
}

/// Holds a container's volumes.
pub fn hold<'a>(
    places: &Places,
    wanted: impl IntoIterator<Item = Wanted<'a>>,
    flush: bool,
) -> Result<Held> {
    let mut locks = Vec::new();
    for one in wanted {
        locks.push(hold_one(places, one, flush)?);
    }
    Ok(Held { _locks: locks })
}

fn hold_one(places: &Places, wanted: Wanted<'_>, flush: bool) -> Result<File> {
    let name = wanted.name;
    let dir = places.volume(name);
    for _ in 0..TRIES {
        let locked = lock(&dir, FlockOperation::LockShared)
            .with_context(|| format!("lock the volume {}", dir.display()))?;
        if let Some(locked) = locked {
            return Ok(locked);
        }
        let anonymous = match wanted.if_missing {
            IfMissing::Make => false,
            IfMissing::MakeAnonymous => true,
            IfMissing::Fail => bail!("volume {name} of the other container has been removed"),
        };
        let volume = Volume::new(name, BTreeMap::new(), anonymous);
        create(places, &volume, flush || !anonymous)?;
    }
    bail!("volume {name} is removed again and again by somebody else")
}

/// The volume of this name.
pub fn find(places: &Places, name: &str) -> Result<Volume> {
    check_name(name).map_err(anyhow::Error::msg)?;
    read(places, name)?.with_context(|| format!("no such volume: {name}"))
}

fn read(places: &Places, name: &str) -> Result<Option<Volume>> {
    let dir = places.volume(name);
    let path = dir.join(RECORD);
    let bytes = existing(fs::read(&path))
        .with_context(|| format!("read {}", path.display()))?
        .unwrap_or_default();
    if let Ok(volume) = serde_json::from_slice::<Volume>(&bytes) {
        return Ok(Some(volume));
    }
    // A power cut leaves this of an anonymous volume that was not flushed; or somebody made the
    // directory by hand. With a name it is never taken for anonymous.
    let stat =
        existing(fs::metadata(&dir)).with_context(|| format!("look at {}", dir.display()))?;
    Ok(stat.filter(fs::Metadata::is_dir).map(|stat| Volume {
        created: stat.mtime().try_into().unwrap_or(0),
        ..Volume::new(name, BTreeMap::new(), ContainerId::parse(name).is_ok())
    }))
}

/// All volumes, by name.
pub fn all(places: &Places) -> Result<Vec<Volume>> {
    let dir = places.volumes();
    let entries =
        existing(fs::read_dir(&dir)).with_context(|| format!("list {}", dir.display()))?;
    let mut volumes = Vec::new();
    for entry in entries.into_iter().flatten() {
        let name = entry.context("list the volumes")?.file_name();
        if let Some(name) = name.to_str().filter(|name| check_name(name).is_ok()) {
            volumes.extend(read(places, name)?);
        }
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(volumes)
}

/// The names of the containers that have each volume.
pub fn users(places: &Places) -> io::Result<BTreeMap<String, Vec<String>>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in Record::all(places)? {
        for mounted in record.volumes {
            let of_one = users.entry(mounted.name).or_default();
            if !of_one.contains(&record.name) {
                of_one.push(record.name.clone());
            }
        }
    }
    Ok(users)
}

/// What became of a volume that was to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, and so many bytes of the disk are free.
    Done(u64),
    /// These containers have it.
    InUse(Vec<String>),
    /// Somebody is giving it to a container, filling it or removing it at this moment.
    Busy,
    /// Somebody has mounted something in it, here.
    Mounted(PathBuf),
    /// It was not there.
    Missing,
}

/// Removes a volume that no container has, `but` this one.
pub fn remove(places: &Places, name: &str, but: Option<&ContainerId>) -> Result<Removal> {
    let dir = places.volume(name);
    let failed = || format!("remove the volume {}", dir.display());
    let lock = match lock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Removal::Busy),
        lock => lock.with_context(failed)?,
    };
    let Some(lock) = lock else {
        return Ok(Removal::Missing);
    };
    // Whoever is given it from now on waits for the lock, and those before are on record.
    let mut users = Vec::new();
    for record in Record::all(places).context("read the records of the containers")? {
        let has = record.volumes.iter().any(|mounted| mounted.name == name);
        if has && Some(&record.id) != but {
            users.push(record.name);
        }
    }
    if !users.is_empty() {
        return Ok(Removal::InUse(users));
    }
    // What is mounted there is another's.
    if let Some(point) = mounted_below(&dir).with_context(failed)? {
        return Ok(Removal::Mounted(point));
    }
    let bytes = allocated(&dir).with_context(failed)?;
    let doomed = places.volumes().join(format!("{GONE}{}", random()?));
    fs::rename(&dir, &doomed).with_context(failed)?;
    events::tell(places, &Event::of_volume("destroy", name));
    File::open(places.volumes())
        .and_then(|all| all.sync_all())
        .and_then(|()| remove_tree(&doomed))
        .with_context(failed)?;
    drop(lock);
    Ok(Removal::Done(bytes))
}

/// Removes the anonymous ones of a container's volumes, which is about to go, unless others have them.
pub fn remove_anonymous(places: &Places, record: &Record) -> Result<()> {
    for mounted in &record.volumes {
        let volume = read(places, &mounted.name)?;
        if volume.is_some_and(|volume| volume.anonymous) {
            remove(places, &mounted.name, Some(&record.id))?;
        }
    }
    Ok(())
}

/// Removes what those left who died while they made or removed a volume.
pub fn sweep(places: &Places) -> Result<()> {
    let dir = places.volumes();
    let entries =
        existing(fs::read_dir(&dir)).with_context(|| format!("list {}", dir.display()))?;
    for entry in entries.into_iter().flatten() {
        let entry = entry.context("list the volumes")?;
        let name = entry.file_name();
        let is_left = name
            .to_str()
            .is_some_and(|name| name.starts_with(NEW) || name.starts_with(GONE));
        if is_left {
            let path = entry.path();
            match lock(&path, FlockOperation::NonBlockingLockExclusive) {
                Ok(Some(_lock)) => gone(remove_tree(&path))
                    .with_context(|| format!("remove {}", path.display()))?,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => Err(error).with_context(|| format!("lock {}", path.display()))?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(name: &str) -> Places {
        let root = std::env::temp_dir().join(format!("mybox-volume-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        Places {
            root: root.clone(),
            run_root: root.join("run"),
            bridge: "none".into(),
        }
    }

    fn volume(name: &str) -> Volume {
        Volume::new(name, BTreeMap::new(), false)
    }

    #[test]
    fn a_volume_that_is_held_is_not_removed_and_one_that_was_is_made_anew() {
        let places = places("held");
        assert!(create(&places, &volume("data"), true).unwrap());
        assert!(!create(&places, &volume("data"), true).unwrap());
        let wanted = |name, if_missing| Wanted { name, if_missing };
        let (data, other) = (
            wanted("data", IfMissing::Make),
            wanted("other", IfMissing::MakeAnonymous),
        );
        let held = hold(&places, [data, other], true).unwrap();
        let borrowed = wanted("nosuch", IfMissing::Fail);
        assert!(hold(&places, [borrowed], true).is_err());
        assert_eq!(remove(&places, "data", None).unwrap(), Removal::Busy);
        drop(held);
        let names: Vec<String> = all(&places)
            .unwrap()
            .into_iter()
            .map(|it| it.name)
            .collect();
        assert_eq!(names, ["data", "other"]);
        assert!(find(&places, "other").unwrap().anonymous);
        let removed = remove(&places, "data", None).unwrap();
        assert!(matches!(removed, Removal::Done(_)), "{removed:?}");
        assert_eq!(remove(&places, "data", None).unwrap(), Removal::Missing);
        assert!(find(&places, "data").is_err());
        fs::remove_dir_all(&places.root).unwrap();
    }

    #[test]
    fn what_the_dead_left_goes_and_what_the_living_make_stays() {
        let places = places("sweep");
        create(&places, &volume("data"), true).unwrap();
        let (new, lock) = temporary(&places.volumes()).unwrap();
        let gone = places.volumes().join(format!("{GONE}x"));
        fs::create_dir_all(gone.join("data")).unwrap();
        sweep(&places).unwrap();
        assert!(new.exists() && !gone.exists());
        drop(lock);
        sweep(&places).unwrap();
        assert!(!new.exists() && data(&places, "data").exists());
        fs::remove_dir_all(&places.root).unwrap();
    }

    #[test]
    fn a_directory_without_a_record_is_anonymous_only_by_a_made_up_name() {
        let places = places("unrecorded");
        fs::create_dir_all(data(&places, "by-hand")).unwrap();
        assert!(!find(&places, "by-hand").unwrap().anonymous);
        let name = random_name().unwrap();
        fs::create_dir_all(data(&places, &name)).unwrap();
        assert!(find(&places, &name).unwrap().anonymous);
        for bad in ["", "a", ".new-x", "../x", "a/b", "-v"] {
            assert!(find(&places, bad).is_err(), "{bad}");
        }
        fs::remove_dir_all(&places.root).unwrap();
    }
}
