//! `mybox layers --tree`: images as branches over the layers they share, drawn with text.
//!
//! ```text
//! ● 8c1f2a3b4d5e ADD rootfs.tar.xz /                   118MB ███████████
//! ├─▶ debian:12                                        118MB ███████████
//! ├─● 1b2c3d4e5f60 RUN apt-get install python3        44.2MB ████
//! │ ├─▶ python:3.11                                    162MB ███████████████
//! │ ● 77aa88bb99cc COPY app /app                       2.1MB ░
//! │ └─▶ app:latest (own 2.1MB)                         164MB ███████████████░
//! └─● 5d6e7f809112 RUN make                           21.3MB ░░
//!   └─▶ tool:1 (own 21.3MB)                            139MB ███████████░░
//! ```
//! A line that goes straight down is one layer over the other; only branches are indented, so that
//! an image of many layers is no staircase.

use std::collections::{HashMap, HashSet};

use mybox_store::{DiffId, Image, LayerForm, Object, Shares, Survey};

use crate::cli::{history, output};

/// Columns of the longest bar.
const BAR: usize = 18;
/// Columns of a size.
const SIZE: usize = 8;
const SHARED: &str = "\u{2588}";
const OWN: &str = "\u{2591}";
const INDEXED: &str = "\u{25c6}";
const LAYER: &str = "\u{25cf}";
const LEAST: &str = "\u{258f}";

/// The picture, line by line, as wide as the terminal.
pub(super) fn draw(survey: &Survey, width: usize) -> Vec<String> {
    let mut picture = Picture::new(survey, width);
    let forest = Forest::of(survey);
    if forest.roots.is_empty() && forest.bare.is_empty() {
        return vec!["No images".to_owned()];
    }
    for root in &forest.roots {
        if !picture.lines.is_empty() {
            picture.lines.push(String::new());
        }
        picture.branch(&forest, *root, "", "");
    }
    for image in &forest.bare {
        picture.image(image, "\u{25b6} ");
    }
    picture.legend();
    picture.lines
}

/// Layers by what lies beneath them.
#[derive(Default)]
struct Forest<'a> {
    nodes: Vec<Node<'a>>,
    roots: Vec<usize>,
    /// Images without a layer.
    bare: Vec<&'a Image>,
}

struct Node<'a> {
    layer: DiffId,
    /// What the first image that has it says of it.
    step: String,
    above: Vec<usize>,
    /// Images of which it is the topmost layer.
    images: Vec<&'a Image>,
}

impl<'a> Forest<'a> {
    fn of(survey: &'a Survey) -> Self {
        let mut forest = Self::default();
        for image in survey.all_images() {
            let steps = history::steps(survey, image);
            let mut steps = steps.iter().filter(|step| step.layer.is_some());
            let mut top = None;
            for layer in &image.layers {
                let step = steps.next().map(|step| command(&step.created_by));
                top = Some(forest.on(top, *layer, step.unwrap_or_default()));
            }
            match top {
                Some(top) => forest.nodes[top].images.push(image),
                None => forest.bare.push(image),
            }
        }
        forest
    }

    /// The node of a layer on top of another, or at the bottom.
    fn on(&mut self, below: Option<usize>, layer: DiffId, step: String) -> usize {
        let siblings = match below {
            Some(below) => &self.nodes[below].above,
            None => &self.roots,
        };
        let known = siblings.iter().find(|one| self.nodes[**one].layer == layer);
        if let Some(known) = known {
            return *known;
        }
        let number = self.nodes.len();
        self.nodes.push(Node {
            layer,
            step,
            above: Vec::new(),
            images: Vec::new(),
        });
        match below {
            Some(below) => self.nodes[below].above.push(number),
            None => self.roots.push(number),
        }
        number
    }
}

