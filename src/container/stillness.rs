//! The claim of a command that has a container stand still for a while, as `commit` does.
//!
//! `<run root>/containers/<id>/still`, under an flock from before the container is frozen until it goes on.
//! A group stays frozen when whoever froze it dies; a lock that can be taken says that this has happened,
//! and the next command lets the container go on.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use super::{ContainerId, Places};
use crate::kernel::file::{existing, gone, is_at};

/// The file in the container's volatile directory.
pub(super) const STILL: &str = "still";

/// The lock on it.
#[derive(Debug)]
pub struct Stillness {
    path: PathBuf,
    lock: File,
}

impl Stillness {
    /// Takes it, as soon as nobody else has it.
    pub fn claim(places: &Places, id: &ContainerId) -> io::Result<Self> {
        let path = path(places, id);
        loop {
            let mut options = OpenOptions::new();
            let lock = options
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            flock(&lock, FlockOperation::LockExclusive)?;
            // Whoever had it has removed it, or somebody who took this one for a dead one's has.
            if is_at(&lock, &path)? {
                return Ok(Self { path, lock });
            }
        }
    }

    /// That of a command that has died; `None` if there is none, or it lives.
    pub fn left_behind(places: &Places, id: &ContainerId) -> io::Result<Option<Self>> {
        let path = path(places, id);
        let Some(lock) = existing(File::open(&path))? else {
            return Ok(None);
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            answer => answer?,
        }
        let ours = is_at(&lock, &path)?;
        Ok(ours.then_some(Self { path, lock }))
    }

    /// Gives it back: the container goes on.
    pub fn release(self) -> io::Result<()> {
        let Self { path, lock } = self;
        gone(fs::remove_file(path))?;
        drop(lock);
        Ok(())
    }
}

fn path(places: &Places, id: &ContainerId) -> PathBuf {
    places.live_container(id).join(STILL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_command_has_left_can_be_taken() {
        let root = std::env::temp_dir().join(format!("mybox-still-{}", std::process::id()));
        let places = Places {
            run_root: root.clone(),
            root: root.clone(),
            bridge: "none".into(),
        };
        let id = ContainerId::random().unwrap();
        fs::create_dir_all(places.live_container(&id)).unwrap();
        assert!(Stillness::left_behind(&places, &id).unwrap().is_none());
        let held = Stillness::claim(&places, &id).unwrap();
        assert!(Stillness::left_behind(&places, &id).unwrap().is_none());
        drop(held);
        let left = Stillness::left_behind(&places, &id).unwrap();
        left.expect("nobody has it").release().unwrap();
        let again = Stillness::claim(&places, &id).unwrap();
        again.release().unwrap();
        assert!(!path(&places, &id).exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
