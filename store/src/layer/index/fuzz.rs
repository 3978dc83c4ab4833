//! What the fuzzer does with bytes, and the tests with damaged indexes.

use std::io::Cursor;

use super::read::read;
use super::write::{NothingToCopy, write};

/// Reads bytes as an index. A tree that comes of it is written, and what is written can be read. Whether
/// they were an index.
pub(crate) fn index(bytes: &[u8]) -> bool {
    let Ok(tree) = read(bytes) else {
        return false;
    };
    let mut copies = false;
    tree.each_name(|_, id| {
        copies |= tree
            .node(id)
            .extents()
            .iter()
            .any(|extent| extent.device == 0);
    });
    if copies {
        // The data area may be of terabytes, and it is not here.
        return true;
    }
    let mut output = Cursor::new(Vec::new());
    if write(&tree, &NothingToCopy, &mut output).is_ok() {
        let again = read(&output.into_inner()).expect("the writer writes indexes");
        assert!(again == tree, "what is written is another tree");
    }
    true
}
