//! How long it takes to look at stores of growing size.
//!
//! `cargo bench --bench cache [-- ROUNDS]`. The stores are synthetic: tiny layers, as many as real
//! ones have. The table has medians, warm, of whole processes; each line has twice the images and
//! layers of the line above it.

#![allow(dead_code, reason = "the tests use more of what is shared with them")]

#[path = "../tests/harness/synthetic.rs"]
mod synthetic;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What people ask of a cache.
const VERBS: [&[&str]; 7] = [
    &["images"],
    &["layers"],
    &["layers", "--tree"],
    &["df"],
    &["gc", "--dry-run"],
    &["gc", "--dry-run", "--unused-for", "0s"],
    &["inspect", "image0:1"],
];
const SIZES: [(usize, usize); 4] = [(250, 1250), (500, 2500), (1000, 5000), (2000, 10_000)];

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let rounds: usize = rounds.unwrap_or(15);
    let heads: Vec<String> = VERBS.iter().map(|words| words.join(" ")).collect();
    println!("images layers  {}", heads.join("  "));
    for (images, layers) in SIZES {
        let directory = std::env::temp_dir().join(format!("mybox-bench-{}", std::process::id()));
        mybox(&directory, &["images"]);
        synthetic::fill(&directory.join("root"), images, layers);
        let cells: Vec<String> = VERBS
            .iter()
            .zip(&heads)
            .map(|(words, head)| {
                let milliseconds = median(&directory, words, rounds).as_secs_f64() * 1000.0;
                format!(
                    "{:>width$}",
                    format!("{milliseconds:.0} ms"),
                    width = head.len()
                )
            })
            .collect();
        println!("{images:>6} {layers:>6}  {}", cells.join("  "));
        std::fs::remove_dir_all(&directory).expect("remove the store");
    }
}

fn median(directory: &Path, words: &[&str], rounds: usize) -> Duration {
    mybox(directory, words);
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            mybox(directory, words);
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn mybox(directory: &Path, words: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_mybox"))
        .args(words)
        .env("MYBOX_ROOT", directory.join("root"))
        .env("MYBOX_RUN_ROOT", directory.join("run"))
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("run mybox").success(), "{words:?}");
}
