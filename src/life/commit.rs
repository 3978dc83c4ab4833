//! A new image of a container. The container stands still while its upper directory is read, unless
//! the user wants it otherwise; whatever ends this command lets it go on, after SIGKILL the next command.

use std::time::SystemTime;

use anyhow::{Context, Result};
use mybox_store::{Change, CommitOptions, Image, Progress, Reference, Store, rfc3339};

use super::changes;
use super::create::read_request;
use crate::container::find::Container;
use crate::container::stillness::Stillness;
use crate::container::{Files, Places, Record};
use crate::kernel::cgroup::freeze;
use crate::kernel::process;
use crate::kernel::signal::Signals;
use crate::plan::committed::committed;

/// What the user wants of the new image.
#[derive(Debug)]
pub struct CommitRequest {
    /// Its name.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: Option<String>,
    /// A comment for its history.
    pub message: Option<String>,
    /// Changes to its config.
    pub changes: Vec<Change>,
    /// Whether a container that runs stands still meanwhile.
    pub pause: bool,
}

/// Makes an image of a container, running or not.
pub fn commit(
    places: &Places,
    store: &Store,
    container: &Container,
    request: CommitRequest,
    progress: &mut dyn FnMut(Progress),
) -> Result<Image> {
    let record = &container.record;
    let image = store.find(&record.manifest.to_string())?;
    // Nobody removes the base meanwhile.
    let _layers = store.stack(&image)?;
    let files = Files::of(places.container(&record.id));
    let asked = read_request(files.dir())?;
    let pause = container.running && request.pause && !freeze::is_frozen(&record.cgroups);
    let paused = match pause.then(|| Paused::new(places, record)).transpose() {
        // What has ended since stands still by itself.
        Err(_) if !is_alive(container) => None,
        paused => paused?,
    };
    let options = CommitOptions {
        reference: request.reference,
        config: committed(&asked, &image.config),
        changes: request.changes,
        author: request.author,
        message: request.message,
        command: record.command.join(" "),
        created: rfc3339(SystemTime::now()),
        leave_out: changes::changes(places, store, record)?.mount_points,
    };
    let committed = store.commit(&image, &files.upper(), &options, progress);
    let go_on = paused.map_or(Ok(()), Paused::end);
    let committed = committed.with_context(|| format!("commit container {}", record.name))?;
    go_on?;
    Ok(committed)
}

fn is_alive(container: &Container) -> bool {
    let process = container.process;
    process.is_some_and(|(pid, started)| process::is_alive(pid, started))
}

/// A container that stands still. Signals that would end this process wait.
struct Paused<'a> {
    // Thawed before signals come through again.
    thaw: Thaw<'a>,
    _signals: Signals,
}

/// Lets the container go on when it is dropped.
struct Thaw<'a> {
    record: &'a Record,
    /// From before it is frozen until it goes on.
    claim: Option<Stillness>,
}

impl<'a> Paused<'a> {
    fn new(places: &Places, record: &'a Record) -> Result<Self> {
        let signals = Signals::take()?;
        let claim = Stillness::claim(places, &record.id);
        let thaw = Thaw {
            record,
            claim: Some(claim.context("claim the container to pause it")?),
        };
        freeze::freeze(&record.cgroups)
            .context("pause the container; --pause=false commits it as it runs")?;
        Ok(Self {
            thaw,
            _signals: signals,
        })
    }

    fn end(mut self) -> Result<()> {
        self.thaw.go_on()
    }
}

impl Thaw<'_> {
    fn go_on(&mut self) -> Result<()> {
        let Some(claim) = self.claim.take() else {
            return Ok(());
        };
        freeze::thaw(&self.record.cgroups).context("let the container go on")?;
        claim.release().context("release the claim on it")
    }
}

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        // Said where it can be: in `Paused::end`.
        let _ = self.go_on();
    }
}
