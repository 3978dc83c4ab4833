//! `mybox logs`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::SystemTime;

use anyhow::Context;
use clap::Args;

use super::{output, values};
use crate::container::events::nanoseconds;
use crate::container::log::{Frame, Reader, Stream};
use crate::container::{Files, Places, find};
use crate::error::Failure;
use crate::life::logs::{self, Growth};

#[derive(Debug, Args)]
#[command(after_help = "\
What went to the container's standard output goes to standard output, and so with standard error.
There is a log of what ran in the background; a `run` without -d has given all to its caller.
Of a log the last 30 MB are kept, in files of 10 MB, unless --log-opt says otherwise; with
--log-driver none there is no log.

TIME is 2026-11-25T12:00:00Z or its beginning, as 2026-11-25, seconds since the epoch, or a duration
before now, as 10m or 2h.")]
pub(super) struct Arguments {
    /// Go on with what is written from now on, until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines from the end; all: all of them
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    #[arg(allow_negative_numbers = true, value_parser = values::tail)]
    tail: values::Tail,
    /// Only what was written since then
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    since: Option<SystemTime>,
    /// Only what was written before then
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    until: Option<SystemTime>,
    /// Before each line the labels and variables that --log-opt names, as NAME=VALUE,...
    #[arg(long)]
    details: bool,
    /// The time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Name, id, or the beginning of an id
    container: String,
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    let record = find::one(places, &arguments.container)?.record;
    logs::must_be_kept(places, &record)?;
    if logs::was_given_to_its_caller(places, &record) {
        output::note("it ran in the foreground, and all that it wrote was given to whoever ran it");
    }
    let id = record.id.clone();
    let directory = Files::of(places.container(&id)).logs();
    let open = || Reader::open(&directory).with_context(|| format!("read {}", directory.display()));
    let mut reader = open()?;
    if let Some(lines) = arguments.tail.0 {
        let skipped = reader.skip_to_last(lines);
        skipped.with_context(|| format!("read {}", directory.display()))?;
    }
    let details = match arguments.details {
        true => Some(details_of(logs::details(places, &record)?)),
        false => None,
    };
    let mut printer = Printer::new(arguments, details);
    let growth = if arguments.follow {
        Some(Growth::of(&directory)?)
    } else {
        None
    };
    loop {
        // Asked before the log is read: what is written up to the end is read after it.
        let goes_on = growth.is_some() && logs::goes_on(places, &id)?;
        if !print(&mut reader, &mut printer)? {
            return Ok(0);
        }
        match &growth {
            Some(growth) if goes_on => growth.wait()?,
            _ => break,
        }
    }
    if reader.lost_files() > 0 {
        output::note("the log was written faster than it was read: some of it is missing");
    }
    Ok(0)
}

/// `NAME=VALUE,...`, encoded as in an address, so that each is one word.
fn details_of(details: BTreeMap<String, String>) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let words = details.iter();
    let words = words.map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    words.collect::<Vec<String>>().join(",")
}

/// All that is there; false if nobody reads it any more, or the rest is not wanted.
fn print(reader: &mut Reader, printer: &mut Printer) -> anyhow::Result<bool> {
    while let Some(frame) = reader.next().context("read the log")? {
        match printer.print(&frame) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
            Err(error) => return Err(error).context("write what the container wrote"),
            Ok(false) => {
                printer.flush().context("write what the container wrote")?;
                return Ok(false);
            }
            Ok(true) => {}
        }
    }
    match printer.flush() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        flushed => flushed
            .context("write what the container wrote")
            .map(|()| true),
    }
}

/// Frames as the user wants to see them.
struct Printer {
    since: u64,
    until: u64,
    timestamps: bool,
    details: Option<String>,
    stdout: io::BufWriter<io::Stdout>,
    /// Whether the next byte begins a line: of standard output, of standard error.
    at_start: [bool; 2],
}

impl Printer {
    fn new(arguments: &Arguments, details: Option<String>) -> Self {
        Self {
            since: arguments.since.map_or(0, nanoseconds),
            until: arguments.until.map_or(u64::MAX, nanoseconds),
            timestamps: arguments.timestamps,
            details,
            stdout: io::BufWriter::with_capacity(64 << 10, io::stdout()),
            at_start: [true; 2],
        }
    }

    /// False if nothing that follows is wanted.
    fn print(&mut self, frame: &Frame<'_>) -> io::Result<bool> {
        if frame.time >= self.until {
            return Ok(false);
        }
        if frame.time < self.since {
            return Ok(true);
        }
        let mut stamped = Vec::new();
        let bytes = if self.timestamps || self.details.is_some() {
            let time = self.timestamps.then(|| output::time(frame.time));
            let words = [time.as_deref(), self.details.as_deref()];
            let before: String = words
                .iter()
                .flatten()
                .flat_map(|word| [word, " "])
                .collect();
            let at_start = &mut self.at_start[usize::from(frame.stream != Stream::Stdout)];
            prefix(frame, &before, at_start, &mut stamped);
            &stamped
        } else {
            frame.bytes
        };
        if frame.stream == Stream::Stdout {
            self.stdout.write_all(bytes)?;
        } else {
            // In their order, should both go to one terminal.
            self.stdout.flush()?;
            io::stderr().write_all(bytes)?;
        }
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// The frame's bytes with something before each line that begins in it.
fn prefix(frame: &Frame<'_>, before: &str, at_start: &mut bool, to: &mut Vec<u8>) {
    for line in frame.bytes.split_inclusive(|byte| *byte == b'\n') {
        if *at_start {
            to.extend_from_slice(before.as_bytes());
        }
        to.extend_from_slice(line);
        *at_start = line.ends_with(b"\n");
    }
}
