//! A pull as it goes: a bar a layer on a terminal, lines elsewhere, events as JSON for programs.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mybox_store::{Digest, Reference};
use serde_json::json;

use super::output;
use crate::life::pull::{Event, LayerEvent, Pulled};

/// Between two events about the bytes of one layer.
const EVENT_PAUSE: Duration = Duration::from_millis(100);
const WAITING: &str = "{prefix:.dim} {msg}";
const MOVING: &str = "{prefix} {msg:<12} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// A bar for each layer, and one for all.
    Bars,
    /// A line for each change.
    Lines,
    /// A JSON object for each event.
    Json,
    /// Nothing.
    Silent,
}

impl Style {
    pub(super) fn choose(quiet: bool, json: bool) -> Self {
        match (quiet, json, std::io::stderr().is_terminal()) {
            (true, _, _) => Self::Silent,
            (_, true, _) => Self::Json,
            (_, _, true) => Self::Bars,
            (_, _, false) => Self::Lines,
        }
    }
}

/// Shows the events of one pull, whatever thread they come from.
pub(super) struct Display {
    style: Style,
    bars: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    layers: Vec<Layer>,
    total: Option<ProgressBar>,
}

/// What is shown of a layer.
struct Layer {
    digest: Digest,
    size: u64,
    bar: ProgressBar,
    /// The word last shown for what happens to it.
    shown: &'static str,
    told: Instant,
    /// Bytes of the blob that are there.
    have: u64,
}

impl Display {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            bars: MultiProgress::new(),
            state: Mutex::default(),
        }
    }

    pub(super) fn show(&self, event: Event) {
        match event {
            Event::SourceFailed { reason } => {
                self.note(&format!("{reason}; trying the next place"));
            }
            Event::Resolved { reference, layers } => self.resolved(&reference, &layers),
            Event::Layer { number, step } => self.layer(number, &step),
        }
    }

    /// Takes the bars away.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        for layer in state.layers.drain(..) {
            layer.bar.finish_and_clear();
        }
        if let Some(total) = state.total.take() {
            total.finish_and_clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has left at worst a bar that stands still.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For whoever has something to say beside the events.
    pub(super) fn notes(display: &Arc<Self>) -> impl Fn(&str) + Send + Sync + 'static + use<> {
        let display = Arc::clone(display);
        move |text| display.note(text)
    }

    fn note(&self, text: &str) {
        match self.style {
            Style::Bars => self.bars.suspend(|| output::note(text)),
            Style::Lines => output::note(text),
            Style::Json | Style::Silent => {}
        }
    }

    fn resolved(&self, reference: &Reference, layers: &[(Digest, u64)]) {
        match self.style {
            Style::Json => {
                let layers: Vec<_> = layers
                    .iter()
                    .map(|(digest, size)| json!({"digest": digest.to_string(), "size": size}))
                    .collect();
                let reference = reference.to_string();
                event(&json!({"event": "resolved", "reference": reference, "layers": layers}));
            }
            Style::Lines | Style::Bars => self.note(&format!("pulling {}", reference.familiar())),
            Style::Silent => {}
        }
        let mut state = self.state();
        state.layers = layers
            .iter()
            .map(|(digest, size)| Layer {
                digest: *digest,
                size: *size,
                bar: self.bar(digest, *size),
                shown: "",
                told: Instant::now(),
                have: 0,
            })
            .collect();
        if self.style == Style::Bars && layers.len() > 1 {
            let total = layers.iter().map(|(_, size)| size).sum();
            let bar = self.bars.add(ProgressBar::new(total));
            bar.set_prefix("all         ");
            set_style(&bar, MOVING);
            state.total = Some(bar);
        }
    }

    fn bar(&self, digest: &Digest, size: u64) -> ProgressBar {
        if self.style != Style::Bars {
            return ProgressBar::hidden();
        }
        let bar = self.bars.add(ProgressBar::new(size));
        bar.set_prefix(digest.short());
        set_style(&bar, WAITING);
        bar.set_message("waiting");
        bar
    }

    fn layer(&self, number: usize, step: &LayerEvent) {
        let mut state = self.state();
        let State { layers, total } = &mut *state;
        let Some(layer) = layers.get_mut(number) else {
            return;
        };
        let (word, bytes) = said(step);
        let is_change = word != layer.shown;
        // While a layer arrives it is unpacked as well: the bar then shows what arrives.
        if word == "unpacking" && layer.have < layer.size {
            return;
        }
        if let LayerEvent::There | LayerEvent::Done = step {
            layer.have = layer.size;
        } else if let (Some(bytes), true) = (bytes, word != "unpacking") {
            layer.have = bytes;
        }
        match self.style {
            Style::Bars => layer.draw(step, word, bytes, is_change),
            Style::Lines if is_change => {
                output::note(&format!(
                    "{}: {}",
                    layer.digest.short(),
                    sentence(step, word)
                ));
            }
            Style::Json if is_change || layer.told.elapsed() >= EVENT_PAUSE => {
                layer.told = Instant::now();
                event(
                    &json!({"event": "layer", "digest": layer.digest.to_string(),
                    "state": word, "bytes": bytes.unwrap_or(layer.have)}),
                );
            }
            Style::Lines | Style::Json | Style::Silent => {}
        }
        layer.shown = word;
        if let Some(total) = total {
            total.set_position(layers.iter().map(|layer| layer.have).sum());
        }
    }
}

