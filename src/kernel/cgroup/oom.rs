//! To be told when the kernel kills for want of memory, while the container runs.
//!
//! v2's `memory.events` counts and is exceptional to poll(2) when it has changed; read once more, it is as
//! before. On v1 an eventfd is registered for `memory.oom_control` (cgroup-v1/memory.rst, "OOM Control"): it
//! is written to before the kernel kills, so what it says counts there, as for Docker.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, epoll, eventfd};

use super::{Context, Result, oom_kills, write_existing};

/// A container's groups, watched.
#[derive(Debug)]
pub struct Watch {
    groups: Vec<PathBuf>,
    source: Option<Source>,
    /// How many kills have been told.
    known: u64,
}

#[derive(Debug)]
enum Source {
    V2 { events: File, epoll: OwnedFd },
    V1(OwnedFd),
}

impl Watch {
    /// Nothing is told by itself until [`begin`](Self::begin).
    pub fn of(groups: &[PathBuf]) -> Self {
        Self {
            groups: groups.to_vec(),
            source: None,
            known: 0,
        }
    }

    /// Has the kernel tell. Without a group that counts there is nothing to be told.
    pub fn begin(&mut self) -> Result<()> {
        let file = |name| {
            let mut files = self.groups.iter().map(|group| group.join(name));
            files.find(|file| file.is_file())
        };
        self.source = match (file("memory.events"), file("memory.oom_control")) {
            (Some(events), _) => Some(v2(&events)?),
            (None, Some(control)) => Some(v1(&control)?),
            (None, None) => None,
        };
        Ok(())
    }

    /// What can be read when there may be something new.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(|source| match source {
            Source::V2 { epoll, .. } => epoll.as_fd(),
            Source::V1(eventfd) => eventfd.as_fd(),
        })
    }

    /// Whether the kernel has killed since the last time.
    pub fn has_news(&mut self) -> bool {
        let before = self.known;
        match &self.source {
            Some(Source::V2 { events, .. }) => {
                // What it says now is seen: the next change counts.
                let mut seen = [0; 512];
                let _ = rustix::io::pread(events, &mut seen, 0);
                self.known = before.max(oom_kills(&self.groups));
            }
            Some(Source::V1(eventfd)) => {
                let mut count = [0; 8];
                if rustix::io::read(eventfd, &mut count) == Ok(count.len()) {
                    self.known = before.saturating_add(u64::from_ne_bytes(count));
                }
            }
            None => {}
        }
        self.known > before
    }

    /// The same when the container has ended, be it watched or not.
    pub fn has_rest(&mut self) -> bool {
        let news = self.has_news();
        news || oom_kills(&self.groups) > self.known
    }
}

fn v2(file: &Path) -> Result<Source> {
    let events = File::open(file).on_path("open", file)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).on("make", "an epoll instance")?;
    let nothing = epoll::EventData::new_u64(0);
    epoll::add(&epoll, &events, nothing, epoll::EventFlags::PRI).on_path("watch", file)?;
    Ok(Source::V2 { events, epoll })
}

fn v1(file: &Path) -> Result<Source> {
    let control = File::open(file).on_path("open", file)?;
    let eventfd =
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).on("make", "an eventfd")?;
    let registration = format!("{} {}", eventfd.as_raw_fd(), control.as_raw_fd());
    let register = file.with_file_name("cgroup.event_control");
    write_existing(&register, &registration).on_path("register with", &register)?;
    Ok(Source::V1(eventfd))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_rise_is_news_once_and_the_rest_is_told_at_the_end() {
        let dir = std::env::temp_dir().join(format!("mybox-oom-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let kills = |count| {
            let text = format!("low 0\nmax 9\noom {count}\noom_kill {count}\n");
            fs::write(dir.join("memory.events"), text).unwrap();
        };
        kills(0);
        // A plain file cannot be watched, and is read all the same.
        let file = dir.join("memory.events");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut watch = Watch::of(std::slice::from_ref(&dir));
        assert!(watch.begin().is_err() && watch.descriptor().is_none());
        watch.source = Some(Source::V2 {
            events: File::open(file).unwrap(),
            epoll,
        });
        assert!(!watch.has_news());
        kills(2);
        assert!(watch.has_news() && !watch.has_news());
        assert!(!watch.has_rest());
        kills(3);
        assert!(watch.has_rest());
        let mut unwatched = Watch::of(std::slice::from_ref(&dir));
        assert!(!unwatched.has_news() && unwatched.has_rest());
        fs::remove_dir_all(dir).unwrap();
    }
}
