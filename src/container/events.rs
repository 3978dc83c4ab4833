//! What has happened: a log that any process can follow, `<run root>/events.json`.
//!
//! One line of JSON an event, appended in one write under a shared flock. When the file is large it
//! becomes `events.json.old`, under the exclusive one. The log is gone with the run root after a reboot.
//! An event that cannot be written is lost: what it tells of has happened all the same.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{Ending, Places, Record};
use crate::kernel::file::{existing, is_at};

/// A file of so many bytes becomes the old one.
const LARGE: u64 = 4 << 20;

/// One thing that has happened, as a line of the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `container`, `image` or `volume`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What has happened: start, die, pull, ...
    pub action: String,
    /// The id of the container, the image's name or id, or the volume's name.
    pub id: String,
    /// Seconds since the epoch.
    pub time: u64,
    /// Nanoseconds since the epoch.
    pub time_nano: u64,
    /// The container's name, image and labels; the exit code; the signal.
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    fn now(kind: &str, action: &str, id: &str) -> Self {
        let time_nano = nanoseconds_now();
        Self {
            kind: kind.to_owned(),
            action: action.to_owned(),
            id: id.to_owned(),
            time: time_nano / 1_000_000_000,
            time_nano,
            attributes: BTreeMap::new(),
        }
    }

    /// An event of a container, now.
    pub fn of_container(action: &str, record: &Record) -> Self {
        let mut event = Self::now("container", action, record.id.as_str());
        event.attributes.extend(record.labels.clone());
        event
            .with("name", &record.name)
            .with("image", &record.image)
    }

    /// An event of an image, now.
    pub fn of_image(action: &str, id: &str) -> Self {
        Self::now("image", action, id).with("name", id)
    }

    /// An event of a volume, now.
    pub fn of_volume(action: &str, name: &str) -> Self {
        Self::now("volume", action, name).with("driver", "local")
    }

    /// The same, saying this too.
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.attributes.insert(key.to_owned(), value.to_string());
        self
    }
}

/// The end of a container's process.
pub fn died(places: &Places, record: &Record, ending: Ending) {
    let event = Event::of_container("die", record).with("exitCode", ending.code);
    tell(places, &event);
}

/// Images that have gone, and the names that they had, as people write them.
pub fn images_gone(
    places: &Places,
    names: impl IntoIterator<Item = String>,
    ids: impl IntoIterator<Item = String>,
) {
    for name in names {
        tell(places, &Event::of_image("untag", &name));
    }
    for id in ids {
        tell(places, &Event::of_image("delete", &id));
    }
}

/// Nanoseconds since the epoch, now.
pub fn nanoseconds_now() -> u64 {
    nanoseconds(SystemTime::now())
}

/// Nanoseconds since the epoch.
pub fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Appends the event to the log.
pub fn tell(places: &Places, event: &Event) {
    if let Err(error) = append(places, event) {
        tracing::debug!("an event is lost: {error}");
    }
}

fn append(places: &Places, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut file = open_to_append(places)?;
    if file.metadata()?.len() >= LARGE {
        // Its shared lock would keep everybody from rotating, this process too.
        drop(file);
        rotate(places)?;
        file = open_to_append(places)?;
    }
    // One write: lines of several processes do not mix. What a full disk cut off, readers pass over.
    let written = file.write(&line)?;
    if written < line.len() {
        file.write_all(b"\n")?;
    }
    Ok(())
}

/// The log's file, locked: while the lock is held it is not taken away.
fn open_to_append(places: &Places) -> io::Result<File> {
    let path = places.events();
    loop {
        let open = || OpenOptions::new().create(true).append(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&places.run_root)?;
                open()?
            }
            file => file?,
        };
        flock(&file, FlockOperation::LockShared)?;
        if is_at(&file, &path)? {
            return Ok(file);
        }
    }
}

