//! Indexes that the writer has not written: an error or a tree, never a panic.

use super::trees::{Chance, random, written};
use crate::layer::index::fuzz;
use crate::layer::index::read::read;

/// How many of the damaged ones there are of each.
const TIMES: u64 = 1000;

#[test]
fn bytes_changed_by_chance_are_an_error_or_another_tree() {
    let mut refused = 0;
    for seed in [1, 2, 3, 4] {
        let (tree, memory) = random(seed);
        let index = written(&tree, &memory);
        let mut chance = Chance(seed);
        for _ in 0..TIMES {
            let mut bad = index.clone();
            for _ in 0..=chance.below(3) {
                damage(&mut bad, &mut chance);
            }
            refused += u64::from(!fuzz::index(&bad));
        }
    }
    assert!(refused > TIMES, "the reader checks little: {refused}");
}

/// One byte, or a number in an inode or entry by one that is taken for something.
fn damage(index: &mut [u8], chance: &mut Chance) {
    // What comes before is mostly zeros that nobody looks at.
    let at = 1024 + usize::try_from(chance.below(index.len() as u64 - 1032)).unwrap();
    match chance.below(4) {
        0 => index[at] = chance.next().to_le_bytes()[0],
        1 => index[at] ^= 1 << chance.below(8),
        2 => index[at..at + 8].fill(*chance.pick(&[0, 0xff])),
        _ => {
            let from = 1024 + usize::try_from(chance.below(index.len() as u64 - 1032)).unwrap();
            index.copy_within(from..from + 8, at & !7);
        }
    }
}

#[test]
fn an_index_that_ends_early_is_an_error() {
    let (tree, memory) = random(7);
    let index = written(&tree, &memory);
    for length in 0..index.len().min(20_000) {
        // The data area is nobody's business here, and the metadata is longer than this.
        if let Ok(again) = read(&index[..length]) {
            assert_eq!(again.devices, tree.devices);
            assert!(
                index.len() - length < 512 * 400,
                "{length} of {}",
                index.len()
            );
        }
    }
}
