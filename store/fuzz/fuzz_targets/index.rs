//! Any bytes read as an index: an error or a tree, and a tree can be written again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mybox_store::fuzz_index(bytes));
