//! What mybox does, by behaviour. One binary, so that the probe, the fixtures and the checks of the
//! host are made once.
//!
//! Root and a few tools are needed; where one is missing the tests fail and say which.

mod archives;
mod cache;
mod compressed;
mod crash;
mod dry_run;
mod durability;
mod filesystem;
mod gc;
mod harness;
mod hostile;
mod images;
mod layer_forms;
mod import;
mod indexed;
mod lifecycle;
mod limits;
mod network;
mod namespaces;
mod parallel;
mod pull;
mod registry;
mod run;
mod scale;
mod structure;
mod terminal;
mod verify;
mod vm;
