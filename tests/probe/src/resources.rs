//! Actions that run into limits: memory, processes, cpu time; and orphans, to see who reaps.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mybox_probe::Process;
use serde_json::json;

use crate::{files, print_json, sight};

/// How long an orphan waits to be adopted, and its death to be noticed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes memory a mebibyte at a time, touches every page, prints how far it came after each one,
/// and keeps it all.
pub(crate) fn eat_memory(mebibytes: usize) -> Result<Vec<Vec<u8>>> {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for count in 1..=mebibytes {
        // Not zeros: the allocator would take those from the kernel untouched.
        eaten.push(vec![0xa5; 1 << 20]);
        println!("{count}");
    }
    // Reading it back keeps the compiler from leaving the writes out.
    let touched = eaten
        .iter()
        .filter(|block| block.last() == Some(&0xa5))
        .count();
    anyhow::ensure!(touched == mebibytes, "memory changed under its owner");
    Ok(eaten)
}

/// Starts `count` sleeping children; prints how many there were at once, and what stopped it, if
/// anything did.
pub(crate) fn fork_bomb(count: usize) -> Result<()> {
    let mut children: Vec<Child> = Vec::new();
    let mut failure = None;
    while children.len() < count && failure.is_none() {
        match myself(&["sleep", "60"]).spawn() {
            Ok(child) => children.push(child),
            Err(error) => failure = Some(files::io_error_name(&error)),
        }
    }
    print_json(&json!({ "started": children.len(), "error": failure }))?;
    for child in &mut children {
        child.kill().context("kill a child")?;
        child.wait().context("wait for a child")?;
    }
    Ok(())
}

/// Spins for `duration`; prints the cpu time it was given, and how often and for how long it was
/// throttled.
pub(crate) fn burn_cpu(duration: Duration) -> Result<()> {
    let start = Instant::now();
    let mut rounds = 0_u64;
    while start.elapsed() < duration {
        rounds = std::hint::black_box(rounds.wrapping_add(1));
    }
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds and nanoseconds of one short run"
    )]
    let seconds = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    print_json(&json!({
        "wall": start.elapsed().as_secs_f64(),
        "cpu": seconds,
        "cpu.stat": sight::cgroup_file("cpu.stat"),
    }))
}

/// Makes an orphan; prints the pid that adopted it, and whether it stayed a zombie after its death.
pub(crate) fn orphan() -> Result<()> {
    let parent = myself(&["orphan-parent"])
        .stdout(Stdio::piped())
        .spawn()
        .context("spawn")?;
    let output = parent.wait_with_output().context("wait")?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let (pid, adopted_by) = line
        .trim()
        .split_once(' ')
        .context("the orphan said nothing")?;
    let pid: u32 = pid.parse().context("the orphan's pid")?;
    let is_there = |process: &Process| process.pid == pid;
    let start = Instant::now();
    while sight::processes().iter().any(is_there) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let left = sight::processes().into_iter().find(is_there);
    print_json(&json!({
        "adopted_by": adopted_by.parse::<u32>().context("the adopter's pid")?,
        "reaped": left.is_none(),
    }))
}

/// Leaves a child behind that holds the same standard output.
pub(crate) fn orphan_parent() -> Result<()> {
    myself(&["orphan-leaf"]).spawn().context("spawn")?;
    Ok(())
}

/// Waits until its parent is gone, then prints its own pid and its new parent's.
pub(crate) fn orphan_leaf() {
    let parent = std::os::unix::process::parent_id();
    let start = Instant::now();
    // The first parent may be gone already: then the number never changes, and is right at once.
    while std::os::unix::process::parent_id() == parent && start.elapsed() < PATIENCE / 4 {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!(
        "{} {}",
        std::process::id(),
        std::os::unix::process::parent_id()
    );
}

fn myself(arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("probe").args(arguments).stdin(Stdio::null());
    command
}
