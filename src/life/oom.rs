//! The event `oom`: told by a container's supervisor when the kernel kills for want of memory, not with
//! the container's end, which may be far away.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::container::events::{self, Event};
use crate::container::{ContainerId, Places, Record};
use crate::kernel::cgroup::oom::Watch;

/// A container that is watched. [`end`](Self::end) is told what is left.
#[derive(Debug)]
pub(super) struct Oom {
    places: Places,
    id: ContainerId,
    watch: Watch,
}

impl Oom {
    pub(super) fn of(places: &Places, id: &ContainerId, groups: &[PathBuf]) -> Self {
        let mut watch = Watch::of(groups);
        if let Err(error) = watch.begin() {
            tracing::debug!("want of memory will be told at the end: {error}");
        }
        Self {
            places: places.clone(),
            id: id.clone(),
            watch,
        }
    }

    /// What is to be read when there may be something to tell.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watch.descriptor()
    }

    pub(super) fn attend(&mut self) {
        if self.watch.has_news() {
            self.tell();
        }
    }

    /// The container has ended, and its groups are there still.
    pub(super) fn end(mut self) {
        if self.watch.has_rest() {
            self.tell();
        }
    }

    /// Under the name that it has by now.
    fn tell(&self) {
        match Record::read(&self.places.container(&self.id)) {
            Ok(Some(record)) => {
                events::tell(&self.places, &Event::of_container("oom", &record));
            }
            Ok(None) => {}
            Err(error) => tracing::debug!("an event is lost: {error}"),
        }
    }
}
