//! mybox: pull or import root filesystems, stack them, launch them.
fn main() {}
