//! The store's tests, by behaviour. They need root: layers have owners, devices and capabilities.

mod import;
mod support;