/// What a step of the history did, as its Dockerfile had it.
fn command(created_by: &str) -> String {
    let text = created_by.trim();
    let text = match text.strip_prefix("/bin/sh -c ") {
        Some(rest) => match rest.trim_start().strip_prefix("#(nop)") {
            Some(instruction) => instruction.trim().to_owned(),
            None => format!("RUN {rest}"),
        },
        None => text.to_owned(),
    };
    let text = text
        .trim_end_matches("# buildkit")
        .replace("RUN /bin/sh -c ", "RUN ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Picture<'a> {
    survey: &'a Survey,
    width: usize,
    /// Bytes of a full bar.
    full: u64,
    shares: HashMap<mybox_store::Digest, Shares>,
    /// How many images have a layer.
    images: HashMap<DiffId, usize>,
    /// Layers that were drawn already.
    drawn: HashSet<DiffId>,
    lines: Vec<String>,
}

impl<'a> Picture<'a> {
    fn new(survey: &'a Survey, width: usize) -> Self {
        let shares = survey.shares();
        let layers = survey.layers();
        Self {
            survey,
            width,
            full: shares.values().map(|one| one.total()).max().unwrap_or(0),
            images: layers
                .iter()
                .map(|layer| (layer.diff_id, layer.images.len()))
                .collect(),
            shares,
            drawn: HashSet::new(),
            lines: Vec::new(),
        }
    }

    /// A layer and everything above it. The first line begins with `first`, the others with `rest`.
    fn branch(&mut self, forest: &Forest<'_>, bottom: usize, first: &str, rest: &str) {
        let (mut number, mut lead) = (bottom, first);
        loop {
            let node = &forest.nodes[number];
            self.layer(node, lead);
            lead = rest;
            let (images, above) = (&node.images, &node.above);
            for (place, image) in images.iter().enumerate() {
                let last = above.is_empty() && place + 1 == images.len();
                let corner = if last { "\u{2514}" } else { "\u{251c}" };
                self.image(image, &format!("{rest}{corner}\u{2500}\u{25b6} "));
            }
            match above[..] {
                [] => return,
                // Straight on.
                [only] => number = only,
                [ref branches @ .., last] => {
                    for branch in branches {
                        let first = format!("{rest}\u{251c}\u{2500}");
                        let rest = format!("{rest}\u{2502} ");
                        self.branch(forest, *branch, &first, &rest);
                    }
                    let (first, rest) = (format!("{rest}\u{2514}\u{2500}"), format!("{rest}  "));
                    return self.branch(forest, last, &first, &rest);
                }
            }
        }
    }

    fn layer(&mut self, node: &Node<'_>, lead: &str) {
        let object = Object::Layer(node.layer);
        let measured = self.survey.objects.get(&object);
        let text = format!(
            "{lead}{} {} {}",
            bullet(measured.and_then(|measured| measured.form)),
            node.layer.digest().short(),
            output::visible(&node.step)
        );
        if !self.drawn.insert(node.layer) {
            return self.line(&text, "=", "drawn above");
        }
        if measured.is_none() {
            return self.line(&text, "-", "not laid down");
        }
        let bytes = self.survey.bytes(object);
        let shared = self.images.get(&node.layer).is_some_and(|count| *count > 1);
        let shares = if shared {
            Shares {
                shared: bytes,
                own: 0,
            }
        } else {
            Shares {
                shared: 0,
                own: bytes,
            }
        };
        let bar = bar(shares, self.full);
        self.line(&text, &output::decimal_size(bytes), &bar);
    }

    fn image(&mut self, image: &Image, lead: &str) {
        let shares = self.shares.get(&image.manifest).copied();
        let shares = shares.unwrap_or_default();
        let names: Vec<String> = image
            .references
            .iter()
            .map(|reference| reference.familiar())
            .collect();
        let name = if names.is_empty() {
            image.id.short()
        } else {
            names.join(", ")
        };
        let mut facts = Vec::new();
        if shares.own > 0 && shares.shared > 0 {
            facts.push(format!("own {}", output::decimal_size(shares.own)));
        }
        if image.pinned {
            facts.push("pinned".to_owned());
        }
        match self.survey.users(image.manifest).count() {
            0 => {}
            1 => facts.push("1 container".to_owned()),
            many => facts.push(format!("{many} containers")),
        }
        let facts = if facts.is_empty() {
            String::new()
        } else {
            format!(" ({})", facts.join(", "))
        };
        let bar = bar(shares, self.full);
        let size = output::decimal_size(shares.total());
        self.line(&format!("{lead}{name}{facts}"), &size, &bar);
    }

    /// Text on the left, as long as there is room, size and bar on the right.
    fn line(&mut self, text: &str, size: &str, bar: &str) {
        let room = self.width.saturating_sub(SIZE + 1 + BAR + 1).max(20);
        let text = output::shortened(text, room);
        let padding = " ".repeat(room - text.chars().count());
        let line = format!("{text}{padding}{size:>SIZE$} {bar}");
        self.lines.push(line.trim_end().to_owned());
    }

    fn legend(&mut self) {
        let all: u64 = self.shares.values().map(|one| one.total()).sum();
        let layers = self.survey.layers();
        let (used, unused): (Vec<_>, Vec<_>) =
            layers.iter().partition(|layer| !layer.images.is_empty());
        let bytes = |layers: &[&mybox_store::SharedLayer<'_>]| -> String {
            let measured = layers.iter().filter_map(|layer| layer.measured);
            output::decimal_size(measured.map(|one| one.whole()).sum())
        };
        let images = self.shares.len();
        self.lines.extend([
            String::new(),
            format!(
                "{SHARED} in several images   {OWN} in one image only   {INDEXED} indexed   {LAYER} unpacked"
            ),
            format!(
                "{} over {}: {} on disk, {} if nothing were shared",
                output::count(images, "image"),
                output::count(used.len(), "layer"),
                bytes(&used),
                output::decimal_size(all)
            ),
        ]);
        if !unused.is_empty() {
            self.lines.push(format!(
                "{} ({}) in no image: `mybox gc` removes what is not in use",
                output::count(unused.len(), "layer"),
                bytes(&unused)
            ));
        }
    }
}

fn bullet(form: Option<LayerForm>) -> &'static str {
    match form {
        Some(LayerForm::Indexed) => INDEXED,
        Some(LayerForm::Unpacked) | None => LAYER,
    }
}

/// What is shared and then what is not, in proportion to a full bar.
fn bar(shares: Shares, full: u64) -> String {
    let cells = |bytes: u64| -> usize {
        let share = u128::from(bytes) * BAR as u128 * 2 / u128::from(full.max(1));
        usize::try_from(share.div_ceil(2).min(BAR as u128)).unwrap_or(BAR)
    };
    let total = (shares.total() as f64 * BAR as f64 / full.max(1) as f64).round() as usize;
    if shares.total() > 0 && total == 0 {
        return LEAST.to_owned();
    }
    let mut shared = cells(shares.shared).min(total);
    if shares.own > 0 && shared == total && total > 1 {
        // Little as it is, it is seen.
        shared -= 1;
    }
    SHARED.repeat(shared) + &OWN.repeat(total - shared)
}
