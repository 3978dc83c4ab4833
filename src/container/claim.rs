//! The claim on a container: whoever holds it is its supervisor, or is taking it down.
//!
//! An flock on the container's directory under the run root. The kernel drops it with its holder,
//! so a lock that can be taken means a supervisor that died.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::stillness::STILL;
use super::{ContainerId, Places};
use crate::kernel::file::{existing, gone, is_at};

/// There if somebody has asked for it to stop.
const STOP: &str = "stop";
/// There if it is not to be removed when it has ended, whatever its record says.
const STAY: &str = "stay";
/// The file that says that another container is on its network.
const SHARED: &str = "shared";

/// The socket through which its monitor takes input for it.
pub const INPUT: &str = "input";

/// Leaves word for whoever holds the claim.
fn ask(places: &Places, id: &ContainerId, word: &str) -> io::Result<()> {
    match File::create(places.live_container(id).join(word)) {
        // It is being taken down, or was.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        made => made.map(drop),
    }
}

/// The lock on a container's volatile directory.
#[derive(Debug)]
pub struct Claim {
    id: ContainerId,
    dir: PathBuf,
    lock: File,
}

impl Claim {
    /// Makes the directory of a new container and locks it.
    pub fn new(places: &Places, id: &ContainerId) -> io::Result<Self> {
        let dir = places.live_container(id);
        fs::create_dir_all(places.live())?;
        loop {
            fs::create_dir(&dir)?;
            let lock = File::open(&dir);
            // Between the two calls somebody may have taken the empty directory for one whose
            // supervisor died, and removed it: then it is made anew.
            let Some(lock) = existing(lock)? else {
                continue;
            };
            rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
            if is_at(&lock, &dir)? {
                return Ok(Self {
                    id: id.clone(),
                    dir,
                    lock,
                });
            }
        }
    }

    /// Takes over a container whose supervisor is dead; `None` if it lives or all is gone.
    pub fn take_over(places: &Places, id: &ContainerId) -> io::Result<Option<Self>> {
        let dir = places.live_container(id);
        let Some(lock) = existing(File::open(&dir))? else {
            return Ok(None);
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            answer => answer?,
        }
        let ours = is_at(&lock, &dir)?;
        Ok(ours.then(|| Self {
            id: id.clone(),
            dir,
            lock,
        }))
    }

    /// The claim that this process was executed with, by its descriptor.
    pub fn inherited(places: &Places, id: &ContainerId, lock: OwnedFd) -> Self {
        Self {
            id: id.clone(),
            dir: places.live_container(id),
            lock: lock.into(),
        }
    }

    /// Asks for it to end, and stay so, whoever holds the claim.
    pub fn ask_to_stop(places: &Places, id: &ContainerId) -> io::Result<()> {
        ask(places, id, STOP)
    }

    /// Asks for it not to be removed when it ends this time: it is to be started again.
    pub fn ask_to_stay(places: &Places, id: &ContainerId) -> io::Result<()> {
        ask(places, id, STAY)
    }

    /// Whether somebody has asked for it not to be removed.
    pub fn is_to_stay(&self) -> bool {
        self.dir.join(STAY).exists()
    }

    /// Whether somebody has asked for it to stop.
    pub fn is_to_stop(&self) -> bool {
        self.dir.join(STOP).exists()
    }

    /// Whether another container is on its network.
    pub fn shares_network(&self) -> bool {
        self.dir.join(SHARED).exists()
    }

    /// Forgets its first process, which has ended.
    pub fn forget_process(&self) -> io::Result<()> {
        gone(fs::remove_file(self.dir.join("pid")))
    }

    /// The container.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Records the container's first process.
    pub fn write_process(&self, pid: i32, started: u64) -> io::Result<()> {
        fs::write(self.dir.join("pid"), format!("{pid} {started}\n"))
    }

    /// The recorded first process: pid and start time.
    pub fn process(&self) -> Option<(i32, u64)> {
        read_process(&self.dir)
    }

    /// Gives the claim back: nothing of the container is on the host any more.
    pub fn release(self) -> io::Result<()> {
        for name in ["pid", STOP, STAY, SHARED, STILL, INPUT] {
            gone(fs::remove_file(self.dir.join(name)))?;
        }
        fs::remove_dir(&self.dir)
    }
}

impl AsFd for Claim {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Notes at a container that another one is on its network, which so outlives it.
pub fn share_network(places: &Places, id: &ContainerId) -> io::Result<()> {
    File::create(places.live_container(id).join(SHARED)).map(drop)
}

/// The containers that have a directory under the run root.
pub fn live(places: &Places) -> io::Result<Vec<ContainerId>> {
    ids_in(&places.live())
}

/// Those of the entries of a directory that are container ids.
pub fn ids_in(dir: &Path) -> io::Result<Vec<ContainerId>> {
    let Some(entries) = existing(fs::read_dir(dir))? else {
        return Ok(Vec::new());
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        ids.extend(name.to_str().and_then(|name| ContainerId::parse(name).ok()));
    }
    Ok(ids)
}

/// Pid and start time of a container's first process, by whoever asks.
pub fn read_process(dir: &Path) -> Option<(i32, u64)> {
    let text = fs::read_to_string(dir.join("pid")).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    Some((pid.parse().ok()?, started.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(name: &str) -> Places {
        let root = std::env::temp_dir().join(format!("mybox-claim-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        Places {
            root: root.clone(),
            run_root: root.join("run"),
            bridge: "none".into(),
        }
    }

    #[test]
    fn a_held_claim_cannot_be_taken_over_and_a_dropped_one_can() {
        let places = places("take");
        let id = ContainerId::random().unwrap();
        let claim = Claim::new(&places, &id).unwrap();
        claim.write_process(7, 8).unwrap();
        assert!(Claim::take_over(&places, &id).unwrap().is_none());
        drop(claim);
        let claim = Claim::take_over(&places, &id)
            .unwrap()
            .expect("the holder is gone");
        assert_eq!(claim.process(), Some((7, 8)));
        claim.release().unwrap();
        assert!(Claim::take_over(&places, &id).unwrap().is_none());
        assert_eq!(live(&places).unwrap(), []);
        fs::remove_dir_all(&places.root).unwrap();
    }
}