impl Layer {
    fn draw(&self, step: &LayerEvent, word: &'static str, bytes: Option<u64>, is_change: bool) {
        if is_change {
            set_style(&self.bar, if bytes.is_some() { MOVING } else { WAITING });
            self.bar.set_message(sentence(step, word));
        }
        if let Some(bytes) = bytes {
            self.bar.set_position(bytes);
        }
        if let LayerEvent::There | LayerEvent::Done = step {
            self.bar.finish();
        }
    }
}

fn set_style(bar: &ProgressBar, template: &'static str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

/// One word for what happens, and the bytes that go with it.
fn said(step: &LayerEvent) -> (&'static str, Option<u64>) {
    match step {
        LayerEvent::There => ("there", None),
        LayerEvent::FetchedElsewhere { bytes } => ("elsewhere", Some(*bytes)),
        LayerEvent::Resumed { from } => ("resumed", Some(*from)),
        LayerEvent::Downloading { bytes } => ("downloading", Some(*bytes)),
        LayerEvent::Retrying { .. } => ("retrying", None),
        LayerEvent::Unpacking { bytes } => ("unpacking", Some(*bytes)),
        LayerEvent::UnpackedElsewhere => ("elsewhere", None),
        LayerEvent::Flushing => ("flushing", None),
        LayerEvent::Done => ("done", None),
    }
}

fn sentence(step: &LayerEvent, word: &'static str) -> String {
    match step {
        LayerEvent::There => "already there".to_owned(),
        LayerEvent::FetchedElsewhere { .. } => "another process downloads it".to_owned(),
        LayerEvent::UnpackedElsewhere => "another process unpacks it".to_owned(),
        LayerEvent::Resumed { from } => {
            format!("going on after {}", output::decimal_size(*from))
        }
        LayerEvent::Retrying { reason } => format!("trying again: {reason}"),
        LayerEvent::Flushing => "writing to disk".to_owned(),
        _ => word.to_owned(),
    }
}

/// What a pull has brought, in a line.
pub(super) fn summary(pulled: &Pulled, took: Duration) -> String {
    let name = pulled.reference.familiar();
    if !pulled.is_news {
        return format!("{name} is up to date");
    }
    let seconds = took.as_secs_f64();
    let fetched = output::decimal_size(pulled.fetched);
    let speed = output::decimal_size((pulled.fetched as f64 / seconds.max(0.001)) as u64);
    format!("pulled {name}: {fetched} in {seconds:.1} s ({speed}/s)")
}

/// The last event.
pub(super) fn pulled_as_json(pulled: &Pulled) -> anyhow::Result<()> {
    let image = pulled.image.as_ref();
    let document = json!({
        "event": "pulled",
        "reference": pulled.reference.to_string(),
        "digest": pulled.digest.to_string(),
        "id": image.map(|image| image.id.to_string()),
        "manifest": image.map(|image| image.manifest.to_string()),
        "new": pulled.is_news,
        "bytes": pulled.fetched,
    });
    output::line(&document.to_string())
}

/// A line of JSON, as soon as it happens. A reader that has gone is told by the last one.
fn event(document: &serde_json::Value) {
    let _ = output::line(&document.to_string());
}
