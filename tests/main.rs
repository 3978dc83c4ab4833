//! What mybox does, by behaviour. One binary, so that the probe, the fixtures and the checks of the
//! host are made once.
//!
//! Root and a few tools are needed; where one is missing the tests fail and say which.

mod archives;
mod cache;
mod commit;
mod compressed;
mod cp;
mod crash;
mod detached;
mod devices;
mod dry_run;
mod durability;
mod events;
mod exec;
mod filesystem;
mod filters;
mod flags;
mod foreground;
mod formats;
mod gc;
mod harness;
mod health;
mod hostile;
mod images;
mod layer_forms;
mod import;
mod indexed;
mod lifecycle;
mod limits;
mod live;
mod network;
mod namespaces;
mod parallel;
mod ports;
mod prune;
mod pull;
mod registry;
mod run;
mod scale;
mod shared_volumes;
mod structure;
mod terminal;
mod tools;
mod verify;
mod vm;
mod volumes;
