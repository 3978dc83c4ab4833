//! Large files go to the disk while they still grow, so that the flush at their end is a short one.
//! The kernel by itself would begin half a minute later, or when a tenth of the memory is dirty.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// A file that is smaller is flushed soon enough.
const STEP: u64 = 32 << 20;

/// Flushes one file in a thread of its own, again and again.
#[derive(Default)]
pub(crate) struct WriteBack {
    /// Bytes since the last flush began.
    unflushed: u64,
    thread: Option<Flusher>,
}

struct Flusher {
    wake: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl WriteBack {
    /// So many bytes were written to the file.
    pub(crate) fn wrote(&mut self, file: &File, bytes: usize) -> io::Result<()> {
        self.unflushed += bytes as u64;
        if self.unflushed < STEP {
            return Ok(());
        }
        self.unflushed = 0;
        if self.thread.is_none() {
            self.thread = Some(Flusher::start(file.try_clone()?)?);
        }
        // One that waits already will do for these as well.
        let _ = self.thread.as_ref().map(|thread| thread.wake.try_send(()));
        Ok(())
    }

    /// Waits for the flush that is going on. The file still has to be flushed, for what came last.
    ///
    /// # Errors
    ///
    /// What went wrong in one of the flushes. The kernel tells that only once: without it the file may
    /// not count as written.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(Flusher { wake, thread }) = self.thread.take() else {
            return Ok(());
        };
        drop(wake);
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        // What was being written is of no use any more.
        let _ = self.end();
    }
}

impl Flusher {
    fn start(file: File) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new().spawn(move || flush(&file, &woken))?;
        Ok(Self { wake, thread })
    }
}

fn flush(file: &File, woken: &Receiver<()>) -> io::Result<()> {
    while woken.recv().is_ok() {
        file.sync_data()?;
    }
    Ok(())
}
