//! The store's tests, by behaviour. They need root: layers have owners, devices and capabilities.

mod compression;
mod concurrency;
mod crash;
mod faithful;
mod hostile;
mod images;
mod limits;
mod pack;
mod support;
mod whiteouts;
