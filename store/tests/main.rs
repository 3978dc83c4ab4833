//! The store's tests, by behaviour. They need root: layers have owners, devices and capabilities.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod compression;
mod concurrency;
mod crash;
mod faithful;
mod files;
mod forms;
mod gc;
mod hostile;
mod images;
mod indexes;
mod limits;
mod merged;
mod pack;
mod sparse;
mod support;
mod transfer;
mod verify;
mod whiteouts;