fn rotate(places: &Places) -> io::Result<()> {
    let path = places.events();
    let Some(file) = open(&path)? else {
        return Ok(());
    };
    flock(&file, FlockOperation::LockExclusive)?;
    if is_at(&file, &path)? && file.metadata()?.len() >= LARGE {
        fs::rename(&path, places.old_events())?;
    }
    Ok(())
}

/// Reads the log, from its beginning to where it is being written.
#[derive(Debug)]
pub struct Reader {
    log: PathBuf,
    /// Files to read; the last is being written.
    files: Vec<BufReader<File>>,
    /// A line of which the end is not there yet.
    line: Vec<u8>,
}

impl Reader {
    /// Of what is in the log, and of what comes.
    pub fn open(places: &Places) -> io::Result<Self> {
        // The newer one first: should it become the old one meanwhile, it is not read twice.
        let newer = open(&places.events())?;
        let older = open(&places.old_events())?;
        let is_newer = |older: &File| -> io::Result<bool> {
            let Some(newer) = &newer else {
                return Ok(false);
            };
            Ok(older.metadata()?.ino() == newer.metadata()?.ino())
        };
        let older = match older {
            Some(older) if is_newer(&older)? => None,
            older => older,
        };
        Ok(Self {
            log: places.events(),
            files: older.into_iter().chain(newer).map(BufReader::new).collect(),
            line: Vec::new(),
        })
    }

    /// The next event; `None` if there is none yet.
    pub fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if self.has_line()? {
                let event = serde_json::from_slice(&self.line);
                self.line.clear();
                // What is no event was cut off by a full disk.
                if let Ok(event) = event {
                    return Ok(Some(event));
                }
            } else if self.files.len() > 1 || self.follow()? {
                // Once another file has followed, nothing is appended any more: one last look.
                if self.files.len() > 1 && !self.has_line()? {
                    self.files.remove(0);
                    self.line.clear();
                }
            } else {
                return Ok(None);
            }
        }
    }

    /// Whether `line` is a whole one, after reading on if it was not.
    fn has_line(&mut self) -> io::Result<bool> {
        if !self.line.ends_with(b"\n")
            && let Some(file) = self.files.first_mut()
        {
            file.read_until(b'\n', &mut self.line)?;
        }
        Ok(self.line.ends_with(b"\n"))
    }

    /// Opens the file that is being written, should it be another than the last one here.
    fn follow(&mut self) -> io::Result<bool> {
        let is_last = match self.files.last() {
            Some(last) => is_at(last.get_ref(), &self.log)?,
            None => false,
        };
        let newer = if is_last { None } else { open(&self.log)? };
        let is_new = newer.is_some();
        self.files.extend(newer.map(BufReader::new));
        Ok(is_new)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    existing(File::open(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(name: &str) -> Places {
        let directory = std::env::temp_dir().join(format!("mybox-{name}-{}", std::process::id()));
        Places {
            root: directory.join("root"),
            run_root: directory.join("run"),
            bridge: "mybox0".to_owned(),
        }
    }

    #[test]
    fn events_are_read_in_their_order_across_a_rotation() {
        let places = places("events");
        let mut reader = Reader::open(&places).unwrap();
        assert_eq!(reader.next().unwrap(), None);
        let event = |number: u64| Event::of_image("tag", &number.to_string());
        let large = Event::of_image("tag", "large").with("text", "x".repeat(1 << 20));
        let mut expected = Vec::new();
        for number in 0..9 {
            for event in [event(number), large.clone()] {
                tell(&places, &event);
                expected.push(event);
            }
            if number == 2 {
                // In the middle of a line that is cut off.
                let mut file = open_to_append(&places).unwrap();
                file.write_all(b"{\"type\":\n").unwrap();
            }
            while let Some(event) = reader.next().unwrap() {
                assert_eq!(event, expected.remove(0));
            }
            assert!(expected.is_empty());
        }
        assert!(places.old_events().exists());
        let mut all = Reader::open(&places).unwrap();
        assert!(all.next().unwrap().is_some());
        fs::remove_dir_all(places.run_root.parent().unwrap()).unwrap();
    }
}
