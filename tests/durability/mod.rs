//! The store survives anything: SIGKILL, power cuts, full and read-only disks, missing permission,
//! versions that are not its own.

mod disk;
mod kill;
mod power;

use crate::harness::{Rootfs, Sandbox};

/// xorshift64*: the same numbers from the same seed, on every machine.
struct Random(u64);

impl Random {
    /// From `MYBOX_TEST_SEED`, or else a fixed one. A test that fails says it.
    fn new() -> Self {
        let seed = std::env::var("MYBOX_TEST_SEED").ok();
        let seed = seed
            .and_then(|text| text.parse().ok())
            .unwrap_or(0x006d_7962_6f78);
        println!("MYBOX_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound
    }
}

/// A tree of so many small files that no other is like.
fn tree(name: &str, files: usize) -> Rootfs {
    (0..files).fold(Rootfs::empty(), |tree, number| {
        let directory = format!("d{}", number % 8);
        let tree = match number < 8 {
            true => tree.dir(&directory, 0o755),
            false => tree,
        };
        let text = format!("{name} {number}\n").repeat(20);
        tree.file(&format!("{directory}/f{number}"), &text)
    })
}

/// Asserts that everything in the store is as it should be.
#[track_caller]
fn is_whole(sandbox: &Sandbox) {
    sandbox.mybox(["verify"]).run().ok();
}
